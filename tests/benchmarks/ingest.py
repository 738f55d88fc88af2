"""Ingest of Flickr8k's train split against what people would use instead, and against what this machine can do at most.

`python -m tests.benchmarks.ingest --photos 300 --repeats 1` for a quick look, which is not recorded.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import numpy as np
import numpy.typing as npt

from tasks.alignment.comparison import cross_validated
from tasks.alignment.fit import View
from tasks.alignment.outer import hit_rates, resampled_rates
from tasks.alignment.plan import Plan
from tasks.metrics.bootstrap import group_weights, interval
from tests.benchmarks.flickr8k import first_photos
from tests.benchmarks.measured import Measured, python
from tests.benchmarks.opponents.work import COLD
from tests.benchmarks.results import record, table

PHOTOS, FEW, REPEATS, SEED = 6_000, 200, 2, 0
"""Photos of the full run and of the paired rounds, rounds of these."""

OURS, PLAIN = "modalign", "(a) plain fp32"
CONTESTANTS: dict[str, tuple[str, ...]] = {
    OURS: ("ours",),
    PLAIN: ("plain",),
    "(b) bf16": ("switched", "torch"),
    "(b) OpenVINO": ("switched", "openvino"),
    "(b) OpenVINO, photos too": ("switched", "all-openvino"),
    "(c) Pixeltable": ("in_pixeltable",),
    "(d) clip-retrieval": ("clip_loop",),
}
ONCE = (OURS, PLAIN, "(b) OpenVINO, photos too")
"""Who runs once at full size besides the paired rounds: of (b) the fastest."""

FIRST = (OURS, "(b) OpenVINO, photos too")
"""Who converts models, which the others of its kind then find."""
ORCHESTRATION = ("Prefect between", "Prefect after")
BESIDE = os.environ.get("MODALIGN_BENCH_OPENVINO", "")
"""The interpreter of who uses sentence-transformers' OpenVINO backend, see opponents/requirements-openvino.txt; without
it they are left out."""
NEEDS = {"(c) Pixeltable": "pixeltable", "(d) clip-retrieval": "clip_retrieval"}

Vectors = Mapping[str, npt.NDArray[np.float32]]


@dataclass
class Runs:
    """What one contestant gave, run by run, and the vectors of the last."""

    measured: list[Measured] = field(default_factory=list)
    vectors: Vectors = field(default_factory=dict)

    def seconds(self, at: int = -1) -> float:
        """From the start of the process to tables that can be searched, without the cold start of a server."""
        told = self.measured[at].result
        return float(told["seconds"] - told["parts"].get(COLD, 0.0))


def main(photos: int = PHOTOS, few: int = FEW, repeats: int = REPEATS, *, recorded: bool = True) -> None:
    """Measure and record."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "1"}
    mixed = random.Random(SEED)
    there = [name for name in CONTESTANTS if _installed(name)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        models = {name: root / "models" / CONTESTANTS[name][0] for name in there}
        small, whole = first_photos(root / "few", few), first_photos(root / "all", photos)
        first = {name: _run(name, small, models[name]).measured[0] for name in there if name in FIRST}
        limits = [python("tests.benchmarks.limits", str(small), str(models[OURS])).result]
        paired: dict[str, Runs] = {name: Runs() for name in there}
        for _ in range(repeats):
            for name in mixed.sample(there, len(there)):
                one = _run(name, small, models[name])
                paired[name].measured += one.measured
                paired[name].vectors = one.vectors
        once = [name for name in ONCE if name in there]
        full = {name: _run(name, whole, models[name]) for name in mixed.sample(once, len(once))}
        limits.append(python("tests.benchmarks.limits", str(small), str(models[OURS])).result)
    told = _told(photos, few, repeats, paired, full, limits, first)
    if recorded:
        record("ingest", "Ingest against other ways", told)
    else:
        print(told)


def _installed(name: str) -> bool:
    if "OpenVINO" in name:
        return bool(BESIDE)
    return importlib.util.find_spec(NEEDS.get(name, "torch")) is not None


def _run(name: str, collection: Path, models: Path) -> Runs:
    """One run in a process of its own, and its vectors."""
    module, *words = CONTESTANTS[name]
    models.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = Path(folder)
        interpreter = BESIDE if "OpenVINO" in name else sys.executable
        given = (str(collection), folder, str(models), *words)
        done = python(f"tests.benchmarks.opponents.{module}", *given, interpreter=interpreter)
        vectors = {one: np.load(out / f"{one}.npy") for one in ("image", "text")}
        if name == OURS and not models.exists():
            shutil.copytree(out / "workspace" / "models", models)
    print(f"{name}: {done.result}", flush=True)
    return Runs([done], vectors)


def _told(
    photos: int,
    few: int,
    repeats: int,
    paired: Mapping[str, Runs],
    full: Mapping[str, Runs],
    limits: Sequence[Mapping[str, float]],
    first: Mapping[str, Measured],
) -> str:
    best = {name: mean(one[name] for one in limits) for name in limits[0]}
    lines = [_speeds(photos, few, repeats, paired, full), _checks(paired), _account(photos, best, full[OURS])]
    converted = ", ".join(f"{name} {one.result['seconds']:.0f} s" for name, one in first.items())
    cold = ", ".join(
        f"{name} {one.measured[-1].result['parts'][COLD]:.1f} s"
        for name, one in paired.items()
        if COLD in one.measured[-1].result["parts"]
    )
    return (
        f"{photos:,} photos (JPEG, 224 × 224) with 5 captions each, lite0 (at 288 pixels) × MiniLM, to tables in which "
        "a query by vector finds its neighbours. Each contestant runs in a process of its own with all cores, its "
        f"models already converted (a run that converts them first: {converted}); seconds are from the start of "
        f"the process to the last table (with its default index where the contestant builds one), less the {COLD} of a "
        f"server ({cold}). In {repeats} rounds, in random order, {few:,} photos by all; the full size once. Photos and "
        "captions a second are those of the parts that read, encode and write them. Ratios: seconds of a contestant by "
        "ours in the same round, median (least – most).\n\n"
    ) + "\n\n".join(lines)


def _speeds(photos: int, few: int, repeats: int, paired: Mapping[str, Runs], full: Mapping[str, Runs]) -> str:
    rows = []
    for name, one in paired.items():
        ratios = [one.seconds(at) / paired[OURS].seconds(at) for at in range(repeats)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} – {max(ratios):.2f})"
        rows.append([few, name, *_row(one.measured, median(one.seconds(at) for at in range(repeats)), few), spread])
    for name in CONTESTANTS:
        if name in full:
            ratio = full[name].seconds() / full[OURS].seconds()
            rows.append([photos, name, *_row(full[name].measured, full[name].seconds(), photos), f"{ratio:.2f}"])
    return table(["photos", "", "seconds", "photos/s", "captions/s", "CPU s", "peak GB", "by ours"], rows)


