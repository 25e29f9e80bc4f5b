"""The transaction log that a run of the wandb SDK keeps (``run-<id>.wandb``): its blocks, and what its records say.

The file is a log as LevelDB writes it (github.com/google/leveldb, doc/log_format.md): a header of seven bytes, then
blocks of 32 kB that hold pieces, each with a checksum (plain CRC-32 over type and data), a length and a type. A record
is a protobuf message, ``wandb_internal.Record`` (wandb/proto/wandb_internal.proto in the SDK). Only the few fields that
are needed are read here, by their numbers, so that neither wandb nor protobuf has to be loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import IO

from wandb_outbox.errors import Rejected
from wandb_outbox.folder import open_file
from wandb_outbox.model import JsonValue

MAGIC = b":W&B\xe1\xbe"
VERSION = 0
HEADER = len(MAGIC) + 1
"""Bytes before the first record."""
BLOCK = 32_768
TAIL = 32 * BLOCK
"""Bytes at the end in which the record of a run's end is looked for: what follows it is small."""

_PIECE = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class UnknownLog(Rejected):
    """Not a transaction log, or one of a version that is not known here."""


class RecordType(IntEnum):
    """The numbers of the fields of ``Record`` that are used."""

    HISTORY = 2
    SUMMARY = 3
    CONFIG = 5
    STATS = 7
    ARTIFACT = 8
    METRIC = 12
    RUN = 17
    EXIT = 18


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record: its type where it is one that is used, and its bytes, whole."""

    type: RecordType | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class LogHead:
    """Which run the log is of, and when it began (seconds since the epoch; 0 when it does not say)."""

    run_id: str
    entity: str | None
    project: str | None
    name: str | None
    started_at: float


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What the log's end says. ``exit_code`` is ``None`` when no record of the run's end is there."""

    exit_code: int | None


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """What a log says of its run, but for its media and its system metrics.

    ``rows`` are the history, each with its step under ``"_step"``. ``damaged`` counts the places where the log could not be
    read, a torn end included; what stands before and after is there.
    """

    run_id: str
    entity: str | None
    project: str | None
    name: str | None
    group: str | None
    job_type: str | None
    tags: tuple[str, ...]
    notes: str | None
    started_at: float | None
    config: dict[str, JsonValue]
    summary: dict[str, JsonValue]
    rows: tuple[dict[str, JsonValue], ...]
    artifacts: tuple[str, ...]
    exit_code: int | None
    runtime: int | None
    damaged: int


def records(folder: str, log: str, damage: list[str] | None = None) -> Iterator[LogRecord]:
    """Every record that can be read, in order. Places that cannot be read are told in ``damage`` and passed over.

    Raises :class:`UnknownLog` when the file is no log of a known version, and as :func:`~wandb_outbox.folder.open_file`.
    """
    with open_file(folder, log) as file:
        header = file.read(HEADER)
        if header[: len(MAGIC)] != MAGIC[: len(header)]:
            raise UnknownLog(f"{folder}: {log} is no transaction log of wandb", hint="exclude it, or take it away")
        if len(header) == HEADER and header[-1] != VERSION:
            raise UnknownLog(
                f"{folder}: {log} is a transaction log of version {header[-1]}; known is {VERSION}",
                hint="send it with the `wandb sync` of the wandb that wrote it, or update wandb-outbox",
            )
        for payload in _payloads(file, [] if damage is None else damage):
            yield LogRecord(_type_of(payload), payload)


def read_end(folder: str, log: str) -> LogEnd:
    """How the run ended, from the last :data:`TAIL` bytes. Raises as :func:`records` does."""
    with open_file(folder, log) as file:
        size = os.fstat(file.fileno()).st_size
    code = None
    for record in _last_records(folder, log, size):
        if record.type is RecordType.EXIT:
            code = _exit(record.payload)[0]
    return LogEnd(code)


def read_head(folder: str, log: str) -> LogHead:
    """Which run it is, from the log's beginning. Raises :class:`Rejected` when it names none, and as :func:`records`."""
    run = _Gathered()
    for record in records(folder, log):
        if record.type is RecordType.RUN:
            with contextlib.suppress(ValueError, TypeError):
                run.take(record)
        if run.run_id:
            return LogHead(run.run_id, run.texts.get(2), run.texts.get(3), run.texts.get(8), run.started_at or 0.0)
    raise _nameless(folder, log)


