from __future__ import annotations

import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from storage.errors import StorageError
from storage.lock import alone_on, by_worker, owner_of, writing
from storage.workspace import Workspace
from tests.storage.holders import child, hold, work_in_turn, write_in_turn


def never(owner: str) -> None:
    """What is told of a wait where there must be none."""
    raise AssertionError(f"waited for {owner}")


def free(root: Path) -> bool:
    """Whether a writer gets the workspace at once."""
    try:
        with writing(root, "probe", wait=0, waiting=never) as waited:
            return waited < 1
    except StorageError:
        return False


def test_what_is_called_inside_may_enter_again(tmp_path: Path) -> None:
    """The block nests, in any depth, without waiting; the workspace is free when the outermost one ends, not before."""
    with writing(tmp_path, "outer", wait=0, waiting=never):
        for _ in range(3):
            with writing(tmp_path, "inner", wait=0, waiting=never) as waited:
                assert waited == 0
        found: list[bool] = []
        other = threading.Thread(target=lambda: found.append(free(tmp_path)))
        other.start()
        other.join()
        assert found == [False]
    assert free(tmp_path)


def test_another_thread_is_another_writer(tmp_path: Path) -> None:
    """Two threads of one process hold the workspace one after the other, never both."""
    inside, most = 0, 0
    guard = threading.Lock()

    def write() -> None:
        nonlocal inside, most
        for _ in range(3):
            with writing(tmp_path, "thread", wait=60, waiting=lambda _: None):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.01)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_an_error_inside_frees_the_workspace(tmp_path: Path) -> None:
    """However the block ends, the workspace is free after it, and the error is the block's own."""
    with pytest.raises(ZeroDivisionError), writing(tmp_path, "wrong", wait=0, waiting=never):
        _ = 1 / 0
    assert free(tmp_path)


def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    """Without patience a second process is refused at once, and told who is at work, with process number and time."""
    with child(hold, tmp_path) as owner:
        owner.hear()
        with pytest.raises(StorageError) as refused, writing(tmp_path, "second", wait=0, waiting=never):
            pass
        assert f"`update photos` (process {owner.process.pid}, since 2" in str(refused.value)
        assert str(tmp_path) in str(refused.value)
        assert "\n" not in str(refused.value)
        owner.end()
    assert free(tmp_path)


def test_a_patient_writer_waits_and_is_told_once(tmp_path: Path) -> None:
    """A second process gets the workspace when the first ends; it hears once for whom it waits, and how long it did."""
    told: list[str] = []
    with child(hold, tmp_path) as owner:
        owner.hear()
        threading.Timer(0.7, owner.end).start()
        with writing(tmp_path, "second", wait=60, waiting=told.append) as waited:
            assert 0.2 < waited < 60
    assert len(told) == 1
    assert f"`update photos` (process {owner.process.pid}" in told[0]


def test_a_wait_ends(tmp_path: Path) -> None:
    """A writer that waits in vain is refused when its patience is at an end, not before."""
    with child(hold, tmp_path) as owner:
        owner.hear()
        start = time.monotonic()
        with (
            pytest.raises(StorageError, match="update photos"),
            writing(tmp_path, "second", wait=0.5, waiting=lambda _: None),
        ):
            pass
        assert time.monotonic() - start >= 0.5
        assert owner.process.is_alive()


def test_a_killed_owner_leaves_the_workspace_free(tmp_path: Path) -> None:
    """After SIGKILL of the owner the next writer enters at once, whatever the file still says, and is named itself."""
    with child(hold, tmp_path) as owner:
        owner.hear()
        assert not free(tmp_path)
        owner.kill()
        assert "update photos" in owner_of(tmp_path / "writer.lock")
        with writing(tmp_path, "next", wait=0, waiting=never):
            assert "`next`" in owner_of(tmp_path / "writer.lock")
    assert owner_of(tmp_path / "writer.lock") == "another process"


@pytest.mark.parametrize("work", [write_in_turn, work_in_turn])
def test_processes_write_one_after_the_other(tmp_path: Path, work: Callable[[Path, Connection], None]) -> None:
    """Four processes that read, change and write a file ten times each, under the lock of the workspace or of the same
    buckets, lose no change.
    """
    (tmp_path / "counter").write_text("0")
    with child(work, tmp_path) as a, child(work, tmp_path) as b, child(work, tmp_path) as c, child(work, tmp_path) as d:
        for one in (a, b, c, d):
            one.line.send("go")
        assert [one.hear() for one in (a, b, c, d)] == ["done"] * 4
    assert (tmp_path / "counter").read_text() == "40"


def test_other_buckets_are_no_matter(tmp_path: Path) -> None:
    """Who works on some buckets waits for nobody who works on others."""
    (tmp_path / "counter").write_text("0")
    with child(work_in_turn, tmp_path) as other, alone_on(tmp_path, 0, 16), alone_on(tmp_path, 32, 48):
        other.line.send("go")
        assert other.hear() == "done"


def test_a_workspace_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """Where the lock cannot be made, the workspace and the cause are named."""
    (tmp_path / "file").write_text("")
    for root, cause in ((tmp_path / "nowhere", "No such file"), (tmp_path / "file", "Not a directory")):
        with (
            pytest.raises(StorageError, match=f"{root} cannot be written .{cause}"),
            writing(root, "x", wait=0, waiting=never),
        ):
            pass


def test_workers_of_a_killed_writer_are_waited_for(tmp_path: Path) -> None:
    """While a worker is at its shard nobody but its own writer has the workspace, also when that one was killed."""
    begun, end = threading.Event(), threading.Event()

    @by_worker
    def work(workspace: Workspace) -> None:
        begun.set()
        end.wait(60)

    with child(hold, tmp_path) as writer:
        assert writer.hear() == "held"
        worker = threading.Thread(target=work, args=(Workspace(root=tmp_path),))
        worker.start()
        assert begun.wait(60)  # beside the writer, without waiting for it
        writer.kill()
    assert not free(tmp_path)
    end.set()
    worker.join()
    assert free(tmp_path)


def test_a_worker_that_does_not_see_the_workspace_says_so(tmp_path: Path) -> None:
    """On a machine without the folder a shard is an error, not an empty one."""
    with pytest.raises(StorageError, match="a worker must see it under the same path"):
        by_worker(lambda workspace: None)(Workspace(root=tmp_path / "elsewhere"))
