from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.params import PipelineParams
from storage.tables import Store
from storage.workspace import Workspace
from tasks.preprocess import preprocess_shard, scan_source

Counted = Callable[[int], int]


@pytest.fixture
def openings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """How often tables are looked up while a folder of so many captions is preprocessed, in one shard."""
    count = 0
    find = Store._find

    def counted(store: Store, name: str) -> object:
        nonlocal count
        count += 1
        return find(store, name)

    def preprocess(captions: int) -> int:
        nonlocal count
        folder = tmp_path / f"captions{captions}"
        folder.mkdir()
        lines = [f'{{"id": "{number}", "text": "caption {number}"}}\n' for number in range(captions)]
        (folder / "metadata.jsonl").write_text("".join(lines))
        workspace, params = Workspace(root=tmp_path / f"workspace{captions}"), PipelineParams(source=str(folder))
        scan = scan_source.fn(workspace, params.source, None, params.columns, params.preprocess)
        (shard,) = scan.shards
        count = 0
        done = preprocess_shard.fn(workspace, scan.collection, scan.root, shard, params.preprocess)
        assert done.items == captions
        return count

    monkeypatch.setattr(Store, "_find", counted)
    return preprocess


def test_tables_are_opened_by_the_shard_not_by_the_bucket(openings: Counted) -> None:
    """Forty times as many buckets with new rows open the tables of a collection no more often."""
    assert openings(400) == openings(10)