def read_run(folder: str, log: str) -> RecordedRun:
    """Everything that the log says of its run. Raises :class:`Rejected` when it names no run, and as :func:`records`."""
    damage: list[str] = []
    run = _Gathered()
    for record in records(folder, log, damage):
        try:
            run.take(record)
        except (ValueError, TypeError, AttributeError, RecursionError):
            damage.append("a record that makes no sense")
    if not run.run_id:
        raise _nameless(folder, log)
    return RecordedRun(
        run_id=run.run_id,
        entity=run.texts.get(2),
        project=run.texts.get(3),
        name=run.texts.get(8),
        group=run.texts.get(6),
        job_type=run.texts.get(7),
        tags=tuple(run.tags),
        notes=run.texts.get(9),
        started_at=run.started_at,
        config=run.config,
        summary=run.summary,
        rows=tuple(run.rows),
        artifacts=tuple(dict.fromkeys(run.artifacts)),
        exit_code=run.exit_code,
        runtime=run.runtime,
        damaged=len(damage),
    )


def _nameless(folder: str, log: str) -> Rejected:
    return Rejected(
        f"{folder}: {log} names no run; it was torn at its beginning", hint="nothing of it can be sent: skip it"
    )


@dataclass(slots=True)
class _Gathered:
    """What the records read so far add up to."""

    run_id: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    started_at: float | None = None
    config: dict[str, JsonValue] = field(default_factory=dict)
    summary: dict[str, JsonValue] = field(default_factory=dict)
    rows: list[dict[str, JsonValue]] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None
    runtime: int | None = None

    def take(self, record: LogRecord) -> None:
        match record.type:
            case RecordType.RUN:
                self._take_run(_inside(record.payload, RecordType.RUN))
            case RecordType.CONFIG:
                _update(self.config, _inside(record.payload, RecordType.CONFIG), merge=True)
            case RecordType.SUMMARY:
                _update(self.summary, _inside(record.payload, RecordType.SUMMARY))
            case RecordType.HISTORY:
                self.rows.append(_row(_inside(record.payload, RecordType.HISTORY)))
            case RecordType.ARTIFACT:
                said = dict(_fields(_inside(record.payload, RecordType.ARTIFACT)))
                self.artifacts.append(_text(said.get(5)))
            case RecordType.EXIT:
                self.exit_code, self.runtime = _exit(record.payload)
            case _:
                pass

    def _take_run(self, message: bytes) -> None:
        # A run is recorded again when its name, tags or notes change: the newest counts.
        tags: list[str] = []
        for number, value in _fields(message):
            if number == 1:
                self.run_id = _text(value)
            elif number in (2, 3, 6, 7, 8, 9) and _text(value):
                self.texts[number] = _text(value)
            elif number == 4 and isinstance(value, bytes):
                _update(self.config, value, merge=True)
            elif number == 10:
                tags.append(_text(value))
            elif number == 17 and isinstance(value, bytes) and self.started_at is None:
                said = dict(_fields(value))
                self.started_at = int(said.get(1, 0)) + int(said.get(2, 0)) / 1e9
        self.tags = tags


def _row(message: bytes) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {}
    step: int | None = None
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            _put(row, value)
        elif number == 2 and isinstance(value, bytes):
            step = int(dict(_fields(value)).get(1, 0))
    row["_step"] = int(row.get("_step", 0)) if step is None else step
    return row


def merge_into(target: dict[str, JsonValue], changes: Mapping[str, JsonValue]) -> None:
    """Set what ``changes`` say, however deep, and leave what else is there: so the SDK's process keeps a configuration."""
    for key, value in changes.items():
        there = target.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            merge_into(there, value)
        elif value != {} or key not in target:
            target[key] = value


