from __future__ import annotations

import io
import json
import socket
import struct
import tempfile
import time
import zlib
from pathlib import Path
from urllib.parse import urlparse

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from flows.server.app import create_app
from flows.server.uploads import modality_of
from storage import schemas
from tests.clips import film
from tests.flows.server.conftest import CAPTION, SCRIPT, Made
from tests.flows.server.running import running
from tests.sounds import tone, written

LEFTOVERS = "modalign-upload-*"


def bomb(side: int = 50_000) -> bytes:
    """A PNG of some hundred bytes that declares `side` × `side` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9_999))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "key",
    ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "a' OR '1'='1", "a%00b", "..\\.."],
)
def test_an_id_is_a_key_and_no_path(api: TestClient, key: str) -> None:
    """Whatever stands in the place of a key: what the space does not hold is not there, nor is anything else."""
    for path in (f"/v1/items/{key}", f"/v1/items/{key}/media", f"/v1/items/{key}/thumbnail"):
        answer = api.get(path)
        assert answer.status_code == 404, path
        assert "root:" not in answer.text


def test_a_medium_outside_its_collection_is_not_served(made: Made, api: TestClient, keys: dict[str, str]) -> None:
    """A file that was replaced by a link to somewhere else since it was ingested is not given away."""
    path = made.source / "0007.png"
    data = path.read_bytes()
    path.unlink()
    path.symlink_to("/etc/hostname")
    try:
        for name in ("media", "thumbnail"):
            answer = api.get(f"/v1/items/{keys['0007.png']}/{name}")
            assert answer.status_code == 404
            assert set(answer.json()) == {"error"}
    finally:
        path.unlink()
        path.write_bytes(data)


@pytest.mark.parametrize(
    "condition",
    ["price>=1) OR (1=1", "split='train' OR 1=1", "1=1; DROP TABLE items", "`key`=x", "price>=1e999", "=", "vector=1"],
)
def test_a_filter_is_no_sql(api: TestClient, condition: str) -> None:
    """A condition is refused, or it is about an attribute of that very name and value: it never widens a search."""
    bound = {"text": "a circle", "target": "image", "k": 50, "where": ["price<3", condition]}
    answer = api.post("/v1/search", json=bound)
    assert answer.status_code in (200, 422)
    if answer.status_code == 200:
        assert {hit["attributes"]["price"] for hit in answer.json()["hits"]} <= {0, 1, 2}


def test_the_name_of_an_upload_is_no_path(api: TestClient, made: Made, tmp_path: Path) -> None:
    """An upload named as a path out of its folder is searched with all the same, and lies nowhere afterwards."""
    data = (made.source / "0001.png").read_bytes()
    before = set(Path(tempfile.gettempdir()).glob(LEFTOVERS))
    for name in ("../../../../tmp/taken.png", "/etc/passwd", "a\x00.png", "x.txt"):
        answer = api.post("/v1/search", files={"file": (name, data)}, data={"target": "text"})
        assert answer.status_code == 200
        assert answer.json()["query"] == "file"
    assert not Path("/tmp/taken.png").exists()
    assert set(Path(tempfile.gettempdir()).glob(LEFTOVERS)) == before


def test_an_upload_is_known_by_its_content(api: TestClient) -> None:
    """A bomb is refused by its header, what is no medium by its bytes, a medium that the space lacks by its kind."""
    start = time.perf_counter()
    answer = api.post("/v1/search", files={"file": ("small.png", bomb())})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "image_too_large")
    assert len(bomb()) < 1_000
    for data, status in ((b"<html>no picture</html>", 415), (b"MZ" + bytes(500), 415), (b"", 422)):
        assert api.post("/v1/search", files={"file": ("x.png", data)}).status_code == status
    for data, modality in ((written(tone(0.5)), "audio"), (film(5), "video")):
        assert modality_of(data) == modality
        refused = api.post("/v1/search", files={"file": ("x.png", data)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (415, "modality_unknown")
    assert time.perf_counter() > start


class _Endless(io.RawIOBase):
    """Zeros without end, which remembers how many were taken."""

    def __init__(self, most: int) -> None:
        self.taken, self._most = 0, most

    def read(self, count: int = -1) -> bytes:
        size = min(count if count > 0 else 65_536, self._most - self.taken)
        self.taken += size
        return bytes(size)


@pytest.mark.parametrize("length", [None, 2_000_000_000, 100])
def test_an_upload_without_end_is_refused_early(made: Made, length: int | None) -> None:
    """Two gigabytes, declared, undeclared or declared as a hundred bytes: refused after about the bound."""
    settings = made.settings.model_copy(update={"max_upload": 1_000_000})
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
    source = _Endless(2_000_000_000)
    with running(create_app(settings, page=False)) as url:
        place = urlparse(url)
        with socket.create_connection((place.hostname, place.port), timeout=30) as line:
            declared = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
            line.sendall(
                f"POST /v1/search HTTP/1.1\r\nHost: {place.netloc}\r\n{declared}\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
            )
            block = head
            try:
                while block:
                    line.sendall(block if length is not None else b"%x\r\n%b\r\n" % (len(block), block))
                    block = source.read(65_536)
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                answer = line.recv(65_536)
            except ConnectionResetError:  # the server hung up before its answer was read
                answer = b""
    assert source.taken < 40_000_000  # what the kernel and the server hold between them, and not the whole
    if answer:
        status = answer.split(b" ", 2)[1]
        assert status in (
            (b"413",) if length != 100 else (b"400", b"422")
        )  # what follows a hundred bytes is no request


def test_a_scripted_svg_cannot_run(api: TestClient, keys: dict[str, str]) -> None:
    """The file itself comes under a policy that runs nothing, its thumbnail as pixels, an upload of it as a picture."""
    answer = api.get(f"/v1/items/{keys['script.svg']}/media")
    policy = answer.headers["content-security-policy"]
    assert SCRIPT in answer.text
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "default-src 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert api.get(f"/v1/items/{keys['script.svg']}/thumbnail").content[:4] == b"RIFF"


def test_what_is_no_text_and_no_number_is_refused(api: TestClient, keys: dict[str, str]) -> None:
    """Half of a character, endless numbers and depths: 422, or as if they were not there; never a failure."""
    as_json = {"content-type": "application/json"}
    for body in (
        '{"text": "\\ud800"}',
        '{"text": "a", "k": ' + "9" * 5_000 + "}",
        "[" * 100_000,
        '{"text": "\\u0000"}',
    ):
        assert api.post("/v1/search", content=body, headers=as_json).status_code == 422
    assert api.post("/v1/search", content='{"text": "a", "text_weight": NaN}', headers=as_json).status_code == 422
    whole = f"/v1/items/{keys['0003.png']}/media"
    assert api.get(whole, headers={"range": f"bytes={'9' * 5_000}-"}).status_code == 200
    assert api.get(whole, headers={"range": "bytes=5-2"}).status_code == 200


def test_a_caption_that_is_html_is_json_text(api: TestClient) -> None:
    """The API gives such a caption as a string of JSON, under its own type."""
    found = api.get("/v1/search", params={"text": CAPTION, "target": "text", "k": 30, "mode": "text"})
    assert found.headers["content-type"] == "application/json"
    assert any(hit["text"] == CAPTION for hit in found.json()["hits"])


def test_without_the_token_nothing_is_told(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    """With a token set, all but the health of the server wants it, as bearer or as the cookie of who signed in."""
    secret = "Zy8-quite-secret"
    settings = made.settings.model_copy(update={"token": SecretStr(secret)})
    assert secret not in repr(settings)
    with TestClient(create_app(settings, page=False)) as client:
        paths = (
            "/v1/search?text=dog",
            "/v1/items/x",
            "/v1/items/x/media",
            "/metrics",
            "/docs",
            "/openapi.json",
            "/v1/no",
        )
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": secret},
            {"cookie": "modalign_session=x"},
        ):
            for path in paths:
                answer = client.get(path, headers=headers, follow_redirects=False)
                assert answer.status_code == 401, path
                assert answer.json()["error"]["code"] == "token_wrong"
        right = {"authorization": f"Bearer {secret}"}
        assert client.get("/v1/search?text=dog", headers=right).status_code == 200
        assert client.get("/healthz").status_code == 200
        shown = client.get("/docs", headers={"accept": "text/html"}, follow_redirects=False)
        assert (shown.status_code, shown.headers["location"]) == (303, "/login")
        assert client.post("/login", data={"token": "wrong"}).status_code == 401
        signed = client.post("/login", data={"token": secret}, follow_redirects=False)
        cookie = signed.headers["set-cookie"]
        assert secret not in cookie
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert client.get("/metrics").status_code == 200  # by the cookie
    assert secret not in caplog.text


def test_another_host_is_not_answered(made: Made) -> None:
    """A page elsewhere that makes its own name mean this machine is refused: what it sends names its host."""
    with TestClient(create_app(made.settings, page=False, hosts=["127.0.0.1"]), base_url="http://127.0.0.1") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 400


def test_the_items_table_is_as_it_was(made: Made) -> None:
    """After all that was tried above, the workspace holds what it held."""
    assert (
        made.workspace.store.count(schemas.ITEMS) == 41 + 80 + 1
    )  # pictures, captions of the drawn ones, that of the SVG
    assert json.loads((made.source / "metadata.jsonl").read_text().splitlines()[0])["price"] == 0
