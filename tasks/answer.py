"""The query core of questions: a medium and a question → an answer, how sure it is, and what it rests on. No Prefect.

An answer comes from the stored questions, media and answers of a collection (`rows`); where nobody has asked about such
media, or answers to choose from are given, from comparing each with the medium in the joint space (`candidates`), which
may be words of the captions of similar items (`captions`); or a local model writes it, given all that (`reader`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from storage import catalog, schemas
from storage.filters import eq, isin
from storage.workspace import Workspace
from tasks.answered import AnsweredRows, collection_asked, load_answered, load_model, saved_at
from tasks.answering.candidates import holds, likely, plausible, statement
from tasks.answering.model import Chosen, Model, fit
from tasks.answering.questions import question_type
from tasks.answering.rows import Array, Asked, Stored
from tasks.answering.vote import nearest, scores
from tasks.answering.wording import canonical
from tasks.asked import ENCODING, read_medium  # one lock for all that is encoded
from tasks.contents import TEXT
from tasks.media.registry import MediaError, modality_of
from tasks.media.text import clean_text
from tasks.refs import EncoderRef
from tasks.sources.item import content_hash
from tasks.sources.paths import locate, on_disk

if TYPE_CHECKING:
    from tasks.captioning.generator import Reader
    from tasks.search import Searcher

How = Literal["rows", "candidates", "captions", "reader"]

_CHARS = 2_000
_CAPTIONS = 20  # captions of similar items that give words, or go to a reader
_UNMEASURED = "how sure this is was not measured: run `modalign evaluate-answers`"


@dataclass(frozen=True, slots=True)
class Alternative:
    """A possible answer and its share, 0 to 1; the shares of all possible answers sum to 1."""

    answer: str
    share: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A stored question about a medium and its answer, or a caption (then `question` is empty), and how near they are.

    Similarities are cosines, −1 to 1; None where the question does not count.
    """

    key: str
    item: str
    path: str
    question: str
    answer: str
    question_similarity: float | None
    media_similarity: float


