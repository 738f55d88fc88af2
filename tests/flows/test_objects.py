from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.params import KeepParams, UpdateParams
from flows.doctor import examine
from flows.gc import gc
from flows.overview import overview
from flows.pipeline import pipeline
from flows.update import update
from storage.workspace import Workspace
from tests import objects
from tests.flows.law import built, differences, projection_faults, repeated
from tests.flows.processes import Command, here
from tests.flows.runs import params_for
from tests.flows.test_cli import call
from tests.tiny import draw, write_collection

pytestmark = pytest.mark.slow


def change(source: Path) -> None:
    """Two more pictures, one reworded, one gone, one that cannot be read."""
    lines = (source / "metadata.jsonl").read_text().splitlines()
    del lines[3]
    (source / "0003.png").unlink()
    lines[4] = json.dumps({"file_name": "0005.png", "captions": ["a blue cat", "a long word"]})
    for number in (70, 71):
        picture, words = draw(number)
        picture.save(source / f"{number:04}.png")
        lines.append(json.dumps({"file_name": f"{number:04}.png", "captions": [words]}))
    (source / "broken.png").write_bytes(b"no picture")
    lines.append(json.dumps({"file_name": "broken.png", "caption": "broken"}))
    (source / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def test_the_pipeline_on_object_storage(
    prefect_server: None,
    tiny_encoders: dict[str, tuple[str, ...]],
    s3: str,
    workspace_env: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With tables on object storage a run, an update that a kill cuts off and the next one leave, row for row, what a
    fresh build on disk holds; searches, plan, status, doctor, gc and roll-back answer; the workspace keeps no
    table, and the secret stands nowhere.
    """
    source = write_collection(workspace_env.parent / "shapes", 40)
    params = params_for(source, tiny_encoders)
    monkeypatch.setenv("MODALIGN_TABLES_URI", s3)
    remote = Workspace(root=workspace_env, tables_uri=s3)
    texts = next(one.table for one in pipeline(params).ingested.encoded if one.modality == "text")
    assert call("search", "a red circle", "--to", "image", "--json") == 0
    before = json.loads(capsys.readouterr().out)["hits"]
    assert len(before) == 10
    change(source)
    assert call("plan", "--json") == 0
    assert json.loads(capsys.readouterr().out)["plan"]["collections"][0]["rows_waiting"] > 0
    vectors = remote.store.count(texts)
    with Command("update", *here(workspace_env)) as killed:
        killed.wait_for(lambda: remote.store.count(texts) != vectors)
        killed.kill()
    done = update(UpdateParams(refit=True, overrides=("gate.tolerance=600",)))
    assert done.spaces[0].decision is not None
    assert repeated(remote.store) == []
    assert projection_faults(remote.store, "shapes") == []
    assert call("rollback", "shapes") == 0
    assert gc(KeepParams(), dry_run=True).bytes["versions"] >= 0
    gc(KeepParams())
    assert call("search", "a red circle", "--to", "image", "--json") == 0
    capsys.readouterr()
    from config.settings import Settings

    told = overview(Settings())
    assert told["tables"] == s3
    assert told["bytes"] > 0
    assert {one.level for one in examine(Settings()) if one.name == "tables"} == {"good"}
    other = workspace_env.parent / "other"
    other.mkdir()
    assert call("rollback", "shapes", *here(other)) == 1
    assert "belong to another workspace" in capsys.readouterr().err
    assert not (workspace_env / "tables").exists()
    files = [path.read_bytes() for path in workspace_env.rglob("*") if path.is_file()]
    assert not any(objects.SECRET.encode() in one for one in files)

    monkeypatch.delenv("MODALIGN_TABLES_URI")
    fresh = Workspace(root=workspace_env.parent / "fresh")
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(fresh.root))
    pipeline(params)
    assert differences(built(remote.store), built(fresh.store)) == []
