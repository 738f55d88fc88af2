from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.captioning.cider import Idf, cider, cider_d
from tasks.captioning.consensus import agreement, voices

SAID = st.lists(st.sampled_from(["a", "the", "dog", "cat", "runs", "red"]), max_size=9).map(" ".join)


def by_loops(candidate: str, reference: str, sets: list[list[str]], *, d: bool) -> float:
    """CIDEr or CIDEr-D of two captions as the paper writes it, word by word."""

    def ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
        words = text.split()
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    total = 0.0
    for n in (1, 2, 3, 4):
        holding = Counter(gram for one in sets for gram in {g for text in one for g in ngrams(text, n)})
        weights = [
            {gram: count * math.log(len(sets) / max(1, holding[gram])) for gram, count in ngrams(text, n).items()}
            for text in (candidate, reference)
        ]
        own, other = weights
        norms = [math.sqrt(sum(value**2 for value in one.values())) for one in weights]
        if all(norms):
            least = (min(value, other.get(gram, 0)) if d else value for gram, value in own.items())
            total += sum(a * other.get(g, 0) for a, g in zip(least, own, strict=True)) / (norms[0] * norms[1])
    if not d:
        return total / 4
    apart = len(candidate.split()) - len(reference.split())
    return 10 * total / 4 * math.exp(-(apart**2) / (2 * 6**2))


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        ("a dog", 5.0),  # words and pairs agree, there are no longer n-grams: 10·(1 + 1 + 0 + 0)/4
        ("dog", 2.5 * math.exp(-1 / 72)),  # the words agree, one is missing
        ("dog dog", 1.25),  # the second dog counts in the length of the vector alone: 10·(ln2·ln2 / 2ln2·ln2)/4
        ("a cat", 0.0),  # the article is in every set and weighs nothing
        ("", 0.0),
    ],
)
def test_cider_d_by_hand(candidate: str, expected: float) -> None:
    """With the sets {a dog} and {a cat}, idf is ln 2 for all n-grams but the article's, which is 0."""
    said = Idf([["a dog"], ["a cat"]]).captions([candidate, "a dog"])
    assert cider_d(said.rows(slice(0, 1)), said.rows(slice(1, 2)))[0, 0] == pytest.approx(expected, abs=1e-6)


@given(st.lists(SAID, min_size=1, max_size=4), st.lists(st.lists(SAID, min_size=1, max_size=3), min_size=1, max_size=4))
def test_the_matrices_are_the_loops(texts: list[str], sets: list[list[str]]) -> None:
    """Both scores of all candidates and references equal the paper's sums over words, whatever is repeated or empty."""
    references = [text for one in sets for text in one]
    said = Idf(sets).captions([*texts, *references])
    own, others = said.rows(slice(0, len(texts))), said.rows(slice(len(texts), None))
    for score, d in ((cider, False), (cider_d, True)):
        expected = [[by_loops(one, other, sets, d=d) for other in references] for one in texts]
        assert score(own, others) == pytest.approx(np.array(expected), abs=1e-5)


def test_agreement_is_with_the_others_alone() -> None:
    """Agreement is the weighted mean of CIDEr-D / 10 to the others, not to itself; alone it is 0."""
    sets = [["a dog runs"], ["a cat sleeps"], ["a red car"]]
    texts = ["a dog runs", "a dog sleeps", "a red car"]
    weights = voices(np.array([0.0, 0.0, math.log(2)], np.float32), 1.0)
    assert weights == pytest.approx([0.25, 0.25, 0.5])
    said = Idf(sets).captions(texts)
    expected = [
        sum(
            weight * by_loops(one, other, sets, d=True) / 10
            for other, weight in zip(texts, weights.tolist(), strict=True)
            if other != one
        )
        for one in texts
    ]
    assert agreement(said, weights) == pytest.approx(expected, abs=1e-6)
    assert agreement(said.rows(slice(0, 1)), np.ones(1, np.float32)).tolist() == [0.0]
