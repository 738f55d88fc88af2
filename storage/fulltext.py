"""Full text: English words with stemming and stop words, Chinese by n-grams; rankings fused by reciprocal rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from storage.filters import Filter
from storage.tables import Store

if TYPE_CHECKING:
    from lancedb.table import Table

_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]")


def build_full_text(store: Store, name: str) -> None:
    """Index the columns `text` (English) and `grams` (Chinese, Japanese, Korean: one to three characters)."""
    table = store.open(name)
    table.create_fts_index(
        "text", base_tokenizer="simple", language="English", stem=True, remove_stop_words=True, replace=True
    )
    table = store.open(name)
    table.create_fts_index(
        "grams",
        base_tokenizer="ngram",
        ngram_min_length=1,
        ngram_max_length=3,
        stem=False,
        remove_stop_words=False,
        replace=True,
    )


def full_text_search(
    table: Table, query: str, k: int, *, where: Filter | None = None, columns: Sequence[str] = ("key",)
) -> pa.Table:
    """The `k` rows whose words fit `query` best: `columns` and `_score`, best first (BM25).

    A query with Chinese, Japanese or Korean characters asks the n-grams, any other the English words.
    """
    from lancedb.query import MatchQuery

    asian = _CJK.findall(query)
    column = "grams" if asian else "text"
    words = (
        " ".join(_CJK.sub(lambda one: one[0], "".join(c if _CJK.match(c) else " " for c in query)).split())
        if asian
        else query
    )
    search = table.search(MatchQuery(words, column), query_type="fts", fts_columns=column)
    if where is not None:
        search = search.where(where.sql, prefilter=True)
    return search.select([*columns, "_score"]).limit(k).to_arrow()


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[str]], weights: Sequence[float], k: int = 60
) -> dict[str, float]:
    """Σ weight / (k + rank) of each key over the rankings, best first. Source: Cormack et al. 2009.

    >>> list(reciprocal_rank_fusion([["a", "b"], ["b", "c"]], [1.0, 1.0]))
    ['b', 'a', 'c']
    """
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, key in enumerate(ranking, 1):
            scores[key] = scores.get(key, 0.0) + weight / (k + rank)
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
