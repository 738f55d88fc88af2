from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import UserError
from storage import catalog
from storage.workspace import Workspace
from tasks.sources.folder import FolderSource
from tasks.sources.item import Columns, Row
from tasks.sources.table import TableSource
from tasks.suggest import Suggestion, place_for, write_table

ROWS = [
    Suggestion("image", "sub/ä b.png", "", "", ("a dog", "a cat"), 0.5, 0.1),
    Suggestion("text", "", 'a "red", 猫\nline', "title", ("sub/c.png",), 0.0, 0.1),
]


def recorded(tmp_path: Path, uri: Path, root: Path, params: str = "{}") -> Workspace:
    """A workspace that knows one collection, `mine`."""
    workspace = Workspace(root=tmp_path / "workspace")
    catalog.record_collection(workspace.store, "mine", str(uri), str(root), params)
    return workspace


def test_a_part_of_the_folder_is_read_with_it(tmp_path: Path) -> None:
    """In a folder with metadata the table goes to a sub-folder, whose paths lead to the same media; the reader finds
    each item where it was, with an empty cell as nothing and remarks as no attributes.
    """
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    (root / "metadata.jsonl").write_text('{"file_name": "sub/ä b.png"}\n', encoding="utf-8")
    workspace = recorded(tmp_path, root, root, '{"columns": {"texts": ["title", "caption"]}}')
    place = place_for(workspace, "mine", None)
    assert place.path == root / "to-label" / "metadata.csv"
    assert place.next_step("mine").endswith("modalign update")
    write_table(place, ROWS)
    rows = list(FolderSource(root, Columns(texts=("title", "caption"))).rows())
    assert all(isinstance(row, Row) and row.attributes == {} for row in rows)
    media = [[ref.path for ref in row.media] for row in rows if isinstance(row, Row)]
    texts = [[(text.column, text.text) for text in row.texts] for row in rows if isinstance(row, Row)]
    assert media == [["sub/ä b.png"], ["sub/ä b.png"], []]
    assert texts == [[], [], [("title", ROWS[1].text)]]
    with pytest.raises(UserError, match="there already"):
        place_for(workspace, "mine", None)


def test_beside_a_table_it_is_a_table(tmp_path: Path) -> None:
    """A collection that is a table gets another one beside it, with the same paths, whose rows are appended by hand."""
    source = tmp_path / "pairs.csv"
    source.write_text("file_name,text\n")
    workspace = recorded(tmp_path, source, tmp_path)
    place = place_for(workspace, "mine", None)
    assert place.path == tmp_path / "label.csv"
    assert "append the rows to pairs.csv" in place.next_step("mine")
    write_table(place, ROWS)
    first, second = TableSource(place.path, Columns(texts=("title", "caption"))).rows()
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert [ref.path for ref in first.media] == ["sub/ä b.png"]
    assert [text.text for text in second.texts] == [ROWS[1].text]


def test_it_hides_nothing(tmp_path: Path) -> None:
    """Where a folder is read without metadata, a metadata file would hide its media: the table stays a table."""
    root = tmp_path / "photos"
    root.mkdir()
    workspace = recorded(tmp_path, root, root)
    place = place_for(workspace, "mine", None)
    assert (place.path.name, place.within) == ("label.csv", False)
    assert "modalign align --collections mine,label" in place.next_step("mine")
    with pytest.raises(UserError, match="no CSV"):
        place_for(workspace, "mine", root / "label.parquet")
