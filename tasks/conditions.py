"""Conditions on items as people write them, `year>=2020`: typed, so that nothing of them becomes SQL unescaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from config.errors import UserError
from storage.filters import OPERATORS, Filter, compare, isin

Scalar = str | int | float | bool
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in"]

FIELDS = ("collection", "split", "group", "uri", "text")
"""What every item has; any other name is that of an attribute."""
ATTRIBUTE = "attributes."
"""Before the name of an attribute that bears the name of a field."""

_MEND = "write NAME=VALUE, with !=, <, <=, >, >= or ` in A,B` in place of =; quotes make a value a text"
_TRUTHS = {"true": True, "false": False}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LISTED = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]+)\s*(?:,|$)""")
_WRITTEN = re.compile(rf"\s*(.+?)\s*({'|'.join(OPERATORS)}|\sin\s)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison: `value` is a tuple for `in`. An item without the attribute does not fulfil it, whatever it is.

    Numbers compare as numbers, also with a text that is one; texts by their characters' code points. What does not
    compare, a text with a number say, is unequal, and neither less nor greater.
    """

    name: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]

    def __post_init__(self) -> None:
        """Refuse what is no condition: raises `UserError`."""
        known = (*OPERATORS, "in")
        several = isinstance(self.value, tuple)
        if self.operator not in known or not self.name or several != (self.operator == "in"):
            raise UserError(f"{self.name!r} {self.operator} {self.value!r} is no condition", _MEND)
        for value in self.value if isinstance(self.value, tuple) else (self.value,):
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{self.name}: {value} cannot be compared with", "give a finite number")

    @property
    def attribute(self) -> str | None:
        """The attribute it is about; None for a field."""
        return None if self.name in FIELDS else self.name.removeprefix(ATTRIBUTE)

    def holds(self, attributes: Mapping[str, Scalar | None]) -> bool:
        """Whether an item with these attributes fulfils it."""
        found = attributes.get(self.attribute or "")
        if found is None:
            return False
        if isinstance(self.value, tuple):
            return any(_compares(found, "=", value) for value in self.value)
        return _compares(found, self.operator, self.value)


Where = Filter | Sequence[Condition]
"""What a search is bound to: conditions, all of which hold, or a filter on columns by code that knows them."""


def parse(texts: Iterable[str]) -> tuple[Condition, ...]:
    """Conditions from their written form. Raises `UserError` that shows the form.

    >>> parse(["year >= 2020", 'code="007"', "place in Oslo,Bergen"])[0]
    Condition(name='year', operator='>=', value=2020)
    """
    return tuple(_parse(text) for text in texts)


def split(where: Where | None) -> tuple[Filter | None, tuple[Condition, ...]]:
    """The part of `where` that columns answer, as a filter, and the conditions on attributes."""
    if where is None or isinstance(where, Filter):
        return where, ()
    columns: Filter | None = None
    for one in where:
        if one.attribute is None:
            columns = _on_column(one) if columns is None else columns & _on_column(one)
    return columns, tuple(one for one in where if one.attribute is not None)


def _parse(text: str) -> Condition:
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise UserError(f"{text!r} is no condition", _MEND)
    name, operator, value = found[1], found[2].strip(), found[3]
    read = _text if name in FIELDS else _scalar
    if operator == "in":
        return Condition(name, "in", tuple(read(one.strip()) for one in _LISTED.findall(value)))
    return Condition(name, cast("Operator", operator), read(value))


def _text(written: str) -> str:
    quoted = len(written) > 1 and written[0] == written[-1] and written[0] in "\"'"
    return written[1:-1] if quoted else written


def _scalar(written: str) -> Scalar:
    if _text(written) != written:
        return _text(written)
    if written.lower() in _TRUTHS:
        return _TRUTHS[written.lower()]
    number = _number(written)
    return written if number is None else number


def _number(value: Scalar) -> int | float | None:
    """A number, or a text that writes one out; Python's own `1_000`, `inf` and `nan` are none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    if not _NUMBER.fullmatch(value.strip()):
        return None
    try:
        return int(value)
    except ValueError:
        number = float(value)
        return number if math.isfinite(number) else None


def _compares(found: Scalar, operator: str, value: Scalar) -> bool:
    """As `Condition` says; `operator` is not `in`."""
    pair = _alike(found, value)
    if pair is None:
        return operator == "!="
    one, other = pair
    if operator in ("=", "!="):
        return (one == other) == (operator == "=")
    if isinstance(value, bool):
        return False
    below, above = one < other, one > other  # type: ignore[operator]  # both numbers, or both texts
    return {"<": below, "<=": not above, ">": above, ">=": not below}[operator]


def _alike(found: Scalar, value: Scalar) -> tuple[Scalar, Scalar] | None:
    """Both as what can be compared: truth values, numbers, or texts; None where they are not of a kind."""
    if isinstance(value, bool):
        truth = _TRUTHS.get(found.strip().lower()) if isinstance(found, str) else found
        return (truth, value) if isinstance(truth, bool) else None
    if isinstance(value, str):
        return (found, value) if isinstance(found, str) else None
    number = _number(found)
    return None if number is None else (number, value)


def _on_column(condition: Condition) -> Filter:
    if isinstance(condition.value, tuple):
        return isin(condition.name, [str(value) for value in condition.value])
    return compare(condition.name, condition.operator, str(condition.value))
