"""What several formats share: times from names and files, and the files that people fetch one by one."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from wandb_outbox.formats.logfile import first_timestamp, local_time, top_level_logs
from wandb_outbox.model import JsonValue, Snapshot

MAX_RUN_FILE = 100 * 1000 * 1000
"""Bytes. Larger files are in the artifact only."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"(?:^|_)(\d\d)-(\d\d)-(\d\d)$")
_MOMENT = re.compile(r"(?:^|[-_/])(\d{4})-?(\d\d)-?(\d\d)T(\d\d)-?(\d\d)(?:-?(\d\d))?(Z?)$")


def started_at(path: str, snapshot: Snapshot, log: str | None) -> float | None:
    """When the experiment began: its log's first line, else its folder's name, else its oldest file."""
    if log is not None:
        logged = first_timestamp(path, snapshot, log)
        if logged is not None:
            return logged
    moment = _MOMENT.search(path.rstrip("/"))
    named = _time_in_path(path) if moment is None else _seconds(moment)
    # A moment that people wrote into a name may be of something else: then all of the files may be older.
    if named is not None and (moment is None or named <= (ended_at(snapshot) or named)):
        return named
    return min((file.mtime_ns for file in snapshot.files), default=0) / 1e9 or None


def ended_at(snapshot: Snapshot) -> float | None:
    """When the newest file was last written."""
    return max((file.mtime_ns for file in snapshot.files), default=0) / 1e9 or None


def _time_in_path(path: str) -> float | None:
    """Hydra's ``DATE/TIME``, ``DATE/TIME/N`` and ``DATE/.../name_TIME``, in local time."""
    parts = path.strip("/").split("/")
    dates = [place for place, part in enumerate(parts) if _DATE.fullmatch(part)]
    if not dates:
        return None
    for part in reversed(parts[dates[-1] + 1 :]):
        found = _TIME.search(part)
        if found:
            return local_time(f"{parts[dates[-1]]} {found[1]}:{found[2]}:{found[3]}")
    return None


def _seconds(moment: re.Match[str]) -> float | None:
    """Of ``2025-12-13T07-30-22Z`` or ``20241217T1430Z`` at the end of a name; in local time where the ``Z`` is missing."""
    year, month, day, hour, minute, second = (int(part or 0) for part in moment.groups()[:6])
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC if moment[7] else None).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def run_files(snapshot: Snapshot, names: tuple[str, ...]) -> tuple[str, ...]:
    """The files of these names, the logs and the Hydra configuration, as far as they are there and not too large."""
    wanted = {*names, *top_level_logs(snapshot)}
    return tuple(
        file.path
        for file in snapshot.files
        if file.size <= MAX_RUN_FILE and (file.path in wanted or file.path.rpartition("/")[0] == ".hydra")
    )


def as_config(value: JsonValue) -> dict[str, JsonValue]:
    """A configuration must be a mapping; anything else is kept under the key ``value``."""
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"value": value}


def text_or_none(value: JsonValue) -> str | None:
    """A string that says something, or ``None``."""
    return value if isinstance(value, str) and value.strip() else None
