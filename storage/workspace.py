"""The workspace: one folder that holds tables, spaces, trained and converted encoders, results cache and reports."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, field_validator

if TYPE_CHECKING:
    from storage.tables import Store


class Workspace(BaseModel):
    """Where everything of a workspace lies; small and serialisable, so that it travels between tasks.

    `root` is made absolute, because a worker runs in another directory. `tables_uri` moves the tables elsewhere
    (object storage); by default they lie in `root/tables`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    tables_uri: str | None = None

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: Path) -> Path:
        return root.expanduser().absolute()

    @property
    def tables(self) -> str:
        """URI of the LanceDB database."""
        return self.tables_uri or str(self.root / "tables")

    @property
    def spaces(self) -> Path:
        """Folder of the fitted heads, one sub-folder a space."""
        return self.root / "spaces"

    @property
    def models(self) -> Path:
        """Folder of converted models."""
        return self.root / "models"

    @property
    def encoders(self) -> Path:
        """Folder of the encoders that were trained here, one sub-folder each."""
        return self.root / "encoders"

    @property
    def answers(self) -> Path:
        """Folder of what answers questions, one sub-folder a collection."""
        return self.root / "answers"

    @property
    def packages(self) -> Path:
        """Folder of the packages that were fetched for a demo."""
        return self.root / "packages"

    @property
    def results(self) -> Path:
        """Folder of Prefect's persisted results: the cache."""
        return self.root / "results"

    @property
    def reports(self) -> Path:
        """Folder of metrics and reports."""
        return self.root / "reports"

    def staging(self, collection: str) -> Path:
        """Folder of the last scan of `collection`."""
        return self.root / "staging" / collection

    @property
    def store(self) -> Store:
        """The tables; one connection a process and URI."""
        return _store(self.tables)


@lru_cache(maxsize=8)
def _store(uri: str) -> Store:
    from storage.tables import Store

    return Store(uri)
