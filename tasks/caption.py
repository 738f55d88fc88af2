"""Captions from retrieved ones: those of the items most like a medium, and those nearest to it in the joint space.

No Prefect. `captioned.py` says whose captions count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from storage.workspace import Workspace
from tasks.asked import read_medium
from tasks.captioned import TEXT, TRAIN, Captioned, CaptionedItems
from tasks.captioning.consensus import Rule, agreement, totals, voices
from tasks.captioning.generator import ReaderError, evidence_prompt, folder_of
from tasks.hits import Item
from tasks.media.registry import MediaError, modality_of
from tasks.retrieval.knn import top_k
from tasks.search import Searcher
from tasks.sources.item import content_hash, digest
from tasks.why import partners

if TYPE_CHECKING:
    from tasks.captioning.generator import Reader

Array = npt.NDArray[np.float32]

_TOGETHER = 64  # media of a batch that are captioned at once


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

    `score`, 0 to 1, is the agreement of the candidates with the text. `origin` is the modality that they are taken
    from. `generator` names the model that wrote the text, None where
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


class Captioner(Searcher):
    """A published space, opened for captions as well as for searches. Encoders and training items are loaded once."""

    def __init__(
        self, workspace: Workspace, name: str | None = None, *, device: str = "auto", rule: Rule | None = None
    ) -> None:
        super().__init__(workspace, name, device=device)
        self._rule = rule or Rule()
        self._captioned = CaptionedItems(self._store, self._manifest, self._space)

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
        return self._captioned.origin(modality).modality

    def _captions(self, media: Sequence[_Medium], k: int, generate: Reader | None) -> list[Caption]:
        pools = self._pools(media)
        texts = {
            key: text
            for key, text in self._captioned.texts(sorted({key for pool in pools for key in pool})).items()
            if text
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
        source = self._captioned.origin(medium.modality)
        gallery = self._captioned.of(source.modality)
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
        try:
            pixels = _picture(self._content(medium)) if reader.sees else None
            text = reader.write(evidence_prompt([one.text for one in made.evidence]), pixels)
        except MediaError as error:
            raise UserError(f"{medium.told}: {error.message}", "give another file") from None
        except ReaderError as error:
            raise UserError(error.message, error.mend) from None
        if not text:
            return replace(made, notes=(*made.notes, "the generator wrote nothing: the best of the evidence stands"))
        return replace(made, text=text, score=score(text), generator=reader.name)

    def _pools(self, media: Sequence[_Medium]) -> list[dict[str, str]]:
        """The candidates of each medium: the key of a text, and the key of the item that it is a caption of."""
        pools: list[dict[str, str]] = [{} for _ in media]
        for name in dict.fromkeys(self._captioned.origin(one.modality).modality for one in media):
            gallery = self._captioned.of(name)
            rows = [place for place, one in enumerate(media) if self._captioned.origin(one.modality).modality == name]
            scores = np.stack([gallery.features @ media[row].features for row in rows])  # whatever the company
            nearest = top_k(scores, min(self._rule.neighbours, scores.shape[1]))[0]
            for row, places in zip(rows, nearest, strict=True):
                pools[row] = {text: key for key in gallery.keys[places].tolist() for text in gallery.texts[key]}
        for pool, one in zip(pools, media, strict=True):
            pool.update(self._copies(one))
        if not self._rule.texts or TEXT not in self.modalities:
            return pools
        train = self._galleries.narrowed(TEXT, TRAIN)
        found = self._galleries.nearest(np.stack([one.joint for one in media]), TEXT, self._rule.texts, train)
        links = partners(self._store, sorted({key for one in found for key in one.keys}))
        owner = {
            key: min((other for other, modality in some.items() if modality != TEXT), default="")
            for key, some in links.items()
        }
        for pool, near in zip(pools, found, strict=True):
            for key in near.keys:
                if owner[key]:
                    pool.setdefault(key, owner[key])
        return pools

    def _copies(self, medium: _Medium) -> dict[str, str]:
        """The captions of known items that hold the very same content, whatever gallery is looked at."""
        if medium.modality not in self.modalities:
            return {}
        own = self._captioned.of(medium.modality)
        return {text: key for key in own.keys[own.contents == medium.content].tolist() for text in own.texts[key]}

    def _likeness(self, medium: _Medium, gallery: Captioned, items: Sequence[tuple[Item, str]]) -> list[float | None]:
        """Cosine of the medium to each item by the encoders alone, 1 to a copy; None where the gallery lacks it."""
        keys = [item.key for item, _ in items]
        places = np.minimum(np.searchsorted(gallery.keys, np.asarray(keys, gallery.keys.dtype)), len(gallery.keys) - 1)
        cosines = (gallery.features[places] @ medium.features).tolist()
        there = (gallery.keys[places] == np.asarray(keys)).tolist()
        return [
            1.0 if content == medium.content else value if known else None
            for (_, content), value, known in zip(items, cosines, there, strict=True)
        ]

    def _files(self, paths: Sequence[Path]) -> list[_Medium]:
        out: list[_Medium] = []
        for path in paths:
            modality = modality_of(path.name)
            if modality is None:
                raise UserError(f"{path} is no medium", f"give a file of {', '.join(self.modalities)}")
            source = self._captioned.origin(modality)
            data, content = read_medium(path, modality)
            vectors = self._embedder.raw(source.modality, [content], source.through)
            joint = self._space.project(source.modality, vectors)[0]
            features = self._captioned.features(source.modality, vectors)[0]
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
            source = self._captioned.origin(modality)
            contents = [row["content_hash"] for row in some]
            vectors, found = self._captioned.vectors(modality, source, contents)
            for place, row in enumerate(some):
                key = row["key"]
                if not found[place]:  # its frames are not encoded by themselves
                    (one,) = self._files([self.media_path(key)])
                    out[key] = replace(one, told=key)
                    continue
                own = {
                    name: one[place : place + 1] for name, one in vectors.items()
                }  # no vector depends on its company
                (features,) = self._captioned.features(source.modality, own)
                joint = np.asarray(row["vector"], np.float32)
                if source.through:
                    (joint,) = self._space.project(source.modality, own)
                path = None  # looked up only if a generator wants to see it
                out[key] = _Medium(key, modality, contents[place], features, joint, path)
        return [out[key] for key in keys]

    def _content(self, medium: _Medium) -> Any:
        """What is captioned, decoded, for a generator that sees."""
        path = medium.path or self.media_path(medium.told)
        return read_medium(path, medium.modality)[1]


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


def _picture(content: Any) -> npt.NDArray[np.uint8] | None:
    """What a generator can look at: a picture, or the frame in the middle of a clip; None of a sound."""
    if isinstance(content, np.ndarray):
        return content
    if hasattr(content, "frames"):
        return next(iter(content.frames([content.seconds / 2])), None)
    return None
