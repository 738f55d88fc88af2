from __future__ import annotations

import numpy as np
import pytest

from tasks.alignment.features import Features
from tasks.alignment.maps import Linear, Relative, Residual
from tasks.alignment.space import Head
from tasks.exports.layers import apply, layers_of
from tasks.retrieval.similarity import normalise

GENERATOR = np.random.default_rng(0)
X = normalise(GENERATOR.normal(size=(60, 12)).astype(np.float32))


def some(*shape: int) -> np.ndarray:
    """Random numbers."""
    return GENERATOR.normal(size=shape).astype(np.float32)


def features(*names: str, cnn: bool = False) -> Features:
    """Features of encoders that give the same vectors."""
    return Features.fit(dict.fromkeys(names, X), cnn=dict.fromkeys(names, cnn), width=8)


@pytest.mark.parametrize(
    "found", [Linear(some(8, 5)), Residual(some(8, 6), some(6, 5), some(6, 7), some(7), some(7, 5))]
)
def test_layers_are_the_head(found: Linear | Residual) -> None:
    """Plain layers give what the features and the map give, hidden layer and all."""
    head = Head(features("bert"), found)
    np.testing.assert_allclose(apply(layers_of(head), X), head.project({"bert": X}), atol=1e-5)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (Head(features("bert", "mpnet"), Linear(some(16, 5))), "joins 2 encoders"),
        (Head(features("lite0", cnn=True), Linear(some(8, 5))), "signed square root"),
        (Head(features("bert"), Relative(some(9, 8), 3, 2.0)), "relative"),
    ],
)
def test_what_is_no_chain_says_why(head: Head, why: str) -> None:
    """Several encoders, a CNN or another kind of head cannot be plain layers."""
    with pytest.raises(ValueError, match=why):
        layers_of(head)
