"""What labelling the suggested items brings, against as many at random and against the most uncertain ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.alignment.fit import View, fit_space
from tasks.alignment.outer import hit_rates, hit_totals
from tasks.alignment.plan import Plan
from tasks.mining.suggestions import guesses, suggest
from tasks.retrieval.similarity import normalise
from tests.benchmarks.flickr_vectors import IMAGE, LITE0, MINILM, TEXT, Split, Vectors, some_pairs
from tests.benchmarks.results import record, table

POOL, HELD, MORE, SEEDS = 2_000, 1_000, 100, 8
KNOWN = (100, 300)


def main() -> None:
    """Measure and record."""
    train = Vectors().train
    rows: list[list[object]] = []
    for known in KNOWN:
        found = [once(train, known, seed) for seed in range(SEEDS)]
        by_chance = np.array([one["random"] for one in found])
        for name in found[0]:
            scores = np.array([one[name] for one in found])
            gain = scores - by_chance
            against = f"{gain.mean():+.1f} ± {gain.std(ddof=1) / np.sqrt(SEEDS):.1f}"
            rows.append([known, name, float(scores.mean()), "" if name == "random" else against])
    told = (
        f"{POOL:,} training photos with one caption each, of which {' or '.join(map(str, KNOWN))} are known; {MORE} "
        f"more are labelled; lite0 × MiniLM by CCA; rsum on {HELD:,} other training photos, mean of {SEEDS} seeds; the "
        "difference to random ones with its standard error.\n\n"
    )
    record("labelling", "What to label next", told + table(["known pairs", "labelled", "rsum", "against random"], rows))


def once(train: Split, known: int, seed: int) -> dict[str, float]:
    """Rsum with the known pairs alone, and with more of them, by the way in which these are chosen."""
    pairs = some_pairs(train, POOL + HELD, seed)
    (left, right), held = _views(train, pairs[:POOL]), _views(train, pairs[POOL:])
    plan = Plan(method="cca", seed=seed)
    start, rest = np.arange(known), np.arange(known, POOL)

    def score(rows: npt.NDArray[np.int64]) -> float:
        space = fit_space(left, right, np.stack([rows, rows], 1), plan).space
        both = np.stack([np.arange(HELD)] * 2, 1)
        return 100 * float(hit_rates(hit_totals(space, *held, both, HELD).sum(0)).sum())

    space = fit_space(left, right, np.stack([start, start], 1), plan).space
    z, gallery = space.project(IMAGE, left.vectors)[rest], space.project(TEXT, right.vectors)
    lead = guesses(z, gallery, space.hubness(gallery, IMAGE), 1)[1]
    x = normalise(space.heads[IMAGE].features.apply(left.vectors))
    chosen = {
        "random": np.random.default_rng(seed).permutation(len(rest))[:MORE],
        "suggested": suggest(x[rest], x[start], MORE).rows,
        "least lead of the best match": np.argsort(lead)[:MORE],
    }
    none = {"none": score(start)}
    return none | {name: score(np.concatenate([start, rest[rows]])) for name, rows in chosen.items()}


def _views(train: Split, pairs: npt.NDArray[np.int64]) -> tuple[View, View]:
    """Both sides of pairs of different photos, row by row."""
    groups = np.arange(len(pairs))
    left = View(IMAGE, {LITE0: train.images[LITE0][pairs[:, 0]]}, {LITE0: True}, groups)
    return left, View(TEXT, {MINILM: train.texts[MINILM][pairs[:, 1]]}, {MINILM: False}, groups)


if __name__ == "__main__":
    main()
