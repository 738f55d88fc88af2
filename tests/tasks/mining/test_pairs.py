from __future__ import annotations

import math
import tracemalloc
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.mining.pairs import Matches, mutual_neighbours

Score = Literal["cosine", "dot", "euclidean", "kl", "csls"]
SCORES = ("cosine", "dot", "euclidean", "kl", "csls")
Plain = dict[tuple[int, int], tuple[float, float]]


def unit(generator: np.random.Generator, n: int, width: int = 24) -> np.ndarray:
    """Random unit vectors."""
    x = generator.normal(size=(n, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def dot(x: list[float], y: list[float]) -> float:
    """Dot product of two vectors."""
    return sum(p * q for p, q in zip(x, y, strict=True))


def cosine(x: list[float], y: list[float]) -> float:
    """Cosine of two vectors."""
    return dot(x, y) / math.sqrt(dot(x, x) * dot(y, y))


def profile(x: list[float], anchors: list[list[float]]) -> list[float]:
    """Softmax of the cosines with the anchors at temperature .05."""
    powers = [math.exp((cosine(x, one) - 1) / 0.05) for one in anchors]
    return [power / sum(powers) for power in powers]


def similarities(
    a: np.ndarray, b: np.ndarray, score: Score, anchors: tuple[np.ndarray, np.ndarray] | None = None
) -> list[list[float]]:
    """Each row of `a` against each row of `b`, by plain loops; higher is nearer."""
    left, right = a.tolist(), b.tolist()
    if score == "euclidean":
        return [[-math.dist(x, y) for y in right] for x in left]
    if score == "kl":
        assert anchors is not None
        p, q = ([profile(x, side.tolist()) for x in rows] for rows, side in zip((left, right), anchors, strict=True))
        # ∑ (p − q)·(log p − log q) / 2 is the mean of both directions
        return [[-sum((s - t) * math.log(s / t) for s, t in zip(x, y, strict=True)) / 2 for y in q] for x in p]
    return [[cosine(x, y) if score == "cosine" else dot(x, y) for y in right] for x in left]


def plain(
    a: np.ndarray,
    b: np.ndarray,
    k: int,
    score: Score,
    hubness_k: int,
    anchors: tuple[np.ndarray, np.ndarray] | None = None,
) -> Plain:
    """Mutual neighbours by looking at every pair: {(i, j): (score, margin)}; of equal candidates the lower one."""
    n, m = len(a), len(b)
    s = similarities(a, b, score, anchors)
    if score == "csls":
        of_a = [np.mean(sorted(s[i])[-hubness_k:]) for i in range(n)]
        of_b = [np.mean(sorted(s[i][j] for i in range(n))[-hubness_k:]) for j in range(m)]
        s = [[float(2 * s[i][j] - of_a[i] - of_b[j]) for j in range(m)] for i in range(n)]
    found = {}
    for i in range(n):
        for j in range(m):
            closer_to_i = sum(s[i][o] > s[i][j] or (s[i][o] == s[i][j] and o < j) for o in range(m))
            closer_to_j = sum(s[o][j] > s[i][j] or (s[o][j] == s[i][j] and o < i) for o in range(n))
            if closer_to_i < k and closer_to_j < k:
                rivals = [s[i][o] for o in range(m) if o != j]
                found[i, j] = (s[i][j], s[i][j] - max(rivals) if rivals else 0.0)
    return found


def as_dict(matches: Matches) -> Plain:
    """Matches as `plain` gives them; no pair comes twice."""
    columns = [column.tolist() for column in matches]
    found = {(i, j): (s, margin) for i, j, s, margin in zip(*columns, strict=True)}
    assert len(found) == len(matches.left)
    return found


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 9),
    st.integers(2, 9),
    st.integers(1, 4),
    st.sampled_from(["dot", "csls"]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 20, 2**23]),
    st.sampled_from([1, 8, 2**23]),
)
def test_plain_search_finds_the_same(
    seed: int, n: int, m: int, k: int, score: Score, hubness_k: int, cells: int, held: int
) -> None:
    """Pairs, scores and margins are those of looking at every pair, ties by the lower row, for any blocks and ranges.

    Small whole numbers: float32 rounds nothing, and ties are many.
    """
    generator = np.random.default_rng(seed)
    a, b = (generator.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (n, m))
    found = mutual_neighbours(a, b, k=k, score=score, hubness_k=hubness_k, cells=cells, held=held)
    assert as_dict(found) == plain(a, b, k, score, hubness_k)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("k", "held"), [(1, 2**23), (3, 2**23), (3, 8 * 13)])
