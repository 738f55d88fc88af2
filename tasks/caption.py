"""Captions from retrieved ones: those of the items most like a medium, and those nearest to it in the joint space.

No Prefect. Candidates are texts of known pairs in the training split, never what was generated. A modality with at
least `OWN` captioned training items takes its captions from them. One with fewer, or none, takes them from pictures,
where the space's encoders of pictures can read its files as frames, as they can clips; else from the few of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from storage import schemas
from storage.filters import eq, isin
from storage.workspace import Workspace
from tasks.captioning.cider import Idf
from tasks.captioning.consensus import Rule, agreement, totals, voices
from tasks.captioning.generator import ReaderError, evidence_prompt, folder_of
from tasks.hits import Item
from tasks.media.registry import Limits, MediaError, get, modality_of
from tasks.retrieval.knn import top_k
from tasks.retrieval.similarity import normalise
from tasks.search import Searcher
from tasks.sources.item import content_hash, digest
from tasks.why import partners

if TYPE_CHECKING:
    from tasks.captioning.generator import Reader

Array = npt.NDArray[np.float32]

OWN = 100
"""Captioned training items from which on a modality needs no others."""
HELD = 256 * 2**20
"""Bytes of embeddings that are held for a modality; of more captioned items so many are taken, by key."""
_TEXT = "text"
_TOGETHER = 64  # media of a batch that are captioned at once
_SETS = 10_000  # items whose captions tell what is worth saying
_KEYS = 2_000  # looked up at once
_TRAIN = eq("split", "train")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A caption that was retrieved, and the training item that it is of.

    `score` ranks: the z-scores over all candidates of `consensus` (agreement with the others, 0 to 1) and of `cross`
    (cosine to the medium in the joint space). `similarity` is that of the item by the encoders alone, None where it is
    of another modality. `copy`: the item holds the very bytes of the medium.
    """

    text: str
    key: str
    item: Item
    score: float
    consensus: float
    cross: float
    similarity: float | None
    copy: bool = False


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption of a medium (`query`: its path or key), and what speaks for it, best first, each text once.

    `score`, 0 to 1, is the agreement of the candidates with the text. `origin` is where they come from: the modality,
    with the medium's own before it if that is another one. `generator` names the model that wrote the text, None where
    the text is the first of the evidence.
    """

    space: str
    space_id: str
    query: str
    modality: str
    text: str
    score: float
    origin: str
    evidence: tuple[Candidate, ...] = ()
    generator: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Medium:
    """What is captioned: how it is told, its content, features (w,) as its gallery has them, joint vector (dim,)."""

    told: str
    modality: str
    content: str
    features: Array
    joint: Array
    path: Path | None


@dataclass(frozen=True, eq=False)
class _Gallery:
    """Captioned training items of a modality: keys and contents (n,), features (n, w), the keys of each one's texts."""

    keys: npt.NDArray[np.str_]
    contents: npt.NDArray[np.str_]
    features: Array
    texts: Mapping[str, list[str]]
    idf: Idf


@dataclass(frozen=True, eq=False)
class _Source:
    """Where captions of a modality come from: a gallery by the head of `modality`, and which encoder reads for each."""

    modality: str
    through: Mapping[str, str]


