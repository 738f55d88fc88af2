"""Questions about pictures, answered from stored ones, beside every baseline: DAQUAR by five folds, easy-VQA's test."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks.flickr8k import DATA
from tests.benchmarks.measured import modalign
from tests.benchmarks.results import record, table

ENCODERS = {
    "image": ["builtin:efficientnet-lite0", "builtin:efficientnet-lite2"],
    "text": ["builtin:minilm", "builtin:mpnet"],
}

SEEN = "lite0 + lite2 × MiniLM + mpnet, whose training is not known to hold these questions."


def easy_vqa(root: Path) -> Path:
    """The pictures and questions of the package easy-vqa as a folder that can be read, in its own split."""
    found = find_spec("easy_vqa")
    if found is None or found.origin is None:
        sys.exit("there is no package easy-vqa; install the extra bench")
    for split in ("train", "test"):
        source = Path(found.origin).parent / "data" / split
        shutil.copytree(source / "images", root / split)
        asked = json.loads((source / "questions.json").read_text())
        lines = [json.dumps({"file_name": f"{image}.png", "question": q, "answer": a}) for q, a, image in asked]
        (root / split / "metadata.jsonl").write_text("\n".join(lines))
    return root


def measured(folder: Path, workspace: Path, *words: str) -> tuple[dict[str, Any], float, float]:
    """The figures of a folder of questions; seconds and peak in bytes of their measurement, without the encoding."""
    choice = ["--set", f"encode.encoders={json.dumps(ENCODERS)}", "-w", str(workspace)]
    modalign(["ingest", str(folder), "--collection", "asked", *choice])
    found = modalign(["evaluate-answers", "asked", *words, "-w", str(workspace)])
    return found.result["metrics"], found.seconds, found.peak_bytes


def show(name: str, title: str, found: tuple[dict[str, Any], float, float], told: str) -> None:
    """Record the figures of one collection."""
    figures, seconds, peak = found
    methods = [one["method"] for one in figures["methods"]]
    kinds = [[row["type"], row["questions"], *(f"{100 * row[one]:.1f}" for one in methods)] for row in figures["types"]]
    sure = figures["calibration"]
    reached = ", ".join(
        f"{100 * row['accuracy']:.1f} of the surest {row['coverage']:.0%}" for row in sure["risk_coverage"]
    )
    low, high = sure["ece"]["interval"]
    how = (
        "All values are chosen by folds over photos inside the rows that answer. `question only` and `media only` are "
        f"the same method, blind and deaf. 95% intervals by the bootstrap over photos, gains paired. {SEEN}"
    )
    error = f"{sure['ece']['value']:.3f} ({low:.3f} – {high:.3f})"
    cost = f"{seconds:.0f} s, peak {peak / 2**30:.1f} GiB"
    parts = [
        f"{told} {how}\n",
        table(["method", "right, %", "95% interval", "our gain", "95% interval"], _rows(figures)) + "\n",
        table(["type, right in %", "questions", *methods], kinds) + "\n",
        f"Confidence: calibration error {error}; right, in %: {reached}. Measured in {cost}.",
    ]
    record(f"answers-{name}", f"{title}: {figures['questions']:,} questions", "\n".join(parts), command="answers")


def daquar() -> None:
    """DAQUAR's training split by five folds."""
    folder = DATA.parent / "daquar" / "train"
    if not folder.is_dir():
        sys.exit(f"there is no {folder}; set MODALIGN_BENCH_DATA to the folder that holds daquar")
    with tempfile.TemporaryDirectory() as place:
        found = measured(folder, Path(place), "--folds", "5")
    told = (
        "The 794 photos of DAQUAR's training split (of 6,795 rows 113 repeat others), five folds by photo (seed 0); "
        "comma lists compared as sets."
    )
    show("daquar", "Answers about DAQUAR", found, told)


def easy() -> None:
    """easy-VQA in its own split."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        found = measured(easy_vqa(root / "easy"), root / "data")
    told = "Fitted on easy-VQA's train, measured on its test."
    show("easy-vqa", "Answers about easy-VQA", found, told)


def main() -> None:
    """Measure and record."""
    daquar()
    easy()


def _rows(figures: dict[str, Any]) -> list[list[object]]:
    out: list[list[object]] = []
    for row in figures["methods"]:
        gain = [f"{100 * row['gain']:+.1f}", _span(row["gain_interval"], "+")] if "gain" in row else ["", ""]
        out.append([row["method"], f"{100 * row['accuracy']:.1f}", _span(row["interval"]), *gain])
    return out


def _span(pair: list[float], sign: str = "") -> str:
    return " – ".join(f"{100 * one:{sign}.1f}" for one in pair)


if __name__ == "__main__":
    main()
