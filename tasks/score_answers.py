"""Measure how well questions are answered that nobody looked at, beside what looks at less; keep what was fitted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task

from config.errors import RunError
from config.params import AnswersParams
from storage.spaces import read_json, slug_of, write_json
from storage.workspace import Workspace
from tasks.answered import AnsweredRows, load_answered, model_folder, save_model, spec_in
from tasks.answering import baselines
from tasks.answering.model import Chosen, Model, choose, fit
from tasks.answering.rows import Indices
from tasks.answering.wording import canonical
from tasks.metrics import answering as metrics
from tasks.metrics.bootstrap import Values
from tasks.policies import by_content
from tasks.refs import AnswersRef

OURS = "rows"
"""What is measured, as the answers name it: stored rows."""
_CODE = ("tasks/score_answers.py", "tasks/answered.py", "tasks/answering", "tasks/metrics")
_HELD_OUT = ("test", "val", "heldout")
_FEWEST = 20  # questions of a type that are told apart


@task(name="evaluate answers", task_run_name="evaluate answers of {collection}", **by_content(*_CODE))
def evaluate_answers(
    workspace: Workspace,
    collection: str,
    params: AnswersParams,
    state: str,  # noqa: ARG001 - part of the cache key
) -> AnswersRef:
    """Answer held-out questions by the rows of other groups, each baseline beside; keep model and figures.

    All values are chosen by folds inside the rows that answer. The model that is kept is that of the training rows, or,
    measured by folds, of all.
    """
    start = time.perf_counter()
    about = load_answered(workspace, collection)
    split, parts = _parts(about, params)
    told = [_answer(about, rows, held, params) for rows, held in parts]
    held = np.concatenate([rows for _, rows in parts])
    figures = _figures(about, held, told, params) | {
        "seen": _seen(workspace, about),
        "split": split,
        "chosen": [one.model.chosen.to_json() | {"curve": None} for one in told],
    }
    model = told[0].model if params.folds < 2 else _fitted(about, np.arange(len(about.table)), params)
    save_model(workspace, about, model, params.unsure)
    figures["seconds"] = round(time.perf_counter() - start, 2)
    path = workspace.reports / f"answers-{slug_of(collection)}.json"
    write_json(path, figures)
    return AnswersRef(collection=collection, path=str(path), metrics=figures)


def stands(workspace: Workspace, found: AnswersRef) -> bool:
    """Whether the figures and the model of an evaluation are still there."""
    path = Path(found.path)
    return (model_folder(workspace, found.collection) / "config.json").is_file() and (
        path.is_file() and read_json(path) == found.metrics
    )


class _Told:
    """What was told of the held-out rows of one part: answers by method, confidences, the model."""

    def __init__(self, model: Model, answers: dict[str, Indices], confidence: Values | None) -> None:
        self.model, self.answers, self.confidence = model, answers, confidence


def _parts(about: AnsweredRows, params: AnswersParams) -> tuple[str, list[tuple[Indices, Indices]]]:
    """What is measured in words, and (rows that answer, rows that are held out) of each part."""
    groups = about.table.groups
    if params.folds >= 2:
        count = int(groups.max()) + 1
        fold = np.random.default_rng(params.seed).permutation(np.arange(count) % params.folds)[groups]
        numbers = np.unique(fold)
        if len(numbers) < 2:
            raise RunError("all questions belong to one group", "folds need several groups of media")
        return f"{len(numbers)} folds", [(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in numbers]
    train = np.flatnonzero(about.splits == "train")
    held = next((one for one in _HELD_OUT if (about.splits == one).any()), None)
    if held is None or not len(train):
        raise RunError(
            "the questions are not divided into training and held-out ones",
            "measure with --folds 5, or declare a split",
        )
    return held, [(train, np.flatnonzero(about.splits == held))]


def _fitted(
    about: AnsweredRows, rows: Indices, params: AnswersParams, *, sees: bool = True, asks: bool = True
) -> Model:
    chosen: Chosen = choose(about.table, rows, sees=sees, asks=asks, folds=params.inner, seed=params.seed)
    return fit(about.table, rows, chosen, seed=params.seed)


def _answer(about: AnsweredRows, rows: Indices, held: Indices, params: AnswersParams) -> _Told:
    """The answers to some held-out rows by others, of every method."""
    table = about.table
    counts = len(table.types), len(table.answers)
    answers: dict[str, Indices] = {}
    ours: Model | None = None
    confidence = None
    for name, sees, asks in ((OURS, True, True), (baselines.NAMES[0], False, True), (baselines.NAMES[1], True, False)):
        model = _fitted(about, rows, params, sees=sees, asks=asks)
        mapped = table.mapped(model.centres)
        told = model.tell(mapped.part(rows), mapped.part(held), *counts)
        answers[name] = told.answers[:, 0]
        if ours is None:
            ours, confidence = model, told.confidence
    answers["per question type"] = baselines.per_type(table.answer[rows], table.type[rows], table.type[held])
    answers["majority"] = baselines.majority(table.answer[rows], counts[1], len(held))
    answers["random"] = baselines.drawn(table.answer[rows], len(held), params.seed)
    assert ours is not None
    return _Told(ours, answers, confidence)


def _figures(about: AnsweredRows, held: Indices, told: list[_Told], params: AnswersParams) -> dict[str, Any]:
    table = about.table
    answers = {name: np.concatenate([one.answers[name] for one in told]) for name in told[0].answers}
    groups = np.unique(table.groups[held], return_inverse=True)[1].astype(np.int64)
    right = {name: (given == table.answer[held]).astype(np.float64) for name, given in answers.items()}
    how: dict[str, Any] = {"draws": params.draws, "confidence": params.confidence, "seed": params.seed}
    figures: dict[str, Any] = {
        "schema": 1,
        "collection": about.collection,
        "modality": about.modality,
        "questions": len(held),
        "rows": len(table),
        "groups": int(groups.max()) + 1,
        "left_out": about.left_out,
        "answers": len(table.answers),
        "methods": metrics.report(right, OURS, groups, **how),
        "types": list(_by_type(table.types, table.type[held], right)),
        "encoders": [one.encoder for one in about.encoders],
        "folds": params.folds,
        **how,
    }
    many = [[canonical(one) for one in about.annotators[row]] for row in held.tolist()]
    if max(map(len, many)) > 1:
        vqa = {
            name: np.array([metrics.vqa_accuracy(table.answers[a], own) for a, own in zip(given, many, strict=True)])
            for name, given in answers.items()
        }
        figures["vqa"] = metrics.report(vqa, OURS, groups, **how)
    sure = [one.confidence for one in told]
    known = [one for one in sure if one is not None]
    if len(known) == len(sure):
        p = np.concatenate(known)
        answered = p >= params.unsure
        figures["calibration"] = metrics.calibration(p, right[OURS], groups, **how) | {
            "unsure": params.unsure,
            "answered": float(answered.mean()),
            "accuracy_answered": float(right[OURS][answered].mean()) if answered.any() else None,
        }
    return figures


def _seen(workspace: Workspace, about: AnsweredRows) -> list[str]:
    """What the encoders saw in their training, where that matters."""
    said = {spec_in(workspace, one.table)["seen"] for one in about.encoders}
    return sorted(one for one in said if one)


def _by_type(types: Any, kinds: npt.NDArray[np.int64], right: dict[str, Values]) -> Iterator[dict[str, Any]]:
    """Accuracy of every method by question type, the most frequent first; rare types together."""
    counts = np.bincount(kinds, minlength=len(types))
    common = [one for one in np.argsort(-counts, kind="stable") if counts[one] >= _FEWEST]
    for name, rows in [(types[one], kinds == one) for one in common] + [("rare types", ~np.isin(kinds, common))]:
        if rows.any():
            yield {"type": name, "questions": int(rows.sum())} | {
                method: float(values[rows].mean()) for method, values in right.items()
            }
