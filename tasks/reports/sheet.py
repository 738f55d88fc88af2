"""A contact sheet: a line of words, and the pictures found for it in a row beneath."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

Pixels = npt.NDArray[np.uint8]

_SIDE, _GAP, _FRAME, _LINE = 112, 8, 4, 26
_GREEN, _GREY, _DIM = (22, 140, 60), (225, 225, 225), (120, 120, 120)
_INK, _WHITE = (20, 20, 20), (255, 255, 255)
_COLOURS = 256  # of the palette: a third of the bytes of full colour, and none of them far off


@dataclass(frozen=True)
class Row:
    """A line of words, its pictures (height, width, 3) or None for one that cannot be shown, and which are framed."""

    words: str
    pictures: Sequence[Pixels | None]
    framed: Sequence[bool]


def contact_sheet(rows: Sequence[Row]) -> bytes:
    r"""The rows as a PNG; equal rows give equal bytes.

    >>> contact_sheet([Row("red", [np.zeros((4, 4, 3), np.uint8), None], [True, False])])[:4]
    b'\x89PNG'
    """
    columns = max((len(row.pictures) for row in rows), default=1)
    width, height = _GAP + columns * (_SIDE + _GAP), len(rows) * (_LINE + _SIDE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), _WHITE)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for number, row in enumerate(rows):
        top = _GAP + number * (_LINE + _SIDE + _GAP)
        pen.text((_GAP, top), _fitting(f"{number + 1}. {_drawable(row.words)}", font, width - 2 * _GAP), _INK, font)
        for place, (picture, framed) in enumerate(zip(row.pictures, row.framed, strict=True)):
            left, under = _GAP + place * (_SIDE + _GAP), top + _LINE
            if framed:
                box = (left - _FRAME, under - _FRAME, left + _SIDE + _FRAME - 1, under + _SIDE + _FRAME - 1)
                pen.rectangle(box, fill=_GREEN)
            pen.rectangle((left, under, left + _SIDE - 1, under + _SIDE - 1), fill=_GREY)
            if picture is None:
                pen.text((left + _GAP, under + _SIDE // 2 - 8), "not to be shown", _DIM, ImageFont.load_default(13))
            else:
                thumb = ImageOps.contain(Image.fromarray(picture), (_SIDE, _SIDE))
                sheet.paste(thumb, (left + (_SIDE - thumb.width) // 2, under + (_SIDE - thumb.height) // 2))
    out = io.BytesIO()
    sheet.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _drawable(words: str) -> str:
    """The words without what the packaged font has no letters for."""
    plain = words.encode("latin-1", "ignore").decode("latin-1").strip()
    return plain or "(in letters that the sheet has no font for)"


def _fitting(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "…") > width:
        words = words[:-1]
    return words.rstrip() + "…"
