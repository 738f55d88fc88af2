"""The real command line in processes of its own, on the tests' Prefect server: started, stopped, killed, heard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from config.params import PipelineParams


def environment() -> dict[str, str]:
    """The tests' own server, so that a killed process leaves none behind."""
    from prefect.settings import get_current_settings

    return os.environ | {"PREFECT_API_URL": str(get_current_settings().api.url)}


def sets(params: PipelineParams) -> list[str]:
    """All params that were given, as --set options."""
    out = []
    for area, values in params.model_dump(mode="json", exclude_unset=True, exclude={"source", "collection"}).items():
        out += [f"{area}.{name}={json.dumps(value)}" for name, value in values.items()]
    return [word for option in out for word in ("--set", option)]


class Command:
    """`modalign` with these words, in a process of its own; what it says on standard error is kept."""

    def __init__(self, *words: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "flows", *words],
            env=environment() | dict(env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self.printed: list[str] = []
        ends = ((self.process.stderr, self.said), (self.process.stdout, self.printed))
        self._readers = [threading.Thread(target=into.extend, args=(end,)) for end, into in ends]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self.process.pid

    def wait_for(self, what: str | Callable[[], bool], seconds: float = 120) -> None:
        """Until it has said a text, or until something is so."""
        limit = time.monotonic() + seconds
        while not (any(what in line for line in self.said) if isinstance(what, str) else what()):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said[-5:]}"
            assert time.monotonic() < limit, f"it has not said {what!r}: {self.said[-5:]}"
            time.sleep(0.02)

    def end(self, seconds: float = 240) -> int:
        """Wait for its end; its exit code."""
        self.process.wait(seconds)
        for reader in self._readers:
            reader.join()
        return int(self.process.returncode)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.end()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def modalign(*words: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Command:
    """Run a command to its end."""
    with Command(*words, env=env, prefix=prefix) as command:
        command.end()
        return command


def reason(command: Command) -> str:
    """The one line that tells a person why it failed."""
    lines = [line.strip() for line in command.said if line.startswith("modalign: ")]
    assert len(lines) == 1, command.said[-10:]
    return lines[0]


def here(root: Path) -> list[str]:
    """The option that names a workspace."""
    return ["--workspace", str(root)]
