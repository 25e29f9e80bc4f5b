"""Check a value against a JSON Schema that is published beside the code.

The checker reads the very file that is published, so the two cannot disagree. It knows the few keywords in
:data:`KEYWORDS`; a test holds our schemas to them.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from wandb_outbox.model import JsonValue

KEYWORDS = frozenset(
    {
        "type",
        "enum",
        "properties",
        "additionalProperties",
        "required",
        "items",
        "minLength",
        "pattern",
        "minItems",
        "minimum",
        "maximum",
    }
)
"""The keywords that are checked. Besides them a schema may have ``$schema``, ``title`` and ``description``."""

Path = tuple[str | int, ...]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float), "integer": (int,),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_WORDS = {
    "object": "a mapping", "array": "a list", "string": "a text (in quotes, if it looks like a number or a date)",
    "number": "a number", "integer": "a whole number", "boolean": "true or false", "null": "nothing",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the schema does not allow: where, in words, and whether it is a key that nobody knows."""

    path: Path
    message: str
    unknown_key: bool = False

    @property
    def where(self) -> str:
        """The path as people write it: ``artifacts[0].type``."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return text.removeprefix(".")


@cache
def load_schema(package: str, name: str) -> Mapping[str, Any]:
    """The schema in a file of one of our packages."""
    schema: dict[str, Any] = json.loads(files(package).joinpath(name).read_text(encoding="utf-8"))
    return schema


def faults(value: JsonValue, schema: Mapping[str, Any], path: Path = ()) -> Iterator[Fault]:
    """Every fault of the value, in its order."""
    allowed = schema.get("type")
    names = [allowed] if isinstance(allowed, str) else list(allowed or ())
    if names and not any(_is(value, name) for name in names):
        yield Fault(path, f"expected {' or '.join(_WORDS[name] for name in names)}, found {_shown(value)}")
        return
    if "enum" in schema and value not in schema["enum"]:
        yield Fault(path, f"expected {' or '.join(map(str, schema['enum']))}, found {_shown(value)}")
    if isinstance(value, str):
        yield from _text_faults(value, schema, path)
    elif isinstance(value, int | float):
        if value < schema.get("minimum", value):
            yield Fault(path, f"expected {schema['minimum']} or more, found {_shown(value)}")
        if value > schema.get("maximum", value):
            yield Fault(path, f"expected {schema['maximum']} or less, found {_shown(value)}")
    elif isinstance(value, dict):
        yield from _object_faults(value, schema, path)
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield Fault(path, "an empty list says nothing")
        for place, each in enumerate(value):
            yield from faults(each, schema.get("items", {}), (*path, place))


def _text_faults(value: str, schema: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    if len(value.strip()) < schema.get("minLength", 0):
        yield Fault(path, "an empty text says nothing")
    pattern = schema.get("pattern")
    if pattern is not None and not re.search(pattern, value):
        yield Fault(path, f"{_shown(value)} is not {schema.get('description', f'of the form {pattern}')}")


def _object_faults(value: Mapping[str, JsonValue], schema: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    known: Mapping[str, Any] = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for key in schema.get("required", ()):
        if key not in value:
            yield Fault(path, f"{key} is missing")
    for key, each in value.items():
        if key in known:
            yield from faults(each, known[key], (*path, key))
        elif others is False:
            close = difflib.get_close_matches(key, sorted(known), n=1)
            words = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
            yield Fault((*path, key), f"unknown key ({words})", unknown_key=True)
        elif isinstance(others, Mapping):
            yield from faults(each, others, (*path, key))


def _is(value: JsonValue, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


def _shown(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
