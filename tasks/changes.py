"""What an update would do, and why, without doing it: rows are staged aside, and only files that changed are read."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from config.params import PipelineParams
from storage import schemas
from storage.buckets import within
from storage.filters import eq
from storage.marks import latest
from storage.packed import unpacked
from storage.staging import staged_buckets
from storage.tables import Store
from storage.workspace import Workspace
from tasks.contents import TEXT, hashes
from tasks.encode import encoders_of, spec_of, table_of
from tasks.parts import lacking
from tasks.preprocess import open_reader, prepare_buckets, stage_rows, waiting_buckets
from tasks.refs import CollectionPlan, EncoderWork, Rate
from tasks.sources.item import BUCKETS
from tasks.sources.records import Prepared

_SLICE = 256  # buckets looked at together: memory is bounded by their rows
_EXAMPLES = 10
_OTHER = ("content_hash", "bucket", "group", "split")  # columns that do not make an item edited


def plan_collection(
    workspace: Workspace,
    name: str,
    params: PipelineParams,
    device: str,
    serving: dict[str, tuple[str, ...]],
    verify: bool,  # noqa: FBT001
) -> CollectionPlan:
    """Compare a source with the tables: items by what happened to them, vectors to compute, pairs that come and go.

    Nothing is written but a scan aside, which goes at the end.
    """
    store = workspace.store
    reader = open_reader(params.source, params.columns, workspace.packages)
    folder = workspace.staging(f".plan-{name}")
    try:
        _, faults = stage_rows(reader, folder, f"scan {name}", params.preprocess.sound_tracks)
        waiting = waiting_buckets(workspace, name, params.preprocess, folder)
        touched = list(range(BUCKETS)) if verify else sorted(waiting)
        staged = staged_buckets(folder)
        seen = _Seen()
        for start in range(0, len(touched), _SLICE):
            part = touched[start : start + _SLICE]
            done, files = prepare_buckets(
                workspace, name, str(reader.root), part, params.preprocess, verify=verify, folder=folder
            )
            seen.look(store, name, part, done)
            seen.read += _read_anew(store, name, files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    moved = seen.moved()
    return CollectionPlan(
        collection=name,
        source=reader.uri,
        rows_waiting=sum(staged[bucket][0] for bucket in touched),
        files_read=seen.read,
        added=dict(seen.added - moved),
        changed=dict(seen.changed),
        edited=dict(seen.edited),
        moved=dict(moved),
        removed=dict(seen.removed - moved),
        pairs_added=seen.pairs_added,
        pairs_removed=seen.pairs_removed,
        answers_added=seen.answers_added,
        answers_removed=seen.answers_removed,
        faults=len(faults) + seen.faults,
        examples=tuple(seen.examples),
        work=tuple(
            _work(store, name, modality, encoder, device, seen, parts=params.encode.parts)
            for modality, encoders in both(encoders_of(params), serving).items()
            for encoder in encoders
        ),
    )


def both(first: dict[str, tuple[str, ...]], second: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The encoders of each modality that either has, each once, in their order.

    >>> both({"image": ("a",)}, {"text": ("c",), "image": ("a", "b")})
    {'image': ('a', 'b'), 'text': ('c',)}
    """
    return {
        modality: tuple(dict.fromkeys((*first.get(modality, ()), *second.get(modality, ()))))
        for modality in first | second
    }


@dataclass
class _Seen:
    """What has been found so far; counts are by modality, contents by (modality, content hash)."""

    added: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    edited: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    came: Counter[tuple[str, str]] = field(default_factory=Counter)
    went: Counter[tuple[str, str]] = field(default_factory=Counter)
    contents: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    pairs_added: int = 0
    pairs_removed: int = 0
    answers_added: int = 0
    answers_removed: int = 0
    faults: int = 0
    read: int = 0
    examples: list[str] = field(default_factory=list)

    def look(self, store: Store, collection: str, buckets: Sequence[int], done: Prepared) -> None:
        """Compare the wanted rows of some buckets with those that are there."""
        here = eq("collection", collection)
        columns = [name for name in schemas.items().names if name not in _OTHER] + ["content_hash"]
        old = {
            row["key"]: row for row in store.read(schemas.ITEMS, columns, here & within("bucket", buckets)).to_pylist()
        }
        for item in done.items:
            self.contents[item["modality"]].add(item["content_hash"])
            before = old.pop(item["key"], None)
            if before is None:
                self._note("added", item)
                self.came[item["modality"], item["content_hash"]] += 1
            elif before["content_hash"] != item["content_hash"]:
                self._note("changed", item)
            elif any(before[name] != item[name] for name in columns):
                self._note("edited", item)
        for item in old.values():
            self._note("removed", item)
            self.went[item["modality"], item["content_hash"]] += 1
        given = here & within("row_bucket", buckets) & eq("source", "given")
        pairs = set(store.strings(schemas.PAIRS, "key", given))
        wanted = {pair["key"] for pair in done.pairs}
        self.pairs_added += len(wanted - pairs)
        self.pairs_removed += len(pairs - wanted)
        answers = set(store.strings(schemas.ANSWERS, "key", here & within("bucket", buckets)))
        answered = {answer["key"] for answer in done.answers}
        self.answers_added += len(answered - answers)
        self.answers_removed += len(answers - answered)
        self.contents[TEXT] |= {answer["content_hash"] for answer in done.answers}
        self.faults += len(done.faults)

    def _note(self, what: str, item: dict[str, Any]) -> None:
        getattr(self, what)[item["modality"]] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{what}: {item['uri'] or (item['text'] or '')[:60]}")

    def moved(self) -> Counter[str]:
        """Media whose content left one path and came to another."""
        out: Counter[str] = Counter()
        for (modality, content), count in self.came.items():
            if modality != "text":
                out[modality] += min(count, self.went[modality, content])
        return +out


def _read_anew(store: Store, collection: str, files: Sequence[dict[str, Any]]) -> int:
    """How many of these files were not known with their size and time of change."""
    keys = ("key", "size", "changed", "how")
    if not files:
        return 0
    buckets = sorted({row["bucket"] for row in files})
    where = eq("collection", collection) & within("bucket", buckets)
    known = {tuple(row[name] for name in keys) for row in store.read(schemas.FILES, keys, where).to_pylist()}
    return sum(tuple(row[name] for name in keys) not in known for row in files)


def _work(
    store: Store, collection: str, modality: str, encoder: str, device: str, seen: _Seen, *, parts: bool
) -> EncoderWork:
    """Vectors that an encoder would have to compute: contents that have none, of new items and of those that are there.

    Contents that go with this very change are not counted.
    """
    spec = spec_of(encoder, modality)
    table = table_of(spec, device)
    stay = {*unpacked(hashes(store, modality, collection)), *seen.contents[modality]}
    gone = {content for (name, content) in seen.went if name == modality} - seen.contents[modality]
    bad = set(
        store.strings(
            schemas.QUARANTINE, "content_hash", eq("collection", collection) & eq("stage", f"decode {modality}")
        )
    )
    missing = len(lacking(store, table, sorted(stay - gone - bad), parts=parts and bool(spec.sampling)))
    rate = latest(store, f"rate {table}", Rate)
    seconds = missing / rate.per_second if rate is not None and rate.per_second else None
    return EncoderWork(modality=modality, encoder=encoder, table=table, vectors=missing, seconds=seconds)
