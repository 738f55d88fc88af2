"""Guidance on the user's own training pairs: encoders and methods compared, and the learning curve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from config.params import AlignParams
from storage.workspace import Workspace
from tasks.align import load_training, plan_of
from tasks.alignment.comparison import Candidate, agreement_of, candidates, cross_validated, only, ranked
from tasks.alignment.curve import fits_of, measure, outlook, points, resampled_curves, sizes_up_to
from tasks.alignment.methods import AUTO, NAMES
from tasks.alignment.outer import some_pairs
from tasks.encode import spec_of
from tasks.progress import progress
from tasks.refs import EncoderRef

DRAWS = 1_000
CONFIDENCE = 0.95
_CURVE = "cca"  # what a curve is measured by where the params say auto: one method throughout
_CURVE_DRAWS = 500


def check_methods(methods: Sequence[str]) -> None:
    """Raise `UserError` for a method that nobody knows."""
    unknown = [name for name in methods if name not in NAMES]
    if unknown:
        raise UserError(f"there is no method {unknown[0]!r}", f"known: {', '.join(NAMES)}")


def compare_encoders(
    workspace: Workspace,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    params: AlignParams,
    *,
    methods: Sequence[str],
    folds: int,
    most: int,
    seconds: float,
) -> dict[str, Any]:
    """Every pair of encoders, and all of a modality joined, under each method, by figures on groups not seen.

    Cross-validation over the groups of the training split, so that the evaluation split stays unseen; all candidates
    are ranked on the same items, those with vectors under every encoder, and at most `most` pairs. No further candidate
    is begun once `seconds` are spent; the first always is.
    """
    check_methods(methods)
    begin = time.perf_counter()
    whole = load_training(workspace.store, collections, encoded)
    left, right, pairs = some_pairs(whole.left, whole.right, whole.pairs, most, params.seed)
    modalities = (left.modality, right.modality)
    wanted = candidates(list(left.vectors), list(right.vectors), methods)
    plan = plan_of(params)
    agreements: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}
    done: list[Candidate] = []
    totals: list[npt.NDArray[np.float64]] = []
    cpu: list[float] = []
    with progress("compare", len(wanted)) as advance:
        for one in wanted:
            if done and time.perf_counter() - begin > seconds:
                break
            views = only(left, one.left), only(right, one.right)
            try:
                if (one.left, one.right) not in agreements:
                    found = agreement_of(*views, pairs, plan.pca, seed=plan.seed)
                    agreements[one.left, one.right] = found._asdict()
                hits, spent = cross_validated(*views, pairs, replace(plan, method=one.method), folds=folds)
            except ValueError as error:
                raise UserError(str(error), "give more known pairs, or take fewer --folds") from None
            done.append(one)
            totals.append(hits)
            cpu.append(spent)
            advance(1)
    rows = [
        _about(done[figures["place"]], modalities)
        | {"cpu_seconds": cpu[figures["place"]]}
        | {name: value for name, value in figures.items() if name != "place"}
        | {"agreement": agreements[done[figures["place"]].left, done[figures["place"]].right]}
        for figures in ranked(totals, draws=DRAWS, confidence=CONFIDENCE, seed=plan.seed)
    ]
    return {
        "collections": list(collections),
        "modalities": list(modalities),
        "split": "train",
        "folds": folds,
        "pairs": len(pairs),
        "of_pairs": len(whole.pairs),
        "confidence": CONFIDENCE,
        "rows": rows,
        "not_tried": [_about(one, modalities) for one in wanted[len(done) :]],
        "seen": sorted({seen for ref in encoded if (seen := spec_of(ref.encoder, ref.modality).seen)}),
        "seconds": round(time.perf_counter() - begin, 2),
    }


def _about(one: Candidate, modalities: tuple[str, str]) -> dict[str, Any]:
    """A candidate: its encoders, their widths and licences, and the method."""
    sides = zip(modalities, (one.left, one.right), strict=True)
    specs = {modality: [spec_of(name, modality) for name in names] for modality, names in sides}
    return {
        "encoders": {modality: [spec.name for spec in many] for modality, many in specs.items()},
        "method": one.method,
        "width": {modality: sum(spec.dim for spec in many) for modality, many in specs.items()},
        "licences": sorted({spec.licence for many in specs.values() for spec in many}),
    }


def learning_curve(
    workspace: Workspace,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    params: AlignParams,
    *,
    more: int,
    seeds: int,
    folds: int,
    most: int,
    seconds: float,
) -> dict[str, Any]:
    """How the figures grow with the number of training pairs, and what `more` of them would bring.

    Cross-validation over the groups of the training split, with at most `most` of its pairs. No further seed is begun
    once `seconds` are spent.
    """
    begin = time.perf_counter()
    whole = load_training(workspace.store, collections, encoded)
    left, right, pairs = some_pairs(whole.left, whole.right, whole.pairs, most, params.seed)
    plan = plan_of(params)
    plan = replace(plan, method=_CURVE) if plan.method == AUTO else plan
    count = fits_of(seeds, len(sizes_up_to(len(pairs))), folds)
    try:
        with progress(f"fit {plan.method} on {len(pairs):,} pairs and fewer", count) as advance:
            measured = measure(
                left,
                right,
                pairs,
                plan,
                seeds=seeds,
                folds=folds,
                advance=advance,
                go_on=lambda: time.perf_counter() - begin < seconds,
            )
    except ValueError as error:
        raise UserError(str(error), "give more known pairs") from None
    drawn = resampled_curves(measured, _CURVE_DRAWS, plan.seed)
    return {
        "collections": list(collections),
        "encoders": {ref.modality: [one.encoder for one in encoded if one.modality == ref.modality] for ref in encoded},
        "method": plan.method,
        "split": "train",
        "folds": folds,
        "seeds": len(measured.totals),
        "pairs": len(pairs),
        "of_pairs": len(whole.pairs),
        "confidence": CONFIDENCE,
        "points": points(measured, drawn, CONFIDENCE),
        "outlook": outlook(measured, drawn, now=len(whole.pairs), more=more, confidence=CONFIDENCE).figures(),
        "seconds": round(time.perf_counter() - begin, 2),
    }
