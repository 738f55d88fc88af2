from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.media.registry import Limits, MediaError
from tasks.sources.groups import Forest, components, draw_split, strictest_first
from tasks.sources.item import BadRow, Columns, MediaRef, Question, Row, TextRef
from tasks.sources.records import Prepared, examine, prepare, stage
from tasks.sources.rows import to_row
from tests.tasks.media.test_image import saved, scene

PICTURE = saved(scene(), "PNG")


def reading(file: str) -> bytes:
    """The bytes of a file; one whose name begins with `missing` is not there."""
    if file.startswith("missing"):
        raise MediaError("file_missing", "gone")
    return PICTURE + file.encode()


def prepared(rows: Iterable[Row]) -> Prepared:
    """The records of rows, through staging."""
    staged = [(kind, record) for row in rows for _, kind, record in stage(row, lexical=(), stat=lambda file: (1, 1))]
    return prepare(staged, collection="c", look=lambda one: examine(one, reading, Limits()), limits=Limits())


def row(key: str, files: tuple[str, ...], texts: tuple[str, ...]) -> Row:
    """A row of pictures and captions."""
    media = tuple(MediaRef(file, file, "image") for file in files)
    return Row(key, f"{key}:1", media, tuple(TextRef("caption", text) for text in texts))


def test_pairs_join_what_stands_in_one_row() -> None:
    """A row with two media and two texts gives the pair of media and each medium with each text: five pairs."""
    done = prepared([row("r", ("a.png", "b.png"), ("x", "y"))])
    assert len(done.items) == 4
    kinds = sorted((pair["left_modality"], pair["right_modality"]) for pair in done.pairs)
    assert kinds == [("image", "image"), *[("image", "text")] * 4]


def test_a_medium_in_two_rows_is_one_item() -> None:
    """A medium that two rows mention is one item, whatever the order of the rows, and pairs with both texts."""
    rows = [row("r1", ("a.png",), ("x",)), row("r2", ("a.png",), ("y",))]
    one, other = prepared(rows), prepared(rows[::-1])
    assert sorted(item["key"] for item in one.items) == sorted(item["key"] for item in other.items)
    assert sum(item["modality"] == "image" for item in one.items) == 1
    assert len(one.pairs) == 2


def test_the_time_of_a_file_does_not_choose_its_spelling() -> None:
    """Of two files whose names have one canonical form the same is read, whichever is the older or the larger."""
    rows = [Row("x.png", "x:1", (MediaRef("x.png", file, "image"),)) for file in ("x-nfc.png", "x-nfd.png")]
    uris = set()
    for stats in ({"x-nfc.png": (1, 9), "x-nfd.png": (5, 2)}, {"x-nfc.png": (8, -3), "x-nfd.png": (2, 7)}):
        staged = [(kind, record) for one in rows for _, kind, record in stage(one, lexical=(), stat=stats.__getitem__)]
        for order in (staged, staged[::-1]):
            done = prepare(order, collection="c", look=lambda one: examine(one, reading, Limits()), limits=Limits())
            uris |= {item["uri"] for item in done.items}
    assert len(uris) == 1


def test_lines_with_one_path_are_one_row() -> None:
    """A table with a line for each caption of a picture gives the same items as one row with all captions."""
    lines = [row("a.png", ("a.png",), (text,)) for text in ("x", "y", "x")]
    whole = [row("a.png", ("a.png",), ("x", "y", "x"))]
    keys = [sorted(item["key"] for item in prepared(rows).items) for rows in (lines, whole)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 4


def test_equal_captions_are_told_apart() -> None:
    """Two equal captions of one row are two items with one content."""
    done = prepared([row("r", (), ("x", "x"))])
    assert len({item["key"] for item in done.items}) == 2
    assert len({item["content_hash"] for item in done.items}) == 1


def test_faults_cost_themselves_alone() -> None:
    """A missing file and an empty caption become faults with their places; the rest of the row stays."""
    done = prepared([row("r", ("missing.png", "a.png"), ("  ", "x"))])
    assert sorted((fault.locator, fault.code) for fault in done.faults) == [
        ("missing.png", "file_missing"),
        ("r#caption[1]", "text_empty"),
    ]
    assert len(done.items) == 2


@given(st.integers(1, 30), st.data())
def test_components_agree_with_plain_search(n: int, data: st.DataObject) -> None:
    """Two nodes have one label exactly when a walk along the edges leads from one to the other."""
    edges = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
    labels = components(n, np.array(edges, np.int64).reshape(-1, 2))
    reach = [{i} for i in range(n)]
    for _ in range(n):
        for a, b in edges:
            joined = reach[a] | reach[b]
            for node in joined:
                reach[node] = reach[node] | joined
    assert all((labels[i] == labels[j]) == (j in reach[i]) for i in range(n) for j in range(n))


def test_drawn_splits_are_stable() -> None:
    """About the asked share is held out, and the split of a group depends on itself and the seed alone."""
    names = [f"g{i}" for i in range(5_000)]
    held = [draw_split(name, 0, 0.2) == "heldout" for name in names]
    assert abs(np.mean(held) - 0.2) < 0.02
    assert held[:100] == [draw_split(name, 0, 0.2) == "heldout" for name in names[:100]]
    assert held != [draw_split(name, 1, 0.2) == "heldout" for name in names]


@given(st.lists(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=12), max_size=5))
def test_a_forest_is_the_whole_graph(joins: list[list[tuple[int, int]]]) -> None:
    """Edges that come some at a time give the components of all of them, each named by its smallest node."""
    forest = Forest(30)
    for edges in joins:
        forest.join(*np.array(edges, np.int64).reshape(-1, 2).T)
    labels = components(30, np.array([edge for edges in joins for edge in edges], np.int64).reshape(-1, 2))
    assert forest.roots(np.arange(30)).tolist() == [labels.tolist().index(label) for label in labels]


