"""A real process killed in a chosen stage, the Prefect server it talks to, and the searches that go on meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BEGUN = re.compile(r"Executing task '(.+?)' for task run")
_SHARDED = ("preprocess", "encode")
_ENDED = re.compile(r"Task run '.*' - Finished in state")


@dataclass(frozen=True)
class Killed:
    """Where a kill hit: the last task begun, and whether it was still at work."""

    command: str
    task: str
    inside: bool
    number: int


class Server:
    """A local Prefect server for all commands of the block, named in the environment."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> Server:
        os.environ["PREFECT_HOME"] = str(self._home)  # before Prefect is imported
        os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
        from prefect.server.api.server import SubprocessASGIServer

        self._server = SubprocessASGIServer()
        self._server.start(timeout=120)
        os.environ["PREFECT_API_URL"] = self._server.api_url
        return self

    def check(self) -> None:
        """Raise `RuntimeError` if it has ended: what follows would measure something else."""
        process = self._server.server_process
        if process is None or process.poll() is not None:
            raise RuntimeError("the Prefect server has ended")

    def __exit__(self, *_: object) -> None:
        self._server.stop()


def environment() -> dict[str, str]:
    """That of the commands: they look nothing up elsewhere."""
    return os.environ | {"HF_HUB_OFFLINE": "1"}


def kill_during(words: Sequence[str], task: str, number: int, delay: float) -> Killed | None:
    """Start a command, and kill it `delay` seconds after its `number`-th task `task` began; None if it ended before.

    A stage may have fewer shards than that: then the kill falls into the task after them.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", *words],
        env=environment() | {"PREFECT_LOGGING_LEVEL": "DEBUG"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen: list[str] = []
    inside = False
    wanted = threading.Event()

    def read() -> None:
        nonlocal inside
        assert process.stderr is not None
        for line in process.stderr:
            if begun := _BEGUN.search(line):
                seen.append(begun[1])
                inside = True
                over = task in _SHARDED and task in seen and begun[1] != task
                if over or seen.count(task) >= number:
                    wanted.set()
            elif _ENDED.search(line):
                inside = False
        wanted.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wanted.wait(1_200)
        time.sleep(delay)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        reader.join()
    if process.returncode != -signal.SIGKILL:
        return None
    return Killed(words[0], seen[-1], inside, seen.count(seen[-1]))


def ask(workspace: Path, picture: Path, answers: Any, turn: Any, stop: Any, said: Any) -> None:
    """Search until told to stop: by words, by a vector of words and by a picture; count answers, tell errors.

    One searcher is held open until `turn` changes, and must give the same hits all the while; another one is opened
    anew each time, on a new connection.
    """
    from storage import workspace as connections
    from storage.workspace import Workspace
    from tasks.search import Query, Searcher

    questions = {
        "words": lambda one: one.search(Query(text="a red circle"), mode="text", k=5),
        "vector": lambda one: one.search(Query(text="a red circle"), target="image", mode="vector", k=5),
        "picture": lambda one: one.search(Query(file=picture), k=5),
    }
    held: Any = None
    first: dict[str, list[str]] = {}
    since, parent = -1, os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        for kind in ("held", "anew"):
            for name, question in questions.items():
                try:
                    if kind == "anew":
                        connections._store.cache_clear()
                        found = question(Searcher(Workspace(root=workspace), "shapes"))
                    else:
                        if since != turn.value:
                            since, first = turn.value, {}
                            held = Searcher(Workspace(root=workspace), "shapes")
                        found = question(held)
                    assert len(found.hits) == 5, f"{len(found.hits)} hits"
                    if name == "words":  # which of equal ranks come first is open
                        assert all("red circle" in hit.text.lower() for hit in found.hits), found.hits
                    elif kind == "held":
                        keys = [(hit.key, hit.score) for hit in found.hits]
                        assert first.setdefault(name, keys) == keys, "a searcher that is held open changed its answer"
                except Exception:  # noqa: BLE001 - whatever it is, a search failed
                    said.put(f"{kind} {name}: {traceback.format_exc()[-1_500:]}")
                else:
                    answers[kind].value += 1
        stop.wait(0.3)
