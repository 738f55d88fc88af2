from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks.metrics.retrieval import (
    CUTS,
    chance_hit_rate,
    chance_interval,
    evaluate,
    per_query,
    positions,
    relevance_table,
    rsum,
    summary,
)

TREC = {
    **{f"hit_rate@{k}": f"success_{k}" for k in CUTS},
    **{f"recall@{k}": f"recall_{k}" for k in CUTS},
    "MRR": "recip_rank",
    "nDCG@10": "ndcg_cut_10",
    "R-precision": "Rprec",
}
MEASURES = {"success.1,5,10", "recall.1,5,10", "recip_rank", "ndcg_cut.10", "Rprec"}


def table(relevant: Sequence[set[int]]) -> np.ndarray:
    """The relevant items of each query as `positions` takes them."""
    links = np.array([(query, item) for query, items in enumerate(relevant) for item in sorted(items)])
    return relevance_table(links[:, 0], links[:, 1], len(relevant))


def ours(scores: np.ndarray, relevant: Sequence[set[int]]) -> list[dict[str, float]]:
    """Our metrics, one dict a query."""
    found = evaluate(lambda part: scores[part], table(relevant))
    return [{name: float(one[query]) for name, one in found.items()} for query in range(len(relevant))]


def trec(runs: Sequence[dict[str, float]], relevant: Sequence[set[str]]) -> list[dict[str, float]]:
    """trec_eval's metrics under our names, one dict a query."""
    judged = {f"q{number}": dict.fromkeys(names, 1) for number, names in enumerate(relevant)}
    found = pytrec_eval.RelevanceEvaluator(judged, MEASURES).evaluate({f"q{n}": run for n, run in enumerate(runs)})
    return [{name: found[f"q{n}"][theirs] for name, theirs in TREC.items()} for n in range(len(runs))]


def pessimistic(row: Sequence[float], relevant: set[int]) -> list[int]:
    """The ranking of one query by plain sorting: at equal scores what is not relevant stands first."""
    return sorted(range(len(row)), key=lambda item: (-row[item], item in relevant))


def by_hand(order: Sequence[int], relevant: set[int]) -> dict[str, float]:
    """Every metric of one ranking by plain loops over its ranks; mAP@R as in Musgrave et al. 2020."""
    hits = [item in relevant for item in order]
    r = len(relevant)
    out = {f"hit_rate@{k}": float(any(hits[:k])) for k in CUTS}
    out |= {f"recall@{k}": sum(hits[:k]) / r for k in CUTS}
    out["rank"] = float(hits.index(True) + 1)
    out["MRR"] = 1 / (hits.index(True) + 1)
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits[:10]) if hit)
    out["nDCG@10"] = gain / sum(1 / math.log2(place + 2) for place in range(min(r, 10)))
    out["R-precision"] = sum(hits[:r]) / r
    out["mAP@R"] = sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if i < len(hits) and hits[i]) / r
    return out


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, list[set[int]]]:
    """Scores with many ties, and one or more relevant items of each query."""
    queries, items = draw(st.integers(1, 4)), draw(st.integers(1, 25))
    levels = draw(st.integers(0, 30))
    row = st.lists(st.integers(0, levels), min_size=items, max_size=items)
    scores = np.array([draw(row) for _ in range(queries)], np.float32)
    relevant = [draw(st.sets(st.integers(0, items - 1), min_size=1)) for _ in range(queries)]
    return scores, relevant


def test_agreement_with_trec_eval_without_ties() -> None:
    """On random rankings with one to thirty positives and no ties, each metric is trec_eval's."""
    generator = np.random.default_rng(0)
    scores = np.stack([generator.permutation(60) for _ in range(200)]).astype(np.float32)
    relevant = [set(generator.choice(60, int(generator.integers(1, 31)), replace=False).tolist()) for _ in range(200)]
    runs = [{f"d{item}": float(score) for item, score in enumerate(row)} for row in scores]
    theirs = trec(runs, [{f"d{item}" for item in items} for items in relevant])
    for one, other in zip(ours(scores, relevant), theirs, strict=True):
        assert {name: one[name] for name in TREC} == pytest.approx(other, abs=1e-12)


def test_ties_are_those_of_trec_eval_against_us() -> None:
    """With ties, each metric is trec_eval's on the order that puts the relevant last among equals.

    The order is given to trec_eval twice: as strictly falling scores, and as the tied scores with names that it puts in
    this order, since it breaks ties by the greater name.
    """
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 6, (200, 40)).astype(np.float32)
    relevant = [set(generator.choice(40, int(generator.integers(1, 21)), replace=False).tolist()) for _ in range(200)]
    ordered, tied, names = [], [], []
    for row, items in zip(scores.tolist(), relevant, strict=True):
        name = [f"{'a' if item in items else 'z'}{item}" for item in range(40)]
        ordered.append({name[item]: float(-rank) for rank, item in enumerate(pessimistic(row, items))})
        tied.append({name[item]: score for item, score in enumerate(row)})
        names.append({name[item] for item in items})
    theirs, again = trec(ordered, names), trec(tied, names)
    for one, other, third in zip(ours(scores, relevant), theirs, again, strict=True):
        assert {name: one[name] for name in TREC} == pytest.approx(other, abs=1e-12)
        assert other == pytest.approx(third, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data())