@dataclass(frozen=True)
class Answered:
    """What is answered; None is "I don't know". JSON by `asdict`.

    `confidence` is the chance that the first alternative is right, None where nobody measured it.
    """

    question: str
    medium: str
    type: str
    how: How
    answer: str | None
    confidence: float | None
    alternatives: tuple[Alternative, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Medium:
    """What is asked about: a file, or an item of a collection in the folder `root`, with the hash of its content."""

    name: str
    modality: str
    path: Path
    root: Path | None = None
    key: str | None = None
    content: str | None = None


class Answerer:
    """Answers questions about media by the rows of a `collection` and the published space `name`, as far as needed.

    Without a collection it is the one with answered questions that was ingested last. Encoders load when needed, rows
    once they have changed. `searcher` is a space that is open already. Several threads may ask at once.
    """

    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        *,
        collection: str | None = None,
        device: str = "auto",
        searcher: Searcher | None = None,
    ) -> None:
        self._workspace, self._name, self._collection, self._device = workspace, name, collection, device
        self._given = searcher
        self._rows: dict[str, tuple[str, _Rows | None]] = {}
        self._readers: dict[str, Reader] = {}

    def ask(
        self,
        question: str,
        *,
        file: Path | None = None,
        item: str | None = None,
        candidates: Sequence[str] = (),
        k: int = 5,
        reader: str | None = None,
    ) -> Answered:
        """Answer a question about a media file, or an item by its key or path in its collection.

        `k` bounds the evidence; `reader` is `local:FOLDER`. Raises `UserError` for what cannot be asked.
        """
        if (file is None) == (item is None):
            raise UserError("a question is about a file or an item", "give one of them")
        if not 1 <= k <= 100:
            raise UserError(f"k is {k}", "ask for 1 to 100 pieces of evidence")
        if self._collection is not None and self._collection not in self._roots:
            known = ", ".join(sorted(self._roots)) or "none"
            raise UserError(f"there is no collection {self._collection!r}", f"known: {known}")
        try:
            asked = clean_text(question, max_chars=_CHARS).text
        except MediaError as error:
            raise UserError(f"the question is empty ({error.message})", "type some words") from None
        medium = self._file(file) if file is not None else self._item(str(item))
        chosen = tuple(dict.fromkeys(one.strip() for one in candidates if one.strip()))
        rows = self._rows_about(medium.modality)
        if reader is not None:
            return self._read(asked, medium, chosen, rows, k, reader)
        if rows is not None and not chosen:
            return self._by_rows(asked, medium, rows, k)
        return self._by_candidates(asked, medium, chosen, k)

    @cached_property
    def _searcher(self) -> Searcher:
        from tasks.search import Searcher

        return self._given or Searcher(self._workspace, self._name, device=self._device)

    @cached_property
    def _roots(self) -> dict[str, Path]:
        return {row["name"]: Path(row["root"]) for row in catalog.collections(self._workspace.store)}

    def _file(self, path: Path) -> _Medium:
        modality = modality_of(path.name)
        if modality is None or modality == TEXT:
            raise UserError(f"{path} is no medium to ask about", "give a picture, a sound or a video")
        return _Medium(str(path), modality, path)

    def _item(self, name: str) -> _Medium:
        store = self._workspace.store
        where = isin("collection", [self._collection]) if self._collection else None
        for column in ("key", "uri"):
            here = eq(column, name) if where is None else eq(column, name) & where
            rows = store.read(schemas.ITEMS, ["key", "modality", "uri", "collection", "content_hash"], here).to_pylist()
            if len(rows) > 1:
                raise UserError(f"{len(rows)} items are named {name}", "give the key of one, or --collection")
            if rows and rows[0]["modality"] != TEXT:
                root, uri = self._roots[rows[0]["collection"]], rows[0]["uri"]
                about = rows[0]["modality"], root / on_disk(root, uri), root, rows[0]["key"], rows[0]["content_hash"]
                return _Medium(uri, *about)
        raise UserError(
            f"there is no medium {name!r}", "take a key from `modalign search`, or a path in its collection"
        )

    def _rows_about(self, modality: str) -> _Rows | None:
        """The stored rows about media of a modality, if there are any that can be compared with."""
        try:
            name = collection_asked(self._workspace, self._collection)
        except UserError:
            return None
        state = (
            f"{name} {self._workspace.store.state([schemas.ANSWERS, schemas.ITEMS])} {saved_at(self._workspace, name)}"
        )
        before, rows = self._rows.get(modality, ("", None))
        if before != state:
            try:
                rows = _Rows.of(self._workspace, load_answered(self._workspace, name, modality))
            except UserError:
                rows = None
            self._rows[modality] = state, rows
        return rows

    def _by_rows(self, question: str, medium: _Medium, rows: _Rows, k: int) -> Answered:
        asked = self._mapped(question, medium, rows)
        about = rows.about.table
        told = rows.model.tell(rows.stored, asked, len(about.types) + 1, len(about.answers))
        given = [(about.answers[one], float(share)) for one, share in zip(told.answers[0], told.shares[0], strict=True)]
        confidence = None if told.confidence is None else float(told.confidence[0])
        sure = confidence is None or confidence >= rows.unsure
        return Answered(
            question,
            medium.name,
            question_type(question),
            "rows",
            given[0][0] if sure else None,
            confidence,
            tuple(Alternative(*one) for one in given if one[1] > 0),
            tuple(self._evidence(asked, rows, k, int(told.answers[0, 0]))),
            () if confidence is not None else (_UNMEASURED,),
        )

    def _mapped(self, question: str, medium: _Medium, rows: _Rows) -> Asked:
        """The question and the medium as one row to compare; a type that no row has is numbered behind the others."""
        table = rows.about.table
        kind = question_type(question)
        texts = {ref.encoder: ref for ref in rows.about.encoders if ref.modality == TEXT}
        media = {ref.encoder: ref for ref in rows.about.encoders if ref.modality == medium.modality}
        words = self._vectors(texts, TEXT, content_hash(question.encode()), lambda: question)
        seen = self._vectors(media, medium.modality, medium.content, lambda: self._decoded(medium))
        one = np.zeros(1, np.int64)
        number = table.types.index(kind) if kind in table.types else len(table.types)
        return Asked(
            rows.model.centres[0].apply(words), rows.model.centres[1].apply(seen), one, one, np.array([number])
        )

    def _vectors(
        self, encoders: dict[str, EncoderRef], modality: str, content: str | None, read: Any
    ) -> dict[str, Array]:
        """A content's vector (1, d) under each encoder: the stored one, or computed now."""
        out: dict[str, Array] = {}
        decoded = None
        for name, ref in encoders.items():
            if content is not None:
                vectors, found = self._workspace.store.vectors(ref.table, [content])
                if found[0]:
                    out[name] = vectors
                    continue
            decoded = read() if decoded is None else decoded
            out[name] = self._encoded(name, modality, decoded)
        return out

    def _encoded(self, name: str, modality: str, content: Any) -> Array:
        from tasks.encoders.protocol import EncoderError
        from tasks.encoders.registry import load, resolve

        try:
            encoder = load(resolve(name, modality), device=self._device, models_dir=self._workspace.models)
        except EncoderError as error:
            raise UserError(error.message, error.mend) from None
        inputs = [encoder.transform(content)]
        with ENCODING:
            encoded = encoder.encode(inputs)
        for _, failure in encoded.failures:
            raise UserError(f"the {modality} cannot be encoded ({failure})", "give another one")
        return encoded.vectors

    def _decoded(self, medium: _Medium) -> Any:
        return read_medium(_place(medium), medium.modality, medium.name)[1]

    def _evidence(self, asked: Asked, rows: _Rows, k: int, answer: int | None) -> list[Evidence]:
        """The k rows nearest to the question, those first that give the answer."""
        table, stored = rows.about.table, rows.stored
        known = np.isin(np.arange(len(table.types) + 1), table.type)
        total = scores(stored, asked, rows.model.chosen.vote, known)
        if answer is not None:
            total = total + np.where(stored.answer == answer, np.float32(2e3), np.float32(0))[None]
        found, _ = nearest(total, k)
        store = self._workspace.store
        items = [rows.about.items[row] for row in found[0].tolist()]
        paths = store.read(schemas.ITEMS, ["key", "uri"], isin("key", sorted(set(items)))).to_pylist()
        uris = {row["key"]: row["uri"] for row in paths}
        words = asked.questions @ stored.questions[stored.question[found[0]]].T
        seen = asked.media @ stored.media[stored.medium[found[0]]].T
        root = self._roots[rows.about.collection]
        return [
            Evidence(
                rows.about.keys[row],
                item,
                str(root / uris[item]),
                rows.about.questions[row],
                rows.about.answers[row],
                float(words[0, place]),
                float(seen[0, place]),
            )
            for place, (row, item) in enumerate(zip(found[0].tolist(), items, strict=True))
        ]

    def _by_candidates(self, question: str, medium: _Medium, given: tuple[str, ...], k: int) -> Answered:
        """Each candidate with the question as a text, compared with the medium in the joint space."""
        from tasks.search import Query

        kind = question_type(question)
        captions: list[Evidence] = []
        candidates = given or likely(question, kind, ())
        if not candidates:
            captions = self._captions(medium, _CAPTIONS)
            candidates = likely(question, kind, [one.answer for one in captions])
        if not candidates:
            raise UserError(
                "there is nothing to choose an answer from: no answered questions, no captions",
                'give answers, for instance --answers "yes,no"',
            )
        seen, _ = self._searcher.embed(self._query(medium))
        usual = self._searcher.space.banks[medium.modality]
        if kind == "yes/no" and not given:
            chance = holds(self._searcher.embed(Query(text=question))[0], seen, usual)
            shares = np.array([chance, 1 - chance], np.float32)
        else:
            words = np.stack([self._searcher.embed(Query(text=statement(question, one)))[0] for one in candidates])
            shares = plausible(words, seen, usual)
        order = np.argsort(-shares, kind="stable")
        return Answered(
            question,
            medium.name,
            kind,
            "captions" if captions else "candidates",
            candidates[order[0]],
            None,
            tuple(Alternative(candidates[one], float(shares[one])) for one in order.tolist()),
            tuple(captions[:k]),
            ("nobody has asked about such media: a comparison in the joint space, of unknown worth",)
            if not given
            else (),
        )

    def _query(self, medium: _Medium) -> Any:
        """The medium as a query: an item of the space by its key, anything else by its file."""
        from tasks.search import Query

        if medium.key is not None:
            try:
                self._searcher.item(medium.key)
            except UserError:
                return Query(file=_place(medium))
            return Query(item=medium.key)
        return Query(file=medium.path)

    def _captions(self, medium: _Medium, count: int) -> list[Evidence]:
        """The texts nearest to the medium, of the space."""
        found = self._searcher.search(self._query(medium), target=TEXT, k=count)
        return [Evidence(hit.key, hit.key, "", "", hit.text, None, hit.similarity or 0.0) for hit in found.hits]

    def _read(
        self, question: str, medium: _Medium, given: tuple[str, ...], rows: _Rows | None, k: int, name: str
    ) -> Answered:
        """What a local model writes, given captions of similar items and stored answers to similar questions."""
        from tasks.captioning.generator import Reader, ReaderError, folder_of

        evidence = [] if rows is None else self._evidence(self._mapped(question, medium, rows), rows, k, None)
        try:
            captions = self._captions(medium, k)
        except UserError:
            if rows is None:
                raise
            captions = []  # no space is published, or none of texts and such media
        try:
            if name not in self._readers:
                self._readers[name] = Reader(folder_of(name), device=self._device)
            reader = self._readers[name]
            pixels: npt.NDArray[np.uint8] | None = None
            if reader.sees and medium.modality == "image":
                pixels = self._decoded(medium)
            told = reader.write(prompt(question, captions, evidence, given), pixels)
        except ReaderError as error:
            raise UserError(error.message, error.mend) from None
        answer = told.strip() or None
        if answer is not None and given:
            answer = next((one for one in given if canonical(one) in canonical(answer)), None)
        return Answered(
            question,
            medium.name,
            question_type(question),
            "reader",
            answer,
            None,
            () if answer is None else (Alternative(answer, 1.0),),
            (*evidence, *captions),
            (f"written by {name}",),
        )


