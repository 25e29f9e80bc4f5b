"""Counts, inside a process, what it asks of the system: processes that it starts, and statements of its database.

A test copies this file as ``sitecustomize.py`` into a directory on the ``PYTHONPATH`` of a command, which passes it on to
the uploader. Every process appends its lines to the file ``counted`` beside it. It imports nothing of the project: what
is counted are the interpreter's audit events and what SQLite's own trace tells.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

COUNTED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "counted")
STARTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec"})
_statements: Counter[str] = Counter()
_last = ""


def _tell(what: str, count: int) -> None:
    # Whole lines in append mode: processes do not tear each other's.
    descriptor = os.open(COUNTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{what} {count}\n".encode())
    os.close(descriptor)


def _trace(statement: str) -> None:
    global _last  # noqa: PLW0603
    # For what a trigger does, the statement that set it off is told again.
    if statement != _last:
        _statements[statement.split(None, 1)[0].upper()] += 1
    _last = statement


def traced(connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
    """The same function, whose connections are counted."""

    def connect_and_trace(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.set_trace_callback(_trace)
        return connection

    return connect_and_trace


def _hear(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in STARTS:
        _tell("process", 1)


def _sum_up() -> None:
    for word, count in _statements.items():
        _tell(word, count)


atexit.register(_sum_up)
sqlite3.connect = traced(sqlite3.connect)  # type: ignore[assignment]
sys.addaudithook(_hear)
