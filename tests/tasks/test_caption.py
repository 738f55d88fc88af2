from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from config.errors import UserError
from flows.pipeline import pipeline
from storage import schemas
from storage.filters import eq
from storage.spaces import load_space
from storage.workspace import Workspace
from tasks.alignment.space import JointSpace
from tasks.caption import Captioner, reader_of
from tasks.captioning.consensus import Rule
from tests.clips import filmed
from tests.flows.runs import params_for
from tests.readers import save_captioner, save_gpt2
from tests.tasks.captioning.test_cider import by_loops
from tests.tiny import draw, write_collection


@pytest.fixture(scope="module")
def workspace(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A published space over 40 drawn pictures with two captions each, of which every fourth is held out."""
    root = tmp_path_factory.mktemp("caption")
    folder = write_collection(root / "shapes", 40)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["split"] = "val" if number % 4 == 3 else "train"
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        pipeline(params_for(folder, tiny_encoders))
        yield Workspace(root=root / "workspace")


def shapes(workspace: Workspace) -> Path:
    """The folder of the pictures."""
    return workspace.root.parent / "shapes"


def test_a_caption_is_the_consensus_of_what_is_near(workspace: Workspace) -> None:
    """The caption of a held-out picture, and its scores, are those of plain loops over the tables.

    Candidates: the captions of the nearest training pictures by the encoder alone, and the nearest training captions in
    the joint space. Each by the CIDEr-D to the others, weighted by their likeness, and its cosine, as z-scores.
    """
    store = workspace.store
    rule = Rule(neighbours=3, texts=5, sharpness=4.0, fit=0.7)
    made = Captioner(workspace, rule=rule).caption(file=shapes(workspace) / "0003.png", k=50)
    (published,) = store.read(schemas.PUBLISHED, ["manifest"]).to_pylist()
    manifest = json.loads(published["manifest"])
    head = JointSpace.load(*load_space(Path(manifest["space"]["path"]))).heads["image"]
    table = next(one for one in manifest["encoded"] if one["modality"] == "image")
    columns = ["key", "modality", "uri", "split", "text", "content_hash", "vector"]
    items = {row["key"]: row for row in store.read(manifest["space"]["table"], columns).to_pylist()}
    pictures = sorted(key for key, row in items.items() if row["modality"] == "image" and row["split"] == "train")
    query = next(row for row in items.values() if row["uri"] == "0003.png")

    def alone(keys: list[str]) -> np.ndarray:
        raw, _ = store.vectors(table["table"], [items[key]["content_hash"] for key in keys])
        features = head.features.apply({table["encoder"]: raw})
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    likeness = alone(pictures) @ alone([query["key"]])[0]
    near = [pictures[place] for place in np.argsort(-likeness)[: rule.neighbours]]
    pairs = [(row["left"], row["right"]) for row in store.read(schemas.PAIRS, ["left", "right"]).to_pylist()]
    told = [text for picture, text in pairs if picture in pictures]
    fits = {key: float(np.dot(items[key]["vector"], query["vector"])) for key in told}
    pool = {text for picture, text in pairs if picture in near} | set(sorted(told, key=lambda key: -fits[key])[:5])
    sets = [[items[text]["text"] for own, text in pairs if own == picture] for picture in pictures]

    def z(values: list[float]) -> np.ndarray:
        return (np.array(values) - np.mean(values)) / np.std(values)

    keys = sorted(pool)
    owner = {text: own for own, text in pairs}
    like = dict(zip(pictures, likeness.tolist(), strict=True))
    weights = {key: math.exp(rule.sharpness * (like[owner[key]] + fits[key])) for key in keys}
    agrees = [
        sum(
            weights[other] * by_loops(items[one]["text"], items[other]["text"], sets, d=True) / 10
            for other in keys
            if other != one
        )
        / sum(weights.values())
        for one in keys
    ]
    total = dict(zip(keys, z(agrees) + rule.fit * z([fits[key] for key in keys]), strict=True))
    best = max(keys, key=lambda key: total[key])
    assert made.text == items[best]["text"]
    assert made.score == pytest.approx(agrees[keys.index(best)], abs=1e-5)
    assert {one.key for one in made.evidence} <= pool
    assert [one.score for one in made.evidence] == pytest.approx([total[one.key] for one in made.evidence], abs=0.02)
    by_uri = {items[key]["uri"]: float(value) for key, value in zip(pictures, likeness, strict=True)}
    for one in made.evidence:
        assert one.similarity == pytest.approx(by_uri[one.item.uri], abs=0.01)
        assert one.cross == pytest.approx(fits[one.key], abs=0.01)


def test_only_training_texts_are_evidence(workspace: Workspace) -> None:
    """No caption of a held-out picture is evidence for any picture, its own included."""
    store = workspace.store
    held = set(store.strings(schemas.ITEMS, "key", eq("split", "val")))
    keys = sorted(store.strings(schemas.ITEMS, "key", eq("modality", "image")))
    for made in Captioner(workspace).caption_many(items=keys, k=100):
        assert made.evidence
        assert not {one.key for one in made.evidence} & held
        assert not {one.item.key for one in made.evidence} & held


def test_a_file_and_its_item_are_one(workspace: Workspace, tmp_path: Path) -> None:
    """A file and the item that holds its bytes get the same caption; a copy of a known item is said to be one."""
    captioner = Captioner(workspace)
    key = {row["uri"]: row["key"] for row in workspace.store.read(schemas.ITEMS, ["uri", "key"]).to_pylist()}
    for name, known in (("0003.png", False), ("0004.png", True)):
        copy = tmp_path / f"copy-{name}"
        shutil.copyfile(shapes(workspace) / name, copy)
        by_file, by_item = captioner.caption(file=copy), captioner.caption(item=key[name])
        assert (by_file.text, [one.key for one in by_file.evidence]) == (
            by_item.text,
            [one.key for one in by_item.evidence],
        )
        for made in (by_file, by_item):
            assert any("the very same content" in note for note in made.notes) == known
            assert any(one.copy for one in made.evidence) == known
            assert all(one.item.uri == name for one in made.evidence if one.copy)


def test_many_are_as_one_by_one(workspace: Workspace) -> None:
    """A batch of files and items gives what each gives alone, in their order."""
    captioner = Captioner(workspace)
    files = [shapes(workspace) / f"{number:04}.png" for number in (7, 3, 11)]
    keys = sorted(workspace.store.strings(schemas.ITEMS, "key", eq("modality", "image")))[:70]
    made = list(captioner.caption_many(files=files, items=keys))
    assert [one.query for one in made] == [*map(str, files), *keys]
    assert made[0] == captioner.caption(file=files[0])
    assert made[-1] == captioner.caption(item=keys[-1])


def test_what_cannot_be_captioned(workspace: Workspace, tmp_path: Path) -> None:
    """A text, a sound where no sound is known, a broken or missing file and an unknown key are the user's errors."""
    captioner = Captioner(workspace)
    (tmp_path / "words.txt").write_text("a dog")
    (tmp_path / "sound.wav").write_bytes(b"RIFF")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.xyz").write_text("")
    for name, why in (
        ("words.txt", "captions themselves"),
        ("sound.wav", "no audio in the space"),
        ("broken.png", "no picture does|no known picture"),
        ("notes.xyz", "no medium"),
        ("away.png", "cannot be read"),
    ):
        with pytest.raises(UserError, match=why):
            captioner.caption(file=tmp_path / name)
    text = workspace.store.strings(schemas.ITEMS, "key", eq("modality", "text"))[0]
    for more in ({"item": "nobody"}, {"item": text}, {}, {"item": text, "file": tmp_path / "broken.png"}):
        with pytest.raises(UserError):
            captioner.caption(**more)  # type: ignore[arg-type]


def test_a_clip_is_captioned_by_pictures(workspace: Workspace, tmp_path: Path) -> None:
    """Without clips in the space, a clip that shows one picture gets nearly the candidates of that picture, told so."""
    captioner = Captioner(workspace)
    still, _ = draw(3)
    clip = tmp_path / "still.mp4"
    clip.write_bytes(filmed([np.asarray(still)] * 12, options={"crf": "0"}))
    made = captioner.caption(file=clip, k=100)
    expected = captioner.caption(file=shapes(workspace) / "0003.png", k=100)
    assert (made.modality, made.origin) == ("video", "image")
    assert any("these are of image" in note for note in made.notes)
    shared = {one.key for one in made.evidence} & {one.key for one in expected.evidence}
    assert len(shared) >= 0.8 * len(expected.evidence)


def test_a_few_clips_of_their_own_are_too_few(
    prefect_server: None,
    tiny_encoders: dict[str, tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a space holds few clips with captions, a clip gets those of pictures, by its stored vector as by its file.

    With enough of its own it gets theirs.
    """
    folder = write_collection(tmp_path / "films", 30)
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    for number in range(30, 40):
        picture, words = draw(number)
        (folder / f"{number:04}.mp4").write_bytes(filmed([np.asarray(picture)] * 8))
        lines.append(json.dumps({"file_name": f"{number:04}.mp4", "caption": words}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    videos = tuple(f"frames:{name}" for name in tiny_encoders["image"])
    pipeline(params_for(folder, tiny_encoders | {"video": videos}))
    films = Workspace(root=tmp_path / "workspace")
    captioner = Captioner(films)
    key = films.store.strings(schemas.ITEMS, "key", eq("uri", "0035.mp4"))[0]
    assert set(captioner.modalities) == {"image", "text", "video"}
    by_item = captioner.caption(item=key, k=50)
    by_file = captioner.caption(file=folder / "0035.mp4", k=50)
    assert (by_item.modality, by_item.origin) == ("video", "image")
    assert by_item.text == by_file.text
    assert {one.key for one in by_item.evidence} == {one.key for one in by_file.evidence}
    assert all(one.similarity is not None for one in by_item.evidence if one.item.modality == "image")
    own = {one.text for one in by_item.evidence if one.copy}
    assert own == ({draw(35)[1]} if by_item.notes[0].startswith("a known item holds the very same") else set())
    monkeypatch.setattr("tasks.captioned.OWN", 4)
    assert Captioner(films).caption(item=key).origin == "video"


def test_a_reader_writes_from_the_evidence(workspace: Workspace, tmp_path: Path) -> None:
    """With a generator its words are the caption, scored by the same candidates; one that sees gets the picture."""
    from tasks.captioning.generator import evidence_prompt

    captioner = Captioner(workspace)
    file = shapes(workspace) / "0003.png"
    plain = captioner.caption(file=file)
    for save in (save_gpt2, save_captioner):
        reader = reader_of(f"local:{save(tmp_path / save.__name__)}")
        assert reader is not None
        made = captioner.caption(file=file, generate=reader)
        assert made.generator == f"local:{tmp_path / save.__name__}"
        pixels = np.asarray(draw(3)[0])
        assert made.text == reader.write(evidence_prompt([one.text for one in plain.evidence]), pixels)
        assert made.evidence == plain.evidence
        assert 0 <= made.score <= 1
    with pytest.raises(UserError, match="there is no config"):
        reader_of(f"local:{tmp_path / 'nothing'}")
