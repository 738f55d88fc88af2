from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tasks.answering import ridge
from tasks.answering.model import Chosen, choose, fit
from tasks.answering.ridge import Kernel, Ridge, fit_ridge
from tasks.answering.rows import Stored, Table
from tasks.answering.vote import Vote, nearest, scores, shares

Wide = npt.NDArray[np.float64]


def table(rows: int = 400, *, seed: int = 0) -> Table:
    """Questions of four kinds about media of four kinds; the answer is told by both together, by neither alone."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(2, 4, 12))
    question, medium = rng.integers(0, 40, rows), rng.integers(0, 100, rows)
    sides = [
        (kinds[side, np.arange(count) % 4] + 0.3 * rng.normal(size=(count, 12))).astype(np.float32)
        for side, count in enumerate((40, 100))
    ]
    return Table(
        {"t": sides[0]},
        {"m": sides[1]},
        question,
        medium,
        (question + medium) % 4,
        np.zeros(rows, np.int64),
        medium.copy(),
        list("abcd"),
        ["what"],
        {"t": False, "m": True},
    )


def held_out(found: Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the media below 75, and the others."""
    return np.flatnonzero(found.groups < 75), np.flatnonzero(found.groups >= 75)


def accuracy(found: Table, *, sees: bool = True, asks: bool = True) -> float:
    """Of held-out rows, all values chosen on the others."""
    rows, held = held_out(found)
    model = fit(found, rows, choose(found, rows, sees=sees, asks=asks))
    mapped = found.mapped(model.centres)
    told = model.tell(mapped.part(rows), mapped.part(held), len(found.types), len(found.answers))
    return float((told.answers[:, 0] == found.answer[held]).mean())


def test_both_sides_are_needed_and_used() -> None:
    """Where the answer depends on question and medium together, either alone is at chance, both are nearly right."""
    found = table()
    assert accuracy(found) > 0.9
    assert accuracy(found, sees=False) < 0.4
    assert accuracy(found, asks=False) < 0.4


def test_shuffled_answers_teach_nothing() -> None:
    """With the answers shuffled, held-out ones are right no more often than by chance, a quarter."""
    found = table()
    assert accuracy(replace(found, answer=np.random.default_rng(1).permutation(found.answer))) < 0.4


def test_the_vote_is_that_of_plain_loops() -> None:
    """Scores are z-scores over all stored rows, rows of another type never vote, and the k best do by their scores."""
    found = replace(table(60), type=np.random.default_rng(3).integers(0, 2, 60), types=["a", "b"])
    mapped = found.mapped(found.centres(np.arange(60)))
    stored, asked = mapped.part(np.arange(40)), mapped.part(np.arange(40, 60))
    vote = Vote(alpha=0.5, k=7, temperature=0.8)
    place, best = nearest(scores(stored, asked, vote, np.array([True, True])), vote.k)
    told = shares(stored.answer[place], best, vote.temperature, 4)
    for row in range(20):
        sides = []
        for vectors, ours, theirs in (
            (mapped.questions, asked.question[row], stored.question),
            (mapped.media, asked.medium[row], stored.medium),
        ):
            cosines = np.array([float(vectors[ours].astype(np.float64) @ vectors[one]) for one in theirs])
            sides.append((cosines - cosines.mean()) / cosines.std())
        total = sides[0] + 0.5 * sides[1]
        allowed = [one for one in range(40) if stored.type[one] == asked.type[row]]
        near = sorted(allowed, key=lambda one: -total[one])[:7]
        weights = {one: np.exp(total[one] / 0.8) for one in near}
        expected = [sum(w for one, w in weights.items() if stored.answer[one] == answer) for answer in range(4)]
        np.testing.assert_allclose(told[row], np.array(expected) / sum(expected), atol=1e-4)


