from __future__ import annotations

import io

import numpy as np
from PIL import Image

from flows.server.thumbnails import Thumbnails, draw
from tasks.media.registry import Limits
from tests.clips import film, grey
from tests.sounds import tone, written
from tests.tasks.media.test_image import saved


def drawn(modality: str, data: bytes, size: int = 160, at: float = 0.0) -> Image.Image:
    """The thumbnail as a picture."""
    return Image.open(io.BytesIO(draw(modality, data, size, at, Limits())))


def test_it_is_bounded_and_never_larger() -> None:
    """Its longest side is the one asked for, its shape the picture's; a small picture stays as it is."""
    assert drawn("image", saved(Image.new("RGB", (1_000, 500)), "PNG")).size == (160, 80)
    assert drawn("image", saved(Image.new("RGB", (20, 30)), "PNG")).size == (20, 30)


def test_a_video_shows_the_second_that_is_asked_for() -> None:
    """The frame at one second is the 25th of a video of 25 a second."""
    shown = np.asarray(drawn("video", film(50), at=1.0).convert("L"), np.float64).mean()
    assert abs(shown - grey(25).mean()) < 3


def test_a_sound_shows_where_it_is_loud() -> None:
    """The bars where it is silent are as low as bars get, those where it is loud fill the height."""
    samples = np.concatenate([np.zeros(44_100, np.float32), tone(1.0)])
    alpha = np.asarray(drawn("audio", written(samples), size=1_280).convert("RGBA"))[..., 3]
    silent, _, _, loud = (part.any(axis=1).mean() for part in np.split(alpha > 128, 4, axis=1))
    assert silent < 0.1
    assert loud > 0.7


def test_the_last_ones_are_kept() -> None:
    """What was drawn is not drawn again, until others have taken its place; the bytes kept stay within the bound."""
    kept, count = Thumbnails(most=25), 0

    def make() -> bytes:
        nonlocal count
        count += 1
        return bytes(10)

    for name in ("a", "b", "a", "c", "a", "b"):
        kept.get((name, 160, 0.0), make)
    assert count == 4  # b had to go for c, and came back
