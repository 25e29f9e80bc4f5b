"""Logging: structlog, for people on a terminal and as JSON lines otherwise; UTC, stable event names, no secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog

Log = Callable[..., None]


def configure(level: str, environ: Mapping[str, str], stream: TextIO | None = None) -> Log:
    """Set the process's logging up; returns the function that logs an event with its fields at level info."""
    stream = stream or sys.stderr
    key = environ.get("WANDB_API_KEY", "")
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redactor(key),
        structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
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


def _redactor(key: str) -> structlog.typing.Processor:
    def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if key:
            for name, value in event.items():
                if isinstance(value, str) and key in value:
                    event[name] = value.replace(key, "***")
        return event

    return redact
