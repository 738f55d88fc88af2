"""The command that serves a space: the API, and the page in the browser."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.command import DEFAULT, Common, app, settings_of

_HERE = ("127.0.0.1", "localhost", "::1")


@app.command
def serve(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=1, lte=65_535))] = 8000,
    space: str | None = None,
    page: bool = True,
    common: Common = DEFAULT,
) -> None:
    """Serve a space: a search page in the browser, and a JSON API for programs, until Ctrl-C.

    Needs the extra `app`. Only this machine can reach it unless --host says otherwise; MODALIGN_TOKEN asks every caller
    for a token. A space that is promoted meanwhile answers within seconds, without a restart.
    Examples: `modalign serve` · `modalign serve --port 9000 --space photos` · `modalign serve --no-page`

    Parameters
    ----------
    host
        Address to listen on; 0.0.0.0 for the whole network.
    port
        Port to listen on.
    space
        Name of the space; without it the one published last.
    page
        The page in the browser beside the API.
    """
    from config.errors import UserError

    settings = settings_of(common)
    try:
        import uvicorn

        from flows.server.app import create_app

        hosts = [*_HERE, "[::1]"] if host in _HERE else ["*"]
        served = create_app(settings, space, page=page, hosts=hosts)
    except ModuleNotFoundError as error:
        missing = f"serve needs the package {error.name}, which is not installed"
        raise UserError(missing, 'install the extra: pip install "modalign[app]"') from None
    _check_free(host, port)
    if host not in _HERE and settings.token is None:
        print(
            f"modalign: anybody who reaches {host} can ask and see every item; set MODALIGN_TOKEN to ask for a token",
            file=sys.stderr,
        )
    shown = f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - what a person typed
    name = served.state.service.in_force.now().name
    print(f"space {name} at http://{shown}:{port}{'' if page else '/docs'}; Ctrl-C ends it", flush=True)
    uvicorn.run(served, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=3)


def _check_free(host: str, port: int) -> None:
    """Raise `UserError` where the address cannot be bound: better now than after the space is open to nobody."""
    import socket

    from config.errors import UserError

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror})", "name another --port or --host"
        ) from None
