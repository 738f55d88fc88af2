"""Tux Paint's stamps: words find pictures and sounds that the heads did not see, and pictures find sounds."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from storage import schemas
from storage.filters import eq
from storage.tables import Store
from storage.workspace import Workspace
from tasks.alignment.binding import bind
from tasks.alignment.fit import View, fit_space
from tasks.alignment.plan import Plan
from tasks.alignment.space import JointSpace
from tasks.fetch import fetch_stamps
from tasks.heldout import Direction, Held
from tasks.metrics import bootstrap
from tasks.sources.groups import HELD_OUT, draw_split
from tests.benchmarks.measured import modalign
from tests.benchmarks.results import record, table

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
LITE0, LITE2 = "efficientnet-lite0", "efficientnet-lite2"
MINILM, MPNET = "minilm", "mpnet"
SETS = {
    "small profile: lite2 × MiniLM": ((LITE2,), (MINILM,)),
    "lite0 + lite2 × MiniLM": ((LITE0, LITE2), (MINILM,)),
    "the demo's: lite0 + lite2 × MiniLM + mpnet": ((LITE0, LITE2), (MINILM, MPNET)),
}
SEEDS, REPEATS, FOLDS = range(5), range(3), 5
DRAWS = 1_000


@dataclass(frozen=True)
class Items:
    """The items of one modality: vectors by encoder, and the group (a sentence, as a rule) of each, (n,)."""

    modality: str
    vectors: dict[str, Array]
    groups: Indices

    def of(self, rows: Indices) -> dict[str, Array]:
        """The vectors of some."""
        return {name: one[rows] for name, one in self.vectors.items()}

    def view(self, rows: Indices) -> View:
        """Some, as a fit takes them."""
        cnn = dict.fromkeys(self.vectors, self.modality != "text")
        return View(self.modality, self.of(rows), cnn, self.groups[rows])

    def among(self, groups: Indices) -> Indices:
        """The rows of some groups."""
        return np.flatnonzero(np.isin(self.groups, groups))

    def only(self, *encoders: str) -> Items:
        """The same under some of the encoders."""
        return Items(self.modality, {name: self.vectors[name] for name in encoders}, self.groups)


@dataclass
class Pooled:
    """What the queries of several splits found, with their groups, and what chance would find."""

    values: list[npt.NDArray[np.float64]]
    groups: list[Indices]
    chance: list[float]
    gallery: list[int]

    @property
    def mean(self) -> float:
        """The mean over all queries."""
        return float(np.concatenate(self.values).mean())

    def draws(self, weights: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """It in each resample of the groups."""
        return bootstrap.resampled_means(np.concatenate(self.values), np.concatenate(self.groups), weights)

    def row(self, weights: npt.NDArray[np.int32]) -> list[object]:
        """Mean, interval, chance, gallery, queries."""
        low, high = bootstrap.interval(self.draws(weights), 0.95)
        sizes = f"{min(self.gallery)} – {max(self.gallery)}"
        return [
            self.mean,
            f"{low:.3f} – {high:.3f}",
            float(np.mean(self.chance)),
            sizes,
            len(np.concatenate(self.groups)),
        ]


Found = defaultdict[tuple[str, str], Pooled]


def found() -> Found:
    """Nothing yet, by what was asked and by metric."""
    return defaultdict(lambda: Pooled([], [], [], []))


def joined(left: Indices, right: Indices) -> Indices:
    """All pairs (m, 2) of rows with one group."""
    return np.argwhere(left[:, None] == right[None])


def ask(out: Found, name: str, space: JointSpace, query: tuple[Items, Indices], gallery: tuple[Items, Indices]) -> None:
    """Rank the gallery for each query, as a search does, and note what was found."""
    held = []
    for items, rows in (query, gallery):
        z = space.project(items.modality, items.of(rows))
        terms = {other: space.hubness(z, other) for other in space.heads if other != items.modality}
        held.append(Held(items.modality, rows.astype(np.str_), [], z, items.groups[rows], terms))
    way = Direction(held[0], held[1], joined(held[0].groups, held[1].groups))
    right = (way.relevant >= 0).sum(1)
    for k in (1, 5, 10):
        pooled = out[name, f"hit_rate@{k}"]
        pooled.values.append(way.values[f"hit_rate@{k}"])
        pooled.groups.append(way.groups)
        pooled.chance.append(float(np.minimum(right * k / len(held[1].keys), 1).mean()))
        pooled.gallery.append(len(held[1].keys))


def text_to_image(images: Items, texts: Items, names: Sequence[str]) -> Found:
    """Five splits by seed, one picture a caption in the gallery, under each set of encoders."""
    out = found()
    for label, (of_images, of_texts) in SETS.items():
        some, told = images.only(*of_images), texts.only(*of_texts)
        for seed in SEEDS:
            held = np.flatnonzero([draw_split(name, seed, 0.2) == HELD_OUT for name in names])
            seen = np.setdiff1d(np.arange(len(names)), held)
            space = base(some, told, seen)
            first = some.among(held)
            first = first[np.unique(some.groups[first], return_index=True)[1]]
            asked = told.among(some.groups[first])
            asked = asked[np.unique(told.groups[asked], return_index=True)[1]]
            ask(out, label, space, (told, asked), (some, first))
    return out


def base(images: Items, texts: Items, groups: Indices) -> JointSpace:
    """The space of pictures and texts of some groups, by the default plan."""
    left, right = images.among(groups), texts.among(groups)
    pairs = joined(images.groups[left], texts.groups[right])
    return fit_space(images.view(left), texts.view(right), pairs, Plan()).space


def sounds(images: Items, texts: Items, audio: Items) -> Found:
    """Folds over the groups with a sound: bound to the space of pictures and texts, and aligned with pictures alone."""
    out = found()
    with_sound = np.unique(audio.groups)
    everything = np.union1d(images.groups, texts.groups)
    for seed in REPEATS:
        fold = np.random.default_rng(seed).permutation(np.arange(len(with_sound)) % FOLDS)
        for number in range(FOLDS):
            held = with_sound[fold == number]
            seen = np.setdiff1d(everything, held)
            heard, told, looked = audio.among(seen), texts.among(seen), images.among(seen)
            space = base(images, texts, seen)
            z = space.project("text", texts.of(told))
            rest = space.project("image", images.of(looked))
            pairs = joined(audio.groups[heard], texts.groups[told])
            bound = bind(space, audio.view(heard), "text", z, pairs, rest, Plan()).space
            shown = images.among(audio.groups[heard])
            pairs = joined(audio.groups[heard], images.groups[shown])
            direct = fit_space(audio.view(heard), images.view(shown), pairs, Plan()).space
            gallery = (audio, audio.among(held))
            ask(out, "text → audio", bound, (texts, texts.among(held)), gallery)
            ask(out, "image → audio, through text alone", bound, (images, images.among(held)), gallery)
            ask(out, "image → audio, trained on their pairs", direct, (images, images.among(held)), gallery)
    return out


def read(store: Store) -> tuple[Items, Items, Items, list[str]]:
    """Pictures, texts and sounds with a vector under every encoder, and the names of the groups."""
    columns = ["key", "content_hash", "group"]
    every = sorted(set(store.strings(schemas.ITEMS, "group", eq("collection", "tuxpaint"))))
    encoders = {"image": (LITE0, LITE2), "text": (MINILM, MPNET), "audio": ("aisfx",)}
    out = []
    for modality, names in encoders.items():
        rows = store.read(schemas.ITEMS, columns, eq("modality", modality)).sort_by("key")
        there = np.ones(rows.num_rows, np.bool_)
        vectors = {}
        for name in names:
            (kept,) = (one for one in store.names() if one.startswith(f"embeddings_{name}_"))
            vectors[name], have = store.vectors(kept, rows["content_hash"].to_pylist())
            there &= have
        groups = np.searchsorted(every, rows["group"].to_pylist())
        out.append(Items(modality, {name: one[there] for name, one in vectors.items()}, groups[there]))
    return out[0], out[1], out[2], every


def main() -> None:
    """Measure and record; without apt or network it is said, and nothing is measured.

    MODALIGN_BENCH_TUXPAINT names a workspace that holds the stamps and their embeddings already.
    """
    named = os.environ.get("MODALIGN_BENCH_TUXPAINT")
    root = Path(named) if named else Path(tempfile.gettempdir()) / "modalign-bench-tuxpaint"
    try:
        fetch_stamps(Workspace(root=root))
    except UserError as error:
        print(f"tuxpaint is left out: {error.message}")
        return
    if not (root / "tables").is_dir():
        modalign(["ingest", "demo:tuxpaint", "--profile", "tuxpaint", "-w", str(root)])
    images, texts, audio, names = read(Workspace(root=root).store)
    weights = bootstrap.group_weights(len(names), DRAWS, 0)
    seen, heard = text_to_image(images, texts, names), sounds(images, texts, audio)
    rows = [[what, metric, *pooled.row(weights)] for (what, metric), pooled in (seen | heard).items()]
    columns = ["query → gallery", "metric", "value", "95%", "chance", "gallery", "queries"]
    ways = [heard[f"image → audio, {how}", "hit_rate@1"] for how in ("through text alone", "trained on their pairs")]
    low, high = bootstrap.interval(ways[0].draws(weights) / np.maximum(ways[1].draws(weights), 1e-9), 0.95)
    told = (
        f"{len(names)} sentences, {len(images.groups)} pictures, {len(audio.groups)} sounds in "
        f"{len(np.unique(audio.groups))} groups. Speech is left out. Text → image: a fifth of the groups held out, "
        f"split seeds 0–4, one picture a caption in the gallery. Sounds, by the demo's encoders: 5 folds over their "
        f"groups, by {len(REPEATS)} seeds; the gallery is the sounds of the fold; text → audio and the pivot by one "
        "space, fitted on the pictures and sentences outside the fold, to which the sounds are bound through their "
        "sentences. CCA, values chosen by folds inside the training groups, hubness correction; intervals by bootstrap "
        "over groups.\n\n"
    )
    share = (
        f"\n\nimage → audio through the text pivot alone reaches {ways[0].mean / ways[1].mean:.0%} of the hit_rate@1 "
        f"of direct training (95%: {low:.0%} – {high:.0%})."
    )
    record("tuxpaint", "Tux Paint: pictures, sentences and sounds", told + table(columns, rows) + share)


if __name__ == "__main__":
    main()
