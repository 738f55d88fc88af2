"""`modalign ingest`, with every second of it told: what each task's body took, and what Prefect took around them.

`… OUT MODELS` runs the command in this process with clocks around the tasks' functions; MODELS, a folder of converted
models or an empty one, becomes the workspace's.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import psutil

from tests.benchmarks.opponents.work import COLD, Work

ENCODERS = {"image": ["builtin:efficientnet-lite0"], "text": ["builtin:minilm"]}


@dataclass
class Clock:
    """Seconds in the bodies of tasks, by the tasks' names, those in which they told Prefect of their progress, and when
    the last one ended.
    """

    bodies: dict[str, float] = field(default_factory=dict)
    last: float = 0.0
    shown: float = 0.0

    def around(self, task: Any, name: str) -> None:
        """Time a task's function from now on, under `name`; that of a shard without one under its modality."""
        body: Callable[..., Any] = task.fn

        @functools.wraps(body)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start, shown = time.time(), self.shown
            try:
                return body(*args, **kwargs)
            finally:
                self.last = time.time()
                start += self.shown - shown
                part = name or f"{signature(body).bind(*args, **kwargs).arguments['sources'][0].modality}s"
                self.bodies[part] = self.bodies.get(part, 0.0) + self.last - start

        task.fn = timed

    def around_progress(self, ticker: Any) -> None:
        """Time what a task tells of its progress: that is Prefect's, not the task's."""
        show = ticker.show

        def timed(*args: Any) -> None:
            start = time.time()
            show(*args)
            self.shown += time.time() - start

        ticker.show = timed


def main() -> None:
    """From files to searchable tables."""
    work = Work.given()
    root, copying = work.out / "workspace", time.time()
    if work.models.is_dir():
        shutil.copytree(work.models, root / "models")
    began = psutil.Process().create_time() + time.time() - copying  # as if the models had lain there
    from flows.cli import main as command
    from flows.live import Ticker
    from tasks import encode, preprocess

    clock = Clock()
    for task, name in (
        (preprocess.scan_source, "scan"),
        (preprocess.preprocess_shard, "preprocess"),
        (preprocess.group_items, "group"),
        (preprocess.check_failures, "check"),
        (encode.plan_encoding, "plan"),
        (encode.encode_shard, ""),
    ):
        clock.around(task, name)
    clock.around_progress(Ticker)
    flow = _timed_flow()
    said = io.StringIO()
    words = ["ingest", str(work.collection), "-w", str(root), "--set", f"encode.encoders={json.dumps(ENCODERS)}"]
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        command([*words, "--json"])
    told = json.loads(said.getvalue())["ingest"]
    ended = time.time()
    bodies = sum(clock.bodies.values())
    work.parts = {
        "imports": flow["called"] - began,
        COLD: flow["began"] - flow["called"],
        **clock.bodies,
        "Prefect between": clock.last - flow["began"] - bodies,
        "Prefect after": ended - clock.last,
    }
    work.seconds = clock.last - began
    stages = [
        {
            **{name: stage[name] for name in ("modality", "encoded")},
            **{name: stage[f"{name}_seconds"] for name in ("read", "encode", "write", "wall")},
        }
        for stage in told["stages"]
    ]
    work.tell(*_vectors(work), stages=stages, whole=ended - began)


def _timed_flow() -> dict[str, float]:
    """When the flow is called, and when its body begins: between them Prefect starts its server and makes the run."""
    from flows import ingest as module

    seen: dict[str, float] = {}
    flow, at_work = module.ingest, module.at_work

    def entered(what: str) -> Any:
        seen.setdefault("began", time.time())
        return at_work(what)

    def called(*args: Any, **kwargs: Any) -> Any:
        seen.setdefault("called", time.time())
        return flow(*args, **kwargs)

    module.at_work, module.ingest = entered, called
    return seen


def _vectors(work: Work) -> tuple[Any, Any]:
    """The vectors of all photos and captions, in the order of the collection."""
    from storage import schemas
    from storage.filters import eq
    from storage.workspace import Workspace

    store = Workspace(root=work.out / "workspace").store
    out = []
    for modality, named, keys in (
        ("image", "uri", [row["file_name"] for row in work.rows]),
        ("text", "text", [" ".join(text.split()) for text in work.texts]),
    ):
        rows = store.read(schemas.ITEMS, [named, "content_hash"], eq("modality", modality))
        place = dict(zip(rows[named].to_pylist(), rows["content_hash"].to_pylist(), strict=True))
        (table,) = (name for name in store.names() if name.startswith(f"embeddings_{_slug(modality)}_"))
        vectors, found = store.vectors(table, [place[key] for key in keys])
        assert np.all(found), f"{int((~found).sum())} of {modality} have no vector"
        out.append(vectors)
    return out[0], out[1]


def _slug(modality: str) -> str:
    return ENCODERS[modality][0].removeprefix("builtin:")


if __name__ == "__main__":
    main()
