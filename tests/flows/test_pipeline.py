from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config.errors import RunError, UserError
from config.params import AssessParams, MineParams, PipelineParams
from flows.pipeline import pipeline
from flows.spaces import list_spaces
from storage import schemas
from storage.filters import isin
from storage.spaces import load_pseudo_pairs, published
from storage.tables import Store
from storage.workspace import Workspace
from tasks.alignment.methods import METHODS
from tasks.alignment.methods.rounds import ROUNDS
from tasks.mine import mine_pairs
from tasks.refs import Outcome
from tests.flows.runs import TaskRuns, artifacts, params_for
from tests.tiny import write_collection

ROWS = 60


class Made:
    """A collection that has been run once, and what the run gave."""

    def __init__(self, root: Path, params: PipelineParams, outcome: Outcome, runs: TaskRuns) -> None:
        self.root, self.params, self.outcome, self.runs = root, params, outcome, runs

    @property
    def workspace(self) -> Workspace:
        return Workspace(root=self.root / "workspace")

    @property
    def store(self) -> Store:
        return self.workspace.store


@pytest.fixture(scope="module")
def made(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """One run of the whole pipeline for all tests of this file."""
    root = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        patch.chdir(root)
        params = params_for(write_collection(root / "shapes", ROWS), tiny_encoders)
        with TaskRuns() as runs:
            outcome = pipeline(params)
        yield Made(root, params, outcome, runs)


def test_the_tables_hold_the_collection(made: Made) -> None:
    """Every picture and caption is one item with one vector, every caption is paired with its picture."""
    assert made.store.count(schemas.ITEMS) == 3 * ROWS
    assert made.store.count(schemas.PAIRS) == 2 * ROWS
    assert made.store.count(schemas.QUARANTINE) == 0
    counts = {plan.modality: made.store.count(plan.table) for plan in made.outcome.ingested.encoded}
    assert counts == {"image": ROWS, "text": 2 * ROWS}
    assert made.store.count(made.outcome.aligned.space.table) == 3 * ROWS


def test_tasks_are_named_by_what_they_do(made: Made) -> None:
    """Task runs tell the stage, the modality and the shard; nothing was cached in a first run."""
    names = [name for name, _ in made.runs.seen]
    assert "encode image shard 1/2" in names
    assert any(name.startswith("preprocess shapes shard 1/") for name in names)
    assert {state for _, state in made.runs.seen} == {"Completed"}


def test_groups_are_not_cut(made: Made) -> None:
    """A picture and its captions stand in one split; about a fifth of the groups is held out."""
    rows = made.store.read(schemas.ITEMS, ["group", "split"]).to_pylist()
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert len(splits) == ROWS
    assert all(len(found) == 1 for found in splits.values())
    assert 4 <= sum(found == {"heldout"} for found in splits.values()) <= 24


def test_the_metrics_are_whole(made: Made) -> None:
    """metrics.json is what the run returned, in the documented form, with chance from the gallery's size."""
    metrics = made.outcome.score.metrics
    assert json.loads(Path(made.outcome.score.path).read_text()) == metrics
    assert metrics["split"] == "heldout"
    assert 0 <= metrics["rsum_raw"] <= 600
    low, high = metrics["rsum_interval"]
    assert low <= metrics["rsum"] <= high
    for name in ("image_to_text", "text_to_image"):
        report = metrics["directions"][name]
        assert set(report["raw"]) >= {
            "hit_rate@1",
            "recall@10",
            "MRR",
            "nDCG@10",
            "mAP@R",
            "R-precision",
            "median_rank",
        }
        assert report["control"]["refits"] == made.params.assess.controls
    gallery = metrics["directions"]["text_to_image"]["gallery"]
    chance = metrics["directions"]["text_to_image"]["chance"]["hit_rate@1"]["value"]
    assert chance == pytest.approx(1 / gallery)


def test_the_space_is_published_with_its_card(made: Made) -> None:
    """The collection's name leads to the space: safetensors, config, card, and no pickle."""
    name, manifest = published(made.store)
    assert name == "shapes"
    folder = Path(manifest["space"]["path"])
    assert {path.name for path in folder.iterdir()} == {
        "heads.safetensors",
        "config.json",
        "README.md",
        "metrics.json",
        "calibration.json",
        "lineage.safetensors",
    }
    assert made.params.encode.encoders["image"][0] in (folder / "README.md").read_text()


def test_the_same_run_again_does_nothing(made: Made) -> None:
    """A second run encodes no shard, every cached task says so, and its figures are the same."""
    tables = [name for name in made.store.names() if name not in (schemas.PUBLISHED, schemas.MARKS)]
    before = {name: made.store.version(name) for name in tables}
    with TaskRuns() as runs:
        again = pipeline(made.params)
    for start in ("preprocess", "encode", "fit", "evaluate"):
        assert runs.named(start)
        assert set(runs.named(start).values()) == {"Cached"}
    assert {name: made.store.version(name) for name in before} == before
    assert again.score.metrics == made.outcome.score.metrics


def test_a_changed_param_of_alignment_keeps_all_embeddings(made: Made) -> None:
    """Another method is fitted and published from the stored vectors; nothing is encoded."""
    before = {name: made.store.version(name) for name in made.store.names() if name.startswith("embeddings_")}
    with TaskRuns() as runs:
        ridge = pipeline(params_for(made.root / "shapes", made.params.encode.encoders, align={"method": "ridge"}))
    assert set(runs.named("encode").values()) == {"Cached"}
    assert set(runs.named("fit").values()) == {"Completed"}
    assert {name: made.store.version(name) for name in before} == before
    assert ridge.aligned.space.space_id != made.outcome.aligned.space.space_id
    assert ridge.score.metrics["method"] == "ridge"


def test_lost_data_is_made_again_whatever_the_cache_says(made: Made) -> None:
    """Vectors and heads deleted behind Prefect's back are computed again, though their references are cached."""
    image = next(plan for plan in made.outcome.ingested.encoded if plan.modality == "image")
    gone = made.store.strings(image.table, "content_hash")[:7]
    made.store.delete_keys(image.table, gone)
    shutil.rmtree(made.outcome.aligned.space.path)
    again = pipeline(made.params)
    assert sum(stage.encoded for stage in again.ingested.stages) == len(gone)
    assert again.score.metrics["rsum"] == made.outcome.score.metrics["rsum"]


def test_one_new_row_costs_one_row(made: Made) -> None:
    """A row added to the metadata encodes its own picture and captions, and re-fits."""
    grown = made.root / "grown"
    shutil.copytree(made.root / "shapes", grown)
    encoders = made.params.encode.encoders
    pipeline(params_for(grown, encoders))
    write_collection(grown, 1, first=70)
    again = pipeline(params_for(grown, encoders))
    assert sum(stage.encoded for stage in again.ingested.stages) == 3


def test_mined_pairs_are_written_with_provenance(made: Made) -> None:
    """Mutual neighbours among unpaired items become pairs of source mined, each with score and margin."""
    folder = write_collection(made.root / "loose", 40)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    loose = [{"file_name": row["file_name"]} for row in lines[20:]] + [
        {"text": row["captions"][0]} for row in lines[20:]
    ]
    text = "\n".join(json.dumps(row | {"split": "train"}) for row in loose)
    kept = "\n".join(json.dumps(row | {"split": "val" if i < 6 else "train"}) for i, row in enumerate(lines[:20]))
    (folder / "metadata.jsonl").write_text(kept + "\n" + text + "\n")
    outcome = pipeline(params_for(folder, made.params.encode.encoders, mine={"method": "mutual"}))
    rows = made.store.read(schemas.PAIRS, ["source", "score", "margin", "round", "method", "left", "right"]).to_pylist()
    mined = [row for row in rows if row["source"] == "mined"]
    assert len(mined) == outcome.aligned.mined > 0
    assert all(row["margin"] >= 0 and row["round"] == 1 and "csls" in row["method"] for row in mined)
    assert len({row["left"] for row in mined}) == len(mined)
    shown = str(artifacts("mined-loose")[-1].data)
    assert f"{outcome.aligned.mined:,} pairs mined; about " in shown
    found = {score: _mined(made, outcome, score) for score in ("cosine", "dot", "euclidean", "kl")}
    assert found["cosine"] == found["dot"] == found["euclidean"]  # of unit vectors all three rank alike
    assert found["kl"]


def test_unpaired_items_train_by_rounds_that_are_shown(made: Made) -> None:
    """Soft pseudo-pairs run through the flow: each round is an artifact with its verdict; auto says why it chose.

    Where a round was accepted, and only there, the space names its pseudo-pairs; card, artifact and list count them.
    """
    lines = [json.loads(line) for line in (made.root / "shapes" / "metadata.jsonl").read_text().splitlines()]
    folder = made.root / "partly"
    shutil.copytree(made.root / "shapes", folder)
    loose = [{"file_name": row["file_name"], "split": "train"} for row in lines[20:]]
    loose += [{"captions": row["captions"], "split": "train"} for row in lines[20:]]
    kept = [row | {"split": "val" if i < 10 else "train"} for i, row in enumerate(lines[:20])]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in kept + loose) + "\n")
    align = {"method": "auto", "dim": 16, "pca": 32, "heads": {"steps": 5}}
    chosen = pipeline(params_for(folder, made.params.encode.encoders, align=align)).aligned.space
    assert chosen.method in METHODS
    assert all(name in chosen.why for name in METHODS)
    soft = pipeline(params_for(folder, made.params.encode.encoders, align=align | {"method": "soft"})).aligned.space
    assert [one.number for one in soft.rounds] == list(range(1, ROUNDS + 1))
    found = {one.key: one.description or "" for one in artifacts("round-%-partly")}
    for one in soft.rounds:
        assert ("accepted" if one.accepted else "refused") in found[f"round-{one.number}-partly"]
    count = sum(one.accepted for one in soft.rounds)
    rows = load_pseudo_pairs(Path(soft.path)).to_pylist()
    assert (Path(soft.path) / "pseudo_pairs.parquet").exists() == bool(count) == bool(rows)
    (said,) = [row["pseudo-pairs"] for row in list_spaces(made.workspace) if row["space"] == soft.space_id]
    assert said == len({row["from_key"] for row in rows})
    assert (f"{said} pseudo-pairs of round {count}" in (Path(soft.path) / "README.md").read_text()) == bool(count)
    assert [f"stand on its {said}, named in" in found[f"round-{one.number}-partly"] for one in soft.rounds] == [
        one.number == count for one in soft.rounds
    ]
    where = isin("key", sorted({row[end] for row in rows for end in ("from_key", "to_key")}))
    items = {row["key"]: row for row in made.store.read(schemas.ITEMS, ["key", "modality", "split"], where).to_pylist()}
    for row in rows:
        assert {items[row[end]]["split"] for end in ("from_key", "to_key")} == {"train"}
        assert items[row["from_key"]]["modality"] == row["from_modality"] != row["to_modality"]
        assert items[row["to_key"]]["modality"] == row["to_modality"]


