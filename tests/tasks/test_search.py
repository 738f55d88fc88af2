from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.errors import UserError
from flows import cli
from flows.pipeline import pipeline
from storage import schemas
from storage.errors import StorageError
from storage.filters import eq
from storage.fulltext import reciprocal_rank_fusion
from storage.spaces import CALIBRATION, read_json, write_json
from storage.workspace import Workspace
from tasks.conditions import parse
from tasks.encoders.image_encoder import ImageEncoder
from tasks.encoders.protocol import Encoded
from tasks.encoders.runtime import has_amx
from tasks.media.registry import MediaError
from tasks.metrics.calibration import LEVELS, Calibration, Curve
from tasks.search import Item, Mode, Query, Searcher
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


def keys_of(workspace: Workspace, modality: str) -> list[str]:
    """All items of a modality in the space."""
    table = Searcher(workspace)._manifest["space"]["table"]
    return sorted(workspace.store.strings(table, "key", eq("modality", modality)))


def queries_of(workspace: Workspace) -> list[Query]:
    """One query of every kind."""
    picture = workspace.root.parent / "shapes" / "0003.png"
    (item, *_) = keys_of(workspace, "image")
    vector = np.random.default_rng(0).normal(size=16).astype(np.float32)
    return [
        Query(text="a red circle"),
        Query(text="绿色方块"),
        Query(file=picture),
        Query(item=item),
        Query(text="at the top", item=item),
        Query(text="at the top", file=picture, text_weight=0.2),
        Query(vector=vector),
        Query(vector=vector, modality="text"),
    ]


@pytest.mark.parametrize("how", [{}, {"fold": True}, {"hubness": False}, {"where": parse(["price<30"])}], ids=str)
def test_pages_are_one_list(workspace: Workspace, how: dict[str, Any]) -> None:
    """Page after page gives the one long list, no hit twice, and says that more follow as long as some do."""
    searcher = Searcher(workspace)
    for query in queries_of(workspace):
        whole = searcher.search(query, target="text", k=100, **how)
        pages = [searcher.search(query, target="text", k=7, offset=offset, **how) for offset in range(0, 91, 7)]
        assert [hit for page in pages for hit in page.hits] == whole.hits
        assert len({hit.key for hit in whole.hits}) == len(whole.hits)
        assert [page.more for page in pages] == [len(whole.hits) > page.offset + 7 for page in pages]
        assert not whole.more


def test_a_batch_answers_as_singles_do(workspace: Workspace) -> None:
    """Queries of all kinds together have the hits that each has alone, with the same scores to the last bit."""
    searcher = Searcher(workspace)
    queries = queries_of(workspace) * 10  # more than are asked at once
    for answer, query in zip(searcher.search_many(queries, k=12), queries, strict=True):
        alone = searcher.search(query, k=12)
        assert (answer.query, answer.target, answer.mode) == (alone.query, alone.target, alone.mode)
        assert [(hit.key, hit.score) for hit in answer.hits] == [(hit.key, hit.score) for hit in alone.hits]
    assert searcher.search_many([]) == []


def test_a_text_beside_a_medium(workspace: Workspace) -> None:
    """At a weight of 0 or 1 it is the medium or the text alone; between them the normalised sum of both vectors."""
    searcher = Searcher(workspace)
    picture, words = workspace.root.parent / "shapes" / "0003.png", "a green bar"
    for weight, pure in ((0.0, Query(file=picture)), (1.0, Query(text=words))):
        mixed = searcher.search(Query(text=words, file=picture, text_weight=weight), target="image", k=20)
        assert mixed == searcher.search(pure, target="image", k=20)
    (text, _), (image, _) = searcher.embed(Query(text=words)), searcher.embed(Query(file=picture))
    both, modality = searcher.embed(Query(text=words, file=picture, text_weight=0.25))
    total = 0.25 * text + 0.75 * image
    assert both == pytest.approx(total / np.linalg.norm(total), abs=1e-6)
    assert modality == "image"
    assert searcher.search(Query(text=words, file=picture)).target == "image"


def test_an_item_does_not_find_itself(workspace: Workspace) -> None:
    """The hits of an item among its own modality are all others, ranked as its vector ranks them."""
    searcher = Searcher(workspace)
    keys = keys_of(workspace, "image")
    for key in keys[:5]:
        hits = searcher.search(Query(item=key), target="image", k=100).hits
        assert sorted(hit.key for hit in hits) == [one for one in keys if one != key]
        vector, _ = searcher.embed(Query(item=key))
        given = searcher.search(Query(vector=vector, modality="image"), target="image", k=100).hits
        assert [hit.key for hit in hits] == [hit.key for hit in given if hit.key != key]


