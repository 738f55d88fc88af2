"""Texts → token ids in fixed batch shapes: each text's own length picks its bucket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import EncoderError
from tasks.encoders.shapes import bucket, buckets

Ints = npt.NDArray[np.int32]


class Tokens:
    """A fast tokenizer (tokenizer.json, no transformers needed) that cuts at `max_tokens` and does not pad."""

    def __init__(self, path: Path, max_tokens: int, pad: int) -> None:
        from tokenizers import Tokenizer

        if not path.is_file():
            raise EncoderError(f"{path.parent} holds no tokenizer.json", "save a fast tokenizer beside the model")
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise EncoderError(f"{path} is not a tokenizer ({error})", "save the tokenizer again") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.buckets = buckets(max_tokens)
        self.pad = pad

    def __call__(self, texts: Sequence[str]) -> tuple[list[list[int]], npt.NDArray[np.bool_]]:
        """Ids of each text, special tokens included, and `(n,)` bool: it was cut."""
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        return [one.ids for one in encoded], np.array([bool(one.overflowing) for one in encoded], np.bool_)


def batches(
    ids: Sequence[Sequence[int]], sizes: tuple[int, ...], rows_of: Callable[[int], int], pad: int, *, whole: bool = True
) -> tuple[list[list[int]], list[tuple[Ints, Ints]]]:
    """Batches of (ids `(rows, length)`, lengths `(rows,)`), long ones first, and the places of each one's texts.

    Every batch of a bucket has the same shape; the last is filled up with copies of its last text: to all rows, or, if
    they need not be `whole`, to the next power of two, so that a model sees few shapes.

    >>> places, made = batches([[5], [6, 7, 8], [9]], (2, 4), lambda length: 4 // length, 0)
    >>> places, [block.tolist() for block, _ in made]
    ([[1], [0, 2]], [[[6, 7, 8, 0]], [[5, 0], [9, 0]]])
    >>> [block.shape for block, _ in batches([[5]] * 3, (2,), lambda length: 16, 0, whole=False)[1]]
    [(4, 2)]
    """
    of_bucket: dict[int, list[int]] = {}
    for place, one in enumerate(ids):
        of_bucket.setdefault(bucket(len(one), sizes), []).append(place)
    places: list[list[int]] = []
    made: list[tuple[Ints, Ints]] = []
    for length, members in sorted(of_bucket.items(), reverse=True):
        full = rows_of(length)
        for start in range(0, len(members), full):
            part = members[start : start + full]
            rows = full if whole else min(full, 1 << (len(part) - 1).bit_length())
            block = np.full((rows, length), pad, np.int32)
            lengths = np.empty(rows, np.int32)
            for row in range(rows):
                one = ids[part[min(row, len(part) - 1)]]
                block[row, : len(one)] = one
                lengths[row] = len(one)
            places.append(part)
            made.append((block, lengths))
    return places, made
