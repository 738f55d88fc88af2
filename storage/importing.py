"""LanceDB, imported at a third of its cost: what it brings along for services that we do not use is not built."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_PANDAS = "pandas"


@contextmanager
def deferred() -> Iterator[None]:
    """Pydantic models and checked calls that are imported meanwhile are built when they are used, if ever.

    LanceDB imports a REST client of some 600 of them, a second of CPU time, of which a local database uses three.
    """
    import pydantic

    models, checked = pydantic.BaseModel.model_config, pydantic.validate_call
    pydantic.BaseModel.model_config = pydantic.ConfigDict(defer_build=True)
    pydantic.validate_call = _unchecked  # type: ignore[assignment]  # it is called without options
    try:
        yield
    finally:
        pydantic.BaseModel.model_config, pydantic.validate_call = models, checked


def _unchecked(call: Any) -> Any:
    return call


class _Absent:
    """A finder by which pandas is not installed."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:  # noqa: ARG002
        if name == _PANDAS:
            raise ModuleNotFoundError(name, name=name)


def spare_pandas() -> None:
    """Import Arrow's data sets without pandas, for a command that shows it no frame.

    Arrow looks for pandas once, at its first value, and imports it for half a second to ask whether that is a frame.
    A later `to_pandas` imports it all the same.
    """
    if _PANDAS in sys.modules:
        return
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        import pyarrow.dataset  # noqa: F401
    finally:
        sys.meta_path.remove(absent)
