"""What there is to encode: the contents of items, and of texts the questions about media as well."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from storage import schemas
from storage.filters import Filter, eq
from storage.packed import Keys, column_of, joined
from storage.tables import Store

TEXT = "text"
"""The modality that questions are of."""

Content = tuple[str, str, str | None, int]
"""Hash, file (or nothing), text (or None), size in bytes."""


def contents(store: Store, collection: str, modality: str, where: Filter | None = None) -> Iterator[Content]:
    """The contents of a modality in a collection, streamed, once for each place where they stand.

    `where` is a condition on `content_hash`.
    """
    here = eq("collection", collection) if where is None else eq("collection", collection) & where
    of = here & eq("modality", modality)
    for batch in store.stream(schemas.ITEMS, ["content_hash", "uri", "text", "bytes"], of):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    if modality == TEXT:
        for batch in store.stream(schemas.ANSWERS, ["content_hash", "question"], here):
            for content, question in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield content, "", question, len(question.encode())


def hashes(store: Store, modality: str, collection: str) -> Keys:
    """The distinct contents of a modality in a collection, sorted."""
    here = eq("collection", collection)
    found = column_of(store, schemas.ITEMS, "content_hash", here & eq("modality", modality))
    if modality == TEXT:
        found = joined([found, column_of(store, schemas.ANSWERS, "content_hash", here)])
    return np.unique(found)
