"""Look into a configuration by dotted keys, without resolving what only Hydra could resolve."""

from __future__ import annotations

import re
from collections.abc import Mapping

from wandb_outbox.formats.content import SampleRange
from wandb_outbox.model import JsonValue

_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
SAYS_NOTHING = ("", "null", "none", "???")
"""Texts, in lower case, that stand where a value is missing."""


def lookup(config: Mapping[str, JsonValue], key: str) -> JsonValue:
    """The value at a dotted key, as it stands; ``None`` if there is none."""
    value: JsonValue = config
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def text_at(config: Mapping[str, JsonValue], key: str) -> str | None:
    """The text at a dotted key, references to other keys followed; ``None`` if there is none that says something."""
    value = lookup(config, key)
    if not isinstance(value, str):
        return None
    plain = (without_references(config, value) or "").strip()
    return None if plain.lower() in SAYS_NOTHING else plain


def without_references(config: Mapping[str, JsonValue], text: str) -> str | None:
    """``text`` with ``${other.key}`` replaced; ``None`` where something is left that only Hydra could resolve.

    No resolver runs: ``${oc.env:...}`` would read the uploader's environment, ``${now:...}`` its clock.
    """
    for _ in range(8):
        if "${" not in text:
            return text
        replaced = _REFERENCE.sub(lambda found: _as_text(lookup(config, found[1]), found[0]), text)
        if replaced == text or len(replaced) > 10_000:
            return None
        text = replaced
    return None


def subset_of(offset: int, count: int | None, size: int | None, done: SampleRange | None) -> tuple[str, str] | None:
    """The first and the last sample of a run that was meant to do a part of its dataset only, or ``None``.

    Many configurations give the full size of the dataset as their count. It is no part either when the log says that
    the dataset ended before the count did. The last is ``"end"`` where nobody knows it.
    """
    if size is None and done is not None and (count is None or done.count < count):
        size = done.last + 1
    if count is None and offset == 0:
        return None
    last = None if count is None else offset + count - 1
    if size is not None:
        last = size - 1 if last is None else min(last, max(size - 1, offset))
        if offset == 0 and last == size - 1:
            return None
    return str(offset), "end" if last is None else str(last)


def _as_text(value: JsonValue, otherwise: str) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else otherwise


def whole_number_at(config: Mapping[str, JsonValue], key: str) -> int | None:
    """A number that counts something: a whole one, not negative, of at most 18 digits."""
    text = number_at(config, key)
    if text is None or not re.fullmatch(r"\d{1,18}", text):
        return None
    return int(text)


def number_at(config: Mapping[str, JsonValue], key: str) -> str | None:
    """A number as a tag shows it: ``0.6``, ``16``; ``1.0`` is ``1``."""
    value = lookup(config, key)
    if isinstance(value, str):
        plain = without_references(config, value)
        try:
            value = float(plain) if plain else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return f"{float(value):.12g}" if abs(value) < 1e15 else None
    except OverflowError:
        return None


def last_part(text: str) -> str:
    """The part behind the last slash: ``Qwen3-8B`` of ``Qwen/Qwen3-8B``."""
    return text.rstrip("/").rpartition("/")[2]
