from __future__ import annotations

import numpy as np
import pytest
import sacrebleu

from tasks.metrics.captioning import bleu, bleu_counts, cider_d, meteor_like, rouge_l

SAID = ["a brown dog runs in the snow", "two children on the beach", "A man is riding a bike"]
MEANT = [
    ["a dog runs through snow", "the brown dog is running in the snow", "a dog"],
    ["two kids play on the beach", "children on a beach", "people at sea"],
    ["a man rides his bike", "the man is riding a bike on a road", "someone on a bike"],
]


def test_bleu_clips_what_is_repeated() -> None:
    """Papineni et al.'s example: of seven times `the`, two are in a reference, so BLEU-1 of the words is 2 in 7."""
    counts = bleu_counts(["the the the the the the the"], [["The cat is on the mat.", "There is a cat on the mat."]])
    assert counts[0, [0, 4]].tolist() == [2, 7]
    assert bleu(counts, order=1) == pytest.approx(100 * 2 / 7)
    assert bleu(counts) == 0


def test_bleu_is_that_of_sacrebleu() -> None:
    """BLEU-4 from the added counts equals sacrebleu's of the whole corpus, and weights repeat captions."""
    streams = [[one[place].lower() for one in MEANT] for place in range(3)]
    expected = sacrebleu.corpus_bleu(
        [one.lower() for one in SAID], streams, tokenize="none", smooth_method="none", force=True
    ).score
    counts = bleu_counts(SAID, MEANT)
    assert expected > 0
    assert bleu(counts) == pytest.approx(expected)
    twice = bleu(bleu_counts([*SAID, SAID[0]], [*MEANT, MEANT[0]]))
    assert bleu(counts, np.array([2.0, 1.0, 1.0])) == pytest.approx(twice)


def test_rouge_by_hand() -> None:
    """Lin's example: of four words three stand in the longest common subsequence; the better reference counts."""
    said = rouge_l(["Police killed the gunman."], [["the gunman kill police", "police kill the gunman"]])
    assert said.tolist() == [0.75]


def test_the_score_like_meteor_by_hand() -> None:
    """Four words in one piece: 1 − .5·(1/4)³. Two that agree by their stems: 1 − .5·(1/2)³. Synonyms are unknown."""
    said = meteor_like(
        ["a dog runs fast", "dogs run", "hound", ""], [["A dog runs fast!"], ["dog runs"], ["dog"], ["dog"]]
    )
    assert said == pytest.approx([1 - 0.5 / 64, 1 - 0.5 / 8, 0, 0])


def test_cider_d_takes_its_idf_from_what_is_scored() -> None:
    """A word of every reference set weighs nothing; one that is in this set alone carries the score."""
    sets = [["a dog"], ["a cat"]]
    assert cider_d(["a dog", "a"], sets) == pytest.approx([5.0, 0.0])


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra a metric says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(ImportError, match=r"sacrebleu is not installed; pip install 'modalign\[text-metrics\]'"):
        bleu_counts(SAID, MEANT)
