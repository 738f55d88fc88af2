"""How good answers are: exact accuracy, VQA accuracy, what a confidence is worth, gains over baselines.

Answers are compared in their canonical wording, which makes sets of comma lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.metrics.bootstrap import (
    Values,
    group_weights,
    interval,
    paired_difference,
    resampled_means,
)
from tasks.metrics.calibration import quality, reliability

COVERAGES = (0.1, 0.25, 0.5, 0.75, 1.0)


def vqa_accuracy(told: str, annotators: Sequence[str]) -> float:
    """Antol et al. 2015: min(n / 3, 1) for n annotators who say the same, the mean over leaving out each of them once.

    Of one annotator it is exact agreement.

    >>> [round(vqa_accuracy("a", ["a"] * n + ["b"] * (10 - n)), 2) for n in range(5)]
    [0.0, 0.3, 0.6, 0.9, 1.0]
    """
    same, count = sum(told == one for one in annotators), len(annotators)
    if count == 1:
        return float(same)
    others = [min((same - (one == told)) / 3, 1.0) for one in annotators]
    return float(np.mean(others))


def risk_coverage(confidence: Values, right: Values) -> list[dict[str, float]]:
    """How often answers are right where only the surest are given, for several shares of the questions.

    Questions of one confidence count alike.

    >>> risk_coverage(np.array([0.9, 0.1]), np.array([1.0, 0.0]))[2:]  # doctest: +NORMALIZE_WHITESPACE
    [{'coverage': 0.5, 'accuracy': 1.0}, {'coverage': 0.75, 'accuracy': 0.5}, {'coverage': 1.0, 'accuracy': 0.5}]
    """
    order = np.argsort(-confidence, kind="stable")
    names, back = np.unique(confidence[order], return_inverse=True)
    level = np.bincount(back, right[order], len(names)) / np.bincount(back, minlength=len(names))
    known = np.cumsum(level[back])  # those of one confidence count as their mean
    counts = [max(1, int(np.ceil(share * len(order)))) for share in COVERAGES]
    return [
        {"coverage": share, "accuracy": float(known[n - 1] / n)} for share, n in zip(COVERAGES, counts, strict=True)
    ]


def report(
    right: Mapping[str, Values],
    ours: str,
    groups: npt.NDArray[np.int64],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> list[dict[str, Any]]:
    """A row a method: accuracy of `right` {method: (n,)}, its interval by group, what `ours` gains on it, paired."""
    weights = group_weights(int(groups.max()) + 1, draws, seed)
    rows = []
    for name, values in right.items():
        row: dict[str, Any] = {
            "method": name,
            "accuracy": float(values.mean()),
            "interval": list(interval(resampled_means(values, groups, weights), confidence)),
        }
        if name != ours:
            gain, low, high = paired_difference(
                right[ours], values, groups, draws=draws, confidence=confidence, seed=seed
            )
            row |= {"gain": gain, "gain_interval": [low, high]}
        rows.append(row)
    return rows


def calibration(
    p: Values, right: Values, groups: npt.NDArray[np.int64], *, draws: int, confidence: float, seed: int
) -> dict[str, Any]:
    """What confidences `p` (n,) are worth: calibration error, Brier score, reliability, risk and coverage."""
    weights = group_weights(int(groups.max()) + 1, draws, seed)
    flags = right > 0.5
    return quality(p, flags, groups, weights, confidence) | {
        "reliability": reliability(p, flags),
        "risk_coverage": risk_coverage(p, right),
    }
