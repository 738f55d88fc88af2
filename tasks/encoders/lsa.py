"""A text encoder by latent semantic analysis: the weighted terms of a text, summed up as a few hundred directions.

Its folder holds all of it (config.json, vocabulary.json, model.safetensors), and NumPy alone runs it. How one is made
stands in `lsa_fit`. Sources: Deerwester et al. 1990; Salton and Buckley 1988 (term weights).
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, Encoded, EncoderError, EncoderSpec, Runtime
from tasks.encoders.vectors import unit
from tasks.media.text import cjk_runs

MODEL_TYPE = "lsa"
VOCABULARY = "vocabulary.json"
WEIGHTS = "model.safetensors"
_PIECES = (3, 4, 5)  # characters


def terms(text: str) -> list[str]:
    """Words, pairs of neighbouring words, and pieces of words; of Chinese, Japanese and Korean, characters and pairs.

    A piece begins with a star, and an underscore is the edge of its word.

    >>> terms("My 黑猫")
    ['my', '黑', '猫', 'my 黑', '黑 猫', '*_my', '*my_', '*_my_']
    """
    runs = list(_runs(text))
    words = [word for run in runs for word in (run if cjk_runs(run) else (run,))]
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    return [*words, *pairs, *(piece for run in runs if not cjk_runs(run) for piece in _pieces(f"_{run}_"))]


def _pieces(word: str) -> Iterator[str]:
    for size in _PIECES:
        for start in range(len(word) - size + 1):
            yield f"*{word[start : start + size]}"


def _runs(text: str) -> Iterator[str]:
    """Stretches of letters and digits, those of Chinese, Japanese and Korean apart from others."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    for kind, run in groupby(plain, _kind):
        if kind:
            yield "".join(run)


def _kind(character: str) -> int:
    if not character.isalnum() and unicodedata.category(character)[0] != "M":  # marks belong to their letter
        return 0
    return 2 if cjk_runs(character) else 1


def counted(texts: Sequence[str], vocabulary: Mapping[str, int]) -> Iterator[tuple[npt.NDArray[np.int64], Array]]:
    """Of each text its known terms as numbers, in order, and 1 + log of how often each occurs."""
    for text in texts:
        found = sorted(Counter(vocabulary[term] for term in terms(text) if term in vocabulary).items())
        numbers, counts = np.array(found, np.int64).reshape(-1, 2).T
        yield numbers, (1 + np.log(counts)).astype(np.float32)


@dataclass(frozen=True)
class LsaEncoder:
    """Implements `Encoder` for texts: `components` (terms, dim) hold the terms' weights already.

    A text of which no term is known is like all texts: it gets their mean, `usual` (dim,).
    """

    spec: EncoderSpec
    runtime: Runtime
    fingerprint: str
    vocabulary: Mapping[str, int]
    components: Array
    usual: Array

    def transform(self, content: Any) -> Any:
        """A text stays as it is."""
        return content

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        """Texts → unit vectors, each computed by itself; none is cut."""
        vectors = np.tile(self.usual, (len(inputs), 1))
        for row, (numbers, weights) in enumerate(counted(inputs, self.vocabulary)):
            if len(numbers):
                vectors[row] = weights @ self.components[numbers]
        return Encoded(unit(vectors, self.spec.name), np.zeros(len(inputs), np.bool_))


def load(
    spec: EncoderSpec,
    runtime: Runtime,
    fingerprint: str,
    models_dir: Path,  # noqa: ARG001 - all loaders are called alike; there is nothing to convert
    threads: int,  # noqa: ARG001
) -> LsaEncoder:
    """The encoder in the folder `spec.source`. Raises `EncoderError` when that is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(spec.source)
    try:
        words = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        arrays = load_file(str(folder / WEIGHTS))
        components, usual = arrays["components"], arrays["usual"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise EncoderError(f"{spec.name} cannot be read ({error})", "train it again") from error
    if components.shape != (len(words), spec.dim) or usual.shape != (spec.dim,):
        raise EncoderError(f"{spec.name}: its vocabulary does not match its weights", "train it again")
    return LsaEncoder(spec, runtime, fingerprint, {word: n for n, word in enumerate(words)}, components, usual)
