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
_IN_ELEMENT = 2
"""The depth of brackets inside an element: the list itself is the first."""
_DIGITS = bytes.maketrans(b"0123456789:,[-\n\t\r", b"0" * 10 + b" " * 7)
_LONG_INTEGER = b" " + b"0" * 19
"""What an integer beyond 64 bits looks like once digits are ``0``, and what stands before a number is a space."""
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
    import orjson

    # orjson makes a float of an integer beyond 64 bits, and its digits would be lost without a word.
    if _LONG_INTEGER in data.translate(_DIGITS):
        return decode_plainly(data)
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
            message = f"{self.name} is torn: it ends in the middle of the list; its {whole} whole samples are taken"
            warn(warning("torn-results", message))
        unreadable += splitter.oversized
        if unreadable:
            message = f"{self.name} holds {unreadable} samples that are too large or broken; they are left out"
            warn(warning("unreadable-samples", message))
        if splitter.strays:
            warn(warning("unreadable-samples", f"{self.name} holds values between the samples; they are left out"))


@dataclass(frozen=True, slots=True)
class LinesFile:
    """A file with one JSON object a line, read line by line; a torn last line and lines that are none are told."""

    path: str
    name: str

    def rows(self, warn: Warn) -> Iterator[dict[str, JsonValue]]:
        """Every line that is an object; see :class:`wandb_outbox.formats.content.Samples`."""
        broken = 0
        with open_file(self.path, self.name) as file:
            while line := file.readline(MAX_SAMPLE + 1):
                whole = len(line) <= MAX_SAMPLE
                while not whole and line and not line.endswith(b"\n"):
                    line = file.readline(MAX_SAMPLE + 1)
                found = _object(line) if whole and line.strip() else None
                if found is not None:
                    yield found
                else:
                    broken += not whole or bool(line.strip())
        if broken:
            message = f"{self.name} holds {broken} lines that are no JSON object or too long; they are left out"
            warn(warning("unreadable-samples", message))


class _Splitter:
    """Cuts the bytes of a JSON list into the bytes of its objects.

    Only strings and brackets matter for that, so NaN, bad numbers and bad UTF-8 inside one element do not cost the
    others, and a list of 200 MB needs no more memory than its largest element.
    """

    # Repeats never give back what they took (++, *+), so each pattern is linear whatever stands in the file.
    _string = rb'"(?:[^"\\]++|\\.)*+"'
    _flat = rb'[^"\[\]{}]++|' + _string
    _between_elements = re.compile(rb"(?:%b)*+" % _flat, re.DOTALL)
    # Inside an element, innermost objects and lists are passed whole: they are most of the brackets.
    _in_element = re.compile(rb"(?:%b|[\[{](?:%b)*+[\]}])*+" % (_flat, _flat), re.DOTALL)
    _in_text = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)

    def __init__(self) -> None:
        self.not_a_list = False
        self.strays = False
        self.oversized = 0
        self._depth = 1  # 1: between the elements of the list; 0: after its end
        self._in_string = False
        self._skip = 0  # bytes of the next chunk that a backslash at the end of the last one escapes
        self._element = bytearray()
        self._too_large = False

    @property
    def torn(self) -> bool:
        """The list did not come to its end."""
        return self._depth > 0 and not self.not_a_list

    def elements(self, file: IO[bytes]) -> Iterator[bytes]:
        """The bytes of each element, without those that are no object or list and those that are too large."""
        chunk = file.read(_CHUNK).removeprefix(_UTF8_BOM).lstrip()
        self.not_a_list = chunk[:1] not in (b"", b"[")
        chunk = chunk[1:]
        while chunk and self._depth and not self.not_a_list:
            yield from self._feed(chunk)
            chunk = file.read(_CHUNK)

    def _feed(self, chunk: bytes) -> Iterator[bytes]:
        start, position = 0, 0
        if self._in_string:
            position = self._end_of_string(chunk, self._skip)
        while self._depth and position < len(chunk):
            passing = self._in_element if self._depth >= _IN_ELEMENT else self._between_elements
            position = passing.match(chunk, position).end()  # type: ignore[union-attr]  # it matches nothing, too
            if position == len(chunk):
                break
            token, position = chunk[position : position + 1], position + 1
            if token == b'"':
                # A string that ends in this chunk would have been passed.
                position = self._end_of_string(chunk, position)
            elif token in b"[{":
                self._depth += 1
                if self._depth == _IN_ELEMENT:
                    self._between(chunk[start : position - 1])
                    start = position - 1
            else:
                self._depth -= 1
                if self._depth == _IN_ELEMENT - 1:
                    yield from self._ended(chunk[start:position])
                    start = position
        if self._depth >= _IN_ELEMENT:
            self._keep(chunk[start:])
        elif self._depth:
            self._between(chunk[start:])

    def _end_of_string(self, chunk: bytes, position: int) -> int:
        """Where the string that goes on at ``position`` has ended; the chunk's end, if it goes on in the next."""
        end = self._in_text.match(chunk, position).end()  # type: ignore[union-attr]  # it matches nothing, too
        self._in_string = chunk[end : end + 1] != b'"'
        self._skip = int(self._in_string and end < len(chunk))
        return len(chunk) if self._in_string else end + 1

    def _keep(self, part: bytes) -> None:
        self._too_large = self._too_large or len(self._element) + len(part) > MAX_SAMPLE
        if self._too_large:
            self._element.clear()
        else:
            self._element += part

    def _ended(self, part: bytes) -> Iterator[bytes]:
        self._keep(part)
        if self._too_large:
            self.oversized += 1
        else:
            yield bytes(self._element)
        self._element.clear()
        self._too_large = False

    def _between(self, part: bytes) -> None:
        """Numbers, strings and words that stand between the objects, where only commas belong."""
        self.strays = self.strays or bool(part.translate(None, b", \t\r\n"))


def _object(element: bytes) -> dict[str, JsonValue] | None:
    try:
        value = decode(element)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:119] + "…"
