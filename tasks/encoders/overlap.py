"""Reader → encoder, overlapped: worker threads read and transform the next batches while the encoder runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    """Seconds spent in each stage; `read` adds up over the worker threads.

    `starved` and `blocked` are those in which the encoder waited for a reader or the writer; `ready` sums up the read
    batches that lay before it when it took one, of `batches` in all.
    """

    read: float = 0.0
    encode: float = 0.0
    write: float = 0.0
    starved: float = 0.0
    blocked: float = 0.0
    ready: int = 0
    batches: int = 0


@dataclass(frozen=True, slots=True)
class Batch(Generic[H]):
    """One encoded batch: `handles[i]` has `vectors[i]`, shape (n, dim), L2-normalised; `failures` could not be read.

    `parts[i]` are the parts of what lasts; empty for what does not.
    """

    handles: list[H]
    vectors: npt.NDArray[np.float32]
    truncated: npt.NDArray[np.bool_]
    failures: list[tuple[H, Exception]] = field(default_factory=list)
    parts: Sequence[Parts] = ()


def encode_overlapped(
    batches: Iterable[Sequence[H]],
    read: Callable[[H], Any],
    encoder: Encoder,
    *,
    skip: tuple[type[Exception], ...],
    clock: Clock,
    workers: int = 2,
    ahead: int = 2,
) -> Iterator[Batch[H]]:
    """Encode `batches` of handles, in order; `read(handle)` gives the decoded medium, in a worker thread.

    An exception of a type in `skip` costs its own handle and is handed back in `failures`; any other ends the run.
    At most `workers + ahead` batches of model inputs are in memory.
    """

    def load(handles: Sequence[H]) -> tuple[list[H], list[Any], list[tuple[H, Exception]], float]:
        start = time.perf_counter()
        good: list[H] = []
        inputs: list[Any] = []
        bad: list[tuple[H, Exception]] = []
        for handle in handles:
            try:
                inputs.append(encoder.transform(read(handle)))
                good.append(handle)
            except skip as error:
                bad.append((handle, error))
        return good, inputs, bad, time.perf_counter() - start

    waiting: deque[Future[tuple[list[H], list[Any], list[tuple[H, Exception]], float]]] = deque()
    source = iter(batches)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    try:
        while True:
            while len(waiting) < workers + ahead and (handles := next(source, None)) is not None:
                waiting.append(pool.submit(load, handles))
            if not waiting:
                return
            clock.ready += sum(one.done() for one in waiting)
            clock.batches += 1
            start = time.perf_counter()
            with spending("read"):
                good, inputs, bad, seconds = waiting.popleft().result()
            clock.starved += time.perf_counter() - start
            clock.read += seconds
            start = time.perf_counter()
            with spending("encode"):
                if inputs:
                    vectors, truncated, broken, parts = encoder.encode(inputs)
                else:
                    vectors, truncated, broken, parts = _nothing(encoder.spec.dim)
            clock.encode += time.perf_counter() - start
            del inputs  # before the next batch is read: these are the large part
            if broken:  # what lasts is read to its end only here
                bad += [(good[place], error) for place, error in broken]
                kept = np.setdiff1d(np.arange(len(good)), [place for place, _ in broken])
                good, vectors, truncated = [good[place] for place in kept], vectors[kept], truncated[kept]
                parts = [parts[place] for place in kept if parts]
            yield Batch(good, vectors, truncated, bad, parts)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _nothing(dim: int) -> Encoded:
    return Encoded(np.empty((0, dim), np.float32), np.empty(0, np.bool_))
