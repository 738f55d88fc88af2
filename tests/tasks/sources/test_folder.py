from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from tasks.media.registry import MediaError
from tasks.sources.item import BadRow, Columns, Row, SourceError
from tasks.sources.open import open_source, register_frame
from tasks.sources.paths import read_media


def write(folder: Path, rows: list[object], *, raw: bytes = b"") -> Path:
    """A folder with these rows, then `raw`, in its metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    (folder / "metadata.jsonl").write_bytes(text + raw)
    return folder


def read(source: str | Path, columns: Columns = Columns()) -> tuple[list[Row], list[BadRow]]:  # noqa: B008 - frozen
    """The good rows and the bad ones of a source."""
    rows = list(open_source(str(source), columns).rows())
    return [row for row in rows if isinstance(row, Row)], [row for row in rows if isinstance(row, BadRow)]


def test_split_folders_and_columns(tmp_path: Path) -> None:
    """A split is declared by the folder, or by the column, which wins; validation and dev are val."""
    write(tmp_path / "train", [{"file_name": "a.jpg", "caption": "x"}, {"file_name": "b.jpg", "split": "dev"}])
    write(tmp_path / "validation", [{"file_name": "c.jpg"}])
    rows, bad = read(tmp_path)
    assert not bad
    assert {row.media[0].path: row.split for row in rows} == {
        "train/a.jpg": "train",
        "train/b.jpg": "val",
        "validation/c.jpg": "val",
    }


def test_several_captions_are_several_texts(tmp_path: Path) -> None:
    """A list of captions gives one text each; text columns named in params are read."""
    write(tmp_path, [{"file_name": "a.jpg", "captions": ["x", "y"], "title": "z"}])
    (row,), _ = read(tmp_path, Columns(texts=("captions", "title"), required=frozenset({"title"})))
    assert [(text.column, text.text) for text in row.texts] == [("captions", "x"), ("captions", "y"), ("title", "z")]


def test_only_the_bad_row_is_lost(tmp_path: Path) -> None:
    """Invalid UTF-8, broken JSON and paths that leave the collection lose their own row, under their own code."""
    rows: list[object] = [
        {"file_name": "good.jpg"},
        {"file_name": "../up.jpg"},
        {"file_name": "/etc/passwd.png"},
        {"file_name": "a/../../up.jpg"},
        {"file_name": "x.xyz"},
        {"caption": 3},
        [1],
        {},
    ]
    write(tmp_path, rows, raw=b'{"file_name": "caf\xff.jpg"}\n{"file_name": \n{"file_name": "last.jpg"}\n')
    good, bad = read(tmp_path)
    assert [row.media[0].path for row in good] == ["good.jpg", "last.jpg"]
    assert [(int(row.locator.split(":")[1]), row.code) for row in bad] == [
        (2, "path_outside"), (3, "path_outside"), (4, "path_outside"), (5, "media_unknown"), (6, "row_bad_type"),
        (7, "row_bad_type"), (8, "row_no_content"), (9, "row_not_utf8"), (10, "row_not_json"),
    ]  # fmt: skip


def test_names_and_texts_that_are_no_unicode(tmp_path: Path) -> None:
    """A file name that is not UTF-8 and a JSON string with half a character are faults of their own; the rest stays."""
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    (bare / "good.png").write_bytes(b"x")
    good, bad = read(bare)
    assert [row.row_key for row in good] == ["good.png"]
    assert [(row.locator, row.code) for row in bad] == [("caf\\xe9.png", "path_not_utf8")]
    write(tmp_path / "listed", [{"file_name": "a.png"}], raw=b'{"file_name": "b.png", "note": "half \\ud83d"}\n')
    good, bad = read(tmp_path / "listed")
    assert [row.row_key for row in good] == ["a.png"]
    assert [row.code for row in bad] == ["row_not_utf8"]


def test_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    """The same table as CSV, Parquet, JSON lines and frame gives the same rows; a bad CSV row loses itself alone."""
    frame = pd.DataFrame({"path": ["a.jpg", "b.png"], "caption": ["one, two", "three"], "year": [1, 2]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    readings = [read(tmp_path / name)[0] for name in ("t.csv", "t.parquet", "t.jsonl")]
    readings.append(read(register_frame(frame, "t", tmp_path))[0])
    seen = [[(row.row_key, row.media, row.texts) for row in rows] for rows in readings]
    assert len(seen[0]) == 2
    assert all(one == seen[0] for one in seen)
    with (tmp_path / "t.csv").open("ab") as file:
        file.write(b"c.jpg,caf\xff,3\nd.jpg,four,4\n")
    good, bad = read(tmp_path / "t.csv")
    assert [row.media[0].path for row in good] == ["a.jpg", "b.png", "d.jpg"]
    assert [row.code for row in bad] == ["row_not_utf8"]


def test_unknown_columns_stop_before_work(tmp_path: Path) -> None:
    """A column the user named that is not there is an error that lists the columns there are."""
    write(tmp_path, [{"file_name": "a.jpg", "caption": "x"}])
    with pytest.raises(SourceError, match=r"'titel'.*caption, file_name"):
        read(tmp_path, Columns(texts=("titel",), required=frozenset({"titel"})))


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    """An empty folder, a missing path and a text file each say what is wrong."""
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SourceError):
            read(path)
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(SourceError, match="neither a folder nor a table"):
        read(tmp_path / "notes.md")


def test_media_without_metadata_are_rows(tmp_path: Path) -> None:
    """A folder without metadata gives one row a medium, sub-folders included, other files left alone."""
    for name in ("b.jpg", "a/c.PNG", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    rows, _ = read(tmp_path)
    assert [row.row_key for row in rows] == ["b.jpg", "a/c.PNG"]


def test_unicode_names_are_one(tmp_path: Path) -> None:
    """A name in NFD on disk and NFC in the metadata is found; its key is the NFC form. Chinese names are names."""
    decomposed, composed = "cafe\u0301.jpg", "caf\u00e9.jpg"
    (tmp_path / decomposed).write_bytes(b"x")
    (tmp_path / "照片.png").write_bytes(b"x")
    write(tmp_path, [{"file_name": composed}, {"file_name": "照片.png"}])
    rows, _ = read(tmp_path)
    assert [row.media[0].path for row in rows] == [composed, "照片.png"]
    assert all((tmp_path / row.media[0].file).exists() for row in rows)


def test_links_may_not_leave(tmp_path: Path) -> None:
    """A symbolic link that ends outside the collection is refused, one that ends inside is followed."""
    inside, outside = tmp_path / "in", tmp_path / "out.jpg"
    inside.mkdir()
    outside.write_bytes(b"secret")
    (inside / "a.jpg").write_bytes(b"a")
    (inside / "bad.jpg").symlink_to(outside)
    (inside / "good.jpg").symlink_to(inside / "a.jpg")
    (inside / "loop.jpg").symlink_to(inside / "loop.jpg")
    assert read_media(inside, "good.jpg", 10) == b"a"
    for name, code in (("bad.jpg", "path_outside"), ("none.jpg", "file_missing"), ("loop.jpg", "file_missing")):
        with pytest.raises(MediaError) as caught:
            read_media(inside, name, 10)
        assert caught.value.code == code
    with pytest.raises(MediaError, match="file_too_large"):
        read_media(inside, "a.jpg", 0)


def test_the_demo_collection() -> None:
    """The demo holds about 1,914 pictures, each with words, a file that exists, and no skin tone twice."""
    source = open_source("demo:openmoji", Columns())
    rows = [row for row in source.rows() if isinstance(row, Row)]
    assert 1_900 <= len(rows) <= 1_930
    assert len({row.row_key for row in rows}) == len(rows)
    assert all(row.texts and (source.root / row.media[0].file).is_file() for row in rows)
    cat = next(row for row in rows if row.attributes["emoji"] == "🐈")
    assert (cat.texts[0].text, cat.attributes["name_zh"]) == ("cat", "猫")
