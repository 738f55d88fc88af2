"""A joint space: one head a modality, and the frozen query banks behind its hubness terms. Pure numpy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tasks.alignment.features import Features
from tasks.alignment.maps import Map, inside, load_map
from tasks.alignment.naming import Classes
from tasks.alignment.tokens import Tokens, beside
from tasks.retrieval.hubness import hubness_terms
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
_BLOCK = 1_024  # items whose tokens or classes are looked at together


@dataclass(frozen=True)
class Head:
    """The way of one modality into the joint space: its features, with tokens or classes if it has any, then a map."""

    features: Features
    map: Map
    tokens: Tokens | None = None
    classes: Classes | None = None

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders it takes, in order."""
        return (*self.features.maps, *(self._more.maps if self._more else ()))

    @property
    def _more(self) -> Tokens | Classes | None:
        """What stands behind the features."""
        return self.tokens or self.classes

    def project(self, vectors: Mapping[str, Array]) -> Array:
        """Embeddings {encoder: (n, d)} → (n, dim), L2-normalised."""
        if self._more is None:
            return normalise(self.map.apply(self.features.apply(vectors)))
        count = len(next(iter(vectors.values())))
        parts = [slice(start, start + _BLOCK) for start in range(0, max(count, 1), _BLOCK)]
        return np.concatenate([self._some({name: one[part] for name, one in vectors.items()}) for part in parts])

    def _some(self, vectors: Mapping[str, Array]) -> Array:
        assert self._more is not None
        return normalise(self.map.apply(beside(self.features.apply(vectors), self._more.apply(vectors))))


@dataclass(frozen=True)
class JointSpace:
    """Heads and banks by modality. `facts` (JSON-able) says how it was fitted: method, chosen values, tried values."""

    heads: Mapping[str, Head]
    banks: Mapping[str, Array]
    hubness_k: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return next(iter(self.heads.values())).map.dim

    @property
    def bound(self) -> dict[str, str]:
        """The pivot of each modality that was bound to the space later."""
        return {name: about["pivot"] for name, about in self.facts.get("bound", {}).items()}

    def without(self, modalities: Collection[str]) -> Self:
        """The same space without these bound modalities."""
        left = {name: about for name, about in self.facts.get("bound", {}).items() if name not in modalities}
        heads = {name: one for name, one in self.heads.items() if name not in modalities}
        banks = {name: self.banks[name] for name in heads}
        return replace(self, heads=heads, banks=banks, facts={**self.facts, "bound": left})

    def project(self, modality: str, vectors: Mapping[str, Array]) -> Array:
        """Embeddings of one modality, {encoder: (n, d)}, → (n, dim) float32, L2-normalised."""
        return self.heads[modality].project(vectors)

    def hubness(self, gallery: Array, query_modality: str) -> Array:
        """r(g) of projected items (n, dim) towards queries of a modality: (n,)."""
        return hubness_terms(gallery, self.banks[query_modality], self.hubness_k)

    def arrays(self) -> dict[str, Array]:
        """All arrays by name, for safetensors."""
        out: dict[str, Array] = {}
        for modality, head in self.heads.items():
            out |= {f"{modality}.features.{name}": one for name, one in head.features.arrays().items()}
            out |= {f"{modality}.map.{name}": one for name, one in head.map.arrays().items()}
            if head.tokens is not None:
                out |= {f"{modality}.tokens.{name}": one for name, one in head.tokens.arrays().items()}
            if head.classes is not None:
                out |= {f"{modality}.classes.{name}": one for name, one in head.classes.arrays().items()}
            out[f"{modality}.bank"] = self.banks[modality]
        return {name: np.ascontiguousarray(one) for name, one in out.items()}

    def config(self) -> dict[str, Any]:
        """All that is no array, JSON-able."""
        heads = {
            name: {
                "encoders": list(head.features.maps),
                "cnn": {e: m.cnn for e, m in head.features.maps.items()},
                "map": head.map.kind,
            }
            | ({"tokens": {e: [m.cnn, m.count] for e, m in head.tokens.maps.items()}} if head.tokens else {})
            | ({"classes": list(head.classes.maps)} if head.classes else {})
            for name, head in self.heads.items()
        }
        return {"heads": heads, "hubness_k": self.hubness_k, "dim": self.dim, "facts": dict(self.facts)}

    @classmethod
    def load(cls, arrays: Mapping[str, Array], config: Mapping[str, Any]) -> Self:
        """The inverse of `arrays` and `config`."""
        heads: dict[str, Head] = {}
        banks: dict[str, Array] = {}
        for modality, about in config["heads"].items():
            features = Features.from_arrays(inside(arrays, f"{modality}.features."), about["encoders"], about["cnn"])
            found = load_map(about["map"], inside(arrays, f"{modality}.map."))
            tokens = None
            if "tokens" in about:
                tokens = Tokens.from_arrays(inside(arrays, f"{modality}.tokens."), about["tokens"])
            classes = None
            if "classes" in about:
                classes = Classes.from_arrays(inside(arrays, f"{modality}.classes."), about["classes"])
            heads[modality] = Head(features, found, tokens, classes)
            banks[modality] = arrays[f"{modality}.bank"]
        return cls(heads, banks, int(config["hubness_k"]), config["facts"])
