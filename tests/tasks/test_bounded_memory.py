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
    plan = plan_encoding.fn(workspace, "sounds", "audio", ("builtin:logmel",), "cpu", 200)
    done = [encode_shard.fn(workspace, "sounds", plan.sources, one, scan.root, "cpu", 1, read) for one in plan.shards]
print(sum(one.encoded for reports in done for one in reports), peak.bytes)
"""

ITEMS = (50_000, 250_000)
BYTES_AN_ITEM = 200

_GROUP = """
import os, sys
import pyarrow as pa
from storage import schemas
from storage.memory import Peak
from storage.workspace import Workspace
from tasks.grouping import group_collection
from tasks.held import compared
count, root = int(sys.argv[1]), sys.argv[2]
workspace, block = Workspace(root=root), 25_000
def rows(schema, known):
    one = {field.name: None if field.nullable else {pa.string(): "", pa.bool_(): False}.get(field.type, 0)
           for field in schema}
    made = {name: known.get(name, [value] * block) for name, value in one.items()}
    return pa.table(made, schema=schema)
for start in range(0, count, block):
    key, content, pair = ([os.urandom(16).hex() for _ in range(block)] for _ in range(3))
    known = {"key": key, "content_hash": content, "row_key": [f"row {(start + n) // 2}" for n in range(block)]}
    every = {"collection": ["c"] * block, "modality": ["text"] * block, "source": ["given"] * block}
    workspace.store.insert(schemas.ITEMS, schemas.items(), rows(schemas.items(), every | known))
    known = {"key": pair, "left": key, "right": key[1:] + key[:1]}
    workspace.store.insert(schemas.PAIRS, schemas.pairs(), rows(schemas.pairs(), every | known))
with Peak() as peak:
    groups = group_collection(workspace, "c", seed=0, share=0.2).groups
    missing = sum(len(some) for _, (some,) in compared(workspace, "c", "text", {"embeddings_e": False}))
print(groups, missing, peak.bytes)
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


def test_groups_and_plans_take_a_few_bytes_an_item(tmp_path: Path) -> None:
    """Five times the items are grouped, and their contents compared with the vectors, in nearly the same memory.

    Who held the keys alone, as strings, would need 90 bytes for each, and as much for contents, rows and pairs.
    """
    peaks = []
    for count in ITEMS:
        words = [sys.executable, "-c", _GROUP, str(count), str(tmp_path / str(count))]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        groups, missing, peak = map(int, done.stdout.split()[-3:])
        assert (groups, missing) == (count // 25_000, count)
        peaks.append(peak)
    assert peaks[1] - peaks[0] < BYTES_AN_ITEM * (ITEMS[1] - ITEMS[0])


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
