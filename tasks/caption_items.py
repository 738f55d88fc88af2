"""Caption the items of a collection that have no text, shard by shard; the truth is the table of generated captions."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from prefect import task

from storage.filters import Filter, between, eq, ne
from storage.generated import GENERATED, done, keep, sweep, with_text
from storage.tables import Store
from storage.workspace import Workspace
from tasks.caption import Caption, Captioner, reader_of
from tasks.policies import RETRY
from tasks.preprocess import shards
from tasks.progress import progress
from tasks.refs import CaptionPlan, CaptionReport, IndexRef, Shard, SpaceRef
from tasks.sources.item import BUCKETS, bucket_of, content_hash, digest, pair_key
from tasks.spent import spending

_SHOWN = 20  # captions that a report shows
_WRITTEN = 256  # captions in one write: what a kill can cost


@task(name="plan captions", task_run_name="plan captions of {collection}", **RETRY)
@spending("caption")
def plan_captions(
    workspace: Workspace,
    collection: str,
    index: IndexRef,
    method: str,
    shard_items: int,
    refresh: bool = False,  # noqa: FBT001, FBT002 - a task's parameters are its form
) -> CaptionPlan:
    """The items of a space without a text, and without a caption by this method; captions without an item are deleted.

    `refresh` takes those as well that this method has captioned.
    """
    sweep(workspace.store, collection)
    keys = sorted(key for key, _, _ in waiting(workspace.store, collection, index, method, refresh=refresh))
    starts = np.searchsorted(np.array([bucket_of(key) for key in keys]), np.arange(BUCKETS + 1))

    def content(lo: int, hi: int) -> tuple[int, str]:
        part = keys[starts[lo] : starts[hi]]
        return len(part), digest(*part)

    found = shards(content, len(keys), shard_items)
    return CaptionPlan(
        collection=collection,
        method=method,
        pending=len(keys),
        shards=tuple(one.model_copy(update={"pending": one.rows}) for one in found if one.rows),
    )


@task(name="caption", task_run_name="caption {collection} shard {shard.number}/{shard.of}", **RETRY)
@spending("caption")
def caption_shard(
    workspace: Workspace,
    collection: str,
    space: SpaceRef,
    index: IndexRef,
    method: str,
    shard: Shard,
    device: str,
    generator: str | None = None,
    refresh: bool = False,  # noqa: FBT001, FBT002
) -> CaptionReport:
    """Caption what is waiting in one shard, writing as it goes: a kill costs one write at most."""
    start = time.perf_counter()
    store = workspace.store
    part = between("key", f"{shard.lo:03x}", f"{shard.hi:03x}" if shard.hi < BUCKETS else "g")
    pending = {
        key: (modality, content)
        for key, modality, content in waiting(store, collection, index, method, part, refresh=refresh)
    }
    captioner = Captioner(workspace, space.name, device=device)
    reader = reader_of(generator, device=device)
    examples: list[tuple[str, str, float]] = []
    keys = sorted(pending)
    with progress(f"caption {collection} {shard.number}/{shard.of}", len(keys)) as advance:
        for first in range(0, len(keys), _WRITTEN):
            some = keys[first : first + _WRITTEN]
            made = list(captioner.caption_many(items=some, generate=reader))
            keep(store, *_rows(collection, method, some, made, pending))
            examples += [(one.query, one.text, one.score) for one in made[: _SHOWN - len(examples)]]
            advance(len(some))
    return CaptionReport(
        collection=collection, captioned=len(keys), seconds=time.perf_counter() - start, examples=tuple(examples)
    )


def waiting(
    store: Store, collection: str, index: IndexRef, method: str, part: Filter | None = None, *, refresh: bool = False
) -> Iterator[tuple[str, str, str]]:
    """(key, modality, content) of each item that is to be captioned, of a range of keys."""
    told = with_text(store, collection)
    known = {} if refresh else done(store, collection, method)
    where = eq("collection", collection) & ne("modality", "text")
    where = where if part is None else where & part
    columns = ["key", "modality", "content_hash"]
    for batch in store.stream(index.table, columns, where, version=index.version):
        for key, modality, content in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if key not in told and known.get(key) != content:
                yield key, modality, content


def _rows(
    collection: str, method: str, keys: list[str], made: list[Caption], pending: dict[str, tuple[str, str]]
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of the captions, and of the pairs that join them with their items."""
    captions: list[dict[str, object]] = []
    pairs: list[dict[str, object]] = []
    for item, one in zip(keys, made, strict=True):
        modality, content = pending[item]
        key = digest(GENERATED, collection, item)
        captions.append(
            {
                "key": key,
                "collection": collection,
                "item": item,
                "modality": modality,
                "item_content": content,
                "text": one.text,
                "content_hash": content_hash(one.text.encode()),
                "score": one.score,
                "method": method,
            }
        )
        (left, left_modality), (right, right_modality) = sorted(
            [(item, modality), (key, "text")], key=lambda side: side[1]
        )
        pairs.append(
            {
                "key": pair_key(left, right, GENERATED),
                "collection": collection,
                "left": left,
                "right": right,
                "left_modality": left_modality,
                "right_modality": right_modality,
                "source": GENERATED,
                "round": 0,
                "score": one.score,
                "margin": None,
                "weight": 1.0,
                "method": method,
                "row_bucket": bucket_of(item),
            }
        )
    return captions, pairs
