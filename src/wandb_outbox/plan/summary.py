"""The run's summary: counted from the results, filled up from ``metrics.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import JsonValue
from wandb_outbox.plan.jsonsafe import json_safe

MAX_SUMMARY = 5_000_000
"""Bytes of JSON. W&B lets a summary of 12 MB vanish whole, without a word."""
_RESERVED = frozenset({"_wandb", "_step", "_runtime", "_timestamp"})
_OURS = "outbox/"
"""What the outbox writes into a summary about the delivery itself begins so."""
_SAME = 1e-6
_NAMED = 5


class ResultsSummary:
    """Counts over the samples, as the experiments' own upload script counts them.

    Results of today say ``completed`` and ``is_correct``; older ones say ``error`` and ``label``, and keep steps and
    validity under ``metadata``. Each sample is counted by what it says itself.
    """

    def __init__(self) -> None:
        self.total = 0
        self.completed = 0
        self.errors = 0
        self._correct: dict[str, int] = {}
        self._incorrect: dict[str, int] = {}
        self._steps: list[float] = []
        self._old_steps: list[float] = []
        self._validity: list[float] = []
        self._old_validity: list[float] = []

    def add(self, row: Mapping[str, JsonValue]) -> None:
        """Count one sample."""
        self.total += 1
        failed = "error" in row
        self.errors += failed
        self.completed += bool(row["completed"]) if "completed" in row else not failed
        evaluations = row.get("eval")
        for name, said in evaluations.items() if isinstance(evaluations, Mapping) else ():
            if isinstance(said, Mapping):
                right = _is_correct(said)
                self._correct[name] = self._correct.get(name, 0) + right
                self._incorrect[name] = self._incorrect.get(name, 0) + (not right)
        scores = row.get("validity_scores")
        valid = [score for score in scores if _is_number(score)] if isinstance(scores, list) else []
        if valid:
            self._validity.extend(valid)
            steps = row.get("steps")
            count = row.get("reasoning_steps", len(steps) if isinstance(steps, list) else None)
            if _is_number(count):
                self._steps.append(float(count))
        old = row.get("metadata")
        if isinstance(old, Mapping):
            for key, values in (("steps", self._old_steps), ("avg_validity_score", self._old_validity)):
                if _is_number(old.get(key)):
                    values.append(float(old[key]))

    def values(self) -> dict[str, JsonValue]:
        """The counts by their names in the summary; shares are between 0 and 1."""
        total = self.total
        found: dict[str, JsonValue] = {
            "total_samples": total,
            "completed": self.completed,
            "completed_pct": _share(self.completed, total),
            "errors": self.errors,
            "errors_pct": _share(self.errors, total),
        }
        for name, correct in self._correct.items():
            incorrect = self._incorrect[name]
            found[f"{name}/correct"] = correct
            found[f"{name}/correct_pct"] = _share(correct, total)
            found[f"{name}/incorrect"] = incorrect
            found[f"{name}/incorrect_pct"] = _share(incorrect, total)
            found[f"{name}/accuracy"] = _share(correct, total)
        if self._steps:
            found["avg_reasoning_steps_per_trajectory"] = _mean(self._steps)
        if self._steps or self._old_steps:
            found["avg_steps_per_trajectory"] = _mean(self._old_steps or self._steps)
        if self._validity or self._old_validity:
            found["avg_validity_score"] = _mean(self._old_validity or self._validity)
        return found


def merged(
    counted: Mapping[str, JsonValue], recorded: Mapping[str, JsonValue] | None, recorded_in: str, warn: Warn
) -> dict[str, JsonValue]:
    """The counted values, and every recorded one that was not counted. Where they disagree, the counted one wins."""
    summary = {str(key): json_safe(value) for key, value in counted.items()}
    differing: list[str] = []
    for name, value in (recorded or {}).items():
        key = json_safe(name)
        if is_reserved(key):
            owner = "W&B keeps for itself" if key in _RESERVED else "the outbox keeps for what it says of a delivery"
            warn(warning("reserved-key", f"{recorded_in} has the key {key}, which {owner}; it is left out"))
            continue
        safe = json_safe(value)
        if key not in summary:
            summary[key] = safe
        elif not _agree(summary[key], safe):
            differing.append(f"{key} ({summary[key]} counted, {_brief(safe)} recorded)")
    if differing:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        named = ", ".join(differing[:_NAMED])
        message = f"{recorded_in} does not agree with what the results say: {named}{more}; the results win"
        warn(warning("metrics-disagree", message))
    return summary


def is_reserved(key: str) -> bool:
    """Whether W&B, or the outbox itself, writes under this key."""
    return key in _RESERVED or key.startswith(_OURS)


def within_limit(
    summary: dict[str, JsonValue], warn: Warn, limit: int = MAX_SUMMARY, what: str = "summary"
) -> dict[str, JsonValue]:
    """A mapping without its largest values, if all of it is more than ``limit`` bytes of JSON."""
    sizes = {key: len(json.dumps([key, value])) for key, value in summary.items()}
    total = sum(sizes.values())
    dropped: list[str] = []
    for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
        if total <= limit:
            break
        total -= sizes[key]
        dropped.append(key)
    if not dropped:
        return summary
    named = ", ".join(_brief(key) for key in dropped[: 2 * _NAMED])
    message = f"the {what} has more than {limit:,} bytes; left out, largest first: {named} ({len(dropped)} values)"
    warn(warning(f"{what}-too-large", message))
    gone = set(dropped)
    return {key: value for key, value in summary.items() if key not in gone}


def _is_correct(said: Mapping[str, JsonValue]) -> bool:
    if "is_correct" in said:
        return bool(said["is_correct"])
    label = said.get("label")
    return label == "Correct" or (_is_number(label) and label == 1)


def _is_number(value: Any) -> TypeGuard[int | float]:
    """A finite number of a size that can be summed."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0


def _mean(values: Iterable[float]) -> float:
    collected = list(values)
    return math.fsum(collected) / len(collected)


def _agree(one: JsonValue, other: JsonValue) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME)
    return bool(one == other)


def _brief(value: JsonValue) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
