"""Which contents have a vector, and which vectors have a content: put aside on disk, compared by ranges of hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from tasks.sources.item import BUCKETS

_RANGE = 32_768  # contents that are compared together, about
_HELD = pa.schema({"content": pa.string(), "here": pa.bool_()})


def compared(
    workspace: Workspace, collection: str, modality: str, tables: Mapping[str, bool]
) -> Iterator[tuple[Keys, list[Keys]]]:
    """The distinct contents of a collection's modality, and those that each of `tables` lacks.

    The tables hold vectors, and are to have parts beside them or not; who lacks parts is counted as well. All sorted, a
    range of hashes at a time. On the way, vectors and parts that no item of any collection has are deleted.
    """
    store = workspace.store
    of, first = eq("modality", modality), eq("number", 0)
    places: list[tuple[str, Filter | None]] = [(schemas.ITEMS, of)]
    if modality == TEXT:
        places.append((schemas.ANSWERS, None))
    total = sum(store.count(*one) for one in places)
    ranges = min(1 << (total // _RANGE).bit_length(), BUCKETS)  # a power of two, so that none cuts a bucket
    with ExitStack() as stack:
        used, *known = (stack.enter_context(Parted(workspace.root, _HELD, ranges)) for _ in range(1 + 2 * len(tables)))
        for name, where in places:
            for batch in store.stream(name, ["content_hash", "collection"], where):
                _add(used, batch.column(0), pc.equal(batch.column(1), collection))
        named = ((name, where) for table in tables for name, where in ((table, None), (parts_table(table), first)))
        for aside, (name, where) in zip(known, named, strict=True):
            for batch in store.stream(name, ["content_hash"], where):
                _add(aside, batch.column(0), pa.nulls(len(batch), pa.bool_()))
        for number, one in enumerate(used):
            wanted = np.sort(packed(one["content"]))
            there = np.unique(packed(one["content"].filter(one["here"])))
            missing = []
            for (table, parts), *asides in zip(tables.items(), known[::2], known[1::2], strict=True):
                vector, part = (np.sort(packed(aside[number]["content"])) for aside in asides)
                store.delete_keys(table, unpacked(vector[place(wanted, vector) < 0]))
                delete_contents(store, parts_table(table), unpacked(part[place(wanted, part) < 0]))
                lack = place(vector, there) < 0
                missing.append(there[lack | (place(part, there) < 0) if parts else lack])
            yield there, missing


def _add(aside: Parted, contents: pa.StringArray, here: pa.BooleanArray) -> None:
    aside.add(part_of(contents, len(aside)), {"content": contents, "here": here})
