"""A sound in blocks → windows of one length at a stated hop, holding no more than a window and a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.lasting import Inputs, Part

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """Splits a sound into windows of `length` samples every `hop`, at `rate` samples a second.

    `prepare` turns a window, `(length,)` float32 or less where the whole sound is shorter, into model inputs. `lead`
    zeros stand before the sound.
    """

    rate: int
    length: int
    hop: int
    prepare: Callable[[Samples], Inputs]
    lead: int = 0

    def __call__(self, sound: Any) -> Iterator[Part]:
        """(start in seconds, model inputs) of each window of a decoded sound."""
        blocks = chain([np.zeros(self.lead, np.float32)], sound.blocks(self.rate))
        for start, samples in windows(blocks, self.length, self.hop):
            yield max(start - self.lead, 0) / self.rate, self.prepare(samples)


def windows(blocks: Iterable[Samples], length: int, hop: int) -> Iterator[tuple[int, Samples]]:
    """(number of the first sample, samples `(length,)`) of windows at 0, hop, 2·hop …; 1 ≤ hop ≤ length.

    If they leave samples at the end uncovered, one more window ends where the sound ends. A sound that is shorter than
    a window is one window, as long as it is; an empty one has none.

    >>> [(start, one.tolist()) for start, one in windows([np.arange(3), np.arange(3, 8)], 4, 3)]
    [(0, [0, 1, 2, 3]), (3, [3, 4, 5, 6]), (4, [4, 5, 6, 7])]
    """
    held: list[Samples] = []
    first = size = following = 0  # number of the first sample held, how many are held, where the next window starts
    for block in blocks:
        held.append(block)
        size += len(block)
        if first + size < following + length:
            continue
        samples = np.concatenate(held)
        while following + length <= first + size:
            yield following, samples[following - first : following - first + length]
            following += hop
        kept = samples[following - hop - first :]  # from the last window on: the end may need them
        held, first, size = [kept], following - hop, len(kept)
    if not size:
        return
    samples, end = np.concatenate(held), first + size
    if not following:
        yield 0, samples
    elif end > following - hop + length:
        yield end - length, samples[-length:]
