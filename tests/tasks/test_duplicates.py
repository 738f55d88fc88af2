from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from prefect.logging import disable_run_logger

import tasks.duplicates
from config.errors import RunError
from config.params import PreprocessParams
from storage import schemas
from storage.workspace import Workspace
from tasks.duplicates import check_duplicates, find_duplicates
from tasks.refs import DuplicateReport, EncoderRef
from tests.storage.rows import embedded, item, unit

DIM, ROWS = 16, 200
ENCODED = (
    EncoderRef(modality="image", encoder="a", table="embeddings_image"),
    EncoderRef(modality="image", encoder="b", table="embeddings_of_another"),
    EncoderRef(modality="text", encoder="c", table="embeddings_text"),
)


def shaken(x: np.ndarray, seed: int) -> np.ndarray:
    """Vectors with a cosine of about .99 to those given."""
    moved = x + 0.035 * np.random.default_rng(seed).normal(size=x.shape)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """200 pictures and 200 texts, each fifth held out.

    Picture 3 is nearly 10 (held out), which is nearly 12; picture 20 nearly 25 (both held out). Text 1 is nearly 30
    (held out). Text 2 is exactly text 35 (held out): one content.
    """
    made = Workspace(root=tmp_path)
    images, texts = unit(ROWS, DIM, seed=1), unit(ROWS, DIM, seed=2)
    images[[10, 12]] = shaken(images[[3, 3]], 3)
    images[25] = shaken(images[[20]], 4)
    texts[30] = shaken(texts[[1]], 5)
    rows: list[dict[str, Any]] = []
    for i in range(ROWS):
        split = "train" if i % 5 else "heldout"
        rows.append(item(f"i{i:03}", split=split))
        content = "ht002" if i == 35 else f"ht{i:03}"
        rows.append(item(f"t{i:03}", modality="text", uri="", text=f"words {i}", content_hash=content, split=split))
    made.store.upsert(schemas.ITEMS, schemas.items(), rows)
    for name, vectors, letter in (("image", images, "i"), ("text", texts, "t")):
        keys = [f"h{letter}{i:03}" for i in range(ROWS)]
        table = embedded(keys, vectors)
        made.store.upsert(f"embeddings_{name}", table.schema, table)
    return made


def check(workspace: Workspace, **params: Any) -> DuplicateReport:
    """The task, outside a flow."""
    with disable_run_logger():
        return check_duplicates.fn(workspace, "c", ("c",), ENCODED, PreprocessParams(**params))


def test_near_duplicates_are_counted_and_named(workspace: Workspace) -> None:
    """Pairs within the collection, their clusters, and the held-out items with a near-duplicate in training.

    Of a text that stands on both sides word for word only the training one is looked at: exact duplicates are counted
    where the groups are made.
    """
    report = check(workspace, near_duplicate=0.95)
    image, text = report.counts["image"], report.counts["text"]
    assert (image.contents, image.pairs, image.clusters, image.leaks) == (200, 4, 2, 1)
    assert (text.contents, text.pairs, text.clusters, text.leaks) == (199, 1, 1, 1)
    assert report.media_leaks == 1
    assert report.leaked[0].left == "i010.png"
    assert report.leaked[0].right in ("i003.png", "i012.png")
    assert report.leaked[0].splits == ("heldout", "train")
    assert {report.leaked[1].left, report.leaked[1].right} == {"words 30", "words 1"}
    assert all(one.score >= 0.95 for one in (*report.leaked, *report.pairs))
    assert {frozenset((one.left, one.right)) for one in report.pairs if one.modality == "image"} == {
        frozenset(f"i{n:03}.png" for n in pair) for pair in ((3, 10), (3, 12), (10, 12), (20, 25))
    }


def test_a_strict_run_stops_and_names_the_leak(workspace: Workspace) -> None:
    """Strictly, a held-out medium that is nearly a training one is an error that names both and the ways out."""
    with pytest.raises(RunError, match=r"1 held-out media of c .* i010\.png ~ i0(03|12)\.png") as error:
        check(workspace, near_duplicate=0.95, strict=True)
    assert "preprocess.near_duplicate" in error.value.mend
    assert check(workspace, near_duplicate=0.9999, strict=True).media_leaks == 0


def test_texts_alone_stop_no_run(workspace: Workspace) -> None:
    """Two people may write the same: near texts are reported, and a strict run goes on."""
    workspace.store.delete_keys(schemas.ITEMS, ["i010"])
    report = check(workspace, near_duplicate=0.95, strict=True)
    assert (report.media_leaks, report.counts["text"].leaks) == (0, 1)


def test_nothing_changed_nothing_compared(workspace: Workspace) -> None:
    """Once checked, the same tables are not looked at again; another threshold, item or refresh is."""
    first = check(workspace, near_duplicate=0.95)
    with mock.patch.object(tasks.duplicates, "find_duplicates", wraps=find_duplicates) as looked:
        assert check(workspace, near_duplicate=0.95) == first
        assert not looked.called
        check(workspace, near_duplicate=0.9)
        assert looked.call_count == 1
        workspace.store.delete_keys(schemas.ITEMS, ["i012"])
        assert check(workspace, near_duplicate=0.9).counts["image"].pairs < first.counts["image"].pairs
        assert looked.call_count == 2


def test_an_empty_collection_has_none(workspace: Workspace) -> None:
    """Without items there is nothing to count."""
    report = find_duplicates(workspace.store, ("nothing",), ENCODED[:1], 0.9)
    assert report.counts["image"].model_dump() == {"contents": 0, "pairs": 0, "clusters": 0, "leaks": 0}
