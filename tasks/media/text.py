"""Texts: one Unicode form, no control characters, single spaces, bounded length."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from tasks.media.registry import Limits, MediaError

_SPACE = re.compile(r"\s+")
# kana without its punctuation, unified ideographs with their extensions and compatibility forms, hangul
_CJK = re.compile(
    "[\u3040-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]+"
)
# joiners and variation selectors shape the characters beside them (emoji, Persian, Indic scripts): they stay
_SHAPING = frozenset("\u200c\u200d")


@dataclass(frozen=True, slots=True)
class CleanText:
    """A text as it is stored and encoded; `truncated` says that it was cut."""

    text: str
    truncated: bool


def clean_text(text: str, *, max_chars: int) -> CleanText:
    r"""Normalise to NFC, drop control characters, collapse white space, cut at `max_chars`.

    Raises `MediaError("text_empty")` when nothing is left.

    >>> clean_text("  cafe\u0301 \n au  lait ", max_chars=100)
    CleanText(text='café au lait', truncated=False)
    >>> clean_text("abcdef", max_chars=3)
    CleanText(text='abc', truncated=True)
    """
    clean = clean_line(text)
    if not clean:
        raise MediaError("text_empty", "the text holds no visible character")
    return CleanText(clean[:max_chars].rstrip(), len(clean) > max_chars)


def clean_line(text: str) -> str:
    r"""As `clean_text`, of any length; "" where no visible character is left.

    >>> clean_line(" two\n cats\x00 ")
    'two cats'
    """
    if text.isascii() and text.isprintable():  # as most are: there is only white space to look at
        return " ".join(text.split())
    kept = "".join(c if _visible(c) else " " if c.isspace() else "" for c in unicodedata.normalize("NFC", text))
    return _SPACE.sub(" ", kept).strip()


def _visible(character: str) -> bool:
    return unicodedata.category(character)[0] != "C" or character in _SHAPING


def cjk_runs(text: str) -> str:
    """The runs of Chinese, Japanese and Korean characters in `text`, joined by spaces.

    >>> cjk_runs("a 黑猫, b 白狗")
    '黑猫 白狗'
    """
    return " ".join(_CJK.findall(text))


def inspect(data: bytes, limits: Limits) -> None:
    """Check that a text file is UTF-8 and not empty."""
    decode(data, limits)


def decode(data: bytes, limits: Limits) -> str:
    """The clean text of a file's bytes; raises `MediaError` for other encodings and for nothing."""
    try:
        return clean_text(data.decode("utf-8-sig"), max_chars=limits.max_chars).text
    except UnicodeDecodeError as error:
        raise MediaError("text_not_utf8", f"byte {error.start} is not UTF-8") from None
