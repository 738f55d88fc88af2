"""Gather what a report shows of an assessed space: samples of bounded size, whatever the space holds. No Prefect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from config.errors import RunError, UserError
from config.params import AlignParams
from storage import schemas
from storage.ann import build_index, recall_by_time
from storage.filters import eq, isin
from storage.folders import whole_file
from storage.marks import latest
from storage.promotions import history, stack
from storage.spaces import read_json, slug_of, write_json
from storage.tables import Store, matrix
from storage.workspace import Workspace
from tasks.again import commands
from tasks.compare import learning_curve
from tasks.heldout import Direction, Ways, both_ways
from tasks.index import probes_of
from tasks.machine import machine
from tasks.refs import Aligned, DuplicateReport
from tasks.reports.contents import Encoder, Place, Report
from tasks.reports.layout import plane
from tasks.reports.page import render
from tasks.retrievals import retrievals
from tasks.showing import Showing, words_of

Indices = npt.NDArray[np.int64]
Array = npt.NDArray[np.float32]
Metrics = dict[str, Any]

_LINKS = 10_000  # known pairs whose cosines are counted
_PAIRS, _FURTHER = 300, 150  # on the map: held-out pairs, and items of each further modality
_NAMED = 8  # leaks, duplicates and quarantined things named
_EDGES = np.round(np.arange(-0.3, 1.0001, 0.05), 2)
_INDEXED = 20_000  # items of the sample that an index is tried on
_LEAST_INDEXED = 1_000
_CURVE_SECONDS = 120.0


def metrics_of(aligned: Aligned) -> Metrics:
    """The figures of a space as they were measured last. Raises `UserError` where they were not."""
    path = Path(aligned.space.path) / "metrics.json"
    try:
        found: Metrics = read_json(path)
        return found
    except (OSError, ValueError):
        raise UserError(f"the space {aligned.space.space_id} was not assessed", "run `modalign evaluate`") from None


def report_of(workspace: Workspace, aligned: Aligned, metrics: Metrics, *, full: bool = False) -> Report:
    """All that the report of a space says. `full` measures the learning curve too, and an index where there is none."""
    store, space = workspace.store, aligned.space
    config = read_json(Path(space.path) / "config.json")
    try:
        ways = both_ways(store, space, aligned.collections, metrics["split"])
    except RunError:  # what was held out is gone since
        ways = None
    shown = Showing(store, space.table)
    best, worst, hubs, figures = retrievals(ways, shown, metrics["seed"]) if ways else ((), (), (), {})
    near = latest(store, f"duplicates {' '.join(aligned.collections)}", DuplicateReport)
    if full:
        keep_curve(workspace, _measured_curve(workspace, aligned, config))
    further = figures | {
        "schema": 1,
        "space": space.space_id,
        "cosines": _cosines(ways[0], metrics["seed"]) if ways else None,
        "items": _items(store, aligned),
        "duplicates": None if near is None else near.model_dump(include={"threshold", "counts"}),
        "ann": _ann(store, aligned, full=full) if store.exists(space.table) else None,
        "curve": _kept_curve(workspace, aligned),
    }
    return Report(
        metrics=metrics,
        further=json.loads(json.dumps(further)),  # as whoever reads the file will have it
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        before=before_of(store, aligned, metrics),
        gate=_gate(store, aligned),
        encoders=[
            Encoder(modality, one["name"], one["dim"], one["licence"], one["seen"])
            for modality, many in config["encoders"].items()
            for one in many
        ],
        best=best,
        worst=worst,
        hubs=hubs,
        places=_places(store, aligned, ways, metrics),
        leaks=[f"{one.modality}: {', '.join(one.examples)} ({' / '.join(one.splits)})" for one in _leaks(aligned)],
        duplicates=[
            f"{one.left} ~ {one.right} ({' / '.join(one.splits)}, {one.score:.3f})"
            for one in ([*near.leaked, *near.pairs] if near else ())[:_NAMED]
        ],
        quarantine=list(_faults(store, aligned.collections)),
        environment=machine(),
        commands=commands(store, aligned, config, metrics),
    )


def write_report(workspace: Workspace, report: Report, out: Path | None = None) -> Path:
    """Write the page, `out` or a file under reports, and beside it, as JSON, the figures that metrics.json lacks.

    Raises `UserError` for a place that is no file's.
    """
    path = out or report_file(workspace, str(report.metrics["name"]))
    if path.is_dir() or path.suffix == ".json":
        raise UserError(f"the report cannot be written to {path}", "name a file, as report.html")
    with whole_file(path) as fresh:
        write_json(path.with_suffix(".json"), report.further)
        fresh.write_text(render(report), encoding="utf-8")
    return path


def report_file(workspace: Workspace, name: str) -> Path:
    """Where the report on a space lies."""
    return workspace.reports / f"report-{slug_of(name)}.html"


def keep_curve(workspace: Workspace, found: dict[str, Any] | None) -> None:
    """Keep a learning curve for the reports on its collections."""
    if found is not None:
        write_json(_curve_file(workspace, found["collections"]), found)


def _curve_file(workspace: Workspace, collections: Sequence[str]) -> Path:
    return workspace.reports / f"curve-{slug_of('+'.join(collections))}.json"


def _kept_curve(workspace: Workspace, aligned: Aligned) -> dict[str, Any] | None:
    """The curve that was measured last on the collections of a space, if it was by the same encoders."""
    try:
        found: dict[str, Any] = read_json(_curve_file(workspace, aligned.collections))
    except (OSError, ValueError):
        return None
    own = {one.modality: [r.encoder for r in aligned.encoded if r.modality == one.modality] for one in aligned.encoded}
    return found if found["encoders"] == own else None


def _measured_curve(workspace: Workspace, aligned: Aligned, config: dict[str, Any]) -> dict[str, Any] | None:
    """The learning curve, measured now; None where there are too few pairs."""
    params = AlignParams.model_validate(config["params"])
    try:
        return learning_curve(
            workspace, aligned.collections, aligned.encoded, params,
            more=max(100, aligned.space.pairs // 10), seeds=2, folds=3, most=5_000, seconds=_CURVE_SECONDS,
        )  # fmt: skip
    except UserError:
        return None


def before_of(store: Store, aligned: Aligned, metrics: Metrics) -> Metrics | None:
    """The figures of the space in force, or of the one before it, on the same split; None where there are none."""
    others = [one["space"] for one in stack(store, aligned.space.name)]
    for space in reversed([one for one in others if one["space_id"] != aligned.space.space_id]):
        try:
            found: Metrics = read_json(Path(space["path"]) / "metrics.json")
        except (OSError, ValueError):
            continue
        return found if found["split"] == metrics["split"] else None
    return None


def _gate(store: Store, aligned: Aligned) -> str:
    """What was decided of the space last, in words."""
    own = [one for one in history(store, aligned.space.name) if one.space_id == aligned.space.space_id]
    return f"The gate: {own[-1].event}; {own[-1].reason}." if own else ""


def _leaks(aligned: Aligned) -> Sequence[Any]:
    return aligned.groups.examples[:_NAMED]


def _cosines(way: Direction, seed: int) -> Metrics:
    """Histograms of the cosines of known pairs and of as many random ones."""
    generator = np.random.default_rng(seed)
    links = way.links[np.sort(generator.permutation(len(way.links))[:_LINKS])]
    other = generator.permutation(len(links))
    query, gallery = way.query.vectors[links[:, 0]], way.gallery.vectors[links[:, 1]]
    found = {"paired": (query * gallery).sum(1), "random": (query * gallery[other]).sum(1)}
    out: Metrics = {"edges": _EDGES.tolist()}
    for name, values in found.items():
        counts = np.histogram(np.clip(values, _EDGES[0], _EDGES[-1]), _EDGES)[0]
        out |= {name: (counts / len(values)).tolist(), f"{name}_mean": float(values.mean())}
    nearer = np.searchsorted(np.sort(found["random"]), found["paired"])
    return out | {"auc": float(nearer.mean() / len(links))}


def _places(store: Store, aligned: Aligned, ways: Ways | None, metrics: Metrics) -> list[Place]:
    """A sample of held-out items on a plane: pairs of the base, and some of every further modality."""
    if ways is None:
        return []
    way = ways[0]
    drawn = np.random.default_rng(metrics["seed"]).permutation(len(way.links))
    links = way.links[drawn[np.sort(np.unique(way.links[drawn, 1], return_index=True)[1])][:_PAIRS]]
    keys = [*way.query.keys[np.unique(links[:, 0])].tolist(), *way.gallery.keys[links[:, 1]].tolist()]
    columns = ["key", "modality", "uri", "text", "vector"]
    rows = list(store.stream(aligned.space.table, columns, isin("key", sorted(keys))))
    for name in aligned.space.bound:
        split = next((one["split"] for way, one in metrics["directions"].items() if name in way.split("_to_")), None)
        if split is not None:
            where = eq("modality", name) & eq("split", split)
            rows += [batch.slice(0, _FURTHER) for batch in _some(store.stream(aligned.space.table, columns, where))]
    table = pa.Table.from_batches(rows).sort_by("key")
    flat = plane(matrix(table["vector"].combine_chunks()), metrics["seed"])
    return [
        Place(x, y, row["modality"], words_of(row["text"] or row["uri"] or ""))
        for (x, y), row in zip(flat.tolist(), table.drop_columns(["vector"]).to_pylist(), strict=True)
    ]


def _some(batches: Iterator[pa.RecordBatch]) -> list[pa.RecordBatch]:
    first = next(batches, None)
    return [] if first is None else [first]


def _items(store: Store, aligned: Aligned) -> list[Metrics]:
    """How many items of each collection, modality and split the space holds."""
    modalities, splits = (
        aligned.space.modalities,
        sorted(aligned.groups.splits, key=lambda name: (name != "train", name)),
    )
    counted = [
        {
            "collection": collection,
            "modality": modality,
            "split": split,
            "count": store.count(
                aligned.space.table, eq("collection", collection) & eq("modality", modality) & eq("split", split)
            ),
        }
        for collection in aligned.collections
        for modality in modalities
        for split in splits
    ]
    return [one for one in counted if one["count"]]


def _ann(store: Store, aligned: Aligned, *, full: bool) -> Metrics:
    """How fast the index answers and how truly; of none, in full, what one would do on a sample."""
    index, probes = aligned.index.index, probes_of(store, aligned.space)
    points, exact = recall_by_time(store, aligned.space.table, index, probes)
    rows, sampled = store.count(aligned.space.table), False
    if full and index.kind == "exact" and rows >= _LEAST_INDEXED:
        points, exact, rows, sampled = *_as_if_indexed(store, aligned, probes), True
    return {
        "kind": "IVF_FLAT" if sampled else index.kind,
        "points": points,
        "exact_milliseconds": exact,
        "batch": max((len(queries) for queries, _ in probes), default=0),
        "rows": rows,
        "target": index.target,
        "sampled": sampled,
    }


def _as_if_indexed(store: Store, aligned: Aligned, probes: Sequence[Any]) -> tuple[list[dict[str, float]], float, int]:
    """Recall by time of an index over a sample of the space, made for this look alone."""
    generator, name = np.random.default_rng(0), "sample"
    share = min(1.0, _INDEXED / store.count(aligned.space.table))
    schema = store.schema(aligned.space.table)
    with TemporaryDirectory() as folder:
        small = Store(folder)
        for batch in store.stream(aligned.space.table, schema.names):
            rows = pa.Table.from_batches([batch])
            small.upsert(name, schema, rows.filter(pa.array(generator.random(rows.num_rows) < share)))
        index = build_index(small, name, probes, kind="IVF_FLAT", metric=aligned.index.index.metric)
        points, exact = recall_by_time(small, name, index, probes)
        return points, exact, small.count(name)


def _faults(store: Store, collections: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The first few things in quarantine: what, which reason, and the message."""
    left = _NAMED
    for name in collections:
        for batch in store.stream(schemas.QUARANTINE, ["locator", "code", "message"], eq("collection", name)):
            for row in batch.slice(0, left).to_pylist():
                yield row["locator"], row["code"], row["message"]
            left -= min(left, batch.num_rows)
            if not left:
                return
