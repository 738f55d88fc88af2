"""What the commands that advise print."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table

from flows.console import console_for

_VERDICTS = {"best": "[green]best[/]", "worse": "[red]worse[/]", "tied": "tied"}


def show_comparison(found: dict[str, Any]) -> None:
    """Encoders and methods, the best first, and what the columns mean."""
    console = console_for()
    left, right = found["modalities"]
    table = Table()
    names = ("rsum", "interval", "behind", "", "k-NN", "cpu s", "width", "licence")
    for name in (left, right, "method", *names):
        table.add_column(name, justify="left" if name in (left, right, "method", "", "licence") else "right",
                         overflow="fold")  # fmt: skip
    for row in found["rows"]:
        low, high = row["interval"]
        table.add_row(
            *(_short(row["encoders"][name]) for name in (left, right)),
            row["method"],
            f"{row['rsum']:.1f}",
            f"{low:.0f} – {high:.0f}",
            "" if row["verdict"] == "best" else f"{row['behind']:.1f}",
            _VERDICTS[row["verdict"]],
            f"{row['agreement']['value']:.3f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['width'][left]:,} × {row['width'][right]:,}",
            ", ".join(row["licences"]),
        )
    console.print(table)
    if found["not_tried"]:
        few = f"{len(found['not_tried']):,} further candidates were not tried within the time; --seconds gives more"
        console.print(f"[yellow]{few}[/]", highlight=False)
    best = found["rows"][0]
    near = best["agreement"]
    measured = (
        f"rsum and its {found['confidence']:.0%} interval: {found['pairs']:,} of {found['of_pairs']:,} training pairs, "
        f"held out in {found['folds']} parts by group; the evaluation split stays unseen. A part is a small gallery: "
        "compare rows with each other, not with `modalign evaluate`"
    )
    agreed = (
        f"k-NN: share of the {near['k']} nearest neighbours that both encoders agree on before any training; "
        f"chance {near['chance']:.3f}"
    )
    encoders = json.dumps(best["encoders"])
    lines = [
        measured,
        "worse: surely behind the best on the same groups; tied: it may as well be the better one",
        agreed,
        *(f"note: {text}" for text in found["notes"]),
        *(f"note: an encoder was {text}" for text in found["seen"]),
        f"next: modalign align --set 'encode.encoders={encoders}' --set align.method={best['method']}",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_curve(found: dict[str, Any]) -> None:
    """The learning curve, and the forecast or why there is none."""
    console = console_for()
    table = Table()
    for name in ("pairs", "rsum", "interval", "hit_rate@1", "hit_rate@10"):
        table.add_column(name, justify="right")
    for row in found["points"]:
        low, high = row["interval"]
        table.add_row(
            f"{row['pairs']:,.0f}", f"{row['rsum']:.1f}", f"{low:.1f} – {high:.1f}",
            f"{row['hit_rate@1']:.3f}", f"{row['hit_rate@10']:.3f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{found['method']} on {found['pairs']:,} of {found['of_pairs']:,} training pairs and fewer, random subsets by "
        f"{found['seeds']} seeds; held-out groups in {found['folds']} parts: the evaluation split stays unseen",
        highlight=False,
    )
    console.print(_forecast(found["outlook"], found["confidence"]), highlight=False, soft_wrap=True)


def _forecast(told: dict[str, Any], confidence: float) -> str:
    if told["cannot_tell"] is not None:
        return f"[yellow]cannot tell what {told['more']:,} more pairs would bring: {told['cannot_tell']}[/]"
    low, high = told["gain_interval"]
    a, b, c = told["law"]
    text = (
        f"{told['more']:,} more pairs beside {told['now']:,}: rsum {told['gain']:+.1f} "
        f"({confidence:.0%} interval {low:+.1f} to {high:+.1f}), by rsum = {a:.0f} − {b:.0f}·n^−{c:.2f}; "
    )
    if told["ceiling"] is None:
        return text + "how high it can rise in the end, these figures do not say"
    least, most = told["ceiling_interval"]
    return text + f"in the end about {told['ceiling']:.0f} ({least:.0f} to {most:.0f})"


def _short(names: list[str]) -> str:
    """Encoders of one modality, one a line; of a folder its last part."""
    return "\n+ ".join(name.removeprefix("builtin:").split("/")[-1] for name in names)
