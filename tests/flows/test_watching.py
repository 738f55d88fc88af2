from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from config.settings import Settings
from flows.metrics import metrics_text
from flows.watching import ended, follow, line
from flows.work import Work, tell, working
from storage.memory import resident
from storage.runs import noted
from storage.told import last_told, told_now
from tasks.progress import progress
from tasks.spent import spending

DONE = {
    "collection": 'shapes "1"',
    "quarantined": 3,
    "encoders": [{"encoder": "e", "encoded": 7, "rate": 5, "starved": 0.25, "blocked": 0.5, "ready": 1.5}],
}


@contextmanager
def at_work(root: Path, run_id: str, what: str) -> Iterator[Work]:
    """A run as flows make it, without Prefect."""
    with noted(root, run_id, what), working(Settings(workspace=root), run_id, what) as work:
        yield work


def watching(root: Path, *words: str) -> subprocess.Popen[str]:
    """`modalign status --watch` in another process."""
    command = [sys.executable, "-m", "flows", "status", "--watch", "--interval", "0.2", "-w", str(root), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_until(process: subprocess.Popen[str], part: str) -> list[str]:
    """Its lines up to the first that holds `part`."""
    assert process.stdout is not None
    found: list[str] = []
    while not found or part not in found[-1]:
        found.append(process.stdout.readline())
        assert found[-1], found
    return found


def test_another_process_follows_a_run(tmp_path: Path) -> None:
    """Who watches sees stage, count, rate, memory and warnings, as lines and as JSON, and ends when the run does."""
    with at_work(tmp_path, "one", "ingest photos"), progress("encode text/x 3/12", 1_000) as advance:
        watchers = [watching(tmp_path), watching(tmp_path, "--json")]
        advance(250)
        logging.getLogger("prefect.task_runs").warning("a disk is slow\nsecond line")
        (*_, plain), (*_, told) = (lines_until(one, "250") for one in watchers)
    assert "ingest photos" in plain
    assert "encode text/x 3/12: 250 of 1,000" in plain
    now: dict[str, Any] = json.loads(told)
    assert (now["stage"], now["done"], now["total"]) == ("encode text/x 3/12", 250, 1_000)
    assert now["seconds_left"] == pytest.approx(750 / now["per_second"], rel=0.1)
    assert 0 < now["resident_bytes"] <= now["peak_bytes"]
    ends = [one.communicate(timeout=60)[0].splitlines()[-1] for one in watchers]
    assert [one.returncode for one in watchers] == [0, 0]
    assert "ingest photos completed" in ends[0]
    last = json.loads(ends[1])["last"]
    assert (last["outcome"], last["problems"]) == ("completed", ["a disk is slow"])


def test_who_looks_away_ends_nothing(tmp_path: Path) -> None:
    """Ctrl-C ends the view with exit code 0; the run goes on."""
    with at_work(tmp_path, "one", "ingest photos"), progress("scan", 0):
        watcher = watching(tmp_path)
        lines_until(watcher, "scan")
        watcher.send_signal(signal.SIGINT)
        watcher.communicate(timeout=60)
        assert watcher.returncode == 0
        assert last_told(tmp_path) == []
    assert [one["run_id"] for one in last_told(tmp_path)] == ["one"]


def test_without_a_run_the_last_one_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a workspace at rest the view ends at once, and says how the last run ended: a failed one, too."""
    follow(tmp_path, 1.0, json_lines=False)
    assert capsys.readouterr().out == "no run is at work\n"
    with pytest.raises(ValueError, match="broken"), at_work(tmp_path, "one", "run photos"):
        raise ValueError("broken")
    follow(tmp_path, 1.0, json_lines=False)
    assert "run photos failed" in capsys.readouterr().out
    assert told_now(tmp_path, "one") is None


def test_a_record_adds_up(tmp_path: Path) -> None:
    """The record of a run has its peak memory, and seconds that add up to its wall time; flows in it are part of it."""
    with at_work(tmp_path, "outer", "update photos"), at_work(tmp_path, "inner", "ingest photos"):
        with spending("encode"):
            time.sleep(0.02)
        tell(ingested=DONE)
    (told,) = last_told(tmp_path)
    assert told["what"] == "update photos"
    assert sum(told["spent_seconds"].values()) == pytest.approx(told["wall_seconds"], abs=0.01)
    assert told["spent_seconds"]["encode"] >= 0.02
    assert told["peak_bytes"] >= resident() / 2
    assert told["ingested"] == [DONE]
    assert "update photos completed" in ended(told)


def test_the_last_fifty_runs_are_kept(tmp_path: Path) -> None:
    """The list of runs is bounded, and the newest stand in it."""
    for number in range(53):
        with at_work(tmp_path, f"run{number}", "ingest photos"):
            pass
    assert [one["run_id"] for one in last_told(tmp_path)] == [f"run{number}" for number in range(3, 53)]


def test_prometheus_reads_the_metrics(tmp_path: Path) -> None:
    """The file beside the tables is what Prometheus' own parser reads: the last run of each kind, and labels."""
    with at_work(tmp_path, "one", "ingest photos"), spending("encode"):
        tell(ingested=DONE)
    found = families((tmp_path / "metrics.prom").read_text(encoding="utf-8"))
    assert found["modalign_run_completed", "ingest"] == 1
    assert found["modalign_run_peak_bytes", "ingest"] == last_told(tmp_path)[0]["peak_bytes"]
    assert found["modalign_quarantined", 'shapes "1"'] == 3
    assert found["modalign_encoder_waits", 'shapes "1"', "e", "reader", "ingest"] == 0.25
    assert found["modalign_queue_batches", 'shapes "1"', "e", "ingest"] == 1.5
    with at_work(tmp_path, "two", "update photos"), progress("scan", 10) as advance:
        advance(4)
        deadline = time.monotonic() + 30
        while (now := families(metrics_text(tmp_path))).get(("modalign_at_work_done", "update", "scan")) != 4:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert now["modalign_at_work_pending", "update", "scan"] == 6


def families(text: str) -> dict[tuple[str, ...], float]:
    """Value by name and labels, sorted by the labels' names, as Prometheus' parser reads them."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_waiting_run_says_so() -> None:
    """A run that waits for another writer says for whom, in place of a stage."""
    told = {"what": "update", "at": 100.0, "since": 30.0, "waiting": "ingest photos (process 7)"}
    assert line(told) == "update, 1:10: waits for ingest photos (process 7)"