def test_without_the_correction_the_cosine_ranks(workspace: Workspace) -> None:
    """Without hubness correction, and for a vector of unknown modality, scores are cosines and the order is theirs."""
    searcher = Searcher(workspace)
    rows = workspace.store.read(searcher._manifest["space"]["table"], ["key", "modality", "vector"]).to_pylist()
    vector, _ = searcher.embed(Query(text="a red circle"))
    cosines = {row["key"]: float(np.dot(row["vector"], vector)) for row in rows if row["modality"] == "image"}
    for query, hubness in ((Query(text="a red circle"), False), (Query(vector=3 * vector), True)):
        hits = searcher.search(query, target="image", k=40, mode="vector", hubness=hubness).hits
        assert [hit.score for hit in hits] == pytest.approx(sorted(cosines.values(), reverse=True), abs=1e-5)
        assert all(hit.score == hit.similarity == pytest.approx(cosines[hit.key], abs=1e-5) for hit in hits)


def test_folding_loses_no_item(workspace: Workspace) -> None:
    """Every item is a hit or listed under one that is nearly the same; no two hits are nearly the same."""
    searcher = Searcher(workspace)
    table = next(one["table"] for one in searcher._manifest["encoded"] if one["modality"] == "image")
    rows = workspace.store.read(searcher._manifest["space"]["table"], ["key", "content_hash"]).to_pylist()
    contents = {row["key"]: row["content_hash"] for row in rows}
    vectors = {key: workspace.store.vectors(table, [contents[key]])[0][0] for key in keys_of(workspace, "image")}
    near = 0.92  # what the collection was recorded with, by default
    plain = searcher.search(Query(text="a red circle"), target="image", k=100).hits
    folded = searcher.search(Query(text="a red circle"), target="image", k=100, fold=True).hits
    assert len(folded) < len(plain)
    assert [hit.key for hit in plain if hit.key in {one.key for one in folded}] == [hit.key for hit in folded]
    listed = [key for hit in folded for key in (hit.key, *(one.key for one in hit.folded))]
    assert sorted(listed) == sorted(hit.key for hit in plain)
    for place, hit in enumerate(folded):
        for one in hit.folded:
            assert vectors[hit.key] @ vectors[one.key] >= near - 1e-5
        for other in folded[:place]:
            assert vectors[hit.key] @ vectors[other.key] < near + 1e-5


def test_conditions_bound_the_hits(workspace: Workspace) -> None:
    """With conditions on attributes, Chinese ones too, hits are those that fulfil them, in the order of all hits."""
    searcher = Searcher(workspace)
    picture = workspace.root.parent / "shapes" / "0003.png"
    asked: list[tuple[Query, Mode]] = [
        (Query(text="a red circle"), "text"),
        (Query(text="圆"), "text"),
        (Query(text="圆"), "vector"),
        (Query(file=picture), "auto"),
    ]
    for query, mode in asked:
        everything = searcher.search(query, target="image", k=100, mode=mode).hits
        where = parse(["title=红色的圆", "price>=10"])
        found = searcher.search(query, target="image", k=100, mode=mode, where=where).hits
        expected = [
            hit.key for hit in everything if hit.attributes["title"] == "红色的圆" and hit.attributes["price"] >= 10
        ]
        assert (sorted if mode == "text" else list)(hit.key for hit in found) == (  # words that fit alike tie
            sorted(expected) if mode == "text" else expected
        )
    with pytest.raises(UserError, match="no item has an attribute 'prize'"):
        searcher.search(Query(text="x"), where=parse(["prize=3"]))


def test_evidence_is_the_best_of_all_training_pairs(workspace: Workspace) -> None:
    """The pairs behind a hit have the largest product of cosines, (query, one end) and (hit, the other), by plain loops
    over all given pairs of the training split; each item stands in one of them.
    """
    searcher = Searcher(workspace)
    columns = ["key", "split", "vector"]
    rows = workspace.store.read(searcher._manifest["space"]["table"], columns).to_pylist()
    vectors = {row["key"]: np.asarray(row["vector"]) for row in rows if row["split"] == "train"}
    pairs = workspace.store.read(schemas.PAIRS, ["left", "right"]).to_pylist()
    query = Query(text="a red circle")
    asked, _ = searcher.embed(query)
    for hit in searcher.search(query, target="image", k=3).hits:
        own, _ = searcher.embed(Query(item=hit.key))
        scored = {
            (pair["right"], pair["left"]): max(0.0, float(vectors[pair["right"]] @ asked))
            * max(0.0, float(vectors[pair["left"]] @ own))
            for pair in pairs
            if {pair["left"], pair["right"]} <= vectors.keys()
        }
        best: list[tuple[str, str]] = []
        for pair in sorted(scored, key=lambda pair: -scored[pair]):
            if len(best) < 3 and not {key for one in best for key in one} & set(pair):
                best.append(pair)
        found = searcher.why(query, hit.key)
        assert [one.score for one in found] == pytest.approx([scored[pair] for pair in best], abs=1e-5)
        for one in found:
            assert scored[one.near_query.key, one.near_hit.key] == pytest.approx(one.score, abs=1e-5)
            assert one.score == pytest.approx(one.query_similarity * one.hit_similarity, abs=1e-6)


