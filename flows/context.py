"""What every flow body needs first: the settings, their workspace, and the right to write there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from config.errors import UserError
from config.settings import Settings
from flows.runners import check_runner
from flows.summaries import usage_line
from flows.work import working
from storage.errors import StorageError
from storage.lock import writing
from storage.remote import claim
from storage.runs import noted
from storage.spaces import published
from storage.workspace import Workspace
from tasks.refs import Aligned

R = TypeVar("R")


def here() -> tuple[Settings, Workspace]:
    """Settings from the environment and modalign.toml, and the workspace they name."""
    settings = Settings()
    check_runner(settings)
    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the workspace {workspace.root} cannot be made ({error.strerror})", "choose another") from None
    return settings, workspace


@contextmanager
def at_work(what: str) -> Iterator[tuple[Settings, Workspace]]:
    """As `here`, inside a flow, as the one writer of the workspace; another one is waited for.

    A flow inside a flow shares its right.
    """
    settings, workspace = here()
    logger = get_run_logger()

    run_id = str(flow_run.id)
    with noted(workspace.root, run_id, what), working(settings, run_id, what) as work:

        def waiting(owner: str) -> None:
            work.waiting = owner
            logger.info("the workspace is being written by %s: waiting up to %.0f s", owner, settings.wait)

        with writing(workspace.root, what, wait=settings.wait, waiting=waiting) as waited:
            work.waiting = ""
            if waited > 1:
                logger.info("waited %.1f s for the other writer", waited)
            claim(workspace.store, workspace.root)
            yield settings, workspace
        logger.info("%s", usage_line(work.usage()))


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
