"""Small pictures of items: a picture itself, a frame of a video, the waveform of a sound. The last stay in memory."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.media import audio, image, video
from tasks.media.registry import Limits

Pixels = npt.NDArray[np.uint8]

SIZES = (160, 320, 640, 1280)
"""Longest side in pixels; another one that is asked for becomes the next of these."""
TYPE = "image/webp"

_BYTES = 64_000_000  # kept in memory
_BARS, _RATE = 96, 8_000
_WAVE = (110, 123, 235)


class Thumbnails:
    """Drawn thumbnails by name, those used last, within a bound of bytes."""

    def __init__(self, most: int = _BYTES) -> None:
        self._most, self._held = most, 0
        self._known: OrderedDict[tuple[str, int, float], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: tuple[str, int, float], draw: Callable[[], bytes]) -> bytes:
        """The thumbnail `name`, drawn now if it is not held."""
        with self._lock:
            if name in self._known:
                self._known.move_to_end(name)
                return self._known[name]
        drawn = draw()
        with self._lock:
            if name not in self._known:
                self._known[name] = drawn
                self._held += len(drawn)
            while self._held > self._most:
                self._held -= len(self._known.popitem(last=False)[1])
        return drawn


def size_of(wanted: int) -> int:
    """The side that is drawn for a wanted one: few, so that few are kept.

    >>> size_of(200), size_of(9_999)
    (320, 1280)
    """
    return next((size for size in SIZES if size >= wanted), SIZES[-1])


def draw(modality: str, data: bytes, size: int, at: float, limits: Limits) -> bytes:
    """A WebP of an item's bytes, its longest side at most `size`; of a video the frame at `at` seconds.

    Raises `MediaError` where it cannot be decoded.
    """
    if modality == "image":
        return _small(Image.fromarray(image.decode(data, limits)), size)
    if modality == "video":
        clip = video.decode(data, limits)
        return _small(Image.fromarray(next(clip.frames([at or clip.seconds / 10]))), size)
    return _small(_waveform(audio.decode(data, limits)), size)


def _small(picture: Image.Image, size: int) -> bytes:
    picture.thumbnail((size, size))
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=82)
    return out.getvalue()


def _waveform(sound: audio.Sound) -> Image.Image:
    """Bars of the loudness over time, on nothing: it stands on light and dark pages. Reads in blocks."""
    loud = [np.abs(block[: len(block) // 80 * 80]).reshape(-1, 80).max(1) for block in sound.blocks(_RATE)]
    peaks = np.concatenate([one for one in loud if len(one)] or [np.zeros(1, np.float32)])
    bars = np.array([part.max(initial=0) for part in np.array_split(peaks, _BARS)])
    heights = np.sqrt(bars / max(float(bars.max()), 1e-9))
    picture = np.zeros((320, _BARS * 10, 4), np.uint8)
    for number, height in enumerate(heights):
        half = max(int(height * 130), 3)
        picture[160 - half : 160 + half, number * 10 + 2 : number * 10 + 8] = (*_WAVE, 255)
    return Image.fromarray(picture)
