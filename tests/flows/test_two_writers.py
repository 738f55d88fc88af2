from __future__ import annotations

import signal
from pathlib import Path

import pytest

from storage import schemas
from storage.lock import owner_of, writing
from storage.workspace import Workspace
from tests.flows.law import projection_faults, repeated
from tests.flows.processes import Command, here, modalign, reason, sets
from tests.flows.runs import params_for
from tests.tiny import write_collection

pytestmark = pytest.mark.slow
PICTURES = 60


@pytest.fixture
def words(prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path: Path) -> list[str]:
    """`run` on a collection that is new to a workspace that is not there yet."""
    source = write_collection(tmp_path / "shapes", PICTURES)
    options = sets(params_for(source, tiny_encoders))
    return ["run", str(source), *here(tmp_path / "workspace"), *options]


def held_by(root: Path, *commands: Command) -> Command | None:
    """Which of the commands holds the workspace."""
    owner = owner_of(root / "writer.lock")
    return next((one for one in commands if f"process {one.pid}," in owner), None)


def test_two_runs_at_once_take_turns(words: list[str], tmp_path: Path) -> None:
    """Two processes run on one new workspace at once: one waits and says so, both end well, no key stands twice, and
    no row is lost.
    """
    root = tmp_path / "workspace"
    with Command(*words) as one, Command(*words) as other:
        one.wait_for(lambda: held_by(root, one, other) is not None)
        first = held_by(root, one, other)
        second = other if first is one else one
        assert first is not None
        first.process.send_signal(signal.SIGSTOP)  # it is at work until the other one has come
        try:
            second.wait_for(f"(process {first.pid}, since")
        finally:
            first.process.send_signal(signal.SIGCONT)
        assert (first.end(), second.end()) == (0, 0)
    assert not any("wait" in line for line in first.said)
    waits = [line for line in second.said if "wait" in line]
    assert len(waits) == 2
    assert f"written by `run {tmp_path / 'shapes'}` (process {first.pid}, since" in waits[0]
    assert "waited" in waits[1]
    store = Workspace(root=root).store
    assert repeated(store) == []
    assert store.count(schemas.ITEMS) == PICTURES * 3  # a picture and two captions
    assert store.count(schemas.PAIRS) == PICTURES * 2
    assert projection_faults(store, "shapes") == []
    assert [store.count(name) for name in store.names() if name.startswith("space_")] == [PICTURES * 3]


def test_who_will_not_wait_is_refused_and_a_killed_owner_holds_nothing(words: list[str], tmp_path: Path) -> None:
    """With MODALIGN_WAIT=0 a flow and a plain command are refused at once, by one line that names the owner's work and
    process, with exit code 1; after SIGKILL of the owner the workspace is free at once, and the command goes through.
    """
    root = tmp_path / "workspace"
    with Command(*words) as owner:
        owner.wait_for(lambda: held_by(root, owner) is not None)
        owner.process.send_signal(signal.SIGSTOP)
        for refused in (modalign(*words, env={"MODALIGN_WAIT": "0"}),
                        modalign("rollback", *here(root), env={"MODALIGN_WAIT": "0"})):  # fmt: skip
            assert refused.end() == 1
            assert refused.printed == []
            line = reason(refused)
            assert line.startswith(f"modalign: the workspace {root} is being written by `run {tmp_path / 'shapes'}`")
            assert f"(process {owner.pid}, since" in line
            assert "MODALIGN_WAIT" in line
        assert len(refused.said) == 1
        owner.kill()
    with writing(root, "test", wait=0, waiting=pytest.fail) as waited:
        assert waited < 1
    assert modalign(*words).end() == 0
    assert repeated(Workspace(root=root).store) == []
