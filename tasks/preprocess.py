"""Scan a source, preprocess it shard by shard into `items`, `pairs` and `answers`, give every item group and split."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.logging import get_run_logger

from config.errors import RunError, UserError
from config.params import ColumnsParams, PreprocessParams
from storage import catalog, generated, schemas
from storage.buckets import applied, forget_buckets, note_buckets
from storage.lock import alone_on, by_worker
from storage.marks import remembered
from storage.staging import Staging, read_staging, staged_buckets
from storage.tables import Store
from storage.workspace import Workspace
from tasks.files import KnownFiles, stat_of
from tasks.grouping import group_collection
from tasks.media.registry import Limits
from tasks.policies import RETRY, by_content, code_version
from tasks.progress import progress
from tasks.refs import GroupReport, PreprocessReport, ScanReport, Shard
from tasks.sources.item import BUCKETS, BadRow, Columns, Source, SourceError, digest
from tasks.sources.open import collection_name, open_source
from tasks.sources.records import Fault, Prepared, Tracks, prepare, stage
from tasks.spent import spending

_CODE = (
    "tasks/preprocess.py",
    "tasks/files.py",
    "tasks/sources",
    "tasks/media",
    "storage/schemas.py",
    "storage/catalog.py",
)
MOST = 64
"""Shards of a large collection, about: each looks for its rows among all there are, so that many would cost n²."""
_FEW = 100  # items of a collection that may vanish unasked
_GROUP_CODE = ("tasks/grouping.py", "tasks/joined.py", "tasks/sources/groups.py")


def limits_of(params: PreprocessParams) -> Limits:
    """The bounds on one medium."""
    return Limits(params.max_pixels, params.max_bytes, params.max_chars, params.max_seconds)


@task(name="scan source", task_run_name="scan {source}", **RETRY)
@spending("scan")
def scan_source(
    workspace: Workspace,
    source: str,
    collection: str | None,
    columns: ColumnsParams,
    params: PreprocessParams,
    record: str = "{}",
) -> ScanReport:
    """Read the metadata of a source once, stage its rows by content bucket and record the collection.

    Sizes and times of files are looked up, no file is opened. `record` (JSON) is kept with the collection.
    """
    reader = open_reader(source, columns, workspace.packages)
    name = collection_name(collection or reader.name)
    catalog.make_tables(workspace.store)
    counts, faults = stage_rows(reader, workspace.staging(name), f"scan {name}", params.sound_tracks)
    check_removals(workspace.store, name, counts["media"] + counts["texts"], params.removal_budget)
    catalog.record_collection(workspace.store, name, reader.uri, str(reader.root), record)
    rows = [_fault_row(fault) for fault in faults]
    catalog.replace_faults(workspace.store, name, "scan", [-1], rows, recount=False)
    staged = staged_buckets(workspace.staging(name))
    if not applied(workspace.store, name) and catalog.count_items(workspace.store, name):
        # the marks are lost: a bucket that is empty now may have rows
        forget_buckets(workspace.store, name, range(BUCKETS))
    waiting = waiting_buckets(workspace, name, params)
    return ScanReport(
        collection=name,
        root=str(reader.root),
        bad_rows=len(faults),
        shards=_shards_of(staged, waiting, params.shard_rows),
        notes=tuple(reader.notes),
        **counts,
    )


def check_removals(store: Store, collection: str, there: int, budget: float) -> None:
    """Stop before anything is removed when a source has lost so much that it must have been cut off."""
    known = catalog.count_items(store, collection)
    if known >= _FEW and there < (1 - budget) * known:
        raise RunError(
            f"the source of {collection} names {there:,} items, the tables hold {known:,}: it seems to be cut off",
            "mend the source, or allow it with --set preprocess.removal_budget=1",
        )


def open_reader(source: str, columns: ColumnsParams, packages: Path) -> Source:
    """The reader of a source; one that cannot be read as a whole is the user's error."""
    try:
        return open_source(source, _columns(columns), packages)
    except SourceError as error:
        raise UserError(str(error)) from None


