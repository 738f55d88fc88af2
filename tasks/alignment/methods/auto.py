"""The method that ranks held-out groups best, found within a time budget; to displace an earlier one takes evidence."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import ModuleType

from tasks.alignment.problem import Choice, Problem, gain_in_errors


def choose_among(methods: Mapping[str, ModuleType], problem: Problem) -> Choice:
    """The best of the `methods`, in their order, each by its own choice of values.

    A later method is taken when it ranks held-out queries better than the best before it by more than the standard
    error of the difference (the rule of Breiman et al. 1984): the first is the simplest, and with few pairs the winner
    of many trials is often luck. One that falls far behind on the first fold is not tried on the others. No further
    method is tried once `plan.seconds` are spent; the first one always is.
    """
    begin = time.perf_counter()
    found: dict[str, Choice] = {}
    winner = ""
    for name, method in methods.items():
        if found and time.perf_counter() - begin > problem.plan.seconds:
            break
        found[name] = method.choose(problem)
        if not winner or gain_in_errors(found[name].held, found[winner].held, len(problem.pairs)) > 1:
            winner = name
            problem.rival[:] = found[name].held
    tried = [{"method": name} | one for name, choice in found.items() for one in choice.tried]
    return Choice({"method": winner} | dict(found[winner].values), tried, _why(found, winner, methods, problem))


def _why(found: Mapping[str, Choice], winner: str, methods: Mapping[str, ModuleType], problem: Problem) -> str:
    scores = {name: choice.rsum for name, choice in found.items()}
    others = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
    why = f"held-out rsum by folds inside the training groups: {others}"
    best = max(scores, key=lambda name: scores[name])
    if scores[best] > scores[winner]:
        why += f"; {best} is not better than {winner} by more than a standard error"
    left = [name for name in methods if name not in found]
    return why + (f"; not tried within {problem.plan.seconds:.0f} s: {', '.join(left)}" if left else "")
