"""Encode what is pending, shard by shard, under frozen encoders; the truth is the embeddings tables.

The encoders of a modality go together: what several of them lack is read and decoded once.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from prefect import task

from config.errors import RunError, UserError
from config.params import PipelineParams, PreprocessParams
from storage import catalog, schemas
from storage.filters import between, eq, isin
from storage.lock import alone_on, by_worker
from storage.marks import remember, remembered
from storage.packed import leading, packed, place, unpacked
from storage.tables import Store, vector_column
from storage.workspace import Workspace
from tasks.contents import contents
from tasks.encoders.overlap import Batch, Clock, encode_overlapped
from tasks.encoders.protocol import TOKENS, Encoder, EncoderError, EncoderSpec, Parts, slug
from tasks.encoders.registry import check_installed, expected_fingerprint, load, resolve
from tasks.held import compared
from tasks.media.registry import Limits, MediaError, get
from tasks.parts import lacking, part_rows, parts_table
from tasks.policies import RETRY, by_content, code_version
from tasks.preprocess import MOST, limits_of, shards
from tasks.progress import progress
from tasks.refs import EncodePlan, EncodeReport, EncoderRef, Rate, Shard
from tasks.sources.item import BUCKETS, bucket_of, content_hash, digest
from tasks.sources.paths import read_media
from tasks.spent import spending

_CODE = ("tasks/encode.py", "tasks/contents.py", "tasks/held.py", "tasks/parts.py", "tasks/encoders", "tasks/media")
_TABLES = (schemas.ITEMS, schemas.ANSWERS, schemas.QUARANTINE)
_FLEETING = ("file_missing", "file_changed", "file_unreadable")  # of the place, not of the content: tried again
_WRITE_ROWS = 1_024  # vectors in one write, or what a slow encoder gives in …
_RATED = 100  # contents from which a shard's speed is worth remembering
_WRITE_SECONDS = 5.0  # … this time: what a kill can cost
_BATCH_BYTES = 128 << 20  # of files that are read together: what lasts is held as its file until it is encoded


def spec_of(encoder: str, modality: str) -> EncoderSpec:
    """The spec of an encoder; an unknown or unfit one is the user's error."""
    try:
        return resolve(encoder, modality)
    except EncoderError as error:
        raise UserError(error.message, error.mend) from None


def encoders_of(params: PipelineParams) -> dict[str, tuple[str, ...]]:
    """The encoders of each modality, and for heads of attention the tokens of each."""
    given = params.encode.encoders
    if params.align.heads.shape != "attention" or params.align.method not in ("heads", "auto"):
        return given
    return {modality: (*names, *(name + TOKENS for name in names)) for modality, names in given.items()}


def check_encoders(encoders: Mapping[str, Sequence[str]], device: str) -> None:
    """Stop before work begins when an encoder is unknown, unfit for its modality, or lacks its weights or a runtime."""
    for modality, names in encoders.items():
        for name in names:
            spec = spec_of(name, modality)
            try:
                check_installed(spec, device)
            except EncoderError as error:
                raise UserError(error.message, error.mend) from None


def table_of(spec: EncoderSpec, device: str) -> str:
    """The table of an encoder's vectors, or of its tokens, as it runs here: one a fingerprint."""
    return f"{'tokens' if spec.tokens else 'embeddings'}_{slug(spec)}_{expected_fingerprint(spec, device=device)[:8]}"


def tables_of(params: PipelineParams, device: str) -> tuple[str, ...]:
    """The tables that a collection is encoded into: vectors, tokens and, if they are kept, parts."""
    found: list[str] = []
    for modality, encoders in encoders_of(params).items():
        for name in encoders:
            spec = spec_of(name, modality)
            table = table_of(spec, device)
            found += [table, parts_table(table)] if params.encode.parts and spec.sampling else [table]
    return tuple(found)