def stage_rows(reader: Source, folder: Path, label: str, tracks: Tracks = "no") -> tuple[dict[str, int], list[Fault]]:
    """Stage all rows of a source in `folder`; give counts, and the rows that cannot be used."""
    counts = {"rows": 0, "media": 0, "texts": 0, "questions": 0}
    faults: list[Fault] = []
    stat = partial(stat_of, reader.root, time.time_ns())
    with Staging(folder, buckets=BUCKETS) as staging, progress(label, 0) as advance:
        for row in reader.rows():
            advance(1)
            if isinstance(row, BadRow):
                faults.append(Fault(row.locator, row.code, row.message, -1))
                continue
            counts["rows"] += 1
            counts["texts"] += len(row.texts)
            counts["questions"] += row.asked is not None
            for bucket, kind, record in stage(row, lexical=reader.lexical, stat=stat, tracks=tracks):
                counts["media"] += kind == "media"
                staging.add(bucket, kind, record)
    return counts, faults


def waiting_buckets(
    workspace: Workspace, collection: str, params: PreprocessParams, folder: Path | None = None
) -> dict[int, str]:
    """Buckets whose staged rows are not what the tables hold, with the digest that they will then have."""
    store = workspace.store
    known = applied(store, collection)
    how = f"{_how(store, params)}:"
    staged = [how + mark if mark else "" for _, mark in staged_buckets(folder or workspace.staging(collection))]
    return {bucket: mark for bucket, mark in enumerate(staged) if known.get(bucket, "") != mark}


def prepare_buckets(
    workspace: Workspace,
    collection: str,
    root: str,
    buckets: list[int],
    params: PreprocessParams,
    *,
    verify: bool = False,
    advance: Callable[[int], object] = int,
    folder: Path | None = None,
) -> tuple[Prepared, list[dict[str, Any]]]:
    """The records of some staged buckets as they are to stand in the tables, and what was learned of their files."""
    files = KnownFiles(
        workspace.store, collection, buckets, Path(root), limits_of(params), verify=verify, advance=advance
    )
    staged = read_staging(folder or workspace.staging(collection), buckets, buckets=BUCKETS)
    return prepare(staged, collection=collection, look=files, limits=limits_of(params)), files.rows


@task(
    name="preprocess",
    task_run_name="preprocess {collection} shard {shard.number}/{shard.of}",
    **by_content(*_CODE, ignore=("verify",)),
)
@spending("preprocess")
@by_worker
def preprocess_shard(
    workspace: Workspace,
    collection: str,
    root: str,
    shard: Shard,
    params: PreprocessParams,
    verify: bool = False,  # noqa: FBT001, FBT002
) -> PreprocessReport:
    """Check, hash and key the staged rows of one shard, and bring its part of the tables to exactly that state.

    Only buckets whose rows differ from what the tables hold are touched, and only files whose size or time of change
    differs are read; `verify` reads them all.
    """
    start = time.perf_counter()
    store = workspace.store
    waiting = waiting_buckets(workspace, collection, params)
    staged = staged_buckets(workspace.staging(collection))
    how = _how(store, params)  # opens tables: once, not for each bucket
    marks = {
        bucket: f"{how}:{staged[bucket][1]}" if staged[bucket][1] else ""
        for bucket in range(shard.lo, shard.hi)
        if verify or bucket in waiting
    }
    if not marks:
        return PreprocessReport()
    done = Counter[str]()
    rows = sum(staged[bucket][0] for bucket in marks)
    with progress(f"preprocess {collection} {shard.number}/{shard.of}", rows) as advance:
        for touched in _portions(sorted(marks), staged, params.shard_rows):
            some, files = prepare_buckets(workspace, collection, root, touched, params, verify=verify, advance=advance)
            with alone_on(workspace.root, shard.lo, shard.hi):  # rows that are new to the tables are appended
                done.update(_bring(store, collection, {bucket: marks[bucket] for bucket in touched}, some, files))
            del some, files  # before the next are made
    return PreprocessReport(**done, seconds=time.perf_counter() - start)


def _bring(
    store: Store, collection: str, marks: Mapping[int, str], done: Prepared, files: Sequence[dict[str, Any]]
) -> dict[str, int]:
    """Bring some buckets of the tables to what was prepared of them; give the counts."""
    touched = list(marks)
    forget_buckets(store, collection, touched)
    written, removed = catalog.replace_rows(store, collection, touched, done.items, done.pairs, done.answers)
    generated.sweep(store, collection)
    catalog.replace_faults(store, collection, "preprocess", touched, [_fault_row(fault) for fault in done.faults])
    catalog.replace_files(store, collection, touched, files)
    again = {row["bucket"] for row in files if not row["how"]}
    note_buckets(store, collection, {bucket: mark for bucket, mark in marks.items() if bucket not in again})
    counts = {"items": len(done.items), "pairs": len(done.pairs), "quarantined": len(done.faults)}
    return counts | {"written": written, "removed": removed}


