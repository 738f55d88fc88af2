"""The query core: a text or a file → the nearest items of a modality. No Prefect; encoders load when needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from storage import schemas
from storage.ann import Index, nearest
from storage.errors import StorageError
from storage.filters import Filter, eq, isin
from storage.fulltext import full_text_search, reciprocal_rank_fusion
from storage.spaces import load_calibration, load_space, published
from storage.tables import matrix, named
from storage.workspace import Workspace
from tasks.alignment.space import JointSpace
from tasks.locate import Locator, Moment
from tasks.media.registry import Limits, MediaError, get, modality_of
from tasks.media.text import clean_text
from tasks.metrics.calibration import Calibration
from tasks.retrieval.similarity import normalise

if TYPE_CHECKING:
    from lancedb.table import Table

    from tasks.encoders.protocol import Encoder

Array = npt.NDArray[np.float32]
Mode = Literal["auto", "vector", "text", "hybrid"]

_FETCH = 5  # candidates fetched for each hit asked for, before the hubness correction re-ranks them
CANDIDATES = 50
"""Candidates fetched at least."""
_COLUMNS = ("key", "collection", "modality", "content_hash", "uri", "text", "attributes")


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. `score` ranks: corrected similarity, or fused ranks in hybrid; `similarity` is the plain cosine.

    `probability` that it is right, and the percentage of random pairs that score lower (`percentile`), both by the
    corrected similarity: None where the space was not assessed, for words alone, with a filter, and where parts are
    searched as well. `start` says where in an item that lasts its best part begins, in seconds, where parts are kept.
    """

    key: str
    modality: str
    collection: str
    uri: str
    text: str
    attributes: dict[str, Any]
    score: float
    similarity: float | None
    found_by: tuple[str, ...]
    path: str = ""
    probability: float | None = None
    percentile: float | None = None
    start: float | None = None


@dataclass(frozen=True)
class Answer:
    """The hits of a query, how it was asked, and what a person should know of it.

    `alike` is how many of the first answers score alike where the query is ambiguous, else 0.
    """

    space: str
    query: str
    target: str
    mode: str
    hits: list[Hit] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    alike: int = 0


