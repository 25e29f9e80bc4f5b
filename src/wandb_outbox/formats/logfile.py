"""What an experiment's log says about its end, read from both ends of the file.

A line of Hydra's log is ``[2026-11-21 19:04:58,031][__main__][INFO] - text``. A resumed run appends to the same log;
each session is a *segment* that begins with a ``Host:`` line. Only the last segment speaks of the end.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from wandb_outbox.folder import open_file, read_tail
from wandb_outbox.formats.content import SampleRange
from wandb_outbox.model import Snapshot

HEAD = 64 * 1024
TAIL = 256 * 1024
STDERR_TAIL = 64 * 1024

STDERR = "stderr.log"
CONSOLE_LINES = 20_000
"""Lines of a log that are shown: as many of its beginning as of its end."""
CONSOLE_WIDTH = 4000
_LONG_LINE = 64 * 1024
# All but tabs and the escapes of colours, which W&B shows as such.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f\x80-\x9f\u2028\u2029]")

_LINE = re.compile(r"(?P<head>[\[\d][^\n]{0,200}?) - (?P<text>.*)")
_TIMESTAMP = re.compile(r"\[?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")
_PHASE_BEGINS = re.compile(r"Starting (?P<whole>(?P<phase>\w+)[\w ]*)\.\.\.")
_PHASE_ENDS = re.compile(r"(?P<phase>\w+)[\w ]* completed successfully")
_JOB_ENDED_BADLY = re.compile(r"Job (?:interrupted|failed)\b.*")
_RANGE = re.compile(r"Dataset: using samples (\d{1,12}) to (\d{1,12}) \((\d{1,12}) samples\)")
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\s*$", re.MULTILINE)
_MAX_MESSAGE_LINES = 20


@dataclass(frozen=True, slots=True)
class LogReading:
    """What the last segment of a log says. ``segments`` counts the segments that were seen."""

    segments: int = 0
    open_phases: tuple[str, ...] = ()
    closed_phases: tuple[str, ...] = ()
    ended_badly: str | None = None
    generation_failed: bool = False
    sample_range: SampleRange | None = None
    commands: tuple[str, ...] = ()
    whole: bool = True
    """The whole log was read, not only its two ends."""
    mtime_ns: int = 0
    traceback: str | None = None
    """The exception of the traceback that the log ends with."""


def read_log(path: str, snapshot: Snapshot, name: str) -> LogReading | None:
    """Read both ends of a log; ``None`` when it is not there.

    A log can have hundreds of MB, so only its first 64 and last 256 KB are read. Missed is what stands only between
    them: that a run was resumed there, a ``generation failed`` early in a long last segment, and a phase that began
    there. The last is made good from the head: a phase that began in the head counts as open until something in the
    tail says otherwise, for a run whose last segment ended well says so in its very last lines.
    """
    stat = snapshot.file(name)
    if stat is None:
        return None
    whole = stat.size <= HEAD + TAIL
    if whole:
        head, tail = "", read_tail(path, name, HEAD + TAIL).decode("utf-8", "replace")
    else:
        head = read_head(path, name, HEAD).decode("utf-8", "replace")
        # The first line of the tail is a piece of a line.
        tail = read_tail(path, name, TAIL).decode("utf-8", "replace").partition("\n")[2]
    reading = _Reading()
    for who, text in _messages(head):
        reading.take(who, text)
    if not whole:
        reading.gap()
    for who, text in _messages(tail):
        reading.take(who, text)
    return LogReading(
        segments=reading.segments,
        open_phases=tuple(reading.open.values()),
        closed_phases=tuple(reading.closed),
        ended_badly=reading.ended_badly,
        generation_failed=reading.generation_failed,
        sample_range=reading.sample_range,
        commands=tuple(reading.commands),
        whole=whole,
        mtime_ns=stat.mtime_ns,
        traceback=final_traceback(tail),
    )


def read_head(path: str, name: str, size: int) -> bytes:
    """The first ``size`` bytes of a file of the folder. Raises as :func:`wandb_outbox.folder.open_file`."""
    with open_file(path, name) as file:
        return file.read(size)


def logged_traceback(path: str, snapshot: Snapshot, limit: int = 8) -> str | None:
    """The first of the folder's own logs that ends with a Python traceback, as a sentence part."""
    for name in top_level_logs(snapshot)[:limit]:
        exception = final_traceback(read_tail(path, name, STDERR_TAIL).decode("utf-8", "replace"))
        if exception is not None:
            return f"{name} ends with a traceback: {exception}"
    return None


def top_level_logs(snapshot: Snapshot) -> tuple[str, ...]:
    """The ``*.log`` files that lie in the folder itself."""
    return tuple(file.path for file in snapshot.files if file.path.endswith(".log") and "/" not in file.path)


def main_log(snapshot: Snapshot) -> str | None:
    """The log that tells of the experiment: the largest one that lies in the folder itself, and rather not ``stderr.log``."""
    names = set(top_level_logs(snapshot))
    logs = [file for file in snapshot.files if file.path in names and file.size]
    return max(logs, key=lambda file: (file.path != STDERR, file.size, file.path)).path if logs else None


