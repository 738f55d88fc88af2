"""From a decoded picture to a model's input: resize and crop. The model normalises, so inputs stay uint8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Filters by the numbers that PIL gives them and preprocessor_config.json holds."""


@dataclass(frozen=True, slots=True)
class CentreSquare:
    """The centre square, as wide as the shorter side, resized in one step.

    >>> CentreSquare(8)(np.zeros((40, 80, 3), np.uint8)).shape
    (8, 8, 3)
    """

    side: int

    @property
    def height(self) -> int:
        """Rows of the input."""
        return self.side

    @property
    def width(self) -> int:
        """Columns of the input."""
        return self.side

    @property
    def shorter_side(self) -> int:
        """Of a picture's shorter side this much is used."""
        return self.side

    def __call__(self, pixels: Pixels) -> Pixels:
        """`(h, w, 3)` uint8 → `(side, side, 3)` uint8."""
        height, width = pixels.shape[:2]
        crop = min(height, width)
        left, top = (width - crop) / 2, (height - crop) / 2
        if crop == self.side and left.is_integer() and top.is_integer():  # the same bits, without work
            return pixels[int(top) :, int(left) :][:crop, :crop].copy()
        box = (left, top, left + crop, top + crop)
        picture = Image.fromarray(pixels).resize((self.side, self.side), Image.Resampling.BICUBIC, box=box)
        return np.array(picture, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class ResizeCrop:
    """Resize the shorter side to `shorter` (or, when 0, to the input's size regardless of shape), then crop the centre.

    What torchvision's and transformers' image processors do. `shorter` is no less than the crop's sides. Where the
    rest is odd, torchvision rounds the crop's place to the nearest even number and transformers down (`floor`).

    >>> ResizeCrop(8, 8, shorter=10)(np.zeros((40, 80, 3), np.uint8)).shape
    (8, 8, 3)
    """

    height: int
    width: int
    shorter: int = 0
    filter: str = "bilinear"
    floor: bool = False

    @property
    def shorter_side(self) -> int:
        """Of a picture's shorter side this much is used."""
        return self.shorter or max(self.height, self.width)

    def __call__(self, pixels: Pixels) -> Pixels:
        """`(h, w, 3)` uint8 → `(height, width, 3)` uint8."""
        resample = Image.Resampling[self.filter.upper()]
        picture = Image.fromarray(pixels)
        if not self.shorter:
            return np.array(picture.resize((self.width, self.height), resample), dtype=np.uint8)
        width, height = picture.size
        if width <= height:
            size = (self.shorter, max(int(self.shorter * height / width), 1))
        else:
            size = (max(int(self.shorter * width / height), 1), self.shorter)
        left, top = self._place(size[0] - self.width), self._place(size[1] - self.height)
        resized = picture.resize(size, resample)
        return np.array(resized.crop((left, top, left + self.width, top + self.height)), dtype=np.uint8)

    def _place(self, rest: int) -> int:
        return rest // 2 if self.floor else round(rest / 2)
