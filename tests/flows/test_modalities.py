from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from config.errors import UserError
from config.params import AssessParams, GateParams, PipelineParams, UpdateParams
from flows.assess import assess_published
from flows.extend_spaces import extend_published
from flows.ingest import ingest
from flows.pipeline import pipeline
from flows.summaries import reach
from flows.update import update
from storage.promotions import manifest_of
from storage.spaces import load_space, save_space
from storage.tables import Store
from storage.workspace import Workspace
from tasks.alignment.methods.rounds import ROUNDS
from tasks.alignment.space import JointSpace
from tasks.promote import decide
from tasks.refs import Aligned, Outcome
from tasks.search import Query, Searcher
from tests.flows.law import projection_faults
from tests.flows.runs import artifacts, params_for
from tests.sounds import tone, written
from tests.tasks.encoders.test_automodel_audio import save
from tests.tiny import draw

Encoders = dict[str, tuple[str, ...]]
PICTURES, SOUNDS, HELD = 44, 30, 20
LOGMEL = ("builtin:logmel",)


def sound(number: int) -> bytes:
    """What scene `number` sounds like: its colour, shape and place are three tones."""
    pitches = (300 + 150 * (number % 5), 1_500 + 400 * (number // 5 % 4), 4_000 + 900 * (number // 20 % 4))
    return written(sum(tone(0.4, pitch, 22_050, noise=number) for pitch in pitches) / 3, rate=22_050)  # type: ignore[arg-type]


def write_folder(root: Path, *, joined: bool) -> Path:
    """Pictures with a caption and sounds with a caption, no row of the training split with both.

    A held-out row has both if they are `joined`.
    """
    root.mkdir()
    rows: list[dict[str, Any]] = []
    for number in range(PICTURES + SOUNDS + HELD):
        picture, words = draw(number)
        row: dict[str, Any] = {"caption": words, "split": "test" if number < HELD else "train"}
        seen = number < HELD + PICTURES
        if seen:
            picture.save(root / f"{number:04}.png")
            row["file_name"] = f"{number:04}.png"
        if not seen or number < HELD:
            (root / f"{number:04}.wav").write_bytes(sound(number))
            other = row if joined or not seen else row | {"file_name": None}
            other["audio_file_name"] = f"{number:04}.wav"
            if other is not row:
                rows.append({name: value for name, value in other.items() if value is not None})
        rows.append(row)
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


class Made:
    """A folder of pictures, sounds and captions, and a run of it with some encoders."""

    def __init__(self, root: Path, encoders: Encoders, *, joined: bool) -> None:
        self.root = root
        self.source = write_folder(root / "scenes", joined=joined)
        self.outcome = pipeline(self.params(encoders))

    def params(self, encoders: Encoders) -> PipelineParams:
        return params_for(self.source, encoders)

    @property
    def workspace(self) -> Workspace:
        return Workspace(root=self.root / "workspace")

    @property
    def store(self) -> Store:
        return self.workspace.store

    def in_force(self) -> Aligned:
        return Aligned.model_validate(manifest_of(self.store, "scenes"))


def heads(aligned: Aligned, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of some modalities."""
    arrays = load_file(Path(aligned.space.path) / "heads.safetensors")
    return {name: one for name, one in arrays.items() if name.startswith(names)}


def rows_of(store: Store, aligned: Aligned, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Vectors, bits and hubness towards these modalities of their items."""
    columns = ["key", "modality", "vector", "bits", *(f"hubness_{name}" for name in names)]
    found = [row for row in store.read(aligned.space.table, columns).to_pylist() if row["modality"] in names]
    return sorted(found, key=lambda row: str(row["key"]))


@pytest.fixture(scope="module")
def joined(prefect_server: None, tiny_encoders: Encoders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """One run with three modalities."""
    root = tmp_path_factory.mktemp("three")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        yield Made(root, tiny_encoders | {"audio": LOGMEL}, joined=True)


def test_a_run_binds_what_is_joined_to_the_base(joined: Made) -> None:
    """Pictures and captions are the base, sounds are bound through captions; the law of projections holds for all."""
    aligned = joined.outcome.aligned
    assert aligned.space.modalities == ("image", "text", "audio")
    assert (aligned.space.base, aligned.space.bound) == (("image", "text"), {"audio": "text"})
    assert projection_faults(joined.store, "scenes") == []
    about = json.loads((Path(aligned.space.path) / "config.json").read_text())["facts"]["bound"]["audio"]
    assert (about["pivot"], about["pairs"]) == ("text", SOUNDS)
    assert "audio is bound through text" in (Path(aligned.space.path) / "README.md").read_text()
    assert [(one.number, one.modality) for one in aligned.space.rounds] == [(n, "audio") for n in range(1, ROUNDS + 1)]
    shown = {one.key: one.description or "" for one in artifacts("round-audio-%-scenes")}
    for one in aligned.space.rounds:
        assert ("accepted" if one.accepted else "refused") in shown[f"round-audio-{one.number}-scenes"]


def test_every_direction_is_measured(joined: Made) -> None:
    """All six, those without training pairs as bound through the pivot, each with chance and a control."""
    figures = joined.outcome.score.metrics
    through = {name: one["through"] for name, one in figures["directions"].items()}
    assert list(through)[:2] == ["text_to_image", "image_to_text"]
    assert through == {
        "text_to_image": [],
        "image_to_text": [],
        "text_to_audio": [],
        "audio_to_text": [],
        "image_to_audio": ["text"],
        "audio_to_image": ["text"],
    }
    for report in figures["directions"].values():
        assert report["queries"] == HELD
        assert report["chance"]["hit_rate@1"]["value"] == pytest.approx(1 / report["gallery"])
        assert report["control"]["refits"] == 3
        low, high = report["hit_rate@10"]["interval"]
        assert low <= report["hit_rate@10"]["value"] <= high
    assert figures["unlinked"] == []
    ways = [figures["directions"][name] for name in ("text_to_image", "image_to_text")]
    assert figures["rsum"] == pytest.approx(
        100 * sum(way[f"hit_rate@{k}"]["value"] for way in ways for k in (1, 5, 10))
    )
    assert "image→audio is bound through text" in str(artifacts("headline-scenes")[-1].data)


def test_any_modality_finds_any_other(joined: Made) -> None:
    """A picture finds sounds, a sound finds pictures, words find both."""
    searcher = Searcher(joined.workspace, "scenes")
    for name, target in (("0003.png", "audio"), ("0003.wav", "image"), ("0003.wav", "text")):
        hits = searcher.search(Query(file=joined.source / name), target=target, k=5).hits
        assert len(hits) == 5
        assert {hit.modality for hit in hits} == {target}
    assert {hit.modality for hit in searcher.search(Query(text="a red circle"), target="audio", k=5).hits} == {"audio"}


def test_the_same_run_again_fits_nothing(joined: Made) -> None:
    """A second run gives the same space and the same figures."""
    again: Outcome = pipeline(joined.params({name: tuple(of) for name, of in _encoders(joined).items()}))
    assert again.aligned.space == joined.outcome.aligned.space
    assert again.score.metrics == joined.outcome.score.metrics
    assert again.decision.event == "kept"


def _encoders(made: Made) -> Encoders:
    return {one.modality: (one.encoder,) for one in made.outcome.aligned.encoded}


def test_the_gate_looks_at_every_direction(joined: Made, tmp_path: Path) -> None:
    """A space whose bound head is worse, or gone, is refused, though its base is the same; one as good passes."""
    now = joined.in_force()
    arrays, config = load_space(Path(now.space.path))

    def candidate(space: JointSpace, number: int) -> Aligned:
        folder = tmp_path / str(number)
        save_space(folder, space.arrays(), config | space.config(), "")
        ref = now.space.model_copy(
            update={
                "path": str(folder),
                "space_id": f"{number:016}",
                "modalities": tuple(space.heads),
                "bound": space.bound,
            }
        )
        return now.model_copy(update={"space": ref})

    same = JointSpace.load(arrays, config)
    passed = decide(joined.store, candidate(same, 1), GateParams())
    assert passed.event == "promoted"
    assert set(passed.figures["further"]) == {"audio_and_image", "audio_and_text"}
    assert {one["difference"] for one in passed.figures["further"].values()} == {0.0}
    worse = JointSpace.load(arrays | {"audio.map.matrix": -arrays["audio.map.matrix"]}, config)
    refused = decide(joined.store, candidate(worse, 2), GateParams())
    assert refused.event == "refused"
    assert "nor between audio and text" in refused.reason
    less = decide(joined.store, candidate(same.without(["audio"]), 3), GateParams())
    assert less.event == "refused"
    assert "it lacks audio, which the space in force holds" in less.reason


@pytest.fixture
def apart(prefect_server: None, tiny_encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A run with pictures and captions alone, though sounds lie there."""
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    return Made(tmp_path, tiny_encoders, joined=False)


def test_extending_changes_no_other_vector(apart: Made, tiny_encoders: Encoders) -> None:
    """Heads, vectors and terms of pictures and captions stay bit for bit, as if all three had been fitted at once."""
    before = apart.in_force()
    names = before.space.base
    params = apart.params(tiny_encoders | {"audio": LOGMEL})
    with pytest.raises(UserError, match="nothing to add to the space scenes: every encoded modality is in it"):
        extend_published(apart.params(tiny_encoders))
    with pytest.raises(UserError, match="nothing is encoded with builtin:logmel"):
        extend_published(params)
    stages = ingest(params).stages
    assert {stage.modality for stage in stages} == {"audio"}
    after, decision = extend_published(params)
    assert decision.event == "promoted"
    assert apart.in_force() == after
    assert after.space.bound == {"audio": "text"}
    old, new = heads(before, names), heads(after, names)
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[name], one) for name, one in new.items())
    assert rows_of(apart.store, before, names) == rows_of(apart.store, after, names)
    assert projection_faults(apart.store, "scenes") == []
    fresh = pipeline(params)
    assert fresh.aligned.space.space_id != after.space.space_id
    whole = heads(fresh.aligned, (*names, "audio"))
    assert all(np.array_equal(one, whole[name]) for name, one in heads(after, (*names, "audio")).items())
    assert fresh.score.metrics["unlinked"] == [["audio", "image"]]
    assert reach(fresh.score.metrics) == ["not measured: no held-out pair joins audio and image"]


def test_updates_keep_fields_apart(apart: Made, tiny_encoders: Encoders, tmp_path: Path) -> None:
    """A new modality, then another encoder of it, extends the space: no picture is encoded, no other head changes.

    A changed caption costs one vector.
    """
    base = apart.in_force().space.base
    first = heads(apart.in_force(), base)
    _, _, other = save("wav2vec2", tmp_path / "wav2vec2")
    for encoder in (LOGMEL[0], other):
        wanted = json.dumps(tiny_encoders | {"audio": (encoder,)})
        done = update(UpdateParams(overrides=(f"encode.encoders={wanted}", "gate.tolerance=600")))
        assert {stage.modality for one in done.ingested for stage in one.stages} == {"audio"}
        (space,) = done.spaces
        assert space.staleness.extends
        assert space.decision is not None
        assert space.decision.event == "promoted"
        now = apart.in_force()
        assert [one.encoder for one in now.encoded if one.modality == "audio"] == [encoder]
        assert all(np.array_equal(first[name], one) for name, one in heads(now, base).items())
        assert projection_faults(apart.store, "scenes") == []
    lines = (apart.source / "metadata.jsonl").read_text().splitlines()
    lines[-1] = lines[-1].replace(" at the ", " of the ")
    (apart.source / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    done = update(UpdateParams())
    assert [(stage.modality, stage.encoded) for one in done.ingested for stage in one.stages] == [("text", 1)]
    assert projection_faults(apart.store, "scenes") == []
    assert apart.in_force().space.space_id == now.space.space_id


def test_sounds_of_another_collection_join_in(apart: Made, tiny_encoders: Encoders) -> None:
    """A collection of sounds and captions is taken into a space of pictures and captions; updates find nothing due."""
    other = apart.root / "sounds"
    other.mkdir()
    rows = [{"file_name": f"{n:04}.wav", "caption": draw(n)[1]} for n in range(SOUNDS)]
    for number, row in enumerate(rows):
        (other / str(row["file_name"])).write_bytes(sound(number))
    (other / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metadata = apart.source / "metadata.jsonl"
    lines = [line for line in metadata.read_text().splitlines() if "audio_file_name" not in line]
    metadata.write_text("\n".join(lines) + "\n")
    pipeline(apart.params(tiny_encoders).model_copy(update={"gate": GateParams(policy="always")}))
    hearing = {"text": tiny_encoders["text"], "audio": LOGMEL}
    ingest(params_for(other, hearing))
    after, _ = extend_published(apart.params(hearing), "scenes", ("sounds",))
    assert after.collections == ("scenes", "sounds")
    assert after.space.bound == {"audio": "text"}
    score = assess_published(AssessParams(controls=1, draws=100), "scenes").metrics
    assert {name: one["split"] for name, one in score["directions"].items()} == {
        "text_to_image": "test",
        "image_to_text": "test",
        "text_to_audio": "heldout",
        "audio_to_text": "heldout",
    }
    assert "text→audio is measured on split heldout" in reach(score)
    done = update(UpdateParams())
    (space,) = done.spaces
    assert space.staleness.reasons == ()
    assert update(UpdateParams(collections=("scenes",))).spaces[0].staleness.reasons == ()


def test_what_cannot_be_bound_is_named_until_it_can(apart: Made, tiny_encoders: Encoders) -> None:
    """Sounds without a caption are left out of the space, which says so; with captions, the next update binds them."""
    metadata = apart.source / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    mute = [
        {name: value for name, value in row.items() if name != "caption"} if "audio_file_name" in row else row
        for row in rows
    ]
    metadata.write_text("".join(json.dumps(row) + "\n" for row in mute))
    params = apart.params(tiny_encoders | {"audio": LOGMEL})
    outcome = pipeline(params)
    assert outcome.aligned.space.modalities == ("image", "text")
    assert outcome.score.metrics["left_out"] == {"audio": "no known pair joins audio and image or text"}
    assert update(UpdateParams()).spaces[0].staleness.reasons == ()
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (space,) = update(UpdateParams(overrides=("refit.fall=600",))).spaces
    assert "known pairs join audio to its text" in space.staleness.reasons
    assert apart.in_force().space.bound == {"audio": "text"}
