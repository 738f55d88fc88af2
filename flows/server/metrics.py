"""What the server tells Prometheus. Each app has a registry of its own."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Requests and their latency by route and status, seconds of work on a space, and the space in force."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        by = ("method", "route", "status")
        self.requests = Counter("modalign_requests", "Requests.", by, registry=self._registry)
        self.latency = Histogram(
            "modalign_request_seconds", "Seconds to answer.", by, buckets=_SECONDS, registry=self._registry
        )
        self.work = Histogram(
            "modalign_work_seconds",
            "Seconds of work for a request, encoders included, without the wait for a place.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.space = Gauge(
            "modalign_space_in_force", "1 for the space in force.", ("space_id",), registry=self._registry
        )
        self.rows = Gauge("modalign_space_rows", "Items of the space in force.", registry=self._registry)
        self.opened = Counter("modalign_spaces_opened", "Published states that were opened.", registry=self._registry)

    def in_force(self, space_id: str, rows: int) -> None:
        """Note which space answers from now on."""
        self.space.clear()
        self.space.labels(space_id).set(1)
        self.rows.set(rows)
        self.opened.inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class Watch:
    """ASGI middleware: count and time each request under the route that took it, never under the path it named."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            labels = (_method(scope), _route(scope), str(status))
            self._metrics.requests.labels(*labels).inc()
            self._metrics.latency.labels(*labels).observe(time.perf_counter() - start)


def _method(scope: Scope) -> str:
    known = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"}
    return scope["method"] if scope["method"] in known else "other"


def _route(scope: Scope) -> str:
    """The route's own pattern: what a stranger types into a path may not become a label."""
    path = getattr(scope.get("route"), "path", "")
    return path or ("none" if "endpoint" not in scope else "page")
