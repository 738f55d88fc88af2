from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.params import AssessParams, CaptionParams, UpdateParams
from flows.assess import assess
from flows.caption_collection import caption_collection, forget_captions
from flows.context import in_force
from flows.pipeline import pipeline
from flows.update import update
from storage import schemas
from storage.filters import eq
from storage.promotions import manifest_of
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import load_training
from tasks.search import Query, Searcher
from tests.flows.runs import artifacts, contents, params_for
from tests.flows.test_cli import call
from tests.readers import save_gpt2
from tests.tiny import draw

COUNT, SILENT = 60, 12


@pytest.fixture
def store(
    prefect_server: None,
    tiny_encoders: dict[str, tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Store:
    """A published collection of 60 pictures, of which the last 12 have no caption; every fourth is held out."""
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").mkdir()
    for number in range(COUNT):
        draw(number)[0].save(tmp_path / "shapes" / f"{number:04}.png")
    write(tmp_path, [row(number) for number in range(COUNT)])
    pipeline(params_for(tmp_path / "shapes", tiny_encoders))
    return Workspace(root=tmp_path / "workspace").store


def row(number: int) -> dict[str, Any]:
    """What the metadata say of a picture."""
    told = {} if number >= COUNT - SILENT else {"caption": draw(number)[1]}
    return {"file_name": f"{number:04}.png", "split": "train" if number % 4 else "test", **told}


def write(root: Path, rows: list[dict[str, Any]]) -> None:
    """The metadata of the collection."""
    (root / "shapes" / "metadata.jsonl").write_text("\n".join(json.dumps(one) for one in rows) + "\n")


def captions(store: Store) -> dict[str, str]:
    """The generated captions by the file that each is of; the pairs say the same."""
    uris = {one["key"]: one["uri"] for one in store.read(schemas.ITEMS, ["key", "uri"]).to_pylist()}
    rows = store.read(schemas.GENERATED, ["key", "item", "text"]).to_pylist()
    pairs = store.read(schemas.PAIRS, ["left", "right"], eq("source", "generated")).to_pylist()
    assert {(one["item"], one["key"]) for one in rows} == {(one["left"], one["right"]) for one in pairs}
    return {uris[one["item"]]: one["text"] for one in rows}


def given(store: Store) -> tuple[list[Any], list[Any]]:
    """What the source says: items and given pairs."""
    pairs = [one for one in contents(store, schemas.PAIRS) if "given" in one]
    return contents(store, schemas.ITEMS), pairs


def marked(store: Store) -> set[str]:
    """Files whose words in the published space are generated."""
    manifest = manifest_of(store, "shapes")
    assert manifest is not None
    table, version = manifest["index"]["table"], manifest["index"]["version"]
    rows = store.read(table, ["uri", "text"], version=version).to_pylist()
    return {one["uri"] for one in rows if one["text"].startswith("≈ ")}


def test_generated_captions_live_beside_the_data(store: Store, tmp_path: Path) -> None:
    """Items without a text get captions once, full text finds them; the source's rows and the evaluation stay.

    A run that was cut off captions what is left. Captions go with their item, its content, or when it is given a text.
    """
    before = given(store)
    measure = AssessParams(draws=100, controls=1)
    directions = assess(measure, in_force(None)).metrics["directions"]
    silent = {f"{number:04}.png" for number in range(COUNT - SILENT, COUNT)}
    known = set(store.strings(schemas.ITEMS, "text", eq("modality", "text") & eq("split", "train")))

    assert caption_collection(CaptionParams(), dry_run=True).pending == {"shapes": SILENT}
    assert not captions(store)
    done = caption_collection(CaptionParams(shard_items=4))
    assert sum(one.captioned for one in done.reports) == SILENT
    made = captions(store)
    assert made.keys() == silent
    assert set(made.values()) <= known
    assert given(store) == before
    assert marked(store) == silent
    word = made["0050.png"].split()[1]
    found = Searcher(Workspace(root=tmp_path / "workspace")).search(Query(text=word), target="image", mode="text", k=60)
    assert "0050.png" in {hit.uri for hit in found.hits}
    assert assess(measure, in_force(None)).metrics["directions"] == directions
    assert artifacts("captions-%")

    assert caption_collection(CaptionParams()).pending == {"shapes": 0}
    lost = sorted(store.strings(schemas.GENERATED, "key"))[:5]
    store.delete_keys(schemas.GENERATED, lost)
    assert sum(one.captioned for one in caption_collection(CaptionParams()).reports) == len(lost)
    assert captions(store) == made

    update(UpdateParams())
    assert captions(store) == made
    assert marked(store) == silent
    rows = [row(number) for number in range(COUNT) if number != 59]
    rows[58]["caption"] = "a black circle, said by a person"
    draw(70)[0].save(tmp_path / "shapes" / "0057.png")
    write(tmp_path, rows)
    update(UpdateParams())
    gone = {"0057.png", "0058.png", "0059.png"}
    assert captions(store).keys() == silent - gone
    assert marked(store) == silent - gone
    assert sum(one.captioned for one in caption_collection(CaptionParams()).reports) == 1
    assert captions(store).keys() == silent - gone | {"0057.png"}

    after = given(store)
    assert forget_captions(CaptionParams()).dropped == {"shapes": SILENT - 2}
    assert not captions(store)
    assert not marked(store)
    assert given(store) == after


def test_generated_captions_train_only_when_asked(
    store: Store, tmp_path: Path, tiny_encoders: dict[str, tuple[str, ...]]
) -> None:
    """A fit after captioning takes the given pairs alone; with align.generated those of training items as well."""
    fitted = in_force(None)
    caption_collection(CaptionParams())
    training = sum(number % 4 > 0 for number in range(COUNT - SILENT, COUNT))
    plain = load_training(store, fitted.collections, fitted.encoded)
    more = load_training(store, fitted.collections, fitted.encoded, generated=True)
    assert len(plain.pairs) == fitted.space.pairs
    assert len(more.pairs) == fitted.space.pairs + training
    assert len(load_training(store, fitted.collections, fitted.encoded, mined=True).pairs) == fitted.space.pairs
    again = pipeline(params_for(tmp_path / "shapes", tiny_encoders)).aligned.space
    assert again.space_id == fitted.space.space_id
    asked = pipeline(params_for(tmp_path / "shapes", tiny_encoders, align={"generated": True})).aligned.space
    assert asked.space_id != fitted.space.space_id
    assert asked.pairs == fitted.space.pairs + training


def test_the_command(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`modalign caption` captions files and items with their evidence, and whole collections; nonsense is refused."""
    file = str(tmp_path / "shapes" / "0050.png")

    def asked(*words: str) -> Any:
        capsys.readouterr()
        assert call("caption", *words, "--json") == 0
        return json.loads(capsys.readouterr().out)

    (one,) = asked(file, "-k", "3")["captions"]
    assert one["text"] == one["evidence"][0]["text"]
    assert len(one["evidence"]) == 3
    item = store.strings(schemas.ITEMS, "key", eq("uri", "0050.png"))[0]
    (same,) = asked("--item", item)["captions"]
    assert same["text"] == one["text"]
    assert asked("--all", "--dry-run")["captioned"]["pending"] == {"shapes": SILENT}
    assert asked("--all", "--collection", "shapes")["captioned"]["reports"]
    assert captions(store)["0050.png"] == one["text"]
    assert asked("--undo")["captioned"]["dropped"] == {"shapes": SILENT}
    reader = f"local:{save_gpt2(tmp_path / 'gpt2')}"
    assert asked("--all", "--generator", reader)["captioned"]["method"].endswith(f"written by {reader}")
    (written,) = asked(file, "--generator", reader)["captions"]
    assert written["generator"] == reader
    assert captions(store)["0050.png"] == written["text"] != one["text"]
    assert call("caption", file) == 0
    shown = capsys.readouterr().out
    assert one["text"] in shown
    assert "likeness" in shown
    for wrong in ([], [file, "--all"], ["--all", "--collection", "nobody"], [file, "--generator", "gpt2"]):
        assert call("caption", *wrong) == 2
        assert capsys.readouterr().err.startswith("modalign: ")
