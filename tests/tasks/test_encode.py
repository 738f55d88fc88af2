from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from config.params import ColumnsParams, PreprocessParams
from storage.workspace import Workspace
from tasks.encode import _BATCH_BYTES, _batches, plan_encoding
from tasks.preprocess import preprocess_shard, scan_source

MIB = 1 << 20

_WORKER = """
import sys, time
import tasks.encode
from config.params import PreprocessParams
from storage.workspace import Workspace
from tasks.refs import EncodePlan
source, root, told = sys.argv[1:]
plan, look = EncodePlan.model_validate_json(told), tasks.encode._pending
def slowly(*args, **more):
    found = look(*args, **more)
    time.sleep(2)
    return found
tasks.encode._pending = slowly
encode = tasks.encode.encode_shard.fn
done = encode(Workspace(root=root), "sounds", plan.source, plan.shards[0], source, "cpu", 1, PreprocessParams())
print(done.encoded, done.skipped)
"""


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 9))
def test_batches_are_bounded(sizes: list[int], most: int) -> None:
    """Every content is in one batch, in order; no batch holds more than `most`, nor more than the bound in bytes unless
    one file alone does; and none could take the first of the next.
    """
    pending = [(str(number), (), "", size * MIB) for number, size in enumerate(sizes)]
    batches = list(_batches(pending, most))
    assert [item for batch in batches for item in batch] == pending
    totals = [sum(item[3] for item in batch) for batch in batches]
    for batch, total in zip(batches, totals, strict=True):
        assert 1 <= len(batch) <= most
        assert total <= _BATCH_BYTES or len(batch) == 1
    for batch, total, after in zip(batches, totals, batches[1:], strict=False):
        assert len(batch) == most or total + after[0][3] > _BATCH_BYTES


@pytest.mark.slow
def test_of_two_workers_with_one_shard_the_second_waits(tmp_path: Path) -> None:
    """Two processes are given the same shard, as when a worker was given up too early: one encodes it, the other finds
    nothing left to do, and no content stands twice. Both take two seconds between looking and encoding.
    """
    (source := tmp_path / "sounds").mkdir()
    with (source / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for number, noise in enumerate(np.random.default_rng(0).uniform(-0.5, 0.5, (12, 8_000))):
            sf.write(source / f"{number}.wav", noise, 16_000)
            lines.write(json.dumps({"file_name": f"{number}.wav", "caption": "a noise"}) + "\n")
    workspace, read = Workspace(root=tmp_path / "workspace"), PreprocessParams()
    scan = scan_source.fn(workspace, str(source), "sounds", ColumnsParams(), read)
    for shard in scan.shards:
        preprocess_shard.fn(workspace, "sounds", scan.root, shard, read)
    plan = plan_encoding.fn(workspace, "sounds", "audio", "builtin:logmel", "cpu", 100)
    words = [sys.executable, "-c", _WORKER, str(source), str(workspace.root), plan.model_dump_json()]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(one.communicate()[0].split()[-2:] for one in both)
    assert said == [["0", "12"], ["12", "0"]]
    assert workspace.store.count(plan.source.table) == 12
