from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tasks.encoders.overlap import Batch, Clock, encode_overlapped
from tasks.encoders.protocol import Encoded, Encoder
from tasks.encoders.registry import SPECS
from tasks.media.registry import MediaError
from tests.tasks.encoders.parts import OPENVINO


class Input:
    """A model input that can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


class Numbers:
    """An encoder whose vector says which input it was given; `before` is called with each batch."""

    spec = SPECS["builtin:minilm"]
    runtime = OPENVINO
    fingerprint = "0" * 32

    def __init__(self, before: Callable[[Sequence[Any]], None] = lambda inputs: None) -> None:
        self.before = before

    def transform(self, content: Any) -> Any:
        return content

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        self.before(inputs)
        numbers = np.array([one.number for one in inputs], np.float32)
        return Encoded(np.repeat(numbers[:, None], self.spec.dim, 1), numbers % 2 == 1)


def sized(count: int, size: int) -> list[range]:
    """Handles 0 … count - 1 in batches of `size`."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def run(
    batches: Iterable[Sequence[int]],
    read: Callable[[int], Any] = Input,
    *encoders: Encoder,
    clocks: Mapping[str, Clock] | None = None,
    **options: Any,
) -> Iterator[Batch[int]]:
    """The generator under test: every batch by all encoders, "a", "b" …, with ValueError as what costs one handle."""
    known = dict(zip("abc", encoders or (Numbers(),), strict=False))
    named = ((tuple(known), batch) for batch in batches)
    clocks = clocks or {name: Clock() for name in known}
    return encode_overlapped(named, read, known, skip=(ValueError,), clocks=clocks, **options)


def readers() -> list[str]:
    """Reading threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read")]


def test_the_stand_in_is_an_encoder() -> None:
    """What these tests encode with satisfies the protocol of encoders."""
    assert isinstance(Numbers(), Encoder)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_is_kept(workers: int) -> None:
    """Batches and their handles come in the order given, each with its own vector, though late ones are read first."""
    held = threading.Event()

    def read(number: int) -> Input:
        if workers > 1:
            if number < 7:
                assert held.wait(60)  # the first batch is read when the second has been
            else:
                held.set()
        return Input(number)

    done = list(run(sized(100, 7), read, workers=workers))
    assert [handle for batch in done for handle in batch.handles] == list(range(100))
    assert [len(batch.handles) for batch in done] == [7] * 14 + [2]
    for batch in done:
        assert batch.vectors[:, 0].tolist() == batch.handles
        assert batch.truncated.tolist() == [handle % 2 == 1 for handle in batch.handles]
        assert batch.failures == []
    assert readers() == []


def test_failures_cost_their_own_handle() -> None:
    """A handle that cannot be read is handed back with its error; the rest of its batch is encoded."""

    def read(number: int) -> Input:
        if number % 3 == 0:
            raise ValueError(f"no {number}")
        return Input(number)

    done = list(run(sized(20, 5), read))
    assert [batch.handles for batch in done] == [[n for n in part if n % 3] for part in sized(20, 5)]
    for batch, part in zip(done, sized(20, 5), strict=True):
        assert [(handle, str(error)) for handle, error in batch.failures] == [
            (n, f"no {n}") for n in part if n % 3 == 0
        ]
        assert batch.vectors[:, 0].tolist() == batch.handles


def test_failures_in_transform_count_too() -> None:
    """What a model's own preparation refuses costs its own handle as well."""

    class Picky(Numbers):
        def transform(self, content: Any) -> Any:
            if content.number == 1:
                raise ValueError("too small")
            return content

    (batch,) = run([[0, 1, 2]], Input, Picky())
    assert (batch.handles, [handle for handle, _ in batch.failures]) == ([0, 2], [1])


def test_failures_in_encode_count_too() -> None:
    """What breaks only while it is encoded costs its own handle, beside what could not be read; the rest stay."""

    def read(number: int) -> Input:
        if number == 4:
            raise ValueError("unreadable")
        return Input(number)

    class Late(Numbers):
        def encode(self, inputs: Sequence[Any]) -> Encoded:
            broken = tuple((place, MediaError("cut", "")) for place, one in enumerate(inputs) if one.number % 3 == 1)
            return super().encode(inputs)._replace(failures=broken)

    (batch,) = run([range(6)], read, Late())
    assert batch.handles == [0, 2, 3, 5]
    assert batch.vectors[:, 0].tolist() == batch.handles
    assert batch.truncated.tolist() == [False, False, True, True]
    assert [(handle, type(error)) for handle, error in batch.failures] == [(4, ValueError), (1, MediaError)]


