"""What a convention may look at, and what it proposes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wandb_outbox.formats import Declaration
from wandb_outbox.formats.content import SampleRange, Warn
from wandb_outbox.formats.offline_run import OfflineRun
from wandb_outbox.formats.transaction_log import RecordedRun
from wandb_outbox.model import JsonValue, Overrides, RootRules

PLAIN = "plain"
NO_PROJECT = "uncategorized"
"""What the SDK calls the project of a run that names none."""

_JOB_TYPES = {"hf-trainer": "train", "lm-eval": "eval"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ONLY_A_TIME_OR_NUMBER = re.compile(r"\d+|\d{4}-\d\d-\d\d|\d\d-\d\d-\d\d|\d{4}-\d\d-\d\d[_T]\d\d-\d\d-\d\d(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a convention may look at. ``below_root`` are the parts of the path below the root."""

    config: Mapping[str, JsonValue]
    below_root: tuple[str, ...]
    format: str
    root: str | None = None
    root_date: str | None = None
    """The date in the path of the root, for a root such as ``outputs/2025-12-03``."""
    parent: str | None = None
    config_file: str | None = None
    recorded_project: str | None = None
    recorded_group: str | None = None
    sample_range: SampleRange | None = None
    sweep: bool = False
    started_on: str | None = None
    """The day the experiment began, ``YYYY-MM-DD``."""
    started_at: str | None = None
    """The moment, in UTC, as ``2025-12-13T07-30-22Z``."""
    rules: RootRules = field(default_factory=RootRules)
    overrides: Overrides = field(default_factory=Overrides)
    default_entity: str | None = None
    declared: Declaration = field(default_factory=Declaration)
    """What the folder's ``outbox.yaml`` says."""
    offline_run: RecordedRun | None = None
    """The run that the folder's offline run recorded, which the folder goes to."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a convention alone would say; each text comes with its source."""

    project: tuple[str, str]
    name: tuple[str, str]
    job_type: tuple[str, str] | None
    tags: tuple[tuple[str, ...], str]
    artifact_type: str
    group: tuple[str, str] | None = None
    artifact: tuple[str, str] | None = None
    """Where the convention has no word of its own: see :func:`artifact_name`."""
    tag_categories: tuple[tuple[str, str], ...] = ()
    """The tags that people filter by, each with its category."""
    nested: bool = False
    """The configuration is sent as ``{"params": ..., "meta": ...}``."""


Propose = Callable[[Facts, Warn], Proposal]
"""A convention: from facts to a proposal. It warns of what it misses, and never raises."""


def parts_below(path: str, root: str | None) -> tuple[str, ...]:
    """The parts of the path below its root; without a root from its date on, or else its last part."""
    parts = [part for part in path.split("/") if part]
    if root is not None:
        above = [part for part in root.split("/") if part]
        if parts[: len(above)] == above and len(parts) > len(above):
            return tuple(parts[len(above) :])
    dates = [place for place, part in enumerate(parts) if _DATE.fullmatch(part)]
    return tuple(parts[dates[-1] :] if dates else parts[-1:])


def date_in(path: str) -> str | None:
    """The last part of a path that is a date."""
    return next((part for part in reversed(path.split("/")) if _DATE.fullmatch(part)), None)


def folder_name(facts: Facts) -> str:
    """The last part of the path, with those above it as long as it is no more than a number or a time."""
    parts = list(facts.below_root)
    name = [parts.pop()] if parts else [PLAIN]
    while parts and _ONLY_A_TIME_OR_NUMBER.fullmatch(name[0]):
        name.insert(0, parts.pop())
    return "-".join(name)


def artifact_name(facts: Facts) -> tuple[str, str]:
    """``outputs-{YYYY-MM-DD}-{run_name}``, not yet fitted, and its source.

    ``run_name`` is every part of the path below the date: the last part alone (``seed42_19-04-48``) stands under many
    strategies on one day, and would mix their versions.
    """
    name = "-".join(part for part in ("outputs", date_of(facts), *parts_from_date(facts)) if part)
    if any(_DATE.fullmatch(part) for part in facts.below_root):
        return name, "the folder's path, from its date"
    if facts.root_date is not None:
        return name, "the folder's path, with the date in its root"
    if facts.started_on is not None:
        return name, "the folder's path, with the day the experiment began"
    return name, "the folder's path"


def date_of(facts: Facts) -> str | None:
    """The date in the path, in its root, or else the day the experiment began."""
    return date_in("/".join(facts.below_root)) or facts.root_date or facts.started_on


def parts_from_date(facts: Facts) -> tuple[str, ...]:
    """The parts of the path behind its last date, also where that stands in the root's own path; or all below the root."""
    parts = facts.below_root
    if facts.root is not None and not any(_DATE.fullmatch(part) for part in parts) and facts.root_date is not None:
        parts = (*(part for part in facts.root.split("/") if part), *parts)
    dates = [place for place, part in enumerate(parts) if _DATE.fullmatch(part)]
    return parts[dates[-1] + 1 :] if dates else parts


def project_of_place(facts: Facts) -> str:
    """A project for runs that name none: by their root, or else by the folder above them."""
    if facts.format == OfflineRun.name:
        return NO_PROJECT  # where the SDK itself puts a run that names no project
    place = os.path.basename(facts.root.rstrip("/")) if facts.root else facts.parent
    return f"wandb-outbox-{place or 'runs'}"


def job_type_of_format(facts: Facts) -> str | None:
    """What the tool that wrote the folder does, as far as it does one thing."""
    return _JOB_TYPES.get(facts.format)
