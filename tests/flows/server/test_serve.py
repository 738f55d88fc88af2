from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
import uvicorn

from flows import cli
from tests.flows.server.conftest import Made


def call(*words: str) -> int:
    """Exit code of `modalign` with these words."""
    try:
        cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What uvicorn was asked to run; nothing runs."""
    asked: list[dict[str, object]] = []
    run: Callable[..., None] = lambda app, **how: asked.append({"app": app, **how})  # noqa: E731
    monkeypatch.setattr(uvicorn, "run", run)
    return asked


def test_it_listens_on_this_machine_alone(
    made: Made, still: list[dict[str, object]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word it binds to 127.0.0.1 and says the address; beyond that it warns, unless there is a token."""
    words = ("serve", "--no-page", "-w", str(made.workspace.root))
    assert call(*words, "--port", "8123") == 0
    told = capsys.readouterr()
    assert still[-1]["host"] == "127.0.0.1"
    assert "http://127.0.0.1:8123" in told.out
    assert told.err == ""
    assert call(*words, "--host", "0.0.0.0", "--port", "8123") == 0
    assert "MODALIGN_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("MODALIGN_TOKEN", "Zy8-quite-secret")
    assert call(*words, "--host", "0.0.0.0", "--port", "8123") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "secret" not in told.out


def test_what_is_missing_is_one_line(
    made: Made, still: list[dict[str, object]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space, a port that is taken, an extra that is not installed: exit code 2, one line, and how to mend it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setitem(sys.modules, "nicegui", None)
        mistakes = [
            (("--space", "none"), "no space is published under 'none'"),
            (("--no-page", "--port", port), f"127.0.0.1:{port} cannot be listened on"),
            ((), 'pip install "modalign[app]"'),
        ]
        for words, part in mistakes:
            assert call("serve", "-w", str(made.workspace.root), *words) == 2
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert part in line
    assert not still


def test_it_needs_neither_prefect_nor_torch(made: Made) -> None:
    """The app opens its space and knows the page without importing Prefect, and without torch as far as encoders go."""
    asks = (
        "import sys; from pathlib import Path; from config.settings import Settings; "
        "from flows.server.app import create_app; from flows.server import in_force; import flows.server.page.shell; "
        "print(sorted({'prefect', 'schemathesis'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
