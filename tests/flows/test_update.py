from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.errors import RunError
from config.params import PipelineParams, UpdateParams
from config.settings import Settings
from flows.pipeline import pipeline
from flows.plan import plan_update
from flows.spaces import difference, list_spaces, promote_by_hand, roll_back_by_hand
from flows.update import update
from storage import schemas
from storage.promotions import history, manifest_of
from storage.tables import Store
from storage.workspace import Workspace
from tasks.refs import Updated
from tasks.search import Query, Searcher
from tests.flows.runs import contents, params_for
from tests.tiny import draw, save_encoders

TRAIN, HELD = 48, 24


@dataclass
class Made:
    """A folder of drawn pictures with declared splits, and its workspace."""

    root: Path
    rows: list[dict[str, Any]]
    encoders: dict[str, tuple[str, ...]]

    @property
    def source(self) -> Path:
        return self.root / "shapes"

    @property
    def workspace(self) -> Workspace:
        return Workspace(root=self.root / "workspace")

    @property
    def store(self) -> Store:
        return self.workspace.store

    def write(self) -> None:
        """Write the metadata as the rows say."""
        lines = [json.dumps(row) for row in self.rows]
        (self.source / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def update(self, *overrides: str, **more: Any) -> Updated:
        return update(UpdateParams(overrides=overrides, **more))

    def answers(self) -> list[tuple[str, float]]:
        """Keys and scores of a few searches in the space in force."""
        searcher = Searcher(self.workspace)
        found = [
            searcher.search(Query(text=words), mode="vector", k=5)
            for words in ("a red circle", "blue", "the cross at the top")
        ]
        return [(hit.key, hit.score) for answer in found for hit in answer.hits]


@pytest.fixture
def made(
    prefect_server: None,
    tiny_encoders: dict[str, tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Made:
    """A collection that has been run once."""
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    one = Made(tmp_path, [], tiny_encoders)
    one.source.mkdir()
    for number in range(TRAIN + HELD):
        picture, words = draw(number)
        picture.save(one.source / f"{number:04}.png")
        split = "train" if number % 3 else "test"
        one.rows.append({"file_name": f"{number:04}.png", "caption": words, "split": split})
    one.write()
    pipeline(_params(one))
    return one


def _params(made: Made) -> PipelineParams:
    return params_for(made.source, made.encoders)


def _encoded(done: Updated) -> dict[str, int]:
    """Vectors computed, by modality."""
    out = {"image": 0, "text": 0}
    for one in done.ingested:
        for stage in one.stages:
            out[stage.modality] += stage.encoded
    return out


def _never(*_: Any) -> Any:
    raise AssertionError("a picture was opened")


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After its call no picture may be inspected or decoded."""

    def shut() -> None:
        monkeypatch.setattr("tasks.media.image.inspect", _never)
        monkeypatch.setattr("tasks.media.image.decode", _never)

    return shut


def _state(store: Store) -> dict[str, Any]:
    """All that the law of updates speaks of, and the space."""
    fleeting = ("attempts", "first_seen", "last_seen")
    tables = [name for name in store.names() if name.startswith(("embeddings_", "space_"))]
    names = [schemas.ITEMS, schemas.PAIRS, schemas.QUARANTINE, *tables]
    return {name: contents(store, name, without=fleeting) for name in names}


def test_nothing_changed_writes_nothing(made: Made, blind: Callable[[], None]) -> None:
    """An update without a change opens no picture, encodes nothing, and leaves all rows and answers as they are."""
    before, answers = _state(made.store), made.answers()
    made.update()  # the first one may still tidy up
    versions = {name: made.store.version(name) for name in made.store.names() if name != schemas.MARKS}
    blind()
    done = made.update()
    assert _encoded(done) == {"image": 0, "text": 0}
    assert {name: made.store.version(name) for name in versions} == versions
    assert _state(made.store) == before
    assert made.answers() == answers
    assert made.update(verify=False).spaces[0].decision is None


def test_a_changed_caption_costs_one_vector(made: Made, blind: Callable[[], None]) -> None:
    """A caption changed: one text is encoded, no picture is opened, two rows of the space are written."""
    made.rows[5]["caption"] = "a long black bar of the left"
    made.write()
    blind()
    plan = plan_update(Settings(), UpdateParams())
    done = made.update()
    assert _encoded(done) == {"image": 0, "text": 1}
    assert [work.vectors for work in plan.collections[0].work] == [0, 1]
    assert plan.collections[0].files_read == 0
    # the caption's own row is new (its key holds its words), the former goes, the picture's known words differ
    moved = done.spaces[0].projected
    assert (moved.projected, moved.edited, moved.removed) == (1, 1, 1)


def test_a_moved_picture_costs_no_vector(made: Made) -> None:
    """A picture under another path: nothing is encoded; the plan says moved."""
    (made.source / "0007.png").rename(made.source / "moved.png")
    made.rows[7]["file_name"] = "moved.png"
    made.write()
    plan = plan_update(Settings(), UpdateParams()).collections[0]
    assert (plan.moved, plan.added.get("image"), plan.removed.get("image")) == ({"image": 1}, None, None)
    assert [work.vectors for work in plan.work] == [0, 0]
    assert _encoded(made.update()) == {"image": 0, "text": 0}


def test_the_plan_is_what_the_update_does(made: Made) -> None:
    """Added, changed and removed pictures are planned and done in the same numbers; planning writes nothing."""
    for number in (80, 81, 82):
        picture, words = draw(number)
        picture.save(made.source / f"{number:04}.png")
        made.rows.append({"file_name": f"{number:04}.png", "caption": f"{words} of {number}", "split": "train"})
    draw(90)[0].save(made.source / "0001.png")
    del made.rows[2], made.rows[30]
    made.write()
    versions = {name: made.store.version(name) for name in made.store.names()}
    plan = plan_update(Settings(), UpdateParams()).collections[0]
    assert {name: made.store.version(name) for name in made.store.names()} == versions
    assert plan.added == {"image": 3, "text": 3}
    assert plan.changed == {"image": 1}
    assert plan.removed == {"image": 2, "text": 2}
    assert (plan.pairs_added, plan.pairs_removed) == (3, 2)
    assert plan.files_read == 4
    done = made.update()
    assert _encoded(done) == {work.modality: work.vectors for work in plan.work} == {"image": 4, "text": 3}
    assert plan_update(Settings(), UpdateParams()).collections[0].rows_waiting == 0


def test_another_picture_encoder_leaves_texts_and_the_space_in_force(
    made: Made, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A new image encoder back-fills pictures alone; the old space answers, with new items too, until a promotion."""
    import torch

    folder = tmp_path_factory.mktemp("other")
    image, _ = save_encoders(folder)
    model = next(folder.glob("vit/*.safetensors"))
    from safetensors.torch import load_file, save_file

    weights = load_file(str(model))
    torch.manual_seed(1)
    save_file({name: one + 0.02 * torch.randn_like(one) for name, one in weights.items()}, str(model), {"format": "pt"})
    former, answers = manifest_of(made.store, "shapes"), made.answers()
    assert former is not None
    texts = next(one["table"] for one in former["encoded"] if one["modality"] == "text")
    text_version = made.store.version(texts)
    encoders = json.dumps({"image": [image], "text": made.encoders["text"]})
    done = made.update(f"encode.encoders={encoders}", "gate.policy=never")
    assert _encoded(done) == {"image": TRAIN + HELD, "text": 0}
    assert made.store.version(texts) == text_version
    (decision,) = [space.decision for space in done.spaces]
    assert decision is not None
    assert decision.event == "refused"
    assert any("encoder" in reason for reason in done.spaces[0].staleness.reasons)
    now = manifest_of(made.store, "shapes")
    assert now is not None
    assert now["space"] == former["space"]
    assert made.answers() == answers
    picture, words = draw(95)
    picture.save(made.source / "0095.png")
    made.rows.append({"file_name": "0095.png", "caption": f"{words} picture", "split": "train"})
    made.write()
    done = made.update()
    assert _encoded(done) == {"image": 2, "text": 1}  # the old encoder is kept up beside the new one
    assert made.store.count(former["space"]["table"]) == 2 * (TRAIN + HELD + 1)
    candidate = next(row["space"] for row in list_spaces(made.workspace) if row["state"] == "refused")
    assert promote_by_hand(made.workspace, candidate, force=True).event == "promoted"
    again = manifest_of(made.store, "shapes")
    assert again is not None
    assert again["encoded"][0]["encoder"] == image
    assert made.answers() != answers


def test_a_worse_space_is_refused_and_a_forced_one_rolled_back(made: Made) -> None:
    """A space of shuffled training captions is refused with figures; forced in, a roll-back restores the answers."""
    answers = made.answers()
    train = [row for row in made.rows if row["split"] == "train"]
    words = [row["caption"] for row in train]
    shuffled = np.random.default_rng(0).permutation(words).tolist()
    for row, text in zip(train, shuffled, strict=True):
        row["caption"] = text
    made.write()
    done = made.update()
    (space,) = done.spaces
    assert space.staleness.changed_pairs > 0.5
    assert space.decision is not None
    assert space.decision.event == "refused"
    figures = space.decision.figures
    assert figures["difference"] < -50
    assert figures["difference_low"] < -figures["tolerance"]
    assert figures["queries"] == 2 * HELD
    kept = made.answers()
    assert [key for key, _ in kept] != []
    worse = space.decision.space_id
    assert promote_by_hand(made.workspace, worse[:6], force=False).event == "refused"
    assert promote_by_hand(made.workspace, worse[:6], force=True).event == "promoted"
    assert made.answers() != kept
    assert difference(made.workspace, worse, kept_id := space.aligned.space.space_id)["compared"]["difference"] > 50
    assert roll_back_by_hand(made.workspace, "shapes", "worse").space.space_id == kept_id
    assert made.answers() == kept
    # what a person rolled back does not come back by itself, and nothing was lost of the history
    assert made.update(refit=True).spaces[0].decision.event == "refused"  # type: ignore[union-attr]
    events = [entry.event for entry in history(made.store, "shapes")]
    assert events == ["promoted", "refused", "promoted", "rolled back", "refused"]
    assert len(answers) == len(kept)


def test_readers_see_one_version(made: Made) -> None:
    """A searcher opened before an update answers as before during and after it; one opened anew sees the new item."""
    old = Searcher(made.workspace)
    before = [hit.key for hit in old.search(Query(text="red"), mode="text", k=50).hits]
    picture, _ = draw(97)
    picture.save(made.source / "0097.png")
    made.rows.append({"file_name": "0097.png", "caption": "red picture", "split": "train"})
    made.write()
    made.update()
    assert [hit.key for hit in old.search(Query(text="red"), mode="text", k=50).hits] == before
    assert len(Searcher(made.workspace).search(Query(text="red"), mode="text", k=50).hits) == len(before) + 1


def test_two_updates_with_upkeep_keep_what_a_roll_back_needs(made: Made) -> None:
    """After promotions and upkeep the former space still answers; spaces beyond the retention are gone."""
    first = manifest_of(made.store, "shapes")
    assert first is not None
    for method in ("ridge", "procrustes", "cca"):
        made.update(f"align.method={method}", "align.dim=8", "gate.policy=always", refit=True)
    folders = {path.name for path in made.workspace.spaces.glob("*/*")}
    assert len(folders) == 2
    assert first["space"]["space_id"] not in folders
    assert not made.store.exists(first["space"]["table"])
    roll_back_by_hand(made.workspace, "shapes", "try")
    assert made.answers()


def test_a_source_that_was_cut_off_removes_nothing(made: Made) -> None:
    """Metadata that lost most of its rows stops the update before a row goes; allowed on purpose, they go."""
    rows, before = list(made.rows), _state(made.store)
    del made.rows[20:]
    made.write()
    with pytest.raises(RunError, match="seems to be cut off"):
        made.update()
    assert _state(made.store) == before
    made.update("preprocess.removal_budget=1", "refit.policy=never")
    assert made.store.count(schemas.ITEMS) == 40
    made.rows[:] = rows
    made.write()
    made.update("preprocess.removal_budget=0.5")
    assert made.store.count(schemas.ITEMS) == 2 * len(rows)
