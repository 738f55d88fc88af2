from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.exports.trec import order, qrel_lines, run_lines
from tasks.metrics.retrieval import evaluate


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 4))
def test_trec_eval_agrees_whatever_ties(seed: int, items: int, steps: int) -> None:
    """Of scores that tie much, trec_eval's reciprocal rank and recall of the run are those of our own metrics."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, steps + 1, (5, items)).astype(np.float32) / 3
    relevant = np.full((5, 2), -1)
    for row in range(5):
        few = generator.permutation(items)[: generator.integers(1, 3)]
        relevant[row, : len(few)] = few
    places, falling = order(scores, relevant, items)
    assert (np.diff(falling, axis=1) < 0).all()
    queries, gallery = np.array([f"q{n}" for n in range(5)]), np.array([f"d{n}" for n in range(items)])
    run = pytrec_eval.parse_run(list(run_lines(queries, gallery, places, falling, "us")))
    qrels = pytrec_eval.parse_qrel(list(qrel_lines(queries, gallery, relevant)))
    found = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank", "recall_5"}).evaluate(run)
    ours = evaluate(lambda part: scores[part], relevant)
    for row, query in enumerate(queries.tolist()):
        assert found[query]["recip_rank"] == pytest.approx(ours["MRR"][row], abs=1e-6)
        assert found[query]["recall_5"] == pytest.approx(ours["recall@5"][row], abs=1e-6)
