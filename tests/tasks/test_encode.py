from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

import tasks.encode
import tasks.media.image
from config.params import ColumnsParams, PreprocessParams
from storage import schemas
from storage.workspace import Workspace
from tasks.encode import _BATCH_BYTES, _batches, encode_shard, plan_encoding
from tasks.encoders.protocol import TOKENS
from tasks.media.registry import Limits, Medium, get
from tasks.preprocess import preprocess_shard, scan_source
from tasks.progress import also_on
from tasks.refs import EncodeReport
from tests.tasks.updates import Writes, state_of
from tests.tiny import write_collection

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
done = encode(Workspace(root=root), "sounds", plan.sources, plan.shards[0], source, "cpu", 1, PreprocessParams())
print(*(one.encoded for one in done))
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


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes of all pictures that are decoded, as they are."""
    seen: list[bytes] = []
    decode = tasks.media.image.decode

    def noting(data: bytes, limits: Limits) -> Any:
        seen.append(data)
        return decode(data, limits)

    monkeypatch.setattr(tasks.media.image, "decode", noting)
    return seen


@pytest.fixture(scope="module")
def pair(tiny_encoders: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    """Two encoders of pictures."""
    (mean,) = tiny_encoders["image"]
    return mean, mean.replace("pooling=mean", "pooling=cls")


def encoded(workspace: Workspace, source: Path, *encoders: str) -> list[EncodeReport]:
    """Encode the pictures of a folder as it is now."""
    scanned(workspace, source)
    return encode_all(workspace, source, *encoders)


def scanned(workspace: Workspace, source: Path) -> None:
    """Read what the folder holds."""
    scan = scan_source.fn(workspace, str(source), "shapes", ColumnsParams(), PreprocessParams())
    for shard in scan.shards:
        preprocess_shard.fn(workspace, "shapes", scan.root, shard, PreprocessParams())


def encode_all(workspace: Workspace, source: Path, *encoders: str) -> list[EncodeReport]:
    """Encode the pictures that the tables know, in shards of a few."""
    plan = plan_encoding.fn(workspace, "shapes", "image", encoders, "cpu", 8)
    about = (str(source), "cpu", 1, PreprocessParams())
    return [one for shard in plan.shards for one in encode_shard.fn(workspace, "shapes", plan.sources, shard, *about)]


def counts(reports: list[EncodeReport]) -> dict[str, int]:
    """How many contents each encoder has encoded."""
    out: Counter[str] = Counter()
    for one in reports:
        out[one.encoder] += one.encoded
    return dict(out)


def test_encoders_share_what_is_decoded(tmp_path: Path, pair: tuple[str, str], decoded: list[bytes]) -> None:
    """Two encoders together decode each content once, though it lies in two files, and give, bit for bit, what each
    gives alone; their seconds add up to no more than it took.
    """
    source = write_collection(tmp_path / "shapes", 20)
    shutil.copyfile(source / "0003.png", source / "again.png")
    alone = [Workspace(root=tmp_path / name) for name in ("one", "other")]
    for workspace, encoder in zip(alone, pair, strict=True):
        assert counts(encoded(workspace, source, encoder)) == {encoder: 20}
    decoded.clear()
    together, start = Workspace(root=tmp_path / "together"), time.perf_counter()
    reports = encoded(together, source, *pair)
    assert sum(one.wall_seconds for one in reports) <= time.perf_counter() - start
    assert counts(reports) == dict.fromkeys(pair, 20)
    assert Counter(decoded) == Counter({path.read_bytes() for path in source.glob("*.png")})
    states = [state_of(one.store).embeddings for one in (*alone, together)]
    assert len(states[2]) == 2
    assert states[0] | states[1] == states[2]


def test_the_progress_of_several_encoders(tmp_path: Path, pair: tuple[str, str]) -> None:
    """However many encoders work together, the name of their progress leaves room for its bar; it counts vectors."""
    source, workspace = write_collection(tmp_path / "shapes", 6), Workspace(root=tmp_path / "workspace")
    display = mock.Mock()
    scanned(workspace, source)
    with also_on(display):
        encode_all(workspace, source, *pair, f"{pair[0]}{TOKENS}")
    (label, total), _ = display.start.call_args
    assert re.fullmatch(r"encode image/[a-z0-9-]{1,40} \+ 2 more 1/1", label)
    assert total == sum(call.args[0] for call in display.advance.call_args_list) == 3 * 6


def test_an_encoder_is_given_only_what_it_lacks(tmp_path: Path, pair: tuple[str, str], decoded: list[bytes]) -> None:
    """An encoder that is new takes what is there, the older one only what came, each content decoded once; what neither
    lacks is not read, and what has no vector any more is the work of its encoder alone.
    """
    source, workspace = write_collection(tmp_path / "shapes", 20), Workspace(root=tmp_path / "workspace")
    old, new = pair
    encoded(workspace, source, old)
    before = state_of(workspace.store).embeddings
    write_collection(source, 5, first=20)
    decoded.clear()
    assert counts(encoded(workspace, source, old, new)) == {old: 5, new: 25}
    assert (len(decoded), len(set(decoded))) == (25, 25)
    after = state_of(workspace.store).embeddings
    ((table, vectors),) = before.items()
    assert after[table].items() > vectors.items()
    (other,) = after.keys() - {table}
    gone = sorted(after[other])[:3]
    workspace.store.delete_keys(other, gone)
    decoded.clear()
    assert counts(encoded(workspace, source, old, new)) == {new: 3}
    assert len(decoded) == 3
    assert state_of(workspace.store).embeddings == after
    decoded.clear()
    assert encoded(workspace, source, old, new) == []
    assert decoded == []


def test_what_is_broken_is_broken_for_all(tmp_path: Path, pair: tuple[str, str], decoded: list[bytes]) -> None:
    """A broken file is decoded once for all encoders and quarantined once, with its reason; no run tries it again."""
    source, workspace = write_collection(tmp_path / "shapes", 6), Workspace(root=tmp_path / "workspace")
    whole = (source / "0002.png").read_bytes()
    (source / "0002.png").write_bytes(whole[: len(whole) // 2])
    reports = encoded(workspace, source, *pair)
    assert counts(reports) == dict.fromkeys(pair, 5)
    assert sum(one.quarantined for one in reports) == 1
    assert len(decoded) == 6
    faults = workspace.store.read(schemas.QUARANTINE, ["locator", "stage", "code", "attempts"]).to_pylist()
    assert faults == [{"locator": "0002.png", "stage": "decode image", "code": "image_truncated", "attempts": 1}]
    assert encoded(workspace, source, *pair) == []
    assert len(decoded) == 6


def test_a_kill_between_the_writes_of_two_encoders(tmp_path: Path, pair: tuple[str, str]) -> None:
    """Killed before or after any write while two encoders are at work, the next run ends as if there had been none."""
    source, whole = write_collection(tmp_path / "shapes", 7), Workspace(root=tmp_path / "whole")
    scanned(whole, source)
    shutil.copytree(whole.root, tmp_path / "begun")
    number, alive = 0, False
    with mock.patch.object(tasks.encode, "_WRITE_ROWS", 1), mock.patch.object(tasks.encode, "get", in_threes):
        encode_all(whole, source, *pair)
        wanted = state_of(whole.store)
        while not alive:
            number += 1
            workspace = Workspace(root=shutil.copytree(tmp_path / "begun", tmp_path / str(number)))
            writes = Writes(number, after=number % 2 == 0)
            with writes.watched():
                encode_all(workspace, source, *pair)
            alive = not writes.dead
            encode_all(workspace, source, *pair)
            assert state_of(workspace.store) == wanted, number
    assert number > 6  # three batches, each written to two tables


def in_threes(name: str) -> Medium:
    """A medium of which three contents are read together."""
    return replace(get(name), batch=3)


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
    plan = plan_encoding.fn(workspace, "sounds", "audio", ("builtin:logmel",), "cpu", 100)
    words = [sys.executable, "-c", _WORKER, str(source), str(workspace.root), plan.model_dump_json()]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(one.communicate()[0].split() for one in both)
    assert said == [[], ["12"]]
    assert workspace.store.count(plan.sources[0].table) == 12
