from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from config.errors import UserError
from config.params import KeepParams, PipelineParams, UpdateParams
from flows.gc import gc
from flows.pipeline import pipeline
from flows.spaces import promote_by_hand
from flows.train_encoders import finetune, lsa
from flows.update import update
from storage import catalog, schemas
from storage.filters import eq
from storage.promotions import history, manifest_of
from storage.tables import Store
from storage.workspace import Workspace
from tasks.encoders.automodel_names import encoder_folder
from tasks.encoders.origin import read_origin
from tasks.encoders.registry import load, resolve
from tasks.refs import Aligned, TrainedOutcome
from tasks.search import Query, Searcher
from tests.flows.runs import params_for
from tests.flows.test_cli_changes import Terminal
from tests.tiny import draw, save_encoders

TRAIN, HELD = 48, 24
LEARNS = (
    *("finetune.blocks=1", "finetune.steps=9", "finetune.batch=32", "finetune.rate=0.03", "finetune.head_rate=0.01"),
    "finetune.held=0.3",
)


@dataclass(frozen=True)
class Made:
    """A collection that has been run once, and the encoders that it was run with."""

    workspace: Workspace
    encoders: dict[str, tuple[str, ...]]

    @property
    def store(self) -> Store:
        return self.workspace.store

    @property
    def in_force(self) -> Aligned:
        return Aligned.model_validate(manifest_of(self.store, "shapes"))

    @property
    def recorded(self) -> dict[str, tuple[str, ...]]:
        """Encoders of later updates."""
        (row,) = catalog.collections(self.store)
        return PipelineParams.model_validate_json(row["params"]).encode.encoders

    def table(self, modality: str) -> str:
        return next(one.table for one in self.in_force.encoded if one.modality == modality)


