from __future__ import annotations

import pytest

from tasks.captioning.tokens import tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two dogs -- one black, one white -- run.", "two dogs one black one white run"),
        ("The children's faces aren't seen", "the children 's faces are n't seen"),
        ("a man who’s in a T-shirt", "a man who 's in a t-shirt"),
        ('"Stop!" (at 3.5 m) …', "stop at 3.5 m"),
        ("ein Fuß im Café", "ein fuß im café"),
        ("一只黑狗。", "一 只 黑 狗"),
        ("カメラ and 고양이", "カ メ ラ and 고 양 이"),
        ("🐕 !", ""),
    ],
)
def test_tokens(text: str, expected: str) -> None:
    """Lower case, no punctuation, clitics apart as in the Penn Treebank, compounds whole, Chinese by characters."""
    assert tokens(text) == expected.split()
