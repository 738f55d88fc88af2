"""Name the classes that encoders score: vectors of the names under each encoder of texts, in a table beside its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from prefect import task

from storage import schemas
from storage.tables import Store, vector_column
from storage.workspace import Workspace
from tasks.contents import TEXT
from tasks.encode import spec_of
from tasks.encoders.classes import class_names
from tasks.encoders.registry import load
from tasks.policies import RETRY
from tasks.refs import EncoderRef
from tasks.sources.item import content_hash
from tasks.spent import spending

NAMES = "names_"


def names_table(embeddings: str) -> str:
    """The table of names beside a table of vectors of texts.

    >>> names_table("embeddings_minilm_0123abcd")
    'names_minilm_0123abcd'
    """
    return NAMES + embeddings.removeprefix("embeddings_")


def to_name(encoded: Sequence[EncoderRef]) -> Iterator[tuple[EncoderRef, str]]:
    """Each encoder of texts with each list of classes that another encoder scores."""
    lists = sorted({spec_of(one.encoder, one.modality).classes for one in encoded} - {""})
    for one in encoded:
        if one.modality == TEXT and one.table.startswith("embeddings_"):
            yield from ((one, classes) for classes in lists)


@task(name="name classes", task_run_name="name {classes} with {source.encoder}", **RETRY)
@spending("other")
def name_classes(workspace: Workspace, source: EncoderRef, classes: str, device: str, threads: int | None) -> int:
    """Encode the names of a list that the table of an encoder lacks; give how many these were."""
    store, table, spec = workspace.store, names_table(source.table), spec_of(source.encoder, TEXT)
    texts = {content_hash(name.encode()): name for name in class_names(classes)}
    missing = store.missing(table, list(texts))
    if missing:
        model = load(spec, device=device, models_dir=workspace.models, threads=threads)
        found = model.encode([model.transform(texts[content]) for content in missing])
        schema = schemas.embeddings(spec.dim, json.dumps(asdict(spec)), model.fingerprint)
        columns = {"vector": vector_column(found.vectors), "truncated": pa.array(found.truncated)}
        store.upsert(table, schema, pa.table({"content_hash": missing} | columns))
    return len(missing)


def vectors_of_names(store: Store, classes: str, encoded: Sequence[EncoderRef]) -> dict[str, npt.NDArray[np.float32]]:
    """The names of a list {encoder: (c, d)}, in its order, under each encoder of texts; {} where one lacks any."""
    contents = [content_hash(name.encode()) for name in class_names(classes)]
    out = {}
    for one in encoded:
        table = names_table(one.table)
        if one.modality == TEXT and one.table.startswith("embeddings_"):
            if not store.exists(table):
                return {}
            out[one.encoder], found = store.vectors(table, contents)
            if not found.all():
                return {}
    return out