class Captioner(Searcher):
    """A published space, opened for captions as well as for searches. Encoders and training items are loaded once."""

    def __init__(
        self, workspace: Workspace, name: str | None = None, *, device: str = "auto", rule: Rule | None = None
    ) -> None:
        super().__init__(workspace, name, device=device)
        self._rule = rule or Rule()
        self._held: dict[str, _Gallery] = {}

    def caption(
        self, *, file: Path | None = None, item: str | None = None, k: int = 5, generate: Reader | None = None
    ) -> Caption:
        """The caption of a media file or of an item of the space, with up to `k` candidates as evidence.

        With `generate` that model writes it from the evidence, and from the picture if it sees. Raises `UserError` for
        what cannot be read, and where nothing comparable has a caption.
        """
        if (file is None) == (item is None):
            raise UserError("a caption is of a file or of an item", "give one of them")
        files, items = ([] if file is None else [file]), ([] if item is None else [item])
        (made,) = self.caption_many(files=files, items=items, k=k, generate=generate)
        return made

    def caption_many(
        self,
        *,
        files: Sequence[Path] = (),
        items: Sequence[str] = (),
        k: int = 5,
        generate: Reader | None = None,
    ) -> Iterator[Caption]:
        """As `caption`, of each file and then of each item, in their order; memory is that of a batch."""
        for start in range(0, len(files), _TOGETHER):
            yield from self._captions(self._files(files[start : start + _TOGETHER]), k, generate)
        for start in range(0, len(items), _TOGETHER):
            yield from self._captions(self._stored(items[start : start + _TOGETHER]), k, generate)

    def origin(self, modality: str) -> str:
        """The modality whose captions a medium of `modality` gets. Raises `UserError` where there is none."""
        return self._source(modality).modality

    def _captions(self, media: Sequence[_Medium], k: int, generate: Reader | None) -> list[Caption]:
        pools = self._pools(media)
        texts = {
            key: text for key, text in self._texts(sorted({key for pool in pools for key in pool})).items() if text
        }
        rows = self._read(sorted(texts), ["key", "vector"])
        vectors = {row["key"]: np.asarray(row["vector"], np.float32) for row in rows}
        owners = sorted({owner for pool in pools for owner in pool.values()})
        known = self._items(owners)
        out = []
        for one, pool in zip(media, pools, strict=True):
            there = [key for key in pool if key in vectors and pool[key] in known]
            if not there:
                raise UserError(f"no caption is known of anything like {one.told}", "ingest items with captions")
            out.append(self._choose(one, {key: known[pool[key]] for key in there}, texts, vectors, k, generate))
        return out

    def _choose(
        self,
        medium: _Medium,
        owners: Mapping[str, tuple[Item, str]],
        texts: Mapping[str, str],
        vectors: Mapping[str, Array],
        k: int,
        generate: Reader | None,
    ) -> Caption:
        source = self._source(medium.modality)
        gallery = self._gallery(source.modality)
        keys = list(owners)
        cross = np.asarray(np.stack([vectors[key] for key in keys]) @ medium.joint, np.float32)
        likeness = self._likeness(medium, gallery, [owners[key] for key in keys])
        alike = cross + np.array([one or 0.0 for one in likeness], np.float32)
        weights = voices(alike, self._rule.sharpness)
        agreed = agreement(gallery.idf.captions([texts[key] for key in keys]), weights)
        total = totals(agreed, cross, self._rule.fit)
        ranked = sorted(range(len(keys)), key=lambda place: (-total[place], keys[place]))
        candidates = [
            Candidate(
                text=texts[keys[place]],
                key=keys[place],
                item=owners[keys[place]][0],
                score=float(total[place]),
                consensus=float(agreed[place]),
                cross=float(cross[place]),
                similarity=likeness[place],
                copy=owners[keys[place]][1] == medium.content,
            )
            for place in ranked
        ]
        seen: dict[str, Candidate] = {}
        for one in candidates:
            seen.setdefault(one.text, one)
        evidence = tuple(list(seen.values())[:k])
        notes = []
        if any(one.copy for one in candidates):
            notes.append("a known item holds the very same content: its own captions are among the evidence")
        if source.modality != medium.modality:
            notes.append(f"few of {medium.modality} have captions: these are of {source.modality}")
        made = Caption(
            space=self.name,
            space_id=self.space_id,
            query=medium.told,
            modality=medium.modality,
            text=evidence[0].text,
            score=evidence[0].consensus,
            origin=source.modality,
            evidence=evidence,
            notes=tuple(notes),
        )
        if generate is None:
            return made
        said = [texts[key] for key in keys]

        def score(text: str) -> float:
            return float(agreement(gallery.idf.captions([text, *said]), np.append(np.float32(0), weights))[0])

        return self._written(made, medium, score, generate)

    def _written(self, made: Caption, medium: _Medium, score: Callable[[str], float], reader: Reader) -> Caption:
        """The caption in the words of a reader, scored by the same candidates."""
        pixels = _picture(self._content(medium)) if reader.sees else None
        try:
            text = reader.write(evidence_prompt([one.text for one in made.evidence]), pixels)
        except ReaderError as error:
            raise UserError(error.message, error.mend) from None
        if not text:
            return replace(made, notes=(*made.notes, "the generator wrote nothing: the best of the evidence stands"))
        return replace(made, text=text, score=score(text), generator=reader.name)

    def _pools(self, media: Sequence[_Medium]) -> list[dict[str, str]]:
        """The candidates of each medium: the key of a text, and the key of the item that it is a caption of."""
        pools: list[dict[str, str]] = [{} for _ in media]
        for name in dict.fromkeys(self._source(one.modality).modality for one in media):
            gallery = self._gallery(name)
            rows = [place for place, one in enumerate(media) if self._source(one.modality).modality == name]
            scores = np.stack([media[row].features for row in rows]) @ gallery.features.T
            nearest = top_k(scores, min(self._rule.neighbours, scores.shape[1]))[0]
            for row, places in zip(rows, nearest, strict=True):
                pools[row] = {text: key for key in gallery.keys[places].tolist() for text in gallery.texts[key]}
        for pool, one in zip(pools, media, strict=True):
            pool.update(self._copies(one))
        if not self._rule.texts or _TEXT not in self.modalities:
            return pools
        train = self._galleries.narrowed(_TEXT, _TRAIN)
        found = self._galleries.nearest(np.stack([one.joint for one in media]), _TEXT, self._rule.texts, train)
        links = partners(self._store, sorted({key for one in found for key in one.keys}))
        owner = {
            key: min((other for other, modality in some.items() if modality != _TEXT), default="")
            for key, some in links.items()
        }
        for pool, one in zip(pools, found, strict=True):
            for key in one.keys:
                if owner[key]:
                    pool.setdefault(key, owner[key])
        return pools

    def _copies(self, medium: _Medium) -> dict[str, str]:
        """The captions of known items that hold the very same content, whatever gallery is looked at."""
        if medium.modality not in self.modalities:
            return {}
        own = self._gallery(medium.modality)
        return {text: key for key in own.keys[own.contents == medium.content].tolist() for text in own.texts[key]}

    def _likeness(self, medium: _Medium, gallery: _Gallery, items: Sequence[tuple[Item, str]]) -> list[float | None]:
        """Cosine of the medium to each item by the encoders alone, 1 to a copy; None where the gallery lacks it."""
        keys = [item.key for item, _ in items]
        places = np.minimum(np.searchsorted(gallery.keys, np.asarray(keys, gallery.keys.dtype)), len(gallery.keys) - 1)
        cosines = (gallery.features[places] @ medium.features).tolist()
        there = (gallery.keys[places] == np.asarray(keys)).tolist()
        return [
            1.0 if content == medium.content else value if known else None
            for (_, content), value, known in zip(items, cosines, there, strict=True)
        ]

    def _source(self, modality: str) -> _Source:
        """Where captions of a modality come from, by the rule at the head of this file."""
        own = len(self._gallery(modality).keys) if modality in self.modalities else 0
        stills = self._stills(modality) if own < OWN and modality != _TEXT else None
        if stills is not None and len(self._gallery(stills.modality).keys) > own:
            return stills
        if own and modality != _TEXT:
            return _Source(modality, {})
        what = "texts are captions themselves" if modality == _TEXT else f"no {modality} in the space has a caption"
        raise UserError(f"nothing is known that could caption it: {what}", "give a medium whose like has captions")

    def _stills(self, modality: str) -> _Source | None:
        """The modality whose encoders can read the frames of this one, if the space has such."""
        from tasks.encoders.protocol import EncoderError
        from tasks.encoders.registry import resolve

        for name, head in self._space.heads.items():
            through = {encoder: f"frames:{encoder}" for encoder in head.features.maps}
            try:
                if head.tokens is None and all(resolve(one).modality == modality for one in through.values()):
                    return _Source(name, through)
            except EncoderError:
                continue
        return None

    def _files(self, paths: Sequence[Path]) -> list[_Medium]:
        out: list[_Medium] = []
        for path in paths:
            modality = modality_of(path.name)
            if modality is None:
                raise UserError(f"{path} is no medium", f"give a file of {', '.join(self.modalities)}")
            source = self._source(modality)
            data, content = _read(path, modality)
            vectors = self._embedder.raw(source.modality, [content], source.through)
            joint = self._space.project(source.modality, vectors)[0]
            features = self._features(source.modality, vectors)[0]
            out.append(_Medium(str(path), modality, content_hash(data), features, joint, path))
        return out

    def _stored(self, keys: Sequence[str]) -> list[_Medium]:
        """Items of the space, by the vectors that are stored."""
        rows = {row["key"]: row for row in self._read(keys, ["key", "modality", "content_hash", "vector"])}
        if missing := [key for key in keys if key not in rows]:
            raise UserError(f"space {self.name} holds no item {missing[0]!r}", "take a key from the hits of a search")
        out: dict[str, _Medium] = {}
        for modality in dict.fromkeys(row["modality"] for row in rows.values()):
            some = [row for row in rows.values() if row["modality"] == modality]
            source = self._source(modality)
            contents = [row["content_hash"] for row in some]
            vectors, found = self._vectors(modality, source, contents)
            features = self._features(source.modality, vectors) if found.any() else np.zeros((0, 0), np.float32)
            joint = self._space.project(source.modality, vectors) if source.through and found.any() else None
            for place, row in enumerate(some):
                key = row["key"]
                if not found[place]:  # its frames are not encoded by themselves
                    (one,) = self._files([self.media_path(key)])
                    out[key] = replace(one, told=key)
                    continue
                own = np.asarray(row["vector"], np.float32) if joint is None else joint[place]
                path = None  # looked up only if a generator wants to see it
                out[key] = _Medium(key, modality, contents[place], features[place], own, path)
        return [out[key] for key in keys]

    def _vectors(
        self, modality: str, source: _Source, contents: Sequence[str]
    ) -> tuple[dict[str, Array], npt.NDArray[np.bool_]]:
        """Stored embeddings {encoder: (n, d)} as the source's gallery has them, and (n,) bool: all were found."""
        tables = self._tables(modality, inside=bool(source.through))
        names = list(self._space.heads[source.modality].features.maps)
        found = np.full(len(contents), set(names) <= tables.keys())
        vectors: dict[str, Array] = {}
        for name in names if found.any() else ():
            vectors[name], there = self._store.vectors(tables[name], list(contents))
            found &= there
        return vectors, found

    def _tables(self, modality: str, *, inside: bool) -> dict[str, str]:
        """The table of each encoder of a modality, or of the encoder `inside` it that reads the frames."""
        from tasks.encoders.registry import resolve

        out: dict[str, str] = {}
        for one in self._manifest["encoded"]:
            if one["modality"] == modality:
                inner = resolve(one["encoder"]).inner if inside else None
                out[inner.name if inner else one["encoder"]] = one["table"]
        return out

    def _features(self, modality: str, vectors: Mapping[str, Array]) -> Array:
        """Embeddings {encoder: (n, d)} of one modality as one, (n, w) of unit length: joined as before alignment."""
        return normalise(self._space.heads[modality].features.apply(vectors))

    def _gallery(self, modality: str) -> _Gallery:
        """The captioned training items of a modality of the space, loaded at first."""
        if modality not in self._held:
            self._held[modality] = self._load(modality)
        return self._held[modality]

    def _load(self, modality: str) -> _Gallery:
        where = eq("modality", modality) & _TRAIN
        rows = self._store.stream(self._table, ["key", "content_hash"], where, version=self._version)
        found = {key: content for batch in rows for key, content in zip(*_lists(batch), strict=True)}
        width = self._space.heads[modality].features.rotation.shape[1]
        texts = self._told(modality, found.keys())
        keys = sorted(texts)[: HELD // (4 * width)]
        features = np.empty((len(keys), width), np.float32)
        there = np.zeros(len(keys), np.bool_)
        for start in range(0, len(keys), _KEYS):
            part = slice(start, start + _KEYS)
            vectors, there[part] = self._vectors(modality, _Source(modality, {}), [found[key] for key in keys[part]])
            if there[part].any():
                features[part] = self._features(modality, vectors)
        keys = [key for key, known in zip(keys, there, strict=True) if known]
        return _Gallery(
            np.asarray(keys, np.str_),
            np.asarray([found[key] for key in keys], np.str_),
            features[there],
            {key: texts[key] for key in keys},
            self._idf([texts[key] for key in keys[:_SETS]]),
        )

    def _told(self, modality: str, keys: Any) -> dict[str, list[str]]:
        """The keys of the texts that given pairs join each of these items with."""
        out: dict[str, list[str]] = {}
        for own, other in (("left", "right"), ("right", "left")):
            where = eq("source", "given") & eq(f"{own}_modality", modality) & eq(f"{other}_modality", _TEXT)
            for batch in self._store.stream(schemas.PAIRS, [own, other], where):
                for key, text in zip(*_lists(batch), strict=True):
                    if key in keys:
                        out.setdefault(key, []).append(text)
        return out

    def _idf(self, sets: Sequence[Sequence[str]]) -> Idf:
        texts = self._texts(list(chain.from_iterable(sets)))
        return Idf([text for key in some if (text := texts.get(key))] for some in sets)

    def _texts(self, keys: Sequence[str]) -> dict[str, str | None]:
        """The text of each of these items as it was given."""
        out: dict[str, str | None] = {}
        for start in range(0, len(keys), _KEYS):
            rows = self._store.read(schemas.ITEMS, ["key", "text"], isin("key", keys[start : start + _KEYS]))
            out |= zip(*(rows[name].to_pylist() for name in ("key", "text")), strict=True)
        return out

    def _content(self, medium: _Medium) -> Any:
        """What is captioned, decoded, for a generator that sees."""
        path = medium.path or self.media_path(medium.told)
        return _read(path, medium.modality)[1]


def method_of(space_id: str, generator: str | None) -> str:
    """How a caption was made, in a line: the same method gives the same caption of the same item."""
    how = f"consensus {digest(repr(Rule()))[:8]} in {space_id}"
    return how if generator is None else f"{how}, written by {generator}"


def reader_of(name: str | None, *, device: str = "auto") -> Reader | None:
    """The reader of a generator's name, `local:FOLDER`, loaded; None for None. Raises `UserError`."""
    from tasks.captioning.generator import Reader

    try:
        return None if name is None else Reader(folder_of(name), device=device)
    except ReaderError as error:
        raise UserError(error.message, error.mend) from None


def _read(path: Path, modality: str) -> tuple[bytes, Any]:
    """The bytes of a media file, and its decoded content. Raises `UserError`."""
    try:
        data = path.read_bytes()
        return data, get(modality).decode(data, Limits())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "check the path") from None
    except MediaError as error:
        raise UserError(f"{path}: {error.message}", "give another file") from None


def _picture(content: Any) -> npt.NDArray[np.uint8] | None:
    """What a generator can look at: a picture, or the frame in the middle of a clip; None of a sound."""
    if isinstance(content, np.ndarray):
        return content
    if hasattr(content, "frames"):
        return next(iter(content.frames([content.seconds / 2])), None)
    return None


def _lists(batch: Any) -> list[list[Any]]:
    return [column.to_pylist() for column in batch.columns]
