from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from storage import schemas
from storage.workspace import Workspace
from tasks.encode import spec_of, table_of
from tests.flows.runs import contents
from tests.tiny import draw

PICTURES = 300
FLEETING = ("attempts", "first_seen", "last_seen")


def write_folder(root: Path) -> Path:
    """Pictures that take a while to encode: drawn scenes, each with its own noise, and one broken file."""
    root.mkdir()
    lines = []
    for number in range(PICTURES):
        picture, words = draw(number)
        picture.resize((160, 160)).save(root / f"{number:04}.png")
        lines.append(json.dumps({"file_name": f"{number:04}.png", "caption": f"{words} {number % 7}"}))
    (root / "broken.png").write_bytes(b"")
    lines.append(json.dumps({"file_name": "broken.png", "caption": "broken"}))
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


def command(source: Path, workspace: Path, encoders: dict[str, tuple[str, ...]]) -> list[str]:
    """The real command line, in shards of about 20 pictures."""
    options = [
        f"encode.encoders={json.dumps(encoders)}",
        "encode.shard_items=20",
        "align.method=cca",
        "align.dim=16",
        "align.pca=32",
    ]
    options += ["assess.draws=100", "assess.controls=2"]
    sets = [word for option in options for word in ("--set", option)]
    return [sys.executable, "-m", "flows", "run", str(source), "--workspace", str(workspace), "--json", *sets]


def environment() -> dict[str, str]:
    """The test's own server, so that a killed process leaves none behind."""
    from prefect.settings import get_current_settings

    return os.environ | {"PREFECT_API_URL": str(get_current_settings().api.url)}


def state(workspace: Path) -> dict[str, Any]:
    """All that the law of updates speaks of."""
    store = Workspace(root=workspace).store
    tables = [name for name in store.names() if name.startswith(("embeddings_", "space_"))]
    names = [schemas.ITEMS, schemas.PAIRS, schemas.QUARANTINE, *tables]
    return {name: contents(store, name, without=FLEETING) for name in names}


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    """SIGKILL while two encoders of pictures are at work: the same command encodes what each lacks; all equals an
    undisturbed run.
    """
    encoders = tiny_encoders | {"image": ("builtin:efficientnet-lite0", *tiny_encoders["image"])}
    source, calm, hurt = write_folder(tmp_path / "folder"), tmp_path / "calm", tmp_path / "hurt"
    plain = subprocess.run(
        command(source, calm, encoders), env=environment(), capture_output=True, check=True, cwd=tmp_path
    )
    store, device = Workspace(root=hurt).store, Settings().device
    tables = [table_of(spec_of(name, "image"), device) for name in encoders["image"]]
    running = subprocess.Popen(
        command(source, hurt, encoders),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        while any(store.count(table) < 40 for table in tables):
            assert running.poll() is None, "the run ended before it could be killed"
            time.sleep(0.05)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    kept = [store.count(table) for table in tables]
    assert all(40 <= count < PICTURES for count in kept)
    again = subprocess.run(
        command(source, hurt, encoders), env=environment(), capture_output=True, check=True, cwd=tmp_path
    )
    told, undisturbed = json.loads(again.stdout), json.loads(plain.stdout)
    stages = told["ingest"]["stages"]
    encoded = [sum(row["encoded"] for row in stages if row["encoder"] == name) for name in encoders["image"]]
    assert encoded == [PICTURES - count for count in kept]
    assert state(hurt) == state(calm)
    for metrics in (told["metrics"], undisturbed["metrics"]):
        del metrics["seconds"], metrics["ann"]["tried"]  # what took how long
    assert told["metrics"] == undisturbed["metrics"]
