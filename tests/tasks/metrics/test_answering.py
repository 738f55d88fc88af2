from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.answering import calibration, report, risk_coverage, vqa_accuracy

words = st.sampled_from("abc")


@given(words, st.lists(words, min_size=2, max_size=12))
def test_vqa_accuracy_is_the_mean_over_those_left_out(told: str, annotators: list[str]) -> None:
    """For every subset of all annotators but one: min(those who agree / 3, 1); then the mean."""
    subsets = list(combinations(annotators, len(annotators) - 1))
    expected = sum(min(sum(one == told for one in subset) / 3, 1) for subset in subsets) / len(subsets)
    assert vqa_accuracy(told, annotators) == pytest.approx(expected)


def test_one_annotator_is_right_or_not() -> None:
    """Of a single annotator the accuracy is agreement."""
    assert (vqa_accuracy("a", ["a"]), vqa_accuracy("b", ["a"])) == (1.0, 0.0)


def test_risk_and_coverage_by_hand() -> None:
    """Of ten questions with distinct confidences the surest, five surest, all; those of one confidence count alike."""
    p = np.arange(10, 0, -1) / 10
    right = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 1.0])
    found = {row["coverage"]: row["accuracy"] for row in risk_coverage(p, right)}
    assert found == pytest.approx({0.1: 1.0, 0.25: 2 / 3, 0.5: 3 / 5, 0.75: 3 / 8, 1.0: 4 / 10})
    alike = {row["coverage"]: row["accuracy"] for row in risk_coverage(np.ones(10), right)}
    assert alike == pytest.approx(dict.fromkeys(alike, 0.4))


def test_gains_are_paired_and_by_group() -> None:
    """A method that is right on one more of every two questions gains half, surely; against itself it has no row."""
    right = {"ours": np.ones(40), "other": np.tile([1.0, 0.0], 20)}
    ours, other = report(right, "ours", np.arange(40) // 2, draws=200, confidence=0.95, seed=0)
    assert (ours["accuracy"], ours["interval"]) == (1.0, [1.0, 1.0])
    assert "gain" not in ours
    assert (other["gain"], other["gain_interval"]) == (0.5, [0.5, 0.5])


def test_honest_confidences_are_calibrated() -> None:
    """Answers that are right as often as their confidence says have a small calibration error, boasts have not."""
    rng = np.random.default_rng(0)
    p = rng.random(4_000)
    right = (rng.random(4_000) < p).astype(np.float64)
    how = {"draws": 100, "confidence": 0.95, "seed": 0}
    assert calibration(p, right, np.arange(4_000), **how)["ece"]["value"] < 0.03  # type: ignore[arg-type]
    boast = calibration(np.sqrt(p), right, np.arange(4_000), **how)  # type: ignore[arg-type]
    assert boast["ece"]["value"] > 0.1
