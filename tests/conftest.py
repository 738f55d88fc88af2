"""What all tests share: a quiet Prefect of their own, a fresh workspace, tiny encoders."""

from __future__ import annotations

import os
import tempfile

# before Prefect is imported
os.environ.update(
    PREFECT_HOME=tempfile.mkdtemp(prefix="modalign-tests-"),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
    HF_HUB_OFFLINE="1",
)
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker has a core: the threads of several would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny import save_encoders

settings.register_profile("modalign", deadline=None)  # a busy machine is no failure
settings.load_profile("modalign")


collect_ignore = ["benchmarks/opponents/pixeltable_lite0.py"]  # needs Pixeltable when it is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, one of them would run alone while the other cores wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One temporary Prefect database and server for all flow tests, without the heartbeat's wait."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    quick = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=120), quick:
        yield


@pytest.fixture
def workspace_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh workspace, named in the environment as in a deployment, with its own results."""
    root = tmp_path / "workspace"
    monkeypatch.setenv("MODALIGN_WORKSPACE", str(root))
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """Encoders of pictures and texts with random weights, as params name them."""
    image, text = save_encoders(tmp_path_factory.mktemp("encoders"))
    return {"image": (image,), "text": (text,)}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """One local S3 server for all tests; its address."""
    from tests.objects import served

    with served() as address:
        yield address


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URI on the local S3 server under which nothing lies yet; the environment knows the server."""
    from tests import objects

    for name, value in objects.environment(s3_server).items():
        monkeypatch.setenv(name, value)
    return objects.fresh()
