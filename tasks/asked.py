"""What is searched with: a text, a file, an item, a vector, or a text beside a medium; and its joint vector."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from storage.workspace import Workspace
from tasks.alignment.space import JointSpace
from tasks.media.registry import Limits, MediaError, get, modality_of
from tasks.media.text import cjk_runs, clean_text
from tasks.retrieval.similarity import normalise

if TYPE_CHECKING:
    from tasks.encoders.protocol import Encoder

Array = npt.NDArray[np.float32]
Mode = Literal["auto", "vector", "text", "hybrid"]

_CHARS = 2_000
ENCODING = threading.Lock()  # encoders are this process's, and encode for one thread at a time


@dataclass(frozen=True, eq=False)
class Query:
    """What is searched with: one of text, file, item, vector; or a text beside one of the others, the medium.

    Of both, the joint vectors are summed by weight and normalised; at a weight of 0 or 1 the other one alone counts.
    """

    text: str | None = None
    file: Path | None = None
    """A media file on disk."""
    item: str | None = None
    """Key of an item of the space."""
    vector: Array | None = None
    """(dim,) float32 in the joint space."""
    modality: str | None = None
    """Of the vector; without it there is no hubness correction."""
    text_weight: float = 0.5
    """Of the text beside a medium, 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is no query: raises `UserError`."""
        media = [one for one in (self.file, self.item, self.vector) if one is not None]
        if len(media) > 1 or (self.text is None and not media):
            raise UserError(
                "a query is a text, a file, an item or a vector, or a text beside one of the others",
                "give one of them, or a text and one other",
            )
        if not 0 <= self.text_weight <= 1:
            raise UserError(f"the weight of the text is {self.text_weight}", "give one from 0 to 1")


class Part(NamedTuple):
    """A part of a query's vector: a content to encode, or a vector (dim,) of unit length; `modality` "" is unknown."""

    modality: str
    weight: float
    content: Any = None
    vector: Array | None = None


@dataclass(frozen=True, eq=False)
class Asked:
    """A query that was checked: how it is told, its words if full text takes part, what its vector is made of.

    No parts mean full text alone. `item` is the item searched with, which is no hit.
    """

    told: str
    modality: str
    words: str | None
    words_weight: float
    parts: tuple[Part, ...]
    item: str | None = None
    notes: tuple[str, ...] = ()


