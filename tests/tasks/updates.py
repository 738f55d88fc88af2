"""Updates without Prefect, in the order of the flows; kills in the middle; and what must hold when one is done."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

import storage.promotions
import storage.staging
import tasks.promote
import tasks.upkeep
from config.params import PipelineParams
from storage import schemas
from storage.promotions import manifest_of
from storage.signs import sign_bits
from storage.tables import Store, matrix
from storage.workspace import Workspace
from tasks.align import open_space
from tasks.changes import both
from tasks.encode import encode_shard, plan_encoding, tables_of
from tasks.index import index_space
from tasks.media.text import cjk_runs
from tasks.moments import project_moments
from tasks.preprocess import check_failures, gathered, group_items, preprocess_shard, scan_source
from tasks.project import project_items
from tasks.promote import decide, enact
from tasks.refs import Aligned, EncoderRef, GroupReport
from tasks.upkeep import keep_up

FLEETING = ["attempts", "first_seen", "last_seen"]
WORDS = 2_000  # characters of known words that are kept with an item


@dataclass(frozen=True)
class Built:
    """A collection as the tables hold it after an update."""

    collection: str
    groups: GroupReport
    encoded: tuple[EncoderRef, ...]


def build(workspace: Workspace, params: PipelineParams, *, verify: bool = False, pending_only: bool = False) -> Built:
    """As the flow `ingest` does: scan, preprocess, group, encode."""
    anew, read, encode = params.refresh_cache, params.preprocess, params.encode
    scan = scan_source.fn(workspace, params.source, params.collection, params.columns, read)
    few = pending_only and not (anew or verify)
    for shard in gathered(scan.shards, read.shard_rows) if few else scan.shards:
        preprocess_shard.fn(workspace, scan.collection, scan.root, shard, read, anew or verify)
    groups = group_items.fn(workspace, scan.collection, read, anew)
    encoded: list[EncoderRef] = []
    for modality, encoders in both(encode.encoders, {}).items():
        plan = plan_encoding.fn(
            workspace, scan.collection, modality, encoders, "cpu", encode.shard_items, anew, encode.parts
        )
        encoded += plan.sources
        for shard in gathered(plan.shards, encode.shard_items) if pending_only else plan.shards:
            encode_shard.fn(workspace, scan.collection, plan.sources, shard, scan.root, "cpu", 1, read, encode.parts)
    check_failures.fn(workspace, scan.collection, read.failure_budget)
    return Built(scan.collection, groups, tuple(encoded))


def bring_up_to_date(
    workspace: Workspace, params: PipelineParams, *, verify: bool = False, upkeep: bool = False
) -> Built:
    """As the flow `update` does, without a refit: the collection, every space in force, the clean-up."""
    store = workspace.store
    done = build(workspace, params, verify=verify, pending_only=True)
    for name in sorted(store.strings(schemas.PUBLISHED, "name")):
        space = Aligned.model_validate(manifest_of(store, name))
        project_items.fn(workspace, space.space, space.collections, space.encoded, params.refresh_cache)
        index = index_space.fn(workspace, space.space, params.index, params.refresh_cache)
        about = (space.space, space.collections, space.encoded)
        project_moments.fn(workspace, *about, params.index, params.refresh_cache)
        now = space.model_copy(update={"index": index})
        if now != space:
            enact(store, now, decide(store, now, params.gate))
    if upkeep:
        keep_up.fn(workspace, params.keep, tables_of(params, "cpu"))
    return done


class Killed(BaseException):
    """Stands for the end of the process: nothing is written after it."""


class Writes:
    """Counts the writes inside `watched`, to one table or all, and does something at the n-th: before it, or after.

    Without an `action` the process is killed there.
    """

    def __init__(
        self, number: int, action: Callable[[], object] | None = None, *, after: bool = False, table: str | None = None
    ) -> None:
        self.number, self.action, self.after, self.table = number, action, after, table
        self.seen = 0
        self.dead = self.done = False

    def _around(self, write: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.dead:
            raise Killed
        self.seen += self.table is None or (len(args) > 1 and args[1] == self.table)
        due = not self.done and self.seen == self.number
        if due and not self.after:
            self._act()
        result = write(*args, **kwargs)
        if due and self.after:
            self._act()
        return result

    def _act(self) -> None:
        self.done = True
        if self.action is not None:
            self.action()
            return
        self.dead = True
        raise Killed

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the writes; a kill ends the block."""
        remove = shutil.rmtree

        def rmtree(*args: Any, **kwargs: Any) -> None:
            if not self.dead:  # a killed process tidies nothing up
                remove(*args, **kwargs)

        places: list[tuple[Any, str]] = [(Store, name) for name in ("upsert", "insert", "revise", "delete", "drop")]
        places += [(storage.staging, "replace_folder")]
        places += [(tasks.upkeep, name) for name in ("compact", "clean")]
        with mock.patch.object(shutil, "rmtree", rmtree):
            patches = [mock.patch.object(owner, name, self._wrapped(getattr(owner, name))) for owner, name in places]
            try:
                for one in patches:
                    one.start()
                yield
            except Killed:
                pass
            finally:
                for one in patches:
                    one.stop()

    def _wrapped(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return self._around(write, *args, **kwargs)

        return wrapper


@contextmanager
def published_versions(found: list[int]) -> Iterator[None]:
    """Note the version of every manifest that is published inside the block."""

    def noting(publish: Callable[..., None]) -> Callable[..., None]:
        def wrapper(store: Store, name: str, manifest: dict[str, Any]) -> None:
            found.append(manifest["index"]["version"])
            publish(store, name, manifest)

        return wrapper

    with (
        mock.patch.object(storage.promotions, "publish", noting(storage.promotions.publish)),
        mock.patch.object(tasks.promote, "publish", noting(tasks.promote.publish)),
        mock.patch.object(tasks.upkeep, "publish", noting(tasks.upkeep.publish)),
    ):
        yield


@dataclass(frozen=True)
class State:
    """What a store holds: rows by key, of one collection or of all, and vectors by table and content."""

    items: dict[str, dict[str, Any]]
    pairs: dict[str, dict[str, Any]]
    answers: dict[str, dict[str, Any]]
    quarantine: dict[str, dict[str, Any]]
    embeddings: dict[str, dict[str, tuple[bytes, bool]]]
    parts: dict[str, dict[str, dict[str, Any]]]

    def of(self, collection: str) -> State:
        """The rows of one collection; embeddings and parts belong to all."""
        parts = [
            {key: row for key, row in rows.items() if row["collection"] == collection}
            for rows in (self.items, self.pairs, self.answers, self.quarantine)
        ]
        return State(*parts, self.embeddings, self.parts)


def state_of(store: Store) -> State:
    """All that the law speaks of, each bit of it. No table may hold a key twice."""
    tables = {name: store.open(name).to_arrow() for name in store.names()}
    for name, rows in tables.items():
        keys = rows[schemas.key_of(rows.schema)]
        assert len(pc.unique(keys)) == len(keys), f"{name} holds a key twice"
    pairs = tables[schemas.PAIRS]
    return State(
        _by_key(tables[schemas.ITEMS]),
        _by_key(pairs.filter(pc.equal(pairs["source"], "given"))),
        _by_key(tables[schemas.ANSWERS]),
        _by_key(tables[schemas.QUARANTINE].drop_columns(FLEETING)),
        {name: _vectors(rows) for name, rows in tables.items() if name.startswith("embeddings_")},
        {name: _by_key(rows) for name, rows in tables.items() if name.startswith("parts_")},
    )


def _by_key(rows: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in rows.to_pylist()}


def _vectors(rows: pa.Table) -> dict[str, tuple[bytes, bool]]:
    vectors = matrix(rows["vector"].combine_chunks()) if rows.num_rows else []
    columns = [rows[name].to_pylist() for name in ("content_hash", "truncated")]
    return {key: (vector.tobytes(), cut) for key, vector, cut in zip(columns[0], vectors, columns[1], strict=True)}


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What two mappings do not share, a line an entry; rows by the columns that differ."""
    out = []
    for key in sorted(found.keys() | wanted.keys()):
        one, other = found.get(key), wanted.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            odd = [name for name in other if one.get(name) != other[name]]
            one, other = {name: one.get(name) for name in odd}, {name: other[name] for name in odd}
        out.append(f"{key}: {str(one)[:400]}, not {str(other)[:400]}")
    return out


def assert_projected(store: Store, name: str, states: list[State]) -> None:
    """The table of the space in force is what its heads give for the items of `states`, computed one item at a time."""
    manifest = Aligned.model_validate(manifest_of(store, name))
    joint, _ = open_space(manifest.space.path)
    items = {key: item for state in states for key, item in state.items.items() if item["modality"] in joint.heads}
    words = known_words(items, [pair for state in states for pair in state.pairs.values()])
    wanted: dict[str, dict[str, Any]] = {}
    vectors: dict[str, npt.NDArray[np.float64]] = {}
    for key, item in items.items():
        own = {
            one.encoder: found
            for one in manifest.encoded
            if one.modality == item["modality"]
            and (found := _vector(states, one.table, item["content_hash"])) is not None
        }
        if len(own) < sum(one.modality == item["modality"] for one in manifest.encoded):
            continue
        vectors[key] = joint.project(item["modality"], own)[0].astype(np.float64)
        text = words[key]
        wanted[key] = {
            column: item[column]
            for column in ("key", "collection", "modality", "content_hash", "group", "split", "uri", "attributes")
        } | {"text": text, "grams": cjk_runs(text)}
    table = store.open(manifest.space.table)
    assert table.version == manifest.index.version, "the newest version of the space's table is the published one"
    plain = [*next(iter(wanted.values()), {"key": None})]
    rows = table.to_arrow()
    found = {row["key"]: row for row in rows.select(plain).to_pylist()}
    assert differences(found, wanted) == []
    assert rows.num_rows == manifest.index.rows == len(wanted)
    if not wanted:
        return
    keys = rows["key"].to_pylist()
    expected = np.stack([vectors[key] for key in keys])
    stored = matrix(rows["vector"].combine_chunks())
    assert np.abs(stored - expected).max() < 1e-5  # float32, of vectors that are much alike
    bits = np.unpackbits(np.array(rows["bits"].to_pylist(), np.uint8), axis=1)
    assert np.array_equal(bits, np.unpackbits(sign_bits(stored), axis=1))
    for query in manifest.space.modalities:
        near = np.sort(expected @ joint.banks[query].T.astype(np.float64), axis=1)[:, -joint.hubness_k :].mean(1)
        assert np.abs(rows[f"hubness_{query}"].to_numpy() - near).max() < 1e-5


def known_words(items: dict[str, dict[str, Any]], pairs: list[dict[str, Any]]) -> dict[str, str]:
    """What full text finds each item by: its text, or those it is paired with, and its lexical columns."""
    said: defaultdict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        for one, other in ((pair["left"], pair["right"]), (pair["right"], pair["left"])):
            text = items[other]["text"] if other in items else None
            if text is not None:
                said[one].append(text)
    out = {}
    for key, item in items.items():
        own = [item["text"]] if item["text"] is not None else sorted(said[key])
        out[key] = " · ".join(part for part in [*own, item["lexical"]] if part)[:WORDS]
    return out


def _vector(states: list[State], table: str, content: str) -> npt.NDArray[np.float32] | None:
    for state in states:
        if content in state.embeddings.get(table, {}):
            return np.frombuffer(state.embeddings[table][content][0], np.float32)[None]
    return None


def read_back(store: Store, table: str, version: int) -> Counter[str]:
    """All rows of a table at a version, vectors and all, as a reader that opened it then sees them."""
    return Counter(map(repr, store.open(table, version).to_arrow().to_pylist()))


def make_folder(path: Path) -> Path:
    """An empty folder in the place of a former one."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
