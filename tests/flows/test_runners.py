from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from config.errors import UserError
from config.params import PipelineParams
from config.settings import Settings
from flows import runners
from flows.ingest import ingest
from flows.runners import Workers, check_runner
from storage.workspace import Workspace
from tests.flows.law import built, differences, repeated
from tests.flows.runs import params_for
from tests.sounds import tone, written

SOUNDS = 60
# logmel runs without torch, which each worker would have to load; of pictures there are none
ENCODERS = {"audio": ("builtin:logmel",), "image": ("builtin:efficientnet-lite0",)}


def write_folder(root: Path) -> Path:
    """Sounds of their own pitch, one of them twice, with a caption each; one is no sound."""
    root.mkdir()
    lines = []
    for number in range(SOUNDS):
        (root / f"{number:03}.wav").write_bytes(written(tone(0.3, 200 + 20 * max(number, 1), 22_050), rate=22_050))
        lines.append(json.dumps({"file_name": f"{number:03}.wav", "caption": f"tone {number}"}))
    (root / "broken.wav").write_bytes(b"RIFF and no more")
    lines.append(json.dumps({"file_name": "broken.wav", "caption": "broken"}))
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


def params_of(source: Path) -> PipelineParams:
    """Shards of a few sounds."""
    return params_for(source, ENCODERS, encode={"shard_items": 8}, preprocess={"shard_rows": 64})


class Killer(threading.Thread):
    """SIGKILL for one of this process's workers as soon as the first vectors are written."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(daemon=True)
        self._store, self.written, self.stop = Workspace(root=workspace).store, 0, False

    def run(self) -> None:
        """Wait, and kill."""
        while not (self.written or self.stop):
            time.sleep(0.02)
            for table in [name for name in self._store.names() if name.startswith("embeddings_")]:
                self.written = self._store.count(table)
        if self.written:
            os.kill(self._worker().pid, signal.SIGKILL)

    def _worker(self) -> psutil.Process:
        spawned = [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
        return max(spawned, key=lambda one: one.cpu_times().user)


@contextmanager
def killing(workspace: Path) -> Iterator[Killer]:
    """A killer that has done its work, or given up, after the block."""
    killer = Killer(workspace)
    killer.start()
    try:
        yield killer
    finally:
        killer.stop = True
        killer.join()


@pytest.mark.slow
def test_lost_dask_workers_leave_what_one_thread_leaves(
    prefect_server: None, workspace_env: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two Dask workers, one of them killed while it encodes: tables equal to those of one process, each key once."""
    pytest.importorskip("prefect_dask")
    monkeypatch.setenv("MODALIGN_THREADS", "1")
    source = write_folder(tmp_path / "tones")
    plain = ingest(params_of(source))
    elsewhere = tmp_path / "by-dask"
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(elsewhere))
    monkeypatch.setenv("MODALIGN_RUNNER", "dask")
    with killing(elsewhere) as killer:
        done = ingest(params_of(source))
    assert 0 < killer.written < SOUNDS
    store = Workspace(root=elsewhere).store
    assert differences(built(store), built(Workspace(root=workspace_env).store)) == []
    assert repeated(store) == []
    assert done.quarantined == plain.quarantined == 1
    assert done.written == plain.written
    assert {one.encoder for one in done.stages} == {one.encoder for one in plain.stages}


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_runner_that_is_not_installed_is_told_with_its_extra(runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before work begins a missing extra is the user's error, with the command that mends it."""
    monkeypatch.setattr(runners, "installed", lambda module: False)
    with pytest.raises(UserError, match=rf"runner {runner} is not installed; pip install 'modalign\[{runner}\]'"):
        check_runner(Settings(runner=runner))
    check_runner(Settings())


def test_workers_elsewhere_need_a_server_that_they_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's workers cannot report to the server that a command starts for itself: the user's error."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(runners, "installed", lambda module: True)
    settings = Settings(runner="dask", address="tcp://127.0.0.1:1")
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(UserError, match="PREFECT_API_URL"):
        check_runner(settings)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        check_runner(settings)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        check_runner(Settings(runner="dask"))


def test_workers_share_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers here divide the CPUs, at least one each; a cluster's take one; what is set stays; a thread takes all."""
    monkeypatch.setattr(runners, "cpu_count", lambda: 8)
    monkeypatch.delenv("MODALIGN_THREADS", raising=False)

    def threads(**settings: object) -> int | None:
        return Workers(Settings.model_validate(settings), runners.ExitStack()).threads

    assert threads() is None
    assert threads(runner="dask") == 4
    assert threads(runner="ray", workers=3) == 2
    assert threads(runner="dask", workers=16) == 1
    assert threads(runner="dask", address="tcp://10.0.0.5:8786") == 1
    assert threads(runner="dask", workers=4, threads=6) == 6