def test_no_order_of_the_ties_is_worse(row: list[int], data: st.DataObject) -> None:
    """Of all orders that the scores allow, ours gives each metric its least value."""
    relevant = data.draw(st.sets(st.integers(0, len(row) - 1), min_size=1))
    orders = [
        order
        for order in itertools.permutations(range(len(row)))
        if all(row[a] >= row[b] for a, b in itertools.pairwise(order))
    ]
    found = [by_hand(order, relevant) for order in orders]
    (mine,) = ours(np.array([row], np.float32), [relevant])
    for name, value in mine.items():
        worst = max if name == "rank" else min
        assert value == pytest.approx(worst(one[name] for one in found)), name


@settings(deadline=None, max_examples=200)
@given(rankings())
def test_agreement_with_plain_loops(case: tuple[np.ndarray, list[set[int]]]) -> None:
    """Every metric, mAP@R of Musgrave et al. 2020 among them, is that of plain loops over the ranks."""
    scores, relevant = case
    found = ours(scores, relevant)
    for row, items, mine in zip(scores.tolist(), relevant, found, strict=True):
        assert mine == pytest.approx(by_hand(pessimistic(row, items), items))


def test_map_at_r_of_the_paper() -> None:
    """The toy rankings of Musgrave et al. 2020, with ten relevant items: all hit at 1, mAP@R tells them apart.

    Relevant in the first ten: the 1st alone, the 1st and 10th, the 1st and 2nd, all of them.
    """
    hits = [{0}, {0, 9}, {0, 1}, set(range(10))]
    scores = np.tile(-np.arange(30, dtype=np.float32), (4, 1))
    relevant = [there | set(range(20, 30 - len(there))) for there in hits]
    found = ours(scores, relevant)
    assert [one["hit_rate@1"] for one in found] == [1, 1, 1, 1]
    assert [one["R-precision"] for one in found] == pytest.approx([0.1, 0.2, 0.2, 1])
    assert [one["mAP@R"] for one in found] == pytest.approx([0.1, 0.12, 0.2, 1])


def test_more_than_ten_positives() -> None:
    """With more than ten relevant items a full first page has nDCG@10 of 1, and recall@10 is ten of them."""
    scores = np.arange(40, 0, -1, dtype=np.float32)[None]
    (full,) = ours(scores, [set(range(25))])
    assert (full["nDCG@10"], full["recall@10"], full["mAP@R"]) == pytest.approx((1, 10 / 25, 1))
    (late,) = ours(scores, [set(range(10, 40))])
    assert (late["nDCG@10"], late["rank"], late["R-precision"]) == pytest.approx((0, 11, 20 / 30))


@settings(deadline=None, max_examples=100)
@given(rankings(), st.data())
def test_a_score_that_is_no_number_never_helps(case: tuple[np.ndarray, list[set[int]]], data: st.DataObject) -> None:
    """Replacing any score by NaN makes no metric better, and the ranks stay distinct ranks of the gallery."""
    scores, relevant = case
    holed = scores.copy()
    holes = data.draw(st.lists(st.booleans(), min_size=scores.size, max_size=scores.size))
    holed[np.array(holes).reshape(scores.shape)] = np.nan
    for before, after in zip(ours(scores, relevant), ours(holed, relevant), strict=True):
        assert after.pop("rank") >= before.pop("rank")
        assert all(after[name] <= before[name] + 1e-12 for name in before)
    ranks = positions(holed, table(relevant))
    for row, items in zip(ranks.tolist(), relevant, strict=True):
        mine = row[: len(items)]
        assert mine == sorted(set(mine))
        assert 1 <= mine[0] <= mine[-1] <= scores.shape[1]


def test_scores_that_are_no_numbers_are_no_hits() -> None:
    """A query whose scores are all NaN finds its item last of all; an item without a score is in no top 10."""
    relevant = np.zeros((1, 1), np.int64)
    assert positions(np.full((1, 12), np.nan, np.float32), relevant).tolist() == [[12]]
    scores = np.zeros((1, 12), np.float32)
    scores[0, 0] = np.nan
    assert positions(scores, relevant).tolist() == [[12]]
    assert per_query(np.array([[12]]), relevant)["hit_rate@10"].tolist() == [0]


def test_infinite_scores_are_scores() -> None:
    """Plus infinity stands first and minus infinity last, also beside the padding of queries with fewer positives."""
    inf = np.inf
    scores = np.array([[inf, 0, -inf, 1], [inf, inf, 0, -inf]], np.float32)
    padding = np.iinfo(np.int64).max
    assert positions(scores, np.array([[0, 2], [3, -1]])).tolist() == [[1, 4], [4, padding]]
    assert positions(scores, np.array([[0, 1], [1, -1]])).tolist() == [[1, 3], [2, padding]]