class Embedder:
    """Turns queries into joint vectors. An encoder is loaded at the first query that needs it."""

    def __init__(
        self, workspace: Workspace, space: JointSpace, languages: Sequence[Sequence[str]], device: str
    ) -> None:
        self._workspace, self._space, self._device = workspace, space, device
        self._languages = languages

    def ask(self, query: Query, mode: Mode, look_up: Callable[[str], tuple[str, Array]]) -> Asked:
        """Check a query; `look_up` gives an item's modality and vector. Raises `UserError` for what cannot be asked."""
        words = None if query.text is None else _clean(query.text)
        medium = None if query.text is not None and query.text_weight == 1 else self._medium(query, look_up)
        if medium is not None and query.text_weight == 0:
            words = None
        if words is None and mode in ("text", "hybrid"):
            raise UserError(f"mode {mode} needs words", "give a text, or use mode auto")
        weight = 1.0 if medium is None else query.text_weight
        notes: tuple[str, ...] = ()
        parts = [] if medium is None or mode == "text" else [medium._replace(weight=1 - weight if words else 1.0)]
        if words is not None and mode != "text":
            why = self._deaf(words)
            if why and mode != "auto" and "text" not in self._space.heads:
                raise UserError(why, "use mode text")
            if why and mode == "auto":
                notes = (f"{why}: full text alone" if not parts else f"{why}: the words count in full text alone",)
            else:
                parts.append(Part("text", weight, words))
        told = [one for one in (words, medium and _name(query)) if one]
        return Asked(
            told=" + ".join(told),
            modality="text" if medium is None else medium.modality,
            words=None if mode == "vector" else words,
            words_weight=weight,
            parts=tuple(parts),
            item=None if medium is None else query.item,
            notes=notes,
        )

    def embed(self, asked: Sequence[Asked]) -> list[Array | None]:
        """The joint vector of each, None for full text alone; each encoder is called once for all."""
        contents: dict[str, list[Any]] = defaultdict(list)
        for one in asked:
            for part in one.parts:
                if part.vector is None:
                    contents[part.modality].append(part.content)
        encoded = {modality: iter(self._encode(modality, some)) for modality, some in contents.items()}
        return [self._joined(one.parts, encoded) for one in asked]

    def _joined(self, parts: Sequence[Part], encoded: Mapping[str, Iterator[Array]]) -> Array | None:
        vectors = [next(encoded[one.modality]) if one.vector is None else one.vector for one in parts]
        if len(vectors) < 2:
            return vectors[0] if vectors else None
        weights = [one.weight for one in parts]
        return normalise(np.average(vectors, axis=0, weights=weights))

    def _encode(self, modality: str, contents: Sequence[Any]) -> Array:
        vectors = self.raw(modality, contents)
        rows = [{name: one[row : row + 1] for name, one in vectors.items()} for row in range(len(contents))]
        return np.concatenate([self._space.project(modality, one) for one in rows])  # no vector depends on its company

    def raw(self, modality: str, contents: Sequence[Any], through: Mapping[str, str] | None = None) -> dict[str, Array]:
        """Embeddings {encoder: (n, d)} of decoded contents, by the encoders of the space's head of `modality`.

        `through` names the encoder that reads the contents in place of each. Raises `UserError` for broken ones.
        """
        vectors = {}
        for name, encoder in self._encoders(modality, through or {}).items():
            inputs = [encoder.transform(content) for content in contents]
            with ENCODING:
                encoded = encoder.encode(inputs)
            for _, error in encoded.failures:
                raise UserError(f"the query cannot be read ({error.message})", "give another file")
            vectors[name] = encoded.vectors
        return vectors

    def _encoders(self, modality: str, through: Mapping[str, str]) -> dict[str, Encoder]:
        from tasks.encoders.protocol import EncoderError
        from tasks.encoders.registry import load, resolve

        try:
            return {
                name: load(
                    resolve(through.get(name, name), None if through else modality),
                    device=self._device,
                    models_dir=self._workspace.models,
                )
                for name in self._space.heads[modality].encoders
            }
        except EncoderError as error:
            raise UserError(error.message, error.mend) from None

    def _medium(self, query: Query, look_up: Callable[[str], tuple[str, Array]]) -> Part | None:
        if query.file is not None:
            return self._file(query.file)
        if query.item is not None:
            modality, vector = look_up(query.item)
            return Part(modality, 1.0, vector=vector)
        return None if query.vector is None else self._vector(query.vector, query.modality)

    def _file(self, path: Path) -> Part:
        modality = modality_of(path.name)
        if modality is None or modality not in self._space.heads:
            known = ", ".join(self._space.heads)
            raise UserError(f"{path} is no medium of this space ({known})", "give a file of one of these modalities")
        return Part(modality, 1.0, read_medium(path, modality)[1])

    def _vector(self, given: Array, modality: str | None) -> Part:
        vector = np.asarray(given, np.float32)
        length = float(np.linalg.norm(vector)) if vector.shape == (self._space.dim,) else 0.0
        if not np.isfinite(length) or length == 0:
            raise UserError(
                f"the vector of shape {vector.shape} is no direction of this space",
                f"give {self._space.dim} finite numbers, not all of them 0",
            )
        if modality is not None and modality not in self._space.heads:
            raise UserError(f"the space holds no {modality!r}", f"say one of {', '.join(self._space.heads)}, or none")
        return Part(modality or "", 1.0, vector=normalise(vector))

    def _deaf(self, words: str) -> str:
        """Why no encoder reads these words, "" if one does; an encoder that states no languages is trusted."""
        if "text" not in self._space.heads:
            return "the space has no text encoder"
        asian = {"zh", "ja", "ko"}
        if any(not spoken or asian & set(spoken) for spoken in self._languages) or not cjk_runs(words):
            return ""
        return "the text encoder does not read this script"


def _clean(text: str) -> str:
    try:
        return clean_text(text, max_chars=_CHARS).text
    except MediaError as error:
        raise UserError(f"the query is empty ({error.message})", "type some words") from None


def _name(query: Query) -> str:
    return str(query.file or query.item or "vector")


def read_medium(path: Path, modality: str, told: str | None = None) -> tuple[bytes, Any]:
    """The bytes of a media file, and its decoded content. Raises `UserError`, which calls the file `told`."""
    name = told or str(path)
    try:
        data = path.read_bytes()
        return data, get(modality).decode(data, Limits())
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror})", "check the path") from None
    except MediaError as error:
        raise UserError(f"{name}: {error.message}", "give another file") from None