class Searcher:
    """A published space, opened at one consistent version. Loads an encoder at the first query that needs it."""

    def __init__(self, workspace: Workspace, name: str | None = None, *, device: str = "auto") -> None:
        try:
            self.name, manifest = published(workspace.store, name)
        except StorageError as error:
            raise UserError(error.message, error.mend) from None
        self._workspace = workspace
        self._device = device
        self._manifest = manifest
        self._index = Index.model_validate(manifest["index"]["index"])
        folder = Path(manifest["space"]["path"])
        arrays, self._config = load_space(folder)
        self._calibrations = {name: Calibration.from_json(one) for name, one in load_calibration(folder).items()}
        self._space = JointSpace.load(arrays, self._config)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What can be searched with and for."""
        return tuple(self._space.heads)

    @cached_property
    def _table(self) -> Table:
        return self._workspace.store.open(self._manifest["index"]["table"], self._manifest["index"]["version"])

    @cached_property
    def _locator(self) -> Locator:
        return Locator(self._workspace.store, self._manifest["index"]["table"], self._manifest["index"]["version"])

    @cached_property
    def _roots(self) -> dict[str, str]:
        rows = self._workspace.store.read(schemas.COLLECTIONS, ["name", "root"]).to_pylist()
        return {row["name"]: row["root"] for row in rows}

    def by_text(
        self, text: str, *, target: str | None = None, k: int = 10, mode: Mode = "auto", where: Filter | None = None
    ) -> Answer:
        """Items of modality `target` (without it the first that is not text) for a text.

        `auto` is hybrid, or full text alone where no text encoder reads the query's script.
        """
        try:
            query = clean_text(text, max_chars=2_000).text
        except MediaError as error:
            raise UserError(f"the query is empty ({error.message})", "type some words") from None
        target = self._target(target, "text", k)
        notes: tuple[str, ...] = ()
        if mode == "auto":
            mode = "hybrid"
            if "text" not in self.modalities:
                mode, notes = "text", ("the space has no text encoder: full text alone",)
            elif not self._reads(query):
                mode, notes = "text", ("the text encoder does not read this script: full text alone",)
        vector = None if mode == "text" else self._encode("text", [query])[0]
        words = None if mode == "vector" else query
        return self._answer(query, vector, words, "text", target, k, where, notes)

    def by_file(self, path: Path, *, target: str | None = None, k: int = 10, where: Filter | None = None) -> Answer:
        """Items of modality `target` (without it the first that is not the file's own) for a media file."""
        modality = modality_of(path.name)
        target = self._target(target, modality, k)
        if modality not in self.modalities:
            known = ", ".join(self.modalities)
            raise UserError(f"{path} is no medium of this space ({known})", "give a file of one of these modalities")
        try:
            content = get(modality).decode(path.read_bytes(), Limits())
            vector = self._encode(modality, [content])[0]
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})", "check the path") from None
        except MediaError as error:
            raise UserError(f"{path}: {error.message}", "give another file") from None
        return self._answer(str(path), vector, None, modality, target, k, where, ())

    def _answer(
        self,
        query: str,
        vector: Array | None,
        words: str | None,
        query_modality: str,
        target: str,
        k: int,
        where: Filter | None,
        notes: tuple[str, ...],
    ) -> Answer:
        gallery = eq("modality", target) if where is None else eq("modality", target) & where
        fetch = max(k * _FETCH, CANDIDATES)
        scored: dict[str, tuple[float, float]] = {}
        by_words: list[str] = []
        by_part: dict[str, Moment] = {}
        lasting = vector is not None and self._locator.has(target)
        if vector is not None:
            scored = self._by_vector(vector, query_modality, gallery, fetch)
        if vector is not None and lasting:  # an item is as near as the nearest of its parts and the whole
            found_parts = self._locator.items(vector, query_modality, target, k, where)
            by_part = {key: one for key, one in found_parts.items() if key not in scored or one.score > scored[key][0]}
            scored |= {key: (one.score, one.cosine) for key, one in by_part.items()}
        if words is not None:
            by_words = full_text_search(self._table, words, fetch, where=gallery)["key"].to_pylist()
        by_vector = sorted(scored, key=lambda key: (-scored[key][0], key))
        if vector is not None and words is not None:
            ranked = reciprocal_rank_fusion([by_vector, by_words], [1.0, 1.0])
            mode = "hybrid"
        elif words is not None:
            ranked = reciprocal_rank_fusion([by_words], [1.0])
            mode = "text"
        else:
            ranked = {key: scored[key][0] for key in by_vector}
            mode = "vector"
        top = list(ranked)[:k]
        found = {"vector": scored.keys() - by_part.keys(), "part": by_part.keys(), "text": set(by_words)}
        meant: dict[str, dict[str, Any]] = {}
        alike = 0
        # what a score means is known of searches in all items of a modality, by their whole
        if vector is not None and scored and where is None and not lasting:
            scores = {key: scored[key][0] for key in by_vector}
            meant, alike = self._meaning(query_modality, target, vector, scores)
        if alike:
            by = " by meaning" if mode == "hybrid" else ""
            notes = (*notes, f"ambiguous: the first {alike} answers{by} score alike")
        rows = self._rows(top)
        contents = [row.pop("content_hash") for row in rows]
        moments: dict[str, Moment] = {}
        if vector is not None and lasting:
            moments = self._locator.moments(vector, query_modality, target, contents)
        hits = [
            Hit(
                start=moments[content].start if content in moments else None,
                score=ranked[row["key"]],
                similarity=scored[row["key"]][1] if row["key"] in scored else None,
                found_by=tuple(name for name, keys in found.items() if row["key"] in keys),
                **meant.get(row["key"], {}),
                **row,
            )
            for row, content in zip(rows, contents, strict=True)
        ]
        return Answer(self.name, query, target, mode, hits, notes, alike)

    def _meaning(
        self, query_modality: str, target: str, vector: Array, scores: dict[str, float]
    ) -> tuple[dict[str, dict[str, Any]], int]:
        """Probability and percentile of each score, best first, and how many of the first answers are alike, or 0."""
        calibration = self._calibrations.get(f"{query_modality}_to_{target}")
        if calibration is None:
            return {}, 0
        own = float(self._space.hubness(vector[None], target)[0])
        values = np.array(list(scores.values())) - own  # CSLS
        told = zip(
            calibration.probability(values[None])[0].tolist(), calibration.percentile(values).tolist(), strict=True
        )
        meant = {key: {"probability": p, "percentile": at} for key, (p, at) in zip(scores, told, strict=True)}
        return meant, calibration.alike(values)

    def _by_vector(
        self, vector: Array, query_modality: str, where: Filter, fetch: int
    ) -> dict[str, tuple[float, float]]:
        """Corrected score and cosine of the nearest items: over-fetched, then 2·cos − r(item)."""
        term = f"hubness_{query_modality}"
        (found,) = nearest(self._table, vector[None], fetch, self._index, where=where, columns=["key", "vector", term])
        if not found.num_rows:
            return {}
        cosines = matrix(found["vector"].combine_chunks()) @ vector
        scores = 2 * cosines - found[term].to_numpy()
        return {
            key: (float(score), float(cosine))
            for key, score, cosine in zip(found["key"].to_pylist(), scores, cosines, strict=True)
        }

    def _rows(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """What a hit shows of its items, in the order of `keys`."""
        if not keys:
            return []
        with named(self._manifest["index"]["table"]):
            found = self._table.search().where(isin("key", keys).sql).select(list(_COLUMNS)).limit(len(keys)).to_arrow()
        rows: dict[str, dict[str, Any]] = {}
        for row in found.to_pylist():
            root = self._roots.get(row["collection"], "")
            rows[row["key"]] = {
                "key": row["key"],
                "modality": row["modality"],
                "collection": row["collection"],
                "content_hash": row["content_hash"],
                "uri": row["uri"],
                "text": row["text"],
                "attributes": json.loads(row["attributes"]),
                "path": str(Path(root) / row["uri"]) if row["uri"] else "",
            }
        return [rows[key] for key in keys if key in rows]

    def _encode(self, modality: str, contents: Sequence[Any]) -> Array:
        vectors = {}
        for name, encoder in self._encoders(modality).items():
            encoded = encoder.encode([encoder.transform(content) for content in contents])
            for _, error in encoded.failures:
                raise error
            vectors[name] = encoded.vectors
        return normalise(self._space.project(modality, vectors))

    def _encoders(self, modality: str) -> dict[str, Encoder]:
        from tasks.encoders.protocol import EncoderError
        from tasks.encoders.registry import load, resolve

        try:
            return {
                name: load(resolve(name, modality), device=self._device, models_dir=self._workspace.models)
                for name in self._space.heads[modality].encoders
            }
        except EncoderError as error:
            raise UserError(error.message, error.mend) from None

    def _reads(self, query: str) -> bool:
        """Whether a text encoder reads the script of the query; one that states no languages is trusted."""
        from tasks.media.text import cjk_runs

        spoken = [one["languages"] for one in self._config["encoders"].get("text", [])]
        if any(not languages or {"zh", "ja", "ko"} & set(languages) for languages in spoken):
            return True
        return not cjk_runs(query)

    def _target(self, wanted: str | None, query: str | None, k: int) -> str:
        """The modality to search, and a check of what was asked."""
        if not 1 <= k <= 1_000:
            raise UserError(f"k is {k}", "ask for 1 to 1000 hits")
        if wanted is None:
            return next(name for name in self.modalities if name != query)
        if wanted not in self.modalities:
            raise UserError(f"space {self.name} holds no {wanted!r}", f"search for one of {', '.join(self.modalities)}")
        return wanted
