"""Scan a source, preprocess it shard by shard into `items` and `pairs`, and give every item its group and split."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger

from config.errors import RunError, UserError
from config.params import ColumnsParams, PreprocessParams
from storage import catalog
from storage.staging import Staging, read_staging
from storage.workspace import Workspace
from tasks.grouping import group_collection
from tasks.media.registry import Limits
from tasks.policies import RETRY, by_content
from tasks.progress import progress
from tasks.refs import GroupReport, PreprocessReport, ScanReport, Shard
from tasks.sources.item import BUCKETS, BadRow, Columns, SourceError
from tasks.sources.open import collection_name, open_source
from tasks.sources.paths import read_media
from tasks.sources.records import Fault, prepare, stage

_CODE = ("tasks/preprocess.py", "tasks/sources", "tasks/media", "storage/schemas.py", "storage/catalog.py")


def limits_of(params: PreprocessParams) -> Limits:
    """The bounds on one medium."""
    return Limits(params.max_pixels, params.max_bytes, params.max_chars)


@task(name="scan source", task_run_name="scan {source}", **RETRY)
def scan_source(
    workspace: Workspace, source: str, collection: str | None, columns: ColumnsParams, shard_rows: int
) -> ScanReport:
    """Read the metadata of a source once, stage its rows by content bucket and record the collection."""
    try:
        reader = open_source(source, _columns(columns))
    except SourceError as error:
        raise UserError(str(error)) from None
    name = collection_name(collection or reader.name)
    counts = {"rows": 0, "media": 0, "texts": 0}
    faults: list[Fault] = []
    stat = partial(_stat, reader.root)
    with Staging(workspace.staging(name), buckets=BUCKETS) as staging, progress(f"scan {name}", 0) as advance:
        for row in reader.rows():
            advance(1)
            if isinstance(row, BadRow):
                faults.append(Fault(row.locator, row.code, row.message, -1))
                continue
            counts["rows"] += 1
            counts["media"] += len(row.media)
            counts["texts"] += len(row.texts)
            for bucket, kind, record in stage(row, lexical=reader.lexical, stat=stat):
                staging.add(bucket, kind, record)
    catalog.record_collection(workspace.store, name, reader.uri, str(reader.root), columns.model_dump_json())
    catalog.replace_faults(workspace.store, name, "scan", -1, 0, [_fault_row(fault) for fault in faults])
    return ScanReport(
        collection=name,
        root=str(reader.root),
        bad_rows=len(faults),
        shards=shards(staging.digest, staging.total, shard_rows),
        notes=tuple(reader.notes),
        **counts,
    )


@task(name="preprocess", task_run_name="preprocess {collection} shard {shard.number}/{shard.of}", **by_content(*_CODE))
def preprocess_shard(
    workspace: Workspace, collection: str, root: str, shard: Shard, params: PreprocessParams
) -> PreprocessReport:
    """Check, hash and key the staged rows of one shard, and bring its part of the tables to exactly that state."""
    start = time.perf_counter()
    limits = limits_of(params)
    staged = read_staging(workspace.staging(collection), shard.lo, shard.hi, buckets=BUCKETS)
    with progress(f"preprocess {collection} {shard.number}/{shard.of}", shard.rows) as advance:

        def read(file: str) -> bytes:
            advance(1)
            return read_media(Path(root), file, limits.max_bytes)

        done = prepare(staged, collection=collection, read=read, limits=limits)
    written, removed = catalog.replace_shard(workspace.store, collection, shard.lo, shard.hi, done.items, done.pairs)
    faults = [_fault_row(fault) for fault in done.faults]
    catalog.replace_faults(workspace.store, collection, "preprocess", shard.lo, shard.hi, faults)
    return PreprocessReport(
        items=len(done.items),
        pairs=len(done.pairs),
        quarantined=len(done.faults),
        written=written,
        removed=removed,
        seconds=time.perf_counter() - start,
    )


@task(name="group items", task_run_name="group {collection}", **RETRY)
def group_items(workspace: Workspace, collection: str, params: PreprocessParams) -> GroupReport:
    """Give every item its group and split, and report what stands on both sides of a split."""
    report = group_collection(workspace.store, collection, seed=params.split_seed, share=params.heldout_share)
    if report.media_leaks:
        text = f"{report.media_leaks} media of {collection} stand in more than one declared split"
        if params.strict:
            raise RunError(text, "remove the duplicates, or run without preprocess.strict")
        get_run_logger().warning("%s; their groups count as held out (%d items moved)", text, report.moved)
    return report


@task(name="check failures", task_run_name="check failures of {collection}")
def check_failures(workspace: Workspace, collection: str, budget: float) -> int:
    """Stop the run when more than `budget` of the collection is quarantined: its source is broken, not its files."""
    bad = catalog.count_quarantined(workspace.store, collection)
    total = catalog.count_items(workspace.store, collection) + bad
    if total == 0:
        raise UserError(f"collection {collection} is empty", "check the source and its columns")
    if bad / total > budget:
        reasons = ", ".join(f"{code} {n}" for code, n in catalog.quarantine_counts(workspace.store, collection).items())
        raise RunError(
            f"{bad} of {total} things in {collection} could not be read ({reasons}), beyond the budget of {budget:.0%}",
            "mend the source, or raise preprocess.failure_budget",
        )
    return bad


def shards(digest: Callable[[int, int], tuple[int, str]], total: int, rows: int) -> tuple[Shard, ...]:
    """Equal ranges of buckets, their number a power of two, each with about `rows` rows; empty ones are left out."""
    count = 1
    while count < min(BUCKETS, -(-total // rows)):
        count *= 2
    width = BUCKETS // count
    out: list[Shard] = []
    for number in range(count):
        lo, hi = number * width, (number + 1) * width
        size, mark = digest(lo, hi)
        out.append(Shard(lo=lo, hi=hi, number=number + 1, of=count, rows=size, digest=mark))
    return tuple(out)


def _columns(params: ColumnsParams) -> Columns:
    named = params.model_fields_set
    required = set(params.lexical)
    if "texts" in named:
        required |= set(params.texts)
    required |= {value for name in ("group", "split", "id") if name in named and (value := getattr(params, name))}
    return Columns(params.texts, params.group, params.split, params.id, params.lexical, frozenset(required))


def _stat(root: Path, file: str) -> tuple[int, int]:
    try:
        found = (root / file).stat()
    except (OSError, ValueError):
        return -1, 0
    return found.st_size, found.st_mtime_ns


def _fault_row(fault: Fault) -> dict[str, object]:
    return {"locator": fault.locator, "code": fault.code, "message": fault.message, "bucket": fault.bucket}
