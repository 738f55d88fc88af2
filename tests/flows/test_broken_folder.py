from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.ingest import ingest
from storage import schemas
from storage.tables import Store
from storage.workspace import Workspace
from tasks.refs import Ingested
from tests.flows.runs import params_for, vector_of
from tests.tasks.media.test_image import bomb, saved, scene

LONG = "a black circle at the left and " * 4_000
EXIF = 0x0112


def rotated(kind: str, **options: Any) -> bytes:
    """The scene stored on its side, with the tag that turns it upright."""
    exif = Image.Exif()
    exif[EXIF] = 6
    return saved(scene().transpose(Image.Transpose.ROTATE_90), kind, exif=exif, **options)


def write_folder(root: Path) -> Path:
    """A folder of good pictures among files that are broken in real ways."""
    root.mkdir()
    jpeg = saved(scene(), "JPEG", quality=92)
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([0, 0, 0, 250, 20, 20] * 128)
    palette.paste(0, (0, 0, 16, 32))
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    ramp = Image.fromarray(np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (48, 1)))
    files = {
        "empty.png": b"",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "words.jpg": b"these are words, not a picture\n" * 20,
        "bomb.png": bomb(),
        "cmyk.jpg": saved(scene().convert("CMYK"), "JPEG", quality=92),
        "deep.png": saved(ramp, "PNG"),
        "palette.png": saved(palette, "PNG", transparency=0),
        "turned.png": rotated("PNG"),
        "upright.png": saved(scene(), "PNG"),
        "turned.jpg": rotated("JPEG", quality=95),
        "upright.jpg": saved(scene(), "JPEG", quality=95),
        "moving.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "红苹果.png": saved(Image.new("RGB", (32, 32), (200, 30, 30)), "PNG"),
        "blank.png": saved(Image.new("RGB", (32, 32), (0, 200, 0)), "PNG"),
        "long.png": saved(Image.new("RGB", (32, 32), (0, 0, 200)), "PNG"),
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    captions = {"blank.png": "   \u00a0 ", "long.png": LONG, "红苹果.png": "红苹果"}
    rows = [{"file_name": name, "caption": captions.get(name, f"a picture of {name}")} for name in files]
    rows += [{"file_name": "../outside.png", "caption": "x"}, {"file_name": "gone.png", "caption": "the file is gone"}]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    lines.insert(2, b'{"file_name": "upright.png", "caption": "caf\xe9"}')
    (root / "metadata.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    Image.new("RGB", (8, 8)).save(root.parent / "outside.png")
    return root


class Made:
    """What the run left."""

    def __init__(self, store: Store, done: Ingested) -> None:
        self.store, self.done = store, done
        self.faults = {
            row["locator"]: row["code"]
            for row in store.read(schemas.QUARANTINE, ["locator", "code", "attempts"]).to_pylist()
        }
        self.items = {
            row["uri"] or row["text"]: row
            for row in store.read(
                schemas.ITEMS, ["uri", "text", "content_hash", "truncated", "modality", "bytes"]
            ).to_pylist()
        }

    def vector(self, name: str) -> np.ndarray:
        """The stored vector of an item."""
        return vector_of(self.store, self.done, self.items[name])


@pytest.fixture(scope="module")
def made(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """One ingest of the folder."""
    root = tmp_path_factory.mktemp("broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        params = params_for(write_folder(root / "folder"), tiny_encoders, preprocess={"failure_budget": 0.5})
        yield Made(Workspace(root=root / "workspace").store, ingest(params))


def test_each_broken_thing_has_its_own_reason(made: Made) -> None:
    """What is broken is in quarantine under a reason code of its own, and nothing else is."""
    assert made.faults == {
        "empty.png": "file_empty",
        "truncated.jpg": "image_truncated",
        "words.jpg": "not_an_image",
        "bomb.png": "image_too_large",
        "gone.png": "file_missing",
        "blank.png#caption[1]": "text_empty",
        "metadata.jsonl:3": "row_not_utf8",
        "metadata.jsonl:17": "path_outside",
    }
    assert made.done.quarantined == len(made.faults)


def test_each_good_thing_is_encoded(made: Made) -> None:
    """Every picture that can be read has a vector of unit length, and so has every caption."""
    good = {
        "cmyk.jpg",
        "deep.png",
        "palette.png",
        "turned.png",
        "upright.png",
        "turned.jpg",
        "upright.jpg",
        "moving.gif",
    }
    for name in good | {"红苹果.png", "blank.png", "long.png", "a picture of empty.png", "红苹果"}:
        assert np.linalg.norm(made.vector(name)) == pytest.approx(1, abs=1e-5)


def test_orientation_is_undone(made: Made) -> None:
    """The turned lossless picture has the upright one's vector to the last bit, a turned JPEG nearly so."""
    assert np.array_equal(made.vector("turned.png"), made.vector("upright.png"))
    assert made.vector("turned.jpg") @ made.vector("upright.jpg") >= 0.999


def test_the_long_caption_is_encoded_and_marked(made: Made) -> None:
    """A caption of 100,000 characters is cut, encoded and marked; the others are not marked."""
    (long,) = [row for row in made.items.values() if row["truncated"]]
    assert LONG.startswith(long["text"])
    assert len(LONG) > 100_000
    assert len(long["text"]) <= 2_000
    made.vector(long["text"])


def test_nothing_outside_was_read(made: Made) -> None:
    """The picture that `../` names is no item."""
    assert not any("outside" in str(name) for name in made.items)


def test_a_mended_file_leaves_quarantine(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], workspace_env: Path
) -> None:
    """After a broken file is replaced by a good one and a missing one appears, a second run encodes both."""
    root = write_folder(workspace_env.parent / "folder")
    params = params_for(root, tiny_encoders, preprocess={"failure_budget": 0.5})
    ingest(params)
    for name in ("truncated.jpg", "gone.png"):
        (root / name).write_bytes(saved(scene(), "JPEG" if name.endswith("jpg") else "PNG"))
    later = (root / "truncated.jpg").stat().st_mtime_ns + 10**9
    os.utime(root / "truncated.jpg", ns=(later, later))
    made = Made(Workspace(root=workspace_env).store, ingest(params))
    assert not {"truncated.jpg", "gone.png"} & set(made.faults)
    made.vector("gone.png")
    made.vector("truncated.jpg")
