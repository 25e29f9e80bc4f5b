"""JSON that others wrote: huge, torn, too deep, with NaN, or not JSON at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from wandb_outbox.errors import Rejected
from wandb_outbox.folder import open_file, read_file
from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import JsonValue, Snapshot

MAX_OBJECT_FILE = 64 * 1024 * 1024
"""A file that holds one object is read whole up to this size, in bytes."""
MAX_SAMPLE = 32 * 1024 * 1024
"""One element of a streamed list is decoded up to this size, in bytes."""
_CHUNK = 1024 * 1024
_UTF8_BOM = b"\xef\xbb\xbf"


def decode_plainly(data: bytes) -> JsonValue:
    """JSON with the standard library alone, for the daemon: NaN and Infinity are taken.

    Raises ``ValueError``, also for what nests too deeply.
    """
    try:
        return json.loads(data.removeprefix(_UTF8_BOM).decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def decode(data: bytes) -> JsonValue:
    """JSON, fast where it is clean and patient where it is not. Raises ``ValueError``."""
    import orjson  # noqa: PLC0415  the daemon imports this module and never decodes in bulk (20 ms of start-up)

    try:
        return orjson.loads(data)
    except ValueError:
        # orjson refuses NaN, Infinity, lone surrogates and invalid UTF-8, which real files hold.
        return decode_plainly(data)


def read_object(path: str, snapshot: Snapshot, name: str, warn: Warn, rule: str) -> dict[str, JsonValue] | None:
    """The JSON object in the file ``name``; ``None`` when it is not there, or, with a warning, when it is none."""
    if snapshot.file(name) is None:
        return None
    try:
        value = decode(read_file(path, name, MAX_OBJECT_FILE))
    except Rejected:
        warn(warning(rule, f"{name} is larger than {MAX_OBJECT_FILE:,} bytes and was not read"))
        return None
    except ValueError as error:
        warn(warning(rule, f"{name} is not valid JSON and was not read ({_short(error)})"))
        return None
    if not isinstance(value, dict):
        warn(warning(rule, f"{name} does not hold a JSON object and was not read"))
        return None
    return value


@dataclass(frozen=True, slots=True)
class ListFile:
    """A file that holds one JSON list of objects, read one element at a time.

    Memory is bounded by the largest element, whatever the size of the file, and a list that is torn in the middle
    still gives every element that is whole.
    """

    path: str
    name: str

    def rows(self, warn: Warn) -> Iterator[dict[str, JsonValue]]:
        """Every element that is an object; see :class:`wandb_outbox.formats.content.Samples`."""
        with open_file(self.path, self.name) as file:
            splitter = _Splitter()
            whole = unreadable = 0
            for element in splitter.elements(file):
                row = _object(element)
                if row is None:
                    unreadable += 1
                else:
                    whole += 1
                    yield row
        if splitter.not_a_list:
            warn(warning("results-not-a-list", f"{self.name} is not a list of objects; there is no table of samples"))
        elif splitter.torn:
            warn(
                warning("torn-results", f"{self.name} is torn: it ends in the middle of the list; {whole} whole samples")
            )
        unreadable += splitter.oversized
        if unreadable:
            message = f"{self.name} holds {unreadable} samples that cannot be read (too large, or broken); they are left out"
            warn(warning("unreadable-samples", message))
        if splitter.strays:
            warn(warning("unreadable-samples", f"{self.name} holds values between the samples; they are left out"))


class _Splitter:
    """Cuts the bytes of a JSON list into the bytes of its objects.

    Only strings and brackets matter for that, so NaN, bad numbers and bad UTF-8 inside one element do not cost the
    others, and a list of 200 MB needs no more memory than its largest element.
    """

    _outside = re.compile(rb'["\[\]{}]')
    _inside = re.compile(rb'["\\]')

    def __init__(self) -> None:
        self.not_a_list = False
        self.torn = False
        self.strays = False
        self.oversized = 0

    def elements(self, file: IO[bytes]) -> Iterator[bytes]:
        chunk = file.read(_CHUNK).removeprefix(_UTF8_BOM).lstrip()
        if not chunk:
            self.torn = True
            return
        if chunk[:1] != b"[":
            self.not_a_list = True
            return
        chunk = chunk[1:]
        depth = 1  # 1: between the elements of the list; 0: after its end
        in_string = skip_one = False
        element = bytearray()
        between = bytearray()
        too_large = False
        while chunk and depth:
            start = 0  # of the part of the open element that is in this chunk
            position = 1 if skip_one else 0
            skip_one = False
            while depth:
                found = (self._inside if in_string else self._outside).search(chunk, position)
                if found is None:
                    break
                position = found.end()
                token = found.group()
                if token == b"\\":
                    skip_one = position == len(chunk)
                    position += 1
                elif token == b'"':
                    in_string = not in_string
                elif token in b"[{":
                    depth += 1
                    if depth == 2:
                        between += chunk[start : found.start()]
                        start = found.start()
                else:
                    depth -= 1
                    if depth == 1:
                        element += chunk[start:position]
                        start = position
                        if too_large or len(element) > MAX_SAMPLE:
                            self.oversized += 1
                        else:
                            yield bytes(element)
                        element.clear()
                        too_large = False
                    elif depth == 0:
                        between += chunk[start : found.start()]
            if depth > 1:
                element += chunk[start:]
                if len(element) > MAX_SAMPLE:
                    too_large = True
                    element.clear()
            elif depth == 1:
                between += chunk[start:]
            self._look_for_strays(between)
            chunk = file.read(_CHUNK)
        self.torn = depth > 0

    def _look_for_strays(self, between: bytearray) -> None:
        """Numbers, strings and words that stand between the objects where only commas belong."""
        self.strays = self.strays or bool(between.translate(None, b", \t\r\n"))
        between.clear()


def _object(element: bytes) -> dict[str, JsonValue] | None:
    try:
        value = decode(element)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:119] + "…"