@task(name="plan encoding", task_run_name="plan {modality}", **RETRY)
@spending("plan")
def plan_encoding(
    workspace: Workspace,
    collection: str,
    modality: str,
    encoders: tuple[str, ...],
    device: str,
    shard_items: int,
    refresh: bool = False,  # noqa: FBT001, FBT002 - a task's parameters are its form
    parts: bool = False,  # noqa: FBT001, FBT002
) -> EncodePlan:
    """Divide the distinct contents of a modality into shards, and count in each those that an encoder still lacks.

    It may lack vectors, or `parts` too. Those of contents that no item has any more are deleted.
    """
    store = workspace.store
    sources = tuple(
        EncoderRef(modality=modality, encoder=name, table=table_of(spec_of(name, modality), device))
        for name in encoders
    )
    tables = _tables(sources, parts=parts)
    return remembered(
        store,
        f"plan {collection} {modality}",
        (*_TABLES, *tables, *(parts_table(table) for table, kept in tables.items() if kept)),
        f"{shard_items} {encoders} {code_version('tasks/encode.py', 'tasks/held.py', 'tasks/parts.py')}",
        EncodePlan,
        lambda: _plan(workspace, collection, sources, tables, shard_items),
        anew=refresh,
    )


def _tables(sources: Sequence[EncoderRef], *, parts: bool) -> dict[str, bool]:
    """The tables of encoders, each once, and whether parts are kept beside them."""
    return {one.table: parts and bool(spec_of(one.encoder, one.modality).sampling) for one in sources}


