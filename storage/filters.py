"""Typed filters for LanceDB: values are escaped here and nowhere else, so no SQL comes in from outside."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

Value = str | int | float | bool

OPERATORS = ("!=", "<=", ">=", "=", "<", ">")
"""What `compare` knows; the longer ones first, for who looks for one in a text."""

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on rows; join two with `&`."""

    sql: str

    def __and__(self, other: Filter) -> Filter:
        return Filter(f"({self.sql}) AND ({other.sql})")


def _column(name: str) -> str:
    if not _COLUMN.fullmatch(name):
        raise ValueError(f"{name!r} is not a column name")
    return f"`{name}`"


def literal(value: Value) -> str:
    """A value as SQL; infinite numbers and NaN have no such form and raise `ValueError`.

    >>> literal("l'été"), literal(True), literal(3)
    ("'l''été'", 'true', '3')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be compared with")
        return repr(float(value))  # of a numpy number, repr would give its type as well
    return "'" + value.replace("'", "''") + "'"


def eq(column: str, value: Value) -> Filter:
    """Rows whose `column` equals `value`.

    >>> eq("split", "x' OR '1'='1").sql
    "`split` = 'x'' OR ''1''=''1'"
    """
    return Filter(f"{_column(column)} = {literal(value)}")


def ne(column: str, value: Value) -> Filter:
    """Rows whose `column` differs from `value`."""
    return Filter(f"{_column(column)} <> {literal(value)}")


def isin(column: str, values: Iterable[Value]) -> Filter:
    """Rows whose `column` is one of `values`; none of them, no row."""
    listed = ", ".join(literal(value) for value in values)
    return Filter(f"{_column(column)} IN ({listed})" if listed else "false")


def compare(column: str, operator: str, value: Value) -> Filter:
    """Rows whose `column` stands to `value` as one of =, !=, <, <=, >, >= says.

    >>> compare("uri", ">=", "b").sql
    "`uri` >= 'b'"
    """
    if operator not in OPERATORS:
        raise ValueError(f"{operator!r} is no comparison")
    return Filter(f"{_column(column)} {operator} {literal(value)}")


def between(column: str, lo: Value, hi: Value) -> Filter:
    """Rows with `lo` ≤ `column` < `hi`."""
    name = _column(column)
    return Filter(f"{name} >= {literal(lo)} AND {name} < {literal(hi)}")