def _mined(made: Made, outcome: Outcome, score: str) -> set[tuple[str, str]]:
    """The pairs that the task mines by another score."""
    params = MineParams.model_validate({"method": "mutual", "score": score, "anchors": 10})
    aligned = outcome.aligned
    mine_pairs.fn(made.workspace, aligned.space, aligned.collections, aligned.encoded, params)
    rows = made.store.read(schemas.PAIRS, ["left", "right", "source", "method"]).to_pylist()
    mined = [row for row in rows if row["source"] == "mined"]
    assert all(f"mutual-{score}@1" in row["method"] for row in mined)
    return {(row["left"], row["right"]) for row in mined}


def test_a_leak_stops_a_strict_run_before_training(made: Made) -> None:
    """A picture that is saved anew and held out is no exact copy; a strict run names both and fits nothing."""
    folder = write_collection(made.root / "leaky", 20)
    Image.open(folder / "0003.png").save(folder / "again.jpg", quality=95)
    lines = [json.loads(line) | {"split": "train"} for line in (folder / "metadata.jsonl").read_text().splitlines()]
    lines.append({"file_name": "again.jpg", "captions": ["the long picture"], "split": "test"})
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    strict = {"strict": True, "near_duplicate": 0.99}
    with TaskRuns() as runs, pytest.raises(RunError, match=r"again\.jpg ~ .*\.png"):
        pipeline(params_for(folder, made.params.encode.encoders, preprocess=strict))
    assert runs.named("check duplicates")
    assert not runs.named("fit")


