"""Fetch what a demo needs from a Debian package, once, into the workspace."""

from __future__ import annotations

from pathlib import Path

from config.errors import UserError
from storage.workspace import Workspace
from tasks.progress import progress
from tasks.sources.debian import fetch_package
from tasks.sources.item import SourceError
from tasks.sources.tuxpaint import INSIDE, MEGABYTES, PACKAGE


def fetch_stamps(workspace: Workspace) -> Path:
    """The folder of Tux Paint's stamps; what cannot be fetched is told in one line."""
    folder = workspace.packages / PACKAGE
    if folder.is_dir():
        return folder
    try:
        with progress(f"fetch {PACKAGE}, MB", MEGABYTES) as advance:
            return fetch_package(PACKAGE, INSIDE, folder, advance=advance)
    except SourceError as error:
        raise UserError(str(error)) from None