def _portions(buckets: Sequence[int], staged: Sequence[tuple[int, str]], rows: int) -> Iterator[list[int]]:
    """Buckets that are worked through together, with about as many staged `rows` in each portion."""
    ends = np.cumsum([staged[bucket][0] for bucket in buckets])
    cuts = np.flatnonzero(np.diff(ends // max(rows, 1))) + 1
    yield from (some.tolist() for some in np.split(np.array(buckets), cuts))


def _how(store: Store, params: PreprocessParams) -> str:
    """What a bucket's rows become depends on, besides themselves: bounds, code, and the tables that hold them."""
    tables = (schemas.ITEMS, schemas.PAIRS, schemas.ANSWERS, schemas.QUARANTINE)
    return digest(repr(limits_of(params)), code_version(*_CODE), *(store.identity(name) for name in tables))[:8]


@task(name="group items", task_run_name="group {collection}", **RETRY)
@spending("group")
def group_items(
    workspace: Workspace,
    collection: str,
    params: PreprocessParams,
    refresh: bool = False,  # noqa: FBT001, FBT002
) -> GroupReport:
    """Give every item its group and split, and report what stands on both sides of a split."""
    store = workspace.store
    report = remembered(
        store,
        f"group {collection}",
        (schemas.ITEMS, schemas.PAIRS),
        f"{params.split_seed} {params.heldout_share} {code_version(*_GROUP_CODE)}",
        GroupReport,
        lambda: group_collection(workspace, collection, seed=params.split_seed, share=params.heldout_share),
        anew=refresh,
    )
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


def _shards_of(staged: list[tuple[int, str]], waiting: Collection[int], rows: int) -> tuple[Shard, ...]:
    """The staged buckets in shards; what waits in each is its rows in waiting buckets."""

    def content(lo: int, hi: int) -> tuple[int, str]:
        return sum(count for count, _ in staged[lo:hi]), digest(*(mark for _, mark in staged[lo:hi]))

    total = sum(count for count, _ in staged)
    pending = np.bincount(
        sorted(waiting), [max(staged[bucket][0], 1) for bucket in sorted(waiting)], minlength=BUCKETS
    )  # a bucket that has become empty waits as well
    return tuple(
        shard.model_copy(update={"pending": int(pending[shard.lo : shard.hi].sum())})
        for shard in shards(content, total, max(rows, -(-total // MOST)))
    )


def shards(content: Callable[[int, int], tuple[int, str]], total: int, rows: int) -> tuple[Shard, ...]:
    """Equal ranges of buckets, their number a power of two, each with about `rows` rows.

    `content(lo, hi)` gives the number of rows in a range and their digest.
    """
    count = 1
    while count < min(BUCKETS, -(-total // rows)):
        count *= 2
    width = BUCKETS // count
    out: list[Shard] = []
    for number in range(count):
        lo, hi = number * width, (number + 1) * width
        size, mark = content(lo, hi)
        out.append(Shard(lo=lo, hi=hi, number=number + 1, of=count, rows=size, digest=mark))
    return tuple(out)


def gathered(shards: Sequence[Shard], most: int) -> tuple[Shard, ...]:
    """The shards with something pending, put together with the next ones while no more than `most` is pending.

    A small change spread over all shards is then the work of one task.
    """
    out: list[Shard] = []
    for shard in shards:
        if not shard.pending:
            continue
        last = out[-1] if out else None
        if last is None or last.pending + shard.pending > most:
            out.append(shard)
            continue
        sums = {"rows": last.rows + shard.rows, "pending": last.pending + shard.pending}
        out[-1] = last.model_copy(update=sums | {"hi": shard.hi, "digest": digest(last.digest, shard.digest)})
    return tuple(shard.model_copy(update={"number": n, "of": len(out)}) for n, shard in enumerate(out, 1))


def _columns(params: ColumnsParams) -> Columns:
    named = params.model_fields_set
    required = set(params.lexical)
    if "texts" in named:
        required |= set(params.texts)
    single = ("group", "split", "id", "question", "answer", "answer_type")
    required |= {value for name in single if name in named and (value := getattr(params, name))}
    return Columns(
        params.texts,
        lexical=params.lexical,
        required=frozenset(required),
        **{name: getattr(params, name) for name in single},
    )


def _fault_row(fault: Fault) -> dict[str, object]:
    return {"locator": fault.locator, "code": fault.code, "message": fault.message, "bucket": fault.bucket}
