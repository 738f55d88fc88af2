"""What is in the tables already: the collections a command means, and the encoders whose vectors they have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from config.errors import UserError
from storage import catalog, schemas
from storage.filters import eq, isin
from storage.tables import Store
from storage.workspace import Workspace
from tasks.encode import spec_of, table_of
from tasks.encoders.protocol import EncoderError
from tasks.refs import EncoderRef


def collections_of(workspace: Workspace, names: Sequence[str]) -> tuple[str, ...]:
    """The named collections, or the one ingested last. Raises `UserError` where there is no such one."""
    known = {row["name"]: row for row in catalog.collections(workspace.store)}
    if not known:
        raise UserError(f"the workspace {workspace.root} holds no collection", "run `modalign ingest SOURCE` first")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UserError(f"there is no collection {unknown[0]!r}", f"known: {', '.join(sorted(known))}")
    return tuple(names) or (max(known.values(), key=lambda row: row["recorded_at"])["name"],)


def refs_of(encoders: Mapping[str, Sequence[str]], device: str) -> tuple[EncoderRef, ...]:
    """References to the tables of encoders as they run here, whether they are there or not."""
    return tuple(
        EncoderRef(modality=modality, encoder=name, table=table_of(spec_of(name, modality), device))
        for modality, names in encoders.items()
        for name in names
    )


def check_tables(store: Store, refs: Sequence[EncoderRef]) -> None:
    """Raise `UserError` for an encoder that nothing is encoded with."""
    for one in refs:
        if not store.exists(one.table):
            raise UserError(
                f"nothing is encoded with {one.encoder}", "run `modalign ingest SOURCE` with this profile first"
            )


def named_encoders(
    workspace: Workspace,
    collections: tuple[str, ...],
    encoders: Mapping[str, Sequence[str]],
    device: str,
    *,
    may_lack: float,
) -> tuple[EncoderRef, ...]:
    """The encoders that the user names. Raises `UserError` for one that lacks more than a share of the vectors."""
    refs = refs_of(encoders, device)
    for ref in refs:
        if _lacking(workspace, collections, ref) > may_lack:
            source = next(row["uri"] for row in catalog.collections(workspace.store) if row["name"] == collections[0])
            wanted = json.dumps({modality: list(names) for modality, names in encoders.items()})
            raise UserError(
                f"the items of {', '.join(collections)} have no vectors by {ref.encoder}",
                f"run `modalign ingest {source} --set 'encode.encoders={wanted}'` first",
            )
    return refs


def found_encoders(
    workspace: Workspace, collections: tuple[str, ...], device: str, *, may_lack: float
) -> tuple[tuple[EncoderRef, ...], tuple[str, ...]]:
    """All encoders with vectors of these collections, by modality and name, and notes on those that are left out.

    One is left out when it lacks more than a share `may_lack` of the vectors, or when its table was made by other
    weights or another runtime than are here.
    """
    store = workspace.store
    refs, notes = [], []
    for table in store.names():
        if not table.startswith("embeddings_"):
            continue
        about: dict[str, Any] = json.loads(store.metadata(table)["modalign.spec"])
        ref = EncoderRef(modality=about["modality"], encoder=about["name"], table=table)
        if not _lacking(workspace, collections, ref) <= may_lack:
            notes.append(f"{ref.encoder} is left out: it has too few vectors of {', '.join(collections)}")
        elif _here(ref, device) != table:
            notes.append(f"{ref.encoder} is left out: {table} was made by other weights or another runtime")
        else:
            refs.append(ref)
    if len({ref.modality for ref in refs}) < 2:
        raise UserError(
            f"fewer than two modalities of {', '.join(collections)} have vectors",
            "; ".join([*notes, "run `modalign ingest SOURCE` first"]),
        )
    return tuple(sorted(refs, key=lambda ref: (ref.modality, ref.encoder))), tuple(notes)


def _here(ref: EncoderRef, device: str) -> str | None:
    try:
        return table_of(spec_of(ref.encoder, ref.modality), device)
    except (UserError, EncoderError):
        return None


def _lacking(workspace: Workspace, collections: tuple[str, ...], ref: EncoderRef) -> float:
    """Share of the collections' contents of the encoder's modality that its table lacks."""
    where = isin("collection", collections) & eq("modality", ref.modality)
    contents = sorted(set(workspace.store.strings(schemas.ITEMS, "content_hash", where)))
    return len(workspace.store.missing(ref.table, contents)) / len(contents) if contents else 1.0