def test_a_split_that_is_not_there_stops(made: Made) -> None:
    """Asking for a split that the data lacks names those it has."""
    wrong = made.params.model_copy(update={"assess": AssessParams(split="test")})
    with pytest.raises(UserError, match="held-out splits: heldout"):
        pipeline(wrong)


def test_unknown_encoders_stop(made: Made) -> None:
    """An encoder that does not exist is the user's error, and names the known ones."""
    with pytest.raises(UserError, match="builtin:efficientnet-lite0"):
        pipeline(params_for(made.root / "shapes", {"image": ("builtin:nothing",), "text": ("builtin:minilm",)}))


def test_a_broken_source_stops_at_the_budget(made: Made) -> None:
    """When most files cannot be read the run stops, says why, and the published space stays."""
    folder = write_collection(made.root / "broken", 10)
    for path in sorted(folder.glob("*.png"))[:8]:
        path.write_bytes(b"not a picture")
    before = published(made.store, "shapes")
    with pytest.raises(RunError, match="not_an_image 8"):
        pipeline(params_for(folder, made.params.encode.encoders))
    assert published(made.store, "shapes") == before


def test_artifacts_are_left_in_prefect(made: Made) -> None:
    """A run leaves the table of metrics and the summary of where the time went as artifacts."""
    kinds = {(one.key, one.type) for one in artifacts("%-shapes")}
    assert {
        ("metrics-shapes", "table"),
        ("slices-shapes", "table"),
        ("headline-shapes", "markdown"),
        ("ingest-shapes", "markdown"),
        ("duplicates-shapes", "table"),
    } <= kinds
    told = [one.data for one in artifacts("ingest-shapes")]  # of all runs of the tests' server: one has encoded
    assert all("peak memory" in one for one in told)
    rows = [{line[: line.find("|", 1) + 1] for line in one.splitlines()} for one in told]
    assert any({"| encode |", "| scan |", "| prefect |"} <= one for one in rows)


