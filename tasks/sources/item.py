"""Rows as readers give them, and the identities of items, pairs and contents. Pure."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

BUCKETS = 4096
"""Number of content buckets: the first three hex digits of a digest."""

Scalar = str | int | float | bool | None


class SourceError(ValueError):
    """A collection that cannot be read as a whole: one line that names the thing, the cause and the mend."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns mean what. Columns in `required` were named by the user and must exist."""

    texts: tuple[str, ...] = ("text", "caption", "captions")
    group: str | None = "group"
    split: str | None = "split"
    id: str | None = "id"
    lexical: tuple[str, ...] = ()
    question: str | None = "question"
    answer: str | None = "answer"
    answer_type: str | None = "answer_type"
    required: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MediaRef:
    """A medium of a row: `path` (NFC, posix, relative to the root) names it, `file` is that path as the disk has it."""

    path: str
    file: str
    modality: str


@dataclass(frozen=True, slots=True)
class TextRef:
    """A text of a row and the column it stands in."""

    column: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the media of a row, what one or more people answered, and its type where the data says it."""

    text: str
    answers: tuple[str, ...]
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a collection: media and texts that belong together. `locator` is for messages (file:line)."""

    row_key: str
    locator: str
    media: tuple[MediaRef, ...] = ()
    texts: tuple[TextRef, ...] = ()
    split: str | None = None
    group: str | None = None
    attributes: dict[str, Scalar] = field(default_factory=dict)
    asked: Question | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why; it alone is lost."""

    locator: str
    code: str
    message: str


class Source(Protocol):
    """A readable collection. `notes` says what a person should know once `rows` has been read."""

    name: str
    uri: str
    root: Path
    lexical: tuple[str, ...]
    notes: list[str]

    def rows(self) -> Iterator[Row | BadRow]:
        """The rows, streamed in the order of the source."""


def digest(*parts: str | bytes) -> str:
    """blake2b of the parts, 32 hex digits; each part carries its length, so ("ab", "c") is not ("a", "bc").

    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


def bucket_of(key: str) -> int:
    """The content bucket of a digest, 0 ≤ bucket < `BUCKETS`.

    >>> bucket_of("fff0")
    4095
    """
    return int(key[:3], 16)


def content_hash(data: bytes) -> str:
    """Identity of a content: blake2b of its bytes, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def media_key(collection: str, modality: str, path: str) -> str:
    """Key of a media item: it stays when the content of the file changes."""
    return digest("media", collection, modality, unicodedata.normalize("NFC", path))


def text_key(collection: str, row_key: str, column: str, text_hash: str, occurrence: int) -> str:
    """Key of a text item; the `occurrence` tells equal texts of one row and column apart."""
    return digest("text", collection, row_key, column, text_hash, str(occurrence))


def pair_key(left: str, right: str, source: str) -> str:
    """Key of a pair."""
    return digest("pair", left, right, source)


def answer_key(item: str, question: str, answer_type: str | None, annotators: Iterable[str]) -> str:
    """Key of an answered question about a media item: rows that say the same are one."""
    return digest("answer", item, question, answer_type or "", *annotators)
