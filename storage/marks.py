"""Steps that were done, and for which state of the tables: a step with nothing new to do costs one look.

Prefect's cache knows what a task was given; a mark knows what the tables hold. Where a step reads whole tables, only
the mark can tell that it is still done: after A → B → A the inputs are those of the first run, the tables are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel

from storage import schemas
from storage.filters import eq
from storage.tables import Store

M = TypeVar("M", bound=BaseModel)


def remembered(
    store: Store,
    name: str,
    tables: Sequence[str],
    inputs: str,
    model: type[M],
    compute: Callable[[], M],
    *,
    anew: bool = False,
) -> M:
    """The result of the step `name`, computed only if `inputs` or one of `tables` is not what the last one left behind.

    `compute` must bring the tables to a state that depends on their rows and on `inputs` alone, whatever a killed run
    left of it; it may write to `tables` itself. `anew` computes in any case.
    """
    if not anew:
        known = recall(store, name, f"{inputs} {store.state(tables)}", model)
        if known is not None:
            return known
    result = compute()
    remember(store, name, f"{inputs} {store.state(tables)}", result)
    return result


def recall(store: Store, name: str, state: str, model: type[M]) -> M | None:
    """What the step `name` gave for `state`; None if it was not done for it."""
    rows = store.read(schemas.MARKS, ["state", "result"], eq("name", name)).to_pylist()
    return model.model_validate_json(rows[0]["result"]) if rows and rows[0]["state"] == state else None


def latest(store: Store, name: str, model: type[M]) -> M | None:
    """What the step `name` gave last, whatever has changed since."""
    rows = store.read(schemas.MARKS, ["result"], eq("name", name)).to_pylist()
    return model.model_validate_json(rows[0]["result"]) if rows else None


def remember(store: Store, name: str, state: str, result: BaseModel) -> None:
    """Note that the step `name` is done for `state`."""
    row = {"name": name, "state": state, "result": result.model_dump_json(), "at": datetime.now(UTC)}
    store.upsert(schemas.MARKS, schemas.marks(), [row])
