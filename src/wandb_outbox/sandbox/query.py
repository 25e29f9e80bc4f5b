"""Filters and orders of lists: the part of the MongoDB query language that the public API documents for runs."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from wandb_outbox.sandbox.names import invalid

Item = TypeVar("Item")

Lookup = Callable[[str], Any]
"""Gives the value at a dotted path of one item, or `MISSING`. Raises for a field that does not exist."""

MISSING: Any = object()
"""Stands for a path that leads nowhere, which is not the same as a value of null."""


def parse_filter(text: str | None) -> dict[str, Any]:
    """Return the filter in a JSON string; an empty or absent one lets everything through."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise invalid(f"filters: not JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid("filters: must be an object")
    return value


def lookup_path(value: Any, path: str) -> Any:
    """Return what stands at a dotted path in nested objects, or `MISSING`.

    A key that itself holds dots wins over the nested reading of it, so `a.b` finds both `{"a.b": 1}` and
    `{"a": {"b": 1}}`.
    """
    if not isinstance(value, Mapping):
        return MISSING
    if path in value:
        return value[path]
    position = path.rfind(".")
    while position > 0:
        head, tail = path[:position], path[position + 1 :]
        if head in value:
            return lookup_path(value[head], tail)
        position = path.rfind(".", 0, position)
    return MISSING


def matches(condition: Mapping[str, Any], lookup: Lookup) -> bool:
    """Return whether an item passes a filter.

    Args:
        condition: The filter; several keys in it must all hold.
        lookup: Gives the item's values.

    Raises:
        ApiError: The filter holds an operator that is not known.
    """
    return all(_clause(key, value, lookup) for key, value in condition.items())


def _clause(key: str, value: Any, lookup: Lookup) -> bool:
    if key in {"$and", "$or", "$nor"}:
        if not isinstance(value, list):
            raise invalid(f"filters: {key} needs a list")
        results = (matches(each, lookup) for each in value)
        if key == "$and":
            return all(results)
        return any(results) if key == "$or" else not any(results)
    if key == "$not":
        return not matches(value, lookup)
    if key.startswith("$"):
        raise invalid(f"filters: unknown operator {key}")
    actual = lookup(key)
    if isinstance(value, dict) and any(name.startswith("$") for name in value):
        return all(_operator(name, operand, actual, value) for name, operand in value.items())
    return _equal(actual, value)


def _operator(name: str, operand: Any, actual: Any, siblings: Mapping[str, Any]) -> bool:
    match name:
        case "$eq":
            return _equal(actual, operand)
        case "$ne":
            return not _equal(actual, operand)
        case "$in":
            return any(_equal(actual, each) for each in operand)
        case "$nin":
            return not any(_equal(actual, each) for each in operand)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _ordered(name, actual, operand)
        case "$exists":
            return (actual is not MISSING) == bool(operand)
        case "$regex":
            flags = re.IGNORECASE if "i" in siblings.get("$options", "") else 0
            return any(isinstance(each, str) and re.search(operand, each, flags) for each in _each(actual))
        case "$options":
            return True
        case "$not":
            return not all(_operator(inner, value, actual, operand) for inner, value in operand.items())
        case _:
            raise invalid(f"filters: unknown operator {name}")


def _each(actual: Any) -> Sequence[Any]:
    return actual if isinstance(actual, list) else [actual]


def _equal(actual: Any, wanted: Any) -> bool:
    if actual is MISSING:
        return wanted is None
    if isinstance(actual, list) and not isinstance(wanted, list):
        return wanted in actual
    return bool(actual == wanted)


def _ordered(name: str, actual: Any, wanted: Any) -> bool:
    numbers = (int, float)
    comparable = (isinstance(actual, numbers) and isinstance(wanted, numbers)) or (
        isinstance(actual, str) and isinstance(wanted, str)
    )
    if not comparable:
        return False
    if name in {"$gt", "$gte"}:
        return bool(actual > wanted or (name == "$gte" and actual == wanted))
    return bool(actual < wanted or (name == "$lte" and actual == wanted))


def ordered(items: Sequence[Item], order: str | None, lookup: Callable[[Item, str], Any]) -> list[Item]:
    """Return the items sorted by an order such as `-created_at` or `+summary_metrics.loss,-created_at`.

    A key without a sign sorts upwards. Items without the key come last in either direction.
    """
    result = list(items)
    for key in reversed([part.strip() for part in (order or "").split(",") if part.strip()]):
        downwards = key.startswith("-")
        path = key.lstrip("+-")
        with_key = [item for item in result if _sortable(lookup(item, path))]
        without_key = [item for item in result if not _sortable(lookup(item, path))]
        keyed = [(_sort_key(lookup(item, path)), item) for item in with_key]
        keyed.sort(key=itemgetter(0), reverse=downwards)
        result = [item for _, item in keyed] + without_key
    return result


def _sortable(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _sort_key(value: Any) -> tuple[int, Any]:
    return (1, value) if isinstance(value, str) else (0, value)
