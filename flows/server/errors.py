"""One form for every error of the API: a code for programs, what is wrong, and what mends it."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from config.errors import UserError
from storage.errors import StorageError

logger = logging.getLogger(__name__)


class Fault(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stays the same from release to release.", examples=["item_unknown"])
    message: str = Field(description="What is wrong, in words.")
    mend: str = Field("", description="What to do about it.")


class ErrorBody(BaseModel):
    """The body of every answer with a status of 400 or more."""

    error: Fault


class ApiError(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, code: str, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.fault = Fault(code=code, message=message, mend=mend)


_SAID = {
    401: "The token is missing or wrong.",
    404: "There is no such thing.",
    405: "The path does not take this method.",
    413: "The body, or the medium in it, is too large.",
    415: "The body is of a kind that is not taken here.",
    416: "The file does not reach so far.",
    422: "A value is out of its bounds, or a medium cannot be read.",
    503: "The tables cannot be read just now.",
}


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: the error model under each of these statuses, 401 among them."""
    return {status: {"model": ErrorBody, "description": _SAID[status]} for status in sorted({401, *statuses})}


def answer(status: int, fault: Fault, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response that says it."""
    return JSONResponse(ErrorBody(error=fault).model_dump(), status, headers)


def explain_errors(app: FastAPI) -> None:
    """Turn whatever a route raises into the one form; only what nobody foresaw is a 500, and is logged."""

    @app.exception_handler(ApiError)
    async def _ours(_: Request, error: ApiError) -> JSONResponse:
        return answer(error.status, error.fault)

    @app.exception_handler(UserError)
    async def _input(_: Request, error: UserError) -> JSONResponse:
        return answer(422, Fault(code="bad_input", message=error.message, mend=error.mend))

    @app.exception_handler(RequestValidationError)
    async def _shape(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, fault_of(error.errors()))

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return answer(422, Fault(code="cut_off", message="the body ends too early"))  # to nobody

    @app.exception_handler(StorageError)
    async def _tables(_: Request, error: StorageError) -> JSONResponse:
        logger.error("the tables cannot be read: %s", error)
        return answer(503, Fault(code="tables_unreadable", message="the tables cannot be read", mend="see the log"))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "path_unknown", 405: "method_not_allowed"}.get(error.status_code, "refused")
        fault = Fault(code=code, message=str(error.detail), mend="see /docs")
        return answer(error.status_code, fault, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
        logger.error("unforeseen", exc_info=error)
        return answer(500, Fault(code="internal", message="the server failed", mend="see its log"))


def fault_of(found: Any) -> Fault:
    """The first thing that pydantic objects to."""
    first = found[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return Fault(code="bad_value", message=f"{place or 'the body'}: {first['msg']}", mend="see /docs")
