"""`/v1/items/…`: an item, its medium and a small picture of it. Only what the space holds, by key, is ever served."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from flows.server import thumbnails
from flows.server.errors import ApiError, declared
from flows.server.models import KnownBody, TextBody
from flows.server.service import Service, of

router = APIRouter(prefix="/v1/items", tags=["items"])
Served = Annotated[Service, Depends(of)]
Id = Annotated[str, Path(alias="id", min_length=1, max_length=200, description="Key of an item.")]

SAFE = {
    "x-content-type-options": "nosniff",
    # a medium opened by itself runs no script, loads nothing, and is no part of the page's origin
    "content-security-policy": (
        "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, max-age=300",
}
TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".png": "image/png", ".gif": "image/gif",
    ".webp": "image/webp", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff", ".svg": "image/svg+xml",
    ".avif": "image/avif", ".ppm": "image/x-portable-pixmap", ".pgm": "image/x-portable-graymap",
    ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg",
    ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".aif": "audio/aiff", ".aiff": "audio/aiff",
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm", ".ogv": "video/ogg",
    ".mkv": "video/x-matroska", ".avi": "video/x-msvideo", ".mpg": "video/mpeg", ".mpeg": "video/mpeg",
}  # fmt: skip
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_BINARY: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file as it lies in the collection; of a text, its text.", "content": {"*/*": {}}},
    206: {"description": "The part of it that `Range` asked for.", "content": {"*/*": {}}},
}
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"description": "The picture.", "content": {thumbnails.TYPE: {}}}}


@router.get("/{id}", responses=declared(404, 422, 503))
async def item(key: Id, service: Served) -> KnownBody:
    """What is known of an item."""
    return await service.run(lambda: service.item(key))


@router.get("/{id}/media", responses=_BINARY | declared(404, 416, 422, 503), response_class=Response)
async def media(key: Id, service: Served, request: Request) -> Response:
    """The medium itself, in parts where `Range` asks for one; of a text `{"text": …}`."""
    found = await service.run(lambda: service.medium(key))
    if found.path is None:
        return JSONResponse(TextBody(text=found.text).model_dump(), headers=SAFE)
    _check_range(request, found.path.stat().st_size)
    suffix = PurePosixPath(found.uri).suffix.lower()
    return FileResponse(
        found.path, headers=SAFE, media_type=TYPES.get(suffix, "application/octet-stream"),
        filename=PurePosixPath(found.uri).name, content_disposition_type="inline",
    )  # fmt: skip


@router.get("/{id}/thumbnail", responses=_PICTURE | declared(404, 422, 503), response_class=Response)
async def thumbnail(
    key: Id,
    service: Served,
    size: Annotated[
        int, Query(ge=1, le=2_000, description="Longest side in pixels, rounded up to one of a few.")
    ] = 320,
    at: Annotated[float, Query(ge=0, le=1e6, description="Of a video: the second to show.")] = 0.0,
) -> Response:
    """A small picture: the picture itself, a frame of a video, the waveform of a sound. A text has none: 404."""
    drawn = await service.run(lambda: service.thumbnail(key, size, at))
    return Response(drawn, media_type=thumbnails.TYPE, headers=SAFE)


def _check_range(request: Request, size: int) -> None:
    """Leave one range as it is; anything else asks for the whole, as a server may answer (RFC 9110, 14.2)."""
    given = request.headers.get("range")
    if given is None:
        return
    found = _RANGE.fullmatch(given.strip())
    if found is None or found[0] == "bytes=-" or (found[1] and found[2] and int(found[1]) > int(found[2])):
        request.scope["headers"] = [one for one in request.scope["headers"] if one[0] != b"range"]
    elif (found[1] and int(found[1]) >= size) or (not found[1] and int(found[2]) == 0):
        raise ApiError(416, "range", f"the file has {size:,} bytes", "ask for a part of them")
