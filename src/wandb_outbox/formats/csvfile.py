"""What stands in a cell of a CSV file."""

from __future__ import annotations

import re

from wandb_outbox.model import JsonValue

_NUMBER = re.compile(r"[-+]?(?:\d+(\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_WORDS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "True": True, "False": False}


def csv_cell(text: str) -> JsonValue:
    """Numbers, and the words for truth and for what is no finite number, as such; all else as text."""
    text = text.strip()
    found = _NUMBER.fullmatch(text)
    if found is None:
        return _WORDS.get(text, text)
    return int(text) if text.lstrip("+-").isdigit() and len(text) < 300 else float(text)
