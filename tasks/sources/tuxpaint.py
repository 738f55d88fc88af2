"""The demo of three modalities: Tux Paint's stamps, pictures with a sentence and some with a sound."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.sources.item import BadRow, MediaRef, Row, Scalar, SourceError, TextRef

PACKAGE = "tuxpaint-stamps-default"
"""The Debian package that holds them, …"""
INSIDE = "usr/share/tuxpaint/stamps"
"""… there."""
MEGABYTES = 161
"""Its size, about."""
LICENCE = "pictures, sentences and sounds: Tux Paint stamps, GPL-2; the text of their copyright lies beside them"

_PICTURES = (".png", ".svg")  # the order of preference: a few stamps come as both
_SOUNDS = (".ogg", ".wav")
_READ_ALOUD = ("symbols/alphabets/", "symbols/math/")
_CHINESE = "zh_CN.utf8="


class TuxPaintSource:
    """The stamps below `root`, one row a sentence: its pictures, their sounds, and the sentence in English.

    Stamps with one sentence are one row, so that each of its pictures and sounds is right for it. A stamp's sound is
    what the thing sounds like; descriptions that are read aloud are left out, and so are the letters and numbers, which
    speak their own name. A picture without a sentence (the mirrored ones) is left out as well. The Chinese sentence is
    an attribute for full-text search; the theme is the folder.
    """

    name = "tuxpaint"
    uri = "demo:tuxpaint"
    lexical: tuple[str, ...] = ("name_zh",)

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise SourceError(
                f"the Tux Paint stamps are not in {root}; fetch them with: modalign demo --collection tuxpaint"
            )
        self.root = root.resolve()
        self.notes = [LICENCE]

    def rows(self) -> Iterator[Row | BadRow]:
        """One row a sentence, in the order of the first stamp that bears it."""
        stamps: dict[str, list[str]] = {}
        chinese: dict[str, str] = {}
        for stamp in self._stamps():
            try:
                lines = (self.root / f"{stamp}.txt").read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                yield BadRow(stamp, "row_not_utf8", f"its sentence cannot be read ({error})")
                continue
            sentence = " ".join(lines[0].split()) if lines else ""
            if not sentence:
                yield BadRow(stamp, "row_no_content", "its sentence is empty")
                continue
            stamps.setdefault(sentence, []).append(stamp)
            for line in lines:
                if line.startswith(_CHINESE):
                    chinese.setdefault(sentence, line.removeprefix(_CHINESE).strip())
        for sentence, own in stamps.items():
            media = [ref for stamp in own for ref in self._media(stamp)]
            attributes: dict[str, Scalar] = {"theme": own[0].partition("/")[0]}
            if chinese.get(sentence):
                attributes["name_zh"] = chinese[sentence]
            yield Row(own[0], own[0], tuple(media), (TextRef("caption", sentence),), None, sentence, attributes)

    def _stamps(self) -> Iterator[str]:
        """The stamps with a picture and a sentence, as paths without a suffix."""
        for folder, below, files in os.walk(self.root):
            below.sort()
            place = Path(folder).relative_to(self.root)
            stems = {re.sub(r"\.\w+$", "", file) for file in files if file.endswith(_PICTURES)}
            for stem in sorted(stems):
                if f"{stem}.txt" in files:
                    yield (place / stem).as_posix()

    def _media(self, stamp: str) -> Iterator[MediaRef]:
        """Its picture, and its sound if it has one that is no speech."""
        kinds = [("image", _PICTURES)]
        if not stamp.startswith(_READ_ALOUD):
            kinds.append(("audio", _SOUNDS))
        for modality, suffixes in kinds:
            file = next((stamp + end for end in suffixes if (self.root / (stamp + end)).is_file()), None)
            if file is not None:
                yield MediaRef(file, file, modality)
