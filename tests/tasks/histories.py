"""A folder that is edited: lines of metadata and files of known contents, what both were before, and changes of each.

Contents have names, so that a failing history can be read: `good3` is a picture, `wide1` a larger one, `cut0` the first
half of `good0`, `bent0` a picture of that size which cannot be decoded; `empty`, `words` and `words-of-a-size` are no
pictures, `huge` has more pixels than allowed. Under a path that ends in .wav or .mp4 the same names stand for sounds
and clips: a `wide` one lasts longer, a `huge` one too long or has too many pixels; clips of odd numbers have a sound
track.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.clips import filmed, half, sounding
from tests.sounds import tone, written
from tests.tiny import COLOURS

Line = dict[str, Any] | str
"""A record, or a line that is none (bytes that are not UTF-8 stand there as surrogates)."""

LIMIT, LONGEST = 1_000, 20  # pixels and seconds allowed
GOOD = [f"good{number}" for number in range(8)] + ["wide0", "wide1"]
BROKEN = ["cut0", "cut1", "bent0", "empty", "words", "words-of-a-size", "huge"]
PATHS = [
    "a.png",
    "b.png",
    "c.png",
    "d.jpg",
    "sub/a.png",
    "sub/b.png",
    "test/t.png",
    "caf\u00e9.png",
    "cafe\u0301.png",
    "note.txt",
]
LASTING = [
    "a.wav",
    "b.mp4",
    "c.wav",
    "d.mp4",
    "sub/a.mp4",
    "sub/b.wav",
    "test/t.mp4",
    "caf\u00e9.mp4",
    "cafe\u0301.mp4",
    "note.txt",
]
"""Paths of sounds and clips in the places of `PATHS`."""
CAPTIONS = [
    "a red circle", "a blue bar at the left", "the green square", "picture of a cross", "the black bar on the left",
    "黑猫 a yellow circle", "", " \t ", "a long long word and the long picture of the long bar at the top",
]  # fmt: skip
JUNK: list[Line] = [
    "{'file_name': 'a.png'}", "[1, 2]", "\udcff\udcfe", '{"caption": "cut off', {"mood": "no content"},
    {"file_name": "../outside.png", "caption": "a red bar"}, {"file_name": "a.xyz"}, {"caption": 7},
    {"caption": "half \ud800 of a character"},
]  # fmt: skip
_FIRST = 1_000_000_000_123_456_789  # nanoseconds: 2001


@lru_cache(maxsize=128)
def content(name: str, suffix: str = ".png") -> bytes:
    """The bytes of a content by its name, for a path that ends in `suffix`.

    All `good…` are of one length, and so are `bent…` and `words-of-a-size`.
    """
    kind, number = name.rstrip("0123456789"), int(name[-1]) if name[-1].isdigit() else 0
    make, heart = {".wav": (_sound, b"WAVE"), ".mp4": (_clip, b"mdat")}.get(suffix, (_picture, b"IDAT"))
    if kind in ("good", "wide", "huge"):
        return make(number, kind)
    good = make(number, "good")
    place = good.index(heart) + (0 if suffix == ".wav" else 4)
    return {
        "cut": {".wav": _sound(number, "cut"), ".mp4": good[: place + 40]}.get(suffix, good[: len(good) // 2]),
        "bent": good[:place] + b"\xff" * 8 + good[place + 8 :],
        "empty": b"",
        "words": b"this is no picture",
        "words-of-a-size": b"no picture".ljust(len(good)),
    }[kind]


def _picture(number: int, kind: str) -> bytes:
    """A PNG without compression, so that its length depends on its side alone: a bar on noise."""
    side = {"good": 8, "wide": 12, "huge": 40}[kind]
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3)).astype(np.uint8)
    pixels[:, number % side : number % side + 3] = list(COLOURS.values())[number % 5]
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return out.getvalue()


def _sound(number: int, kind: str) -> bytes:
    """A tone: a WAV of one window, or of two; cut, half an MP3, of which only its end shows that it is cut."""
    if kind == "cut":
        return half(written(tone(2.0, 300 + 200 * number), "MP3"))
    seconds = {"good": 0.3, "wide": 6.0, "huge": LONGEST + 1}[kind]
    return written(tone(seconds, 300 + 200 * number, 8_000, noise=number), rate=8_000)


def _clip(number: int, kind: str) -> bytes:
    """An MP4 of a second or two, filled up to a length; it has a sound track if its number is odd."""
    side = 48 if kind == "huge" else 16
    pixels = np.full((side, side, 3), list(COLOURS.values())[number % 5], np.uint8)
    frames = [pixels + np.uint8(4 * at + number) for at in range(5 if kind == "good" else 10)]
    if number % 2:
        made = sounding(frames, tone(len(frames) / 5, 300 + 200 * number, 16_000), fps=5)
    else:
        made = filmed(frames, codec="mpeg4")
    size = 24_000 - len(made)
    return made + size.to_bytes(4, "big") + b"free" + bytes(size - 8)


@dataclass
class Folder:
    """A collection on disk. `lines` are (folder, line) in their order; a folder has its own metadata file.

    A file is `old` (its time of change lies in the past, and each has another one) or was written just now.
    """

    root: Path
    lines: list[tuple[str, Line]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    past: list[tuple[list[tuple[str, Line]], dict[str, str]]] = field(default_factory=list)
    clock: int = _FIRST

    def copied(self, root: Path) -> Folder:
        """The same in another place, times of change included."""
        shutil.copytree(self.root, root, symlinks=True)
        return Folder(root, list(self.lines), dict(self.files), list(self.past), self.clock)

    def remember(self) -> None:
        """Keep the present state for a later revert."""
        self.past.append((list(self.lines), dict(self.files)))

    def write(self) -> None:
        """Write the metadata as the lines say."""
        for place in ("", "test"):
            text = [one if isinstance(one, str) else json.dumps(one) for home, one in self.lines if home == place]
            path = self.root / place / "metadata.jsonl"
            if text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes("\n".join([*text, ""]).encode("utf-8", "surrogateescape"))
            else:
                path.unlink(missing_ok=True)

    def put(self, path: str, name: str, *, old: bool = True) -> None:
        """Write a file; `→path` makes a link."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        if name.startswith("→"):
            file.symlink_to(os.path.relpath(self.root / name[1:], file.parent))
        else:
            file.write_bytes(content(name, file.suffix))
            if old:
                self.clock += 3_000_000_019
                os.utime(file, ns=(self.clock, self.clock))
        self.files[path] = name

    def delete(self, path: str) -> None:
        """Delete a file, if it is there."""
        (self.root / path).unlink(missing_ok=True)
        self.files.pop(path, None)

    def move(self, path: str, to: str, *, follow: bool) -> None:
        """Move a file, its time of change with it; with `follow` the metadata names its new place."""
        if path not in self.files or path == to:
            return
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).replace(self.root / to)
        self.files[to] = self.files.pop(path)
        if follow:
            self.lines = [(home, _renamed(home, one, path, to)) for home, one in self.lines]

    def swap(self, path: str, other: str) -> None:
        """Let two files change their places."""
        if path in self.files and other in self.files and path != other:
            self.move(path, "between.png", follow=False)
            self.move(other, path, follow=False)
            self.move("between.png", other, follow=False)

    def revert(self, number: int, *, lines: bool, files: bool, old: bool) -> None:
        """Bring lines, files or both back to a state that was remembered."""
        if not self.past:
            return
        past_lines, past_files = self.past[number % len(self.past)]
        if lines:
            self.lines = list(past_lines)
        if files:
            for path in sorted(self.files.keys() | past_files.keys()):
                if path not in past_files:
                    self.delete(path)
                elif self.files.get(path) != past_files[path]:
                    self.put(path, past_files[path], old=old)


def record(home: str, paths: list[str], captions: list[str], **more: Any) -> dict[str, Any]:
    """A record of the metadata in folder `home`: paths are relative to the root."""
    names = [_relative(home, path) for path in paths]
    out: dict[str, Any] = {}
    if len(names) == 1:
        out["file_name"] = names[0]
    elif names:
        out["file_names"] = names
    if len(captions) == 1:
        out["caption"] = captions[0]
    elif captions:
        out["captions"] = captions
    return out | {name: value for name, value in more.items() if value is not None}


def _relative(home: str, path: str) -> str:
    if not home:
        return path
    return path.removeprefix(f"{home}/") if path.startswith(f"{home}/") else f"../{path}"


def _renamed(home: str, line: Line, path: str, to: str) -> Line:
    if isinstance(line, str):
        return line
    names = {_relative(home, path): _relative(home, to)}
    out = dict(line)
    if "file_name" in out:
        out["file_name"] = names.get(out["file_name"], out["file_name"])
    if "file_names" in out:
        out["file_names"] = [names.get(one, one) for one in out["file_names"]]
    return out
