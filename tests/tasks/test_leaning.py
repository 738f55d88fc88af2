from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from prefect.logging import disable_run_logger

from config.params import AlignParams
from storage import schemas
from storage.filters import eq
from storage.spaces import load_pseudo_pairs
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import open_space
from tasks.alignment.cca import moments, solver
from tasks.alignment.space import JointSpace
from tasks.fit import extend, fit
from tasks.refs import EncoderRef, SpaceRef
from tests.tasks.alignment.test_binding import World, concepts

Array = npt.NDArray[np.float32]
Concepts = npt.NDArray[np.float64]
Row = dict[str, Any]
Items = dict[str, Array]
PARAMS = AlignParams(method="soft", dim=16, pca=32, folds=3)
BASE = (
    EncoderRef(modality="image", encoder="builtin:efficientnet-lite0", table="embeddings_image"),
    EncoderRef(modality="text", encoder="builtin:minilm", table="embeddings_text"),
)
SOUND = EncoderRef(modality="audio", encoder="builtin:logmel", table="embeddings_audio")
SEES = {"image": "sight", "text": "words", "audio": "sound"}
PAIRED, NAMED, ALONE, HELD, COPIED = 16, 12, 250, 30, 240


@dataclass
class Tables:
    """A workspace with pictures, texts and sounds of one world, most of them alone, and a held-out split of pairs."""

    workspace: Workspace
    world: World

    @property
    def store(self) -> Store:
        return self.workspace.store

    def add(self, modality: str, name: str, of: Concepts, seed: int, split: str = "train") -> list[str]:
        """Items about these concepts, each a group of its own, with keys that tell nothing of their order."""
        keys = [f"{(7919 * place + seed) % 10_007:05}-{modality}-{name}" for place in range(len(of))]
        vectors = self.world.seen(of[:COPIED], SEES[modality], seed)
        texts = ("collection", "modality", "uri", "content_hash", "row_key", "group", "split", "attributes")
        rows = [
            dict.fromkeys(texts, "") | {"truncated": False, "bytes": 0, "bucket": 0}
            | {"key": key, "collection": "c", "modality": modality, "split": split, "group": f"{name}{place}",
               "content_hash": f"{modality} {name} {place % COPIED}"}
            for place, key in enumerate(keys)
        ]  # fmt: skip
        self.store.upsert(schemas.ITEMS, schemas.items(), rows)
        known = [
            {"content_hash": row["content_hash"], "vector": vector, "truncated": False}
            for row, vector in zip(rows, vectors.tolist(), strict=False)
        ]
        self.store.upsert(f"embeddings_{modality}", schemas.embeddings(32, "", ""), known)
        return keys

    def join(self, lefts: list[str], rights: list[str], modalities: tuple[str, str]) -> None:
        """Known pairs, row by row."""
        rows = [
            {"key": f"{left} {right}", "collection": "c", "left": left, "right": right, "left_modality": modalities[0],
             "right_modality": modalities[1], "source": "given", "round": 0, "weight": 1.0, "row_bucket": 0}
            for left, right in zip(lefts, rights, strict=True)
        ]  # fmt: skip
        self.store.upsert(schemas.PAIRS, schemas.pairs(), rows)

    def fit(self, *encoded: EncoderRef, params: AlignParams = PARAMS) -> SpaceRef:
        with disable_run_logger():
            return fit.fn(self.workspace, "c", ("c",), "content", encoded, params)

    def rows(self, space: SpaceRef) -> list[Row]:
        return list(load_pseudo_pairs(Path(space.path)).to_pylist())

    def training(self, modality: str) -> dict[str, str]:
        """Key and content of the training items."""
        where = eq("modality", modality) & eq("split", "train")
        items = self.store.read(schemas.ITEMS, ["key", "content_hash"], where)
        return dict(zip(*(items[name].to_pylist() for name in items.column_names), strict=True))

    def vectors(self, modality: str) -> tuple[list[str], dict[str, Array]]:
        """The keys of the training items, and their embeddings by encoder."""
        items = self.training(modality)
        found, _ = self.store.vectors(f"embeddings_{modality}", list(items.values()))
        encoder = next(one.encoder for one in (*BASE, SOUND) if one.modality == modality)
        return list(items), {encoder: found}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Few pairs of a picture and a text, fewer of a sound and a text, hundreds of items of no pair; ten are copies."""
    made = Tables(Workspace(root=tmp_path_factory.mktemp("leaning")), World())
    alone, c = concepts(ALONE, 11), concepts(PAIRED, 1)
    for split, name, of in (("train", "paired", c), ("val", "held", concepts(HELD, 2))):
        ends = [made.add(modality, name, of, 2, split) for modality in ("image", "text")]
        made.join(ends[0], ends[1], ("image", "text"))
    for seed, modality in enumerate(SEES, 20):
        made.add(modality, "alone", alone, seed)
    c = concepts(NAMED, 3)
    named = [made.add(modality, "named", c, 4) for modality in ("audio", "text")]
    made.join(named[0], named[1], ("audio", "text"))
    return made


@pytest.fixture(scope="module")
def space(tables: Tables) -> SpaceRef:
    """All three modalities, pictures and texts as the base; rounds were accepted for both fits."""
    made = tables.fit(*BASE, SOUND)
    accepted = [one.modality for one in made.rounds if one.accepted]
    assert (accepted.count(""), accepted.count("audio")) == (3, 5)
    return made


def by_item(rows: list[Row], bound: str) -> dict[str, list[Row]]:
    """The rows of each pseudo-pair of a fit."""
    found = defaultdict(list)
    for row in rows:
        if row["bound"] == bound:
            found[row["from_key"]].append(row)
    return found


def test_the_items_that_lean(tables: Tables, space: SpaceRef) -> None:
    """Of the base each training item leans that no pair holds, and nothing else: none of another split, no paired one.

    Of a bound modality all its own items do, those of its pivot that its pairs do not hold, and of the other modalities
    one item of each content.
    """
    items = {modality: tables.training(modality) for modality in SEES}
    pairs = tables.store.read(schemas.PAIRS, ["left", "right"]).to_pylist()
    rows = tables.rows(space)

    def free(modality: str, other: str) -> set[str]:
        joined = [row for row in pairs if any(end in items[other] for end in row.values())]
        return items[modality].keys() - {end for row in joined for end in row.values()}

    assert by_item(rows, "").keys() == free("image", "text") | free("text", "image")
    first: dict[str, str] = {}
    for key, content in sorted(items["image"].items()):
        first.setdefault(content, key)
    assert by_item(rows, "audio").keys() == items["audio"].keys() | free("text", "audio") | set(first.values())
    for one in space.rounds:
        last = one.number == {"": 3, "audio": 5}[one.modality]
        assert one.pseudo_pairs == (len(by_item(rows, one.modality)) if last else 0)


def test_what_they_lean_on(tables: Tables, space: SpaceRef) -> None:
    """On ten items that lean themselves, across modalities; weights make a whole, certainty is 1 − entropy / log 10."""
    modality_of = {key: modality for modality in SEES for key in tables.training(modality)}
    rows = tables.rows(space)
    for bound, number in (("", 3), ("audio", 5)):
        found = by_item(rows, bound)
        for key, leans in found.items():
            assert {(row["round"], row["view"]) for row in leans} == {(number, 1)}
            assert len({row["to_key"] for row in leans}) == len(leans) == 10
            weights = [row["weight"] for row in leans]
            assert sum(weights) == pytest.approx(1, abs=1e-5)
            assert weights == sorted(weights, reverse=True)
            sure = 1 + sum(weight * math.log(weight) for weight in weights if weight) / math.log(10)
            assert [row["certainty"] for row in leans] == pytest.approx([sure] * 10, abs=1e-4)
            for row in leans:
                ends = (row["from_modality"], row["to_modality"])
                assert ends == (modality_of[key], modality_of[row["to_key"]])
                assert row["to_key"] in found
                assert set(ends) == {"image", "text"} if not bound else ends.count(bound) == 1


def refitted(left: Items, right: Items, given: list[tuple[str, str]], rows: list[Row]) -> Array:
    """A·Bᵀ of CCA on given pairs and on pseudo-pairs made of rows alone, by plain loops."""
    x, y = [left[a] for a, _ in given], [right[b] for _, b in given]
    sure = []
    for key, leans in by_item(rows, rows[0]["bound"]).items():
        other = right if key in left else left
        mean = np.sum([row["weight"] * other[row["to_key"]] for row in leans], axis=0)
        x.append(left.get(key, mean))
        y.append(right.get(key, mean))
        sure.append(leans[0]["certainty"] + 1e-9)
    weights = np.array([15.0 * np.mean(sure)] * len(given) + sure)
    m = moments(np.array(x, np.float32), np.array(y, np.float32), np.stack([np.arange(len(x))] * 2, 1), weights)
    a, b = solver(m.xx, m.yy, rx=3.0, ry=1.0, p=1.0, dim=PARAMS.dim)(m.xy)
    return a @ b.T


def features(tables: Tables, joint: JointSpace, modality: str) -> Items:
    """What the head of a modality maps, by key."""
    keys, vectors = tables.vectors(modality)
    return dict(zip(keys, joint.heads[modality].features.apply(vectors), strict=True))


def projected(tables: Tables, joint: JointSpace, modality: str) -> Items:
    """Joint vectors by key."""
    keys, vectors = tables.vectors(modality)
    return dict(zip(keys, joint.project(modality, vectors), strict=True))


def apart(one: Array, other: Array) -> float:
    """How far two matrices differ, relative to the second."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def test_the_heads_stand_on_the_rows(tables: Tables, space: SpaceRef) -> None:
    """CCA on the given pairs and on what the file's rows say gives the saved heads; rows of another item do not."""
    joint, _ = open_space(space.path)
    rows = tables.rows(space)
    pairs = tables.store.read(schemas.PAIRS, ["left", "right", "left_modality"]).to_pylist()
    maps = {name: joint.heads[name].map.arrays()["matrix"] for name in SEES}
    base = (features(tables, joint, "image"), features(tables, joint, "text"))
    known = [(row["left"], row["right"]) for row in pairs if row["left"] in base[0]]
    mine = [row for row in rows if not row["bound"]]
    saved = maps["image"] @ maps["text"].T
    assert apart(refitted(*base, known, mine), saved) < 1e-4
    turned = [row | {"to_key": other["to_key"]} for row, other in zip(mine, mine[10:] + mine[:10], strict=True)]
    turned = [row for row in turned if (row["from_key"] in base[0]) != (row["to_key"] in base[0])]
    assert apart(refitted(*base, known, turned), saved) > 1e-2
    stands = projected(tables, joint, "text") | projected(tables, joint, "image")
    heard = features(tables, joint, "audio")
    known = [(row["left"], row["right"]) for row in pairs if row["left"] in heard]
    assert apart(refitted(heard, stands, known, [row for row in rows if row["bound"]]), maps["audio"]) < 1e-4


