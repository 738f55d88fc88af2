from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from storage import folders
from storage.folders import fresh_folder, replace_folder


def put(folder: Path, text: str) -> None:
    """Make a folder whose two files hold `text`, and put it in its place."""
    fresh = fresh_folder(folder)
    for name in ("a", "b"):
        (fresh / name).write_text(text)
    replace_folder(fresh, folder)


@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_a_folder_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """After each replacement the folder holds the new files alone, and nothing hidden stays beside it."""
    if how == "renames":
        monkeypatch.setattr(folders, "_exchanged", lambda *_: False)
    for text in ("one", "two", "three"):
        put(tmp_path / "s", text)
        assert {path.name: path.read_text() for path in (tmp_path / "s").iterdir()} == {"a": text, "b": text}
        assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is an instant without the folder")
def test_a_reader_never_misses_the_folder(tmp_path: Path) -> None:
    """While the folder is replaced again and again, a reader finds it, and its file, every time."""
    put(tmp_path / "s", "0")
    stop = threading.Event()

    def write() -> None:
        for number in range(300):
            put(tmp_path / "s", str(number))
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not stop.is_set():
        assert (tmp_path / "s" / "a").exists()
        seen += 1
    writer.join()
    assert seen
