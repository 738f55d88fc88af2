from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.examples import Found, picture_of
from tasks.media.registry import Limits
from tasks.reports.sheet import Row, contact_sheet
from tests.tiny import draw


def test_a_picture_is_read_inside_its_own_collection_alone(tmp_path: Path) -> None:
    """A path or link that leaves the root of the collection, a file that is gone, an unknown collection: no picture."""
    root, outside = tmp_path / "photos", tmp_path / "secret.png"
    root.mkdir()
    draw(1)[0].save(outside)
    draw(2)[0].save(root / "own.png")
    (root / "link.png").symlink_to(outside)
    roots = {"photos": str(root)}

    def shown(collection: str, uri: str) -> bool:
        return picture_of(roots, Found(collection, uri, known=False), Limits()) is not None

    assert shown("photos", "own.png")
    assert not shown("photos", "../secret.png")
    assert not shown("photos", str(outside))
    assert not shown("photos", "link.png")
    assert not shown("photos", "gone.png")
    assert not shown("others", str(root / "own.png"))


def test_a_sheet_shows_all_rows_whatever_they_hold() -> None:
    """Wide and high pictures, one that is missing, words that are too long or that the font lacks: one sheet, the same
    again.
    """
    pictures = [np.full((9, 300, 3), 200, np.uint8), np.full((300, 9, 3), 90, np.uint8), None]
    rows = [Row("a very long line of words " * 9, pictures, [True, False, False]), Row("猫", [], [])]
    sheet = contact_sheet(rows)
    assert contact_sheet(rows) == sheet
    assert Image.open(io.BytesIO(sheet)).size == (368, 300)
    assert Image.open(io.BytesIO(contact_sheet([]))).format == "PNG"
