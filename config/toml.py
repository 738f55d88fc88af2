"""TOML files of the user: a mistake in one is named, with the file."""

from __future__ import annotations

import tomllib
from typing import Any

from config.errors import UserError


def parse(text: str, name: str) -> dict[str, Any]:
    r"""The tables in `text`; raises `UserError` that names the file and the line.

    >>> parse("[params.align]\ndim = 64", "my.toml")
    {'params': {'align': {'dim': 64}}}
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name} is not TOML: {error}", "mend the line it names") from None
