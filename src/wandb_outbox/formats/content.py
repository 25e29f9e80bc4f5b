"""What is read from a run folder, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from wandb_outbox.model import JsonValue, PlanWarning, Severity

Warn = Callable[[PlanWarning], None]
"""Takes a warning that only shows while a file is being read."""


class Samples(Protocol):
    """The per-sample results of a run, read as a stream: they may be larger than memory."""

    @property
    def name(self) -> str:
        """The file they are in."""
        ...

    def rows(self, warn: Warn) -> Iterator[dict[str, JsonValue]]:
        """Every sample that can be read, in the order of the file.

        What cannot be read is told to ``warn`` and left out. Raises ``FolderChanged`` or ``FolderUnreadable``.
        """
        ...


@dataclass(frozen=True, slots=True)
class SamplesTable:
    """Per-sample results that make a table of their own, besides those that the summary is counted from."""

    table: str
    samples: Samples


@dataclass(frozen=True, slots=True)
class SampleRange:
    """Which samples of its dataset a run set out to do: ``first`` to ``last``, both included."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a run folder.

    ``config`` is the experiment's own configuration as it stands there, interpolations unresolved, and may hold
    secrets. ``project`` and ``group`` are what the experiment itself recorded for W&B. ``history`` rows carry their
    step under ``"_step"``. ``commands`` are the command lines in the log. Times are seconds since the epoch.
    """

    config: dict[str, JsonValue] = field(default_factory=dict)
    config_file: str | None = None
    metrics: dict[str, JsonValue] | None = None
    metrics_file: str | None = None
    samples: Samples | None = None
    tables: tuple[SamplesTable, ...] = ()
    history: tuple[dict[str, JsonValue], ...] = ()
    project: str | None = None
    group: str | None = None
    overrides: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    sample_range: SampleRange | None = None
    settings: dict[str, JsonValue] = field(default_factory=dict)
    """The launcher's own configuration: never sent as such, but it may hold secrets."""
    sweep: bool = False
    """It is one job of a sweep: its siblings belong into one group with it."""
    started_at: float | None = None
    ended_at: float | None = None
    run_files: tuple[str, ...] = ()
    warnings: tuple[PlanWarning, ...] = ()


def warning(rule: str, message: str) -> PlanWarning:
    """A warning of the usual severity."""
    return PlanWarning(rule, Severity.WARNING, message)
