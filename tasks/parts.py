"""The parts of what lasts, kept on request: a table beside each encoder's vectors, of the same fingerprint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from storage.filters import eq, isin
from storage.tables import Store, vector_column
from tasks.encoders.protocol import Parts

PARTS, MOMENTS = "parts_", "moments_"
_CHUNK = 2_000  # contents in one IN (…) list


def parts_table(embeddings: str) -> str:
    """The table of parts beside a table of vectors.

    >>> parts_table("embeddings_logmel_0123abcd")
    'parts_logmel_0123abcd'
    """
    return PARTS + embeddings.removeprefix("embeddings_")


def having(store: Store, table: str, modality: str | None = None) -> set[str]:
    """Contents whose parts a table holds: with the first part stand all, for they are written together."""
    first = eq("number", 0)
    return set(store.strings(table, "content_hash", first if modality is None else first & eq("modality", modality)))


def lacking(store: Store, embeddings: str, contents: Sequence[str], *, parts: bool) -> set[str]:
    """The anti-join: those of `contents` without a vector or, if `parts` are kept, without these."""
    missing = set(store.missing(embeddings, contents))
    if parts:
        missing |= set(contents) - having(store, parts_table(embeddings))
    return missing


def part_rows(contents: Sequence[str], parts: Sequence[Parts], schema: pa.Schema) -> pa.Table:
    """The rows of contents' parts."""
    counts = [len(one.starts) for one in parts]
    keys = [f"{content}{number:06}" for content, count in zip(contents, counts, strict=True) for number in range(count)]
    columns = [
        pa.array(keys, pa.string()),
        pa.array(np.repeat(np.asarray(contents, dtype=object), counts), pa.string()),
        pa.array(np.concatenate([np.arange(count, dtype=np.int32) for count in counts])),
        pa.array(np.concatenate([one.starts for one in parts])),
        vector_column(np.concatenate([one.vectors for one in parts]).astype(np.float16)),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def delete_contents(store: Store, table: str, contents: Sequence[str], modality: str | None = None) -> int:
    """Delete all parts of contents; give the number of parts."""
    where = [isin("content_hash", contents[start : start + _CHUNK]) for start in range(0, len(contents), _CHUNK)]
    return sum(store.delete(table, one if modality is None else one & eq("modality", modality)) for one in where)


def moments_table(space: str) -> str:
    """The table of parts in the joint space, beside a space's table of items.

    >>> moments_table("space_clips_0123abcd")
    'moments_clips_0123abcd'
    """
    return MOMENTS + space.removeprefix("space_")
