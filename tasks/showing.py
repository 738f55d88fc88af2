"""Items as a person sees them: their words, the name of their file, and a small picture. No Prefect."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from config.params import PreprocessParams
from storage import schemas
from storage.filters import isin
from storage.tables import Store
from tasks.examples import roots_of
from tasks.media.registry import Limits, MediaError, get
from tasks.reports.contents import Shown
from tasks.reports.thumbs import thumbnail
from tasks.sources.paths import on_disk, read_media

_CHARS = 140


def words_of(text: str) -> str:
    r"""The beginning of an item's words.

    >>> words_of("a dog\nits two tails")
    'a dog its two tails'
    """
    plain = " ".join(text.split())
    return plain if len(plain) <= _CHARS else plain[: _CHARS - 1].rstrip() + "…"


class Showing:
    """Shows items of a space by their keys; each medium is read once, inside its collection's own root."""

    def __init__(self, store: Store, table: str) -> None:
        read = PreprocessParams()
        self._store, self._table = store, table
        self._roots = roots_of(store)
        self._limits = Limits(max_pixels=read.max_pixels, max_bytes=read.max_bytes, max_seconds=read.max_seconds)
        self._known: dict[str, Shown] = {}

    def load(self, keys: Iterable[str]) -> None:
        """Read items, to be asked for later."""
        wanted = sorted(set(keys) - set(self._known))
        if not wanted:
            return
        columns = ["key", "collection", "modality", "uri", "text"]
        known = {row["key"]: row for row in self._store.read(self._table, columns, isin("key", wanted)).to_pylist()}
        own = self._store.read(schemas.ITEMS, ["key", "text"], isin("key", wanted)).to_pylist()
        said = {row["key"]: row["text"] for row in own}  # the space's table adds what full text finds an item by
        for row in known.values():
            picture = self._picture(row["modality"], row["collection"], row["uri"])
            words = words_of(said.get(row["key"]) or row["text"] or "")
            self._known[row["key"]] = Shown(row["modality"], words, Path(row["uri"] or "").name, picture)

    def __getitem__(self, key: str) -> Shown:
        """An item that was loaded; one that is gone has no words."""
        return self._known.get(key, Shown("", "(gone)"))

    def _picture(self, modality: str, collection: str, uri: str) -> bytes | None:
        """What can be seen of a medium: of a video a frame from its middle; None where there is nothing to see."""
        if modality not in ("image", "video") or collection not in self._roots:
            return None
        root = Path(self._roots[collection])
        try:
            content = get(modality).decode(read_media(root, on_disk(root, uri), self._limits.max_bytes), self._limits)
            return thumbnail(content if modality == "image" else next(content.frames([content.seconds / 2])))
        except (MediaError, OSError, StopIteration):
            return None
