"""From the rows of a source to the records of the tables: items, known pairs and faults. Pure, one shard at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from tasks.media.registry import Limits, MediaError, get
from tasks.media.text import clean_text
from tasks.sources.item import Row, answer_key, bucket_of, content_hash, digest, media_key, pair_key, text_key

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """What could not be read: where, why (a reason code), in words; `bucket` says which shard found it."""

    locator: str
    code: str
    message: str
    bucket: int


@dataclass(slots=True)
class Prepared:
    """The records of one shard, ready for their tables."""

    items: list[Record] = field(default_factory=list)
    pairs: list[Record] = field(default_factory=list)
    answers: list[Record] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


Tracks = Literal["no", "alone", "texts"]
"""Of a file that holds other media as well: these are left out, become items, or are paired with the texts besides."""


def stage(
    row: Row, *, lexical: tuple[str, ...], stat: Callable[[str], tuple[int, int]], tracks: Tracks = "no"
) -> Iterator[tuple[int, str, Record]]:
    """Split one row into staged records (bucket, kind, record): the row, each of its media, each link of two media.

    A medium goes to the bucket of its own path, with the question that is asked about it, and a link to one of its own,
    so that rows which share it meet there.
    A track has the path of the medium that it is `of`, which may turn out to have none. `stat(file)` gives its size in
    bytes and time of change in nanoseconds, (-1, 0) if there is none. Line numbers stay out: a row that moves in its
    file has not changed.
    """
    words = " ".join(str(row.attributes[name]) for name in lexical if row.attributes.get(name) not in (None, ""))
    shared: Record = {
        "row_key": row.row_key,
        "split": row.split,
        "group": row.group,
        "attributes": row.attributes,
        "lexical": words,
    }
    media = [[ref.modality, ref.path] for ref in row.media]
    inside = [(ref, track) for ref in row.media for track in get(ref.modality).tracks if tracks != "no"]
    if tracks == "texts":
        media += [[track, ref.path] for ref, track in inside]
    texts = [[ref.column, ref.text] for ref in row.texts]
    yield bucket_of(digest(row.row_key)), "row", shared | {"media": media, "texts": texts}
    for ref in dict.fromkeys(row.media):
        size, changed = stat(ref.file)
        seen: Record = {"path": ref.path, "file": ref.file, "modality": ref.modality, "size": size, "changed": changed}
        yield bucket_of(digest(ref.modality, ref.path)), "media", shared | seen
        if row.asked is not None:
            about = {"modality": ref.modality, "path": ref.path}
            said = {"question": row.asked.text, "answers": list(row.asked.answers), "type": row.asked.type}
            yield bucket_of(digest(ref.modality, ref.path)), "answer", about | said
        for _, track in (one for one in inside if one[0] == ref):
            yield bucket_of(digest(track, ref.path)), "media", shared | seen | {"modality": track, "of": ref.modality}
    for left, right in combinations(sorted({(ref.modality, ref.path) for ref in row.media}), 2):
        yield bucket_of(digest(*left, *right)), "link", {"left": list(left), "right": list(right)}


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds: the hash of its bytes, and their number."""

    content_hash: str
    bytes: int


def examine(record: Record, read: Callable[[str], bytes], limits: Limits) -> Content:
    """Read and check the medium of a staged record; of a track also what holds it. Raises `MediaError`."""
    data = read(record["file"])
    if "of" in record:
        get(record["of"]).inspect(data, limits)
    get(record["modality"]).inspect(data, limits)
    return Content(content_hash(data), len(data))


def prepare(
    staged: Iterable[tuple[str, Record]], *, collection: str, look: Callable[[Record], Content], limits: Limits
) -> Prepared:
    """Check and key the staged records of some buckets; `look` gives what the medium of a record holds.

    A medium mentioned by several rows is one item; the row with the smallest key describes it. Rows with one key (a
    table with a line for each caption) are one row. A row's pairs join each of its media with the others and with each
    of its texts; a row without media joins its texts of different columns. A track is joined with what holds it. What
    cannot be read becomes a fault and the rest goes on.
    """
    done = Prepared()
    mentions: dict[tuple[str, str], Record] = {}
    rows: dict[str, Record] = {}
    links: dict[str, Record] = {}
    answers: dict[str, Record] = {}
    for kind, record in staged:
        if kind == "answer":
            answer = _answer(record, collection, limits)
            answers[answer["key"]] = answer
            continue
        if kind == "link":
            ends = [(modality, media_key(collection, modality, path)) for modality, path in record.values()]
            pair = _pair(ends[0], ends[1], collection, bucket_of(digest(*record["left"], *record["right"])))
            links[pair["key"]] = pair
            continue
        if kind == "row":
            first = rows.setdefault(record["row_key"], record)
            if first is not record:
                first["media"] += [link for link in record["media"] if link not in first["media"]]
                first["texts"] += record["texts"]
            continue
        name = (record["modality"], record["path"])
        if name not in mentions or _before(record, mentions[name]):
            mentions[name] = record
    for record in rows.values():
        _prepare_row(record, collection, limits, done)
    for record in mentions.values():
        _prepare_medium(record, collection, look, done)
    done.pairs += links.values()
    done.answers += answers.values()
    return done


