"""A Python client of the API, in one class: `from flows.client import Client`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from flows.server.models import (
    AskAnswer,
    CaptionAnswer,
    Health,
    KnownBody,
    Mode,
    SearchAnswer,
    WhyAnswer,
)

M = TypeVar("M", bound=BaseModel)


class ClientError(Exception):
    """The server refused, or could not be reached (then `status` is 0): `code` for programs, `message`, `mend`."""

    def __init__(self, status: int, code: str, message: str, mend: str = "") -> None:
        super().__init__(f"{message}; {mend}" if mend else message)
        self.status, self.code, self.message, self.mend = status, code, message, mend


class Client:
    """Asks a server of `modalign serve`. Close it, or use it in a `with` block; threads may share it.

    Every method raises `ClientError`. A query is a text, the key of an item, a media file on disk, or a text and one of
    the others together.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", token: str | None = None, *, timeout: float = 60.0) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up its connections."""
        self._http.close()

    def search(
        self,
        text: str | None = None,
        *,
        item: str | None = None,
        file: Path | None = None,
        text_weight: float = 0.5,
        target: str | None = None,
        k: int = 10,
        offset: int = 0,
        where: Sequence[str] = (),
        mode: Mode = "auto",
        fold: bool = False,
    ) -> SearchAnswer:
        """Items of modality `target` near to a query; `where` holds conditions such as `year>=2020`."""
        fields = {
            "text": text,
            "item": item,
            "text_weight": text_weight,
            "target": target,
            "k": k,
            "offset": offset,
            "where": list(where),
            "mode": mode,
            "fold": fold,
        }
        return self._post("/v1/search", SearchAnswer, fields, file)

    def why(
        self, key: str, text: str | None = None, *, item: str | None = None, file: Path | None = None, k: int = 3
    ) -> WhyAnswer:
        """The known pairs that speak for the hit `key` of a query."""
        return self._post("/v1/why", WhyAnswer, {"key": key, "text": text, "item": item, "k": k}, file)

    def caption(self, *, item: str | None = None, file: Path | None = None, k: int = 5) -> CaptionAnswer:
        """A caption for an item or a media file."""
        return self._post("/v1/caption", CaptionAnswer, {"item": item, "k": k}, file)

    def ask(
        self,
        question: str,
        *,
        item: str | None = None,
        file: Path | None = None,
        candidates: Sequence[str] | None = None,
        k: int = 5,
    ) -> AskAnswer:
        """An answer to a question about an item or a media file; None in it where nothing known answers it."""
        choices = None if candidates is None else list(candidates)
        fields = {"question": question, "item": item, "candidates": choices, "k": k}
        return self._post("/v1/ask", AskAnswer, fields, file)

    def item(self, key: str) -> KnownBody:
        """One item, and what it is paired with."""
        return KnownBody.model_validate_json(self._answered("GET", f"/v1/items/{_quoted(key)}").content)

    def media(self, key: str) -> bytes:
        """The medium of an item; of a text, JSON."""
        return self._answered("GET", f"/v1/items/{_quoted(key)}/media").content

    def thumbnail(self, key: str, size: int = 320) -> bytes:
        """A small WebP of an item."""
        return self._answered("GET", f"/v1/items/{_quoted(key)}/thumbnail", params={"size": size}).content

    def health(self) -> Health:
        """The space in force and its index."""
        return Health.model_validate_json(self._answered("GET", "/healthz").content)

    def _post(self, path: str, model: type[M], fields: dict[str, Any], file: Path | None) -> M:
        given = {name: value for name, value in fields.items() if value is not None}
        if file is None:
            answer = self._answered("POST", path, json=given)
        else:
            try:
                data = file.read_bytes()
            except OSError as error:
                raise ClientError(0, "file_unreadable", f"{file} cannot be read ({error.strerror})") from None
            form = {name: value if isinstance(value, list) else str(value) for name, value in given.items()}
            answer = self._answered("POST", path, data=form, files={"file": (file.name, data)})
        return model.model_validate_json(answer.content)

    def _answered(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            where = self._http.base_url
            raise ClientError(
                0, "unreachable", f"{where} cannot be reached ({error})", "is `modalign serve` running?"
            ) from None
        if answer.is_success:
            return answer
        try:
            fault = answer.json()["error"]
            raise ClientError(answer.status_code, fault["code"], fault["message"], fault["mend"])
        except (ValueError, LookupError, TypeError):
            raise ClientError(answer.status_code, "refused", f"the server answered {answer.status_code}") from None


def _quoted(key: str) -> str:
    from urllib.parse import quote

    return quote(key, safe="")
