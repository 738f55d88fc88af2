"""`/v1/caption` and `/v1/ask`: words about a medium, taken from what the collections hold."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from flows.server.body import described, read
from flows.server.errors import declared
from flows.server.models import AskAnswer, AskRequest, CaptionAnswer, CaptionRequest
from flows.server.service import Service, of

router = APIRouter(prefix="/v1", tags=["words about media"])
Served = Annotated[Service, Depends(of)]


@router.post("/caption", responses=declared(404, 413, 415, 422, 503), openapi_extra=described(CaptionRequest))
async def caption(request: Request, service: Served) -> CaptionAnswer:
    """A caption for an item or an uploaded file: of the captions known for what is like it, the one most agree on."""
    asked, data = await read(request, CaptionRequest)
    return await service.run(lambda: service.caption(asked, data))


@router.post("/ask", responses=declared(404, 413, 415, 422, 503), openapi_extra=described(AskRequest))
async def ask(request: Request, service: Served) -> AskAnswer:
    """An answer to a question about an item or an uploaded file, or null where nothing known answers it."""
    asked, data = await read(request, AskRequest)
    return await service.run(lambda: service.ask(asked, data))
