"""Bind a further modality to a space that stands, through one of its modalities: the pivot. No other head changes.

With pairs of the new modality and the pivot, the new head maps features x to x·A·Σ^2p·Bᵀ by CCA of x and the pivot's
joint vectors z, so that its dot products with z are those of CCA. Two modalities that no pair joins then meet where the
pivot lies. Soft pseudo-pairs with the items of the space's other modalities may refine it, if held-out groups rank
better for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.alignment import methods
from tasks.alignment.features import Features
from tasks.alignment.fit import Fitted, View, bank_rows
from tasks.alignment.methods import cca, soft
from tasks.alignment.plan import Plan
from tasks.alignment.problem import Choice, Maps, Problem
from tasks.alignment.space import Head, JointSpace

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

LEAST = 4
"""Pairs to bind on."""


def bind(
    space: JointSpace,
    view: View,
    pivot: str,
    z: Array,
    pairs: Indices,
    rest: Array,
    plan: Plan,
    *,
    values: Mapping[str, Any] | None = None,
) -> Fitted:
    """`space` and a head for `view`, fitted on `pairs` (m, 2), rows of `view` and of `z` (n, dim).

    `z` are the pivot's training items in the space, `rest` (r, dim) some of its other modalities, or none. The values
    are chosen by cross-validation over groups, unless they are given; `facts["bound"]` says what was chosen and why.
    A refit binds on other pairs of the same items. Raises `ValueError` when there are too few pairs.
    """
    groups = len(np.unique(view.groups[pairs[:, 0]]))
    if len(pairs) < LEAST or groups < 2:
        raise ValueError(
            f"{len(pairs)} pairs of {view.modality} and {pivot} in {groups} groups are too few to bind {view.modality}"
        )
    features = Features.fit(view.pooled, cnn=view.cnn, width=plan.pca)
    x = features.apply(view.vectors)
    problem = Problem(x, z, pairs, view.groups, replace(plan, dim=space.dim), blocks=(features.blocks(), []), rest=rest)
    choice = Choice(values) if values is not None else _choose(problem)
    made, leaning = methods.fit(problem, choice)
    solve = cache(partial(methods.prepare, problem, choice))  # not before a control asks for it

    def build(maps: Maps, bank: int, facts: Mapping[str, Any]) -> JointSpace:
        found, _ = maps
        queries = problem.joint(found, 0, bank_rows(len(view), bank, plan.seed))
        bound = dict(space.facts.get("bound", {})) | {view.modality: facts}
        return JointSpace(
            {**space.heads, view.modality: Head(features, found)},
            {**space.banks, view.modality: queries},
            space.hubness_k,
            {**space.facts, "bound": bound},
        )

    facts = {
        "pivot": pivot,
        "method": choice["method"],
        "chosen": dict(choice.values),
        "why": choice.why,
        "tried": choice.tried,
        "pairs": len(pairs),
        "pseudo_pairs": sum(len(one.items) for one in leaning),
    }

    def refit(links: Indices, bank: int) -> JointSpace:
        return build(solve()(links), bank, {"pivot": pivot})

    return Fitted(build(made, plan.bank, facts), refit, leaning)


def _choose(problem: Problem) -> Choice:
    """CCA's values, and rounds of pseudo-pairs where held-out groups rank better for them than for CCA alone."""
    assert problem.rest is not None
    first = cca.choose(problem)
    tried = [{"method": "cca"} | one for one in first.tried]
    why = f"held-out rsum by folds inside the training groups: cca {first.rsum:.1f}"
    if not len(problem.rest):
        return Choice({"method": "cca"} | dict(first.values), tried, why)
    more = soft.choose(problem)  # its best may be no round, and that is CCA
    tried += [{"method": "soft"} | one for one in more.tried]
    why += f", {more['rounds']} rounds of pseudo-pairs {more.rsum:.1f}"
    name, best = ("soft", more) if more["rounds"] and more.rsum > _best(first) else ("cca", first)
    return Choice({"method": name} | dict(best.values), tried, why)


def _best(choice: Choice) -> float:
    """The best rsum on all folds, that of the values taken or another: what rounds must surpass."""
    folds = max(one["folds"] for one in choice.tried)
    return max(float(one["rsum"]) for one in choice.tried if one["folds"] == folds)
