from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from config.params import KeepParams, UpdateParams
from flows.gc import wanted_tables
from flows.pipeline import pipeline
from flows.update import update
from storage import schemas
from storage.filters import eq
from storage.promotions import manifest_of
from storage.spaces import load_space
from storage.tables import Store
from storage.workspace import Workspace
from tasks.alignment.methods import cca, heads
from tasks.alignment.problem import Choice, Problem
from tasks.search import Query, Searcher
from tasks.upkeep import keep_up
from tests.flows.runs import params_for
from tests.tiny import write_collection

ROWS = 40
ATTENTION = {"method": "heads", "heads": {"shape": "attention", "steps": 5, "rate": 0.01}}


@pytest.fixture
def workspace(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A collection run with heads of attention, which are kept whether they rank better here or not."""
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)

    def trained(problem: Problem) -> Choice:
        return Choice(dict(cca.choose(problem).values) | {"steps": problem.plan.heads.steps})

    monkeypatch.setattr(heads, "choose", trained)
    pipeline(params_for(write_collection(tmp_path / "shapes", ROWS), tiny_encoders, align=ATTENTION))
    return Workspace(root=tmp_path / "workspace")


def tables(store: Store) -> dict[str, str]:
    """The tables of tokens by modality."""
    out = {}
    for name in store.names():
        if name.startswith("tokens_"):
            out[json.loads(store.metadata(name)["modalign.spec"])["modality"]] = name
    return out


def in_force(workspace: Workspace) -> dict[str, Any]:
    """The manifest of the published space."""
    found = manifest_of(workspace.store, "shapes")
    assert found is not None
    return found


def assert_projected(workspace: Workspace) -> None:
    """Every item of the space in force is what its head makes of its stored vectors and tokens, by plain numpy."""
    manifest, store = in_force(workspace), workspace.store
    arrays, config = load_space(Path(manifest["space"]["path"]))
    rows = store.read(manifest["space"]["table"], ["modality", "content_hash", "vector"]).to_pylist()
    assert len(rows) == store.count(schemas.ITEMS)
    known = {
        one["encoder"]: {
            row["content_hash"]: np.asarray(row["vector"], np.float64)
            for row in store.read(one["table"], ["content_hash", "vector"]).to_pylist()
        }
        for one in manifest["encoded"]
    }
    for row in rows:
        modality, content = row["modality"], row["content_hash"]
        about = config["heads"][modality]
        assert about["map"] == "attention"
        part = {name.removeprefix(f"{modality}."): one for name, one in arrays.items() if name.startswith(modality)}
        (encoder,), ((name, (_, count)),) = about["encoders"], about["tokens"].items()
        x = unit(known[encoder][content] - part["features.encoder0.mean"]) @ part["features.encoder0.axes"]
        x = (x - part["features.mean"]) @ part["features.rotation"]
        tokens = [one for one in known[name][content].reshape(count, -1) if one.any()]
        tokens = [(unit(one) - part["tokens.encoder0.mean"]) @ part["tokens.encoder0.axes"] for one in tokens]
        c = unit(x @ part["map.matrix"])
        z = c @ part["map.line"]
        for q, out in zip(
            np.split(c @ part["map.queries"][0] + part["map.bias"][0], 4), np.split(part["map.out"][0], 4), strict=True
        ):
            likely = np.exp([q @ one / np.sqrt(len(one)) for one in tokens])
            z = z + np.sum([share * one for share, one in zip(likely / likely.sum(), tokens, strict=True)], 0) @ out
        assert unit(z) @ np.asarray(row["vector"]) > 1 - 1e-5


def unit(x: Any) -> Any:
    """At unit length."""
    return x / np.linalg.norm(x)


def test_tokens_go_the_whole_way(workspace: Workspace, tmp_path: Path) -> None:
    """Tokens are encoded beside the vectors, half as wide in bits; the space is made of them; searches find by them."""
    store = workspace.store
    found = tables(store)
    assert {modality: store.count(name) for modality, name in found.items()} == {"image": ROWS, "text": 2 * ROWS}
    assert all(store.schema(name).field("vector").type.value_type == pa.float16() for name in found.values())
    assert_projected(workspace)
    searcher = Searcher(workspace, device="cpu")
    item = store.read(in_force(workspace)["space"]["table"], ["key", "modality", "uri", "text"]).to_pylist()
    caption = next(row for row in item if row["modality"] == "text")
    answer = searcher.search(Query(text=caption["text"]), target="text", mode="vector", k=1)
    assert answer.hits[0].similarity == pytest.approx(1, abs=1e-4)
    picture = next(row for row in item if row["modality"] == "image")
    (hit,) = searcher.search(Query(file=tmp_path / "shapes" / picture["uri"]), target="image", k=1).hits
    assert (hit.key, hit.similarity) == (picture["key"], pytest.approx(1, abs=1e-4))


def test_an_update_brings_the_tokens_along(workspace: Workspace, tmp_path: Path) -> None:
    """Of a new row alone tokens are encoded, those of a row that is gone go, and the space is as if made anew."""
    store, before = workspace.store, tables(workspace.store)
    path = tmp_path / "shapes" / "metadata.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    more = json.loads(lines[1]) | {"captions": ["an entirely new caption"]}
    path.write_text("\n".join([*lines[1:], json.dumps(more)]) + "\n", encoding="utf-8")
    done = update(UpdateParams())
    encoded = {(one.encoder.endswith("#tokens"), one.modality): one.encoded for one in done.ingested[0].stages}
    assert encoded[True, "text"] == encoded[False, "text"] == 1
    assert tables(store) == before
    for modality, name in before.items():
        wanted = set(store.strings(schemas.ITEMS, "content_hash", eq("modality", modality)))
        assert set(store.strings(name, "content_hash")) == wanted
    assert_projected(workspace)


def test_tokens_that_nothing_needs_are_dropped(workspace: Workspace) -> None:
    """They stay while the params or a space in force want them, and go with the last of them."""
    keep = KeepParams(spaces=1)
    wanted = wanted_tables(workspace, "cpu")
    assert set(tables(workspace.store).values()) <= set(wanted)
    pooled = tuple(name for name in wanted if not name.startswith("tokens_"))
    assert not [one for one in keep_up.fn(workspace, keep, pooled, dry_run=True).dropped if "tokens_" in one]
    done = update(UpdateParams(overrides=("align.heads.shape=linear", "gate.policy=always"), upkeep=False))
    assert done.spaces[0].decision is not None
    assert done.spaces[0].decision.event == "promoted"
    assert tables(workspace.store)
    keep_up.fn(workspace, keep, pooled)
    assert not tables(workspace.store)