def _row(runs: Sequence[Measured], seconds: float, photos: int) -> list[object]:
    cpu, peak = median(one.cpu_seconds for one in runs), max(one.peak_bytes for one in runs)
    images, texts = (median(one.result["parts"][name] for one in runs) for name in ("images", "texts"))
    return [seconds, photos / images, 5 * photos / texts, cpu, peak / 1e9]


def _checks(paired: Mapping[str, Runs]) -> str:
    """Vectors against those of fp32, and how well they rank by CCA, by folds over the photos."""
    reference = paired[PLAIN].vectors
    count = len(reference["image"])
    groups = {"image": np.arange(count), "text": np.arange(5 * count) // 5}
    pairs = np.stack([groups["text"], np.arange(5 * count)], 1)
    rows: list[list[object]] = []
    weights, base = group_weights(count, 1_000, SEED), None
    for name in (PLAIN, *(one for one in paired if one != PLAIN)):
        vectors = paired[name].vectors
        views = [
            View(side, {"encoder": vectors[side]}, {"encoder": side == "image"}, groups[side])
            for side in ("image", "text")
        ]
        totals = cross_validated(*views, pairs, Plan(), folds=2)[0]
        rsum, drawn = 100 * float(hit_rates(totals.sum(0)).sum()), 100 * resampled_rates(totals, weights).sum(1)
        base = base or (rsum, drawn)
        low, high = interval(drawn - base[1], 0.95)
        cosines = [f"{_cosine(vectors[side], reference[side]):.5f}" for side in ("image", "text")]
        rows.append([name, *cosines, rsum, f"{rsum - base[0]:+.1f} ({low:+.1f} – {high:+.1f})"])
    return (
        f"The vectors of {count:,} photos and their captions: mean cosine to those of (a); rsum by CCA, two folds over "
        "the photos, and its difference to that of (a), with the paired 95% interval.\n\n"
    ) + table(["", "photos", "captions", "rsum", "to (a)"], rows)


def _cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(1) / lengths).mean())


def _account(photos: int, best: Mapping[str, float], ours: Runs) -> str:
    """Every second of our full run, beside what the machine can do."""
    told = ours.measured[0].result
    least = photos / best["photos/s, inference alone"] + 5 * photos / best["captions/s, inference alone"]
    parts = told["parts"]
    run = ours.seconds()
    prefect = sum(parts[name] for name in ORCHESTRATION)
    rows = [[name, seconds, f"{seconds / run:.1%}"] for name, seconds in parts.items() if name != COLD]
    sums = {name: sum(one[name] for one in told["stages"]) for name in ("read", "encode", "write", "wall")}
    limits = ", ".join(f"{name} {value:,.0f}" for name, value in best.items())
    return (
        f"Limits in the same run (mean of before and after): {limits}. Inference alone on decoded photos and on texts "
        f"is {least:.1f} s: **{least / run:.0%}** of our {run:.1f} s. Of images and texts ({sums['wall']:.1f} s) "
        f"inference takes {sums['encode']:.1f} s; reading and decoding {sums['read']:.1f} s in two threads and writing "
        f"{sums['write']:.1f} s in one, beside it. **Prefect** (all between the bodies of tasks, from the beginning of "
        f"the flow to the end of the process, its progress and artifacts too) takes {prefect:.1f} s, "
        f"**{prefect / run:.1%}** of the run.\n\n"
    ) + table(["our full run", "seconds", "share"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--few", type=int, default=FEW)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args()
    usual = (given.photos, given.few, given.repeats) == (PHOTOS, FEW, REPEATS)
    main(given.photos, min(given.few, given.photos), given.repeats, recorded=usual)
