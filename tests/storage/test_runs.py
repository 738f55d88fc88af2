from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.runs import noted, runs
from tests.storage.holders import child, note


def test_a_run_is_marked_while_it_is_at_work(tmp_path: Path) -> None:
    """Inside the block the mark says which run it is, of which process, and that it is alive; later it is gone."""
    with noted(tmp_path, "outer", "update"), noted(tmp_path, "inner", "ingest"):
        found = {run.run_id: run for run in runs(tmp_path)}
        assert {name: (run.what, run.pid, run.alive) for name, run in found.items()} == {
            "outer": ("update", os.getpid(), True),
            "inner": ("ingest", os.getpid(), True),
        }
    assert runs(tmp_path) == []
    assert not list((tmp_path / "runs").iterdir())


def test_a_run_that_fails_leaves_no_mark(tmp_path: Path) -> None:
    """An error ends the run: its mark goes, for Prefect knows of it."""
    with pytest.raises(ZeroDivisionError), noted(tmp_path, "wrong", "update"):
        _ = 1 / 0
    assert runs(tmp_path) == []


def test_a_kill_leaves_marks_that_are_not_alive(tmp_path: Path) -> None:
    """Marks of another process are alive while it is, and are there, but not alive, after SIGKILL."""
    with child(note, tmp_path) as one:
        one.hear()
        assert {(run.run_id, run.pid, run.alive) for run in runs(tmp_path)} == {
            ("outer", one.process.pid, True),
            ("inner", one.process.pid, True),
        }
        one.kill()
        # the outer one began first
        assert [(run.run_id, run.alive) for run in runs(tmp_path)] == [("outer", False), ("inner", False)]
    with noted(tmp_path, "next", "update"):
        assert {run.run_id for run in runs(tmp_path) if run.alive} == {"next"}


def test_a_process_number_that_was_given_out_again_is_not_alive(tmp_path: Path) -> None:
    """A mark whose number now belongs to another process, this one, is that of a dead run."""
    with child(note, tmp_path) as one:
        one.hear()
        one.kill()
    for run in runs(tmp_path):
        run.path.write_text(run.path.read_text().replace(f'"pid": {run.pid}', f'"pid": {os.getpid()}'))
    assert [(run.pid, run.alive) for run in runs(tmp_path)] == [(os.getpid(), False)] * 2


def test_what_is_no_mark_is_passed_over(tmp_path: Path) -> None:
    """Files that are empty, cut short or something else do no harm."""
    (tmp_path / "runs").mkdir()
    for name, text in (("empty", ""), ("cut", '{"run_id": "x'), ("other", "[1]"), ("more", '{"colour": 1}')):
        (tmp_path / "runs" / f"{name}.json").write_text(text)
    assert runs(tmp_path) == []
    assert runs(tmp_path / "nowhere") == []


def test_a_workspace_that_cannot_be_marked_is_no_hindrance(tmp_path: Path) -> None:
    """Where no mark can be written the run goes on; what cannot be written says so itself."""
    (tmp_path / "runs").write_text("no folder")
    with noted(tmp_path, "one", "update"):
        assert runs(tmp_path) == []
