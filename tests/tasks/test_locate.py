from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from config.params import IndexParams
from storage import schemas
from storage.filters import eq
from storage.marks import remember
from storage.signs import bits_column
from storage.tables import Store, vector_column
from tasks.index import index_vectors
from tasks.locate import Locator
from tasks.refs import IndexRef

Array = npt.NDArray[np.float32]

DIM, CONTENTS, LONG = 8, 40, 900
"""The first content has so many parts, all of them nearer to the query than any other content's."""


@dataclass
class Planted:
    """A space's items, two to a content, and their moments, with an index or without, and a query."""

    store: Store
    indexed: bool
    version: int
    query: Array
    parts: list[tuple[str, float, Array, float]]
    """Content, start, vector and hubness term of each part."""

    def locator(self) -> Locator:
        return Locator(self.store, "space_x", self.version)

    def best(self, contents: set[str]) -> dict[str, tuple[float, float]]:
        """Score and start of the best part of each content, by a plain loop."""
        out: dict[str, tuple[float, float]] = {}
        for content, start, vector, term in self.parts:
            score = 2 * float(vector @ self.query) - term
            if content in contents and (content not in out or score > out[content][0]):
                out[content] = (score, start)
        return out


def near(rng: np.random.Generator, query: Array, count: int, noise: float) -> Array:
    """Unit vectors around a query."""
    rows = query + noise * rng.normal(size=(count, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture(params=["exact", "indexed"])
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Planted:
    """With an index and without."""
    rng = np.random.default_rng(0)
    query = near(rng, np.zeros(DIM, np.float32), 1, 1.0)[0]
    store = Store(tmp_path)
    contents = [f"{number:032x}" for number in range(CONTENTS)]
    parts: list[tuple[str, float, Array, float]] = []
    for number, content in enumerate(contents):
        vectors = near(rng, query, LONG if number == 0 else 4, 0.01 if number == 0 else 0.5)
        terms = rng.uniform(0, 0.1, len(vectors))
        parts += [
            (content, 2.5 * n, vector, float(term)) for n, (vector, term) in enumerate(zip(vectors, terms, strict=True))
        ]
    schema = schemas.moments(DIM, ("text", "audio"), "x")
    numbers = [round(start / 2.5) for _, start, _, _ in parts]
    columns = {
        "key": pa.array([f"audio-{one[0]}-{number}" for one, number in zip(parts, numbers, strict=True)]),
        "modality": pa.array(["audio"] * len(parts)),
        "content_hash": pa.array([one[0] for one in parts]),
        "number": pa.array(numbers, pa.int32()),
        "start": pa.array([one[1] for one in parts]),
        "vector": vector_column(np.stack([one[2] for one in parts])),
        "hubness_text": pa.array([one[3] for one in parts], pa.float32()),
        "hubness_audio": pa.array([0.0] * len(parts), pa.float32()),
    }
    store.upsert("moments_x", schema, pa.table(columns, schema=schema))
    kept = near(rng, query, 2 * CONTENTS, 1.0)
    plain = ("collection", "group", "uri", "text", "grams", "attributes")
    rows = {name: pa.array([""] * len(kept)) for name in plain}
    rows |= {
        "key": pa.array([f"{number:03}" for number in range(len(kept))]),
        "modality": pa.array(["audio"] * len(kept)),
        "content_hash": pa.array([contents[number // 2] for number in range(len(kept))]),
        "split": pa.array(["test" if number % 3 else "train" for number in range(len(kept))]),
        "vector": vector_column(kept),
        "bits": bits_column(kept),
        "hubness_text": pa.array(np.zeros(len(kept), np.float32)),
        "hubness_audio": pa.array(np.zeros(len(kept), np.float32)),
    }
    items = schemas.space(DIM, ("text", "audio"), "x")
    store.upsert("space_x", items, pa.table([rows[name] for name in items.names], schema=items))
    if request.param == "indexed":
        index = index_vectors(store, "moments_x", [], IndexParams(exact_below=100))
        assert index.kind == "IVF_FLAT"
        ref = IndexRef(table="moments_x", version=store.version("moments_x"), rows=len(parts), index=index)
        remember(store, "index moments_x", "", ref)
    return Planted(store, request.param == "indexed", store.version("space_x"), query, parts)


def test_a_long_item_does_not_hide_the_others(planted: Planted) -> None:
    """Though one recording has hundreds of parts that are nearer than any other's, so many items are found as are asked
    for: those with the best parts, each copy of a content, with the score and the start of the best part.
    """
    found = planted.locator().items(planted.query, "text", "audio", 12)
    best = planted.best({content for content, *_ in planted.parts})
    order = sorted(best, key=lambda content: -best[content][0])[:12]
    names = {f"{2 * int(content, 16) + copy:03}": content for content in order for copy in (0, 1)}
    assert len(found) == 24
    assert len(found.keys() & names.keys()) >= (0.9 if planted.indexed else 1) * 24
    for key, moment in found.items():
        score, start = best[f"{int(key) // 2:032x}"]
        if key in names and int(key) > 1:  # of hundreds of parts that are all but equal an index may give another
            assert (moment.score, moment.start) == (pytest.approx(score, abs=1e-5), start)
        assert moment.score <= score + 1e-5


def test_a_filter_is_exact(planted: Planted) -> None:
    """With a filter only items that satisfy it are found, however near the others are."""
    where = eq("split", "train") & eq("key", "030")
    found = planted.locator().items(planted.query, "text", "audio", 5, where)
    assert list(found) == ["030"]
    score, start = planted.best({f"{15:032x}"})[f"{15:032x}"]
    assert (found["030"].score, found["030"].start) == (pytest.approx(score, abs=1e-5), start)


def test_moments_of_contents_are_the_best(planted: Planted) -> None:
    """Of each content that is named the best part, exactly; contents without parts have none."""
    wanted = [f"{number:032x}" for number in (0, 7, 99)]
    found = planted.locator().moments(planted.query, "text", "audio", wanted)
    best = planted.best(set(wanted))
    assert {content: (pytest.approx(one.score, abs=1e-5), one.start) for content, one in found.items()} == best


def test_a_space_without_parts(planted: Planted) -> None:
    """Where nothing is kept, nothing is found, and nothing goes wrong; an item that came later has no time."""
    locator = planted.locator()
    assert locator.has("audio")
    assert not locator.has("video")
    planted.store.drop("moments_x")
    assert not locator.has("audio")
    assert locator.moments(planted.query, "text", "audio", ["0" * 32]) == {}
