from __future__ import annotations

import math

import numpy as np

from tasks.mining.soft import barycentres, certainty, soft_neighbours
from tasks.retrieval.similarity import normalise

draw = np.random.default_rng(0)
Q, G = (normalise(draw.normal(size=(n, 5))) for n in (23, 31))


def by_loops(k: int, temperature: float, hubness_k: int) -> list[dict[int, float]]:
    """Weights of each query's nearest items: CSLS and softmax, one number at a time."""
    s = Q.astype(np.float64) @ G.T.astype(np.float64)
    of_query = [np.mean(sorted(row)[-hubness_k:]) for row in s]
    of_item = [np.mean(sorted(column)[-hubness_k:]) for column in s.T]
    out = []
    for i in range(len(Q)):
        scores = {j: 2 * s[i, j] - of_query[i] - of_item[j] for j in range(len(G))}
        best = sorted(scores, key=lambda j: -scores[j])[:k]
        total = sum(np.exp(scores[j] / temperature) for j in best)
        out.append({j: float(np.exp(scores[j] / temperature) / total) for j in best})
    return out


def test_soft_neighbours_by_loops() -> None:
    """The nearest under CSLS with their softmax weights, whatever the size of a block."""
    expected = by_loops(4, 0.1, 3)
    for cells in (100, 10**6):
        near, weight = soft_neighbours(Q, G, k=4, temperature=0.1, hubness_k=3, cells=cells)
        for row, (columns, weights) in enumerate(zip(near.tolist(), weight.tolist(), strict=True)):
            assert set(columns) == set(expected[row])
            np.testing.assert_allclose(weights, [expected[row][j] for j in columns], rtol=1e-3)


def test_a_barycentre_is_the_weighted_mean() -> None:
    """Features of the neighbours, weighted and summed; a gallery smaller than k is taken whole."""
    features = draw.normal(size=(31, 7)).astype(np.float32)
    expected = [sum(w * features[j] for j, w in one.items()) for one in by_loops(10, 0.05, 10)]
    near = soft_neighbours(Q, G)
    np.testing.assert_allclose(barycentres(near, features), expected, rtol=1e-3, atol=1e-4)
    entropy = [-sum(w * math.log(w) for w in one.values() if w) for one in by_loops(10, 0.05, 10)]
    np.testing.assert_allclose(certainty(near.weight), 1 - np.array(entropy) / math.log(10), atol=1e-3)
    few = barycentres(soft_neighbours(Q, G[:2]), features[:2])
    between = (few - features[1]) @ (features[0] - features[1]) / ((features[0] - features[1]) ** 2).sum()
    assert ((between > -1e-5) & (between < 1 + 1e-5)).all()