@pytest.fixture
def made(prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """72 drawn pictures with captions; the last block of the text encoder lets little through: it has to learn."""
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    image, text = save_encoders(tmp_path)
    path = tmp_path / "bert" / "model.safetensors"
    weights = load_file(str(path))
    weights["encoder.layer.1.output.LayerNorm.weight"][2:] *= 1e-3
    save_file(weights, str(path), {"format": "pt"})
    (tmp_path / "shapes").mkdir()
    lines = []
    for number in range(TRAIN + HELD):
        picture, words = draw(number)
        picture.save(tmp_path / "shapes" / f"{number:04}.png")
        split = "train" if number % 3 else "test"
        lines.append(json.dumps({"file_name": f"{number:04}.png", "caption": words, "split": split}))
    (tmp_path / "shapes" / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    encoders = {"image": (image,), "text": (text,)}
    pipeline(params_for(tmp_path / "shapes", encoders))
    return Made(Workspace(root=tmp_path / "workspace"), encoders)


def encoded(done: TrainedOutcome) -> dict[str, int]:
    """Vectors computed, by modality."""
    return dict(sum((Counter({stage.modality: stage.encoded}) for stage in done.stages), Counter()))


def test_a_better_encoder_takes_over(made: Made) -> None:
    """Fine-tuned, the encoder is a folder with a fingerprint of its own; texts alone are encoded, the gate promotes it
    with its figures, searches and later updates use it, and upkeep leaves it.
    """
    images, texts = made.table("image"), made.table("text")
    versions = {name: made.store.version(name) for name in (images, texts)}
    done = finetune(UpdateParams(overrides=LEARNS))
    name = done.trained.encoder
    assert name is not None
    assert encoder_folder(name).parent == made.workspace.encoders
    assert done.decision is not None
    assert done.decision.event == "promoted"
    assert done.decision.figures["difference"] > 0
    assert encoded(done) == {"text": TRAIN + HELD}
    assert {one: made.store.version(one) for one in versions} == versions
    assert made.table("image") == images
    assert made.table("text") != texts
    assert made.recorded == {"image": made.encoders["image"], "text": (name,)}
    origin = read_origin(encoder_folder(name))
    assert origin is not None
    assert origin.base == made.encoders["text"][0]
    assert origin.how["after"] > origin.how["before"]  # type: ignore[operator]
    assert resolve(name).seen.endswith("fine-tuned on the training pairs of shapes")
    rows = made.store.read(schemas.ITEMS, ["content_hash", "text"], eq("modality", "text")).to_pydict()
    stored, _ = made.store.vectors(made.table("text"), rows["content_hash"])
    np.testing.assert_array_equal(
        load(resolve(name), models_dir=made.workspace.models).encode(rows["text"]).vectors, stored
    )
    again = update(UpdateParams())
    assert not [stage for one in again.ingested for stage in one.stages]
    assert again.spaces[0].decision is None
    gc(KeepParams())
    assert Searcher(made.workspace).search(Query(text="a red circle"), mode="vector", k=3).hits


def test_no_better_encoder_is_not_written(made: Made) -> None:
    """Steps too small to change anything: no encoder, no vectors, no space, whether asked once or twice."""
    before = made.in_force
    for _ in range(2):
        done = finetune(UpdateParams(overrides=(*LEARNS, "finetune.rate=1e-30")))
        assert (done.trained.encoder, done.stages, done.decision) == (None, (), None)
        assert "nothing is kept" in done.trained.why
    assert not list(made.workspace.encoders.glob("*"))
    assert made.in_force == before
    assert made.recorded == made.encoders


def test_a_refused_encoder_waits_for_a_person(made: Made) -> None:
    """Refused, it changes nothing for searches and updates; upkeep leaves it with its vectors, so that `promote` takes
    it up; once another space is the last word, both go.
    """
    before = made.in_force
    done = finetune(UpdateParams(overrides=(*LEARNS, "gate.policy=never")))
    name = done.trained.encoder
    assert name is not None
    assert done.decision is not None
    assert done.decision.event == "refused"
    assert made.recorded == made.encoders
    assert made.in_force.space == before.space
    update(UpdateParams())
    assert encoder_folder(name).is_dir()
    assert promote_by_hand(made.workspace, done.decision.space_id, force=True).event == "promoted"
    assert made.table("text") in made.store.names()
    assert Searcher(made.workspace).search(Query(text="a red circle"), mode="vector", k=3).hits
    for method in ("ridge", "procrustes"):
        update(UpdateParams(overrides=(f"align.method={method}", "gate.policy=always"), refit=True))
    assert not encoder_folder(name).exists()
    assert all(one.encoder != name for one in made.in_force.encoded)


def test_a_worse_encoder_is_refused_by_figures(made: Made) -> None:
    """Two directions of word counts in place of the encoder rank worse: the gate says by how much, nothing changes."""
    update(UpdateParams(overrides=LEARNS))
    promoted = finetune(UpdateParams(overrides=LEARNS))
    assert promoted.decision is not None
    assert promoted.decision.event == "promoted"
    before = made.recorded
    done = lsa(UpdateParams(overrides=("lsa.dim=2",)), alone=True)
    assert done.decision is not None
    assert done.decision.event == "refused"
    assert done.decision.figures["difference_low"] < -done.decision.figures["tolerance"]
    assert made.recorded == before
    assert history(made.store, "shapes")[-1].event == "refused"


def test_an_encoder_of_the_texts_stands_beside_the_other(made: Made) -> None:
    """LSA of the training captions joins the encoder that is there, in the place of a former one; both are searched
    with, unknown words too.
    """
    done = lsa(UpdateParams(overrides=("lsa.dim=8", "gate.policy=always")))
    name = done.trained.encoder
    assert name is not None
    assert encoded(done) == {"text": TRAIN + HELD}
    assert made.recorded["text"] == (*made.encoders["text"], name)
    assert [one.encoder for one in made.in_force.encoded if one.modality == "text"] == list(made.recorded["text"])
    origin = read_origin(encoder_folder(name))
    assert origin is not None
    assert (origin.base, origin.how["texts"]) == ("", TRAIN)
    assert "shapes alone" in origin.seen
    wider = lsa(UpdateParams(overrides=("lsa.dim=12", "gate.policy=always"))).trained.encoder
    assert wider is not None
    assert made.recorded["text"] == (*made.encoders["text"], wider)
    for words in ("a red circle", "xyzzy"):
        assert len(Searcher(made.workspace).search(Query(text=words), mode="vector", k=3).hits) == 3


def test_from_the_command_line(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run says what would be done and writes nothing; the command does it; what cannot be tuned is refused."""
    terminal = Terminal(capsys)
    state = made.store.state(made.store.names())
    told = terminal.json("finetune", "--dry-run", "--blocks", "1", "--set", "finetune.steps=9")["plan"]
    assert (told["encoder"], told["steps at most"], told["training pairs"]) == (made.encoders["text"][0], 9, TRAIN)
    assert told["texts to encode anew"] == TRAIN + HELD
    assert made.store.state(made.store.names()) == state
    assert "not encoded with builtin:minilm" in terminal.text("finetune", "--encoder", "builtin:minilm", code=2)
    assert "2 blocks" in terminal.text("finetune", "--blocks", "2", code=2)
    found = terminal.json("lsa", "--dim", "8", "--alone", "--set", "gate.policy=always")["trained"]
    assert found["decision"]["event"] == "promoted"
    assert "cannot be fine-tuned" in terminal.text("finetune", code=2)
    with pytest.raises(UserError, match="no collection 'other'"):
        finetune(UpdateParams(collections=("other",)))