def _before(one: Record, other: Record) -> bool:
    """Which mention of a medium describes it, by what the rows say: the time of a file must not decide.

    Two spellings of one name may both be on disk; the same one is then read each time.
    """
    if one["row_key"] != other["row_key"]:
        return bool(one["row_key"] < other["row_key"])
    said = [json.dumps(record | {"size": 0, "changed": 0}, sort_keys=True) for record in (one, other)]
    return said[0] < said[1]


def _item(record: Record, collection: str, bucket: int) -> Record:
    return {
        "collection": collection,
        "row_key": record["row_key"],
        "declared_group": record["group"],
        "declared_split": record["split"],
        "group": "",
        "split": "",
        "lexical": record["lexical"] or None,
        "attributes": json.dumps(record["attributes"], sort_keys=True, ensure_ascii=False),
        "bucket": bucket,
        "truncated": False,
        "text": None,
        "column": None,
        "uri": "",
    }


def _prepare_medium(record: Record, collection: str, look: Callable[[Record], Content], done: Prepared) -> None:
    modality, path = record["modality"], record["path"]
    bucket = bucket_of(digest(modality, path))
    try:
        found = look(record)
    except MediaError as error:
        if "of" not in record:
            done.faults.append(Fault(path, error.code, error.message, bucket))
        elif error.code.startswith(f"{modality}_") and error.code != f"{modality}_no_stream":  # else told of the whole
            done.faults.append(Fault(f"{path}#{modality}", error.code, error.message, bucket))
        return
    key = media_key(collection, modality, path)
    if "of" in record:
        whole = (record["of"], media_key(collection, record["of"], path))
        done.pairs.append(_pair(whole, (modality, key), collection, bucket))
    done.items.append(
        _item(record, collection, bucket)
        | {
            "key": key,
            "modality": modality,
            "uri": record["file"],
            "content_hash": found.content_hash,
            "bytes": found.bytes,
        }
    )


def _prepare_row(record: Record, collection: str, limits: Limits, done: Prepared) -> None:
    row_key = record["row_key"]
    bucket = bucket_of(digest(row_key))
    texts: list[tuple[str, str]] = []
    counts: dict[tuple[str, str], int] = {}
    places: dict[str, int] = {}
    for column, raw in record["texts"]:
        place = places[column] = places.get(column, 0) + 1
        try:
            text = clean_text(raw, max_chars=limits.max_chars)
        except MediaError as error:
            done.faults.append(Fault(f"{row_key}#{column}[{place}]", error.code, error.message, bucket))
            continue
        data = text.text.encode()
        known = content_hash(data)
        occurrence = counts[column, known] = counts.get((column, known), -1) + 1
        key = text_key(collection, row_key, column, known, occurrence)
        texts.append((column, key))
        done.items.append(
            _item(record, collection, bucket)
            | {
                "key": key,
                "modality": "text",
                "content_hash": known,
                "bytes": len(data),
                "text": text.text,
                "column": column,
                "truncated": text.truncated,
            }
        )
    media = [(modality, media_key(collection, modality, path)) for modality, path in record["media"]]
    done.pairs += [_pair(*link, collection, bucket) for link in _links(list(dict.fromkeys(media)), texts)]


def _answer(record: Record, collection: str, limits: Limits) -> Record:
    """An answered question; of several answers the one that most people gave, the first of those that equally many did.

    A question is encoded by its content hash, like a text.
    """
    question, *said = (
        clean_text(one, max_chars=limits.max_chars).text for one in (record["question"], *record["answers"])
    )
    item = media_key(collection, record["modality"], record["path"])
    return {
        "key": answer_key(item, question, record["type"], said),
        "collection": collection,
        "item": item,
        "question": question,
        "content_hash": content_hash(question.encode()),
        "answer": Counter(said).most_common(1)[0][0],
        "answer_type": record["type"],
        "annotators": said,
        "bucket": bucket_of(digest(record["modality"], record["path"])),
    }


def _pair(one: tuple[str, str], other: tuple[str, str], collection: str, bucket: int) -> Record:
    left, right = sorted((one, other))
    return {
        "key": pair_key(left[1], right[1], "given"),
        "collection": collection,
        "left": left[1],
        "right": right[1],
        "left_modality": left[0],
        "right_modality": right[0],
        "source": "given",
        "round": 0,
        "score": None,
        "margin": None,
        "weight": 1.0,
        "method": None,
        "row_bucket": bucket,
    }


def _links(
    media: list[tuple[str, str]], texts: list[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """(modality, key) couples of a row's texts: with its media, or among themselves where it has none."""
    for medium in media:
        for _, key in texts:
            yield medium, ("text", key)
    if not media:
        for (column, key), (other, twin) in combinations(texts, 2):
            if column != other:
                yield ("text", key), ("text", twin)