def test_plain_search_of_vectors(k: int, held: int, score: Score) -> None:
    """For vectors at random and r over 10 neighbours too, in one range or in several of 13 rows and fewer.

    The rows come by the left one, the best first.

    CSLS takes unit vectors; the others are told apart by the lengths of theirs.
    """
    generator = np.random.default_rng(k)
    a, b, *anchors = (unit(generator, n, 8) for n in (60, 45, 12, 12))
    if score != "csls":
        a, b = (np.asarray(x * generator.uniform(0.5, 2, (len(x), 1)), np.float32) for x in (a, b))
    pairs = (anchors[0], anchors[1])
    found = mutual_neighbours(a, b, k=k, score=score, anchors=pairs, held=held)
    expected = plain(a, b, k, score, 10, pairs)
    assert as_dict(found).keys() == expected.keys()
    for pair, values in as_dict(found).items():
        assert values == pytest.approx(expected[pair], abs=1e-4 if score == "kl" else 1e-5)
    order = sorted(expected, key=lambda pair: (pair[0], -expected[pair][0]))
    assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == order
    assert [column.dtype for column in found] == [np.int64, np.int64, np.float32, np.float32]


@pytest.mark.parametrize("k", [1, 3])
def test_the_least_margin_leaves_out_the_doubtful(k: int) -> None:
    """A least margin keeps of all pairs those that lead their left item's best other candidate by as much."""
    generator = np.random.default_rng(7)
    a, b = unit(generator, 80, 8), unit(generator, 80, 8)
    everything = as_dict(mutual_neighbours(a, b, k=k))
    kept = as_dict(mutual_neighbours(a, b, k=k, min_margin=0.05))
    assert kept == {pair: values for pair, values in everything.items() if values[1] >= 0.05}
    assert 0 < len(kept) < len(everything)


def test_only_the_first_candidate_leads() -> None:
    """A left item's first candidate has a margin of at least zero, every other one of at most zero."""
    generator = np.random.default_rng(8)
    found = mutual_neighbours(unit(generator, 50, 6), unit(generator, 50, 6), k=3)
    first = np.concatenate([[True], np.diff(found.left) > 0])
    scores = {i: found.score[found.left == i].max() for i in set(found.left.tolist())}
    leading = np.array([found.score[row] == scores[i] for row, i in enumerate(found.left.tolist())])
    assert (leading == first).all()
    assert (found.margin[~leading] <= 0).all()


@pytest.mark.parametrize("score", ["cosine", "csls"])
def test_a_permutation_is_recovered(score: Score) -> None:
    """Where one side is the other one in another order, a little shaken, each item finds itself."""
    generator = np.random.default_rng(9)
    a = unit(generator, 300)
    order = generator.permutation(300)
    b = a[order] + 0.02 * generator.normal(size=a.shape).astype(np.float32)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    found = mutual_neighbours(a, b, score=score)
    assert found.left.tolist() == list(range(300))
    assert order[found.right].tolist() == list(range(300))
    assert (found.margin > 0).all()


def test_profiles_need_anchors() -> None:
    """Divergence of profiles without anchors is refused by name."""
    x = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="anchors"):
        mutual_neighbours(x, x, score="kl")


@pytest.mark.parametrize("score", ["cosine", "csls"])
@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0)])
def test_an_empty_side_has_no_pairs(n: int, m: int, score: Score) -> None:
    """Where a side is empty there is no pair, and the columns keep their types."""
    found = mutual_neighbours(np.zeros((n, 3), np.float32), np.zeros((m, 3), np.float32), k=2, score=score)
    assert [len(column) for column in found] == [0, 0, 0, 0]
    assert [column.dtype for column in found] == [np.int64, np.int64, np.float32, np.float32]


@pytest.mark.parametrize("score", ["cosine", "csls"])
def test_a_side_of_one(score: Score) -> None:
    """A lone right item takes its nearest left one, with a margin of 0 as nothing else was there to choose from.

    So a least margin leaves it out: one candidate is no evidence. A lone left item leads its second candidate.
    """
    generator = np.random.default_rng(10)
    many, one = unit(generator, 6), unit(generator, 1)
    best = int((many @ one[0]).argmax())
    alone = mutual_neighbours(many, one, score=score)
    assert score == "csls" or alone.left.tolist() == [best]
    assert (alone.right.tolist(), alone.margin.tolist()) == ([0], [0.0])
    assert len(mutual_neighbours(many, one, score=score, min_margin=0.01).left) == 0
    ((pair, found),) = as_dict(mutual_neighbours(one, many, score=score)).items()
    second = np.sort(many @ one[0])[-2]
    lead = float((many @ one[0]).max() - second)
    assert pair == (0, best)
    assert found[1] == pytest.approx(lead, abs=1e-5)
    single = mutual_neighbours(one, one, k=3, score=score)
    assert (single.left.tolist(), single.right.tolist(), single.margin.tolist()) == ([0], [0], [0.0])


def test_memory_is_a_block() -> None:
    """The peak is set by `cells`, not by the product of the sides: here a sixth of all scores at most."""
    generator = np.random.default_rng(11)
    a, b = unit(generator, 3_000, 4), unit(generator, 3_000, 4)
    tracemalloc.start()
    mutual_neighbours(a, b, k=3, cells=2**16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000 * 3_000 * 4 / 6
