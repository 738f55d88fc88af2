"""How the time and memory of an ingest grow with the collection: generated texts, the cheapest encoder there is.

`python -m tests.benchmarks.growth ingest SOURCE ENCODER WORKSPACE` ingests one collection and prints what it took.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.measured import Measured, modalign
from tests.benchmarks.results import record, table

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FITTED = 10_000  # items from which the exponent is fitted on
_WORDS = 4_000


def main() -> None:
    """Measure and record."""
    measure(SIZES)


def measure(sizes: Sequence[int]) -> None:
    """Ingest collections of these numbers of items, each in a process of its own, and record what they took."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        encoder = make_encoder(root / "lsa")
        runs = {size: ingest(write_source(root / f"{size}.jsonl", size), encoder, root / f"w{size}") for size in sizes}
    told, rows = figures(runs)
    columns = ["items", "seconds", "CPU s", "items/s", "peak of the process, MB", "of the process tree, MB"]
    record("growth", "Growth", told + table(columns, rows))


def figures(runs: dict[int, Measured]) -> tuple[str, list[list[object]]]:
    raise NotImplementedError


def make_encoder(folder: Path) -> str:
    """An LSA of generated texts, 32 wide; give its name."""
    from tasks.encoders.lsa_fit import fit_lsa, save_lsa

    folder.mkdir(parents=True)
    save_lsa(folder, *fit_lsa([text for number in range(2_000) for text in texts(number)], 32, 0))
    return f"local:{folder}"


def write_source(path: Path, items: int) -> Path:
    """A table with two texts a row, all different: `items` texts in `items / 2` rows, each a known pair."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(items // 2):
            title, caption = texts(number)
            file.write(json.dumps({"id": f"{number:08}", "title": title, "caption": caption, "year": number % 50}) + "\n")
    return path


def texts(number: int) -> tuple[str, str]:
    """The two texts of a row."""
    draw = np.random.default_rng(number).integers(0, _WORDS, 10)
    words = [f"w{word:x}" for word in draw.tolist()]
    return f"{' '.join(words[:3])} n{number}", f"{' '.join(words[2:])} n{number}"


def ingest(source: Path, encoder: str, workspace: Path) -> Measured:
    """Ingest a table of texts."""
    encoders = {"image": ["builtin:efficientnet-lite0"], "text": [encoder]}
    options = {"encode.encoders": json.dumps(encoders), "columns.texts": '["title", "caption"]'}
    sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    return modalign(["ingest", str(source), *sets, "-w", str(workspace)])


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the least-squares line through log cost over log size.

    >>> round(exponent([1, 10, 100], [2, 20, 200]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


if __name__ == "__main__":
    measure([int(word) for word in sys.argv[1:]])
