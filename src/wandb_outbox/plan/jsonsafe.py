"""Any Python value as one that JSON, and W&B, can hold."""

from __future__ import annotations

import base64
import math
import os
import re
from collections import deque
from collections.abc import Mapping, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from wandb_outbox.model import JsonValue

MAX_DEPTH = 64
NOT_A_NUMBER = "NaN"
INFINITY = "Infinity"
MINUS_INFINITY = "-Infinity"
"""JSON has none of the three, and the SDK drops them from a summary; as these words they stay visible."""
TOO_DEEP = "(nested too deeply)"
_MAX_INTEGER = 2**63
_KINDS_OF_TIME = ("M", "m")
"""What numpy calls its types of dates and of durations."""
_KIND_OF_COMPLEX = "c"
_PLACE_IN_MEMORY = re.compile(r" at 0x[0-9A-Fa-f]+")


def json_safe(value: Any, depth: int = 0) -> JsonValue:
    """The value as JSON can hold it. Never raises, whatever it is given.

    NaN and the infinities become the words above; integers beyond 64 bits, paths and dates text; bytes text, or
    base64 when they are none; numpy and torch values what their ``tolist`` gives, but dates text; sets sorted lists;
    dataclasses mappings; keys strings. What is none of these is its text, without the place in memory that some tell.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return json_safe(value.value, depth + 1) if depth < MAX_DEPTH else TOO_DEEP
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, int):
        return int(value) if -_MAX_INTEGER <= value < _MAX_INTEGER else _large_integer(value)
    if isinstance(value, float):
        return _finite(float(value))
    if isinstance(value, Decimal):
        return _finite(float(value)) if not value.is_snan() else NOT_A_NUMBER
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(value))
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, os.PathLike):
        return safe_text(os.fsdecode(value))
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, Mapping):
        return {_key(key): json_safe(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | deque | ValuesView):
        return [json_safe(each, depth + 1) for each in value]
    if isinstance(value, AbstractSet):
        return sorted((json_safe(each, depth + 1) for each in value), key=repr)
    return _foreign(value, depth)


def safe_text(text: str) -> str:
    """Text that can be encoded as UTF-8: lone surrogates, which JSON and file names can bring, are replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return str(text)


def _finite(value: float) -> float | str:
    if math.isnan(value):
        return NOT_A_NUMBER
    if math.isinf(value):
        return INFINITY if value > 0 else MINUS_INFINITY
    return value


def _large_integer(value: int) -> str:
    try:
        return str(int(value))
    except ValueError:
        # Python refuses to print integers of thousands of digits.
        return hex(value)


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _key(key: Any) -> str:
    if isinstance(key, str):
        return safe_text(key)
    safe = json_safe(key)
    if isinstance(safe, bool):
        return "true" if safe else "false"
    return "null" if safe is None else str(safe)


def _foreign(value: Any, depth: int) -> JsonValue:
    """Numpy and torch by what they offer, so that neither has to be installed; anything else by its text."""
    to_list = None if isinstance(value, type) else getattr(value, "tolist", None)
    try:
        if callable(to_list):
            kind = getattr(getattr(value, "dtype", None), "kind", None)
            if kind in _KINDS_OF_TIME:
                # Of nanoseconds `tolist` gives a bare number.
                return json_safe(value.astype(str).tolist(), depth + 1)
            plain = to_list()
            if type(plain) is type(value):
                # Numpy's long floats are their own `tolist`: Python has none that are as long.
                return safe_text(str(plain)) if kind == _KIND_OF_COMPLEX else _finite(float(plain))
            return json_safe(plain, depth + 1)
        if is_dataclass(value) and not isinstance(value, type):
            return {each.name: json_safe(getattr(value, each.name), depth + 1) for each in fields(value)}
        return safe_text(_PLACE_IN_MEMORY.sub("", str(value)))
    except Exception:  # noqa: BLE001  a foreign object may raise anything while it describes itself
        return f"({type(value).__name__})"
