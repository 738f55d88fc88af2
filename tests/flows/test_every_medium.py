from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.ingest import ingest
from storage import schemas
from storage.tables import Store
from storage.workspace import Workspace
from tasks.encoders.registry import load, resolve
from tasks.media.registry import Limits, get
from tasks.refs import Ingested
from tests.clips import film, half
from tests.flows.runs import params_for, vector_of
from tests.sounds import muxed, tone, written
from tests.tasks.media.test_image import saved, scene

Encoders = dict[str, tuple[str, ...]]


def write_folder(root: Path) -> Path:
    """Pictures, sounds and clips with a caption each; a clip and its sound in one row; some of each broken."""
    root.mkdir()
    files = {
        "picture.png": saved(scene(), "PNG"),
        "words.png": b"words",
        "low.wav": written(tone(1.0, 200)),
        "high.flac": written(tone(3.0, 2_000), "FLAC"),
        "long.mp3": written(tone(12.0, 600), "MP3"),
        "mp3 named.wav": written(tone(2.0, 900), "MP3"),
        "phone.m4a": muxed(tone(1.0, 300), "ipod", "aac"),
        "cut.mp3": half(written(tone(3.0), "MP3")),
        "words.mp3": b"words " * 99,
        "grey.mp4": film(20),
        "grey.webm": film(30, "webm", "libvpx"),
        "cut.mp4": half(film(40)),
        "still.mp4": saved(Image.new("RGB", (64, 48)), "PNG"),
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    rows = [{"file_name": name, "caption": f"this is {name}"} for name in files if name != "high.flac"]
    rows[-4]["audio_file_name"] = "high.flac"
    assert rows[-4]["file_name"] == "grey.mp4"
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def encoders_of(tiny: Encoders) -> Encoders:
    """One encoder for each of four modalities."""
    return tiny | {"audio": ("builtin:logmel",), "video": (f"frames:{tiny['image'][0]}&n=3",)}


class Made:
    """What the run left."""

    def __init__(self, root: Path, store: Store, done: Ingested) -> None:
        self.root, self.store, self.done = root, store, done
        rows = store.read(schemas.ITEMS, ["key", "uri", "text", "content_hash", "modality"]).to_pylist()
        self.items = {row["uri"] or row["text"]: row for row in rows}

    def vector(self, name: str) -> np.ndarray:
        """The stored vector of an item."""
        return vector_of(self.store, self.done, self.items[name])


@pytest.fixture(scope="module")
def made(prefect_server: None, tiny_encoders: Encoders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """One ingest of the folder."""
    root = tmp_path_factory.mktemp("media")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        params = params_for(
            write_folder(root / "folder"), encoders_of(tiny_encoders), preprocess={"failure_budget": 0.5}
        )
        yield Made(root / "folder", Workspace(root=root / "workspace").store, ingest(params))


def test_each_file_has_its_modality_or_its_reason(made: Made) -> None:
    """What can be read is an item of its modality; what cannot is in quarantine under its own reason."""
    media = {name: row["modality"] for name, row in made.items.items() if row["text"] is None}
    assert media == {
        "picture.png": "image",
        "low.wav": "audio",
        "high.flac": "audio",
        "long.mp3": "audio",
        "mp3 named.wav": "audio",
        "phone.m4a": "audio",
        "cut.mp3": "audio",  # only its end shows that it is cut
        "grey.mp4": "video",
        "grey.webm": "video",
    }
    faults = made.store.read(schemas.QUARANTINE, ["locator", "code", "stage"]).to_pylist()
    assert {row["locator"]: (row["code"], row["stage"]) for row in faults} == {
        "words.png": ("not_an_image", "preprocess"),
        "words.mp3": ("not_audio", "preprocess"),
        "cut.mp3": ("audio_truncated", "decode audio"),
        "cut.mp4": ("video_truncated", "preprocess"),
        "still.mp4": ("video_is_picture", "preprocess"),
    }


def test_vectors_are_those_of_the_encoders(made: Made) -> None:
    """Each table holds, bit for bit, what its encoder gives for the file alone."""
    for plan in made.done.encoded:
        if plan.modality == "text":
            continue
        encoder = load(resolve(plan.encoder, plan.modality), device="cpu")
        for name, row in made.items.items():
            if row["modality"] == plan.modality and name != "cut.mp3":
                content = get(plan.modality).decode((made.root / name).read_bytes(), Limits())
                assert np.array_equal(made.vector(name), encoder.encode([encoder.transform(content)]).vectors[0])


def test_all_of_a_row_are_pairs(made: Made) -> None:
    """A clip, its sound and its caption are three pairs of three modalities, and one group."""
    keys = {name: made.items[name]["key"] for name in ("grey.mp4", "high.flac", "this is grey.mp4")}
    rows = made.store.read(schemas.PAIRS, ["left", "right"]).to_pylist()
    inside = {frozenset(row.values()) for row in rows if set(row.values()) <= set(keys.values())}
    assert len(inside) == 3
    groups = made.store.read(schemas.ITEMS, ["key", "group"]).to_pylist()
    assert len({row["group"] for row in groups if row["key"] in keys.values()}) == 1


def test_fields_are_kept_apart(prefect_server: None, tiny_encoders: Encoders, workspace_env: Path) -> None:
    """Another encoder of videos encodes videos alone; a changed caption one text."""
    root = write_folder(workspace_env.parent / "folder")
    encoders = encoders_of(tiny_encoders)
    loose = {"failure_budget": 0.5}
    ingest(params_for(root, encoders, preprocess=loose))
    encoders["video"] = (f"frames:{tiny_encoders['image'][0]}&n=2&pool=max",)
    again = ingest(params_for(root, encoders, preprocess=loose))
    assert {(stage.modality, stage.encoded) for stage in again.stages} == {("video", 2)}
    lines = (root / "metadata.jsonl").read_text().replace("this is grey.webm", "a grey clip")
    (root / "metadata.jsonl").write_text(lines)
    later = ingest(params_for(root, encoders, preprocess=loose))
    assert {(stage.modality, stage.encoded) for stage in later.stages} == {("text", 1)}
