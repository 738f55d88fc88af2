"""The tokens of a caption, as captions are compared: like the Penn Treebank's, in lower case, without punctuation."""

from __future__ import annotations

import re

from tasks.media.text import cjk_runs

_NOT = re.compile(r"n't\b")
_TOKEN = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|[^\W_]+(?:[-.][^\W_]+)*")


def tokens(text: str) -> list[str]:
    """Words in lower case; clitics by themselves (dog's → dog 's), compounds whole; of Chinese, Japanese and Korean
    each character. Punctuation and emoji are left out, so the list may be empty.

    >>> tokens("A dog's T-shirt, isn't it?")
    ['a', 'dog', "'s", 't-shirt', 'is', "n't", 'it']
    >>> tokens("两只狗 run.")
    ['两', '只', '狗', 'run']
    """
    plain = text.lower().replace("’", "'")
    characters = set(cjk_runs(plain)) - {" "}
    if characters:
        plain = "".join(f" {one} " if one in characters else one for one in plain)
    return _TOKEN.findall(_NOT.sub(" n't", plain))
