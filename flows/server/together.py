"""Searches by words that come at the same time are asked together: one text costs an encoder as much as many."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tasks.asked import Query
from tasks.hits import Answer
from tasks.search import Searcher

MOST = 32
"""Queries in a batch."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    query: Query
    options: tuple[tuple[str, Any], ...]
    searcher: Searcher
    answer: Future[Answer] = field(default_factory=Future)

    def beside(self, other: _Waiting) -> bool:
        """Whether the two can be one batch."""
        return self.searcher is other.searcher and self.options == other.options


class Together:
    """Whoever has the turn asks for all who wait beside it, of the same space and with the same options.

    An answer is that of a search by itself: what is encoded does not depend on its company.
    """

    def __init__(self) -> None:
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._queue: list[_Waiting] = []

    def search(self, searcher: Searcher, query: Query, **options: Any) -> Answer:
        """As `searcher.search`; `options` are hashable."""
        mine = _Waiting(query, tuple(sorted(options.items())), searcher)
        with self._lock:
            self._queue.append(mine)
        with self._turn:
            while not mine.answer.done():
                _ask(self._batch(mine))
        return mine.answer.result()

    def _batch(self, mine: _Waiting) -> list[_Waiting]:
        with self._lock:
            batch = [one for one in self._queue if one.beside(mine)][:MOST]
            self._queue = [one for one in self._queue if one not in batch]
        return batch


def _ask(batch: Sequence[_Waiting]) -> None:
    first = batch[0]
    try:
        answers = first.searcher.search_many([one.query for one in batch], **dict(first.options))
    except Exception as error:  # noqa: BLE001 - it goes to who asked
        if len(batch) == 1:
            first.answer.set_exception(error)
            return
        for one in batch:  # one of them is at fault, and no other has to bear it
            _ask([one])
        return
    for one, answer in zip(batch, answers, strict=True):
        one.answer.set_result(answer)
