"""Who may ask: nobody without the token, where one is set. Programs send it as a bearer, the page as a cookie."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from flows.server.errors import Fault, answer
from flows.server.page.labels import labels_for

COOKIE = "modalign_session"
_OPEN = {"/healthz", "/login", "/favicon.ico"}


class Access:
    """ASGI middleware: without the token, 401, or the form that asks for it where a browser comes for a page.

    The cookie holds a digest of the token, so that the token itself is kept nowhere.
    """

    def __init__(self, app: ASGIApp, token: SecretStr) -> None:
        self._app = app
        self._token = token.get_secret_value().encode()
        self._session = hmac.new(self._token, b"modalign session", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it through, or not."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/login":
            await (await self._login(Request(scope, receive)))(scope, receive, send)
        elif scope["path"] in _OPEN or self._known(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._refused(scope)(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return True
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        found = cookies.get(COOKIE)
        return found is not None and hmac.compare_digest(found.value.encode(), self._session.encode())

    def _refused(self, scope: Scope) -> Response:
        headers = dict(scope["headers"])
        if b"text/html" in headers.get(b"accept", b"") and not scope["path"].startswith("/v1/"):
            return RedirectResponse("/login", 303)
        fault = Fault(
            code="token_wrong",
            message="the token is missing or wrong",
            mend="send the header `Authorization: Bearer …` with the MODALIGN_TOKEN of the server",
        )
        return answer(401, fault, {"www-authenticate": "Bearer"})

    async def _login(self, request: Request) -> Response:
        said = labels_for(request.headers.get("accept-language", ""))
        if request.method != "POST":
            return HTMLResponse(_form(said["login_title"], said["login_token"], said["login_go"], ""))
        given = parse_qs((await request.body()).decode("utf-8", "replace")).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self._token):
            return HTMLResponse(
                _form(said["login_title"], said["login_token"], said["login_go"], said["login_wrong"]), 401
            )
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE, self._session, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return response


def _form(title: str, token: str, go: str, wrong: str) -> str:
    """The page that asks for the token; its words are ours alone."""
    told = f'<p role="alert">{wrong}</p>' if wrong else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ display: grid; place-items: center; min-height: 90vh; margin: 0; }}
form {{ display: grid; gap: .75rem; width: min(20rem, 86vw); }}
h1 {{ font-size: 1.25rem; margin: 0; }} p {{ color: #c0392b; margin: 0; }}
input, button {{ font: inherit; padding: .6rem .8rem; border-radius: .6rem; border: 1px solid #8886; }}
button {{ background: #4f5bd5; color: #fff; border: 0; cursor: pointer; }}
</style></head><body><form method="post" action="/login"><h1>{title}</h1>{told}
<label for="token">{token}</label><input id="token" name="token" type="password" autofocus
autocomplete="current-password" required><button>{go}</button></form></body></html>"""
