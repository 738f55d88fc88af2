"""Fit a joint space from the embeddings of pairs: features, regularisation chosen over groups, heads, query banks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.alignment import methods
from tasks.alignment.features import Features
from tasks.alignment.maps import Attention, Named
from tasks.alignment.methods.rounds import Leaning
from tasks.alignment.naming import Classes, Naming, unnamed
from tasks.alignment.plan import Plan
from tasks.alignment.problem import Choice, Maps, Problem
from tasks.alignment.space import Head, JointSpace
from tasks.alignment.tokens import Tokens
from tasks.mining.precision import Hidden

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
_HIDDEN = 6
"""Folds at least of pairs that are hidden in turn."""


@dataclass(frozen=True)
class View:
    """The training items of one modality: embeddings {encoder: (n, d)}, rows aligned, and each item's group (n,).

    `tokens` says which of the encoders give tokens, (n, t · d) float16, and how many t. `classes` are those that give
    scores of classes whose names are known, `names` {encoder: (c, d)} such names as the encoders of this view see them.
    """

    modality: str
    vectors: Mapping[str, Array]
    cnn: Mapping[str, bool]
    groups: Indices
    tokens: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    names: Mapping[str, Array] = field(default_factory=dict)

    @property
    def pooled(self) -> dict[str, Array]:
        """The embeddings that features are made of: no tokens, and no named classes unless there is nothing else."""
        whole = {name: one for name, one in self.vectors.items() if name not in self.tokens}
        return {name: one for name, one in whole.items() if name not in self.classes} or whole

    @property
    def naming(self) -> list[str]:
        """The encoders whose classes are named beside the features."""
        return [name for name in self.classes if name in self.vectors and name not in self.pooled]

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class Fitted:
    """The space, and what it takes to fit its heads anew on other pairs of the same items (for controls).

    `leaning` are the pseudo-pairs that its newest heads stand on beside the given ones, if any.
    """

    space: JointSpace
    refit: Callable[[Indices, int], JointSpace]
    leaning: Sequence[Leaning] = ()


def fit_space(
    left: View,
    right: View,
    pairs: Indices,
    plan: Plan,
    *,
    weights: npt.NDArray[np.float64] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Fitted:
    """Fit the heads of two modalities on `pairs` (m, 2), rows of `left` and `right`.

    The values of the plan's method are chosen by cross-validation over groups inside these items, unless `values`
    gives them. Deterministic under `plan.seed`. A refit keeps the values and the features, and is fitted on its own
    pairs, without names of classes, which would know better than shuffled pairs; its second argument bounds its bank.
    Raises `ValueError` when there are too few pairs to fit anything.
    """
    if len(pairs) < 4:
        raise ValueError(f"{len(pairs)} pairs between {left.modality} and {right.modality} are too few to align")
    features, tokens, classes, problem = _prepared(left, right, pairs, plan, weights)
    choice = methods.choose(problem) if values is None else Choice(values)
    made, leaning = methods.fit(problem, choice)
    solve = cache(partial(methods.prepare, problem, choice))  # not before a control asks for it

    def build(maps: Maps, bank: int, facts: Mapping[str, Any]) -> JointSpace:
        heads, banks = {}, {}
        for side, (view, found) in enumerate(zip((left, right), maps, strict=True)):
            heads[view.modality] = Head(
                features[side],
                found,
                tokens[side] if isinstance(found, Attention) else None,
                classes[side] if isinstance(found, Named) else None,
            )
            banks[view.modality] = problem.joint(found, side, bank_rows(len(view), bank, plan.seed))
        return JointSpace(heads, banks, plan.hubness_k, facts)

    facts = {
        "method": choice.values.get("method", plan.method),
        "chosen": dict(choice.values),
        "why": choice.why,
        "tried": choice.tried,
        "pairs": len(pairs),
        "pseudo_pairs": sum(len(one.items) for one in leaning),
        "seed": plan.seed,
    }

    def refit(links: Indices, bank: int) -> JointSpace:
        return build(unnamed(solve()(links)), bank, {})

    return Fitted(build(made, plan.bank, facts), refit, leaning)


def hidden_folds(left: View, right: View, pairs: Indices, plan: Plan, values: Mapping[str, Any]) -> Iterator[Hidden]:
    """All items by heads that have not seen a fold of the pairs, for each fold in turn, with given values.

    The folds are small, so that few pairs are missed by the heads and few hidden items swell the galleries.
    """
    folds = max(plan.folds, _HIDDEN)
    *_, problem = _prepared(left, right, pairs, replace(plan, folds=folds), None)
    for fold in problem.folds[:folds]:
        one, other = methods.prepare(fold.inner, Choice(values))(fold.train)
        x, y = problem.joint(one, 0, np.arange(len(left))), problem.joint(other, 1, np.arange(len(right)))
        yield Hidden(x, y, fold.train, fold.out)


def _prepared(
    left: View, right: View, pairs: Indices, plan: Plan, weights: npt.NDArray[np.float64] | None
) -> tuple[list[Features], list[Tokens], list[Classes], Problem]:
    """The features, the tokens and the classes of both sides, and what a method fits on."""
    views = (left, right)
    features = [Features.fit(view.pooled, cnn=view.cnn, width=plan.pca) for view in views]
    tokens = [Tokens.fit(view.vectors, cnn=view.cnn, counts=view.tokens) for view in views]
    classes = [Classes.fit(view.vectors, view.naming) for view in views]
    x, y = (one.apply(view.vectors) for one, view in zip(features, views, strict=True))
    blocks = features[0].blocks(), features[1].blocks()
    left_tokens, right_tokens = (one.apply(view.vectors) for one, view in zip(tokens, views, strict=True))
    naming = None
    for side, (own, other) in enumerate((views, views[::-1])):
        if own.naming and other.names:
            (logits,) = classes[side].apply(own.vectors)
            naming = Naming.of(side, logits, features[1 - side].apply(other.names))
    problem = Problem(x, y, pairs, left.groups, plan, weights, blocks, (left_tokens, right_tokens), naming=naming)
    return features, tokens, classes, problem


def shuffled_pairs(pairs: Indices, groups: Indices, seed: int) -> Indices:
    """The control: each left item gets the partners of another one, of another group where that is possible.

    >>> out = shuffled_pairs(np.array([[0, 0], [1, 1], [2, 2]]), np.array([0, 1, 2]), seed=0)
    >>> bool((out[:, 0] == out[:, 1]).any())
    False
    """
    generator = np.random.default_rng(seed)
    lefts = np.unique(pairs[:, 0])
    ring = generator.permutation(lefts)
    # along a random ring each item hands its partners to the next; a neighbour of the same group is passed over
    step = 1
    while step < len(ring) - 1 and np.mean(groups[ring] == groups[np.roll(ring, step)]) > 0.01:
        step += 1
    target = dict(zip(ring.tolist(), np.roll(ring, step).tolist(), strict=True))
    return np.stack([np.array([target[i] for i in pairs[:, 0].tolist()]), pairs[:, 1]], 1)


def bank_rows(count: int, size: int, seed: int) -> Indices:
    """The queries of a bank: all of `count` training items, with a pair or without, or `size` of them by seed."""
    rows = np.arange(count)
    if count > size:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
    return rows
