"""How the time and memory of an ingest grow with the collection: generated texts, the cheapest encoder there is.

`python -m tests.benchmarks.growth 1000 10000` measures other sizes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.measured import Measured, modalign
from tests.benchmarks.results import record, table

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FITTED = 10_000  # items from which the exponent is fitted on
_TOLD = 0.5  # seconds beyond start-up from which a rate says anything
_WORDS = 4_000
_WIDTH = 32


def main() -> None:
    """Measure and record."""
    measure(SIZES)


def measure(sizes: Sequence[int]) -> None:
    """Ingest collections of these numbers of items, each in a process of its own, and record what they took."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        encoder = make_encoder(root / "lsa")
        two = write_source(root / "two.jsonl", 2)
        ingest(two, encoder, root / "cold")  # the first process reads the program from disk
        start = ingest(two, encoder, root / "w2")
        runs = {size: ingest(write_source(root / f"{size}.jsonl", size), encoder, root / f"w{size}") for size in sizes}
    told, rows = figures(runs, start)
    columns = ["items", "seconds", "CPU s", "items/s", "peak memory, MB"]
    record("growth", "Growth", told + table(columns, rows))


def figures(runs: dict[int, Measured], start: Measured) -> tuple[str, list[list[object]]]:
    """The exponents in words, and a row a run; `start` is what a collection of two items took."""
    rows: list[list[object]] = []
    for size, run in runs.items():
        net = run.seconds - start.seconds
        rate = f"{round(size / net):,}" if net > _TOLD else "–"
        rows.append([f"{size:,}", run.seconds, run.cpu_seconds, rate, _peak(run) / 1e6])
    fitted = [size for size in runs if size >= FITTED]
    slopes = [
        exponent(fitted, [of(runs[size]) - of(start) for size in fitted])
        for of in (lambda run: run.seconds, lambda run: run.cpu_seconds)
    ]
    least, most = min(fitted), max(fitted)
    more = (_peak(runs[most]) - _peak(runs[least])) / max(most - least, 1)
    told = (
        f"Tables of short generated texts, two a row, all different, each row a known pair; an LSA of {_WIDTH} numbers "
        f"encodes them. Start-up, taken off: {start.seconds:.1f} s and {start.cpu_seconds:.1f} CPU s (two items). "
        f"From {least:,} items on, seconds grow with the power {slopes[0]:.2f} of the items, CPU seconds with "
        f"{slopes[1]:.2f}; peak memory by {more:,.0f} bytes an item.\n\n"
    )
    return told, rows


def _peak(run: Measured) -> int:
    return int(run.result["ingest"]["usage"]["peak_bytes"])


def make_encoder(folder: Path) -> str:
    """An LSA of generated texts; give its name."""
    from tasks.encoders.lsa_fit import fit_lsa, save_lsa

    folder.mkdir(parents=True)
    save_lsa(folder, *fit_lsa([text for number in range(2_000) for text in texts(number)], _WIDTH, 0))
    return f"local:{folder}"


def write_source(path: Path, items: int) -> Path:
    """A table with two texts a row, all different: `items` texts in `items / 2` rows, each a known pair."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(items // 2):
            title, caption = texts(number)
            file.write(
                json.dumps({"id": f"{number:08}", "title": title, "caption": caption, "year": number % 50}) + "\n"
            )
    return path


def texts(number: int) -> tuple[str, str]:
    """The two texts of a row."""
    one, two = number % _WORDS, number * 7_919 % _WORDS
    return f"w{one:x} n{number}", f"w{two:x} of w{one:x} n{number}"


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
