"""Encoders of what lasts, sounds and videos: parts in order of time, each encoded, pooled to one vector an item.

Memory is bounded whatever an item lasts: a few parts are made ahead by the reading threads, the others while others are
encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.pooling import pooled
from tasks.encoders.protocol import Array, Encoded, EncoderSpec, Parts, Runtime
from tasks.encoders.runners import Runs
from tasks.encoders.vectors import unit
from tasks.media.registry import MediaError

Inputs = tuple[npt.NDArray[Any], ...]
"""The model's inputs for one part."""
Part = tuple[float, Inputs]
"""Where it starts in seconds, and what the model takes."""

_AHEAD = 4 << 20  # bytes of an item's model inputs that wait for the encoder
_AT_ONCE = 16 << 20  # bytes of model inputs that are encoded together, of as many items as it takes


class PartStream:
    """The parts of one item: the first are ready, the others are made when asked for. It can be read repeatedly.

    Where the medium breaks, reading raises `MediaError`; making the stream does not.
    """

    def __init__(self, make: Callable[[], Iterator[Part]]) -> None:
        self._make: Callable[[], Iterator[Part]] | None = make
        self._ready: list[Part] = []
        rest: Iterator[Part] | None = make()
        size = 0
        try:
            for part in rest or ():
                self._ready.append(part)
                size += _bytes(part)
                if size >= _AHEAD:
                    break
            else:  # all are ready: the medium itself may go
                self._make, rest = None, None
        except MediaError:  # it is made anew, and breaks again there
            rest = None
        self._rest: Iterator[Part] | None = rest

    def __iter__(self) -> Iterator[Part]:
        """All parts, in order of time."""
        if self._make is None:
            return iter(self._ready)
        rest, self._rest = self._rest, None
        return chain(self._ready, islice(self._make(), len(self._ready), None) if rest is None else rest)


@dataclass(frozen=True)
class LastingEncoder:
    """Implements `Encoder`. `split` gives the parts of a decoded medium; `raw` maps n model inputs to `(n, dim)`.

    The vectors of an item's parts are pooled as its spec says before the length is made 1.
    """

    spec: EncoderSpec
    runtime: Runtime
    fingerprint: str
    split: Callable[[Any], Iterator[Part]]
    raw: Callable[[Sequence[Inputs]], Array]

    def transform(self, content: Any) -> PartStream:
        """Decoded medium → its parts, some of them ready."""
        return PartStream(partial(self.split, content))

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        """Parts of each item → one unit vector an item, and the vectors of its parts."""
        failures: dict[int, MediaError] = {}
        found: list[list[tuple[float, Array]]] = [[] for _ in inputs]
        for place, start, vector in self._vectors(inputs, failures):
            found[place].append((start, vector))
        vectors = np.zeros((len(inputs), self.spec.dim), np.float32)
        parts = [Parts(np.empty(0), vectors[:0])] * len(inputs)
        for place, own in enumerate(found):
            if place not in failures:
                raw = np.stack([vector for _, vector in own])
                vectors[place] = unit(pooled(raw, self.spec.pool)[None], self.spec.name)[0]
                parts[place] = Parts(np.array([start for start, _ in own]), unit(raw, self.spec.name))
        return Encoded(vectors, np.zeros(len(inputs), np.bool_), tuple(failures.items()), parts)

    def _vectors(
        self, inputs: Sequence[PartStream], failures: dict[int, MediaError]
    ) -> Iterator[tuple[int, float, Array]]:
        """(item, start, raw vector) of all parts, in order; while some are encoded, a thread makes the next ones."""
        chunks = _chunks(inputs, failures)
        with ThreadPoolExecutor(1, thread_name_prefix="parts") as pool:
            made = pool.submit(next, chunks, None)
            while (held := made.result()) is not None:
                made = pool.submit(next, chunks, None)
                vectors = self.raw([part for _, (_, part) in held])
                for (place, (start, _)), vector in zip(held, vectors, strict=True):
                    yield place, start, vector


def _chunks(inputs: Sequence[PartStream], failures: dict[int, MediaError]) -> Iterator[list[tuple[int, Part]]]:
    """The parts of all items with their items' places, in order, so many as are encoded together.

    An item that breaks goes to `failures`.
    """
    held: list[tuple[int, Part]] = []
    size = 0
    for place, parts in enumerate(inputs):
        try:
            for part in parts:
                held.append((place, part))
                size += _bytes(part)
                if size >= _AT_ONCE:
                    yield held
                    held, size = [], 0
        except MediaError as error:
            failures[place] = error
    if held:
        yield held


def in_batches(runner: Runs, rows: int, inputs: Sequence[Inputs]) -> Array:
    """Model inputs → raw vectors `(n, dim)`, in batches of exactly `rows`; the last is filled up with copies."""
    batches: list[Inputs] = []
    for start in range(0, len(inputs), rows):
        part = list(inputs[start : start + rows])
        part += [part[-1]] * (rows - len(part))
        batches.append(tuple(np.stack(column) for column in zip(*part, strict=True)))
    return np.concatenate(runner.run(batches))[: len(inputs)]


def _bytes(part: Part) -> int:
    return sum(one.nbytes for one in part[1])
