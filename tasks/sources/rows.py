"""One metadata record (a dict) → a row: the same rules for folders, tables and frames."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from tasks.media.registry import modality_of
from tasks.media.text import clean_line
from tasks.sources.item import BadRow, Columns, MediaRef, Question, Row, Scalar, SourceError, TextRef, digest
from tasks.sources.paths import canonical, inside

SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""Names of splits, as folders or values, and what they are called here."""

REMARK = "#"
"""A column whose name begins so is for people: no reader takes it for data."""

_MISSING = (None, "")
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_media_column(name: str, *, table: bool = False) -> bool:
    """Whether a column holds paths: `file_name`, `*_file_name`, `file_names`; in a table also `path`, `*_path`.

    >>> is_media_column("audio_file_name"), is_media_column("path"), is_media_column("path", table=True)
    (True, False, True)
    """
    if name in ("file_name", "file_names") or name.endswith(("_file_name", "_file_names")):
        return True
    return table and (name in ("path", "paths") or name.endswith("_path"))


def check_columns(names: Iterable[str], columns: Columns, where: str, *, table: bool = False) -> None:
    """Raise `SourceError` when a column that the user named is not there, or nothing could be read at all."""
    there = set(names)
    lost = sorted(columns.required - there)
    if lost:
        raise SourceError(
            f"{where} has no column {', '.join(map(repr, lost))}; its columns are {', '.join(sorted(there))}"
        )
    if not any(is_media_column(name, table=table) or name in columns.texts for name in there):
        raise SourceError(
            f"{where} has neither media nor texts: its columns are {', '.join(sorted(there)) or 'none'}; "
            "name media in file_name and texts in text, caption or captions, or set columns.texts"
        )


def to_row(
    record: dict[str, Any],
    *,
    locator: str,
    base: str,
    columns: Columns,
    split: str | None,
    spell: Callable[[str], str],
    table: bool = False,
) -> Row | BadRow:
    """Read one record. `base` is the metadata's folder, `spell` turns a path into the disk's own spelling."""
    found = _cells(record, locator, base, columns, spell, table=table)
    if isinstance(found, BadRow):
        return found
    media, texts, attributes = found
    asked = _asked(record, locator, columns)
    if isinstance(asked, BadRow):
        return asked
    if asked is not None and not media:
        return BadRow(locator, "question_no_medium", "the row asks a question, but names no medium to ask it about")
    declared = attributes.pop(columns.split, None) if columns.split else None
    group = attributes.pop(columns.group, None) if columns.group else None
    name_of = attributes.pop(columns.id, None) if columns.id else None
    if not media and not texts:
        return BadRow(locator, "row_no_content", "the row names neither a medium nor a text")
    if name_of is not None:
        row_key = f"{base}#{name_of}" if base else str(name_of)
    else:
        row_key = media[0].path if media else "text-" + digest(*(text.text for text in texts))
    return Row(
        row_key,
        locator,
        tuple(dict.fromkeys(media)),
        tuple(texts),
        _split(declared) if declared is not None else split,
        None if group is None else str(group),
        attributes,
        asked,
    )


def _cells(
    record: dict[str, Any], locator: str, base: str, columns: Columns, spell: Callable[[str], str], *, table: bool
) -> tuple[list[MediaRef], list[TextRef], dict[str, Scalar]] | BadRow:
    """The media, texts and attributes of a record, by the names of its columns."""
    media: list[MediaRef] = []
    texts: list[TextRef] = []
    attributes: dict[str, Scalar] = {}
    asking = _asking(record, columns)
    for name, value in record.items():
        if _absent(value) or name.startswith(REMARK):
            continue
        if any(isinstance(one, str) and _SURROGATE.search(one) for one in _listed(value)):
            return BadRow(locator, "row_not_utf8", f"{name} holds half a character (a lone surrogate)")
        if is_media_column(name, table=table):
            for path in _listed(value):
                ref = _medium(path, base, spell)
                if isinstance(ref, tuple):
                    return BadRow(locator, *ref)
                media.append(ref)
        elif name in columns.texts:
            for text in _listed(value):
                if not isinstance(text, str):
                    return BadRow(locator, "row_bad_type", f"{name} holds {type(text).__name__}, not a text")
                texts.append(TextRef(name, text))
        elif name not in asking and isinstance(value, str | int | float | bool):
            attributes[name] = value
    return media, texts, attributes


def _asking(record: dict[str, Any], columns: Columns) -> tuple[str, ...]:
    """The columns of a record that ask and answer a question, if it does; one alone of the two is as any other."""
    if columns.question is None or columns.answer is None or {columns.question, columns.answer} & {*columns.texts}:
        return ()
    if any(_absent(record.get(name)) or record[name] == [] for name in (columns.question, columns.answer)):
        return ()
    typed = columns.answer_type is not None and not _absent(record.get(columns.answer_type))
    return (columns.question, columns.answer, *([str(columns.answer_type)] if typed else []))


def _asked(record: dict[str, Any], locator: str, columns: Columns) -> Question | BadRow | None:
    """The question of a record with its answers: texts, numbers, yes or no, or objects that hold one as `answer`."""
    names = _asking(record, columns)
    if not names:
        return None
    said = [one.get("answer") if isinstance(one, dict) else one for one in _listed(record[names[1]])]
    said = [one for one in said if not _absent(one)]
    question, *answers = words = [_said(one) for one in (record[names[0]], *said)]
    if question is None or None in answers:
        odd = record[names[0]] if question is None else said[answers.index(None)]
        return BadRow(locator, "row_bad_type", f"a question or an answer is a text, not {type(odd).__name__}")
    if any(_SURROGATE.search(one) for one in words if one):
        return BadRow(locator, "row_not_utf8", "an answer holds half a character (a lone surrogate)")
    kept = [clean for one in answers if one and (clean := clean_line(one))]
    if not clean_line(question) or not kept:
        return BadRow(locator, "text_empty", "the question or its answer holds no visible character")
    return Question(question, tuple(kept), str(record[names[2]]) if len(names) > 2 else None)


def _said(value: Any) -> str | None:
    """An answer in words; None for what is none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, int | float) else None


def _split(value: Scalar) -> str:
    text = str(value).strip().lower()
    return SPLITS.get(text, text)


def _absent(value: Any) -> bool:
    return (not isinstance(value, list | tuple) and value in _MISSING) or (
        isinstance(value, float) and math.isnan(value)
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _medium(path: Any, base: str, spell: Callable[[str], str]) -> MediaRef | tuple[str, str]:
    if not isinstance(path, str):
        return "row_bad_type", f"a path is a text, not {type(path).__name__}"
    relative = inside(base, path)
    if relative is None:
        return "path_outside", f"{path!r} leaves the collection"
    modality = modality_of(relative)
    if modality is None:
        return "media_unknown", f"{path!r} has a suffix that no medium bears"
    return MediaRef(canonical(relative), spell(relative), modality)