def _plan(
    workspace: Workspace,
    collection: str,
    sources: tuple[EncoderRef, ...],
    tables: Mapping[str, bool],
    shard_items: int,
) -> EncodePlan:
    store, modality = workspace.store, sources[0].modality
    if faults := _quarantined(store, collection, modality):
        catalog.place_faults(store, collection, _stage(modality), _places(store, collection, modality, faults))
    bad = packed(sorted(content for content, code in faults if code not in _FLEETING))
    fleeting = packed(content for content, code in faults if code in _FLEETING)
    waits = np.zeros(len(fleeting), np.bool_)
    sizes, waiting, marks = np.zeros(BUCKETS, np.int64), np.zeros(BUCKETS, np.int64), [""] * BUCKETS
    for there, lacks in compared(workspace, collection, modality, tables):
        missing = np.unique(np.concatenate(lacks))
        waits |= place(missing, fleeting) >= 0
        buckets = leading(there) >> 4
        sizes += np.bincount(buckets, minlength=BUCKETS)
        waiting += np.bincount(leading(missing[place(bad, missing) < 0]) >> 4, minlength=BUCKETS)
        for some in np.split(there, np.flatnonzero(np.diff(buckets)) + 1) if len(there) else ():
            marks[leading(some[:1])[0] >> 4] = digest(some.tobytes())
    # a run that was killed after it wrote a vector left the fault of the one before it
    _take_out(store, collection, modality, unpacked(fleeting[~waits]))
    total = int(sizes.sum())

    def content(lo: int, hi: int) -> tuple[int, str]:
        return int(sizes[lo:hi].sum()), digest(*marks[lo:hi])

    found = [
        shard.model_copy(update={"pending": int(waiting[shard.lo : shard.hi].sum())})
        for shard in shards(content, total, max(shard_items, -(-total // MOST)))
    ]
    return EncodePlan(sources=sources, contents=total, pending=int(waiting.sum()), shards=tuple(found))


def _places(store: Store, collection: str, modality: str, faults: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Where the contents of faults stand: their files, or the start of their text."""
    wanted = {content for content, _ in faults}
    places: defaultdict[str, set[str]] = defaultdict(set)
    for content, uri, text, _ in contents(store, collection, modality):
        if content in wanted:
            places[content].add(_place(uri, text))
    return {content: sorted(found) for content, found in places.items()}


@task(
    name="encode",
    task_run_name="encode {sources[0].modality} shard {shard.number}/{shard.of}",
    **by_content(*_CODE, ignore=("threads",)),
)
@spending("other")
@by_worker
def encode_shard(
    workspace: Workspace,
    collection: str,
    sources: tuple[EncoderRef, ...],
    shard: Shard,
    root: str,
    device: str,
    threads: int | None,
    params: PreprocessParams,
    parts: bool = False,  # noqa: FBT001, FBT002
) -> tuple[EncodeReport, ...]:
    """Encode the contents of one shard that encoders of a modality lack: each is decoded once for those that lack it.

    It writes as it goes: a kill costs one write of each encoder at most. With `parts` those of what lasts are kept
    beside the vectors, from the same pass; a content that lacks but these is encoded again. Reports on the encoders
    that had something to do.
    """
    with alone_on(workspace.root, shard.lo, shard.hi):  # vectors are appended: of workers with one shard, one at a time
        return _encode(workspace, collection, sources, shard, root, device, threads, params, parts=parts)


def _encode(
    workspace: Workspace,
    collection: str,
    sources: tuple[EncoderRef, ...],
    shard: Shard,
    root: str,
    device: str,
    threads: int | None,
    params: PreprocessParams,
    *,
    parts: bool,
) -> tuple[EncodeReport, ...]:
    """What `encode_shard` does."""
    start = time.perf_counter()
    store, modality = workspace.store, sources[0].modality
    tables = _tables(sources, parts=parts)
    pending, known = _pending(store, collection, modality, tables, shard)
    due = {one.table: one for one in sources if any(one.table in lack for lack in pending)}
    if not due:
        return ()
    clocks = {table: Clock() for table in due}
    models = {table: _loaded(workspace, one, device, threads, clocks[table]) for table, one in due.items()}
    counts = {table: Counter[str]() for table in due}
    faults: list[dict[str, Any]] = []
    mended: set[str] = set()
    known_faults = {content for content, _ in _quarantined(store, collection, modality)}
    reader, most = _Reader(Path(root), modality, limits_of(params)), get(modality).batch
    batches = ((lack, batch) for lack, items in pending.items() for batch in _batches(items, most))
    first, *others = (slug(model.spec) for model in models.values())
    label = f"encode {modality}/{first}{f' + {len(others)} more' if others else ''} {shard.number}/{shard.of}"
    vectors = sum(len(lack) * len(items) for lack, items in pending.items())
    with progress(label, vectors) as advance, ExitStack() as stack:
        writers = {
            table: stack.enter_context(_Writer(store, _schemas(table, model, parts=tables[table]), clocks[table]))
            for table, model in models.items()
        }
        for batch in encode_overlapped(batches, reader, models, skip=(MediaError,), clocks=clocks):
            done, found = [item[0] for item in batch.handles], list(_faults(batch))
            writers[batch.encoder].add(done, batch.vectors, batch.truncated, batch.parts)
            counts[batch.encoder].update(
                encoded=len(done), quarantined=len(found), truncated=int(batch.truncated.sum())
            )
            mended.update(known_faults.intersection(done))
            faults += found
            advance(batch.due)
    if faults:
        catalog.add_faults(store, collection, _stage(modality), faults)
    _take_out(store, collection, modality, sorted(mended - {one["content_hash"] for one in faults}))
    rest = time.perf_counter() - start - sum(clock.own for clock in clocks.values())
    reports = []
    for table, source in due.items():
        wall = clocks[table].own + rest / len(due)
        if counts[table]["encoded"] >= _RATED:
            remember(store, f"rate {table}", "", Rate(per_second=counts[table]["encoded"] / wall))
        reports.append(_report(source, known[table], counts[table], clocks[table], wall))
    return tuple(reports)


def _report(source: EncoderRef, skipped: int, counts: Mapping[str, int], clock: Clock, wall: float) -> EncodeReport:
    return EncodeReport(
        encoder=source.encoder,
        modality=source.modality,
        skipped=skipped,
        read_seconds=clock.read,
        encode_seconds=clock.encode,
        write_seconds=clock.write,
        starved_seconds=clock.starved,
        blocked_seconds=clock.blocked,
        ready_batches=clock.ready / max(clock.batches, 1),
        wall_seconds=wall,
        **counts,
    )


def _loaded(workspace: Workspace, source: EncoderRef, device: str, threads: int | None, clock: Clock) -> Encoder:
    """An encoder that runs as its table says."""
    start = time.perf_counter()
    with spending("load"):
        spec = spec_of(source.encoder, source.modality)
        model = load(spec, device=device, models_dir=workspace.models, threads=threads)
    clock.load += time.perf_counter() - start
    if not source.table.endswith(model.fingerprint[:8]):
        raise RunError(f"{source.encoder} would run otherwise here than where the run began", "let workers be alike")
    return model


def _schemas(table: str, model: Encoder, *, parts: bool) -> dict[str, pa.Schema]:
    """The schemas of an encoder's tables, that of the parts first."""
    spec = model.spec
    about = json.dumps(asdict(spec))
    vectors = {table: schemas.embeddings(spec.dim, about, model.fingerprint, half=spec.tokens > 0)}
    return {parts_table(table): schemas.parts(spec.dim, about, model.fingerprint)} | vectors if parts else vectors


Pending = tuple[str, tuple[str, ...], str, int]
"""A content to encode: its hash, the files that hold it (or none), its text (or none), its size in bytes."""


def _batches(pending: Sequence[Pending], most: int) -> Iterator[list[Pending]]:
    """Contents to be read together: `most` of them, or fewer that are large."""
    held: list[Pending] = []
    size = 0
    for item in pending:
        if held and (len(held) == most or size + item[3] > _BATCH_BYTES):
            yield held
            held, size = [], 0
        held.append(item)
        size += item[3]
    if held:
        yield held


class _Reader:
    """Content → decoded medium, in a worker thread."""

    def __init__(self, root: Path, modality: str, limits: Limits) -> None:
        self._root, self._limits = root, limits
        self._medium = get(modality)

    def __call__(self, item: Pending) -> Any:
        content, files, text, _ = item
        if not files:
            return text
        return self._medium.decode(self._bytes(content, files), self._limits)

    def _bytes(self, content: str, files: tuple[str, ...]) -> bytes:
        """The bytes from the first file that still holds them: one may have changed since it was scanned."""
        for file in files:
            try:
                data = read_media(self._root, file, self._limits.max_bytes)
            except MediaError as found:
                error = found
                continue
            if content_hash(data) == content:
                return data
            error = MediaError("file_changed", "the file changed after it was scanned; run again")
        raise error


_Held = tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.bool_], Sequence[Parts]]


class _Writer:
    """Writes one encoder's vectors in batches on a thread of its own, so that the encoder does not wait for the disk.

    `tables` gives the schema of the table of vectors and, before it, that of their parts if these are kept: a content
    with a vector has its parts too.
    """

    def __init__(self, store: Store, tables: Mapping[str, pa.Schema], clock: Clock) -> None:
        self._store, self._clock = store, clock
        for name, schema in tables.items():
            store.create(name, schema)
        *self._parts, self._vectors = tables.items()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._held: list[_Held] = []
        self._rows = 0
        self._running: Future[None] | None = None
        self._sent = time.perf_counter()

    def __enter__(self) -> _Writer:
        return self

    def add(
        self,
        keys: list[str],
        vectors: npt.NDArray[np.float32],
        truncated: npt.NDArray[np.bool_],
        parts: Sequence[Parts],
    ) -> None:
        """Take one encoded batch; write when enough has come together."""
        self._held.append((keys, vectors, truncated, parts if self._parts else ()))
        self._rows += len(keys) + sum(len(one.starts) for one in self._held[-1][3])
        if self._rows >= _WRITE_ROWS or time.perf_counter() - self._sent > _WRITE_SECONDS:
            self._send()

    def _send(self) -> None:
        held, self._held, self._rows, self._sent = self._held, [], 0, time.perf_counter()
        self._wait()
        self._running = self._pool.submit(self._write, held)

    def _wait(self) -> None:
        """Until the last write is done: what is written next has been encoded meanwhile."""
        if self._running is not None:
            start = time.perf_counter()
            with spending("write"):
                self._running.result()
            self._clock.blocked += time.perf_counter() - start

    def _write(self, held: list[_Held]) -> None:
        start = time.perf_counter()
        keys = [key for one in held for key in one[0]]
        for table, schema in self._parts if keys else ():
            self._store.upsert(table, schema, part_rows(keys, [part for one in held for part in one[3]], schema))
        table, schema = self._vectors
        # with parts, a content may have its vector already
        write = self._store.upsert if self._parts else self._store.insert
        columns = [
            pa.array(keys, pa.string()),
            vector_column(np.concatenate([one[1] for one in held])),
            pa.array(np.concatenate([one[2] for one in held])),
        ]
        write(table, schema, pa.Table.from_arrays(columns, schema=schema))
        self._clock.write += time.perf_counter() - start

    def __exit__(self, *_: object) -> None:
        try:
            if self._held:
                self._send()
            self._wait()
        finally:
            self._pool.shutdown(wait=True)


def _pending(
    store: Store, collection: str, modality: str, tables: Mapping[str, bool], shard: Shard
) -> tuple[dict[tuple[str, ...], list[Pending]], dict[str, int]]:
    """The contents of the shard, with their files or text, by which of the tables lack a vector or parts of them.

    Beside that how many each table has. So batches are full, and all of a batch are for the same encoders.
    """
    lo, hi = f"{shard.lo:03x}", f"{shard.hi:03x}" if shard.hi < BUCKETS else "g"  # "g" sorts after every hex digit
    where = between("content_hash", lo, hi)
    files: defaultdict[str, list[str]] = defaultdict(list)
    texts: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for content, uri, text, size in contents(store, collection, modality, where):
        sizes[content] = size
        if text is None:
            files[content].append(uri)
        else:
            texts[content] = text
    there = sorted(files.keys() | texts.keys())
    bad = _unreadable(store, collection, modality)
    missing = {table: lacking(store, table, there, parts=parts) - bad for table, parts in tables.items()}
    found: defaultdict[tuple[str, ...], list[Pending]] = defaultdict(list)
    for one in there:
        if lack := tuple(table for table, some in missing.items() if one in some):
            item = (one, tuple(sorted(files[one])) if one in files else (), texts.get(one, ""), sizes[one])
            found[lack].append(item)
    return dict(found), {table: len(there) - len(some) for table, some in missing.items()}


def _unreadable(store: Store, collection: str, modality: str) -> set[str]:
    """Contents that could not be decoded; they are not tried again by themselves."""
    return {content for content, code in _quarantined(store, collection, modality) if code not in _FLEETING}


def _quarantined(store: Store, collection: str, modality: str) -> list[tuple[str, str]]:
    """(content, reason code) of what could not be read."""
    where = eq("collection", collection) & eq("stage", _stage(modality))
    rows = store.read(schemas.QUARANTINE, ["content_hash", "code"], where)
    return list(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True))


def _take_out(store: Store, collection: str, modality: str, contents: list[str]) -> None:
    """Contents that could be read after all leave quarantine."""
    if contents:
        here = eq("collection", collection) & eq("stage", _stage(modality)) & isin("content_hash", contents)
        store.delete(schemas.QUARANTINE, here)


def _place(uri: str, text: str | None) -> str:
    return uri if text is None else text[:80]


def _stage(modality: str) -> str:
    return f"decode {modality}"


def _faults(batch: Batch[Pending]) -> Iterator[dict[str, Any]]:
    for (content, files, text, _), error in batch.failures:
        assert isinstance(error, MediaError)
        for locator in files or (_place("", text),):
            about = {"locator": locator, "code": error.code, "message": error.message}
            yield about | {"content_hash": content, "bucket": bucket_of(content)}
