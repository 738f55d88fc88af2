"""When two answers are the same: case, articles, punctuation and number words do not count, nor the order of a list.

After the normalisation of the VQA evaluation (Antol et al. 2015): lower case, no full stop, no articles, digits for
number words, other punctuation as a space. A comma between words makes a list, compared as a set as in DAQUAR.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
_ARTICLES = frozenset({"a", "an", "the"})
_LIST = re.compile(r"[,;、](?!\d{3}(?:\D|$))")  # not the comma of 1,000
_OTHER = re.compile(r"[^\w\s'.:%-]|(?<!\d)[.:]|[.:](?!\d)")


@lru_cache(maxsize=65_536)
def answer_set(answer: str) -> frozenset[str]:
    """The parts of an answer, normalised; empty for one without a word.

    >>> sorted(answer_set("The Book, two cups"))
    ['2 cups', 'book']
    """
    text = unicodedata.normalize("NFKC", answer).casefold()
    parts = (_one(part) for part in _LIST.split(text))
    return frozenset(part for part in parts if part)


def canonical(answer: str) -> str:
    """One spelling for all answers that are the same.

    >>> canonical("Two."), canonical("books, a lamp") == canonical("the lamp,Books")
    ('2', True)
    """
    return ", ".join(sorted(answer_set(answer)))


def _one(part: str) -> str:
    words = _OTHER.sub(" ", part.replace(",", "")).split()
    kept = [_NUMBERS.get(word, word) for word in words if word not in _ARTICLES]
    return " ".join(kept or words)
