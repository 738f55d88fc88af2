"""Full text: English words with stemming and stop words, Chinese by n-grams; rankings fused by reciprocal rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from storage.filters import Filter
from storage.tables import Store, named

if TYPE_CHECKING:
    from lancedb.table import Table

# kana without its punctuation, unified ideographs with their extensions and compatibility forms, hangul
_CJK = re.compile(
    "[\u3040-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]+"
)
_BREAK = "\ue000"  # stands in no text; the n-grams across a space would find every row with a space


def build_full_text(store: Store, name: str) -> None:
    """Index the columns `text` (English) and `grams` (Chinese, Japanese, Korean: one to three characters)."""
    from lancedb.index import FTS

    grams = FTS(base_tokenizer="ngram", ngram_min_length=1, ngram_max_length=3, stem=False, remove_stop_words=False)
    table = store.open(name)
    with named(name):
        table.create_index("text", config=FTS(language="English", stem=True, remove_stop_words=True), replace=True)
        table.create_index("grams", config=grams, replace=True)


def refresh_full_text(store: Store, name: str, *, fold_above: float) -> None:
    """Build what is missing of the full-text indexes, and fold new rows in when their share passes `fold_above`.

    Searches find rows that are not indexed yet, by looking at all of them.
    """
    table = store.open(name)
    there = {one.columns[0]: one.name for one in table.list_indices()}
    if not {"text", "grams"} <= there.keys():
        build_full_text(store, name)
        return
    rows = table.count_rows()
    with named(name):
        stats = [table.index_stats(there[column]) for column in ("text", "grams")]
        late = [one for one in stats if one is None or one.num_unindexed_rows > fold_above * rows]
        if late:
            table.to_lance().optimize.optimize_indices(index_names=[there["text"], there["grams"]])


def full_text_search(
    table: Table, query: str, k: int, *, where: Filter | None = None, columns: Sequence[str] = ("key",)
) -> pa.Table:
    """The `k` rows whose words fit `query` best: `columns` and `_score`, best first (BM25).

    Chinese, Japanese and Korean runs of the query ask the n-grams, its other words the English index; a row that fits
    both ranks by the sum. A query without a word finds nothing.
    """
    from lancedb.query import BooleanQuery, FullTextQuery, MatchQuery, Occur

    asked = {"text": _CJK.sub(" ", query), "grams": _BREAK.join(_CJK.findall(query))}
    parts: list[FullTextQuery] = [
        MatchQuery(words, column)  # type: ignore[call-arg]  # the others have defaults
        for column, words in asked.items()
        if words.strip() or not query.strip()
    ]
    both = len(parts) == 2  # one alone is answered twice as fast
    search = table.search(
        BooleanQuery([(Occur.SHOULD, part) for part in parts]) if both else parts[0], query_type="fts"
    )
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
