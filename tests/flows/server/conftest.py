"""A tiny workspace with two spaces of one name, and the app over it, for all tests of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config.settings import Settings
from flows.align_spaces import align_spaces
from flows.pipeline import pipeline
from flows.server.app import create_app
from storage.spaces import publish
from storage.workspace import Workspace
from tests.flows.runs import params_for
from tests.tiny import write_collection

SCRIPT = "<script>document.title = 'taken'</script>"
SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 40 40'>"
    f"{SCRIPT}<circle cx='20' cy='20' r='12' fill='red' onclick='alert(1)'/></svg>"
)
CAPTION = "<img src=x onerror=\"document.title = 'taken'\"> a red circle"


@dataclass(frozen=True)
class Made:
    """The workspace, its source, and the manifests of two spaces under the name `shapes`; the first is in force."""

    workspace: Workspace
    source: Path
    first: dict[str, Any]
    second: dict[str, Any]

    @property
    def settings(self) -> Settings:
        return Settings(workspace=self.workspace.root)

    def publish(self, manifest: dict[str, Any]) -> None:
        publish(self.workspace.store, "shapes", manifest)


@pytest.fixture(scope="session")
def made(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """Forty drawn pictures, two captions each and a price; a scripted SVG with a caption that is HTML."""
    root = tmp_path_factory.mktemp("served")
    source = write_collection(root / "shapes", 40)
    lines = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    for number, row in enumerate(lines):
        row["price"] = number
    lines.append({"file_name": "script.svg", "captions": [CAPTION], "price": 99})
    (source / "script.svg").write_text(SVG)
    (source / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
        params = params_for(source, tiny_encoders)
        done = pipeline(params)
        other = params_for(source, tiny_encoders, align={"method": "procrustes"})
        second = align_spaces(other, (done.ingested,), "shapes")
    return Made(
        Workspace(root=root / "workspace"),
        source,
        done.aligned.model_dump(mode="json"),
        second.model_dump(mode="json"),
    )


@pytest.fixture(scope="session")
def app(made: Made) -> FastAPI:
    """The API over the workspace, without the page."""
    return create_app(made.settings, page=False)


@pytest.fixture(scope="session")
def api(app: FastAPI) -> Iterator[TestClient]:
    """Asks the app."""
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="session")
def keys(api: TestClient) -> dict[str, str]:
    """The key of a picture by its name, and of the captions `text`."""
    hits = api.get("/v1/search", params={"text": "a circle", "target": "image", "k": 50}).json()["hits"]
    texts = api.get("/v1/search", params={"text": "a red circle", "target": "text", "k": 3}).json()["hits"]
    return {hit["uri"]: hit["key"] for hit in hits} | {"text": texts[0]["key"]}
