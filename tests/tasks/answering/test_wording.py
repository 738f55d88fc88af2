from __future__ import annotations

import numpy as np
import pytest

from tasks.answering.candidates import holds, likely, plausible, statement
from tasks.answering.questions import question_type
from tasks.answering.wording import answer_set, canonical


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Two", "2", True),
        ("the  Red Chair.", "red chair", True),
        ("books, lamp", "A lamp , BOOKS", True),
        ("books, lamp, lamp", "lamp, books", True),
        ("books", "books, lamp", False),
        ("1,000", "1000", True),
        ("2.5", "25", False),
        ("10:30", "1030", False),
        ("a", "the", False),
        ("none", "0", True),
        ("猫、狗", "狗、猫", True),
        ("t-shirt", "tshirt", False),
    ],
)
def test_answers_that_mean_the_same(one: str, other: str, same: bool) -> None:  # noqa: FBT001
    """Case, articles, full stops, number words and the order of a list do not tell answers apart; all else does."""
    assert (canonical(one) == canonical(other)) is same


def test_an_answer_without_a_word_is_empty() -> None:
    """Punctuation alone is no answer, and one article is itself, not nothing."""
    assert answer_set(" ?! ") == frozenset()
    assert answer_set("the") == {"the"}


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("how many chairs are there", "count"),
        ("what is the number of chairs?", "count"),
        ("what colour is the mat", "colour"),
        ("What is the color of the shape?", "colour"),
        ("is there not a black shape in the image?", "yes/no"),
        ("where is the cat?", "where"),
        ("who holds it", "who"),
        ("what is on the left side of the red chair", "what"),
        ("有几个苹果", "count"),
        ("他是老师吗？", "yes/no"),
        ("猫在哪里", "where"),
        ("où est le chat ?", "other"),
    ],
)
def test_types_by_rule(question: str, kind: str) -> None:
    """A question's first words tell its type, in English and Chinese; what the data declares goes before."""
    assert question_type(question) == kind
    assert question_type(question, "mine") == "mine"


def test_answers_to_choose_from() -> None:
    """By type: yes and no, numbers, colours in the question's language; else the frequent words of captions, not those
    of the question itself.
    """
    assert likely("这是猫吗", "yes/no", ()) == ("是", "不是")
    assert "蓝色" in likely("什么颜色", "colour", ())
    assert likely("how many", "count", ())[:3] == ("0", "1", "2")
    captions = ["a dog on grass", "the dog runs", "grass and a ball"]
    assert likely("what is on the grass?", "what", captions)[0] == "dog"
    assert "grass" not in likely("what is on the grass?", "what", captions)
    assert statement("is it red? ", "yes") == "is it red: yes"


def test_what_is_near_to_everything_is_no_answer() -> None:
    """A text that all media are near to loses to one that this medium is nearer to than the others are; a question
    holds of a medium by as much as it lies above the usual one, a standard deviation being even.
    """
    usual = np.array([[0.9, 0.1], [0.8, 0.3], [0.7, 0.2], [0.8, 0.0]], np.float32)
    medium = np.array([0.8, 0.7], np.float32)
    words = np.eye(2, dtype=np.float32)
    assert words[0] @ medium > words[1] @ medium
    shares = plausible(words, medium, usual)
    assert shares.argmax() == 1
    assert shares.sum() == pytest.approx(1)
    even = np.array([0.0, usual[:, 1].mean() + usual[:, 1].std()], np.float32)
    assert holds(words[1], even, usual) == pytest.approx(0.5, abs=1e-4)
    assert holds(words[1], medium, usual) > 0.9
