"""The captioned training items of a space, by modality: what captions are made from. No Prefect.

Only texts of known pairs count, never what was generated. A modality with at least `OWN` captioned training items takes
its captions from them. One with fewer, or none, takes them from pictures, where the space's encoders of pictures can
read its files as frames, as they can clips; else from the few of its own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from storage import schemas
from storage.filters import eq, isin
from storage.tables import Store
from tasks.alignment.space import JointSpace
from tasks.captioning.cider import Idf
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Names = npt.NDArray[np.str_]

OWN = 100
"""Captioned training items from which on a modality needs no others."""
HELD = 256 * 2**20
"""Bytes of embeddings that are held for a modality; of more captioned items so many are taken, by key."""
TEXT = "text"
TRAIN = eq("split", "train")
_SETS = 10_000  # items whose captions tell what is worth saying
_KEYS = 2_000  # looked up at once


@dataclass(frozen=True, eq=False)
class Captioned:
    """Captioned training items of a modality: keys and contents (n,), features (n, w), the keys of each one's texts."""

    keys: Names
    contents: Names
    features: Array
    texts: Mapping[str, list[str]]
    idf: Idf


@dataclass(frozen=True, eq=False)
class Origin:
    """Where captions of a modality come from: those of `modality`, and which encoder reads for each of its encoders."""

    modality: str
    through: Mapping[str, str]


class CaptionedItems:
    """The captioned training items of one version of a space's table. Those of a modality are loaded when asked for."""

    def __init__(self, store: Store, manifest: Mapping[str, Any], space: JointSpace) -> None:
        self._store, self._space = store, space
        self._table, self._version = manifest["index"]["table"], manifest["index"]["version"]
        self._encoded: list[dict[str, str]] = manifest["encoded"]
        self._held: dict[str, Captioned] = {}
        self._origins: dict[str, Origin] = {}

    def of(self, modality: str) -> Captioned:
        """Those of a modality; none where the space does not hold it."""
        if modality not in self._held:
            self._held[modality] = self._load(modality)
        return self._held[modality]

    def origin(self, modality: str) -> Origin:
        """Where the captions of a modality come from. Raises `UserError` where there are none."""
        if modality not in self._origins:
            self._origins[modality] = self._origin(modality)
        return self._origins[modality]

    def _origin(self, modality: str) -> Origin:
        why = "texts are captions themselves"
        if modality != TEXT:
            own = len(self.of(modality).keys)
            stills = self._stills(modality) if own < OWN else None
            if stills is not None and len(self.of(stills.modality).keys) > own:
                return stills
            if own:
                return Origin(modality, {})
            why = f"no {modality} in the space has a caption"
        raise UserError(f"nothing is known that could caption it: {why}", "give a medium whose like has captions")

    def _stills(self, modality: str) -> Origin | None:
        """The modality whose encoders can read the frames of this one, if the space has such."""
        from tasks.encoders.protocol import EncoderError
        from tasks.encoders.registry import resolve

        for name, head in self._space.heads.items():
            through = {encoder: f"frames:{encoder}" for encoder in head.encoders}
            try:
                if head.tokens is None and all(resolve(one).modality == modality for one in through.values()):
                    return Origin(name, through)
            except EncoderError:
                continue
        return None

    def vectors(
        self, modality: str, origin: Origin, contents: Sequence[str]
    ) -> tuple[dict[str, Array], npt.NDArray[np.bool_]]:
        """Stored embeddings {encoder: (n, d)} as those of the origin are, and (n,) bool: all were found."""
        tables = self._tables(modality, inside=bool(origin.through))
        head = self._space.heads[origin.modality]
        names = list(head.encoders if origin.through else head.features.maps)
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
        for one in self._encoded:
            if one["modality"] == modality:
                inner = resolve(one["encoder"]).inner if inside else None
                out[inner.name if inner else one["encoder"]] = one["table"]
        return out

    def features(self, modality: str, vectors: Mapping[str, Array]) -> Array:
        """Embeddings {encoder: (n, d)} of one modality as one, (n, w) of unit length: joined as before alignment."""
        return normalise(self._space.heads[modality].features.apply(vectors))

    def _load(self, modality: str) -> Captioned:
        if modality not in self._space.heads:
            nothing = np.zeros(0, np.str_)
            return Captioned(nothing, nothing, np.zeros((0, 0), np.float32), {}, Idf([]))
        where = eq("modality", modality) & TRAIN
        rows = self._store.stream(self._table, ["key", "content_hash"], where, version=self._version)
        found = {key: content for batch in rows for key, content in zip(*_lists(batch), strict=True)}
        width = self._space.heads[modality].features.rotation.shape[1]
        texts = self._told(modality, found.keys())
        keys = sorted(texts)[: HELD // (4 * width)]
        features = np.empty((len(keys), width), np.float32)
        there = np.zeros(len(keys), np.bool_)
        for start in range(0, len(keys), _KEYS):
            part = slice(start, start + _KEYS)
            vectors, there[part] = self.vectors(modality, Origin(modality, {}), [found[key] for key in keys[part]])
            if there[part].any():
                features[part] = self.features(modality, vectors)
        keys = [key for key, known in zip(keys, there, strict=True) if known]
        return Captioned(
            np.asarray(keys, np.str_),
            np.asarray([found[key] for key in keys], np.str_),
            features[there],
            {key: texts[key] for key in keys},
            self._idf([texts[key] for key in keys[:_SETS]]),
        )

    def _told(self, modality: str, keys: Container[str]) -> dict[str, list[str]]:
        """The keys of the texts that given pairs join each of these items with."""
        out: dict[str, list[str]] = {}
        for own, other in (("left", "right"), ("right", "left")):
            where = eq("source", "given") & eq(f"{own}_modality", modality) & eq(f"{other}_modality", TEXT)
            for batch in self._store.stream(schemas.PAIRS, [own, other], where):
                for key, text in zip(*_lists(batch), strict=True):
                    if key in keys:
                        out.setdefault(key, []).append(text)
        return out

    def _idf(self, sets: Sequence[Sequence[str]]) -> Idf:
        texts = self.texts(list(chain.from_iterable(sets)))
        return Idf([text for key in some if (text := texts.get(key))] for some in sets)

    def texts(self, keys: Sequence[str]) -> dict[str, str | None]:
        """The text of each of these items as it was given."""
        out: dict[str, str | None] = {}
        for start in range(0, len(keys), _KEYS):
            rows = self._store.read(schemas.ITEMS, ["key", "text"], isin("key", keys[start : start + _KEYS]))
            out |= zip(*(rows[name].to_pylist() for name in ("key", "text")), strict=True)
        return out


def _lists(batch: Any) -> list[list[Any]]:
    return [column.to_pylist() for column in batch.columns]
