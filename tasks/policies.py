"""How tasks are cached and retried: by content, and for I/O alone."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect.cache_policies import CacheKeyFnPolicy
from prefect.tasks import exponential_backoff
from pydantic import BaseModel

_ROOT = Path(__file__).resolve().parent.parent


@lru_cache(maxsize=64)
def code_version(*paths: str) -> str:
    """Digest of the source text under `paths` (files or folders, relative to the project), 12 hex digits.

    A stage's cache key holds the code that computes it, so an edit to an encoder re-runs encoding and nothing else.
    """
    text = hashlib.blake2b(digest_size=6)
    for path in paths:
        here = _ROOT / path
        files = sorted(here.rglob("*.py")) if here.is_dir() else [here]
        for file in files:
            text.update(file.relative_to(_ROOT).as_posix().encode())
            text.update(file.read_bytes())
    return text.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude={"pending"})
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def cache_key(parameters: dict[str, Any], ignore: frozenset[str], code: str) -> str:
    """Key of a task run: its parameters in a canonical form, without `ignore`, and the code version.

    >>> cache_key({"a": 1, "b": 2}, frozenset({"b"}), "v1") == cache_key({"a": 1, "b": 3}, frozenset({"b"}), "v1")
    True
    >>> cache_key({"a": 1}, frozenset(), "v1") == cache_key({"a": 1}, frozenset(), "v2")
    False
    """
    picked = {name: _plain(value) for name, value in sorted(parameters.items()) if name not in ignore}
    text = json.dumps([picked, code], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_io_error(error: BaseException | None) -> bool:
    """True for what a retry may mend: a disk or network that failed, here or as the cause further down.

    A missing file or a lack of rights stays as it is however often one asks, and a full disk needs a person.

    >>> is_io_error(TimeoutError()), is_io_error(ValueError("bad data")), is_io_error(FileNotFoundError())
    (True, False, False)
    """
    lasting = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    while error is not None:
        if isinstance(error, lasting) or getattr(error, "errno", None) in (28, 30):  # ENOSPC, EROFS
            return False
        if isinstance(error, (OSError, TimeoutError, ConnectionError)):
            return True
        error = error.__cause__
    return False


def _retry_io(_task: Any, _run: Any, state: Any) -> bool:
    return is_io_error(state.data if isinstance(state.data, BaseException) else None)


def by_content(*code: str, ignore: tuple[str, ...] = ()) -> dict[str, Any]:
    """Options for `@task`: cached across runs by parameters and code, retried with backoff and jitter on I/O alone.

    `code` names the source files and folders whose text enters the key. The cached value is a reference, kept as JSON.
    """
    skip = frozenset(ignore)

    def key(context: Any, parameters: dict[str, Any]) -> str:
        return f"{context.task.name}-{cache_key(parameters, skip, code_version(*code))}".replace(" ", "-")

    return {
        "cache_policy": CacheKeyFnPolicy(cache_key_fn=key),
        "persist_result": True,
        "result_serializer": "json",
    } | RETRY


RETRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _retry_io,
}
