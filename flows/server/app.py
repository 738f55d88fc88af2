"""The app: routes, errors, bounds, and the page, around one service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import BaseRoute, Match

from config.settings import Settings
from flows.server.access import Access
from flows.server.errors import ApiError, explain_errors
from flows.server.headers import SafeHeaders
from flows.server.limits import BodyLimit
from flows.server.metrics import Watch
from flows.server.routes import caption, health, items, search
from flows.server.service import Service

_FORM = 64_000
"""Bytes that a body may have beyond the largest file: the other fields of its form."""
_ROUTERS = tuple(module.router for module in (search, caption, items, health))
_ROUTES = tuple(route for router in _ROUTERS for route in router.routes)
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


def create_app(
    settings: Settings, space: str | None = None, *, page: bool = True, hosts: Sequence[str] = ("*",)
) -> FastAPI:
    """The app over a workspace's space in force, that of the name `space` or the newest.

    `hosts` are the names it answers to. Raises `UserError` where no space is published.
    """
    service = Service(settings, space)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.in_force.start()
        yield
        service.in_force.stop()

    app = FastAPI(
        title="modalign",
        version=version("modalign"),
        description="Search, captions and answers in one joint space of pictures, texts, sounds and videos.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    explain_errors(app)
    for router in _ROUTERS:
        app.include_router(router)

    @app.api_route("/v1/{rest:path}", methods=_METHODS, include_in_schema=False)
    async def nothing(request: Request, rest: str) -> None:
        """What no route takes; without it, the page would answer."""
        known = {method for route in _ROUTES for method in _methods_of(route, request)}
        if known:
            raise HTTPException(405, "this path does not take this method", {"allow": ", ".join(sorted(known))})
        raise ApiError(404, "path_unknown", f"there is no /v1/{rest[:200]}", "see /docs")

    # the last one added is the first to see a request
    if settings.token is not None:
        app.add_middleware(Access, token=settings.token)
    app.add_middleware(BodyLimit, most=settings.max_upload + _FORM)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(SafeHeaders)
    app.add_middleware(Watch, metrics=service.metrics)
    if page:
        from flows.server.page.shell import attach

        attach(app, service)
    return app


def _methods_of(route: BaseRoute, request: Request) -> set[str]:
    """The methods of a route that would take the path of this request."""
    if not isinstance(route, APIRoute):
        return set()
    return set(route.methods or ()) if route.matches(request.scope)[0] is Match.PARTIAL else set()
