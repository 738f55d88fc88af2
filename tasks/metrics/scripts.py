"""The script of a text, from Unicode alone."""

from __future__ import annotations

import unicodedata
from collections import Counter

_NAMES = {"CJK": "Han", "HIRAGANA": "Japanese", "KATAKANA": "Japanese"}


def script_of(text: str) -> str:
    """The script of most letters of a text; "none" where it has no letter.

    A letter's script is the first word of its Unicode name, after compatibility forms are resolved. Kana make a text
    Japanese whatever else it holds, as in ISO 15924 (Jpan: Han with kana). Equal counts go to the first by name.

    >>> script_of("a dog"), script_of("一只猫"), script_of("黒い犬"), script_of("собака, a dog in it"), script_of("42!")
    ('Latin', 'Han', 'Japanese', 'Latin', 'none')
    """
    letters = [
        one for one in unicodedata.normalize("NFKC", text) if unicodedata.category(one) in ("Lu", "Ll", "Lt", "Lo")
    ]
    words = Counter(unicodedata.name(one, "UNKNOWN").partition(" ")[0].partition("-")[0] for one in letters)
    counts: Counter[str] = Counter()
    for word, count in words.items():
        counts[_NAMES.get(word, word.capitalize())] += count
    if "Japanese" in counts:
        return "Japanese"
    return min(counts, key=lambda name: (-counts[name], name), default="none")
