from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from config.params import PipelineParams
from flows.ingest import ingest
from storage import schemas
from storage.tables import Store
from storage.workspace import Workspace
from tasks.encoders.registry import load, resolve
from tasks.media.registry import Limits, get
from tasks.refs import Ingested
from tests.clips import film, grey, half, sounding
from tests.flows.law import built, differences
from tests.flows.runs import params_for
from tests.sounds import tone

Encoders = dict[str, tuple[str, ...]]
FRAMES = [grey(number) for number in range(25)]


def write(root: Path, names: list[str]) -> None:
    """The metadata: a caption for each clip, two for the first."""
    lines = [
        {"file_name": name, "captions": [f"this is {name}", "again"][: 2 - bool(at)]} for at, name in enumerate(names)
    ]
    (root / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clip with a sound track, one without, and one that is cut."""
    root = tmp_path / "clips"
    root.mkdir()
    (root / "loud.mp4").write_bytes(sounding(FRAMES, tone(1.0, 700, 16_000)))
    (root / "mute.mp4").write_bytes(film(20))
    (root / "cut.mp4").write_bytes(half(sounding(FRAMES, tone(1.0, 500, 16_000))))
    write(root, ["loud.mp4", "mute.mp4", "cut.mp4"])
    return root


def params(root: Path, tiny: Encoders, tracks: str) -> PipelineParams:
    """Videos, sounds and texts, each by one encoder."""
    encoders = {"video": (f"frames:{tiny['image'][0]}&n=2",), "audio": ("builtin:logmel",), "text": tiny["text"]}
    return params_for(root, encoders, preprocess={"sound_tracks": tracks, "failure_budget": 0.5})


def tables(store: Store) -> tuple[dict[str, dict[str, str]], set[frozenset[str]], dict[str, str]]:
    """Items by modality and file or text, the given pairs by these names, and what is quarantined, by reason."""
    items = store.read(schemas.ITEMS, ["key", "modality", "uri", "text", "group", "content_hash"]).to_pylist()
    names = {row["key"]: f"{row['modality']} {row['uri'] or row['text']}" for row in items}
    pairs = store.read(schemas.PAIRS, ["left", "right"]).to_pylist()
    known = {frozenset(names[one] for one in row.values()) for row in pairs if names.keys() >= set(row.values())}
    faults = store.read(schemas.QUARANTINE, ["locator", "code"]).to_pylist()
    return {names[row["key"]]: row for row in items}, known, {row["locator"]: row["code"] for row in faults}


def test_a_sound_track_is_an_item_of_its_video(
    prefect_server: None, tiny_encoders: Encoders, workspace_env: Path, folder: Path
) -> None:
    """The track of a clip is a sound with the clip's bytes, in its group, paired with it, and with texts only if that
    is asked for; its vector is that of the sound in the file. A clip without a track has no such item and no fault, a
    broken one a single fault. Without the param nothing is left of it, and a clip that goes takes its track along.
    """
    store = Workspace(root=workspace_env).store
    done: Ingested = ingest(params(folder, tiny_encoders, "alone"))
    items, pairs, faults = tables(store)
    assert faults == {"cut.mp4": "video_truncated"}
    assert {name for name in items if name.startswith("audio")} == {"audio loud.mp4"}
    track, clip = items["audio loud.mp4"], items["video loud.mp4"]
    assert (track["group"], track["content_hash"]) == (clip["group"], clip["content_hash"])
    assert {pair for pair in pairs if "audio loud.mp4" in pair} == {frozenset({"audio loud.mp4", "video loud.mp4"})}
    encoder = load(resolve("builtin:logmel"), device="cpu")
    sound = get("audio").decode((folder / "loud.mp4").read_bytes(), Limits())
    table = next(plan.table for plan in done.encoded if plan.modality == "audio")
    vectors, found = store.vectors(table, [track["content_hash"]])
    assert found.all()
    assert np.array_equal(vectors, encoder.encode([encoder.transform(sound)]).vectors)
    again: Ingested = ingest(params(folder, tiny_encoders, "alone"))
    assert (again.written, again.removed, again.stages) == (0, 0, ())

    ingest(params(folder, tiny_encoders, "texts"))
    _, more, _ = tables(store)
    assert more - pairs == {frozenset({"audio loud.mp4", f"text {said}"}) for said in ("this is loud.mp4", "again")}
    (folder / "new.mp4").write_bytes((folder / "loud.mp4").read_bytes())
    (folder / "loud.mp4").unlink()
    write(folder, ["new.mp4", "mute.mp4", "cut.mp4"])
    moved: Ingested = ingest(params(folder, tiny_encoders, "alone"))
    assert {stage.modality for stage in moved.stages} == {"text"}
    fresh = workspace_env.parent / "fresh"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(fresh))
        ingest(params(folder, tiny_encoders, "alone"))
    assert differences(built(store), built(Workspace(root=fresh).store)) == []
    ingest(params(folder, tiny_encoders, "no"))
    items, pairs, _ = tables(store)
    assert not [name for name in items if name.startswith("audio")]
    assert store.count(table) == 0