def console_lines(path: str, name: str) -> tuple[list[str], int]:
    """The lines of a log as a terminal would show them, and how many were left out of its middle.

    Of a line that a progress bar wrote over itself the last state counts; a very long one is cut; empty ones at the end
    do not count: W&B shows none before something stands below. Raises ``FolderChanged`` or ``FolderUnreadable``.
    """
    head: list[bytes] = []
    tail: deque[bytes] = deque(maxlen=CONSOLE_LINES // 2)
    count = 0
    with open_file(path, name) as file:
        while line := file.readline(_LONG_LINE):
            rest = line
            while not rest.endswith(b"\n") and (rest := file.readline(_LONG_LINE)):
                if b"\r" in rest:
                    line = rest
            (head if count < CONSOLE_LINES // 2 else tail).append(
                # Only what is shown is worth decoding; a long line would take room until then.
                line if len(line) <= CONSOLE_WIDTH else _shown_line(line).encode()
            )
            count += 1
    left_out = count - len(head) - len(tail)
    gap = [f"[... {left_out} lines are left out here; the whole log is in the artifact]"] if left_out else []
    lines = [*map(_shown_line, head), *gap, *map(_shown_line, tail)]
    while lines and not lines[-1].strip():
        del lines[-1]
    return lines, left_out


def _shown_line(line: bytes) -> str:
    text = line.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
    text = _CONTROL.sub(" ", text)
    return text if len(text) <= CONSOLE_WIDTH else text[: CONSOLE_WIDTH - 1] + "…"


def final_traceback(text: str) -> str | None:
    """The exception line of the Python traceback that ``text`` ends with, shortened; ``None`` if it does not.

    A traceback that was logged and survived has log lines or progress bars after it. ``Exception ignored in`` is
    Python's own remark while it shuts down, and no failure.
    """
    found = None
    for found in _TRACEBACK.finditer(text):  # noqa: B007  the last one is wanted
        pass
    if found is None:
        return None
    before = text[: found.start()].rstrip("\n").rpartition("\n")[2]
    if before.startswith("Exception ignored in"):
        return None
    lines = [line for line in text[found.end() :].split("\n") if line.strip()]
    frames = 0
    while frames < len(lines) and lines[frames][:1].isspace():
        frames += 1
    rest = lines[frames:]
    if not rest:
        return "cut off in the middle"
    if len(rest) > _MAX_MESSAGE_LINES or any(_went_on(line) for line in rest):
        return None
    exception = rest[0].strip()
    return exception if len(exception) <= 200 else exception[:199] + "…"


def first_timestamp(path: str, snapshot: Snapshot, name: str) -> float | None:
    """The time of the log's first line. The log names no time zone: it is the local time of this machine."""
    if snapshot.file(name) is None:
        return None
    for line in read_head(path, name, 4096).decode("utf-8", "replace").split("\n"):
        found = _TIMESTAMP.match(line)
        if found:
            return local_time(f"{found[1]} {found[2]}")
    return None


def local_time(text: str) -> float | None:
    """Seconds since the epoch of ``YYYY-MM-DD HH:MM:SS`` in local time; ``None`` if there is no such time."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").timestamp()  # noqa: DTZ007  the log names no zone
    except (ValueError, OverflowError, OSError):
        return None


class _Reading:
    """Follows a log message by message; everything but the count of segments is of the last segment."""

    def __init__(self) -> None:
        self.segments = 0
        self.commands: list[str] = []
        self._reset()
        self._before_gap = False

    def _reset(self) -> None:
        self.open: dict[str, str] = {}
        self.closed: dict[str, None] = {}
        self.ended_badly: str | None = None
        self.generation_failed = False
        self.sample_range: SampleRange | None = None

    def gap(self) -> None:
        self._before_gap = True

    def take(self, who: str, text: str) -> None:
        if text.startswith("Host: "):
            self.segments += 1
            self._reset()
            self._before_gap = False
        elif text.startswith("Command: "):
            self.commands.append(text)
        elif "generation failed" in text:
            self.generation_failed = True
        elif found := _RANGE.match(text):
            self.sample_range = SampleRange(int(found[1]), int(found[2]), int(found[3]))
        elif found := _JOB_ENDED_BADLY.match(text):
            self.ended_badly = found[0][:200]
        elif (begins := _PHASE_BEGINS.fullmatch(text)) and _is_main(who):
            self._forget_before_gap()
            self.open[begins["phase"].lower()] = begins["whole"]
        elif (ends := _PHASE_ENDS.fullmatch(text)) and _is_main(who):
            self._forget_before_gap()
            phase = ends["phase"].lower()
            self.open.pop(phase, None)
            self.closed[phase] = None

    def _forget_before_gap(self) -> None:
        """Phases follow one another: a later one speaks of the end of those that began before the gap."""
        if self._before_gap:
            self.open.clear()
            self._before_gap = False


def _messages(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        found = _LINE.match(line)
        if found:
            yield found["head"], found["text"].strip()


def _is_main(who: str) -> bool:
    """Libraries log ``Starting ...`` as they like; the experiment's phases are the main script's."""
    return "[__main__]" in who or "][" not in who


def _went_on(line: str) -> bool:
    return bool(_TIMESTAMP.match(line)) or "%|" in line or "\r" in line
