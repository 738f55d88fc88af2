"""What a search prints: a table of hits with their evidence, or a line. It loads no Prefect, unlike other tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from flows.console import console_for

if TYPE_CHECKING:
    from tasks.search import Answer, Evidence


def show_answer(answer: Answer, why: Mapping[str, Sequence[Evidence]]) -> None:
    """Hits, best first, each with its evidence where there is any."""
    console = console_for()
    asked = escape(repr(answer.query))
    console.print(f"{asked} → {answer.target} in {answer.space} ({answer.mode})", highlight=False)
    for note in answer.notes:
        console.print(f"[yellow]{note}[/]")
    if not answer.hits:
        console.print("no hit; try other words, or --mode vector" if not answer.offset else "no further hit")
        return
    rows = [
        {
            "#": str(number),
            "score": f"{hit.score:.3f}",
            "cosine": "" if hit.similarity is None else f"{hit.similarity:.3f}",
            "exact": "" if hit.probability is None else f"{hit.probability:.0%}",
            "percentile": "" if hit.percentile is None else f"{hit.percentile:.2f}",
            "time": "" if hit.start is None else clock(hit.start),
            "alike": f"+{len(hit.folded)}" if hit.folded else "",
            "item": escape(f"{hit.attributes.get('emoji', '')} {hit.uri or hit.modality}".strip()),
            "words": escape("\n".join((hit.text[:80], *(_reason(one) for one in why.get(hit.key, ()))))),
        }
        for number, hit in enumerate(answer.hits, answer.offset + 1)
    ]
    table = Table()
    optional = ("exact", "percentile", "time", "alike")
    shown = [name for name in rows[0] if name not in optional or any(row[name] for row in rows)]
    for name in shown:
        table.add_column(name, justify="left" if name in ("item", "words") else "right", overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    console.print(table)
    if "exact" in shown:
        console.print(
            "exact: how likely it is the very item meant, not just one that fits; "
            "percentile: random pairs that score lower"
        )
    if answer.more:
        console.print(f"more: --offset {answer.offset + len(answer.hits)}", highlight=False)


def show_briefly(answer: Answer) -> None:
    """An answer in one line: the query and the hits, best first."""
    found = " · ".join(hit.uri or hit.text for hit in answer.hits)
    print(" ".join(f"{answer.query} → {found or 'no hit'}".split()))


def _reason(evidence: Evidence) -> str:
    """A known pair that speaks for a hit, in a line."""
    ends = [one.uri or one.text for one in (evidence.near_query, evidence.near_hit)]
    return f"  {evidence.score:.2f}: {ends[0][:60]} ↔ {ends[1][:60]}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(83.9), clock(7265)
    ('0:01:23', '2:01:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
