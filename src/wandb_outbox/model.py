"""The words of the project as values: states, verdicts, snapshots, plans, receipts.

This module does nothing, and imports nothing of ours but the words of a row, which are its own, too: every other room
speaks in these types. Times are seconds since the epoch as ``float``; sizes are bytes; paths are ``str`` as
:func:`os.fsdecode` gives them, so that names that are not UTF-8 survive a round trip.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from wandb_outbox.row import (
    LINGERS,
    OLDER,
    STATE_MEANINGS,
    TRANSITIONS,
    Kind,
    Overrides,
    Run,
    State,
    Verdict,
    run_id,
)

__all__ = [
    "LINGERS", "OLDER", "STATE_MEANINGS", "TRANSITIONS", "Kind", "Overrides", "Run", "State", "Verdict", "run_id",
]  # fmt: skip

JsonValue = Any
"""A value that JSON can hold. ``Any``, because a recursive alias buys no safety at this price."""


class Writers(StrEnum):
    """Whether any process has a file of the folder open for writing."""

    WRITER = "writer"
    FREE = "free"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How bad a plan's warning is. ``error`` makes ``plan --strict`` exit with 1."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class FileStat:
    """One regular file of a run folder. ``path`` is relative to the folder, with ``/``."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Excluded:
    """Something in the folder that is not uploaded, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run folder at one moment: what would be uploaded, and what would not.

    ``birth`` is ``"{inode}:{birth time in ns or 0}"`` of the folder itself. ``newest_ctime_ns`` is the newest
    ctime of the folder, its subfolders and its files, uploaded or not, except below ``wandb/``.
    ``watched`` are excluded files that still count as evidence of a writer (logs left out, ``wandb/``).
    """

    files: tuple[FileStat, ...]
    excluded: tuple[Excluded, ...]
    birth: str
    newest_ctime_ns: int
    directories: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    mtime_ns: int = 0
    """Of the folder itself: changes when an entry of it comes or goes."""
    logs: tuple[FileStat, ...] = ()
    """The transaction logs of runs that used wandb themselves, below ``wandb/``: never part of the artifact."""

    @property
    def offline(self) -> tuple[FileStat, ...]:
        """The logs of offline runs: what they hold is sent by replaying them."""
        return tuple(log for log in self.logs if log.path.split("/")[-2].startswith("offline-run-"))

    @property
    def live(self) -> tuple[FileStat, ...]:
        """The logs of runs that were logged to a server while they ran."""
        return tuple(log for log in self.logs if log.path.split("/")[-2].startswith("run-"))

    @property
    def bytes(self) -> int:
        """Sum of the sizes of the files that would be uploaded."""
        return sum(file.size for file in self.files)

    @property
    def fingerprint(self) -> str:
        """Hash over (relative path, size, mtime_ns) of the files that would be uploaded, or replayed."""
        return fingerprint((*self.files, *self.offline))

    def same_bytes_as(self, other: Snapshot) -> bool:
        """Whether nothing was written between the two: also compares ctime and inode.

        The fingerprint alone would miss a writer that puts the mtime back (``rsync -t``, ``tar``).
        """
        return self.files == other.files and self.offline == other.offline

    def file(self, path: str) -> FileStat | None:
        """The file with this relative path, if it would be uploaded."""
        return next((file for file in self.files if file.path == path), None)


def fingerprint(files: Iterable[FileStat]) -> str:
    """Hash over (relative path, size, mtime_ns), independent of the order of ``files``; 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(files, key=lambda file: os.fsencode(file.path)):
        digest.update(os.fsencode(file.path) + b"\0%d\0%d\n" % (file.size, file.mtime_ns))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class FormatEvidence:
    """What a format reads in a folder about its end. Each text is a reason for a person, or ``None``.

    ``done``: something in the folder says that the experiment ended well. ``failed``: something says that it
    did not. ``incomplete``: it ended well, but not all of it is there. ``nothing_to_show``: there is no
    result at all, so that a crashed run has nothing worth delivering.
    """

    done: str | None = None
    failed: str | None = None
    incomplete: str | None = None
    nothing_to_show: bool = False


@dataclass(frozen=True, slots=True)
class WriterEvidence:
    """What the probes say about open files. ``detail`` is for a person (which file, which process)."""

    writers: Writers
    detail: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason, and in how many seconds it is worth looking again (``None``: at the next sighting)."""

    verdict: Verdict
    reason: str
    look_again_in: float | None = None
    outcome: str = "unknown"
    """``"ok"``, ``"crashed"``, ``"incomplete"`` or ``"unknown"``: how the experiment ended."""


