"""The answered questions of a collection with the vectors of both sides, and the model that was fitted on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from config.params import PipelineParams
from storage import catalog, schemas
from storage.answers import load_answering, save_answering
from storage.errors import StorageError
from storage.filters import eq, ne
from storage.spaces import slug_of
from storage.workspace import Workspace
from tasks.answering.model import Chosen, Model
from tasks.answering.questions import question_type
from tasks.answering.ridge import Ridge
from tasks.answering.rows import Array, Centre, Table, compact
from tasks.answering.wording import canonical
from tasks.contents import TEXT
from tasks.refs import EncoderRef

_COLUMNS = ("key", "item", "content_hash", "question", "answer", "answer_type", "annotators")


@dataclass(frozen=True)
class AnsweredRows:
    """n answered questions about media of one modality, by key; `table` holds what is computed with.

    `left_out` says how many lack a vector, or a medium.
    """

    collection: str
    modality: str
    table: Table
    keys: list[str]
    items: list[str]
    questions: list[str]
    answers: list[str]
    annotators: list[list[str]]
    splits: npt.NDArray[np.str_]
    encoders: tuple[EncoderRef, ...]
    left_out: int


def collection_asked(workspace: Workspace, name: str | None) -> str:
    """The named collection, or the one with answered questions that was ingested last. Raises `UserError` for none."""
    known = {row["name"]: row for row in catalog.collections(workspace.store)}
    if name is not None and name not in known:
        raise UserError(f"there is no collection {name!r}", f"known: {', '.join(sorted(known)) or 'none'}")
    asked = [
        one for one in ([name] if name else known) if workspace.store.count(schemas.ANSWERS, eq("collection", one))
    ]
    if not asked:
        what = f"collection {name} holds" if name else f"the workspace {workspace.root} holds"
        raise UserError(
            f"{what} no answered questions", "ingest a table with the columns file_name, question and answer"
        )
    return max(asked, key=lambda one: known[one]["recorded_at"])


def encoders_of_collection(workspace: Workspace, collection: str) -> dict[str, tuple[EncoderRef, ...]]:
    """By modality the encoders that a collection was last ingested with, as far as their vectors are there.

    Of several tables of one encoder, by other weights or another runtime, the fullest.
    """
    store = workspace.store
    (row,) = (one for one in catalog.collections(store) if one["name"] == collection)
    wanted = PipelineParams.model_validate_json(row["params"]).encode.encoders
    tables: dict[tuple[str, str], list[str]] = {}
    for table in store.names():
        if table.startswith("embeddings_"):
            about = spec_in(workspace, table)
            tables.setdefault((about["modality"], about["name"]), []).append(table)
    return {
        modality: tuple(
            EncoderRef(modality=modality, encoder=name, table=max(tables[modality, name], key=store.count))
            for name in names
            if (modality, name) in tables
        )
        for modality, names in wanted.items()
    }


def spec_in(workspace: Workspace, table: str) -> dict[str, Any]:
    """The spec of an encoder as it stands with its vectors."""
    about: dict[str, Any] = json.loads(workspace.store.metadata(table)["modalign.spec"])
    return about


def state_of(workspace: Workspace, collection: str, encoders: Mapping[str, Sequence[EncoderRef]]) -> str:
    """What changes when the rows of `load_answered` do; it may change when they do not."""
    tables = sorted(one.table for many in encoders.values() for one in many)
    return f"{collection} {workspace.store.state([schemas.ANSWERS, schemas.ITEMS, *tables])}"


def load_answered(workspace: Workspace, collection: str, modality: str | None = None) -> AnsweredRows:
    """All rows about media of `modality`, without it the one of most rows. Raises `UserError` where there are none.

    Memory is that of the rows and of the vectors of their distinct questions and media.
    """
    store = workspace.store
    encoders = encoders_of_collection(workspace, collection)
    here = eq("collection", collection)
    about = store.read(
        schemas.ITEMS, ["key", "modality", "content_hash", "group", "split"], here & ne("modality", TEXT)
    ).to_pylist()
    items = {row["key"]: row for row in about}
    rows = store.read(schemas.ANSWERS, _COLUMNS, here).sort_by("key").to_pylist()
    counts = Counter(items[row["item"]]["modality"] for row in rows if row["item"] in items)
    wanted = modality or next((name for name, _ in counts.most_common(1)), "")
    for name in (TEXT, wanted):
        if not encoders.get(name):
            what = "its questions" if name == TEXT else name or "any medium"
            raise UserError(
                f"collection {collection} has no vectors of {what}",
                f"run `modalign ingest` with an encoder of {name or 'its media'} in encode.encoders",
            )
    there = [row for row in rows if row["item"] in items and items[row["item"]]["modality"] == wanted]
    sides: list[tuple[dict[str, Array], npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = []
    for name, contents in (
        (TEXT, [row["content_hash"] for row in there]),
        (wanted, [items[row["item"]]["content_hash"] for row in there]),
    ):
        distinct, index = np.unique(np.asarray(contents, np.str_), return_inverse=True)
        vectors, known = {}, np.ones(len(distinct), np.bool_)
        for ref in encoders[name]:
            vectors[ref.encoder], found = store.vectors(ref.table, distinct.tolist())
            known &= found
        sides.append((vectors, index.astype(np.int64), known[index]))
    kept = np.flatnonzero(sides[0][2] & sides[1][2])
    if not len(kept):
        raise UserError(f"no question of {collection} about {wanted} has its vectors", "run `modalign ingest` again")
    rows = [there[place] for place in kept.tolist()]
    answers, answer = np.unique([canonical(row["answer"]) for row in rows], return_inverse=True)
    types, kind = np.unique([question_type(row["question"], row["answer_type"]) for row in rows], return_inverse=True)
    groups = np.unique([items[row["item"]]["group"] for row in rows], return_inverse=True)[1]
    (questions, question), (media, medium) = (compact(vectors, index[kept]) for vectors, index, _ in sides)
    used = (*encoders[TEXT], *encoders[wanted])
    table = Table(
        questions,
        media,
        question,
        medium,
        answer=answer.astype(np.int64),
        type=kind.astype(np.int64),
        groups=groups.astype(np.int64),
        answers=answers.tolist(),
        types=types.tolist(),
        cnn={one.encoder: bool(spec_in(workspace, one.table)["cnn_activations"]) for one in used},
    )
    return AnsweredRows(
        collection,
        wanted,
        table,
        [row["key"] for row in rows],
        [row["item"] for row in rows],
        [row["question"] for row in rows],
        [row["answer"] for row in rows],
        [row["annotators"] for row in rows],
        np.asarray([items[row["item"]]["split"] for row in rows]),
        used,
        counts[wanted] - len(rows),
    )


def save_model(workspace: Workspace, about: AnsweredRows, model: Model, unsure: float) -> None:
    """Keep a model beside the tables, in place of a former one."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for side, centre in zip(("question", "medium"), model.centres, strict=True):
        arrays |= {f"{side}.{place}": mean for place, mean in enumerate(centre.means.values())}
    if model.ridge is not None:
        arrays |= {f"ridge.{name}": one for name, one in model.ridge.arrays().items()}
    config = {
        "schema": 1,
        "collection": about.collection,
        "modality": about.modality,
        "encoders": [one.model_dump() for one in about.encoders],
        "answers": list(about.table.answers),
        "chosen": model.chosen.to_json(),
        "unsure": unsure,
        "rows": len(about.table),
    }
    save_answering(model_folder(workspace, about.collection), arrays, config)


