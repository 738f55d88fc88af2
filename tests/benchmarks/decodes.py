"""Two encoders of one modality, one after the other and together, when each content is read and decoded once for both.

`python -m tests.benchmarks.decodes --photos 40 --large 6 --captions 100 --rounds 1` for a quick look, which is not
recorded.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from config.params import ColumnsParams, PreprocessParams
from storage.workspace import Workspace
from tasks.encode import encode_shard, plan_encoding
from tasks.encoders.registry import load, resolve
from tasks.preprocess import preprocess_shard, scan_source
from tests.benchmarks.flickr8k import first_photos
from tests.benchmarks.measured import Measured, python
from tests.benchmarks.results import record, table

PHOTOS, LARGE, CAPTIONS, ROUNDS, SEED = 400, 60, 250, 3, 0
PICTURES = ("builtin:efficientnet-lite0", "builtin:efficientnet-lite2")
STAGES = ("builtin:efficientnet-lite0", "builtin:efficientnet-lite0-stages")
TEXTS = ("builtin:minilm", "builtin:mpnet")
ALONE, TOGETHER = "alone", "together"


@dataclass
class Case:
    """A collection that is scanned, its encoders, and the runs of each way."""

    name: str
    modality: str
    encoders: tuple[str, ...]
    source: Path
    runs: dict[str, list[Measured]] = field(default_factory=lambda: {ALONE: [], TOGETHER: []})


def main(
    photos: int = PHOTOS, large: int = LARGE, captions: int = CAPTIONS, rounds: int = ROUNDS, *, recorded: bool = True
) -> None:
    """Measure and record."""
    mixed = random.Random(SEED)
    models = Path(tempfile.gettempdir()) / "modalign-bench-models"
    for name in {*PICTURES, *STAGES, *TEXTS}:
        load(resolve(name), device="cpu", models_dir=models)  # converted once, here
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        small, big = first_photos(root / "photos", photos), _large(root / "large", large)
        few = first_photos(root / "captions", captions // 5)
        for source in (small, big, few):
            _scan(source)
        cases = [
            Case(f"{photos:,} photos, 224 × 224", "image", PICTURES, small),
            Case(f"{photos:,} photos, 224 × 224", "image", STAGES, small),
            Case(f"{large:,} photos, 4000 × 3000", "image", PICTURES, big),
            Case(f"{captions:,} captions", "text", TEXTS, few),
        ]
        for _ in range(rounds):
            for case in mixed.sample(cases, len(cases)):
                for way in mixed.sample([ALONE, TOGETHER], 2):
                    case.runs[way].append(_run(case, models, way))
    told = _told(cases, rounds)
    if recorded:
        record("decodes", "One decode for several encoders", told)
    else:
        print(told)


def _large(folder: Path, count: int) -> Path:
    """JPEGs as large as a phone's: noise over a gradient, each moved and turned otherwise."""
    folder.mkdir()
    generator = np.random.default_rng(SEED)
    y, x = np.mgrid[0:3_000, 0:4_000].astype(np.float32)
    noise = generator.normal(0, 6, (3_000, 4_000, 3)).astype(np.float32)
    lines = []
    for number in range(count):
        ground = 128 + 100 * np.stack([np.sin((number + part) * x / 9_000 + part * y / 3_000) for part in (1, 2, 3)], 2)
        pixels = np.clip(ground + np.roll(noise, 17 * number, 1), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.jpg", quality=90)
        lines.append(json.dumps({"file_name": f"{number:03}.jpg", "caption": f"gradient {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _scan(source: Path) -> None:
    """A workspace beside the folder that knows what lies in it."""
    workspace, read = Workspace(root=source.with_suffix(".scanned")), PreprocessParams()
    scan = scan_source.fn(workspace, str(source), "c", ColumnsParams(), read)
    for shard in scan.shards:
        preprocess_shard.fn(workspace, "c", scan.root, shard, read)


def _run(case: Case, models: Path, way: str) -> Measured:
    """Encode in a process of its own, in a copy of the workspace."""
    with tempfile.TemporaryDirectory(dir=case.source.parent) as folder:
        root = shutil.copytree(case.source.with_suffix(".scanned"), Path(folder) / "workspace")
        (root / "models").symlink_to(models)
        done = python("tests.benchmarks.decodes", way, str(root), str(case.source), case.modality, *case.encoders)
    print(case.name, way, done.result, flush=True)
    return done


def encode(way: str, root: str, source: str, modality: str, *encoders: str) -> None:
    """What such a process does: wall and CPU seconds of planning and encoding, the encoders loaded."""
    workspace = Workspace(root=Path(root))
    for name in encoders:
        load(resolve(name), device="cpu", models_dir=workspace.models)
    start, before, count = time.perf_counter(), time.process_time(), 0
    for some in [encoders] if way == TOGETHER else [(one,) for one in encoders]:
        plan = plan_encoding.fn(workspace, "c", modality, some, "cpu", 2_000)
        for shard in plan.shards:
            reports = encode_shard.fn(workspace, "c", plan.sources, shard, source, "cpu", None, PreprocessParams())
            count += sum(one.encoded for one in reports)
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    print(json.dumps({"seconds": round(seconds, 3), "cpu": round(cpu, 3), "vectors": count}))


def _told(cases: Sequence[Case], rounds: int) -> str:
    rows: list[list[object]] = []
    for case in cases:
        alone, together = case.runs[ALONE], case.runs[TOGETHER]
        assert len({one.result["vectors"] for one in (*alone, *together)}) == 1
        rows.append(
            [
                f"{case.name}: {' + '.join(name.removeprefix('builtin:') for name in case.encoders)}",
                *(median(one.result["seconds"] for one in runs) for runs in (alone, together)),
                _ratio(alone, together, "seconds"),
                _ratio(alone, together, "cpu"),
                *(round(max(one.peak_bytes for one in runs) / 1e6) for runs in (alone, together)),
            ]
        )
    columns = ["", "s, alone", "s, together", "together by alone", "CPU", "peak MB, alone", "peak MB, together"]
    return (
        "Two encoders of one modality: each by itself, so that every file is read, hashed and decoded twice, and both "
        "together, so that it is once (and resized once, where both take the same size: lite0 and its stages). Each "
        "run in a process of its own, both encoders loaded before the clock starts. "
        f"{rounds} paired rounds in random order; seconds are medians, ratios the median (least – most) over the "
        "rounds. The large photos are generated: noise over gradients.\n\n"
    ) + table(columns, rows)


def _ratio(alone: Sequence[Measured], together: Sequence[Measured], what: str) -> str:
    ratios = [one.result[what] / other.result[what] for one, other in zip(together, alone, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} – {max(ratios):.2f})"


if __name__ == "__main__":
    if sys.argv[1:2] in ([ALONE], [TOGETHER]):
        encode(*sys.argv[1:])
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--photos", type=int, default=PHOTOS)
        parser.add_argument("--large", type=int, default=LARGE)
        parser.add_argument("--captions", type=int, default=CAPTIONS)
        parser.add_argument("--rounds", type=int, default=ROUNDS)
        given = vars(parser.parse_args())
        usual = tuple(given.values()) == (PHOTOS, LARGE, CAPTIONS, ROUNDS)
        main(**given, recorded=usual)
