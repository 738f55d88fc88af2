from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.sources import debian
from tasks.sources.debian import fetch_package
from tasks.sources.item import BadRow, Columns, Row, SourceError
from tasks.sources.open import open_source
from tasks.sources.tuxpaint import INSIDE, PACKAGE

FILES = {
    "animals/dog.png": b"picture",
    "animals/dog.txt": "A dog.\nde.utf8=Ein Hund.\nzh_CN.utf8=狗。\n".encode(),
    "animals/dog.ogg": b"bark",
    "animals/dog_desc_de.ogg": b"speech",
    "animals/dog.dat": b"tintable",
    "animals/dog_mirror.png": b"the same the other way round",
    "animals/cartoon/hound.png": b"picture",
    "animals/cartoon/hound.svg": b"<svg/>",
    "animals/cartoon/hound.txt": b"A  dog.",
    "animals/cartoon/hound.wav": b"woof",
    "symbols/math/7.png": b"picture",
    "symbols/math/7.txt": b"Seven.",
    "symbols/math/7.ogg": b"speech",
    "town/house.svg": b"<svg/>",
    "town/house.txt": b"\xff\xfe",
    "town/shed.svg": b"<svg/>",
    "town/shed.txt": b"\n",
}


def write(root: Path) -> Path:
    """A folder of stamps."""
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_stamps_are_rows_by_sentence(tmp_path: Path) -> None:
    """A sentence is a row with all its pictures and sounds; speech, mirrored pictures and second forms stay out."""
    write(tmp_path / PACKAGE)
    source = open_source("demo:tuxpaint", Columns(), tmp_path)
    found = list(source.rows())
    rows = {row.texts[0].text: row for row in found if isinstance(row, Row)}
    assert {text: [(ref.modality, ref.path) for ref in row.media] for text, row in rows.items()} == {
        "A dog.": [
            ("image", "animals/dog.png"),
            ("audio", "animals/dog.ogg"),
            ("image", "animals/cartoon/hound.png"),
            ("audio", "animals/cartoon/hound.wav"),
        ],
        "Seven.": [("image", "symbols/math/7.png")],
    }
    assert rows["A dog."].group == "A dog."
    assert rows["A dog."].attributes == {"theme": "animals", "name_zh": "狗。"}
    assert source.lexical == ("name_zh",)
    assert {row.locator: row.code for row in found if isinstance(row, BadRow)} == {
        "town/house": "row_not_utf8",
        "town/shed": "row_no_content",
    }
    assert any("GPL-2" in note for note in source.notes)


def test_stamps_that_are_not_there_are_told_of(tmp_path: Path) -> None:
    """Nothing is fetched by reading: the message names the command that does."""
    with pytest.raises(SourceError, match="modalign demo --collection tuxpaint"):
        open_source("demo:tuxpaint", Columns(), tmp_path)


def programs(folder: Path, apt: str) -> str:
    """A search path with an apt-get that does this, and the system's dpkg-deb."""
    folder.mkdir()
    (folder / "apt-get").write_text(f"#!/bin/sh\n{apt}\n")
    (folder / "apt-get").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with the stamps and a copyright."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not here")
    root = tmp_path / "made"
    write(root / INSIDE)
    about = root / "usr/share/doc" / PACKAGE
    about.mkdir(parents=True)
    (about / "copyright").write_text("GPL-2")
    (root / "DEBIAN").mkdir()
    control = {"Package": PACKAGE, "Version": "1", "Architecture": "all", "Maintainer": "a <a@b>", "Description": "x"}
    (root / "DEBIAN" / "control").write_text("".join(f"{name}: {value}\n" for name, value in control.items()))
    out = tmp_path / f"{PACKAGE}_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(out)], check=True, capture_output=True)
    return out


def test_a_package_is_fetched_once(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it holds lies in the folder with its copyright, nothing else beside it; a second run fetches nothing."""
    calls = tmp_path / "calls"
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", f"echo $@ >> '{calls}'; cp '{package}' ."))
    told: list[int] = []
    folder = tmp_path / "packages" / PACKAGE
    for _ in range(2):
        assert fetch_package(PACKAGE, INSIDE, folder, advance=told.append) == folder
    assert calls.read_text().splitlines() == [f"download {PACKAGE}"]
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        *FILES,
        "copyright",
    }
    assert list(folder.parent.iterdir()) == [folder]
    assert told
    assert sum(isinstance(row, Row) for row in open_source("demo:tuxpaint", Columns(), folder.parent).rows()) == 2


@pytest.mark.parametrize(
    ("apt", "said"),
    [
        (
            "echo 'E: Unable to locate package' >&2; exit 100",
            "Unable to locate package.*apt-get upd",
        ),
        ("true", "gave no package"),
        (f"echo broken > {PACKAGE}_1_all.deb", "cannot be unpacked"),
    ],
)
def test_a_fetch_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt: str, said: str
) -> None:
    """What apt or dpkg says is told in one line, with the mend, and the next fetch starts afresh."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not here")
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", apt))
    with pytest.raises(SourceError, match=said):
        fetch_package(PACKAGE, INSIDE, tmp_path / "packages" / PACKAGE)
    assert list((tmp_path / "packages").iterdir()) == []


def test_what_a_fetch_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt, without room on the disk, or with a name that is none, it is said before anything is written."""
    folder = tmp_path / "packages" / PACKAGE
    with pytest.raises(SourceError, match="no name of a Debian package"):
        fetch_package("--option", INSIDE, folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="apt-get is not here"):
        fetch_package(PACKAGE, INSIDE, folder)
    assert not folder.parent.exists()
    monkeypatch.setattr(debian.shutil, "which", lambda name: name)
    monkeypatch.setattr(debian, "_ROOM", 1 << 60)
    with pytest.raises(SourceError, match="MiB free"):
        fetch_package(PACKAGE, INSIDE, folder)
