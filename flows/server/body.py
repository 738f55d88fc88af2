"""Reading a request: the fields as JSON, or as a form with a file beside them."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from flows.server.errors import ApiError, fault_of

M = TypeVar("M", bound=BaseModel)

_PARTS = 50  # fields and files of a form


async def read(request: Request, model: type[M]) -> tuple[M, bytes | None]:
    """The checked fields, and the bytes of the uploaded file if there is one.

    Raises `ApiError` 415 for another kind of body, 422 for what does not fit the model.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _checked(model, await _json(request), strict=True), None
    if kind == "multipart/form-data":
        fields, data = await _form(request, model)
        return _checked(model, fields, strict=False), data
    raise ApiError(
        415, "body_kind", f"the body is {kind or 'of no kind'}", "send application/json or multipart/form-data"
    )


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ApiError(422, "bad_json", "the body is no JSON", 'send an object, such as {"text": "a dog"}') from None


async def _form(request: Request, model: type[BaseModel]) -> tuple[dict[str, Any], bytes | None]:
    """Fields by name, a repeated one as a list where the model wants a list."""
    try:
        form = await request.form(max_files=1, max_fields=_PARTS)
    except HTTPException as error:
        raise ApiError(422, "bad_form", f"the form cannot be read ({error.detail})", "send it as browsers do") from None
    fields: dict[str, Any] = {}
    data: bytes | None = None
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "file":
                    raise ApiError(422, "bad_form", f"{name!r} is no file of this form", "name the file `file`")
                data = await value.read()
            elif name == "file":
                raise ApiError(422, "bad_form", "`file` is sent without a file name", "send it as a file")
            elif name in _lists(model):
                fields.setdefault(name, []).append(value)
            elif name in fields:
                raise ApiError(422, "bad_form", f"{name!r} is given twice", "give it once")
            else:
                fields[name] = value
    finally:
        await form.close()
    return fields, data


def _lists(model: type[BaseModel]) -> set[str]:
    return {name for name, field in model.model_fields.items() if "list" in str(field.annotation)}


def _checked(model: type[M], fields: Any, *, strict: bool) -> M:
    try:
        return model.model_validate(fields, strict=strict)
    except ValidationError as error:
        fault = fault_of(error.errors())
        raise ApiError(422, fault.code, fault.message, fault.mend) from None


def described(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes the model as JSON, or as a form with `file`."""
    schema = model.model_json_schema()
    form = {
        "type": "object",
        "properties": schema["properties"]
        | {"file": {"type": "string", "format": "binary", "description": "The medium."}},
        "required": schema.get("required", []),
        "additionalProperties": False,
    }
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}},
        }
    }
