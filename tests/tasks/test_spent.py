from __future__ import annotations

import threading
import time

import pytest

from tasks.spent import BETWEEN, Account, spending


def test_the_shares_add_up_to_the_wall() -> None:
    """Every second of the thread is charged once, to the innermost block: the sum is the wall time."""
    account, start = Account(), time.perf_counter()
    with spending("out"):
        time.sleep(0.02)
        with spending("in"):
            time.sleep(0.03)
    time.sleep(0.01)
    spent = account.seconds()
    wall = time.perf_counter() - start
    assert set(spent) == {"out", "in", BETWEEN}
    assert sum(spent.values()) == pytest.approx(wall, abs=0.005)
    assert spent["in"] >= 0.03
    assert spent["out"] < wall - spent["in"]


def test_an_error_ends_its_block() -> None:
    """A function that fails is charged, and what comes after it is not."""

    @spending("fails")
    def fails() -> None:
        raise ValueError("broken")

    account = Account()
    with pytest.raises(ValueError, match="broken"):
        fails()
    with spending("after"):
        pass
    assert set(account.seconds()) == {"fails", "after", BETWEEN}


def test_threads_are_apart() -> None:
    """What another thread does meanwhile is no part of this one's time."""
    account = Account()

    def other() -> None:
        with spending("other"):
            time.sleep(0.01)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert set(account.seconds()) == {BETWEEN}
