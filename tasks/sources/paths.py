"""Paths from metadata: where they may point, and how a medium is read from there."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath

from tasks.media.registry import MediaError


def inside(base: str, path: str) -> str | None:
    """`path` of a metadata file in folder `base` as a posix path relative to the root; None if it leaves the root.

    >>> inside("train", "a/../b.jpg"), inside("train", "../../x.jpg"), inside("", "/etc/passwd")
    ('train/b.jpg', None, None)
    """
    text = path.replace("\\", "/")
    if not text.strip() or "\0" in text or text.startswith("/") or (len(text) > 1 and text[1] == ":"):
        return None
    parts: list[str] = []
    for part in PurePosixPath(base, text).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return "/".join(parts) or None


def canonical(path: str) -> str:
    """The name of a medium: NFC, whatever form the disk keeps."""
    return unicodedata.normalize("NFC", path)


def on_disk(root: Path, path: str) -> str:
    """`path` as the disk spells it: file systems keep NFC or NFD, metadata may hold the other."""
    for form in (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)):
        if os.path.lexists(root / form):
            return form
    return path


def locate(root: Path, file: str) -> Path:
    """The file of a medium, without links. Raises `MediaError`: file_missing, path_outside.

    A link is followed only if it ends inside `root`.
    """
    try:
        real = (root / file).resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError("file_missing", "there is no such file") from None
    except RuntimeError:
        raise MediaError("file_missing", "the link leads in a circle") from None
    if not real.is_relative_to(root.resolve()):
        raise MediaError("path_outside", "the link leads out of the collection")
    if not real.is_file():
        raise MediaError("file_missing", "this is not a file")
    return real


def read_media(root: Path, file: str, max_bytes: int) -> bytes:
    """The bytes of a medium, found as `locate` does. Raises `MediaError`: also file_empty, file_too_large.

    An `OSError` of the disk passes through: a retry may mend it.
    """
    real = locate(root, file)
    size = real.stat().st_size
    if size == 0:
        raise MediaError("file_empty", "the file holds no byte")
    if size > max_bytes:
        raise MediaError("file_too_large", f"{size:,} bytes are more than {max_bytes:,}")
    try:
        return real.read_bytes()
    except PermissionError:
        raise MediaError("file_unreadable", "the file may not be read") from None
