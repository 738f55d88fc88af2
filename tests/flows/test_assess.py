from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from config.errors import UserError
from config.params import AssessParams
from flows import cli
from flows.pipeline import pipeline
from flows.tables import show_metrics
from storage.filters import eq
from storage.workspace import Workspace
from tasks.calibrate import calibrate, candidates
from tasks.heldout import Measured, both_ways
from tasks.metrics import bootstrap, calibration
from tasks.refs import Outcome
from tasks.slicing import labels_of, slices
from tests.flows.runs import params_for
from tests.tiny import write_collection

ROWS = 80
Made = tuple[Workspace, Outcome]


@pytest.fixture(scope="module")
def made(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """A space over 80 pictures: 28 for training, 22 in val, 30 in test, of which the 15 odd ones are misnamed."""
    root = tmp_path_factory.mktemp("assess")
    folder = write_collection(root / "shapes", ROWS)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for place, row in enumerate(np.random.default_rng(0).permutation(ROWS).tolist()):
        split = "train" if place < 28 else "val" if place < 50 else "test"
        lines[row] |= {"split": split, "odd": "yes" if split == "test" and place % 2 else "no", "number": row}
    odd = [row for row in lines if row["odd"] == "yes"]
    swapped = [row["captions"] for row in odd]
    for row, words in zip(odd, swapped[1:] + swapped[:1], strict=True):
        row["captions"] = words
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        patch.chdir(root)
        assess = {"slice_groups": 10, "draws": 400}
        yield Workspace(root=root / "workspace"), pipeline(params_for(folder, tiny_encoders, assess=assess))


def test_a_planted_weakness_is_found(made: Made) -> None:
    """Queries whose texts are swapped are the slice that is flagged, in both directions together first of all."""
    rows = made[1].score.metrics["slices"]
    weak = [row for row in rows if row["verdict"] == "weak"]
    assert weak
    assert {(row["attribute"], row["value"]) for row in weak} == {("odd", "yes")}
    assert {row["attribute"] for row in rows} == {"odd", "text length", "file size"}
    assert all(row["gap"] is None for row in rows if row["groups"] < 10)


def test_slices_are_those_of_the_items(made: Made) -> None:
    """Each query has the attributes of its own row, the script and length of its text, the size of its file."""
    workspace, outcome = made
    aligned = outcome.aligned
    folder = workspace.root.parent / "shapes"
    lines = {row["file_name"]: row for row in map(json.loads, (folder / "metadata.jsonl").read_text().splitlines())}
    for way in both_ways(workspace.store, aligned.space, aligned.collections, "test"):
        known = labels_of(workspace.store, aligned.collections, way, "test")
        rows = workspace.store.read("items", ["key", "uri", "text"], eq("modality", way.query.modality)).to_pylist()
        by_key = {row["key"]: row for row in rows}
        for place, key in enumerate(way.query.keys[way.asked].tolist()):
            item = by_key[key]
            line = (
                lines[item["uri"]] if item["uri"] else next(r for r in lines.values() if item["text"] in r["captions"])
            )
            assert known["odd"][place] == line["odd"]
            assert known["number"][place] == str(line["number"])
            size = len(item["text"]) if item["text"] else (folder / item["uri"]).stat().st_size
            low, high = known["text length" if item["text"] else "file size"][place].replace(",", "").split(" – ")
            assert int(low) <= size <= int(high)
            assert not item["text"] or known["script"][place] == "Latin"


def test_named_attributes_are_sliced(made: Made) -> None:
    """Params name the attributes, however many values they have; one that no query has is the user's error."""
    workspace, outcome = made
    aligned = outcome.aligned
    ways = both_ways(workspace.store, aligned.space, aligned.collections, "test")
    weights = bootstrap.group_weights(30, 100, 0)
    rows = slices(workspace.store, aligned, [Measured(ways, "test", weights)], AssessParams(slices=("number",)))
    assert {row["attribute"] for row in rows} == {"number"}
    assert len(rows) == 3 * 30
    with pytest.raises(UserError, match=r"colour.*number, odd"):
        slices(workspace.store, aligned, [Measured(ways, "test", weights)], AssessParams(slices=("colour",)))


def test_first_answers_are_those_of_a_full_search(made: Made) -> None:
    """The candidates of each query are the nearest 50 of all items, the best by 2·cos − r(query) − r(item) first."""
    workspace, outcome = made
    aligned = outcome.aligned
    for way in both_ways(workspace.store, aligned.space, aligned.collections, "test"):
        found, random = candidates(workspace.store, aligned.space, way, 0)
        columns = ["key", "vector", f"hubness_{way.query.modality}"]
        items = workspace.store.read(aligned.space.table, columns, eq("modality", way.gallery.modality)).to_pylist()
        own = way.query.hubness[way.gallery.modality][way.asked]
        for number, vector in enumerate(way.vectors):
            known = {way.gallery.keys[place] for place in way.relevant[number] if place >= 0}
            scored = []
            for item in items:
                cosine = float(np.dot(item["vector"], vector))
                score = 2 * cosine - item[columns[2]] - own[number]
                scored.append((cosine, -score, item["key"] in known))
            scored = sorted(one[1:] for one in sorted(scored, reverse=True)[:50])
            assert found.scores[number] == pytest.approx([-score for score, _ in scored[:10]], abs=1e-5)
            assert found.right[number].sum() == sum(right for _, right in scored[:10])
        assert len(random) >= 20_000


def test_the_fit_is_on_val(made: Made) -> None:
    """Measured on test, what scores mean is fitted on val: the probabilities reported are those of the kept curve."""
    workspace, outcome = made
    aligned = outcome.aligned
    kept = json.loads((Path(aligned.space.path) / "calibration.json").read_text())["directions"]
    for way in both_ways(workspace.store, aligned.space, aligned.collections, "test"):
        told = outcome.score.metrics["directions"][way.name]["calibration"]
        assert (told["fitted_on"], kept[way.name]["fitted_on"]) == ("split val", "val")
        assert told["gallery"] == len(workspace.store.strings(
            aligned.space.table, "key", eq("modality", way.gallery.modality)))  # fmt: skip
        found, _ = candidates(workspace.store, aligned.space, way, 0)
        p = calibration.Calibration.from_json(kept[way.name]).probability(found.scores)[:, 0]
        right = found.right[:, 0]
        assert told["first"]["right"] == pytest.approx(right.mean())
        assert told["first"]["after"]["brier"]["value"] == pytest.approx(float(np.mean((p - right) ** 2)))
        open_, whole = told["ambiguity"], len(found.groups)
        assert open_["share"]["value"] == pytest.approx(open_["ambiguous"]["queries"] / whole)
        parts = [open_[name] for name in ("ambiguous", "clear") if open_[name]["queries"]]
        hits = sum(one["queries"] * one["hit_rate@1"]["value"] for one in parts)
        assert hits / whole == pytest.approx(right.mean())


def test_without_val_the_halves_tell_each_other(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else is held out the figures are cross-fitted; with too few groups there are none, and a reason."""
    workspace, outcome = made
    alone = outcome.aligned.groups.model_copy(update={"splits": {"train": 28, "test": 30}})
    aligned = outcome.aligned.model_copy(update={"groups": alone})
    ways = both_ways(workspace.store, aligned.space, aligned.collections, "test")
    weights = bootstrap.group_weights(30, 100, 0)
    figures, kept = calibrate(workspace.store, aligned, ways, "test", weights, AssessParams())
    assert {one["reason"].partition(",")[0] for one in figures.values()} == {"15 groups of queries"}
    assert kept == {}
    monkeypatch.setattr(calibration, "LEAST_GROUPS", 10)
    monkeypatch.setattr(calibration, "LEAST_RIGHT", 1)
    figures, kept = calibrate(workspace.store, aligned, ways, "test", weights, AssessParams())
    for way in ways:
        assert figures[way.name]["fitted_on"] == "the other half of the groups"
        found, random = candidates(workspace.store, aligned.space, way, 0)
        p, _ = calibration.cross_fitted(found, random, 0)
        brier = figures[way.name]["hits"]["after"]["brier"]["value"]
        assert brier == pytest.approx(float(np.mean((p - found.right) ** 2)))
    assert set(kept) == {way.name for way in ways}


def test_several_right_answers_are_shown(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture has two captions: mAP@R and R-precision, by hand, stand in its part of the table, and not in theirs."""
    workspace, outcome = made
    metrics, aligned = outcome.score.metrics, outcome.aligned
    way = next(
        one
        for one in both_ways(workspace.store, aligned.space, aligned.collections, "test")
        if one.name == "image_to_text"
    )
    precision, mean = [], []
    for number, vector in enumerate(way.vectors):
        scores = 2 * way.gallery.vectors @ vector - way.gallery.hubness["image"]
        right = set(way.relevant[number].tolist())
        order = sorted(range(len(scores)), key=lambda place: (-scores[place], place in right))
        hit = [place in right for place in order[: len(right)]]
        precision.append(sum(hit) / len(right))
        mean.append(sum(sum(hit[: n + 1]) / (n + 1) for n in range(len(right)) if hit[n]) / len(right))
    report = metrics["directions"]["image_to_text"]
    assert report["relevant"] == 2
    assert metrics["directions"]["text_to_image"]["relevant"] == 1
    assert report["R-precision"]["value"] == pytest.approx(np.mean(precision))
    assert report["mAP@R"]["value"] == pytest.approx(np.mean(mean))
    show_metrics(metrics)
    shown = capsys.readouterr().out
    assert shown.count("R-precision") == shown.count("mAP@R") == 1
    assert "2.0 right" in shown


def test_weakness_and_meaning_are_shown(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """`evaluate` shows the flagged slice and what scores mean; `search` the probability; --json has all of it."""
    workspace, outcome = made
    show_metrics(outcome.score.metrics)
    shown = capsys.readouterr().out
    assert "odd: yes" in shown
    assert "a first hit is right in" in shown
    where = ("-w", str(workspace.root))
    picture = str(workspace.root.parent / "shapes" / "0003.png")
    with pytest.raises(SystemExit, match="0"):
        cli.main(["search", "--file", picture, "-k", "3", *where])
    shown = capsys.readouterr().out
    assert "%" in shown
    assert "exact: how likely" in shown
    assert "percentile" in shown
    with pytest.raises(SystemExit, match="0"):
        cli.main(["search", "--file", picture, "-k", "3", "--json", *where])
    told = json.loads(capsys.readouterr().out)
    assert all(0 < hit["probability"] < 1 and 0 <= hit["percentile"] <= 100 for hit in told["hits"])
    assert told["alike"] >= 0
