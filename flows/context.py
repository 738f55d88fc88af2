"""What every flow body needs first: the settings and their workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from config.errors import UserError
from config.settings import Settings
from storage.errors import StorageError
from storage.spaces import published
from storage.workspace import Workspace
from tasks.refs import Aligned

R = TypeVar("R")


def here() -> tuple[Settings, Workspace]:
    """Settings from the environment and modalign.toml, and the workspace they name."""
    settings = Settings()
    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the workspace {workspace.root} cannot be made ({error.strerror})", "choose another") from None
    return settings, workspace


def in_force(space: str | None) -> Aligned:
    """What is published under the name `space`, or the newest of all. Raises `UserError` when there is none."""
    _, workspace = here()
    try:
        return Aligned.model_validate(published(workspace.store, space)[1])
    except StorageError as error:
        raise UserError(error.message, error.mend) from None


def cached(task: Any, *args: Any, valid: Callable[[R], bool], refresh: bool = False, **kwargs: Any) -> R:
    """Run a cached task; a cached reference whose data is gone is computed anew."""
    if not refresh:
        found: R = task(*args, **kwargs)
        if valid(found):
            return found
    again: R = task.with_options(refresh_cache=True)(*args, **kwargs)
    return again


def folder_exists(path: str) -> bool:
    """Whether a space's heads still lie there."""
    return (Path(path) / "heads.safetensors").is_file()