@pytest.mark.parametrize("block", [1, 7, 50, 1_000])
def test_blocks_change_nothing(block: int) -> None:
    """Evaluating in blocks of queries gives what evaluating at once gives, for queries with one to four positives."""
    generator = np.random.default_rng(2)
    scores = generator.normal(size=(50, 80)).astype(np.float32)
    relevant = table([set(generator.choice(80, 1 + query % 4, replace=False).tolist()) for query in range(50)])
    at_once = per_query(positions(scores, relevant), relevant)
    found = evaluate(lambda part: scores[part], relevant, block=block)
    assert found.keys() == at_once.keys()
    assert all(np.array_equal(found[name], at_once[name]) for name in found)


def test_relevance_table_holds_each_link_once() -> None:
    """Links in any order and said twice give each query its items once, ascending; a query without any has none."""
    queries, items = np.array([2, 0, 2, 2, 0]), np.array([5, 1, 3, 5, 0])
    assert relevance_table(queries, items, 4).tolist() == [[0, 1], [-1, -1], [3, 5], [-1, -1]]
    assert relevance_table(np.empty(0, np.int64), np.empty(0, np.int64), 2).tolist() == [[-1], [-1]]


def test_summary_and_rsum_by_hand() -> None:
    """Means of the metrics and the median of the first ranks; rsum adds six hit rates in percent, and those alone.

    Ranks 1, 3, 6 and 20 have hit rates of 1/4, 2/4 and 3/4; with ranks 1, 1, 1 and 2 back that is 150 + 275.
    """
    relevant = np.zeros((4, 1), np.int64)
    there = summary(per_query(np.array([[1], [3], [6], [20]]), relevant))
    back = summary(per_query(np.array([[1], [1], [1], [2]]), relevant))
    assert [there[f"hit_rate@{k}"] for k in CUTS] == [0.25, 0.5, 0.75]
    assert there["median_rank"] == 4.5
    assert there["MRR"] == pytest.approx((1 + 1 / 3 + 1 / 6 + 1 / 20) / 4)
    assert rsum(there, back) == pytest.approx(150 + 275)
    assert "rank" not in there


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 50), st.data())
def test_chance_is_hypergeometric(n: int, k: int, data: st.DataObject) -> None:
    """hit_rate@k of a random ranking is the hypergeometric chance of at least one relevant item among k drawn."""
    relevant = data.draw(st.integers(1, n))
    expected = stats.hypergeom.sf(0, n, relevant, min(k, n))
    assert chance_hit_rate(k, n, relevant) == pytest.approx(float(expected), abs=1e-9)


def test_chance_agrees_with_random_rankings() -> None:
    """Over 4,000 random rankings the hit rates lie within four standard errors of chance."""
    generator = np.random.default_rng(3)
    relevant = np.tile(np.arange(3), (4_000, 1))
    found = summary(evaluate(lambda part: generator.random((part.stop - part.start, 70)), relevant))
    for k in CUTS:
        chance = chance_hit_rate(k, 70, 3)
        assert abs(found[f"hit_rate@{k}"] - chance) < 4 * math.sqrt(chance * (1 - chance) / 4_000)


@pytest.mark.parametrize(("k", "n_gallery", "queries"), [(1, 1_000, 1_000), (1, 382, 382), (10, 382, 382), (5, 12, 40)])
def test_chance_interval_is_binomial(k: int, n_gallery: int, queries: int) -> None:
    """With one relevant item a query, the interval is the binomial's central one, few hits or many."""
    mean, low, high = chance_interval(k, n_gallery, np.ones(queries, np.int64), 0.99)
    assert mean == pytest.approx(k / n_gallery)
    expected = stats.binom.interval(0.99, queries, k / n_gallery)
    assert (low * queries, high * queries) == pytest.approx(expected)


@pytest.mark.parametrize("k", CUTS)
def test_chance_interval_covers_random_rankings(k: int) -> None:
    """Mean hit rates of random rankings, with one to six positives a query, lie in the interval as often as it says."""
    generator = np.random.default_rng(4)
    counts = np.arange(60) % 6 + 1
    mean, low, high = chance_interval(k, 90, counts, 0.95)
    runs = 1_500
    # the best rank of r relevant items in a random ranking is the least of r distinct ranks
    ranks = generator.permuted(np.tile(np.arange(1, 91, dtype=np.int16), (runs * 60, 1)), axis=1)[:, :6]
    best = np.where(np.arange(6) < np.tile(counts, runs)[:, None], ranks, 91).min(1)
    rates = (best <= k).reshape(runs, 60).mean(1)
    assert abs(rates.mean() - mean) < 4 * rates.std() / math.sqrt(runs)
    covered = np.mean((rates >= low - 1e-9) & (rates <= high + 1e-9))
    assert covered > 0.95 - 4 * math.sqrt(0.05 * 0.95 / runs)
    assert high - low < 8 * rates.std()


def test_sure_and_hopeless_chances() -> None:
    """A page as long as the gallery always hits; the interval is then a point."""
    assert chance_hit_rate(10, 4, 1) == 1
    assert chance_interval(10, 4, np.ones(5, np.int64)) == (1, 1, 1)
