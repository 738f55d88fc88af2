"""Texts → token ids in fixed batch shapes: each text's own length picks its bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
    texts: Iterable[Sequence[int]],
    sizes: tuple[int, ...],
    rows_of: Callable[[int], int],
    pad: int,
    *,
    whole: bool = True,
) -> Iterator[tuple[list[int], tuple[Ints, Ints]]]:
    """The places of some texts, given as their ids, and their batch: ids `(rows, length)`, lengths `(rows,)`.

    Every batch of a bucket has the same shape; it comes as soon as it is full. At the end the others are filled up with
    copies of their last text: to all rows, or, if they need not be `whole`, to the next power of two, so that a model
    sees few shapes.

    >>> made = list(batches([[5], [6, 7, 8], [9]], (2, 4), lambda length: 4 // length, 0))
    >>> [(places, block.tolist()) for places, (block, _) in made]
    [([1], [[6, 7, 8, 0]]), ([0, 2], [[5, 0], [9, 0]])]
    >>> [block.shape for _, (block, _) in batches([[5]] * 3, (2,), lambda length: 16, 0, whole=False)]
    [(4, 2)]
    """
    waiting: dict[int, dict[int, Sequence[int]]] = {}
    for place, ids in enumerate(texts):
        length = bucket(len(ids), sizes)
        part = waiting.setdefault(length, {})
        part[place] = ids
        if len(part) == rows_of(length):
            yield list(part), _block(list(part.values()), length, len(part), pad)
            del waiting[length]
    for length, part in sorted(waiting.items(), reverse=True):
        rows = rows_of(length) if whole else 1 << (len(part) - 1).bit_length()
        yield list(part), _block(list(part.values()), length, min(rows, rows_of(length)), pad)


def _block(texts: list[Sequence[int]], length: int, rows: int, pad: int) -> tuple[Ints, Ints]:
    block = np.full((rows, length), pad, np.int32)
    lengths = np.empty(rows, np.int32)
    for row in range(rows):
        ids = texts[min(row, len(texts) - 1)]
        block[row, : len(ids)] = ids
        lengths[row] = len(ids)
    return block, lengths
