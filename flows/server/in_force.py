"""The space in force, followed while the server runs: a new one is opened beside the old one, then takes its place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from config.errors import ModalignError, UserError
from storage.errors import StorageError
from storage.spaces import published
from storage.workspace import Workspace
from tasks.answer import Answerer
from tasks.caption import Captioner

logger = logging.getLogger(__name__)

SECONDS = 1.0
"""From one look at what is published to the next."""


@dataclass(frozen=True)
class Opened:
    """A published state and what reads it; a request uses one from beginning to end."""

    name: str
    space_id: str
    manifest: dict[str, Any]
    searcher: Captioner
    workspace: Workspace
    device: str

    @property
    def rows(self) -> int:
        """Items in the space."""
        return int(self.manifest["index"]["index"]["rows"])

    @cached_property
    def answerer(self) -> Answerer:
        """Answers questions by this very space."""
        return Answerer(self.workspace, self.name, device=self.device, searcher=self.searcher)


class InForce:
    """Holds what is open. `warm` is called with a new one before it answers, `told` when it does."""

    def __init__(
        self,
        workspace: Workspace,
        name: str | None,
        device: str,
        *,
        warm: Callable[[Opened], None] = lambda _: None,
        told: Callable[[Opened], None] = lambda _: None,
    ) -> None:
        self._workspace, self._device = workspace, device
        self._warm, self._told = warm, told
        self._stop = threading.Event()
        self.trouble = ""
        try:
            self._open = self._opened(name)
        except StorageError as error:
            raise UserError(error.message, error.mend) from None
        self._watcher: threading.Thread | None = None

    def now(self) -> Opened:
        """The state in force: take it once a request."""
        return self._open

    def look(self) -> bool:
        """Open what is published if it is another state; whether it was. What cannot be opened leaves the old one."""
        try:
            _, manifest = published(self._workspace.store, self._open.name)
            if manifest == self._open.manifest:
                self.trouble = ""
                return False
            self._open = self._opened(self._open.name)
        except (ModalignError, StorageError, OSError) as error:
            if str(error) != self.trouble:
                logger.warning("the old space goes on answering: %s", error)
            self.trouble = str(error)
            return False
        self.trouble = ""
        logger.info("space %s (%s) answers from now on", self._open.name, self._open.space_id)
        return True

    def start(self) -> None:
        """Look every second from now on, in a thread of its own."""
        self._stop.clear()
        self._watcher = threading.Thread(target=self._watch, name="space in force", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS):
            try:
                self.look()
            except Exception:  # the old space is better than none
                logger.exception("looking for a promotion failed")

    def _opened(self, name: str | None) -> Opened:
        while True:
            found, manifest = published(self._workspace.store, name)
            searcher = Captioner(self._workspace, found, device=self._device)
            if published(self._workspace.store, found)[1] == manifest:  # else something was published meanwhile
                break
        opened = Opened(found, searcher.space_id, manifest, searcher, self._workspace, self._device)
        self._warm(opened)
        self._told(opened)
        return opened
