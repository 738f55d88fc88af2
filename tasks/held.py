"""Which contents have a vector, and which vectors have a content: put aside on disk, compared by ranges of hashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage import schemas
from storage.filters import Filter, eq
from storage.packed import Keys, packed, part_of, place, unpacked
from storage.scratch import Parted
from storage.workspace import Workspace
from tasks.contents import TEXT
from tasks.parts import delete_contents, parts_table
from tasks.refs import EncoderRef
from tasks.sources.item import BUCKETS

_RANGE = 32_768  # contents that are compared together, about
_HELD = pa.schema({"content": pa.string(), "here": pa.bool_()})


def compared(workspace: Workspace, collection: str, source: EncoderRef, *, parts: bool) -> Iterator[tuple[Keys, Keys]]:
    """The distinct contents of a collection's modality, and those that lack a vector or, if asked for, `parts`.

    Both sorted, a range of hashes at a time. On the way, vectors and parts that no item of any collection has are
    deleted.
    """
    store, beside = workspace.store, parts_table(source.table)
    of = eq("modality", source.modality)
    places: list[tuple[str, Filter | None]] = [(schemas.ITEMS, of)]
    if source.modality == TEXT:
        places.append((schemas.ANSWERS, None))
    total = sum(store.count(*one) for one in places)
    ranges = min(1 << (total // _RANGE).bit_length(), BUCKETS)  # a power of two, so that none cuts a bucket
    with ExitStack() as stack:
        used, vectors, first = (stack.enter_context(Parted(workspace.root, _HELD, ranges)) for _ in range(3))
        for name, where in places:
            for batch in store.stream(name, ["content_hash", "collection"], where):
                _add(used, batch.column(0), pc.equal(batch.column(1), collection))
        for aside, name, where in ((vectors, source.table, None), (first, beside, eq("number", 0))):
            for batch in store.stream(name, ["content_hash"], where):
                _add(aside, batch.column(0), pa.nulls(len(batch), pa.bool_()))
        for one, known, whole in zip(used, vectors, first, strict=True):
            wanted, vector, part = (np.sort(packed(aside["content"])) for aside in (one, known, whole))
            store.delete_keys(source.table, unpacked(vector[place(wanted, vector) < 0]))
            delete_contents(store, beside, unpacked(part[place(wanted, part) < 0]))
            there = np.unique(packed(one["content"].filter(one["here"])))
            lack = place(vector, there) < 0
            yield there, there[lack | (place(part, there) < 0) if parts else lack]


def _add(aside: Parted, contents: pa.StringArray, here: pa.BooleanArray) -> None:
    aside.add(part_of(contents, len(aside)), {"content": contents, "here": here})
