"""Fine-tuning: the last blocks of a text encoder learn by the loss of the heads, from an aligned space.

The other modality's encoders stay as they are, and so do all other encoders of the texts. Held-out groups inside the
training pairs judge: a closed form fitted anew on the new vectors must rank these groups better than one on the old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import cos, log, pi
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import normalize

from tasks.alignment.features import Features
from tasks.alignment.fit import View
from tasks.alignment.losses import LOSSES
from tasks.alignment.maps import Linear
from tasks.alignment.methods import cca
from tasks.alignment.outer import nested
from tasks.alignment.plan import Plan, TunePlan
from tasks.alignment.problem import Fold, Maps, Problem, one_each
from tasks.alignment.training import batches, threads
from tasks.encoders.last_blocks import LastBlocks
from tasks.encoders.states import States, states_of
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
_LEAST = 20
"""Groups below which too few would be held out."""
_DRAWS = 5
"""Draws of one pair an item; a score is the mean over them."""


class Tuned(NamedTuple):
    """The steps whose blocks were kept (0: none ranked better), the held-out rsum before and after, and all trials."""

    steps: int
    before: float
    after: float
    tried: list[dict[str, Any]]


@dataclass(frozen=True)
class Course:
    """Two views whose items `pairs` (m, 2) join; the encoder named `encoder` of view `side` (0 or 1) is to learn."""

    views: tuple[View, View]
    pairs: Indices
    side: int
    encoder: str
    plan: Plan

    @property
    def tuned(self) -> View:
        """The view whose encoder learns."""
        return self.views[self.side]

    @property
    def fixed(self) -> View:
        """The other one."""
        return self.views[1 - self.side]

    @property
    def groups(self) -> Indices:
        """The group of each pair, (m,)."""
        return self.views[0].groups[self.pairs[:, 0]]


def course_of(
    views: tuple[View, View], pairs: Indices, modality: str, encoder: str, plan: Plan, *, most: int, seed: int
) -> tuple[Course, Indices]:
    """About `most` of the pairs, whole groups drawn by seed, and the items of these alone.

    With it the rows of the items to learn of: what they were in the view of `modality`, whose `encoder` is to learn.
    """
    if len(pairs) > most:
        (drawn,) = nested(views[0].groups[pairs[:, 0]], [most], np.random.default_rng(seed))
        pairs = pairs[drawn]
    rows, places = zip(*(np.unique(pairs[:, side], return_inverse=True) for side in (0, 1)), strict=True)
    left, right = (
        replace(view, vectors={name: one[kept] for name, one in view.vectors.items()}, groups=view.groups[kept])
        for view, kept in zip(views, rows, strict=True)
    )
    side = [view.modality for view in views].index(modality)
    return Course((left, right), np.stack(places, 1), side, encoder, plan), rows[side]


def finetune(
    course: Course,
    tokens: Sequence[Sequence[int]],
    model: LastBlocks,
    how: TunePlan,
    *,
    scratch: Path | None = None,
    cores: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> Tuned:
    """Train the blocks of `model`, the encoder of the course; `tokens` are the ids of each text to learn of.

    A batch holds one pair a group, drawn anew each time. After a third, two thirds and all of the steps the held-out
    groups judge; the model is left with the blocks that ranked best, which may be those that it came with. The same
    under one seed with the same number of `cores` on one machine. `scratch` is a folder for temporary files, `advance`
    is told of the texts and pairs done.
    Raises `ValueError` when there are too few groups.
    """
    with threads(cores), torch.random.fork_rng(devices=[]), states_of(model, tokens, scratch, advance) as states:
        torch.manual_seed(how.seed)
        now = states.encoded()  # by the same runtime as what it is compared with
        form = _ClosedForm(course, how, now)
        best, kept, scores = 0, model.copy(), {0: form.score(now)}
        for step in _steps(form, states, model, how, advance):
            if step in {-(-how.steps * part // 3) for part in (1, 2, 3)}:
                scores[step] = form.score(states.encoded())
                if scores[step] > scores[best]:
                    best, kept = step, model.copy()
        model.restore(kept)
    tried = [{"steps": step, "rsum": round(score, 3)} for step, score in scores.items()]
    return Tuned(best, round(scores[0], 3), round(scores[best], 3), tried)


class _ClosedForm:
    """CCA on the pairs to learn from, with the vectors that the tuned encoder has at a time: `now` (n, d) at first.

    Its values stay. Features are narrower than those of a space, `how.pca` components an encoder, for they are fitted
    several times.
    """

    def __init__(self, course: Course, how: TunePlan, now: Array) -> None:
        names, number = np.unique(course.groups, return_inverse=True)
        if len(names) < _LEAST:
            raise ValueError(f"{len(names)} groups of training pairs are too few to hold some of them out")
        generator = np.random.default_rng(how.seed)
        held = np.isin(number, generator.permutation(len(names))[: max(2, round(how.held * len(names)))])
        self.course, self.groups = course, number[~held]
        self.train, self._held = course.pairs[~held], course.pairs[held]
        self._draws = [(one_each(self._held, generator), one_each(self.train, generator)) for _ in range(_DRAWS)]
        self._plan = replace(course.plan, pca=min(course.plan.pca, how.pca))
        self._fixed = self._features(course.fixed, course.fixed.vectors).apply(course.fixed.vectors)
        self._now = now
        self._choice = cca.choose(self._folds(self._with(now)[1])[0].inner)

    def score(self, vectors: Array) -> float:
        """Held-out rsum with these vectors of the tuned encoder."""
        folds = self._folds(self._with(vectors)[1])
        maps = self._maps(folds[0])
        return float(np.mean([fold.score(maps) for fold in folds]))

    def start(self) -> tuple[Array, Array, Array, Array]:
        """The space on the vectors as they came: mean (d,), matrix (d, dim), rest (n, dim), others (n', dim).

        A text v is (v − mean)·matrix + rest, with v − mean at unit length; `rest` is what other encoders say of it.
        `others` are the items of the fixed side, at unit length.
        """
        course = self.course
        features, z = self._with(self._now)
        maps = self._maps(self._folds(z)[0])
        own, other = maps[course.side], maps[1 - course.side]
        assert isinstance(own, Linear)
        one, part = features.maps[course.encoder], list(features.maps).index(course.encoder)
        matrix = one.axes @ features.blocks()[part] @ own.matrix / np.sqrt(len(features.maps))
        rest = own.apply(z) - normalise(self._now - one.mean) @ matrix
        return one.mean, matrix.astype(np.float32), rest.astype(np.float32), normalise(other.apply(self._fixed))

    def _with(self, vectors: Array) -> tuple[Features, Array]:
        """Features of the tuned side with these vectors of its encoder: fitted, and (n, width)."""
        known = dict(self.course.tuned.vectors) | {self.course.encoder: vectors}
        features = self._features(self.course.tuned, known)
        return features, features.apply(known)

    def _features(self, view: View, vectors: Mapping[str, Array]) -> Features:
        return Features.fit(vectors, cnn=view.cnn, width=self._plan.pca)

    def _folds(self, z: Array) -> list[Fold]:
        """The one fold, train and held out, with each draw of its queries."""
        course = self.course
        x, y = (z, self._fixed) if course.side == 0 else (self._fixed, z)
        problem = Problem(x, y, course.pairs, course.views[0].groups, self._plan)
        return [Fold(problem, self.train, None, self._held, queries, bank) for queries, bank in self._draws]

    def _maps(self, fold: Fold) -> Maps:
        return cca.prepare(fold.inner, self._choice)(self.train)


def _steps(
    form: _ClosedForm, states: States, model: LastBlocks, how: TunePlan, advance: Callable[[int], None]
) -> Iterator[int]:
    """Train the blocks, and beside them a square map of either side that begins as the identity; gives each step."""
    mean, matrix, rest, others = (torch.from_numpy(one) for one in form.start())
    lines = [nn.Parameter(torch.eye(matrix.shape[1])) for _ in range(2)]
    loss, scale, bias = LOSSES[how.loss]
    log_scale, offset = nn.Parameter(torch.tensor(log(scale))), nn.Parameter(torch.tensor(bias))
    optimiser = torch.optim.AdamW(
        [
            {"params": model.parameters(), "lr": how.rate, "weight_decay": how.decay},
            {"params": lines, "lr": how.head_rate, "weight_decay": how.head_decay},
            {"params": [log_scale, offset], "lr": how.head_rate, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share(step, how.steps))
    dropout = nn.Dropout(how.dropout)
    one_a_group = np.stack([form.groups, np.arange(len(form.train))], 1)
    for step, (_, drawn, _) in enumerate(batches(one_a_group, how.batch, how.steps, how.seed, mixup=False), 1):
        ends = form.train[drawn.numpy()]
        rows = ends[:, form.course.side]
        texts = normalize(normalize(states.pooled(rows) - mean) @ matrix + rest[torch.from_numpy(rows)])
        fixed = others[torch.from_numpy(ends[:, 1 - form.course.side])]
        a, b = (normalize(dropout(z) @ line) for z, line in zip((fixed, texts), lines, strict=True))
        optimiser.zero_grad()
        loss(a, b, log_scale, offset).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        advance(len(rows))
        yield step


def _share(step: int, steps: int) -> float:
    """Of the full rate: it rises over the first tenth of the steps, then falls by half a cosine."""
    return min((step + 1) / max(steps / 10, 1), 0.5 * (1 + cos(pi * step / steps)))
