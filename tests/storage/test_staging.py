from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import StorageError
from storage.staging import Staging, read_staging, staged_buckets

BUCKETS = 64
Record = tuple[int, str, dict[str, Any]]


def scan(folder: Path, records: list[Record], *, partitions: int = 4, buffer: int = 3) -> list[tuple[int, str]]:
    """Stage `records`; give the number and the digest of each bucket."""
    with Staging(folder, buckets=BUCKETS, partitions=partitions, buffer=buffer) as staging:
        for record in records:
            staging.add(*record)
    return staged_buckets(folder)


def read(folder: Path, lo: int = 0, hi: int = BUCKETS, partitions: int = 4) -> list[tuple[str, dict[str, Any]]]:
    """What a shard reads."""
    return list(read_staging(folder, range(lo, hi), buckets=BUCKETS, partitions=partitions))


def records(n: int, seed: int = 0) -> list[Record]:
    """`n` distinct records in buckets at random."""
    draw = random.Random(seed)
    return [(draw.randrange(BUCKETS), draw.choice(["row", "media"]), {"number": i}) for i in range(n)]


def test_the_digest_does_not_depend_on_the_order(tmp_path: Path) -> None:
    """Two orders of the same records give the same digests and the same reading, file by file."""
    made = records(100)
    mixed = random.Random(1).sample(made, len(made))
    one, other = scan(tmp_path / "a", made), scan(tmp_path / "b", mixed)
    for lo, hi in ((0, 64), (0, 16), (5, 6), (60, 64)):
        assert one[lo:hi] == other[lo:hi]
        assert read(tmp_path / "a", lo, hi) == read(tmp_path / "b", lo, hi)


def test_every_change_changes_the_digest(tmp_path: Path) -> None:
    """A record that is new, gone, changed, of another kind, in another bucket, or there twice gives another digest."""
    base: list[Record] = [(1, "row", {"a": 1}), (2, "row", {"a": 2})]
    variants = [
        base,
        base[:1],
        [*base, base[0]],
        [base[0], base[0]],
        [(1, "row", {"a": 2}), (1, "row", {"a": 2})],  # exclusive or would take the one pair for the other
        [(1, "row", {"a": 1}), (2, "row", {"a": 3})],
        [(1, "row", {"a": 1}), (2, "media", {"a": 2})],
        [(1, "row", {"a": 1}), (3, "row", {"a": 2})],
        [],
    ]
    scans = [scan(tmp_path / str(number), one) for number, one in enumerate(variants)]
    assert [sum(count for count, _ in one) for one in scans] == [len(one) for one in variants]
    assert len({tuple(one) for one in scans}) == len(variants)
    assert scans[0][:2] == scans[1][:2]  # the part that did not change keeps its own
    assert scans[0][0] == (0, "")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 63), st.sampled_from(["row", "media"]), st.integers(0, 5)), max_size=40))
def test_each_shard_reads_its_own(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, str, int]]) -> None:
    """Whatever the shards, each record comes to exactly the one that holds its bucket, in bucket and kind order."""
    made = [(bucket, kind, {"bucket": bucket, "n": n}) for bucket, kind, n in drawn]
    folder = tmp_path_factory.mktemp("scan") / "c"
    partitions = 1 + len(made) % 7
    scan(folder, made, partitions=partitions)
    for width in (64, 16, 1):
        for lo in range(0, 64, width):
            mine = sorted(
                (bucket, kind, json.dumps(record, sort_keys=True))
                for bucket, kind, record in made
                if lo <= bucket < lo + width
            )
            found = read(folder, lo, lo + width, partitions)
            assert found == [(kind, json.loads(text)) for _, kind, text in mine]


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    """Lone surrogates (file names that are not UTF-8), any script and control characters come back as they were."""
    made: list[Record] = [
        (3, "media", {"path": os.fsdecode(b"caf\xe9.jpg"), "half": "\ud800", "odd": "猫\0\n\u2028🐈"})
    ]
    scan(tmp_path / "c", made)
    ((kind, record),) = read(tmp_path / "c")
    assert (kind, record) == ("media", made[0][2])
    assert os.fsencode(record["path"]) == b"caf\xe9.jpg"


def fail(folder: Path, count: int) -> None:
    """A scan that breaks off after `count` records."""
    with Staging(folder, buckets=BUCKETS, partitions=4, buffer=3) as staging:
        for record in records(count, seed=1):
            staging.add(*record)
        raise RuntimeError("broken")


def lose_the_folder(folder: Path) -> None:
    """A scan whose files can no longer be written when it ends."""
    with Staging(folder, buckets=BUCKETS, partitions=4) as staging:
        staging.add(0, "row", {"a": 1})
        for path in folder.parent.glob(f".{folder.name}.*"):
            path.rmdir()


@pytest.mark.parametrize("count", [0, 1, 40])
def test_a_failed_scan_leaves_the_former_one(tmp_path: Path, count: int) -> None:
    """A block that fails, early or late, leaves the former scan as it was and nothing beside it."""
    scan(tmp_path / "c", records(50))
    before = read(tmp_path / "c")
    with pytest.raises(RuntimeError, match="broken"):
        fail(tmp_path / "c", count)
    assert read(tmp_path / "c") == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_scan_that_cannot_be_kept_leaves_the_former_one(tmp_path: Path) -> None:
    """A disk that fails at the end of the block, when the last records are written, leaves the former scan."""
    scan(tmp_path / "c", records(5))
    before = read(tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        lose_the_folder(tmp_path / "c")
    assert read(tmp_path / "c") == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_new_scan_replaces_the_former_one(tmp_path: Path) -> None:
    """After a scan that ended well nothing of the former one is read, not even where the new one has no record."""
    scan(tmp_path / "c", records(80))
    scan(tmp_path / "c", [(63, "row", {"last": True})])
    assert read(tmp_path / "c") == [("row", {"last": True})]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_no_scan_is_not_an_empty_one(tmp_path: Path) -> None:
    """An empty scan reads as nothing; one that is not there is an error, or its shard's rows would be deleted."""
    scan(tmp_path / "c", [])
    assert read(tmp_path / "c") == []
    with pytest.raises(StorageError, match=r"scan in .*none is gone"):
        read(tmp_path / "none")


def test_what_a_killed_scan_left_goes(tmp_path: Path) -> None:
    """The next scan removes what a killed one left a day ago, and leaves alone what may be in use."""
    old, young, other = (tmp_path / name for name in (".c.99999", ".c.99998", ".cc.99999"))
    for path in (old, young, other):
        path.mkdir()
        (path / "000.parquet").write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (time.time() - 90_000,) * 2)
    scan(tmp_path / "c", records(5))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.99998", ".cc.99999", "c"]
