from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage import schemas
from storage.filters import eq
from storage.fulltext import build_full_text, full_text_search, reciprocal_rank_fusion
from storage.tables import Store
from tests.storage.rows import spaced, unit

TEXTS = {
    "park": "The dog runs in the park",
    "shoes": "running shoes",
    "car": "a red car",
    "cat": "cat 猫",
    "kitten": "黑色的小猫在睡觉",
    "both": "小黑狗和猫咪",
    "dog": "白狗",
    "japan": "ネコが好き",
    "korea": "고양이",
    "café": "café au lait",
    "silent": "",
}
SCHEMA = schemas.space(4, ("image",), "id")


def write(store: Store, texts: dict[str, str]) -> None:
    """Rows with these texts; every other one is an image."""
    keys = list(texts)
    grams = ["".join(c if ord(c) > 0x2FFF else " " for c in text) for text in texts.values()]
    modality = [("image", "text")[number % 2] for number in range(len(keys))]
    rows = spaced(keys, unit(len(keys)), text=list(texts.values()), grams=grams, modality=modality)
    store.upsert("space_a", SCHEMA, rows)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A space of the texts above, with both indexes, built twice as after a second run."""
    made = Store(tmp_path_factory.mktemp("tables"))
    write(made, TEXTS)
    build_full_text(made, "space_a")
    build_full_text(made, "space_a")
    return made


def hits(store: Store, query: str, k: int = 20) -> list[str]:
    """Keys of the rows found, best first."""
    return [str(key) for key in full_text_search(store.open("space_a"), query, k)["key"].to_pylist()]


@pytest.mark.parametrize("query", ["running", "runs", "run", "RUNNING", "Runs!"])
def test_english_words_match_by_their_stem(store: Store, query: str) -> None:
    """Forms of one English word find each other, whatever their case."""
    assert sorted(hits(store, query)) == ["park", "shoes"]


def test_stop_words_find_nothing(store: Store) -> None:
    """Words that stand in every text are no evidence: alone they find nothing, beside others they change nothing."""
    assert hits(store, "the") == []
    assert hits(store, "the in a") == []
    assert hits(store, "the car") == hits(store, "car") == ["car"]


def test_accents_do_not_matter(store: Store) -> None:
    """A word is found with and without its accents."""
    assert hits(store, "cafe") == hits(store, "café") == ["café"]


@pytest.mark.parametrize(
    ("query", "best", "others"),
    [
        ("猫", {"cat", "kitten", "both"}, set()),
        ("小猫", {"kitten"}, {"cat", "both"}),
        ("白狗", {"dog"}, {"both"}),
        ("黑小猫", {"kitten"}, {"cat", "both"}),  # its characters are spread over 黑色的小猫
        ("猫和狗", {"both"}, {"cat", "kitten", "dog"}),
        ("睡觉", {"kitten"}, set()),
        ("ネコ", {"japan"}, set()),
        ("고양이", {"korea"}, set()),
        ("鸟", set(), set()),
    ],
)
def test_chinese_japanese_and_korean_match_by_characters(
    store: Store, query: str, best: set[str], others: set[str]
) -> None:
    """A query of one to three characters finds the rows that hold any of them, and first the one that holds most."""
    found = hits(store, query)
    assert set(found) == best | others
    assert set(found[: len(best)]) == best


def test_a_mixed_query_asks_both(store: Store) -> None:
    """Words and characters of one query both count, and a row with both comes first; each alone finds its own."""
    assert hits(store, "cat 猫")[0] == "cat"
    assert set(hits(store, "cat 猫")) == {"cat", "kitten", "both"}
    assert set(hits(store, "猫，狗")) == set(hits(store, "狗 · 猫")) == {"cat", "kitten", "both", "dog"}
    assert set(hits(store, "car 猫")) == {"car", "cat", "kitten", "both"}
    assert set(hits(store, "the睡觉runs")) == {"kitten", "park", "shoes"}


@settings(max_examples=50, deadline=None)
@given(st.text("()[]{}\"'`*?~^+-&|!:;,./\\ \n\t。、，！？《》・", max_size=12))
@example("")
@example('"')
@example("()")
@example("🐈")
def test_a_query_without_a_word_finds_nothing(store: Store, query: str) -> None:
    """Punctuation of any script, alone, is no error and finds nothing: a query is words, not a language."""
    assert hits(store, query) == []


@pytest.mark.parametrize(
    "query", ["car AND", "NOT car", "car*", '"car', "car OR (", "text:car", "car~2", "car\0", "^car$"]
)
def test_a_query_has_no_syntax(store: Store, query: str) -> None:
    """What is syntax elsewhere is punctuation or a word here: the row with the word is found."""
    assert "car" in hits(store, query)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
@example("猫" * 500)
@example("word " * 500)
def test_any_query_is_answered(store: Store, query: str) -> None:
    """Whatever is asked, the answer holds known rows, each once, best first."""
    found = full_text_search(store.open("space_a"), query, 20)
    keys, scores = found["key"].to_pylist(), found["_score"].to_pylist()
    assert len(set(keys)) == len(keys)
    assert set(keys) <= TEXTS.keys()
    assert scores == sorted(scores, reverse=True)


def test_filter_limit_and_columns(store: Store) -> None:
    """The filter holds before the limit, so that rows of another modality take no place; columns are as asked for."""
    table = store.open("space_a")
    both = {"image": {"park", "kitten"}, "text": {"shoes", "cat", "both"}}
    for modality, keys in (("image", {"park"}), ("text", {"shoes"})):
        found = full_text_search(table, "running", 1, where=eq("modality", modality), columns=["uri", "key"])
        assert found.column_names == ["uri", "key", "_score"]
        assert set(found["key"].to_pylist()) == keys
        mixed = full_text_search(table, "running 猫", 20, where=eq("modality", modality))
        assert set(mixed["key"].to_pylist()) == both[modality]
    assert len(hits(store, "猫 running", 2)) == 2


def test_rows_written_later_are_found(tmp_path: Path) -> None:
    """A text written after the build is found in both indexes, and a deleted one no more."""
    store = Store(tmp_path / "tables")
    write(store, TEXTS)
    build_full_text(store, "space_a")
    write(store, {"new": "two zebras 斑马", "car": "a blue bicycle"})
    store.delete_keys("space_a", ["shoes"])
    assert (hits(store, "zebra"), hits(store, "斑马"), hits(store, "bicycle")) == (["new"], ["new"], ["car"])
    assert (hits(store, "red"), hits(store, "running")) == ([], ["park"])


def test_an_empty_space_can_be_indexed(tmp_path: Path) -> None:
    """A space without items is indexed and searched without error."""
    store = Store(tmp_path / "tables")
    store.create("space_a", SCHEMA)
    build_full_text(store, "space_a")
    assert [hits(store, query) for query in ("cat", "猫", "cat 猫")] == [[], [], []]


def test_fusion_by_hand() -> None:
    """A key scores weight / (k + rank) in each ranking it stands in; the highest sum comes first, then by name."""
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["c", "d"]], [1.0, 0.5], k=10)
    assert list(fused) == ["c", "a", "b", "d"]
    assert fused == pytest.approx({"a": 1 / 11, "b": 1 / 12, "c": 1 / 13 + 0.5 / 11, "d": 0.5 / 12})
    assert list(reciprocal_rank_fusion([["b"], ["a"]], [1.0, 1.0])) == ["a", "b"]
    assert reciprocal_rank_fusion([["x"]], [2.0]) == {"x": pytest.approx(2 / 61)}
    assert reciprocal_rank_fusion([], []) == {}
    with pytest.raises(ValueError, match="shorter"):
        reciprocal_rank_fusion([["a"], ["b"]], [1.0])
