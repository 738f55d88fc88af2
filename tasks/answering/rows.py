"""Questions about media in a form to compute with: distinct vectors, and which of them each row has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tasks.alignment.features import signed_sqrt
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Centre:
    """One side's map: the signed square root of CNN activations, minus a mean, to unit length; encoders side by side.

    The dot product of two of its vectors is the mean over the encoders of the cosines, −1 to 1.
    """

    means: Mapping[str, Array]
    cnn: Mapping[str, bool]

    @classmethod
    def fit(cls, vectors: Mapping[str, Array], cnn: Mapping[str, bool]) -> Self:
        """The means of embeddings {encoder: (n, d)}."""
        means = {name: _bent(x, cnn=cnn[name]).mean(0, dtype=np.float64) for name, x in vectors.items()}
        return cls({name: mean.astype(np.float32) for name, mean in means.items()}, dict(cnn))

    def apply(self, vectors: Mapping[str, Array]) -> Array:
        """Embeddings {encoder: (n, d)} → (n, sum of d)."""
        parts = [normalise(_bent(vectors[name], cnn=self.cnn[name]) - mean) for name, mean in self.means.items()]
        return np.asarray(np.concatenate(parts, 1) / np.sqrt(len(parts)), np.float32)


def _bent(x: Array, *, cnn: bool) -> Array:
    return signed_sqrt(x) if cnn else x


@dataclass(frozen=True)
class Asked:
    """n questions about media. `questions` (a, d) and `media` (b, e) are distinct mapped vectors, the others (n,).

    `question` and `medium` say which of them a row has, `type` numbers the questions' types.
    """

    questions: Array
    media: Array
    question: Indices
    medium: Indices
    type: Indices

    def __len__(self) -> int:
        return len(self.question)

    def part(self, rows: Any) -> Self:
        """Some of the rows; the distinct vectors stay."""
        return replace(self, question=self.question[rows], medium=self.medium[rows], type=self.type[rows])


@dataclass(frozen=True)
class Stored(Asked):
    """Questions with their answers (n,), as numbers."""

    answer: Indices

    def part(self, rows: Any) -> Self:
        """Some of the rows."""
        return replace(super().part(rows), answer=self.answer[rows])


@dataclass(frozen=True)
class Table:
    """All that is known of n answered questions: raw vectors {encoder: (m, d)} of distinct contents, and the rows.

    `answers` are the names of the answers in their canonical wording, `types` those of the types.
    """

    questions: Mapping[str, Array]
    media: Mapping[str, Array]
    question: Indices
    medium: Indices
    answer: Indices
    type: Indices
    groups: Indices
    answers: Sequence[str]
    types: Sequence[str]
    cnn: Mapping[str, bool]

    def __len__(self) -> int:
        return len(self.question)

    def part(self, rows: Indices) -> Self:
        """Some of the rows, with the distinct vectors that they have."""
        questions, question = compact(self.questions, self.question[rows])
        media, medium = compact(self.media, self.medium[rows])
        return replace(
            self,
            questions=questions,
            media=media,
            question=question,
            medium=medium,
            answer=self.answer[rows],
            type=self.type[rows],
            groups=self.groups[rows],
        )

    def centres(self, rows: Indices) -> tuple[Centre, Centre]:
        """The maps of both sides, fitted on the contents of some rows."""
        sides = ((self.questions, self.question), (self.media, self.medium))
        question, medium = (
            Centre.fit({name: x[np.unique(index[rows])] for name, x in side.items()}, {n: self.cnn[n] for n in side})
            for side, index in sides
        )
        return question, medium

    def mapped(self, centres: tuple[Centre, Centre]) -> Stored:
        """All rows, their vectors mapped."""
        return Stored(
            centres[0].apply(self.questions),
            centres[1].apply(self.media),
            self.question,
            self.medium,
            self.type,
            self.answer,
        )


def compact(vectors: Mapping[str, Array], index: Indices) -> tuple[dict[str, Array], Indices]:
    """The distinct vectors {encoder: (m, d)} that an index (n,) names, and the index into them.

    >>> compact({"e": np.eye(3)}, np.array([2, 2]))[1].tolist()
    [0, 0]
    """
    used, place = np.unique(index, return_inverse=True)
    return {name: x[used] for name, x in vectors.items()}, place.astype(np.int64)
