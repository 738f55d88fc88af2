"""From a decoded picture to a model's square input."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def centre_square(pixels: Pixels, side: int, *, share: float, bicubic: bool = True) -> Pixels:
    """The centre square of a picture (h, w, 3), `share` of its shorter side, resized to (side, side, 3) uint8.

    >>> centre_square(np.zeros((40, 80, 3), np.uint8), 8, share=0.5).shape
    (8, 8, 3)
    """
    height, width = pixels.shape[:2]
    crop = min(height, width) * share
    left, top = (width - crop) / 2, (height - crop) / 2
    filter_ = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    box = (left, top, left + crop, top + crop)
    return np.array(Image.fromarray(pixels).resize((side, side), filter_, box=box, reducing_gap=None))
