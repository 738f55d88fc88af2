from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.alignment.finetuning import Course, _ClosedForm, course_of, finetune
from tasks.alignment.fit import View
from tasks.alignment.plan import Plan, TunePlan
from tasks.encoders.last_blocks import LastBlocks
from tasks.encoders.states import states_of
from tasks.encoders.tokens import Tokens
from tasks.retrieval.similarity import normalise
from tests.tiny import COLOURS, PLACES, SHAPES, draw, save_encoders

N = 80
HOW = TunePlan(blocks=1, steps=9, batch=32, rate=3e-2, head_rate=1e-2, held=0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT whose last block lets little through but two of its 32 channels: it has something to learn."""
    root = tmp_path_factory.mktemp("tuned")
    save_encoders(root)
    path = root / "bert" / "model.safetensors"
    weights = load_file(str(path))
    weights["encoder.layer.1.output.LayerNorm.weight"][2:] *= 1e-3
    save_file(weights, str(path), {"format": "pt"})
    return root / "bert"


def setting(folder: Path, *, flip: bool = False) -> tuple[Course, list[list[int]], LastBlocks]:
    """Eighty scenes with two captions each, and pictures that are noisy directions of what the captions say.

    A second encoder of texts, of random directions, stays as it is. With `flip` texts are the left side.
    """
    generator = np.random.default_rng(0)
    texts = [words for number in range(N) for words in (draw(number)[1], f"picture of {draw(number)[1]}")]
    said = np.array(
        [[word in text.split() for word in (*COLOURS, *SHAPES, *PLACES)] for text in texts[::2]], np.float32
    )
    pictures = said @ generator.normal(size=(13, 20)) + 0.5 * generator.normal(size=(N, 20))
    beside = said.repeat(2, 0) @ generator.normal(size=(13, 8)) + generator.normal(size=(2 * N, 8))
    model = LastBlocks(folder, 1, "mean")
    tokens = Tokens(folder / "tokenizer.json", 64, 0)(texts)[0]
    with states_of(model, tokens) as states:
        own = states.encoded()
    vectors = {"bert": own, "beside": normalise(beside.astype(np.float32))}
    left = View("image", {"cnn": normalise(pictures.astype(np.float32))}, {"cnn": False}, np.arange(N))
    right = View("text", vectors, dict.fromkeys(vectors, False), np.arange(N).repeat(2))
    views = (right, left) if flip else (left, right)
    pairs = np.stack([np.arange(N).repeat(2), np.arange(2 * N)], 1)
    plan = Plan(dim=8, pca=32)
    course, rows = course_of(views, pairs[:, ::-1] if flip else pairs, "text", "bert", plan, most=10_000, seed=0)
    assert np.array_equal(rows, np.arange(2 * N))
    return course, tokens, model


@pytest.mark.parametrize("left", ["image", "text"])
def test_the_start_is_the_space(folder: Path, left: str) -> None:
    """Before the first step a text stands where the closed form has it, whichever side it is on."""
    course, _, _ = setting(folder, flip=left == "text")
    form = _ClosedForm(course, HOW, course.tuned.vectors["bert"])
    mean, matrix, rest, others = form.start()
    mine = normalise(normalise(course.tuned.vectors["bert"] - mean) @ matrix + rest)
    z = form._with(course.tuned.vectors["bert"])[1]
    maps = form._maps(form._folds(z)[0])
    np.testing.assert_allclose(mine, normalise(maps[course.side].apply(z)), atol=1e-5)
    assert others.shape == (N, matrix.shape[1])


def test_held_out_groups_choose_the_blocks(folder: Path) -> None:
    """Three checks are made; the blocks that stay are those of the best, and their vectors rank as was said.

    No held-out group is trained on, and no item stands twice in a gallery.
    """
    course, tokens, model = setting(folder)
    before = model.copy()
    told: list[int] = []
    found = finetune(course, tokens, model, HOW, advance=told.append)
    scores = {one["steps"]: one["rsum"] for one in found.tried}
    assert sorted(scores) == [0, 3, 6, 9]
    assert found.before == scores[0]
    assert found.after == max(scores.values()) == scores[found.steps]
    assert found.steps > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert sum(told) == 2 * N + 9 * 32
    form = _ClosedForm(course, HOW, course.tuned.vectors["bert"])
    assert not set(course.views[0].groups[form.train[:, 0]]) & set(course.views[0].groups[form._held[:, 0]])
    assert [len(rows) for rows in form._folds(form._with(form._now)[1])[0].problem.loose] == [0, 0]
    with states_of(model, tokens) as states:
        assert form.score(states.encoded()) == pytest.approx(found.after, abs=2e-3)


def test_nothing_better_leaves_the_model_as_it_was(folder: Path) -> None:
    """Where no check ranks better, as by steps too small to change a bit, steps are 0 and the blocks what they were."""
    course, tokens, model = setting(folder)
    before = model.copy()
    found = finetune(course, tokens, model, replace(HOW, rate=1e-30))
    assert (found.steps, found.after) == (0, found.before)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_seed_fixes_the_blocks(folder: Path) -> None:
    """Two trainings are bit-equal, another seed gives others; torch's own state is left alone."""
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        course, tokens, model = setting(folder)
        found.append((finetune(course, tokens, model, replace(HOW, seed=seed)), model.copy()))
    assert torch.equal(state, torch.random.get_rng_state())
    assert found[0][0] == found[1][0] != found[2][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_of_many_pairs_whole_groups_are_drawn(folder: Path) -> None:
    """A bound on the pairs keeps both captions of a picture, and only items that a pair holds; rows say which."""
    course, _, _ = setting(folder)
    few, rows = course_of(course.views, course.pairs, "text", "bert", course.plan, most=20, seed=0)
    assert len(few.pairs) == len(rows) == 20
    assert len(few.fixed) == 10
    assert np.array_equal(rows.reshape(-1, 2) // 2, np.repeat(rows[::2, None] // 2, 2, 1))
    np.testing.assert_array_equal(few.tuned.vectors["bert"], course.tuned.vectors["bert"][rows])
    np.testing.assert_array_equal(few.fixed.vectors["cnn"][few.pairs[:, 0]], course.fixed.vectors["cnn"][rows // 2])


def test_few_groups_are_refused(folder: Path) -> None:
    """Too few groups to hold some of them out are an error with their number."""
    course, tokens, model = setting(folder)
    few, rows = course_of(course.views, course.pairs, "text", "bert", course.plan, most=20, seed=0)
    with pytest.raises(ValueError, match="10 groups"):
        finetune(few, [tokens[row] for row in rows.tolist()], model, HOW)
