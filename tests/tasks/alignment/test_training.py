from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.alignment.cca import moments, solver
from tasks.alignment.losses import LOSSES
from tasks.alignment.maps import Linear
from tasks.alignment.plan import HeadPlan, Plan
from tasks.alignment.problem import Problem
from tasks.alignment.training import batches, train
from tasks.retrieval.similarity import normalise


def problem(how: HeadPlan, n: int = 300) -> tuple[Problem, tuple[np.ndarray, np.ndarray]]:
    """Features of two encoders that share six hidden directions with the right side, and CCA's heads for them."""
    draw = np.random.default_rng(3)
    hidden = draw.normal(size=(n, 6))
    x, y = (
        (hidden @ draw.normal(size=(6, width)) + 2 * draw.normal(size=(n, width))).astype(np.float32)
        for width in (20, 16)
    )
    pairs = np.stack([np.arange(n)] * 2, 1)
    tokens = [draw.normal(size=(n, 3, 4)).astype(np.float16) for _ in range(2)]
    rotation = np.linalg.qr(draw.normal(size=(20, 20)))[0].astype(np.float32)
    blocks = np.split(rotation, 2), []
    made = Problem(x @ rotation, y, pairs, np.arange(n), Plan(dim=8, heads=how), None, blocks, (tokens, []))
    m = made.whole
    return made, solver(m.xx, m.yy, rx=0.1, ry=0.1, p=1.0, dim=8)(m.xy)


@pytest.mark.parametrize("shape", ["linear", "residual", "gated", "attention"])
def test_a_warm_head_begins_as_its_start(shape: str) -> None:
    """Without a step every shape ranks as the closed form: projections point the same way."""
    made, start = problem(HeadPlan(shape=shape))  # type: ignore[arg-type]
    for side, z in enumerate((made.x, made.y)):
        trained = train(made, made.pairs, start, 0)[side]
        now = made.joint(trained, side, np.arange(len(z)))
        np.testing.assert_allclose(now, normalise(z @ start[side]), atol=1e-5)


@pytest.mark.parametrize("loss", ["siglip", "infonce", "triplet", "soft"])
@pytest.mark.parametrize("start", ["warm", "scratch"])
def test_training_lowers_the_loss(loss: str, start: str) -> None:
    """From either start every loss of the training pairs falls, at the scale and bias that it starts from."""
    made, closed = problem(HeadPlan(loss=loss, rate=3e-3, batch=150, dropout=0.0))  # type: ignore[arg-type]
    begin = closed if start == "warm" else None
    function, scale, bias = LOSSES[loss]

    def cost(steps: int) -> float:
        maps = train(made, made.pairs, begin, steps)
        x, y = (torch.from_numpy(normalise(one.apply(z))) for one, z in zip(maps, (made.x, made.y), strict=True))
        return float(function(x, y, torch.tensor(scale).log(), torch.tensor(bias)))

    assert cost(200) < cost(0)


@pytest.mark.parametrize("shape", ["linear", "residual", "gated", "attention"])
def test_a_seed_fixes_the_heads(shape: str) -> None:
    """Trainings are bit-equal whatever the number of threads, another seed gives others; torch's own state is kept."""
    made, start = problem(HeadPlan(shape=shape, mixup=True))  # type: ignore[arg-type]
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    found = []
    for count in (2, 1):
        torch.set_num_threads(count)
        found.append(train(made, made.pairs, start, 20)[0])
    torch.set_num_threads(threads)
    one, other = found
    assert all(np.array_equal(a, b) for a, b in zip(one.arrays().values(), other.arrays().values(), strict=True))
    assert torch.equal(before, torch.random.get_rng_state())
    third = train(replace(made, plan=replace(made.plan, seed=1)), made.pairs, start, 20)
    rows = np.arange(len(made.x))
    assert not np.array_equal(made.joint(one, 0, rows), made.joint(third[0], 0, rows))


def test_attention_is_given_to_a_side_with_tokens() -> None:
    """Where one side alone has tokens, its head attends to them, and the other's is linear."""
    made, start = problem(HeadPlan(shape="attention"))
    left, right = train(made, made.pairs, start, 5)
    assert (left.kind, right.kind) == ("attention", "linear")
    assert np.abs(left.arrays()["out"]).max() > 0


def test_a_batch_holds_an_item_once() -> None:
    """A left item comes once a batch with one of its partners, all come once an epoch, all partners come in time."""
    pairs = np.stack([np.repeat(np.arange(10), 3), np.arange(30)], 1)
    seen: set[int] = set()
    halves: list[int] = []
    for number, (left, right, mix) in enumerate(batches(pairs, 5, 200, 0, mixup=True)):
        assert len(set(left.tolist())) == 5
        assert (right // 3 == left).all()
        assert mix is not None
        assert 0 <= mix <= 1
        halves = left.tolist() if number % 2 == 0 else [*halves, *left.tolist()]
        assert number % 2 == 0 or sorted(halves) == list(range(10))
        seen |= set(right.tolist())
    assert seen == set(range(30))


def test_moments_of_a_start_are_those_of_the_pairs() -> None:
    """The problem's moments are the plain ones, so that a start needs no second pass."""
    made, _ = problem(HeadPlan())
    for one, other in zip(made.whole, moments(made.x, made.y, made.pairs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert isinstance(train(made, made.pairs, None, 1)[0], Linear)
