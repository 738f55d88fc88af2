from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flows.runs import params_for
from tests.flows.test_cli import call, sets
from tests.tiny import draw, write_collection


class Terminal:
    """The command line, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def json(self, *words: str, code: int = 0) -> Any:
        """The object that a command prints with --json, and nothing else on standard output."""
        assert call(*words, "--json") == code, self._capsys.readouterr().err
        return json.loads(self._capsys.readouterr().out)

    def text(self, *words: str, code: int = 0) -> str:
        """What a command prints for a person."""
        assert call(*words) == code
        shown = self._capsys.readouterr()
        return shown.out if code == 0 else shown.err


def test_a_week_of_changes(
    prefect_server: None,
    tiny_encoders: dict[str, tuple[str, ...]],
    workspace_env: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """plan, update, spaces, diff, promote, rollback, quarantine and gc follow one folder; each says what it did."""
    terminal = Terminal(capsys)
    source = write_collection(workspace_env.parent / "shapes", 40)
    options = sets(params_for(source, tiny_encoders))
    assert "`modalign run SOURCE` first" in terminal.text("update", code=2)
    assert terminal.json("run", str(source), *options)["metrics"]["rsum"] > 0
    first = terminal.json("spaces")["spaces"][0]
    assert (first["state"], first["stale because"]) == ("in force", "")

    (source / "0003.png").write_bytes(b"")
    (source / "0004.png").unlink()
    write_collection(source, 3, first=40)
    plan = terminal.json("plan")["plan"]["collections"][0]
    assert plan["added"] == {"image": 3, "text": 6}
    assert plan["removed"] == {"image": 2}
    assert plan["faults"] == 2
    assert "image" in terminal.text("plan")
    done = terminal.json("update", "--set", "refit.policy=never")["update"]
    assert done["ingested"][0]["quarantined"] == 2
    assert done["spaces"][0]["projected"]["removed"] == 2
    assert "no item comes, changes or goes" in terminal.text("plan")

    faults = terminal.json("quarantine", "list")["quarantine"]
    assert {fault["locator"]: fault["code"] for fault in faults} == {
        "0003.png": "file_empty",
        "0004.png": "file_missing",
    }
    draw(3)[0].save(source / "0003.png")
    assert "2 will be read again" in terminal.text("quarantine", "retry")
    assert "written" in terminal.text("update")
    assert [one["locator"] for one in terminal.json("quarantine", "list")["quarantine"]] == ["0004.png"]
    assert terminal.json("quarantine", "drop", "--code", "file_missing") == {"dropped": 1}
    assert "nothing is quarantined" in terminal.text("quarantine", "list")

    ridge = ("--set", "align.method=ridge", "--set", "gate.policy=always", "--refit")
    assert "promoted" in terminal.text("update", *ridge)
    states = {row["state"]: row["space"] for row in terminal.json("spaces")["spaces"]}
    assert states["former"] == first["space"]
    compared = terminal.json("diff", first["space"][:6], "shapes")
    assert compared["to"] == states["in force"]
    assert compared["differs"]["align.method"] == ["cca", "ridge"]
    assert "held-out groups" in terminal.text("diff", first["space"][:6], "shapes")
    assert "is in force again" in terminal.text("rollback", "--why", "try")
    assert "no space before" in terminal.text("rollback", code=2)
    assert terminal.json("promote", states["in force"][:8], "--force")["decision"]["event"] == "promoted"
    events = [row["event"] for row in terminal.json("spaces", "--history")["spaces"]]
    assert events == ["promoted", "promoted", "rolled back", "promoted"]
    assert "in force" in terminal.text("spaces")
    assert "there is no space" in terminal.text("promote", "zzz", code=2)

    before = terminal.json("gc", "--dry-run")["gc"]
    assert before["dry_run"] is True
    after = terminal.json("gc")["gc"]
    assert after["bytes"]["versions"] >= before["bytes"]["versions"] > 0
    assert terminal.json("gc", "--dry-run")["gc"]["bytes"] == dict.fromkeys(before["bytes"], 0)
