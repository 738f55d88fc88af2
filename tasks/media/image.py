"""One decoder for all image encoders: bytes → RGB, upright, on white, 8 bits, whatever the file holds."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.media.registry import Limits, MediaError

Pixels = npt.NDArray[np.uint8]

SVG_SIDE = 320
"""Longest side in pixels of a drawn SVG."""

JPEG_SIDE = 640
"""A JPEG is decoded at so many eighths of its size as long as both sides keep so many pixels: more than
encoders take, and many times faster than all of a phone's twelve million."""

_JPEG = b"\xff\xd8"
_WHITE = (255, 255, 255)
_DEEP = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}


def inspect(data: bytes, limits: Limits) -> None:
    """Check the header: is it a picture, and are its pixels within bounds? Nothing is decoded.

    Raises `MediaError` with the code file_empty, not_an_image or image_too_large.
    """
    if not data:
        raise MediaError("file_empty", "the file holds no byte")
    if _is_svg(data):
        return
    with _opened(data, limits):
        pass


def decode(data: bytes, limits: Limits) -> Pixels:
    """The picture as RGB `(height, width, 3)` uint8; a large JPEG smaller than it is, see `JPEG_SIDE`.

    EXIF orientation is applied; palettes and 16 bits are brought to 8-bit RGB; transparency lies on white; of an
    animation the first frame counts. Raises `MediaError`: file_empty, not_an_image, image_too_large, image_truncated,
    image_unreadable.
    """
    if not data:
        raise MediaError("file_empty", "the file holds no byte")
    if _is_svg(data):
        return _draw_svg(data)
    with _opened(data, limits) as picture:
        if data.startswith(_JPEG) and picture.mode in ("RGB", "L"):
            # read before the fast path decodes: the tag tells how the camera was held
            turn = picture.getexif().get(0x0112, 1)
            pixels = _decode_jpeg(data)
            if pixels is not None:
                return pixels if turn == 1 else np.array(_upright(Image.fromarray(pixels), turn))
        try:
            picture.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture.load()
                return np.array(_to_rgb(ImageOps.exif_transpose(picture)))
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
            raise _broken(error) from None


def _opened(data: bytes, limits: Limits) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the bound below is ours; Pillow's own only warns
            picture = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        raise MediaError("image_too_large", f"more than {limits.max_pixels:,} pixels") from None
    except UnidentifiedImageError:
        raise MediaError("not_an_image", f"starts with {data[:12]!r}, which no known picture does") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _broken(error) from None
    width, height = picture.size
    if width * height > limits.max_pixels:
        picture.close()
        raise MediaError("image_too_large", f"{width} × {height} pixels are more than {limits.max_pixels:,}")
    return picture


def _decode_jpeg(data: bytes) -> Pixels | None:
    """Fast path; None where the strict decoder objects, and Pillow says what is wrong, if anything."""
    import simplejpeg

    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_height=JPEG_SIDE, min_width=JPEG_SIDE, min_factor=2
        )
    except ValueError:
        return None
    return pixels


def _upright(picture: Image.Image, turn: int) -> Image.Image:
    picture.getexif()[0x0112] = turn
    return ImageOps.exif_transpose(picture)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in _DEEP:
        return _eight_bits(picture).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*_WHITE, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit and wider greys by their top eight bits; Pillow's own conversion would clip them to white."""
    values = np.asarray(picture)
    if picture.mode == "F":
        top = float(values.max(initial=1.0))
        return Image.fromarray((np.clip(values / (top if top > 1 else 1), 0, 1) * 255).round().astype(np.uint8))
    wide = int(values.max(initial=0)) > 255 or picture.mode.startswith("I;16")
    return Image.fromarray(np.clip(values >> 8 if wide else values, 0, 255).astype(np.uint8))


def _is_svg(data: bytes) -> bool:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith((b"<?xml", b"<!--", b"<!DOCTYPE svg", b"<svg")) and b"<svg" in data[:65536]


def _draw_svg(data: bytes) -> Pixels:
    """Draw on white, longest side `SVG_SIDE`. Nothing outside the file is read: external links are taken out."""
    import resvg_py

    try:
        text = _INLINE_ONLY.sub("", data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise MediaError("image_unreadable", "the SVG is not UTF-8") from None
    text = _ROOT.sub(_without_units, text, count=1)
    box = _BOX.search(text)
    tall = box is not None and float(box[2]) > float(box[1])
    width, height = (None, SVG_SIDE) if tall else (SVG_SIDE, None)
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=text, background="white", skip_system_fonts=True, width=width, height=height
        )
    except (ValueError, RuntimeError) as error:
        raise MediaError("image_unreadable", f"the SVG cannot be drawn: {error}") from None
    with Image.open(io.BytesIO(bytes(png))) as picture:
        return np.array(picture.convert("RGB"))


def _without_units(root: re.Match[str]) -> str:
    """The opening tag of an SVG whose size is in points or millimetres, which resvg-py refuses, by its box alone."""
    sizes = {side: (float(value), unit) for side, value, unit in _SIZE.findall(root[0])}
    if not any(unit in _PIXELS for _, unit in sizes.values()):
        return root[0]
    tag = _SIZE.sub("", root[0])
    if "viewBox" in tag or len(sizes) < 2:
        return tag
    width, height = (sizes[side][0] * _PIXELS.get(sizes[side][1], 1.0) for side in ("width", "height"))
    return f'{tag[:4]} viewBox="0 0 {width:g} {height:g}"{tag[4:]}'


_ROOT = re.compile(r"<svg\b[^>]*>")
_SIZE = re.compile(r"""\s(width|height)\s*=\s*["']\s*(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*([a-zA-Z%]*)\s*["']""")
_PIXELS = {"pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}
"""Pixels in the absolute units of CSS."""
# links that do not stay inside the file: only data: and #fragment may remain
_INLINE_ONLY = re.compile(r"""\s(?:xlink:)?href\s*=\s*(["'])(?!#|data:)[^"']*\1""")
_BOX = re.compile(r"""viewBox\s*=\s*["'][-\d.eE]+[\s,]+[-\d.eE]+[\s,]+(\d[\d.eE]*)[\s,]+(\d[\d.eE]*)""")


def _broken(error: Exception) -> MediaError:
    text = str(error)
    if re.search(r"truncat|premature|unexpected end|not enough|incomplete|broken data stream|end of file", text, re.I):
        return MediaError("image_truncated", f"the file ends too early ({text})")
    return MediaError("image_unreadable", f"the picture cannot be decoded ({text or type(error).__name__})")
