"""The methods by name. Each chooses its values by folds over groups, then makes heads from pairs.

To add one: a file with `choose(problem) -> Choice` and `prepare(problem, choice) -> (pairs -> maps)`, and its name.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import numpy.typing as npt

from tasks.alignment.methods import asif, auto, cca, cotraining, heads, names, procrustes, ridge, soft
from tasks.alignment.methods.rounds import Leaning
from tasks.alignment.naming import named
from tasks.alignment.problem import Choice, Maps, Problem

Indices = npt.NDArray[np.int64]

METHODS: dict[str, ModuleType] = {
    "cca": cca,
    "soft": soft,
    "cotraining": cotraining,
    "heads": heads,
    "ridge": ridge,
    "procrustes": procrustes,
    "asif": asif,
}
"""In the order in which `auto` tries them; between equals the earlier one is taken."""
UNPAIRED = {"soft", "cotraining"}
"""Those that live on unpaired items, and say by `fit` on which; `auto` leaves them out where there are none."""
AUTO = "auto"
NAMES = (*METHODS, AUTO)


def choose(problem: Problem) -> Choice:
    """Values for the plan's method; for `auto` the method is one of them. Raises `ValueError` for an unknown name."""
    if problem.plan.method not in NAMES:
        raise ValueError(f"there is no method {problem.plan.method!r}; known: {', '.join(NAMES)}")
    found: Choice
    if problem.plan.method == AUTO:
        left, right = problem.loose
        without = set() if len(left) and len(right) else UNPAIRED
        found = auto.choose_among({name: one for name, one in METHODS.items() if name not in without}, problem)
    else:
        found = METHODS[problem.plan.method].choose(problem)
    return found if problem.naming is None else names.choose(problem, found, prepare)


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from pairs of the problem's items to heads."""
    made: Callable[[Indices], Maps] = METHODS[_name(problem, choice)].prepare(problem, choice)
    return lambda pairs: named(problem, made(pairs), choice.values.get("names", 0.0))


def fit(problem: Problem, choice: Choice) -> tuple[Maps, list[Leaning]]:
    """Heads by the problem's own pairs, and the pseudo-pairs that they stand on, if the method has found any."""
    name = _name(problem, choice)
    if name not in UNPAIRED:
        return prepare(problem, choice)(problem.pairs), []
    maps, leaning = METHODS[name].fit(problem, choice, problem.pairs)
    return named(problem, maps, choice.values.get("names", 0.0)), leaning


def _name(problem: Problem, choice: Choice) -> str:
    return str(choice.values.get("method", problem.plan.method))
