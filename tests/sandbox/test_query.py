"""The filter language, without a server."""

from typing import Any

import pytest

from wandb_outbox.sandbox.names import ApiError
from wandb_outbox.sandbox.query import lookup_path, matches, ordered, parse_filter

ITEM = {"a": 1, "s": "text", "list": ["x", "y"], "deep": {"b": {"c": 2}}, "dotted.key": 3, "none": None}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({}, True),
        ({"a": 1, "s": "text"}, True),
        ({"a": 1, "s": "other"}, False),
        ({"deep.b.c": 2}, True),
        ({"dotted.key": 3}, True),
        ({"list": "x"}, True),
        ({"list": {"$in": ["z", "y"]}}, True),
        ({"a": {"$nin": [2, 3]}}, True),
        ({"a": {"$gte": 1, "$lt": 2}}, True),
        ({"s": {"$gt": 5}}, False),
        ({"s": {"$regex": "^TE", "$options": "i"}}, True),
        ({"missing": {"$exists": False}}, True),
        ({"missing": None}, True),
        ({"missing": {"$ne": 1}}, True),
        ({"none": {"$exists": True}}, True),
        ({"$nor": [{"a": 2}, {"a": 3}]}, True),
        ({"$not": {"a": 1}}, False),
        ({"a": {"$not": {"$gt": 3}}}, True),
    ],
    ids=str,
)
def test_conditions(condition: dict[str, Any], *, expected: bool) -> None:
    """Operators mean what they mean in MongoDB."""
    assert matches(condition, lambda path: lookup_path(ITEM, path)) == expected


@pytest.mark.parametrize("condition", [{"a": {"$near": 1}}, {"$xor": []}, {"$and": {"a": 1}}], ids=str)
def test_an_operator_that_is_not_known_is_an_error(condition: dict[str, Any]) -> None:
    """Nothing is let through by mistake."""
    with pytest.raises(ApiError):
        matches(condition, lambda path: lookup_path(ITEM, path))


@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_a_malformed_filter_is_an_error(text: str) -> None:
    """A filter is a JSON object."""
    with pytest.raises(ApiError):
        parse_filter(text)


def test_orders() -> None:
    """Several keys count in turn, and items without a key come last either way."""
    items = [{"n": 2, "k": "b"}, {"k": "a"}, {"n": 1, "k": "c"}, {"n": 2, "k": "a"}]
    down = ordered(items, "-n,k", lookup_path)
    assert down == [items[3], items[0], items[2], items[1]]
    assert ordered(items, "+n", lookup_path)[-1] == items[1]
