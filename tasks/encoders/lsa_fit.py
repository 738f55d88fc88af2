"""Makes an LSA encoder of texts, which may be few, and of no others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.encoders.lsa import MODEL_TYPE, VOCABULARY, WEIGHTS, counted, terms
from tasks.encoders.protocol import Array, EncoderError
from tasks.media.text import cjk_runs

_TIMES = 2
"""Texts that must hold a term."""
_TERMS = 50_000
"""Most terms: the commonest."""
_POWERS = 4  # of the randomised SVD (Halko et al. 2011)


def fit_lsa(texts: Sequence[str], dim: int, seed: int) -> tuple[list[str], Array, Array]:
    """Terms, their components (terms, width) and the mean text (width,), from the `texts` to learn of.

    Weights are (1 + log tf)·idf, a text's at unit length; the directions are the leading right singular vectors, their
    signs fixed, `dim` of them or as many as the texts and terms give. The same at any number of threads to 1e-5.
    Raises `EncoderError` when the texts share too few words.
    """
    from scipy.sparse import csr_array
    from sklearn.utils.extmath import randomized_svd

    times = Counter(term for text in texts for term in set(terms(text)))
    common = sorted((-count, term) for term, count in times.items() if count >= _TIMES)[:_TERMS]
    words = sorted(term for _, term in common)
    width = min(dim, len(words) - 1, len(texts) - 1)
    if width < 2:
        raise EncoderError(f"{len(texts)} texts with {len(words)} terms in common are too few", "give more texts")
    rarity = np.log((1 + len(texts)) / (1 + np.array([times[word] for word in words]))) + 1
    rows = list(counted(texts, {word: number for number, word in enumerate(words)}))
    weights = [tf * rarity[numbers] for numbers, tf in rows]
    data = np.concatenate([one / max(np.linalg.norm(one), 1e-12) for one in weights])
    ends = np.cumsum([0, *(len(numbers) for numbers, _ in rows)])
    table = csr_array((data, np.concatenate([numbers for numbers, _ in rows]), ends), (len(texts), len(words)))
    _, _, axes = randomized_svd(table, width, n_iter=_POWERS, random_state=seed)
    axes *= np.where(axes[np.arange(width), np.abs(axes).argmax(1)] < 0, -1.0, 1.0)[:, None]
    usual = np.asarray(table.mean(0)).ravel() @ axes.T
    return words, (rarity[:, None] * axes.T).astype(np.float32), usual.astype(np.float32)


def languages_of(words: Sequence[str]) -> tuple[str, ...]:
    """Whether Chinese, Japanese or Korean is among the terms: () for yes, as the names of languages are not known."""
    return () if any(cjk_runs(word) for word in words) else ("und",)


def save_lsa(folder: Path, words: Sequence[str], components: Array, usual: Array) -> None:
    """Write the encoder to an empty folder."""
    from safetensors.numpy import save_file

    about = {"model_type": MODEL_TYPE, "hidden_size": components.shape[1], "vocab_size": len(words)}
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    (folder / VOCABULARY).write_text(json.dumps(list(words), ensure_ascii=False), encoding="utf-8")
    save_file({"components": np.ascontiguousarray(components), "usual": usual}, str(folder / WEIGHTS))
