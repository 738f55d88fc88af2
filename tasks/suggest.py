"""Which training items without a partner to label next, and the table that a person fills in and `ingest` reads."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from config.params import PipelineParams
from storage import catalog, schemas
from storage.filters import Filter, eq, isin
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import TRAIN, open_space, vectors_of
from tasks.alignment.space import JointSpace
from tasks.mining.suggestions import guesses, suggest
from tasks.refs import Aligned, EncoderRef
from tasks.retrieval.similarity import normalise
from tasks.sources.metadata import NAMES
from tasks.sources.open import collection_name
from tasks.sources.rows import REMARK, SPLITS

Array = npt.NDArray[np.float32]
_GUESSES = 3
_FOLDER = "to-label"
_MEDIUM, _FILLED = "file_name", "caption"


@dataclass(frozen=True)
class Suggestion:
    """An item to label: a file or a text, the present best guesses at its partner, and why it was chosen.

    `lead` is by how much the first guess leads the second; `gain` the share of the items alone that it newly covers.
    """

    modality: str
    uri: str
    text: str
    column: str
    guesses: tuple[str, ...]
    lead: float
    gain: float


@dataclass(frozen=True)
class _Pool:
    """Distinct contents of one modality in training: where one stands, whether it has a partner, vectors."""

    uris: list[str]
    texts: list[str]
    columns: list[str]
    paired: npt.NDArray[np.bool_]
    vectors: dict[str, Array]


def suggest_items(
    workspace: Workspace, aligned: Aligned, collection: str, count: int, modality: str | None
) -> list[Suggestion]:
    """At most `count` items of a collection without a known partner, by `mining.suggestions` in a space in force.

    Of both modalities of the base in proportion to how many lack one, or of the one that is named. Only the training
    split is looked at, the guesses included. Raises `UserError` when nothing is there to suggest.
    """
    names = aligned.space.base
    if modality is not None and modality not in names:
        raise UserError(f"the space {aligned.space.name} has no modality {modality!r}", f"it has {', '.join(names)}")
    joint, _ = open_space(aligned.space.path)
    pools = {name: _pool(workspace.store, aligned, collection, name) for name in names}
    wanted = [name for name in names if modality in (None, name)]
    lacking = {name: int((~pools[name].paired).sum()) for name in wanted}
    whole = sum(lacking.values())
    if not whole:
        raise UserError(
            f"every training item of {collection} has a known partner already", "add items, or name another collection"
        )
    shares = np.diff(np.round(np.cumsum([0, *lacking.values()]) * min(count, whole) / whole).astype(int))
    out: list[Suggestion] = []
    for name, share in zip(wanted, shares.tolist(), strict=True):
        other = next(one for one in names if one != name)
        if share:
            out += _suggest(joint, (name, pools[name]), (other, pools[other]), share)
    return out


def _suggest(joint: JointSpace, own: tuple[str, _Pool], other: tuple[str, _Pool], count: int) -> list[Suggestion]:
    (modality, pool), (far, gallery) = own, other
    alone = np.flatnonzero(~pool.paired)
    z, g = joint.project(modality, pool.vectors)[alone], joint.project(far, gallery.vectors)
    rows, lead = guesses(z, g, joint.hubness(g, modality), _GUESSES)
    x = normalise(joint.heads[modality].features.apply(pool.vectors))
    picks = suggest(x[alone], x[pool.paired], count)
    words = [uri or text for uri, text in zip(gallery.uris, gallery.texts, strict=True)]
    return [
        Suggestion(
            modality=modality,
            uri=pool.uris[alone[row]],
            text=pool.texts[alone[row]],
            column=pool.columns[alone[row]],
            guesses=tuple(words[place] for place in rows[row]),
            lead=float(lead[row]),
            gain=gain,
        )
        for row, gain in zip(picks.rows.tolist(), picks.gain.tolist(), strict=True)
    ]


def _pool(store: Store, aligned: Aligned, collection: str, modality: str) -> _Pool:
    where = eq("collection", collection) & eq("modality", modality) & eq("split", TRAIN)
    items = store.read(schemas.ITEMS, ["key", "content_hash", "uri", "text", "column"], where).sort_by("key")
    keys, contents, uris, texts, columns = (items[name].to_pylist() for name in items.column_names)
    known = _with_partner(store, isin("collection", aligned.collections))
    paired = {content for key, content in zip(keys, contents, strict=True) if key in known}
    firsts = sorted({content: place for place, content in reversed(list(enumerate(contents)))}.values())
    encoded: tuple[EncoderRef, ...] = aligned.encoded
    vectors, found = vectors_of(store, modality, [contents[place] for place in firsts], encoded)
    kept = [place for place, there in zip(firsts, found, strict=True) if there]
    if not kept:
        raise UserError(f"{collection} has no {modality} with a vector in its training split", "ingest it, then align")
    return _Pool(
        [uris[place] for place in kept],
        [texts[place] or "" for place in kept],
        [columns[place] or "" for place in kept],
        np.array([contents[place] in paired for place in kept]),
        {name: one[found] for name, one in vectors.items()},
    )


def _with_partner(store: Store, here: Filter) -> set[str]:
    """Keys of the items with a given pair of two modalities."""
    names = ["left", "right", "left_modality", "right_modality"]
    return {
        key
        for batch in store.stream(schemas.PAIRS, names, here & eq("source", "given"))
        for left, right, one, other in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        if one != other
        for key in (left, right)
    }


@dataclass(frozen=True)
class Place:
    """Where the table goes, and whether it is read there `within` the collection, whose media lie below `root`.

    `source` is what the collection is read from; `texts` are its text columns.
    """

    path: Path
    root: Path
    source: Path
    texts: tuple[str, ...]
    within: bool

    def next_step(self, collection: str) -> str:
        """What to do with the table once it is filled in."""
        if self.within:
            return "fill in the empty cells, then: modalign update"
        if self.source.is_file():
            return f"fill in the empty cells, append the rows to {self.source.name}, then: modalign update"
        return (
            f"fill in the empty cells, then: modalign ingest {self.path}, "
            f"modalign align --collections {collection},{collection_name(self.path.stem)} "
            "(a collection of its own holds out its own share of the groups)"
        )


def place_for(workspace: Workspace, collection: str, out: Path | None) -> Place:
    """Where to write the table, so that a reader finds it and its paths stay inside what that reader reads.

    A folder collection reads `metadata.csv` in each of its sub-folders: there, by default, the table becomes a part of
    the collection. Anywhere else it is a table of its own. Raises `UserError` for a file that is there already.
    """
    record = next(row for row in catalog.collections(workspace.store) if row["name"] == collection)
    root = Path(record["root"])
    folder = Path(record["uri"]).is_dir() and _has_metadata(root)
    path = (
        (out if out is not None else root / (f"{_FOLDER}/metadata.csv" if folder else "label.csv"))
        .expanduser()
        .resolve()
    )
    if path.suffix != ".csv":
        raise UserError(f"{path.name} is no CSV file", "name it label.csv, for instance")
    if path.exists():
        raise UserError(f"{path} is there already, perhaps with labels", "name another file with -o")
    within = folder and path.name == NAMES[1] and path.parent.parent == root and path.parent.name not in SPLITS
    texts = PipelineParams.model_validate_json(record["params"]).columns.texts
    return Place(path, root, Path(record["uri"]), texts or ("text",), within)


def _has_metadata(root: Path) -> bool:
    """Whether a folder is read by metadata: only then does another metadata file add to what is read."""
    folders = [root, *(child for child in root.iterdir() if child.is_dir())] if root.is_dir() else []
    return any((folder / name).is_file() for folder in folders for name in NAMES)


def write_table(place: Place, rows: Sequence[Suggestion]) -> None:
    """Write suggestions as a metadata table: what is known of an item stands there, its partner is the empty cell.

    A file has an empty text cell (`caption`, or the collection's first text column), a text an empty `file_name`. The
    guesses stand in remarks, which no reader takes for data. Raises `UserError` where a file lies beside the table's
    folder: paths may not leave it.
    """
    first = _FILLED if _FILLED in place.texts else place.texts[0]
    columns = [_MEDIUM, *dict.fromkeys([first, *(row.column for row in rows if row.text)])]
    base = place.root if place.within else place.path.parent
    lines: list[dict[str, Any]] = []
    for row in rows:
        line: dict[str, Any] = dict.fromkeys(columns, "")
        if row.text:
            line[row.column] = row.text
        else:
            file = place.root / row.uri
            if not file.is_relative_to(base):
                raise UserError(
                    f"{file} lies outside {base}, and paths in a table may not leave its folder",
                    f"write the table there: -o {place.root / 'label.csv'}",
                )
            line[_MEDIUM] = Path(os.path.relpath(file, place.path.parent)).as_posix()
        line |= {f"{REMARK}guess {number}": guess for number, guess in enumerate(row.guesses, 1)}
        lines.append(line | {f"{REMARK}lead": f"{row.lead:.4f}"})
    place.path.parent.mkdir(parents=True, exist_ok=True)
    names = [*columns, *(f"{REMARK}guess {number}" for number in range(1, _GUESSES + 1)), f"{REMARK}lead"]
    with place.path.open("x", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, names, restval="")
        writer.writeheader()
        writer.writerows(lines)
