"""Logging: structlog, for people on a terminal and as JSON lines otherwise; UTC, stable event names, no secrets."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog

Log = Callable[..., None]
PATIENCE = 1.0
"""Seconds that a line waits for a reader who is slow. After the first that was lost the next ones wait for none."""


class Lines:
    """Where log lines go. One that cannot be written is lost, and counted; it stops nobody.

    The disk under the log may be full, the reader of a pipe gone or asleep, the terminal stopped: deliveries do not hang on
    that. The first line that can be written again is preceded by one that tells how many are missing.
    """

    def __init__(self, descriptor: int) -> None:
        """``descriptor`` is open for writing, and stays its owner's."""
        self._descriptor = descriptor
        self._lost = 0
        self._torn = False

    def write(self, text: str) -> int:
        """Write whole lines, or lose them."""
        told = json.dumps({"lines": self._lost, "event": "log-lost", "level": "warning"}) + "\n" if self._lost else ""
        if self._send((told + text).encode("utf-8", "backslashreplace")):
            self._lost = 0
        else:
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def _send(self, data: bytes) -> bool:
        with contextlib.suppress(OSError):
            if self._torn:
                data = b"\n" + data
            # In pieces that a pipe with any room takes whole: a larger one would wait for its reader.
            while data and select.select([], [self._descriptor], [], 0 if self._lost else PATIENCE)[1]:
                written = os.write(self._descriptor, data[: select.PIPE_BUF])
                self._torn = True
                data = data[written:]
            self._torn = self._torn and bool(data)
        return not data


def configure(level: str, environ: Mapping[str, str], stream: TextIO | None = None) -> Log:
    """Set the process's logging up; returns the function that logs an event with its fields at level info."""
    stream = stream or cast("TextIO | None", sys.stderr)  # nothing, for a process that was started with it closed
    key = environ.get("WANDB_API_KEY", "")
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redactor(key),
        structlog.dev.ConsoleRenderer() if stream and stream.isatty() else structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _lines(stream))),
        cache_logger_on_first_use=True,
    )
    logger = structlog.get_logger()
    levels = {
        "failed": "error",
        "root-unusable": "warning",
        "events-lost": "warning",
        "state-unusable": "error",
        "outbox-set-aside": "error",
        "setting-unknown": "warning",
        "format-faulty": "warning",
    }

    def log(event: str, **fields: Any) -> None:
        kind = levels.get(event, "info")
        if event == "server" and fields.get("state") == "unauthorized":
            kind = "error"
        getattr(logger, kind)(event, **fields)

    return log


def _lines(stream: TextIO | None) -> TextIO | Lines:
    try:
        return Lines(os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno())
    except OSError:  # a stream of Python's alone
        return cast("TextIO", stream)


def _redactor(key: str) -> structlog.typing.Processor:
    def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if key:
            for name, value in event.items():
                if isinstance(value, str) and key in value:
                    event[name] = value.replace(key, "***")
        return event

    return redact
