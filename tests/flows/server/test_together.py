from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from config.errors import UserError
from flows.server.together import MOST, Together
from tasks.asked import Query
from tasks.hits import Answer
from tasks.search import Searcher
from tests.flows.server.conftest import Made


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many queries each call of the core had; a call takes its time, so that others come meanwhile."""
    seen: list[int] = []
    ask: Callable[..., list[Answer]] = Searcher.search_many

    def slow(self: Searcher, queries: list[Query], **options: Any) -> list[Answer]:
        seen.append(len(queries))
        time.sleep(0.2)
        return ask(self, queries, **options)

    monkeypatch.setattr(Searcher, "search_many", slow)
    return seen


def test_who_waits_is_asked_together_and_gets_its_own_answer(made: Made, batches: list[int]) -> None:
    """Each of many at once gets what it gets alone, in fewer calls than there are; other options are other calls."""
    searcher, together = Searcher(made.workspace), Together()
    words = [
        f"a {colour} {shape}" for colour in ("red", "blue", "green", "black") for shape in ("circle", "bar", "cross")
    ]
    alone = [searcher.search(Query(text=one), target="image", k=5).hits for one in words]
    batches.clear()
    with ThreadPoolExecutor(len(words) + 1) as threads:
        other = threads.submit(together.search, searcher, Query(text="a red bar"), target="text", k=2)
        found = list(
            threads.map(lambda one: together.search(searcher, Query(text=one), target="image", k=5).hits, words)
        )
    assert found == alone
    assert {hit.modality for hit in other.result().hits} == {"text"}
    assert sum(batches) == len(words) + 1
    assert max(batches) > len(words) // 2
    assert max(batches) <= MOST


def test_a_bad_query_spoils_no_other(made: Made, batches: list[int]) -> None:
    """One that cannot be asked is refused; those beside it are answered."""
    searcher, together = Searcher(made.workspace), Together()
    refused: list[UserError] = []
    held = threading.Event()

    def bad() -> None:
        held.wait()
        with pytest.raises(UserError) as caught:
            together.search(searcher, Query(text=" \u0000 "), target="image")
        refused.append(caught.value)

    def good() -> Answer:
        held.wait()
        return together.search(searcher, Query(text="a red circle"), target="image")

    with ThreadPoolExecutor(6) as threads:
        spoilt = threads.submit(bad)
        answers = [threads.submit(good) for _ in range(4)]
        held.set()
        spoilt.result()
        assert all(one.result().hits for one in answers)
    assert "empty" in refused[0].message