def test_a_type_that_no_row_has_is_not_restricted() -> None:
    """A question of an unknown type is answered by all rows, as if there were no types."""
    found = replace(table(60), types=["what", "new"])
    mapped = found.mapped(found.centres(np.arange(60)))
    stored, asked = mapped.part(np.arange(50)), mapped.part(np.arange(50, 60))
    model = fit(found, np.arange(50), Chosen())
    plain = model.tell(stored, asked, 2, 4)
    other = model.tell(stored, replace(asked, type=np.ones(10, np.int64)), 2, 4)
    assert np.array_equal(plain.shares, other.shares)


def kernel_of(one: Stored, other: Stored, width: float) -> Wide:
    """The product kernel by plain loops."""
    out = np.zeros((len(one), len(other)))
    for i in range(len(one)):
        for j in range(len(other)):
            q = float(one.questions[one.question[i]].astype(np.float64) @ other.questions[other.question[j]])
            m = float(one.media[one.medium[i]].astype(np.float64) @ other.media[other.medium[j]])
            out[i, j] = np.exp((q - 1) / width) * (0.2 + 0.8 * np.exp((m - 1) / width))
    return out


def test_the_ridge_solves_its_equations() -> None:
    """Its scores are those of (K + λ)⁻¹ over a kernel by plain loops, on targets of frequent answers alone."""
    found = table(60)
    found.answer[0] = 4  # given once: not frequent
    mapped = found.mapped(found.centres(np.arange(60)))
    stored, asked = mapped.part(np.arange(45)), mapped.part(np.arange(45, 60))
    made = fit_ridge(stored, Kernel(0.7, 0.2), 0)
    assert made is not None
    assert made.answers.tolist() == [0, 1, 2, 3]
    targets = np.eye(5)[stored.answer][:, :4]
    prior = targets.mean(0)
    weights = np.linalg.solve(kernel_of(stored, stored, 0.7) + 0.2 * np.eye(45), targets - prior)
    expected = kernel_of(asked, stored, 0.7) @ weights + prior
    np.testing.assert_allclose(made.scores(asked, 5)[:, :4], np.maximum(expected, 0), atol=2e-4)
    assert (made.scores(asked, 5)[:, 4] == 0).all()


def test_landmarks_stand_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With most rows as landmarks the scores are nearly the exact ones, also after a round through its arrays."""
    found = table(300)
    mapped = found.mapped(found.centres(np.arange(300)))
    stored, asked = mapped.part(np.arange(250)), mapped.part(np.arange(250, 300))
    exact = fit_ridge(stored, Kernel(), 0)
    monkeypatch.setattr(ridge, "LANDMARKS", 200)
    few = fit_ridge(stored, Kernel(), 0)
    assert exact is not None
    assert few is not None
    assert len(few.landmarks) == 200
    assert np.abs(few.scores(asked, 4) - exact.scores(asked, 4)).max() < 0.1
    again = Ridge.from_arrays(few.arrays(), few.kernel)
    assert np.abs(again.scores(asked, 4) - few.scores(asked, 4)).max() < 0.02


def test_few_rows_are_answered_all_the_same() -> None:
    """One group, or one answer, chooses nothing and raises nothing; there is no confidence without a measure of it."""
    found = table(12)
    one = replace(found, groups=np.zeros(12, np.int64))
    chosen = choose(one, np.arange(12))
    assert (chosen.kernel, chosen.curve) == (None, None)
    same = replace(found, answer=np.zeros(12, np.int64), answers=["a"])
    model = fit(same, np.arange(12), choose(same, np.arange(12)))
    mapped = same.mapped(model.centres)
    assert (model.tell(mapped, mapped, 1, 1).answers == 0).all()


def test_vectors_do_not_change_what_a_centre_gives() -> None:
    """A content's mapped vector has unit length and does not depend on the contents beside it."""
    found = table(40)
    question, medium = found.centres(np.arange(40))
    for centre, vectors in ((question, found.questions), (medium, found.media)):
        whole = centre.apply(vectors)
        np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
        alone = centre.apply({name: x[3:4] for name, x in vectors.items()})
        np.testing.assert_allclose(alone[0], whole[3], atol=1e-6)
