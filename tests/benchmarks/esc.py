"""Sounds and their titles, five folds by recording: both ways, categories, nearest clips; beside the log-mel floor."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.settings import Settings
from flows.summaries import stage_table
from storage import schemas
from storage.filters import eq
from storage.tables import Store
from storage.workspace import Workspace
from tasks.alignment.fit import View, fit_space
from tasks.alignment.plan import Plan
from tasks.alignment.space import JointSpace
from tasks.encoders.registry import load, resolve
from tasks.metrics import bootstrap, retrieval
from tasks.refs import Ingested
from tasks.retrieval.hubness import corrected
from tests.benchmarks.flickr8k import DATA
from tests.benchmarks.measured import modalign
from tests.benchmarks.results import record, table

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
AUDIO, TEXT = "audio", "text"
ENCODERS = ("aisfx", "logmel")
FOLDS, SEED, DRAWS = 5, 0, 1_000
SECONDS = 5.0  # a clip
FIGURES = ("t→a @1", "t→a @5", "t→a @10", "a→t @1", "a→t @5", "a→t @10", "category mAP", "1-NN category")
Values = dict[str, npt.NDArray[np.float64]]


class Sounds:
    """The clips, sorted by name: vectors by encoder, titles, categories and recordings."""

    def __init__(self, folder: Path, root: Path) -> None:
        encoders = '{"audio": ["builtin:aisfx", "builtin:logmel"], "text": ["builtin:minilm"]}'
        done = modalign(["ingest", str(folder), "--set", f"encode.encoders={encoders}", "-w", str(root)])
        self.stages = stage_table(Ingested.model_validate(done.result["ingest"]))
        store = Workspace(root=root).store
        clips = store.read(schemas.ITEMS, ["key", "content_hash", "uri"], eq("modality", AUDIO)).sort_by("uri")
        self.recordings = np.array([Path(uri).name.split("-")[1] for uri in clips["uri"].to_pylist()])
        self.categories = np.array(_categories(folder, clips["uri"].to_pylist()))
        self.audio = {name: _vectors(store, name, clips["content_hash"].to_pylist()) for name in ENCODERS}
        titles = store.read(schemas.ITEMS, ["key", "content_hash"], eq("modality", TEXT))
        of = dict(zip(titles["key"].to_pylist(), titles["content_hash"].to_pylist(), strict=True))
        pairs = store.read(schemas.PAIRS, ["left", "right"], eq("source", "given"))
        title = dict(zip(pairs["left"].to_pylist(), pairs["right"].to_pylist(), strict=True))
        self.titles = _vectors(store, "minilm", [of[title[key]] for key in clips["key"].to_pylist()])

    @property
    def folds(self) -> Indices:
        """The fold of each clip; no recording is in two."""
        names, number = np.unique(self.recordings, return_inverse=True)
        return np.random.default_rng(SEED).permutation(np.arange(len(names)) % FOLDS)[number]


def _categories(folder: Path, uris: list[str]) -> list[str]:
    import pandas as pd

    found = pd.concat(
        pd.read_json(path, lines=True).set_index("file_name")["category"] for path in sorted(folder.glob("*/*.jsonl"))
    )
    return [str(found[Path(uri).name]) for uri in uris]


def _vectors(store: Store, encoder: str, contents: list[str]) -> Array:
    (name,) = (one for one in store.names() if one.startswith(f"embeddings_{encoder}_"))
    vectors, found = store.vectors(name, contents)
    assert found.all()
    return vectors


def measured(sounds: Sounds, encoder: str, names: Array, shuffled: np.random.Generator | None = None) -> Values:
    """Each figure of each query, all folds together; `names` are the vectors of the categories, sorted by name."""
    out: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in FIGURES}
    audio, kinds = sounds.audio[encoder], np.unique(sounds.categories)
    for fold in range(FOLDS):
        inside, held = (np.flatnonzero(part) for part in (sounds.folds != fold, sounds.folds == fold))
        space = _fitted(audio[inside], sounds.titles[inside], sounds.recordings[inside])
        clips, titles = space.project(AUDIO, {"a": audio[held]}), space.project(TEXT, {"t": sounds.titles[held]})
        both = {"t→a": (titles, clips, TEXT), "a→t": (clips, titles, AUDIO)}
        relevant = np.arange(len(held))[:, None]
        for way, (queries, gallery, modality) in both.items():
            scores = corrected(queries @ gallery.T, space.hubness(gallery, modality))
            if shuffled:
                scores = shuffled.random(scores.shape, np.float32)
            found = retrieval.per_query(retrieval.positions(scores, relevant), relevant)
            for k in retrieval.CUTS:
                out[f"{way} @{k}"].append(found[f"hit_rate@{k}"])
        there = [row for row, kind in enumerate(kinds) if (sounds.categories[held] == kind).any()]
        scores = space.project(TEXT, {"t": names[there]}) @ clips.T - 0.5 * space.hubness(clips, TEXT)
        if shuffled:
            scores = shuffled.random(scores.shape, np.float32)
        hits = sounds.categories[held][np.argsort(-scores, axis=1, kind="stable")] == kinds[there][:, None]
        ranks = np.arange(1, hits.shape[1] + 1)
        out["category mAP"].append((np.cumsum(hits, 1) / ranks * hits).sum(1) / hits.sum(1))
    near = audio @ audio.T
    near[sounds.recordings[:, None] == sounds.recordings] = -np.inf
    if shuffled:
        near = np.where(np.isfinite(near), shuffled.random(near.shape, np.float32), near)
    out["1-NN category"].append((sounds.categories[near.argmax(1)] == sounds.categories).astype(np.float64))
    return {name: np.concatenate(parts) for name, parts in out.items()}


def _fitted(audio: Array, titles: Array, recordings: npt.NDArray[np.str_]) -> JointSpace:
    groups = np.unique(recordings, return_inverse=True)[1].astype(np.int64)
    left = View(AUDIO, {"a": audio}, {"a": False}, groups)
    right = View(TEXT, {"t": titles}, {"t": False}, groups)
    return fit_space(left, right, np.stack([np.arange(len(audio))] * 2, 1), Plan(method="cca", seed=SEED)).space


def main() -> None:
    """Measure and record."""
    folder = DATA.parent / "esc"
    if not folder.is_dir():
        sys.exit(f"there is no {folder}; set MODALIGN_BENCH_DATA to the folder that holds esc")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "data"
        sounds = Sounds(folder, root)
        model = load(resolve("builtin:minilm", TEXT), device=Settings().device, models_dir=root / "models", threads=2)
        kinds = [str(one).replace("_", " ") for one in np.unique(sounds.categories)]
        names = model.encode([model.transform(one) for one in kinds]).vectors
    generator = np.random.default_rng(SEED)
    found = {name: measured(sounds, name, names) for name in ENCODERS}
    found["chance"] = measured(sounds, "logmel", names, generator)
    rows: list[list[object]] = [[name, *(_shown(values[one]) for one in FIGURES)] for name, values in found.items()]
    floor = found["aisfx"]["category mAP"].mean() / found["logmel"]["category mAP"].mean()
    told = (
        f"{len(sounds.categories)} clips of five seconds with their titles, {len(kinds)} categories; {FOLDS} folds by "
        f"the recording that a clip was cut from, so about {len(sounds.categories) // FOLDS} clips a gallery. Heads by "
        "CCA of clips and titles (MiniLM), values by folds inside the training part, hubness corrected; a category is "
        "asked by its name, the nearest clip is of another recording. 95% intervals over queries. "
        f"mAP is {floor:.2f} times that of log-mel. Chance is one random ranking. aisfx was trained on nine libraries "
        "of sound effects.\n\n"
    )
    speed = (
        "\n\nHow fast they were encoded: shares of the time that decoding (two threads), encoding and writing took; "
        "they overlap, so the wall time is less than their sum.\n\n"
    )
    columns = ["encoder", "clips", "decode", "encode", "write", "wall s", "times real time"]
    rates = [_speed(stage) for stage in sounds.stages if stage["encoder"] != "builtin:minilm"]
    record("esc", "Sounds", told + table(["encoder", *FIGURES], rows) + speed + table(columns, rates))


def _speed(stage: dict[str, Any]) -> list[object]:
    parts = [stage[name] for name in ("read", "encode", "write")]
    shares = [f"{one / sum(parts):.0%}" for one in parts]
    name = stage["encoder"].removeprefix("builtin:")
    return [name, stage["encoded"], *shares, stage["wall"], f"{stage['encoded'] * SECONDS / stage['wall']:.0f}"]


def _shown(values: npt.NDArray[np.float64]) -> str:
    weights = bootstrap.group_weights(len(values), DRAWS, SEED)
    low, high = bootstrap.interval(bootstrap.resampled_means(values, np.arange(len(values)), weights), 0.95)
    return f"{values.mean():.3f} ({low:.3f} – {high:.3f})"


if __name__ == "__main__":
    main()