@dataclass(frozen=True, slots=True)
class RootRules:
    """What the configuration says for every run folder below one root."""

    convention: str = "auto"
    entity: str | None = None
    project: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] = ()
    definition: dict[str, JsonValue] | None = None
    """The table of the convention, when it is one that the configuration defines."""
    log_model: str = "none"
    """Which weights are sent, as an artifact of type ``model``: ``"none"``, ``"best"`` or ``"end"``."""
    media: tuple[str, ...] = ()
    """Patterns for the files that are shown as pictures, sound, plots and tables."""
    strict: bool = False
    """A run whose plan has an error is not sent."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """Everything a plan depends on besides the folder's own files.

    ``path`` is the folder's real path; ``root`` the watched root above it, or ``None`` for a folder given by
    hand outside every root. ``outcome`` is :attr:`Judgement.outcome`; ``reason`` its words.
    """

    path: str
    root: str | None
    format: str
    run_id: str
    site: str
    incarnation: int = 0
    revision: int = 0
    verdict: str = Verdict.COMPLETE.value
    outcome: str = "unknown"
    reason: str = ""
    overrides: Overrides = field(default_factory=Overrides)
    rules: RootRules = field(default_factory=RootRules)
    default_entity: str | None = None
    fixed_id: bool = False
    """The server may know ``run_id`` already: an id that an offline run recorded does not replace it."""
    host: str | None = None
    """The host name to record in the run's config, or ``None`` (the default) to record none."""
    unit: str | None = None
    """Which of several runs in the folder this is about (a timestamp of lm-eval); ``None``: the newest."""
    own_run: bool = False
    """The folder gets a run of its own, although it logged one itself while it ran."""


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """One broken rule, or something worth knowing, in a plan."""

    rule: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class PlannedTable:
    """A table for ``run.summary[name]``: every cell is ``str``, ``int``, ``float``, ``bool`` or ``None``."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    total_rows: int
    """How many rows the source had; more than ``len(rows)`` when the table was cut."""


@dataclass(frozen=True, slots=True)
class PlannedMedia:
    """A file that is shown: under which key of the summary, as which kind, and its name among the run's files.

    ``kind`` is ``image``, ``audio``, ``video`` or ``plotly``; ``value`` is what stands in the summary.
    """

    key: str
    kind: str
    file: FileStat
    name: str
    value: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class PlannedArtifact:
    """An artifact: its name and type, and the relative paths of the files it holds."""

    name: str
    type: str
    description: str
    metadata: dict[str, JsonValue]
    aliases: tuple[str, ...]
    files: tuple[FileStat, ...]
    below: str = ""
    """A directory of the folder, with its ``/``: the files are named in the artifact as they are below it."""

    @property
    def bytes(self) -> int:
        """Sum of the sizes of its files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that an offline run saved by a link to it: its name among the run files, and where it lies below ``top``."""

    name: str
    top: str
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Replay:
    """One transaction log that is replayed into the run: a run has several when it was resumed.

    ``directory`` is the offline run's own, ``log`` the log's name in it. ``files`` are the run files that lie in its
    ``files/``, relative to there; ``saved`` those that only a link there points to. ``exit_code`` is ``None`` when the
    log says nothing of the run's end.
    """

    directory: str
    log: str
    run_id: str
    rows: int
    artifacts: tuple[str, ...]
    files: tuple[FileStat, ...]
    saved: tuple[SavedFile, ...]
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class ExistingRun:
    """A run that is on the server already, made by the experiment itself, and that the folder is attached to.

    ``entity``, ``project`` and ``name`` are what its log says of it; ``problem`` is why the log says too little.
    """

    run_id: str
    entity: str | None
    project: str | None
    name: str | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will be sent, decided before anything is sent.

    ``history`` rows carry their explicit step under ``"_step"``. ``sources`` says for each decided field where
    its value came from. ``started_at`` and ``ended_at`` are the experiment's, not the upload's.
    """

    path: str
    format: str
    kind: Kind
    convention: str
    verdict: str
    reason: str
    entity: str | None
    project: str
    name: str
    group: str | None
    job_type: str | None
    tags: tuple[str, ...]
    notes: str | None
    run_id: str
    config: dict[str, JsonValue]
    summary: dict[str, JsonValue]
    history: tuple[dict[str, JsonValue], ...]
    tables: tuple[PlannedTable, ...]
    artifacts: tuple[PlannedArtifact, ...]
    inputs: tuple[str, ...]
    run_files: tuple[str, ...]
    excluded: tuple[Excluded, ...]
    sources: dict[str, str]
    warnings: tuple[PlanWarning, ...]
    exit_code: int
    started_at: float | None
    ended_at: float | None
    fingerprint: str
    """Of the snapshot that the plan was made from."""
    media: tuple[PlannedMedia, ...] = ()
    log: str | None = None
    """The log, among the run files, whose lines are shown as what the run printed."""
    axes: dict[str, str] = field(default_factory=dict)
    """By the name of a metric of the history: the metric that it is drawn over, where that is not the step."""
    upload: str | None = None
    """What the folder itself asks for: ``"hold"``, ``"never"`` or nothing."""
    replays: tuple[Replay, ...] = ()
    """The offline run that this one is, oldest part first; then ``history`` holds its rows."""
    panels: Mapping[str, JsonValue] = field(default_factory=dict)
    """By name, the charts that the offline run made itself, as the SDK keeps them."""
    others: tuple[str, ...] = ()
    """Directories of further offline runs in the folder: each is delivered first, as a run of its own."""
    unit: str | None = None
    """Which of several runs in the folder this is, where the format knows more than one."""
    units: tuple[str, ...] = ()
    """The folder's other runs: each is delivered first, as a run of its own."""
    attach: ExistingRun | None = None
    """The run that this is attached to: its name, history and configuration there stay as they are."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the server confirmed, by reading it back."""

    run_id: str
    entity: str
    project: str
    name: str
    url: str
    artifact: str
    """``name:vN`` of the artifact of the whole folder; empty for an offline run with no folder around it."""
    digest: str
    files: int
    bytes: int
    fingerprint: str
    incarnation: int
    warnings: tuple[str, ...] = ()
