"""The modalign.toml that `modalign init` writes: every setting and param with its meaning, commented out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config.errors import UserError
from config.params import PipelineParams
from config.settings import CONFIG_FILE, Settings


def write_starter(folder: Path, *, force: bool = False) -> Path:
    """Write the file into `folder`; an existing one is kept as modalign.toml.bak with `force`, else an error."""
    path = folder / CONFIG_FILE
    if path.exists():
        if not force:
            raise UserError(f"{path} is there already", "use --force to replace it (the old one is kept as .bak)")
        path.replace(path.with_suffix(".toml.bak"))
    path.write_text(starter(), encoding="utf-8")
    return path


def starter() -> str:
    """The text of the file; made from the models, so it cannot go stale."""
    lines = [
        "# modalign: settings (where and how) and params (what). Uncomment what you change.",
        "# The environment (MODALIGN_WORKSPACE, …) wins over [settings]; --set wins over [params].",
        "",
        "[settings]",
        *_fields(Settings.model_fields),
        "",
        "[params]",
        *_fields(PipelineParams.model_fields),
    ]
    for name, info in PipelineParams.model_fields.items():
        model = info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            lines += ["", f"[params.{name}]", *_fields(model.model_fields)]
    return "\n".join(lines) + "\n"


def _fields(fields: dict[str, FieldInfo]) -> Iterator[str]:
    for name, info in fields.items():
        default = info.default
        if default is PydanticUndefined or isinstance(default, BaseModel) or info.description is None:
            continue
        yield f"# {info.description}"
        if default is None:
            yield f"# {name} = {_toml((info.examples or [''])[0])}  # an example; unset by default"
        else:
            yield f"# {name} = {_toml(default)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Path):
        return json.dumps(value.as_posix())
    return json.dumps(value)
