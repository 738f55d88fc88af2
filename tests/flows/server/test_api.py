from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from schemathesis.specs.openapi.checks import positive_data_acceptance

from flows.client import Client, ClientError
from flows.server import in_force
from flows.server.app import create_app
from storage.spaces import published
from tasks.asked import Query
from tasks.caption import Captioner
from tasks.search import Searcher
from tests.flows.server.conftest import Made
from tests.flows.server.running import running


def test_no_request_is_answered_otherwise_than_declared(app: FastAPI, api: TestClient) -> None:
    """Whatever is sent to any route: no 500, and each status, type and body is one that the OpenAPI declares."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    names: set[str] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        names.add(operation.label)

        @settings(max_examples=20, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def asks(case: schemathesis.Case) -> None:
            # a key or a condition that fits its type need not exist: that refusal is right, and declared
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        asks()
    assert {"POST /v1/search", "GET /v1/search", "GET /v1/items/{id}/media", "POST /v1/caption"} <= names


def test_a_search_is_that_of_the_core(api: TestClient, made: Made) -> None:
    """By text, by item and by file, the API gives the hits of the query core, in its order."""
    searcher = Searcher(made.workspace)
    path = made.source / "0003.png"
    found = api.post("/v1/search", json={"text": "a red circle", "target": "image", "k": 7}).json()
    assert [hit["key"] for hit in found["hits"]] == [
        hit.key for hit in searcher.search(Query(text="a red circle"), target="image", k=7).hits
    ]
    assert found["space_id"] == made.first["space"]["space_id"]
    item = found["hits"][0]["key"]
    alike = api.post("/v1/search", json={"item": item, "target": "image", "k": 4}).json()["hits"]
    assert [hit["key"] for hit in alike] == [
        hit.key for hit in searcher.search(Query(item=item), target="image", k=4).hits
    ]
    with path.open("rb") as file:
        sent = api.post("/v1/search", files={"file": ("any name", file)}, data={"k": 5, "target": "text"}).json()
    assert [hit["key"] for hit in sent["hits"]] == [
        hit.key for hit in searcher.search(Query(file=path), target="text", k=5).hits
    ]
    assert sent["query"] == "file"


def test_pages_follow_each_other(api: TestClient) -> None:
    """The hits behind an offset are those that a longer list shows from that place on; conditions hold for each."""
    whole = api.get("/v1/search", params={"text": "a blue bar", "target": "image", "k": 10}).json()["hits"]
    later = api.get("/v1/search", params={"text": "a blue bar", "target": "image", "k": 4, "offset": 6}).json()["hits"]
    assert [hit["key"] for hit in later] == [hit["key"] for hit in whole[6:]]
    where = {"text": "a blue bar", "target": "image", "k": 50, "where": ["price>=10", "price<20"]}
    assert {hit["attributes"]["price"] for hit in api.get("/v1/search", params=where).json()["hits"]} == set(
        range(10, 20)
    )


def test_an_item_its_medium_and_its_thumbnail(api: TestClient, made: Made, keys: dict[str, str]) -> None:
    """A medium comes whole, in parts and not beyond its end; a text as JSON; a thumbnail is a bounded picture."""
    data = (made.source / "0003.png").read_bytes()
    path = f"/v1/items/{keys['0003.png']}"
    assert {pair["modality"] for pair in api.get(path).json()["pairs"]} == {"text"}
    whole = api.get(f"{path}/media")
    assert (whole.content, whole.headers["content-type"]) == (data, "image/png")
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = api.get(f"{path}/media", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])
    assert api.get(f"{path}/media", headers={"range": "bytes=-5"}).content == data[-5:]
    assert api.get(f"{path}/media", headers={"range": f"bytes={len(data)}-"}).status_code == 416
    assert api.get(f"{path}/media", headers={"range": "lines=1-2"}).content == data
    with Image.open(io.BytesIO(api.get(f"{path}/thumbnail", params={"size": 2_000}).content)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (48, 48))
    text = f"/v1/items/{keys['text']}"
    assert set(api.get(f"{text}/media").json()) == {"text"}
    assert api.get(f"{text}/thumbnail").status_code == 404


def test_errors_have_one_form(api: TestClient, keys: dict[str, str]) -> None:
    """Each mistake has its status, and the body says code, message and mend."""
    mistakes = [
        (api.get("/v1/items/none"), 404),
        (api.get("/v1/none"), 404),
        (api.delete("/v1/search"), 405),
        (api.get("/v1/search"), 422),
        (api.get("/v1/search", params={"text": "x", "target": "smell"}), 422),
        (api.get("/v1/search", params={"text": "x", "k": 0}), 422),
        (api.post("/v1/search", content="text"), 415),
        (api.post("/v1/search", json={"text": "x", "colour": 1}), 422),
        (api.post("/v1/search", content="{", headers={"content-type": "application/json"}), 422),
        (api.post("/v1/search", files={"file": b"no medium at all"}), 415),
        (api.post("/v1/why", json={"key": "none", "text": "x"}), 404),
    ]
    for answer, status in mistakes:
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"code", "message", "mend"}


def test_why_shows_known_pairs(api: TestClient, keys: dict[str, str]) -> None:
    """The evidence of a hit are known pairs of a text and a picture, with figures between 0 and 1."""
    found = api.post("/v1/why", json={"key": keys["0003.png"], "text": "a red circle", "k": 3}).json()
    assert 1 <= len(found["evidence"]) <= 3
    for pair in found["evidence"]:
        assert (pair["near_query"]["modality"], pair["near_hit"]["modality"]) == ("text", "image")
        assert 0 <= pair["score"] <= 1


def test_captions_and_answers_are_those_of_the_core(api: TestClient, made: Made, keys: dict[str, str]) -> None:
    """A file and an item get the captioner's caption, a question the answerer's choice, by the space in force."""
    path = made.source / "0003.png"
    core = Captioner(made.workspace)
    with path.open("rb") as file:
        sent = api.post("/v1/caption", files={"file": file}, data={"k": 3}).json()
    assert sent["text"] == core.caption(file=path).text
    assert [one["text"] for one in sent["evidence"]] == [one.text for one in core.caption(file=path, k=3).evidence]
    assert sent["space_id"] == made.first["space"]["space_id"]
    told = api.post("/v1/caption", json={"item": keys["0003.png"]}).json()
    assert told["text"] == core.caption(item=keys["0003.png"]).text
    choices = ["a yellow circle at the left", "a black cross at the right"]
    asked = {"item": keys["0003.png"], "question": "what is it?", "candidates": choices}
    answer = api.post("/v1/ask", json=asked).json()
    assert (answer["answer"], answer["how"]) == (choices[0], "candidates")
    assert api.post("/v1/caption", json={}).status_code == 422
    assert api.post("/v1/caption", json={"item": keys["text"]}).status_code == 422


def test_metrics_and_health(api: TestClient, made: Made) -> None:
    """Prometheus can read the metrics, and no label is what a stranger wrote; health tells the space and its index."""
    api.get("/v1/items/a-strangers-word")
    api.get("/a-strangers-word")
    text = api.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {"modalign_requests", "modalign_request_seconds", "modalign_space_in_force"} <= set(families)
    assert {"modalign_run_peak_bytes", "modalign_run_seconds", "modalign_encoded_per_second"} <= set(families)
    assert "strangers" not in text
    (sample,) = families["modalign_space_in_force"].samples
    assert sample.labels["space_id"] == made.first["space"]["space_id"]
    health = api.get("/healthz").json()
    assert (health["status"], health["rows"], health["index"]) == ("ok", made.first["index"]["index"]["rows"], "exact")


def test_the_documentation_asks_for_no_other_file(api: TestClient) -> None:
    """The page of the API names every route, and loads nothing."""
    page = api.get("/docs").text
    assert all(path in page for path in api.get("/openapi.json").json()["paths"])
    assert not any(word in page for word in ("<script", "<link", "src=", "http://", "https://"))


def test_the_client_gives_what_the_api_gives(made: Made, tmp_path: Path) -> None:
    """Over a real socket, each method of the client gives the API's answer as a model, and refusals as typed errors."""
    with running(create_app(made.settings, page=False)) as url, Client(url) as client:
        found = client.search("a red circle", target="image", k=3, where=["price<50"])
        item = found.hits[0]
        assert client.health().space_id == found.space_id
        assert client.search(file=made.source / item.uri, target="image", k=1).hits[0].key == item.key
        assert client.media(item.key) == (made.source / item.uri).read_bytes()
        assert client.thumbnail(item.key).startswith(b"RIFF")
        assert client.item(item.key).uri == item.uri
        assert client.why(item.key, "a red circle").key == item.key
        assert client.caption(file=made.source / item.uri).text == client.caption(item=item.key).text
        assert client.ask("what is it?", item=item.key, candidates=["a circle"]).answer == "a circle"
        with pytest.raises(ClientError) as refused:
            client.item("none")
        assert (refused.value.status, refused.value.code) == (404, "item_unknown")
    with Client(url) as client, pytest.raises(ClientError, match="cannot be reached"):
        client.health()


