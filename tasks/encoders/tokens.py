"""Texts → token ids in fixed batch shapes: each text's own length picks its bucket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import EncoderError
from tasks.encoders.shapes import BUCKETS, bucket

Ints = npt.NDArray[np.int32]


class Tokens:
    """A fast tokenizer without padding; cuts at `max_tokens`."""

    def __init__(self, folder: Path, max_tokens: int, pad_id: int) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.exists():
            raise EncoderError(f"{folder} holds no tokenizer.json", "save a fast tokenizer beside the model")
        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self.max_tokens = min(max_tokens, BUCKETS[-1])
        self._tokenizer.enable_truncation(self.max_tokens)
        self.pad_id = pad_id

    def __call__(self, texts: Sequence[str]) -> tuple[list[list[int]], npt.NDArray[np.bool_]]:
        """Ids of each text, special tokens included, and (n,) bool: it was cut."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return [one.ids for one in encoded], np.array([bool(one.overflowing) for one in encoded], np.bool_)


def batches(ids: Sequence[Sequence[int]], rows_of: dict[int, int], pad_id: int) -> Iterator[tuple[list[int], list[tuple[Ints, Ints]]]]:
    """For each length bucket in use: the places of its texts, and its batches of (ids (rows, length), lengths (rows,)).

    Every batch of a bucket has the same shape; the last is filled up with copies of its last text.
    """
    by_bucket: dict[int, list[int]] = {}
    for place, one in enumerate(ids):
        by_bucket.setdefault(bucket(len(one)), []).append(place)
    for length, places in sorted(by_bucket.items()):
        rows = rows_of[length]
        made: list[tuple[Ints, Ints]] = []
        for start in range(0, len(places), rows):
            part = places[start : start + rows]
            part = part + [part[-1]] * (rows - len(part))
            block = np.full((rows, length), pad_id, np.int32)
            for row, place in enumerate(part):
                block[row, : len(ids[place])] = ids[place]
            made.append((block, np.array([len(ids[place]) for place in part], np.int32)))
        yield places, made