def _place(medium: _Medium) -> Path:
    """The file of a medium; that of an item lies inside its collection."""
    if medium.root is None:
        return medium.path
    try:
        return locate(medium.root, str(medium.path.relative_to(medium.root)))
    except MediaError as error:
        raise UserError(f"{medium.name}: {error.message}", "look for the file") from None


@dataclass(frozen=True)
class _Rows:
    """The rows about one modality, mapped, and the model that answers by them."""

    about: AnsweredRows
    model: Model
    stored: Stored
    unsure: float

    @classmethod
    def of(cls, workspace: Workspace, about: AnsweredRows) -> _Rows:
        """With the kept model, or by a vote with usual values where nothing was measured."""
        kept = load_model(workspace, about)
        model, unsure = kept or (fit(about.table, np.arange(len(about.table)), Chosen()), 0.0)
        return cls(about, model, about.table.mapped(model.centres), unsure)


def prompt(question: str, captions: Sequence[Evidence], rows: Sequence[Evidence], candidates: Sequence[str]) -> str:
    """What a reader is asked, the question last.

    >>> print(prompt("what is it?", [], [], ["cat", "dog"]))
    One of: cat, dog
    Question: what is it?
    Answer in a few words:
    """
    lines = ["Captions of similar items:", *(f"- {one.answer}" for one in captions)] if captions else []
    if rows:
        lines += ["Answers about similar items:", *(f"- {one.question} {one.answer}" for one in rows)]
    if candidates:
        lines.append(f"One of: {', '.join(candidates)}")
    return "\n".join([*lines, f"Question: {question}", "Answer in a few words:"])