def test_evaluation_wins_a_group() -> None:
    """A group with members in several splits belongs to the most held-out one."""
    assert strictest_first(["train", "val", "test"])[0] == "test"
    assert strictest_first(["val", "train"])[0] == "val"


def asked(record: dict[str, object]) -> Row | BadRow:
    """A record of picture `a.png` with these columns, as the readers take it."""
    whole = {"file_name": "a.png"} | record
    return to_row(whole, locator="m:1", base="", columns=Columns(), split=None, spell=lambda path: path)


def test_a_question_is_no_text() -> None:
    """A question and its answer become an answer about the row's medium: no text, no pair, no attribute."""
    found = asked({"question": " how  many? ", "answer": "2", "answer_type": "number", "mood": "calm"})
    assert isinstance(found, Row)
    assert found.attributes == {"mood": "calm"}
    done = prepared([found])
    assert [item["modality"] for item in done.items] == ["image"]
    assert done.pairs == []
    (answer,) = done.answers
    about = {name: answer[name] for name in ("question", "answer", "answer_type", "annotators")}
    assert about == {"question": "how many?", "answer": "2", "answer_type": "number", "annotators": ["2"]}
    assert answer["item"] == done.items[0]["key"]


def test_of_many_answers_the_most_frequent_counts() -> None:
    """Several annotators, also as objects that hold an answer: all are kept, the most frequent is the answer."""
    found = asked({"question": "what?", "answer": ["cat", {"answer": "dog"}, "dog", None, 3, True]})
    assert isinstance(found, Row)
    (answer,) = prepared([found]).answers
    assert (answer["answer"], answer["annotators"]) == ("dog", ["cat", "dog", "dog", "3", "yes"])


def test_equal_answers_of_two_rows_are_one() -> None:
    """Rows of any name that say the same of one medium are one answer; another answer to the question is another."""
    rows = [
        Row(key, f"{key}:1", (MediaRef("a.png", "a.png", "image"),), asked=Question("what?", (answer,)))
        for key, answer in (("r1", "cat"), ("r2", "cat"), ("r3", "dog"))
    ]
    assert sorted(one["answer"] for one in prepared(rows).answers) == ["cat", "dog"]


def test_a_question_alone_is_a_column_like_any_other() -> None:
    """Without an answer, or an answer without a question, there is nothing asked: the column is an attribute."""
    for record in ({"question": "what?"}, {"answer": "cat"}, {"question": "what?", "answer": ""}):
        found = asked(record)
        assert isinstance(found, Row)
        assert found.asked is None
        assert found.attributes == {name: value for name, value in record.items() if value}


def test_bad_questions_lose_their_row_alone() -> None:
    """A blank question, an answer that is no text, half a character, a question about nothing: each says why."""
    for record, code in (
        ({"question": " \t", "answer": "cat"}, "text_empty"),
        ({"question": "what?", "answer": {"a": [1]}}, "text_empty"),
        ({"question": "what?", "answer": [["cat"]]}, "row_bad_type"),
        ({"question": "what?", "answer": "\ud800"}, "row_not_utf8"),
        ({"question": "what?", "answer": "cat", "file_name": None}, "question_no_medium"),
    ):
        found = asked(record)
        assert isinstance(found, BadRow)
        assert found.code == code
