"""RESULTS.md: one section a benchmark, replaced when it is measured again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.machine import describe

PATH = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Measured figures

Each section is written by its command, on the machine that it names. Figures are measured on data that the heads did
not see; the split and the seeds stand beside them. MiniLM and mpnet were trained on caption text of COCO and Flickr30k,
largely the photos of Flickr8k: figures with them are contaminated by that.
"""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table.

    >>> print(table(["a"], [[1.234]]))
    | a |
    |---|
    | 1.23 |
    """
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def record(name: str, title: str, body: str, *, command: str | None = None) -> None:
    """Put a section into RESULTS.md, in place of the one with the same name, and print it.

    `command` is the benchmark that writes it, where that has several sections.
    """
    mark = f"<!-- {name} -->"
    section = f"{mark}\n## {title}\n\n`make bench ONLY={command or name}` · {describe()}\n\n{body.strip()}\n"
    text = PATH.read_text(encoding="utf-8") if PATH.exists() else _HEAD
    parts = [part for part in re.split(r"(?=<!-- [\w-]+ -->\n)", text) if not part.startswith(f"{mark}\n")]
    head, sections = parts[0], sorted([*parts[1:], section + "\n"])
    PATH.write_text((head.strip() + "\n\n" + "".join(sections)).strip() + "\n", encoding="utf-8")
    print(section)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
    return str(value)
