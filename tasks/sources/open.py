"""Open a source by what the user wrote: a folder, a table, a frame's name, or a demo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.sources.item import Columns, Source, SourceError

if TYPE_CHECKING:
    import pandas as pd

_frames: dict[str, tuple[pd.DataFrame, Path]] = {}


def register_frame(frame: pd.DataFrame, name: str, root: Path | str = ".") -> str:
    """Make a pandas frame readable as a source in this process; give the source's name, `frame:<name>`."""
    _frames[name] = (frame, Path(root))
    return f"frame:{name}"


def open_source(uri: str, columns: Columns, packages: Path | None = None) -> Source:
    """The source behind `uri`; fetched packages lie in `packages`.

    Raises `SourceError` when there is none, or when it cannot be read as a whole.
    """
    if uri == "demo:openmoji":
        from tasks.sources.demo import DemoSource

        return DemoSource()
    if uri == "demo:tuxpaint":
        from tasks.sources.tuxpaint import PACKAGE, TuxPaintSource

        return TuxPaintSource((packages or Path()) / PACKAGE)
    if uri.startswith("demo:"):
        raise SourceError(f"there is no demo {uri!r}; there are demo:openmoji and demo:tuxpaint")
    if uri.startswith("frame:"):
        return _open_frame(uri.removeprefix("frame:"), columns)
    path = Path(uri).expanduser()
    if path.is_dir():
        from tasks.sources.folder import FolderSource

        return FolderSource(path, columns)
    if path.is_file():
        from tasks.sources.table import TableSource

        return TableSource(path, columns)
    raise SourceError(f"{uri} does not exist; give a folder, a table (CSV, Parquet, JSON lines) or a demo")


def _open_frame(name: str, columns: Columns) -> Source:
    from tasks.sources.table import FrameSource

    if name not in _frames:
        raise SourceError(f"no frame {name!r} is registered in this process; call register_frame first")
    frame, root = _frames[name]
    return FrameSource(frame, columns, name=name, root=root)


def collection_name(text: str) -> str:
    """A name that tables and folders can bear: letters, digits, `-`, `_`, `.`, at most 80 characters, 200 bytes.

    >>> collection_name("My photos (2024)")
    'My-photos-2024'
    """
    name = re.sub(r"[^\w.-]+", "-", text, flags=re.UNICODE).strip("-.")[:80]
    return name.encode()[:200].decode(errors="ignore") or "collection"
