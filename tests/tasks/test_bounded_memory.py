from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile as sf

ROWS = (200, 2_000)
RATE, FRAMES = 96_000, 19_200  # stereo, 24 bits: a large file of a short sound
BYTES = 2 * 3 * FRAMES
BOUND = 0.35  # of the bytes that the larger collection has more

_INGEST = """
import sys
from config.params import ColumnsParams, PreprocessParams
from storage.memory import Peak
from storage.workspace import Workspace
from tasks.encode import encode_shard, plan_encoding
from tasks.preprocess import group_items, preprocess_shard, scan_source
source, root = sys.argv[1:]
workspace, read = Workspace(root=root), PreprocessParams(shard_rows=200)
with Peak() as peak:
    scan = scan_source.fn(workspace, source, "sounds", ColumnsParams(), read)
    for shard in scan.shards:
        preprocess_shard.fn(workspace, "sounds", scan.root, shard, read)
    group_items.fn(workspace, "sounds", read)
    plan = plan_encoding.fn(workspace, "sounds", "audio", "builtin:logmel", "cpu", 200)
    done = [encode_shard.fn(workspace, "sounds", plan.source, one, scan.root, "cpu", 1, read) for one in plan.shards]
print(sum(one.encoded for one in done), peak.bytes)
"""


def test_memory_is_that_of_the_settings(tmp_path: Path) -> None:
    """Ten times the rows are ingested in the same memory.

    1,800 further sounds are 207 MB of files, and more when decoded: who held them all, or half of them, would break the
    bound, a third of the files. What grows, caches of manifests and buffers of writes before they are full, takes half
    of it.
    """
    peaks = []
    for rows in ROWS:
        source = _sounds(tmp_path / f"sounds{rows}", rows)
        words = [sys.executable, "-c", _INGEST, str(source), str(tmp_path / f"workspace{rows}")]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        encoded, peak = map(int, done.stdout.split()[-2:])
        assert encoded == rows
        peaks.append(peak)
    assert peaks[1] - peaks[0] < BOUND * (ROWS[1] - ROWS[0]) * BYTES


def _sounds(root: Path, count: int) -> Path:
    """A folder of `count` noises, all different, with a caption each."""
    root.mkdir()
    draw = np.random.default_rng(0)
    with (root / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(count):
            noise = draw.integers(-8_000, 8_000, (FRAMES, 2), np.int16)
            sf.write(root / f"{number:05}.wav", noise, RATE, subtype="PCM_24")
            lines.write(json.dumps({"file_name": f"{number:05}.wav", "caption": f"noise {number}"}) + "\n")
    return root
