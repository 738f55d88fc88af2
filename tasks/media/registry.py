"""Media by name: which suffixes they bear, how their bytes are checked and decoded. One file and one entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any


class MediaError(Exception):
    """A medium that cannot be used: `code` is the reason in quarantine, `message` says it in words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one medium: a file beyond them is refused, by its header where that tells, and a text is cut."""

    max_pixels: int = 89_000_000
    max_bytes: int = 256_000_000
    max_chars: int = 2_000
    max_seconds: float = 43_200.0


@dataclass(frozen=True, slots=True)
class Medium:
    """One medium.

    `module` holds `inspect(data, limits)`, a cheap check of the header, and `decode(data, limits)`, the content that
    encoders take; both raise `MediaError`. `version` rises when decoding changes, and is part of every fingerprint.
    `batch` contents are read together: enough to keep the encoder busy, few enough to hold. `tracks` are other media
    that its files may hold as well: their modules decode the same bytes, or say <name>_no_stream.
    """

    name: str
    suffixes: frozenset[str]
    version: int
    batch: int
    module: str
    tracks: tuple[str, ...] = ()

    def inspect(self, data: bytes, limits: Limits) -> None:
        """Check the header of `data`, without decoding."""
        self._function("inspect")(data, limits)

    def decode(self, data: bytes, limits: Limits) -> Any:
        """The content of `data`."""
        return self._function("decode")(data, limits)

    def _function(self, name: str) -> Callable[[bytes, Limits], Any]:
        function: Callable[[bytes, Limits], Any] = getattr(import_module(self.module), name)
        return function


_IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".ppm", ".pgm", ".avif"}
)
_AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".caf", ".amr", ".wma"}
)
_VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv", ".3gp", ".m2ts"}
)

MEDIA: dict[str, Medium] = {
    medium.name: medium
    for medium in (
        Medium("text", frozenset({".txt"}), 1, 4_096, "tasks.media.text"),
        Medium("image", _IMAGE_SUFFIXES, 2, 128, "tasks.media.image"),
        Medium("audio", _AUDIO_SUFFIXES, 1, 8, "tasks.media.audio"),
        Medium("video", _VIDEO_SUFFIXES, 1, 4, "tasks.media.video", tracks=("audio",)),
    )
}


def get(name: str) -> Medium:
    """The medium `name`; raises `ValueError` naming the known ones.

    >>> get("image").version
    2
    """
    try:
        return MEDIA[name]
    except KeyError:
        raise ValueError(f"there is no medium {name!r}; known: {', '.join(MEDIA)}") from None


def modality_of(path: str) -> str | None:
    """The modality a file's suffix stands for, None for an unknown one.

    >>> modality_of("a/B.JPG"), modality_of("notes.md")
    ('image', None)
    """
    suffix = PurePosixPath(path).suffix.lower()
    return next((medium.name for medium in MEDIA.values() if suffix in medium.suffixes), None)
