"""What a person sees of a run at work in Prefect's UI: how far it is, and tags by which it is found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from tasks.progress import also_on

_EVERY = 2.0  # seconds between two updates at least: each costs some 30 ms


class Ticker:
    """A progress artifact of the running stage. A server that does not answer costs the display, never the run."""

    def __init__(self, artifact: UUID) -> None:
        self._artifact = artifact
        self._due = time.monotonic() + _EVERY
        self._label, self._total, self._done, self._began = "", 0, 0, 0.0
        self._shown = False

    def start(self, label: str, total: int) -> None:
        """A stage begins."""
        self._label, self._total, self._done, self._began = label, total, 0, time.monotonic()
        self._tick()

    def advance(self, done: int) -> None:
        """Units of it are finished."""
        self._done += done
        self._tick()

    def stop(self) -> None:
        """It has ended: what is shown of it does not stay half done."""
        if self._shown:
            self.show(100.0, f"{self._label}: {self._done:,} done")
            self._shown = False

    def show(self, percent: float, text: str) -> None:
        """Write to the artifact."""
        with suppress(httpx.HTTPError):
            update_progress_artifact(self._artifact, percent, text)

    def _tick(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _EVERY
        self._shown = True
        share = min(1.0, self._done / self._total) if self._total else 0.0
        of = f" of {self._total:,}" if self._total else ""
        rate = self._done / max(now - self._began, 1e-9)
        self.show(round(100 * share, 1), f"{self._label}: {self._done:,}{of}, {rate:,.0f} a second")


@contextmanager
def live(what: str) -> Iterator[None]:
    """Show the stages inside the block in a progress artifact of this flow run; a flow inside a flow shares it."""
    if _shown:
        yield
        return
    start = time.monotonic()
    ticker = Ticker(cast("UUID", create_progress_artifact(0.0, f"progress-{what}", "begins")))
    _shown.append(ticker)
    try:
        with also_on(ticker):
            yield
        ticker.show(100.0, f"done in {time.monotonic() - start:,.1f} s")
    finally:
        _shown.remove(ticker)


_shown: list[Ticker] = []


def tag_run(*names: str) -> None:
    """Add tags to this flow run: those of its deployment do not know what it works on."""
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.id)), tags=sorted({*flow_run.tags, *names}))
