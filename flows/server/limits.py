"""Bodies are bounded for the whole app, by the bytes that come, whatever the header declares."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.server.errors import Fault, answer


class _TooLargeError(Exception):
    """More bytes came than a body may have."""


class BodyLimit:
    """ASGI middleware: a body of more than `most` bytes is answered with 413, and no further byte of it is read."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse by the declared length at once; else count what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._declared(scope) > self._most:
            await self._refuse(scope, receive, send)
            return
        count, begun = 0, False

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self._most:
                raise _TooLargeError
            return message

        async def held_back(message: Message) -> None:
            nonlocal begun
            if begun or count <= self._most:  # else a parser made an answer of its own of the error
                begun = True
                await send(message)

        try:
            await self._app(scope, counted, held_back)
        except _TooLargeError:
            if begun:
                raise
        if count > self._most and not begun:
            await self._refuse(scope, receive, send)

    def _declared(self, scope: Scope) -> int:
        given = [value for name, value in scope["headers"] if name == b"content-length"]
        return int(given[0][:18]) if given and given[0].isdigit() else 0

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = Fault(
            code="body_too_large",
            message=f"the body is larger than {self._most:,} bytes",
            mend="send a smaller file, or raise MODALIGN_MAX_UPLOAD",
        )
        # closing tells the server to read no more of it
        await answer(413, fault, {"connection": "close"})(scope, receive, send)
