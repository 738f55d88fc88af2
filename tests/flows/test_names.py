from __future__ import annotations

from pathlib import Path

import pytest

from config.params import KeepParams
from flows.gc import wanted_tables
from flows.pipeline import pipeline
from storage.promotions import manifest_of
from storage.spaces import load_space
from storage.workspace import Workspace
from tasks.name_classes import names_table
from tasks.search import Query, Searcher
from tasks.upkeep import keep_up
from tests.flows.runs import TaskRuns, params_for
from tests.tiny import write_collection

LITE0 = "builtin:efficientnet-lite0"


def test_classes_are_named_once(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are encoded once with the texts, stand behind the space, and upkeep leaves them."""
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(root=tmp_path / "workspace")
    encoders = {"image": (LITE0, f"{LITE0}-classes"), "text": tiny_encoders["text"]}
    params = params_for(write_collection(tmp_path / "shapes", 30), encoders)
    pipeline(params)
    manifest = manifest_of(workspace.store, "shapes")
    assert manifest is not None
    (texts,) = (one["table"] for one in manifest["encoded"] if one["modality"] == "text")
    assert workspace.store.count(names_table(texts)) == 1_000
    _, config = load_space(Path(manifest["space"]["path"]))
    assert "names" in config["facts"]["chosen"]
    assert Searcher(workspace, "shapes").search(Query(text="a red circle at the left"), k=3).hits
    version = workspace.store.version(names_table(texts))
    with TaskRuns() as runs:
        pipeline(params)
    assert runs.named("name imagenet-1k")
    assert workspace.store.version(names_table(texts)) == version
    keep_up(workspace, KeepParams(), wanted_tables(workspace, "auto"))
    assert workspace.store.exists(names_table(texts))
