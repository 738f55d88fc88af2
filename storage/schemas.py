"""The tables: one non-null string key each, declared as the primary key, or concurrent upserts would duplicate rows."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1
"""Rises when a table's meaning changes; an older program refuses a newer table."""

VERSION_KEY = b"modalign.schema_version"
_PRIMARY = {b"lance-schema:unenforced-primary-key": b"true"}

ITEMS = "items"
PAIRS = "pairs"
ANSWERS = "answers"
QUARANTINE = "quarantine"
COLLECTIONS = "collections"
PUBLISHED = "published"
PROMOTIONS = "promotions"
BUCKETS = "buckets"
FILES = "files"
MARKS = "marks"
GENERATED = "generated"


def _text(name: str, *, null: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=null)


def _schema(key: str, *fields: pa.Field, metadata: dict[str, str] | None = None) -> pa.Schema:
    marks = {VERSION_KEY: str(SCHEMA_VERSION).encode()}
    marks |= {name.encode(): value.encode() for name, value in (metadata or {}).items()}
    return pa.schema([pa.field(key, pa.string(), nullable=False, metadata=_PRIMARY), *fields], metadata=marks)


def items() -> pa.Schema:
    """A piece of one medium. `group` and `split` are the final ones, `declared_*` what the data says."""
    return _schema(
        "key",
        _text("collection"),
        _text("modality"),
        _text("uri"),
        _text("content_hash"),
        _text("text", null=True),
        _text("lexical", null=True),
        _text("row_key"),
        _text("column", null=True),
        _text("group"),
        _text("split"),
        _text("declared_group", null=True),
        _text("declared_split", null=True),
        _text("attributes"),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("bucket", pa.int32(), nullable=False),
    )


def pairs() -> pa.Schema:
    """A known or mined pair with its provenance: given, mined or generated; round, score, margin, weight, method."""
    return _schema(
        "key",
        _text("collection"),
        _text("left"),
        _text("right"),
        _text("left_modality"),
        _text("right_modality"),
        _text("source"),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("margin", pa.float32()),
        pa.field("weight", pa.float32(), nullable=False),
        _text("method", null=True),
        pa.field("row_bucket", pa.int32(), nullable=False),
    )


def generated() -> pa.Schema:
    """A caption that was made for an item, and for which content of it; `score` is how far the evidence agrees with it.

    These texts are no rows of `items`, which equal a fresh build of the source; each has a pair of source generated.
    """
    return _schema(
        "key",
        _text("collection"),
        _text("item"),
        _text("modality"),
        _text("item_content"),
        _text("text"),
        _text("content_hash"),
        pa.field("score", pa.float32(), nullable=False),
        _text("method"),
    )


def answers() -> pa.Schema:
    """A question about a media item, and what people answered.

    `answer` is what most of the `annotators` said; `content_hash` is that of the question, which text encoders read.
    """
    return _schema(
        "key",
        _text("collection"),
        _text("item"),
        _text("question"),
        _text("content_hash"),
        _text("answer"),
        _text("answer_type", null=True),
        pa.field("annotators", pa.list_(pa.string()), nullable=False),
        pa.field("bucket", pa.int32(), nullable=False),
    )