def _update(target: dict[str, JsonValue], message: bytes, *, merge: bool = False) -> None:
    """Apply a ``SummaryRecord`` or ``ConfigRecord``: ``update`` is field 1, ``remove`` field 2 in both.

    A mapping takes the place of what is there in a summary, and is merged with it in a configuration.
    """
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            _put(target, value, merge=merge)
        elif number == 2 and isinstance(value, bytes):
            *above, last = _path(value)
            inner: JsonValue = target
            for part in above:
                inner = inner.get(part) if isinstance(inner, dict) else None
            if isinstance(inner, dict):
                inner.pop(last, None)


def _put(target: dict[str, JsonValue], item: bytes, *, merge: bool = False) -> None:
    """Set one value: ``key`` or the parts of a nested one, and ``value_json``, numbered alike in all such messages."""
    path = _path(item)
    for part in path[:-1]:
        below = target.get(part)
        if not isinstance(below, dict):
            below = target[part] = {}
        target = below
    said = json.loads(_text(dict(_fields(item)).get(16)) or "null")
    if merge:
        merge_into(target, {path[-1]: said})
    else:
        target[path[-1]] = said


def _path(item: bytes) -> Sequence[str]:
    said = list(_fields(item))
    return [_text(value) for number, value in said if number == 2] or [_text(dict(said).get(1))]


def _exit(payload: bytes) -> tuple[int, int | None]:
    said = dict(_fields(_inside(payload, RecordType.EXIT)))
    runtime = said.get(2)
    return _signed(said.get(1, 0)), runtime if isinstance(runtime, int) else None


# -- protobuf's wire format (protobuf.dev/programming-guides/encoding) -----------------------------------------------------


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and the value as an integer or as bytes. Raises ``ValueError`` for nonsense."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == 2:
            size, place = _varint(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + size > len(message):
            raise ValueError("a field longer than its message")
        yield number, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise ValueError("a number without an end")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _signed(value: int | bytes) -> int:
    number = value if isinstance(value, int) else 0
    return number - (1 << 64) if number >> 63 else number


def _text(value: int | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _inside(payload: bytes, wanted: RecordType) -> bytes:
    return next((value for number, value in _fields(payload) if number == wanted and isinstance(value, bytes)), b"")


_TYPES = frozenset(RecordType)


def _type_of(payload: bytes) -> RecordType | None:
    try:
        return next((RecordType(number) for number, _ in _fields(payload) if number in _TYPES), None)
    except ValueError:
        return None


# -- blocks ----------------------------------------------------------------------------------------------------------------


def _last_records(folder: str, log: str, size: int) -> Iterator[LogRecord]:
    if size <= TAIL:
        yield from records(folder, log)
        return
    with open_file(folder, log) as file:
        # A block begins with a piece; the first record of it may have begun before, and is passed over.
        file.seek((size - TAIL) // BLOCK * BLOCK)
        for payload in _payloads(file, []):
            yield LogRecord(_type_of(payload), payload)


def _payloads(file: IO[bytes], damage: list[str]) -> Iterator[bytes]:
    """The records from where the file stands on; a piece that fails its checksum costs the rest of its block."""
    place = file.tell()
    begun: list[bytes] | None = None
    while block := file.read(BLOCK - place % BLOCK):
        for kind, data in _pieces(block, damage):
            if kind == _FULL:
                begun = None
                yield data
            elif kind == _FIRST:
                begun = [data]
            elif begun is not None and kind in (_MIDDLE, _LAST):
                begun.append(data)
                if kind == _LAST:
                    yield b"".join(begun)
                    begun = None
            elif kind == 0:
                begun = None
        place += len(block)
    if begun is not None:
        damage.append("torn at its end")


def _pieces(block: bytes, damage: list[str]) -> Iterator[tuple[int, bytes]]:
    """Type and data of each piece of a block; type 0 where the rest of the block cannot be read."""
    place = 0
    while place + _PIECE.size <= len(block):
        checksum, size, kind = _PIECE.unpack_from(block, place)
        if not (checksum or size or kind):
            return  # zeros: the block was filled up, or its space was only reserved
        place += _PIECE.size
        data = block[place : place + size]
        place += size
        if len(data) < size or zlib.crc32(data, zlib.crc32(bytes((kind,)))) != checksum:
            damage.append("torn at its end" if len(data) < size else "a damaged place")
            yield 0, b""
            return
        yield kind, data
