"""The table of per-sample results, small enough to be looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import JsonValue, PlannedTable
from wandb_outbox.plan.jsonsafe import json_safe

MAX_ROWS = 10_000
"""What W&B's own interface shows at most."""
MAX_COLUMNS = 256
MAX_TEXT = 50_000_000
"""Bytes of text in the whole table, roughly: two for each character of a text that is not ASCII."""
CUT = " … [cut]"

_MAX_FLATTENED = 32
_BULK = frozenset({"token_ids", "logprobs"})
"""Lists of one number a token, inside steps: they are in the artifact, and would be most of the table."""


class TableBuilder:
    """Takes samples one by one and keeps what fits into a table.

    Columns are the union of all keys, in the order in which they first came. Texts are kept whole until the table
    holds more than ``max_text``; then the longest are cut, all to the same length.
    """

    def __init__(self, name: str, source: str, *, max_rows: int = MAX_ROWS, max_text: int = MAX_TEXT) -> None:
        self._name = name
        self._source = source
        self._max_rows = max_rows
        self._max_text = max_text
        self._columns: dict[str, int] = {}
        self._left_out: dict[str, None] = {}
        self._rows: list[list[JsonValue]] = []
        self._total = 0
        self._text = 0
        self._longest: int | None = None

    def add(self, sample: Mapping[str, JsonValue]) -> None:
        """Take one sample; beyond the row limit it is only counted."""
        self._total += 1
        if self._total > self._max_rows:
            return
        row: list[JsonValue] = [None] * len(self._columns)
        for column, value in _cells(sample):
            place = self._columns.get(column)
            if place is None:
                if len(self._columns) >= MAX_COLUMNS:
                    if len(self._left_out) < MAX_COLUMNS:
                        self._left_out[column[:60]] = None
                    continue
                place = self._columns[column] = len(self._columns)
                row.append(None)
            row[place] = _cut(value, self._longest)
        self._rows.append(row)
        self._text += sum(_weight(value) for value in row if isinstance(value, str))
        # Looked at now and then, so that one long file does not stand in memory before it is cut.
        if self._text > 1.2 * self._max_text:
            self._shorten()

    def build(self, warn: Warn) -> PlannedTable | None:
        """The table, or ``None`` when no sample came. Says what was left out."""
        if not self._rows:
            return None
        if self._text > self._max_text:
            self._shorten()
        if self._total > self._max_rows:
            message = f"the table {self._name} shows the first {self._max_rows:,} of {self._total:,} samples"
            warn(warning("table-cut", f"{message}; all of them are in the artifact's {self._source}"))
        if self._left_out:
            named = ", ".join(list(self._left_out)[:5])
            message = f"the table {self._name} has no room for more than {MAX_COLUMNS} columns; left out: {named}, ..."
            warn(warning("table-cut", message))
        if self._longest is not None:
            message = f"long texts in the table {self._name} are cut after {self._longest:,} bytes"
            warn(warning("table-cut", f"{message}; they are whole in the artifact's {self._source}"))
        width = len(self._columns)
        rows = tuple(tuple(row) + (None,) * (width - len(row)) for row in self._rows)
        return PlannedTable(self._name, tuple(self._columns), rows, self._total)

    def _shorten(self) -> None:
        """Cut every longer text to the greatest length with which the table fits."""
        weights = sorted(_weight(value) for row in self._rows for value in row if isinstance(value, str))
        room = self._max_text
        longest = 0
        for place, weight in enumerate(weights):
            longest = room // (len(weights) - place)
            if weight > longest:
                break
            room -= weight
        self._longest = longest
        for row in self._rows:
            row[:] = [_cut(value, longest) for value in row]
        self._text = sum(_weight(value) for row in self._rows for value in row if isinstance(value, str))


def _weight(text: str) -> int:
    return len(text) if text.isascii() else 2 * len(text)


def _cut(value: JsonValue, longest: int | None) -> JsonValue:
    if longest is None or not isinstance(value, str) or _weight(value) <= longest:
        return value
    text = value.removesuffix(CUT)
    # The mark is not ASCII, so every cut text weighs two bytes a character.
    return text[: max(0, longest // 2 - len(CUT))] + CUT


def _cells(sample: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    """The cells of one sample: scalars as they are, small mappings flattened one level, the rest as JSON text."""
    for name, value in sample.items():
        key = json_safe(name)
        if name == "steps" and isinstance(value, list):
            yield key, "\n\n".join(_step_text(step) for step in value)
        elif name == "eval" and isinstance(value, Mapping):
            for evaluator, said in value.items():
                yield from _flattened(json_safe(f"{name}/{evaluator}"), said)
        else:
            yield from _flattened(key, value)


def _flattened(key: str, value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, Mapping) and len(value) <= _MAX_FLATTENED:
        for inner, each in value.items():
            yield json_safe(f"{key}/{inner}"), _cell(each)
    else:
        yield key, _cell(value)


def _cell(value: JsonValue) -> JsonValue:
    if isinstance(value, Mapping | list):
        return _as_json(value)
    return json_safe(value)


def _step_text(step: JsonValue) -> str:
    text = step.get("text") if isinstance(step, Mapping) else step
    return json_safe(text) if isinstance(text, str) else _as_json(step)


def _as_json(value: JsonValue) -> str:
    return json.dumps(_without_bulk(json_safe(value)), ensure_ascii=False)


def _without_bulk(value: JsonValue) -> JsonValue:
    if isinstance(value, Mapping):
        return {key: _without_bulk(each) for key, each in value.items() if key not in _BULK}
    if isinstance(value, list):
        return [_without_bulk(each) for each in value]
    return value
