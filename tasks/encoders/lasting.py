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
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, Encoded, EncoderSpec, Parts, Runtime
from tasks.encoders.runners import Runs
from tasks.encoders.vectors import unit
from tasks.media.registry import MediaError

Inputs = tuple[npt.NDArray[Any], ...]
"""The model's inputs for one part."""
Part = tuple[float, Inputs]
"""Where it starts in seconds, and what the model takes."""
Pool = Literal["mean", "max"]

_AHEAD = 4 << 20  # bytes of an item's model inputs that wait for the encoder
_AT_ONCE = 16 << 20  # bytes of model inputs that are encoded together, of as many items as it takes


class PartStream:
    """The parts of one item: the first are ready, the others are made when asked for. It can be read repeatedly."""

    def __init__(self, make: Callable[[], Iterator[Part]]) -> None:
        self._make: Callable[[], Iterator[Part]] | None = make
        self._ready: list[Part] = []
        rest: Iterator[Part] | None = make()
        size = 0
        for part in rest or ():
            self._ready.append(part)
            size += _bytes(part)
            if size >= _AHEAD:
                break
        else:  # all are ready: the medium itself may go
            self._make, rest = None, None
        self._rest: Iterator[Part] | None = rest

    def __iter__(self) -> Iterator[Part]:
        """All parts, in order of time."""
        if self._make is None:
            return iter(self._ready)
        rest, self._rest = self._rest, None
        return chain(self._ready, islice(self._make(), len(self._ready), None) if rest is None else rest)


@dataclass(frozen=True)
class LastingEncoder:
    """Implements `PartEncoder`. `split` gives the parts of a decoded medium; `raw` maps n model inputs to `(n, dim)`.

    The vectors of an item's parts are averaged, or their largest values taken, before the length is made 1.
    """

    spec: EncoderSpec
    runtime: Runtime
    fingerprint: str
    split: Callable[[Any], Iterator[Part]]
    raw: Callable[[Sequence[Inputs]], Array]
    pool: Pool = "mean"

    def transform(self, content: Any) -> PartStream:
        """Decoded medium → its parts, some of them ready."""
        return PartStream(partial(self.split, content))

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        """Parts of each item → one unit vector an item."""
        failures: dict[int, MediaError] = {}
        pools = [_Pooled(self.pool, self.spec.dim) for _ in inputs]
        for place, _, vector in self._vectors(inputs, failures):
            pools[place].add(vector)
        vectors = np.zeros((len(inputs), self.spec.dim), np.float32)
        good = [place for place in range(len(inputs)) if place not in failures]
        if good:
            vectors[good] = unit(np.stack([pools[place].vector for place in good]), self.spec.name)
        return Encoded(vectors, np.zeros(len(inputs), np.bool_), tuple(failures.items()))

    def encode_parts(self, inputs: Sequence[Any]) -> list[Parts]:
        """Parts of each item → their starts and unit vectors. Raises `MediaError` where an item breaks."""
        failures: dict[int, MediaError] = {}
        found: list[list[tuple[float, Array]]] = [[] for _ in inputs]
        for place, start, vector in self._vectors(inputs, failures):
            found[place].append((start, vector))
        for error in failures.values():
            raise error
        return [
            Parts(np.array([start for start, _ in one]), unit(np.stack([vector for _, vector in one]), self.spec.name))
            for one in found
        ]

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


class _Pooled:
    """The mean or the largest values of vectors, one after another: in float64, so that no order of batches shows."""

    def __init__(self, pool: Pool, dim: int) -> None:
        self._largest = pool == "max"
        self._value = np.full(dim, -np.inf) if self._largest else np.zeros(dim)
        self._count = 0

    def add(self, vector: Array) -> None:
        """Take one more."""
        self._count += 1
        self._value = np.maximum(self._value, vector) if self._largest else self._value + vector

    @property
    def vector(self) -> npt.NDArray[np.float64]:
        """What is pooled so far."""
        return self._value if self._largest else self._value / self._count
