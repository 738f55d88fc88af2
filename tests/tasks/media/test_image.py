from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.media.image import JPEG_SIDE, decode, inspect
from tasks.media.registry import Limits, MediaError

LIMITS = Limits()


def scene(width: int = 64, height: int = 40) -> Image.Image:
    """A smooth picture without symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) % 256], 2).astype(np.uint8))


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a picture in a format."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def code_of(call: Callable[[], object]) -> str:
    """The reason code of a refusal."""
    with pytest.raises(MediaError) as caught:
        call()
    return caught.value.code


def bomb() -> bytes:
    """A small PNG whose header declares 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_lossless(turn: int) -> None:
    """A losslessly stored picture with any EXIF orientation decodes bit for bit like the upright one."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[turn]
    stored = scene() if undo is None else scene().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = turn
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decode(saved(stored, kind, exif=exif), LIMITS), np.asarray(scene()))


def test_exif_orientation_jpeg() -> None:
    """A rotated JPEG decodes to the upright picture's shape and, but for compression, its pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(scene().transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    upright = np.asarray(scene(), np.float32)
    pixels = decode(turned, LIMITS).astype(np.float32)
    assert pixels.shape == upright.shape
    assert np.abs(pixels - upright).mean() < 4


@pytest.mark.parametrize(("width", "height"), [(1_300, 1_281), (2_000, 3_000), (5_200, 2_600)])
def test_a_large_jpeg_is_decoded_smaller(width: int, height: int) -> None:
    """At a part of its size, no side below `JPEG_SIDE`, it is the picture that its full size would shrink to."""
    data = saved(scene(width, height), "JPEG", quality=95)
    small = decode(data, LIMITS)
    assert JPEG_SIDE <= min(small.shape[:2]) < 2 * JPEG_SIDE
    with Image.open(io.BytesIO(data)) as whole:
        shrunk = whole.resize(small.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(small.astype(np.float32) - np.asarray(shrunk, np.float32)).mean() < 2


def test_a_jpeg_of_usual_size_is_decoded_whole() -> None:
    """One that no half of its size could stand for keeps every pixel, however long its other side."""
    for width, height in ((1_279, 1_278), (3_000, 600)):
        assert decode(saved(scene(width, height), "JPEG"), LIMITS).shape == (height, width, 3)


def test_transparency_lies_on_white() -> None:
    """Fully transparent pixels are white, whether the alpha is a channel or a palette entry."""
    layer = scene().convert("RGBA")
    layer.putalpha(0)
    assert (decode(saved(layer, "PNG"), LIMITS) == 255).all()
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([10, 20, 30] * 256)
    assert (decode(saved(palette, "PNG", transparency=3), LIMITS) == 255).all()
    assert (decode(saved(palette, "PNG"), LIMITS) == (10, 20, 30)).all()


def test_cmyk_is_converted() -> None:
    """A CMYK JPEG without ink is white, with full black ink black."""
    white, black = Image.new("CMYK", (16, 16), (0, 0, 0, 0)), Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    assert (decode(saved(white, "JPEG"), LIMITS) > 250).all()
    assert (decode(saved(black, "JPEG"), LIMITS) < 5).all()


def test_sixteen_bits_keep_their_scale() -> None:
    """A 16-bit grey ramp becomes the 8-bit ramp of its high bytes, not clipped to white."""
    ramp = np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (4, 1))
    pixels = decode(saved(Image.fromarray(ramp), "PNG"), LIMITS)
    assert pixels.shape == (4, 256, 3)
    assert np.array_equal(pixels[0, :, 0], np.arange(256))


def test_grey_becomes_three_equal_channels() -> None:
    """A greyscale picture has R = G = B, as JPEG and as PNG."""
    for kind in ("PNG", "JPEG"):
        pixels = decode(saved(scene().convert("L"), kind), LIMITS)
        assert (pixels == pixels[..., :1]).all()


def test_first_frame_of_an_animation() -> None:
    """Of an animated GIF the first frame counts."""
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    pixels = decode(saved(first, "GIF", save_all=True, append_images=[second]), LIMITS)
    assert (pixels == (255, 0, 0)).all()


def test_broken_files_have_their_own_codes() -> None:
    """Each kind of broken file is refused under its own reason code."""
    jpeg, png = saved(scene(), "JPEG", quality=90), saved(scene(), "PNG")
    assert code_of(lambda: inspect(b"", LIMITS)) == "file_empty"
    assert code_of(lambda: inspect(b"just some words in a file", LIMITS)) == "not_an_image"
    assert code_of(lambda: inspect(bomb(), LIMITS)) == "image_too_large"
    assert code_of(lambda: decode(bomb(), LIMITS)) == "image_too_large"
    assert code_of(lambda: decode(jpeg[: len(jpeg) // 2], LIMITS)) == "image_truncated"
    assert code_of(lambda: decode(png[: len(png) // 2], LIMITS)) == "image_truncated"


def test_pixel_bound_is_the_limit() -> None:
    """A picture at the bound passes, one pixel more does not."""
    data = saved(scene(10, 10), "PNG")
    inspect(data, Limits(max_pixels=100))
    assert code_of(lambda: inspect(data, Limits(max_pixels=99))) == "image_too_large"


def test_svg_is_drawn_on_white() -> None:
    """An SVG is a medium like another: drawn on white, with its own colours."""
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 20">'
        b'<rect width="10" height="10" fill="#ff0000"/></svg>'
    )
    pixels = decode(svg, LIMITS)
    height, width = pixels.shape[:2]
    assert height == 2 * width
    assert tuple(pixels[height // 4, width // 2]) == (255, 0, 0)
    assert tuple(pixels[3 * height // 4, width // 2]) == (255, 255, 255)


@pytest.mark.parametrize("link", ["{path}", "file://{path}"])
def test_svg_reads_no_other_file(tmp_path: Path, link: str) -> None:
    """A picture linked from an SVG by path is not drawn: nothing outside the file is read."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (10, 10), (255, 0, 0)).save(secret)
    target = link.format(path=secret)
    for attribute in ("href", "xlink:href"):
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 10">'
            f'<image {attribute}="{target}" width="10" height="10"/></svg>'
        )
        assert (decode(svg.encode(), LIMITS) == 255).all()


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ('width="30pt" height="60pt"', (320, 160)),  # 40 × 80 pixels of CSS
        ('width="20mm" height="1cm"', (160, 320)),
        ('width="2in" height="40mm" viewBox="0 0 10 10"', (320, 320)),  # the box says what is drawn
        ('width="40" height="20"', (160, 320)),
    ],
)
def test_svg_of_any_unit(size: str, drawn: tuple[int, int]) -> None:
    """A size in points, inches or millimetres is drawn in its proportions, as one in pixels is."""
    rest = '<rect width="400" height="400" fill="#00ff00"/></svg>'
    pixels = decode(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{rest}'.encode(), LIMITS)
    assert pixels.shape == (*drawn, 3)
    assert (pixels == (0, 255, 0)).all()


def test_broken_svg_is_quarantined() -> None:
    """An SVG that cannot be parsed is refused as unreadable."""
    assert code_of(lambda: decode(b"<svg xmlns='http://www.w3.org/2000/svg'><rect", LIMITS)) == "image_unreadable"
