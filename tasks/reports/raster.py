"""Plots as PNG, for places that show no SVG. The font is Pillow's own, so that letters are there on every machine."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

_STYLE = """
text { font-family: Aileron; font-size: 12px; fill: #566273; } .key { fill: #17202c; }
.scatter text { font-size: 14px; }
.grid { stroke: #e2e6ec; } .axis { stroke: #566273; }
.line { fill: none; stroke-width: 2; } .dashed { stroke-dasharray: 5 4; }
.reference { stroke: #566273; stroke-width: 1.4; }
.band { opacity: .16; } .mark { stroke: #ffffff; stroke-width: 1; }
.c0 { stroke: #0072b2; } .c1 { stroke: #d55e00; } .c2 { stroke: #00936b; }
.c3 { stroke: #b6568f; } .c4 { stroke: #b98400; }
.f0 { fill: #0072b2; } .f1 { fill: #d55e00; } .f2 { fill: #00936b; }
.f3 { fill: #b6568f; } .f4 { fill: #b98400; }
"""


def png(svg: str, zoom: int = 2) -> bytes:
    r"""An SVG of these plots, on white, `zoom` times as large as it says.

    >>> png('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>')[:4]
    b'\x89PNG'
    """
    import resvg_py

    with tempfile.TemporaryDirectory() as folder:
        fonts = []
        if font := _font():
            path = Path(folder, "font.otf")
            path.write_bytes(font)
            fonts.append(str(path))
        made = resvg_py.svg_to_bytes(
            svg_string=svg, style_sheet=_STYLE, background="#ffffff", zoom=zoom, font_files=fonts, font_family="Aileron"
        )
    return bytes(made)


@lru_cache(maxsize=1)
def _font() -> bytes:
    """The font that Pillow carries; b"" where it was built without FreeType, and the system's fonts have to do."""
    found = ImageFont.load_default(12)
    return bytes(getattr(found, "font_bytes", b""))
