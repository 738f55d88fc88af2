"""What all commands share: the app, the common options, settings and params from them, output for man or program."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

if TYPE_CHECKING:
    from config.params import PipelineParams
    from config.settings import Settings
    from storage.workspace import Workspace

_COMMON = Group("Common options", sort_key=9)

app = App(
    name="modalign",
    help="Bring frozen encoders of different modalities into one searchable joint space.",
    help_format="markdown",
    version_flags=["--version"],
    help_epilogue="Start with `modalign demo`, then `modalign run my-photos`.",
)


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True)
class Common:
    """Options that every command takes."""

    workspace: Annotated[Path | None, Parameter(alias="-w")] = None
    """Folder of tables, spaces, results cache and reports (default ./modalign-data)."""
    profile: str | None = None
    """Params by name (demo, tuxpaint, small, best, classic, strong) or a TOML file."""
    set: Annotated[list[str], Parameter(negative="")] = field(default_factory=list)
    """Override a param: --set align.method=ridge (repeatable)."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print the result as JSON on standard output, and nothing else there."""
    debug: Annotated[bool, Parameter(negative="")] = False
    """Show tracebacks."""


DEFAULT = Common()


def settings_of(common: Common) -> Settings:
    """Settings, with the workspace that the command names."""
    if common.workspace is not None:
        # the flows read their settings from the environment, as they do in a deployment
        os.environ["MODALIGN_WORKSPACE"] = str(common.workspace.expanduser().absolute())
    from config.settings import Settings

    return Settings()


@contextmanager
def swift() -> Iterator[None]:
    """No search for garbage meanwhile: while some thousand modules load it takes a tenth of the time, for nothing.

    Nor pandas, which Arrow would import.
    """
    from storage.importing import spare_pandas

    gc.disable()
    try:
        spare_pandas()
        yield
    finally:
        gc.enable()


def params_of(
    source: str | None,
    collection: str | None,
    common: Common,
    *,
    profile: str | None = None,
    refresh: bool = False,
) -> tuple[PipelineParams, Settings]:
    """Params of a run (--profile, else the command's own, else the settings'), and the settings."""
    from config.loading import load_profile

    settings = settings_of(common)
    name = common.profile or profile or settings.profile
    given = {"source": source, "collection": collection, "refresh_cache": refresh or None}
    return load_profile(name, common.set, **given), settings


def session(settings: Settings, common: Common) -> Any:
    """Results in the workspace, progress and log lines on the terminal."""
    from flows.environment import keep_results_in

    keep_results_in(settings.workspace / "results")
    from flows.terminal import terminal

    return terminal(debug=common.debug)


@contextmanager
def writer(common: Common, what: str) -> Iterator[tuple[Settings, Workspace]]:
    """The right to write to the workspace, for a command that needs no flow; another writer is waited for."""
    import sys

    settings = settings_of(common)
    from storage.lock import writing
    from storage.remote import claim
    from storage.workspace import Workspace

    def waiting(owner: str) -> None:
        print(f"waiting for {owner}, up to {settings.wait:.0f} s", file=sys.stderr)

    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    with writing(settings.workspace, what, wait=settings.wait, waiting=waiting):
        claim(workspace.store, workspace.root)
        yield settings, workspace


def names_in(text: str | None) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def print_json(value: Any) -> None:
    """The result for a program."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def say(common: Common, value: dict[str, Any], line: str) -> None:
    """A result as JSON, or in a line."""
    if common.json:
        print_json(value)
    else:
        print(line)