def test_an_extended_space_keeps_the_rows_of_its_base(tables: Tables, space: SpaceRef) -> None:
    """Those of the base come along as they were; a bound modality's come with it, and others when it is bound anew."""
    base = tables.fit(*BASE)
    assert tables.rows(base) == [row for row in tables.rows(space) if not row["bound"]]
    known = tables.store.read(SOUND.table, ["content_hash", "vector", "truncated"]).to_pylist()
    fewer = [row for row in known if not row["content_hash"].endswith("7")]
    other = SOUND.model_copy(update={"table": "embeddings_other"})
    tables.store.upsert(other.table, schemas.embeddings(32, "", ""), fewer)
    with disable_run_logger():
        grown = extend.fn(tables.workspace, base, ("c",), "content", (*BASE, SOUND))
        again = extend.fn(tables.workspace, grown, ("c",), "content", (*BASE, other))
    assert tables.rows(grown) == tables.rows(space)
    rows = tables.rows(again)
    assert [row for row in rows if not row["bound"]] == tables.rows(base)
    contents = tables.training("audio")
    heard = {contents[row["from_key"]] for row in rows if row["from_modality"] == "audio"}
    assert heard == {row["content_hash"] for row in fewer}


def test_a_space_without_accepted_rounds_has_no_file(tables: Tables) -> None:
    """Where CCA alone fits, or folds refuse each round, there is none, and that of a former fit is gone."""
    plain = tables.fit(*BASE, params=AlignParams(method="cca", dim=16, pca=32))
    assert tables.rows(plain) == []
    before = tables.fit(*BASE)
    path = Path(before.path) / "pseudo_pairs.parquet"
    assert pq.read_table(path).num_rows == 10 * before.rounds[2].pseudo_pairs
    assert f"{before.rounds[2].pseudo_pairs} pseudo-pairs of round 3" in (path.parent / "README.md").read_text()
    items = [tables.training(name).items() for name in ("image", "text")]
    sides = [sorted((of, key) for key, of in side if "alone" in key) for side in items]
    lefts, rights = ([key for _, key in side[: ALONE - 50]] for side in sides)
    tables.join(lefts, rights, ("image", "text"))
    after = tables.fit(*BASE)
    assert after.path == before.path
    assert after.rounds
    assert not any(one.accepted or one.pseudo_pairs for one in after.rounds)
    assert not path.exists()
    assert "pseudo" not in (path.parent / "README.md").read_text()