def test_evidence_within_a_modality(workspace: Workspace) -> None:
    """Of two texts the evidence are training texts of one picture, one like the query, the other like the hit."""
    searcher = Searcher(workspace)
    pairs = workspace.store.read(schemas.PAIRS, ["left", "right"]).to_pylist()
    picture_of = {pair["right"]: pair["left"] for pair in pairs}
    (hit, *_) = searcher.search(Query(text="a red circle"), target="text", k=1).hits
    found = searcher.why(Query(text="a red circle"), hit.key)
    assert found
    for one in found:
        assert one.near_query.key != one.near_hit.key
        assert picture_of[one.near_query.key] == picture_of[one.near_hit.key]


def test_an_item_is_known_with_its_pairs(workspace: Workspace) -> None:
    """An item tells its file, its split, and what given pairs join it with."""
    searcher = Searcher(workspace)
    (hit,) = searcher.search(Query(text="a red circle"), target="image", k=1).hits
    known = searcher.item(hit.key)
    assert (known.key, known.path, known.attributes) == (hit.key, hit.path, hit.attributes)
    words = {one.text for one in known.pairs}
    assert len(words) == 2
    assert all(one.modality == "text" and one.text in hit.text for one in known.pairs)
    with pytest.raises(UserError, match="holds no item"):
        searcher.item("../../etc/passwd")


def test_media_lie_inside_their_collection(workspace: Workspace, tmp_path: Path) -> None:
    """The file of an item is given only where it lies in the collection's folder, whatever links or names say."""
    searcher = Searcher(workspace)
    items = {hit.uri: hit for hit in searcher.search(Query(text="a red circle"), target="image", k=100).hits}
    root = (workspace.root.parent / "shapes").resolve()
    assert searcher.media_path(items["0003.png"].key) == root / "0003.png"
    for text in keys_of(workspace, "text")[:1]:
        with pytest.raises(UserError, match="is no file"):
            searcher.media_path(text)
    for key in ("../0003.png", "0003.png", "x' OR '1'='1"):
        with pytest.raises(UserError, match="holds no item"):
            searcher.media_path(key)
    (tmp_path / "secret.png").write_bytes(b"secret")
    moved = root / "0003.png"
    content = moved.read_bytes()
    try:
        moved.unlink()
        with pytest.raises(UserError, match="no such file"):
            searcher.media_path(items["0003.png"].key)
        moved.symlink_to(tmp_path / "secret.png")
        with pytest.raises(UserError, match="out of the collection"):
            searcher.media_path(items["0003.png"].key)
        moved.unlink()
        moved.symlink_to(root / "0004.png")
        assert searcher.media_path(items["0003.png"].key) == root / "0004.png"
    finally:
        moved.unlink(missing_ok=True)
        moved.write_bytes(content)
    hit = items["0003.png"]
    for uri in ("../metadata.jsonl", "../../secret.png", str(tmp_path / "secret.png")):
        (root.parent / "metadata.jsonl").write_text("x")
        row = Item(hit.key, "image", hit.collection, uri, "", {}, "")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(searcher, "_items", lambda keys, row=row: {row.key: (row, "")})
            with pytest.raises(UserError, match=r"out of the collection|no such file"):
                searcher.media_path(hit.key)


def test_threads_share_a_searcher(workspace: Workspace) -> None:
    """Eight threads that begin at once on a fresh searcher get the answers that one thread gets."""
    queries = queries_of(workspace) * 4
    expected = [Searcher(workspace).search(query, k=5, fold=True) for query in queries]
    shared = Searcher(workspace)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda query: shared.search(query, k=5, fold=True), queries))
    assert found == expected


def test_what_is_no_query(workspace: Workspace) -> None:
    """A query that says nothing, too much, or what the space cannot take is the user's error."""
    searcher = Searcher(workspace)
    key = keys_of(workspace, "image")[0]
    wrong: list[tuple[Callable[[], object], str]] = [
        (Query, "a query is a text"),
        (lambda: Query(item="a", vector=np.ones(16, np.float32)), "a query is a text"),
        (lambda: Query(text="a", item="b", text_weight=1.5), "weight"),
        (lambda: searcher.search(Query(item="x' OR '1'='1")), "holds no item"),
        (lambda: searcher.search(Query(vector=np.zeros(16, np.float32))), "no direction"),
        (lambda: searcher.search(Query(vector=np.full(16, np.nan, np.float32))), "no direction"),
        (lambda: searcher.search(Query(vector=np.ones(3, np.float32))), "no direction"),
        (lambda: searcher.search(Query(vector=np.ones(16, np.float32), modality="audio")), "no 'audio'"),
        (lambda: searcher.search(Query(item=key), mode="hybrid"), "needs words"),
        (lambda: searcher.search(Query(text="x"), offset=-1), "ask for 1 to 1000"),
        (lambda: searcher.search(Query(text="x"), k=1_000, offset=1), "ask for 1 to 1000"),
        (lambda: searcher.why(Query(vector=np.ones(16, np.float32)), key), "not known"),
    ]
    for call, part in wrong:
        with pytest.raises(UserError, match=part):
            call()


