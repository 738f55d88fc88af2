"""Small pictures that a page carries in itself."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 112


def thumbnail(pixels: npt.NDArray[np.uint8], side: int = SIDE) -> bytes:
    """A picture (height, width, 3), at most `side` wide and high, as WebP: 2 to 4 KB.

    >>> thumbnail(np.zeros((400, 200, 3), np.uint8))[:4]
    b'RIFF'
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=62, method=4)
    return out.getvalue()


def data_uri(webp: bytes) -> str:
    """What stands in place of an address."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")