def test_a_promotion_in_the_middle(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """While others ask, another space is promoted, twice: no request fails, and each answer is wholly of one space."""
    monkeypatch.setattr(in_force, "SECONDS", 0.05)
    service = create_app(made.settings, page=False)
    asked = {"text": "a red circle", "target": "image", "k": 20}
    answers: list[tuple[str, tuple[tuple[str, float], ...]]] = []
    failures: list[str] = []
    over = threading.Event()

    with TestClient(service) as client:

        def ask() -> None:
            while not over.is_set():
                answer = client.post("/v1/search", json=asked)
                if answer.status_code != 200:
                    failures.append(answer.text)
                    return
                found = answer.json()
                answers.append((found["space_id"], tuple((hit["key"], hit["score"]) for hit in found["hits"])))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for manifest in (made.second, made.first):
                made.publish(manifest)
                end = time.monotonic() + 20
                while service.state.service.in_force.now().manifest != manifest and time.monotonic() < end:
                    time.sleep(0.02)
                seen = len(answers)
                while len(answers) < seen + 8 and not failures and time.monotonic() < end:
                    time.sleep(0.02)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert not failures
    told = {space: {hits for one, hits in answers if one == space} for space, _ in answers}
    assert set(told) == {made.first["space"]["space_id"], made.second["space"]["space_id"]}
    assert all(len(hits) == 1 for hits in told.values()), "a space gave two answers to one question"
    assert published(made.workspace.store, "shapes")[1] == made.first
