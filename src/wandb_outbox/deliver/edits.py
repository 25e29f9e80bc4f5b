"""What people change about a run on the server stays when the folder is delivered again. Pure.

Of each thing that a run says of itself there are three: what was sent last, what the server shows, and what is to be sent
now. Where the first two differ, somebody changed it there, and that stays, unless the plan by now says something new. Keys
of summary and configuration that were never ours are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from wandb_outbox.deliver.readback import KEYS, MISSING_INPUTS, own_keys, texts
from wandb_outbox.model import JsonValue, Plan

SAID = "said"
"""In what was delivered: what the run was told of itself."""
CONFIG = "config"
"""In what was said: the keys of the configuration."""
TAGS = "tags"
WORDS = ("name", "group", "job_type", "notes")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server shows of a run."""

    name: str | None
    group: str | None
    job_type: str | None
    notes: str | None
    tags: tuple[str, ...]


def ours(plan: Plan, before: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What of the run is ours when this plan is sent after what was noted ``before``; it is noted there itself."""
    config = {*plan.config, *texts(_said(before).get(CONFIG))}
    words: dict[str, JsonValue] = {word: getattr(plan, word) for word in WORDS}
    return {
        SAID: {**words, TAGS: list(plan.tags), CONFIG: sorted(config)},
        KEYS: sorted({*own_keys(plan), *texts(before.get(KEYS))}),
    }


def with_edits(plan: Plan, shown: Shown, before: Mapping[str, JsonValue]) -> Plan:
    """The plan with what people changed since ``before`` was noted; without a note it is unknown who said what."""
    said = _said(before)
    if not said:
        return plan
    for word in WORDS:
        there = getattr(shown, word)
        if there and said.get(word) == getattr(plan, word) != there:
            plan = replace(plan, **{word: there})
    last = texts(said.get(TAGS))
    taken_away = last - set(shown.tags)
    kept = (tag for tag in plan.tags if tag not in taken_away)
    added = (tag for tag in shown.tags if tag not in last)
    return replace(plan, tags=tuple(dict.fromkeys((*kept, *added))))


def stale_config(config: Iterable[str], plan: Plan, before: Mapping[str, JsonValue]) -> list[str]:
    """Keys of the configuration that an earlier delivery left and this plan does not have."""
    sent = texts(_said(before).get(CONFIG))
    return sorted(key for key in config if key in sent and key not in plan.config)


def stale_keys(summary: Iterable[str], plan: Plan, before: Mapping[str, JsonValue]) -> list[str]:
    """Summary keys that an earlier delivery left and this plan does not have."""
    sent = {*texts(before.get(KEYS)), MISSING_INPUTS}
    return sorted(key for key in summary if key in sent and key not in own_keys(plan))


def _said(before: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    said = before.get(SAID)
    return said if isinstance(said, Mapping) else {}
