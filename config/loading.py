"""Params from a profile: packaged by name or a TOML file, then [params] of modalign.toml, then the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from config.errors import UserError
from config.params import PipelineParams
from config.settings import CONFIG_FILE
from config.toml import parse


def profile_names() -> list[str]:
    """Names of the packaged profiles."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in files("config").joinpath("profiles").iterdir()
        if entry.name.endswith(".toml")
    )


def load_profile(profile: str, overrides: Sequence[str] = (), **given: Any) -> PipelineParams:
    """Params of `profile`, overridden by modalign.toml, by `key=value` texts (`align.method=ridge`) and by `given`.

    Raises `UserError` naming the file, the key and what is allowed.
    """
    params = _read(profile)
    own = Path(CONFIG_FILE)
    if own.is_file():
        params = _merge(params, parse(own.read_text(encoding="utf-8"), str(own)).get("params", {}))
    for text in overrides:
        params = _merge(params, _override(text))
    params = _merge(params, {key: value for key, value in given.items() if value is not None})
    return _checked(params, f"profile {profile}")


def override(params: PipelineParams, overrides: Sequence[str]) -> PipelineParams:
    """Params with single ones overridden by `key=value` texts. Raises `UserError` as `load_profile`."""
    changed = params.model_dump(exclude_unset=True)
    for text in overrides:
        changed = _merge(changed, _override(text))
    return _checked(changed, "the recorded collection") if overrides else params


def overrides_of(params: BaseModel, base: BaseModel, prefix: str = "") -> list[str]:
    """The `key=value` texts that make `params` of `base`, for the command line: the inverse of `override`."""
    out: list[str] = []
    for name in type(params).model_fields:
        value, usual = getattr(params, name), getattr(base, name)
        if value == usual:
            continue
        if isinstance(value, BaseModel) and isinstance(usual, BaseModel):
            out += overrides_of(value, usual, f"{prefix}{name}.")
        else:
            plain = params.model_dump(mode="json", include={name})[name]
            text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
            out.append(f"{prefix}{name}={text}")
    return out


def _checked(params: dict[str, Any], origin: str) -> PipelineParams:
    try:
        return PipelineParams.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"param {key!r} of {origin}: {first['msg'].lower()} (got {first['input']!r})",
            f"known params stand in `modalign init` and in the profiles {', '.join(profile_names())}",
        ) from None


def _read(profile: str) -> dict[str, Any]:
    packaged = files("config").joinpath("profiles", f"{profile}.toml")
    if profile in profile_names():
        return parse(packaged.read_text(encoding="utf-8"), f"profile {profile}")
    path = Path(profile)
    if path.suffix == ".toml" and path.is_file():
        return parse(path.read_text(encoding="utf-8"), profile)
    raise UserError(f"there is no profile {profile!r}", f"use one of {', '.join(profile_names())}, or a .toml file")


def _override(text: str) -> dict[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise UserError(f"--set {text!r} is not key=value", "write for instance --set align.method=ridge")
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        parsed = value
    out: Any = parsed
    for part in reversed(key.strip().split(".")):
        out = {part: out}
    return dict(out)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        inner = isinstance(value, dict) and isinstance(out.get(key), dict) and key != "encoders"
        out[key] = _merge(out[key], value) if inner else value
    return out
