"""The method that ranks held-out groups best, found within a time budget; a costlier one must be better to be taken."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import ModuleType

from tasks.alignment.problem import Choice, Problem


def choose_among(methods: Mapping[str, ModuleType], problem: Problem) -> Choice:
    """The best of the `methods`, in their order, each by its own choice of values.

    No further method is tried once `plan.seconds` are spent; the first one always is.
    """
    begin = time.perf_counter()
    found: dict[str, tuple[float, Choice]] = {}
    tried = []
    for name, method in methods.items():
        if found and time.perf_counter() - begin > problem.plan.seconds:
            break
        choice = method.choose(problem)
        best = max(one["rsum"] for one in choice.tried if _same(one, choice.values))
        found[name] = best, choice
        tried += [{"method": name} | one for one in choice.tried]
    winner = max(found, key=lambda name: found[name][0])
    others = ", ".join(f"{name} {score:.1f}" for name, (score, _) in found.items())
    left = [name for name in methods if name not in found]
    why = f"held-out rsum by folds inside the training groups: {others}"
    why += f"; not tried within {problem.plan.seconds:.0f} s: {', '.join(left)}" if left else ""
    return Choice({"method": winner} | dict(found[winner][1].values), tried, why)


def _same(one: Mapping[str, object], values: Mapping[str, object]) -> bool:
    return all(one.get(name) == value for name, value in values.items())