def quarantine() -> pa.Schema:
    """What could not be read or encoded. `bucket` is -1 for what the scan of the metadata found.

    `content_hash` says which content could not be decoded: a mended file has another one, and is tried again.
    """
    return _schema(
        "key",
        _text("collection"),
        _text("locator"),
        _text("stage"),
        _text("code"),
        _text("message"),
        _text("content_hash", null=True),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("first_seen", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("last_seen", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("bucket", pa.int32(), nullable=False),
    )


def collections() -> pa.Schema:
    """A named source, as it was last scanned; `params` (JSON) is what an update does with it."""
    return _schema(
        "name", _text("uri"), _text("root"), _text("params"), pa.field("recorded_at", pa.timestamp("us", tz="UTC"))
    )


def buckets() -> pa.Schema:
    """Which state of a bucket of a source the tables hold: the digest of its staged rows, or that it is changing."""
    return _schema("key", _text("collection"), pa.field("bucket", pa.int32(), nullable=False), _text("digest"))


def files() -> pa.Schema:
    """What was learned of a medium's file, so that it is read again only when its size or time of change differs.

    `how` says by which bounds and code it was read; it is empty where the file is to be read again in any case.
    """
    return _schema(
        "key",
        _text("collection"),
        pa.field("bucket", pa.int32(), nullable=False),
        _text("file"),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("changed", pa.int64(), nullable=False),
        _text("how"),
        _text("content_hash"),
        _text("code"),
        _text("message"),
    )


def marks() -> pa.Schema:
    """A step that was done: for which state of the tables, and what it gave (JSON)."""
    return _schema("name", _text("state"), _text("result"), pa.field("at", pa.timestamp("us", tz="UTC")))


def published() -> pa.Schema:
    """A name and the manifest (JSON) of what stands behind it."""
    return _schema("name", _text("manifest"), pa.field("published_at", pa.timestamp("us", tz="UTC")))


def promotions() -> pa.Schema:
    """The history of a name: what was promoted, refused or rolled back, when and why; manifests and figures are JSON.

    `before` is the manifest that was in force until then: what a roll-back restores.
    """
    return _schema(
        "key",
        _text("name"),
        pa.field("number", pa.int64(), nullable=False),
        _text("event"),
        _text("space_id"),
        _text("reason"),
        _text("figures"),
        _text("manifest"),
        _text("before", null=True),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    )


def embeddings(dim: int, spec: str, fingerprint: str, *, half: bool = False) -> pa.Schema:
    """The vector of one content under one encoder fingerprint; `spec` is the encoder's description as JSON.

    A table of tokens holds those of one content as one vector, in `half` precision.
    """
    return _schema(
        "content_hash",
        pa.field("vector", pa.list_(pa.float16() if half else pa.float32(), dim), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        metadata={"modalign.spec": spec, "modalign.fingerprint": fingerprint, "modalign.metric": "cosine"},
    )


def parts(dim: int, spec: str, fingerprint: str) -> pa.Schema:
    """A part of a content that lasts, under one encoder fingerprint: which one it is, and where it starts in seconds.

    Vectors are in half precision. All parts of a content are written at once.
    """
    return _schema(
        "key",
        _text("content_hash"),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("start", pa.float64(), nullable=False),
        pa.field("vector", pa.list_(pa.float16(), dim), nullable=False),
        metadata={"modalign.spec": spec, "modalign.fingerprint": fingerprint, "modalign.metric": "cosine"},
    )


def moments(dim: int, query_modalities: tuple[str, ...], space_id: str) -> pa.Schema:
    """A part of a content in the joint space, with its hubness term for each query modality.

    It belongs to a content, not to an item: it stays right for whoever reads an older version of the items.
    """
    return _schema(
        "key",
        _text("modality"),
        _text("content_hash"),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("start", pa.float64(), nullable=False),
        pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
        *(pa.field(f"hubness_{name}", pa.float32(), nullable=False) for name in query_modalities),
        metadata={"modalign.space": space_id, "modalign.metric": "cosine"},
    )


def space(dim: int, query_modalities: tuple[str, ...], space_id: str) -> pa.Schema:
    """One item in the joint space, with its hubness term for each query modality and the words known for it.

    `bits` holds the signs of the vector, packed, for binary hashing.
    """
    return _schema(
        "key",
        _text("collection"),
        _text("modality"),
        _text("content_hash"),
        _text("group"),
        _text("split"),
        _text("uri"),
        _text("text"),
        _text("grams"),
        _text("attributes"),
        pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
        pa.field("bits", pa.list_(pa.uint8(), -(-dim // 8)), nullable=False),
        *(pa.field(f"hubness_{name}", pa.float32(), nullable=False) for name in query_modalities),
        metadata={"modalign.space": space_id, "modalign.metric": "cosine"},
    )


def key_of(schema: pa.Schema) -> str:
    """Name of the primary key column."""
    for field in schema:
        if field.metadata and field.metadata.get(b"lance-schema:unenforced-primary-key") == b"true":
            return str(field.name)
    raise ValueError("the schema declares no primary key")


def workspace(about: dict[str, str]) -> pa.Schema:
    """To which workspace the tables of a database belong: its description says it, it has no rows."""
    return _schema("name", metadata=about)
