"""Flickr8k, train → val, by the profiles small and best; the same command again; another method on the same vectors."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measured import Measured, modalign
from tests.benchmarks.results import record, table

DATA = Path(os.environ.get("MODALIGN_BENCH_DATA", Path(__file__).parents[3] / "shared" / "data")) / "flickr8k"


def data() -> Path:
    """The folder of Flickr8k; without it the benchmark stops."""
    if not DATA.is_dir():
        sys.exit(f"there is no {DATA}; set MODALIGN_BENCH_DATA to the folder that holds flickr8k")
    return DATA


def first_photos(folder: Path, count: int) -> Path:
    """The first photos of train with their captions, copied, so that whoever reads them finds them alike in memory."""
    source = data() / "train"
    folder.mkdir(parents=True)
    lines = (source / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for line in lines:
        name = json.loads(line)["file_name"]
        shutil.copyfile(source / name, folder / name)
    return folder


def main() -> None:
    """Measure and record."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for profile in ("small", "best"):
            words = ["run", str(data()), "--profile", profile, "-w", str(Path(folder) / profile)]
            rows.append(_row(profile, modalign(words)))
            rows.append(_row(f"{profile}, again", again := modalign(words)))
            assert not again.result["ingest"]["stages"], "something was encoded again"
            rows.append(_row(f"{profile}, ridge", modalign([*words, "--set", "align.method=ridge"])))
    columns = ["run", "rsum", "interval", "rsum_raw", "encoded", "tasks cached", "seconds", "CPU s", "peak GB"]
    told = "Train 6,000 photos × 5 captions, evaluated on val (1,000 × 5); values chosen by folds inside train.\n\n"
    record("flickr8k", "Flickr8k", told + table(columns, rows))


def _row(name: str, done: Measured) -> list[object]:
    metrics = done.result["metrics"]
    low, high = metrics["rsum_interval"]
    return [
        name,
        metrics["rsum"],
        f"{low:.1f} – {high:.1f}",
        metrics["rsum_raw"],
        sum(stage["encoded"] for stage in done.result["ingest"]["stages"]),
        done.log.count("Cached("),
        done.seconds,
        done.cpu_seconds,
        done.peak_bytes / 1e9,
    ]