def call(*words: str) -> int | str | None:
    """Run `modalign` in this process; give its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return ended.value.code


def test_a_file_of_queries(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts, CSV and JSON lines are answered a line each; a bad one is named by its line; JSON is one object a line."""
    where = ["-w", str(workspace.root), "--to", "image", "-k", "3"]
    (tmp_path / "0003.png").write_bytes((workspace.root.parent / "shapes" / "0003.png").read_bytes())
    (tmp_path / "words.txt").write_text("a red circle\n\n绿色方块\n", encoding="utf-8")
    (tmp_path / "rows.csv").write_text('text,file\n"a bar, blue",\nat the top,0003.png\n')
    (tmp_path / "rows.jsonl").write_text('{"file": "0003.png"}\n{"text": "red"}\n')
    for name, texts in (
        ("words.txt", ["a red circle", "绿色方块"]),
        ("rows.csv", ["a bar, blue", f"at the top + {tmp_path / '0003.png'}"]),
        ("rows.jsonl", [str(tmp_path / "0003.png"), "red"]),
    ):
        assert call("search", "--queries", str(tmp_path / name), "--json", *where) == 0
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [answer["query"] for answer in answers] == texts
        assert [len(answer["hits"]) for answer in answers] == [3, 3]
    assert call("search", "--queries", str(tmp_path / "words.txt"), *where) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    for name, text, part in (
        ("gone.csv", "file\nnothing.png\n", "gone.csv:2: there is no file"),
        ("none.csv", "words\nred\n", "no column text, file or item"),
        ("bad.jsonl", '{"text": "red"}\n{"text"\n', "bad.jsonl:2: this is no JSON object"),
        ("empty.jsonl", "{}\n", "empty.jsonl:1: a query is"),
    ):
        (tmp_path / name).write_text(text)
        assert call("search", "--queries", str(tmp_path / name), *where) == 2
        assert part in capsys.readouterr().err


def test_the_command_line_asks_for_pages_conditions_and_reasons(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--offset`, `--where`, `--item`, `--fold`, `--no-hubness` and `--why` are those of the core; so it is shown."""
    where = ["-w", str(workspace.root), "--to", "image"]
    page = ["-k", "2", "--offset", "2", "--where", "price<30"]
    assert call("search", "a red circle", *page, "--why", "--json", *where) == 0
    answer = json.loads(capsys.readouterr().out)
    searcher = Searcher(workspace)
    query, conditions = Query(text="a red circle"), parse(["price<30"])
    expected = searcher.search(query, target="image", k=2, offset=2, where=conditions)
    assert [hit["key"] for hit in answer["hits"]] == [hit.key for hit in expected.hits]
    assert answer["more"]
    scores = [[one["score"] for one in hit["why"]] for hit in answer["hits"]]
    assert scores == [pytest.approx([one.score for one in searcher.why(query, hit.key)]) for hit in expected.hits]
    key = answer["hits"][0]["key"]
    assert call("search", "--item", key, "-k", "2", "--no-hubness", "--why", *where[:2], "--to", "text") == 0
    shown = capsys.readouterr().out
    assert "↔" in shown
    assert "more: --offset 2" in shown
    assert call("search", "a red circle", "--fold", "--json", *where) == 0
    (first, *_) = json.loads(capsys.readouterr().out)["hits"]
    folded = searcher.search(query, target="image", fold=True).hits[0].folded
    assert [one["key"] for one in first["folded"]] == [one.key for one in folded]


@pytest.mark.skipif(has_amx(), reason="torch encodes texts on this CPU")
def test_a_cold_search_by_words_loads_no_framework(workspace: Workspace) -> None:
    """`modalign search TEXT` in a fresh process imports none of torch, transformers, pandas and Prefect."""
    words = ["search", "a red circle", "--to", "image", "-k", "1", "-w", str(workspace.root)]
    code = f"""
import sys
from flows.cli import main
try:
    main({words!r})
except SystemExit:
    print(sorted({{'prefect', 'torch', 'transformers', 'sklearn', 'scipy', 'pandas'}} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(hybrid)" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


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
