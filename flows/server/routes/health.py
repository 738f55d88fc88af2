"""`/healthz`, `/metrics` and `/docs`: what answers, how it fares, and how to ask it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from flows.metrics import metrics_text
from flows.server import docs, metrics
from flows.server.errors import declared
from flows.server.models import Health
from flows.server.service import Service, of

router = APIRouter(tags=["state"])
Served = Annotated[Service, Depends(of)]


@router.get("/healthz")
async def healthz(service: Served) -> Health:
    """The space in force, its index and how well that finds, and the number of items. Asks for no token."""
    return service.health()


@router.get(
    "/metrics",
    responses=declared() | {200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}},
    response_class=Response,
)
async def prometheus(service: Served) -> Response:
    """Requests, latencies, seconds of the encoders, the space in force, and runs in the workspace, for Prometheus."""
    text = service.metrics.text() + metrics_text(service.workspace.root).encode()
    return Response(text, media_type=metrics.CONTENT_TYPE)


@router.get("/docs", include_in_schema=False)
async def documentation(request: Request) -> HTMLResponse:
    """The API on one page, without any file from elsewhere."""
    return HTMLResponse(docs.page(request.app.openapi()))
