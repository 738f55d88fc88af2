from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from config.errors import UserError
from flows.pipeline import pipeline
from storage.errors import StorageError
from storage.filters import eq
from storage.fulltext import reciprocal_rank_fusion
from storage.spaces import CALIBRATION, read_json, write_json
from storage.workspace import Workspace
from tasks.encoders.image_encoder import ImageEncoder
from tasks.encoders.protocol import Encoded
from tasks.media.registry import MediaError
from tasks.metrics.calibration import LEVELS, Calibration, Curve
from tasks.search import Query, Searcher
from tests.flows.runs import params_for
from tests.tiny import write_collection

CHINESE = ("红色的圆", "绿色的方块", "蓝色的圆")


@pytest.fixture(scope="module")
def workspace(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A published space over 40 drawn pictures with two captions and a Chinese title each, the title for full text."""
    root = tmp_path_factory.mktemp("search")
    folder = write_collection(root / "shapes", 40)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for number, row in enumerate(lines):
        row["title"] = CHINESE[number % 3]
        row["price"] = number
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        pipeline(params_for(folder, tiny_encoders, columns={"lexical": ["title"]}))
        yield Workspace(root=root / "workspace")


def test_vectors_rank_by_corrected_cosine(workspace: Workspace) -> None:
    """The hits of a picture are those with the largest 2·cos − r(caption), computed by plain numpy over the table."""
    searcher = Searcher(workspace)
    store = workspace.store
    table = searcher._manifest["space"]["table"]
    rows = store.read(table, ["key", "modality", "uri", "vector", "hubness_image"]).to_pylist()
    query = next(row for row in rows if row["uri"] == "0003.png")
    scores = {
        row["key"]: 2 * float(np.dot(row["vector"], query["vector"])) - row["hubness_image"]
        for row in rows
        if row["modality"] == "text"
    }
    best = sorted(scores, key=lambda key: (-scores[key], key))[:5]
    answer = searcher.search(Query(file=workspace.root.parent / "shapes" / "0003.png"), k=5)
    assert (answer.target, answer.mode) == ("text", "vector")
    assert [hit.key for hit in answer.hits] == best
    assert [hit.score for hit in answer.hits] == pytest.approx([scores[key] for key in best], abs=1e-3)


def test_a_file_that_breaks_while_it_is_encoded(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that breaks while it is read, as a long recording may, is the user's error, not a search for zeros."""
    cut = ((0, MediaError("audio_truncated", "it ends too early")),)
    monkeypatch.setattr(
        ImageEncoder,
        "encode",
        lambda self, inputs: Encoded(np.zeros((1, self.spec.dim), np.float32), np.zeros(1, np.bool_), cut),
    )
    with pytest.raises(UserError, match="it ends too early"):
        Searcher(workspace).search(Query(file=workspace.root.parent / "shapes" / "0003.png"))


def test_hybrid_is_the_fusion_of_both_rankings(workspace: Workspace) -> None:
    """A hybrid answer is the reciprocal-rank fusion of the vector answer and the full-text answer."""
    searcher = Searcher(workspace)
    asked = {
        mode: searcher.search(Query(text="a red circle"), target="image", k=40, mode=mode)
        for mode in ("vector", "text", "hybrid")
    }
    lists = [[hit.key for hit in asked[mode].hits] for mode in ("vector", "text")]
    fused = reciprocal_rank_fusion(lists, [1.0, 1.0])
    assert [hit.key for hit in asked["hybrid"].hits] == list(fused)[:40]
    assert all(hit.found_by == ("text",) for hit in asked["text"].hits)


def test_words_find_by_stem_and_by_characters(workspace: Workspace) -> None:
    """Full text finds `circles` where the caption says circle, and Chinese words inside longer ones."""
    searcher = Searcher(workspace)
    english = searcher.search(Query(text="circles"), target="image", k=5, mode="text").hits
    assert english
    assert all("circle" in hit.text for hit in english)
    chinese = searcher.search(Query(text="圆"), target="image", k=40, mode="text").hits
    assert len(chinese) == sum(CHINESE[n % 3] != "绿色的方块" for n in range(40))
    (best, *_) = searcher.search(Query(text="绿色方块"), target="image", k=3, mode="text").hits
    assert best.attributes["title"] == "绿色的方块"


def planted(usual: float) -> Calibration:
    """A calibration by which the probability is 0.1 + 0.8·x over scores from -1 to 1 mapped to x from 0 to 1."""
    curve = Curve((1.0, 0.0), np.array([-1.0, 1.0]), np.array([0.1, 0.9]))
    return Calibration(curve, curve, 0.1, usual, np.linspace(-2, 2, 105))


@contextmanager
def calibrated(workspace: Workspace, usual: float) -> Iterator[Searcher]:
    """A searcher of the space with such a calibration for pictures as queries, none for texts."""
    folder = Path(Searcher(workspace)._manifest["space"]["path"])
    before = read_json(folder / CALIBRATION)
    kept = {"schema": 1, "directions": {"image_to_text": planted(usual).to_json()}}
    write_json(folder / CALIBRATION, kept)
    try:
        yield Searcher(workspace)
    finally:
        write_json(folder / CALIBRATION, before)


def test_hits_tell_what_their_score_means(workspace: Workspace) -> None:
    """Probability and percentile are those of CSLS, 2·cos − r(query) − r(item), by hand; the hits stay as they are."""
    picture = workspace.root.parent / "shapes" / "0003.png"
    plain = Searcher(workspace).search(Query(file=picture), k=8)
    assert {(hit.probability, hit.percentile) for hit in plain.hits} == {(None, None)}
    with calibrated(workspace, usual=11) as searcher:
        table = searcher._manifest["space"]["table"]
        rows = workspace.store.read(table, ["uri", "hubness_text"]).to_pylist()
        own = next(row["hubness_text"] for row in rows if row["uri"] == "0003.png")
        answer = searcher.search(Query(file=picture), k=8)
        assert searcher.search(Query(file=picture), k=8) == answer
        filtered = searcher.search(Query(file=picture), k=8, where=eq("split", "train"))
        other_way = searcher.search(Query(text="a red circle"), target="image", k=3)
    assert [(hit.key, hit.score) for hit in answer.hits] == [(hit.key, hit.score) for hit in plain.hits]
    for hit in answer.hits:
        csls = hit.score - own
        assert hit.probability == pytest.approx(0.1 + 0.8 * min(max((csls + 1) / 2, 0), 1), abs=1e-3)
        knots = np.linspace(-2, 2, 105)
        assert hit.percentile == pytest.approx(100 * np.interp(csls, knots, LEVELS), abs=0.1)
    assert (answer.alike, answer.notes) == (0, ())
    assert {hit.probability for hit in (*filtered.hits, *other_way.hits)} == {None}


def test_an_ambiguous_query_is_marked(workspace: Workspace) -> None:
    """Where more answers are left open than is usual, the perplexity of the first ten scores tells how many."""
    picture = workspace.root.parent / "shapes" / "0003.png"
    with calibrated(workspace, usual=1) as searcher:
        answer = searcher.search(Query(file=picture), k=10)
    weight = np.exp(np.array([hit.score for hit in answer.hits]) / 0.1)
    share = weight / weight.sum()
    assert answer.alike == max(2, round(float(np.exp(-(share * np.log(share)).sum()))))
    assert answer.notes == (f"ambiguous: the first {answer.alike} answers score alike",)


def test_a_space_that_was_not_assessed_is_searched(workspace: Workspace) -> None:
    """Without a calibration beside the heads hits have no probability; a damaged one is named with its mend."""
    path = Path(Searcher(workspace)._manifest["space"]["path"]) / CALIBRATION
    before = path.read_bytes()
    try:
        path.unlink()
        (hit,) = Searcher(workspace).search(Query(text="a red circle"), k=1, mode="vector").hits
        assert (hit.probability, hit.percentile) == (None, None)
        path.write_text("{", encoding="utf-8")
        with pytest.raises(StorageError, match="evaluate"):
            Searcher(workspace)
    finally:
        path.write_bytes(before)


def test_a_filter_bounds_the_hits(workspace: Workspace) -> None:
    """With a filter on the split every hit is of that split, and k of them are found where there are k."""
    searcher = Searcher(workspace)
    hits = searcher.search(
        Query(text="a red circle"), target="text", k=10, mode="vector", where=eq("split", "train")
    ).hits
    assert len(hits) == 10
    rows = workspace.store.read(searcher._manifest["space"]["table"], ["key", "split"]).to_pylist()
    splits = {row["key"]: row["split"] for row in rows}
    assert {splits[hit.key] for hit in hits} == {"train"}


def test_hits_carry_what_a_person_needs(workspace: Workspace) -> None:
    """A hit names the file inside the collection, its attributes and its words."""
    hit = Searcher(workspace).search(Query(text="a red circle"), k=1).hits[0]
    assert hit.modality == "image"
    assert Path(hit.path).is_file()
    assert hit.attributes["price"] == int(Path(hit.path).stem)


def test_an_open_searcher_sees_one_version(workspace: Workspace) -> None:
    """Rows deleted after a searcher was opened do not change its answers."""
    searcher = Searcher(workspace)
    before = searcher.search(Query(text="a red circle"), k=5, mode="vector").hits
    table = searcher._manifest["space"]["table"]
    workspace.store.delete_keys(table, [before[0].key])
    try:
        assert searcher.search(Query(text="a red circle"), k=5, mode="vector").hits == before
        assert Searcher(workspace).search(Query(text="a red circle"), k=5, mode="vector").hits == before
    finally:
        newest = workspace.store.open(table)
        newest.restore(searcher._manifest["index"]["version"])


def test_mistakes_are_named(workspace: Workspace, tmp_path: Path) -> None:
    """What cannot be searched with or for is the user's error, in one line."""
    searcher = Searcher(workspace)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    wrong = [
        (lambda: searcher.search(Query(text="  ")), "the query is empty"),
        (lambda: searcher.search(Query(text="x"), target="audio"), "image, text"),
        (lambda: searcher.search(Query(text="x"), k=0), "k is 0"),
        (lambda: searcher.search(Query(file=tmp_path / "gone.png")), "cannot be read"),
        (lambda: searcher.search(Query(file=tmp_path / "broken.png")), "broken.png"),
        (lambda: searcher.search(Query(file=tmp_path / "song.mp3")), "no medium of this space"),
        (lambda: Searcher(workspace, "other"), "known: shapes"),
    ]
    for call, part in wrong:
        with pytest.raises(UserError, match=part):
            call()


def test_both_sides_of_full_text_mean_the_same_characters() -> None:
    """What is indexed as Chinese, Japanese or Korean and what a query is split by are one set of characters."""
    from storage import fulltext
    from tasks.media import text

    assert fulltext._CJK.pattern == text._CJK.pattern


def test_the_query_core_starts_light() -> None:
    """Importing the query core loads none of Prefect, torch, transformers, SciPy and scikit-learn."""
    heavy = "{'prefect', 'torch', 'transformers', 'sklearn', 'scipy'}"
    code = f"import sys, tasks.search; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