def test_each_handle_is_read_once_for_all_encoders() -> None:
    """A batch is read once and encoded by the encoders that it names and by no other, each handle with its vector; what
    is lost to one encoder is not given to those behind it, and told once.
    """
    seen: list[int] = []
    given: list[list[int]] = []

    def read(number: int) -> Input:
        seen.append(number)
        if number == 0:
            raise ValueError("unreadable")
        return Input(number)

    class Picky(Numbers):
        def transform(self, content: Any) -> Any:
            if content.number in (1, 2):
                raise ValueError("too small")
            return content

    class Breaking(Numbers):
        def encode(self, inputs: Sequence[Any]) -> Encoded:
            broken = tuple((place, MediaError("cut", "")) for place, one in enumerate(inputs) if one.number == 2)
            return super().encode(inputs)._replace(failures=broken)

    encoders = {
        "breaking": Breaking(),
        "picky": Picky(),
        "last": Numbers(lambda inputs: given.append([one.number for one in inputs])),
    }
    clocks = {name: Clock() for name in encoders}
    batches = [(("breaking", "picky", "last"), range(5)), (("last",), range(5, 8))]
    done = list(encode_overlapped(batches, read, encoders, skip=(ValueError,), clocks=clocks))
    assert seen == list(range(8))
    assert given == [[3, 4], [5, 6, 7]]
    assert [(one.encoder, one.due, one.handles, [handle for handle, _ in one.failures]) for one in done] == [
        ("breaking", 5, [1, 3, 4], [0, 2]),
        ("picky", 5, [3, 4], [1]),
        ("last", 5, [3, 4], []),
        ("last", 3, [5, 6, 7], []),
    ]
    assert all(one.vectors[:, 0].tolist() == one.handles for one in done)
    assert [clock.batches for clock in clocks.values()] == [1, 1, 2]


def test_encoders_with_one_transform_share_its_result() -> None:
    """A handle is prepared once for encoders that prepare it alike, with equal shares of the seconds, and once more for
    one that does not.
    """
    made: list[int] = []
    given: list[Sequence[Any]] = []

    def shared(content: Any) -> Any:
        made.append(content.number)
        return Input(content.number)

    class Alike(Numbers):
        @property
        def transform(self) -> Callable[[Any], Any]:  # type: ignore[override]
            return shared

    clocks = {name: Clock() for name in "abc"}
    done = list(run(sized(6, 3), Input, Alike(given.append), Numbers(), Alike(given.append), clocks=clocks))
    assert sorted(made) == list(range(6))
    assert [one.encoder for one in done] == ["a", "b", "c"] * 2
    assert all(one.vectors[:, 0].tolist() == one.handles for one in done)
    assert all(one is other for first, last in (given[:2], given[2:]) for one, other in zip(first, last, strict=True))
    assert clocks["a"].read == clocks["c"].read > 0


def test_batch_without_anything_readable() -> None:
    """A batch of which nothing can be read comes with no vectors, of the encoder's width, and is not encoded."""

    def read(number: int) -> Input:
        raise ValueError(number)

    def never(inputs: Sequence[Any]) -> None:
        raise AssertionError

    (batch,) = run([[4, 5]], read, Numbers(never))
    assert (batch.vectors.shape, batch.vectors.dtype, batch.truncated.dtype) == ((0, 384), np.float32, np.bool_)
    assert [handle for handle, _ in batch.failures] == [4, 5]
    assert list(run([])) == []


@pytest.mark.parametrize("place", ["read", "encode", "source"])
def test_other_exceptions_end_the_run(place: str) -> None:
    """An exception of another type, wherever it arises, reaches the caller, and no thread is left behind."""

    def fail(at: str, number: int) -> None:
        if at == place and number >= 10:
            raise KeyError(number)

    def read(number: int) -> Input:
        fail("read", number)
        return Input(number)

    def source() -> Iterator[range]:
        for part in sized(30, 5):
            fail("source", part[0])
            yield part

    seen: list[int] = []

    def all_of_them() -> None:
        for batch in run(source(), read, Numbers(lambda inputs: fail("encode", inputs[0].number))):
            seen.extend(batch.handles)

    with pytest.raises(KeyError):
        all_of_them()
    assert seen == list(range(10))[: len(seen)]
    assert readers() == []


def test_abandoned_run_leaves_no_thread() -> None:
    """A caller who stops after the first batch leaves no thread behind, and batches not begun are not read."""
    begun: list[int] = []

    def read(number: int) -> Input:
        begun.append(number)
        return Input(number)

    going = run(sized(1_000, 2), read)
    next(going)
    going.close()
    assert readers() == []
    assert len(begun) <= 2 * 5


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (1, 1), (2, 2), (3, 1)])
def test_bounded_memory(workers: int, ahead: int) -> None:
    """At most workers + ahead batches of inputs are held at any time, the one being encoded included; and that many
    are, so that the encoder need not wait.
    """
    bound, total = workers + ahead, 12
    alive: set[int] = set()
    held = threading.Condition()
    most = 0
    begun = 0

    def gone(number: int) -> None:
        with held:
            alive.discard(number)

    def read(number: int) -> Input:
        nonlocal most, begun
        made = Input(number)  # one input a batch
        weakref.finalize(made, gone, number)
        with held:
            alive.add(number)
            begun += 1
            most = max(most, len(alive))
            held.notify_all()
        return made

    def source() -> Iterator[list[int]]:
        for number in range(total):
            with held:
                assert len(alive) < bound  # room for the batch that is asked for
            yield [number]

    def full(inputs: Sequence[Any]) -> None:
        wanted = min(inputs[0].number + bound, total)
        with held:
            assert held.wait_for(lambda: begun >= wanted, 60)

    gc.collect()
    done = list(run(source(), read, Numbers(full), workers=workers, ahead=ahead))
    assert [batch.handles[0] for batch in done] == list(range(total))
    assert most == bound
    assert alive == set()


def test_clock_counts_each_stage() -> None:
    """Reading and encoding are timed apart, both with time spent."""
    clock = Clock()
    list(run(sized(50, 5), clocks={"a": clock}))
    assert clock.read > 0
    assert clock.encode > 0
    assert clock.write == 0