def test_an_ingest_tells_what_it_took(made: Made) -> None:
    """Its seconds by stage add up to its wall time; its memory is that of a Python process, its queue bounded."""
    done = made.outcome.ingested
    assert done.usage is not None
    assert sum(done.usage.spent_seconds.values()) == pytest.approx(done.usage.wall_seconds, rel=0.01)
    assert done.usage.spent_seconds.keys() >= {"scan", "preprocess", "group", "plan", "encode", "prefect"}
    assert 50e6 < done.usage.peak_bytes < 50e9
    for stage in done.stages:
        assert stage.starved_seconds + stage.blocked_seconds + stage.encode_seconds <= stage.wall_seconds
        assert 0 <= stage.ready_batches <= 4


def test_heads_rank_better_than_chance_on_what_they_saw(made: Made) -> None:
    """On the training pairs the projected captions lie nearer to their own picture than to the mean other."""
    aligned = made.outcome.aligned
    rows = made.store.read(aligned.space.table, ["key", "vector", "modality"]).to_pylist()
    vectors = {row["key"]: np.asarray(row["vector"]) for row in rows}
    pairs = [
        row for row in made.store.read(schemas.PAIRS, ["left", "right", "source"]).to_pylist() if row["left"] in vectors
    ]
    own = np.mean([vectors[row["left"]] @ vectors[row["right"]] for row in pairs])
    others = np.mean([vectors[a["left"]] @ vectors[b["right"]] for a, b in zip(pairs, pairs[11:], strict=False)])
    assert own > others + 0.1
