"""Reader → encoders, overlapped: worker threads read and transform the next batches while the encoders run."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Encoded, Encoder, Parts
from tasks.spent import spending

H = TypeVar("H")


@dataclass(slots=True)
class Clock:
    """Seconds of an encoder in each stage; what is read, decoded or prepared for several of them is divided evenly.

    `read` adds up over the worker threads. `starved` and `blocked` are those in which the encoder waited for a reader
    or the writer; `ready` sums up the read batches that lay before it when one was taken, of `batches` in all.
    """

    load: float = 0.0
    read: float = 0.0
    encode: float = 0.0
    write: float = 0.0
    starved: float = 0.0
    blocked: float = 0.0
    ready: int = 0
    batches: int = 0

    @property
    def own(self) -> float:
        """What it took of the thread that encodes."""
        return self.load + self.starved + self.encode + self.blocked


@dataclass(frozen=True, slots=True)
class Batch(Generic[H]):
    """One batch as `encoder` encoded it: `handles[i]` has `vectors[i]`, shape (n, dim), L2-normalised.

    `failures` could not be read. Of the `due` handles all others were lost by an encoder before it. `parts[i]` are the
    parts of what lasts; empty for what does not.
    """

    encoder: str
    due: int
    handles: list[H]
    vectors: npt.NDArray[np.float32]
    truncated: npt.NDArray[np.bool_]
    failures: list[tuple[H, Exception]]
    parts: Sequence[Parts] = ()


@dataclass(slots=True)
class _Inputs:
    """What an encoder is given of a batch: places of handles and the model input of each; which failed, and why."""

    places: list[int] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    failures: list[tuple[int, Exception]] = field(default_factory=list)
    seconds: float = 0.0


def encode_overlapped(
    batches: Iterable[tuple[Sequence[str], Sequence[H]]],
    read: Callable[[H], Any],
    encoders: Mapping[str, Encoder],
    *,
    skip: tuple[type[Exception], ...],
    clocks: Mapping[str, Clock],
    workers: int = 2,
    ahead: int = 2,
) -> Iterator[Batch[H]]:
    """Encode `batches` of handles, in order, each by the encoders that it names, one after the other.

    `read(handle)` gives the decoded medium, once for all of them, in a worker thread; encoders with equal `transform`
    share the model input as well. An exception of a type in `skip` costs its own handle and is handed back in
    `failures`: encoders behind the one that met it are not given the handle. Any other ends the run. At most
    `workers + ahead` batches are in memory, as model inputs of their encoders.
    """

    def load(names: Sequence[str], handles: Sequence[H]) -> dict[str, _Inputs]:
        start = time.perf_counter()
        out = {name: _Inputs() for name in names}
        transforms = {name: encoders[name].transform for name in names}
        alike = Counter(transforms.values())
        for place, handle in enumerate(handles):
            own = out[names[0]]
            try:
                content, made = read(handle), dict[Callable[[Any], Any], tuple[Any, float]]()
                for own, transform in zip(out.values(), transforms.values(), strict=True):
                    if transform not in made:
                        began = time.perf_counter()
                        made[transform] = transform(content), (time.perf_counter() - began) / alike[transform]
                    given, seconds = made[transform]
                    own.inputs.append(given)
                    own.places.append(place)
                    own.seconds += seconds
            except skip as error:
                own.failures.append((place, error))
        shared = time.perf_counter() - start - sum(own.seconds for own in out.values())
        for own in out.values():
            own.seconds += shared / len(out)
        return out

    waiting: deque[tuple[Sequence[H], Future[dict[str, _Inputs]]]] = deque()
    source = iter(batches)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    try:
        while True:
            while len(waiting) < workers + ahead and (batch := next(source, None)) is not None:
                waiting.append((batch[1], pool.submit(load, *batch)))
            if not waiting:
                return
            ready = sum(made.done() for _, made in waiting)
            start = time.perf_counter()
            handles, made = waiting.popleft()
            with spending("read"):
                given = made.result()
            waited = (time.perf_counter() - start) / len(given)
            lost: set[int] = set()
            for name in list(given):
                clock = clocks[name]
                clock.ready += ready
                clock.batches += 1
                clock.starved += waited
                # taken out: inputs are the large part, and go before the next batch is read
                yield _encoded(name, encoders[name], handles, given.pop(name), lost, clock)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _encoded(
    name: str, encoder: Encoder, handles: Sequence[H], given: _Inputs, lost: set[int], clock: Clock
) -> Batch[H]:
    """One batch by one encoder; handles at `lost` places are left out, and those that break now are added to them."""
    kept = [number for number, place in enumerate(given.places) if place not in lost]
    places, inputs = [given.places[number] for number in kept], [given.inputs[number] for number in kept]
    start = time.perf_counter()
    with spending("encode"):
        if inputs:
            vectors, truncated, broken, parts = encoder.encode(inputs)
        else:
            vectors, truncated, broken, parts = _nothing(encoder.spec.dim)
    clock.encode += time.perf_counter() - start
    clock.read += given.seconds
    bad = [(handles[place], error) for place, error in given.failures if place not in lost]
    if broken:  # what lasts is read to its end only here
        bad += [(handles[places[number]], error) for number, error in broken]
        lost.update(places[number] for number, _ in broken)
        whole = np.setdiff1d(np.arange(len(places)), [number for number, _ in broken])
        places, vectors, truncated = [places[number] for number in whole], vectors[whole], truncated[whole]
        parts = [parts[number] for number in whole if parts]
    return Batch(name, len(handles), [handles[place] for place in places], vectors, truncated, bad, parts)


def _nothing(dim: int) -> Encoded:
    return Encoded(np.empty((0, dim), np.float32), np.empty(0, np.bool_))
