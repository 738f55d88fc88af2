"""What the flow tests share: params for tiny collections, and what Prefect says of the task runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from config.params import PipelineParams
from storage.tables import Store
from tasks.refs import Ingested


def params_for(source: Path, encoders: dict[str, tuple[str, ...]], **more: Any) -> PipelineParams:
    """Params that suit a few dozen drawn pictures."""
    small = {
        "source": str(source),
        "encode": {"encoders": encoders, "shard_items": 40},
        "preprocess": {"shard_rows": 40},
        "align": {"method": "cca", "dim": 16, "pca": 32},
        "assess": {"draws": 100, "controls": 3},
    }
    for name, value in more.items():
        small[name] = {**small.get(name, {}), **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
    return PipelineParams.model_validate(small)


class TaskRuns:
    """The task runs that Prefect records inside the block: (name, state) in order of start."""

    def __enter__(self) -> TaskRuns:
        self._start = datetime.now(UTC)
        self.seen: list[tuple[str, str]] = []
        return self

    def __exit__(self, *_: object) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterStartTime
        from prefect.client.schemas.sorting import TaskRunSort

        started = TaskRunFilter(start_time=TaskRunFilterStartTime(after_=self._start))
        with get_client(sync_client=True) as client:
            while len(page := client.read_task_runs(
                task_run_filter=started, sort=TaskRunSort.EXPECTED_START_TIME_ASC, offset=len(self.seen), limit=200
            )):  # fmt: skip
                self.seen += [(run.name, run.state_name or "") for run in page]

    def named(self, start: str) -> dict[str, str]:
        """State by name of the runs whose names begin so."""
        return {name: state for name, state in self.seen if name.startswith(start)}


def artifacts(pattern: str) -> list[Any]:
    """The artifacts whose keys are like `pattern` (% stands for anything); a server gives 200 at a time at most."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    wanted = ArtifactFilter(key=ArtifactFilterKey(like_=pattern))
    with get_client(sync_client=True) as client:
        return list(client.read_artifacts(artifact_filter=wanted))


def vector_of(store: Store, done: Ingested, item: dict[str, Any]) -> np.ndarray:
    """The stored vector of an item, a row with its modality and content_hash, under the first encoder of its kind."""
    table = next(plan.table for plan in done.encoded if plan.modality == item["modality"])
    vectors, found = store.vectors(table, [item["content_hash"]])
    assert found.all()
    return np.asarray(vectors[0])


def contents(store: Store, table: str, *, without: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """All rows of a table as sorted tuples, vectors as bytes; [] if it is not there."""
    if not store.exists(table):
        return []
    names = [field.name for field in store.open(table).schema if field.name not in without]
    return sorted(tuple(str(row[name]) for name in names) for row in store.read(table, names).to_pylist())
