from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.media.registry import MediaError
from tasks.media.text import clean_line, clean_text


@given(st.text())
def test_cleaning_is_idempotent(text: str) -> None:
    """A clean text stays as it is: NFC, no control character, no double space, within bounds."""
    try:
        once = clean_text(text, max_chars=50)
    except MediaError:
        return  # nothing visible: a test of its own
    assert clean_text(once.text, max_chars=50).text == once.text
    assert len(once.text) <= 50
    assert "  " not in once.text
    assert not any(unicodedata.category(c) == "Cc" for c in once.text)


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_ascii_goes_a_short_way_to_the_same_line(text: str) -> None:
    """A word beyond ASCII behind a line, which takes the long way, changes nothing before it."""
    assert clean_line(f"{text} \u00e9") == f"{clean_line(text)} \u00e9".strip()


def test_composed_and_decomposed_are_one() -> None:
    """The two Unicode spellings of a text have one clean form."""
    assert clean_text("cafe\u0301", max_chars=9) == clean_text("caf\u00e9", max_chars=9)


def test_nothing_visible_is_refused() -> None:
    """Spaces, line ends and control characters alone are no text."""
    for text in ("", "   ", "\n\t\u00a0", "\u0000\u0007", "\u200b"):
        with pytest.raises(MediaError, match="text_empty"):
            clean_text(text, max_chars=9)


def test_over_long_is_cut_and_marked() -> None:
    """A text beyond the bound is kept up to it and marked; one at the bound is whole."""
    cut = clean_text("a" * 100_000, max_chars=2_000)
    assert (len(cut.text), cut.truncated) == (2_000, True)
    assert not clean_text("a" * 2_000, max_chars=2_000).truncated


def test_emoji_sequences_survive() -> None:
    """Joiners that shape what a person sees are no control characters."""
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert clean_text(family, max_chars=9).text == family