def load_model(workspace: Workspace, about: AnsweredRows) -> tuple[Model, float] | None:
    """The kept model, and the chance below which nobody knows; None where there is none for these encoders."""
    try:
        found = load_answering(model_folder(workspace, about.collection))
    except StorageError as error:
        raise UserError(error.message, error.mend) from None
    if found is None:
        return None
    arrays, config = found
    if config["modality"] != about.modality or config["encoders"] != [one.model_dump() for one in about.encoders]:
        return None
    sides = {"question": about.table.questions, "medium": about.table.media}
    question, medium = (
        Centre(
            {name: arrays[f"{side}.{n}"] for n, name in enumerate(own)}, {name: about.table.cnn[name] for name in own}
        )
        for side, own in sides.items()
    )
    chosen = Chosen.from_json(config["chosen"])
    ridge = None
    if "ridge.weights" in arrays and chosen.kernel is not None:
        own = {name.removeprefix("ridge."): one for name, one in arrays.items() if name.startswith("ridge.")}
        place = {name: number for number, name in enumerate(about.table.answers)}
        known = np.array([place.get(config["answers"][one], -1) for one in own["answers"]])
        kept = known >= 0  # an answer that no row gives any more is given no more
        own |= {"answers": known[kept], "prior": own["prior"][kept], "weights": own["weights"][:, kept]}
        ridge = Ridge.from_arrays(own, chosen.kernel)
    return Model(chosen, (question, medium), ridge), float(config["unsure"])


def saved_at(workspace: Workspace, collection: str) -> int:
    """When the model of a collection was kept, in nanoseconds; 0 where there is none."""
    try:
        return model_folder(workspace, collection).stat().st_mtime_ns
    except OSError:
        return 0


def model_folder(workspace: Workspace, collection: str) -> Path:
    """Where the model of a collection lies."""
    return workspace.answers / slug_of(collection)
