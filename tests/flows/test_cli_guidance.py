from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import schemas
from storage.filters import eq
from storage.workspace import Workspace
from tests.flows.runs import params_for
from tests.flows.test_cli import call, sets
from tests.flows.test_cli_changes import Terminal
from tests.tiny import draw, write_collection

PAIRED, ALONE, WORDS = 40, 20, 6


@dataclass(frozen=True)
class Made:
    """A workspace, its folder of pictures, and the options it was made with."""

    root: Path
    folder: Path
    options: list[str]

    @property
    def store(self) -> object:
        """Its tables."""
        return Workspace(root=self.root).store


@pytest.fixture(scope="module")
def made(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """40 pictures with two captions each, 20 with none, 6 texts alone; two encoders of pictures, one of texts."""
    root = tmp_path_factory.mktemp("guidance")
    folder = write_collection(root / "shapes", PAIRED)
    lines = []
    for number in range(PAIRED, PAIRED + ALONE):
        draw(number)[0].save(folder / f"{number:04}.png")
        lines.append({"file_name": f"{number:04}.png", "year": 2000 + number})
    lines += [{"caption": draw(number)[1]} for number in range(PAIRED + ALONE, PAIRED + ALONE + WORDS)]
    with (folder / "metadata.jsonl").open("a") as file:
        file.write("\n".join(json.dumps(line) for line in lines) + "\n")
    (image,) = tiny_encoders["image"]
    both = {"image": (image, image.replace("mean", "cls")), "text": tiny_encoders["text"]}
    options = sets(params_for(folder, both))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        patch.chdir(root)
        assert call("ingest", str(folder), *options) == 0
        yield Made(root / "workspace", folder, options)


def test_encoders_are_compared_on_the_tables_alone(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Each encoder of pictures and both together stand in the table under each method, the best first, with licence,
    width, CPU seconds, agreement and chance; the space is not touched, and the evaluation split not looked at.
    """
    terminal = Terminal(capsys)
    before = made.store.state(made.store.names())
    options = ["--folds", "3", "--set", "align.dim=16", "--set", "align.pca=32"]
    found = terminal.json("compare", "--methods", "ridge,procrustes", *options)["compare"]
    assert made.store.state(made.store.names()) == before
    rows = found["rows"]
    assert len(rows) == 3 * 2
    assert {len(row["encoders"]["image"]) for row in rows} == {1, 2}
    assert {row["width"]["image"] for row in rows} == {32, 64}
    scores = [row["rsum"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert [row["verdict"] for row in rows].count("best") == 1
    for row in rows:
        assert row["interval"][0] <= row["rsum"] <= row["interval"][1]
        assert row["cpu_seconds"] > 0
        assert row["licences"]
        near = row["agreement"]
        assert near["low"] <= near["value"] <= near["high"]
        assert near["chance"] == pytest.approx(near["k"] / (near["items"] - 1))
    held = made.store.count(schemas.ITEMS, eq("split", "heldout") & eq("modality", "text") & eq("column", "captions"))
    assert found["pairs"] == 2 * PAIRED - held
    shown = terminal.text("compare", "--methods", "procrustes", *options)
    assert "the evaluation split stays unseen" in shown
    assert "next: modalign align --set" in shown


def test_a_comparison_has_a_budget(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """With no time left the first candidate is measured, and the others are named."""
    terminal = Terminal(capsys)
    options = ["compare", "--methods", "procrustes", "--seconds", "0", "--folds", "2", "--pairs", "40"]
    found = terminal.json(*options)["compare"]
    assert (len(found["rows"]), len(found["not_tried"])) == (1, 2)
    assert found["pairs"] == 40 < found["of_pairs"]
    assert "2 further candidates were not tried" in terminal.text(*options)


def test_what_is_missing_is_named_with_its_mend(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """An encoder that nothing was encoded with, an unknown method, an unknown collection: one line, exit code 2."""
    terminal = Terminal(capsys)
    wanted = '{"image": ["builtin:efficientnet-lite0"], "text": ["builtin:minilm"]}'
    said = terminal.text("compare", "--set", f"encode.encoders={wanted}", code=2)
    assert "no vectors by builtin:efficientnet-lite0" in said
    assert f"modalign ingest {made.folder} --set 'encode.encoders={wanted}'" in said
    assert "no vectors by" in terminal.text("curve", "--set", f"encode.encoders={wanted}", code=2)
    assert "no method 'magic'" in terminal.text("compare", "--methods", "cca,magic", code=2)
    assert "no collection 'cats'" in terminal.text("compare", "--collections", "cats", code=2)
    assert "--folds" in terminal.text("curve", "--folds", "1", code=2)
    assert "too few to hold out" in terminal.text("compare", "--folds", "30", "--methods", "ridge", code=2)


def test_a_short_curve_says_that_it_cannot_tell(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures stand by number of pairs; from so few no forecast is made, and why is said."""
    terminal = Terminal(capsys)
    options = ["--seeds", "1", "--folds", "2", "--set", "align.method=procrustes", *made.options]
    found = terminal.json("curve", *options)["curve"]
    pairs = [row["pairs"] for row in found["points"]]
    assert pairs == sorted(pairs)
    assert 12 <= pairs[0] < pairs[-1] < 2 * PAIRED
    assert all(row["interval"][0] <= row["rsum"] <= row["interval"][1] for row in found["points"])
    assert found["outlook"]["gain"] is None
    assert "cannot tell what 100 more pairs would bring" in terminal.text("curve", *options)


def test_what_is_filled_in_is_read_with_the_collection(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Suggested items have no partner; the table in the collection's folder, filled in, gives known pairs of the same
    items at the next update: nothing else changes, and what was labelled is not suggested again.
    """
    terminal = Terminal(capsys)
    assert "no space" in terminal.text("suggest", code=2)
    assert call("align", *made.options) == 0
    capsys.readouterr()
    told = terminal.json("suggest", "-n", "8")["suggest"]
    path = made.folder / "to-label" / "metadata.csv"
    assert Path(told["written"]) == path
    assert told["next"].endswith("modalign update")
    lone = {f"{number:04}.png" for number in range(PAIRED, PAIRED + ALONE)}
    texts = {draw(number)[1] for number in range(PAIRED + ALONE, PAIRED + ALONE + WORDS)}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    pictures = [row for row in rows if row["file_name"]]
    words = [row for row in rows if row["caption"]]
    assert len(pictures) + len(words) == 8
    assert pictures
    assert words
    assert {row["file_name"].removeprefix("../") for row in pictures} <= lone
    assert {row["caption"] for row in words} <= texts
    assert all(row["#guess 1"] for row in rows)
    assert "there already" in terminal.text("suggest", code=2)

    # two pictures get a caption, one text gets the picture that it describes; the others stay empty
    for number, row in enumerate(pictures[:2]):
        row["caption"] = f"the long picture {number}"
    number = next(n for n in range(PAIRED + ALONE, 80) if draw(n)[1] == words[0]["caption"])
    draw(number)[0].save(made.folder / f"{number:04}.png")
    words[0]["file_name"] = f"../{number:04}.png"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    columns = ["key", "uri", "text", "attributes", "group", "split"]
    items = {row["key"]: row for row in made.store.read(schemas.ITEMS, columns).to_pylist()}
    pairs = set(made.store.strings(schemas.PAIRS, "key"))
    assert call("update") == 0
    capsys.readouterr()
    after = {row["key"]: row for row in made.store.read(schemas.ITEMS, columns).to_pylist()}
    for key, row in items.items():
        if row["uri"]:
            assert after[key] == row  # attributes, group and split of a picture are not changed by its label
    ends = made.store.read(schemas.PAIRS, ["key", "left", "right"]).to_pylist()
    fresh = {(after[row["left"]]["uri"], after[row["right"]]["text"]) for row in ends if row["key"] not in pairs}
    assert fresh == {
        *((row["file_name"].removeprefix("../"), row["caption"]) for row in pictures[:2]),
        (f"{number:04}.png", words[0]["caption"]),
    }
    again = terminal.json("suggest", "-n", "100", "-o", str(made.folder / "second.csv"))["suggest"]
    done = {row["file_name"].removeprefix("../") for row in pictures[:2]} | {words[0]["caption"]}
    assert not done & {item["uri"] or item["text"] for item in again["items"]}
    assert "--collections shapes,second" in again["next"]


def test_a_table_of_its_own_is_a_collection(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Written beside the media under another name, the filled table is read by `ingest`; where its paths would leave
    its folder, none is written.
    """
    terminal = Terminal(capsys)
    outside = made.root.parent / "elsewhere" / "label.csv"
    assert "lies outside" in terminal.text("suggest", "--modality", "image", "-o", str(outside), code=2)
    assert not outside.exists()
    path = made.root.parent / "mine.csv"
    items = terminal.json("suggest", "-n", "3", "--modality", "image", "-o", str(path))["suggest"]["items"]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == [f"shapes/{item['uri']}" for item in items]
    for row in rows:
        row["caption"] = "a picture"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert terminal.json("ingest", str(path), *made.options)["ingest"]["rows"] == 3
    here = eq("collection", "mine")
    assert made.store.count(schemas.PAIRS, here) == 3
    assert set(made.store.strings(schemas.ITEMS, "attributes", here)) == {"{}"}
    assert "no modality 'sound'" in terminal.text("suggest", "--modality", "sound", "-o", "x.csv", code=2)
