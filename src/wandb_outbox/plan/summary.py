"""The run's summary: counted from the results, filled up from ``metrics.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeGuard

from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import JsonValue, PlanWarning, Severity
from wandb_outbox.plan.jsonsafe import json_safe

MAX_SUMMARY = 5_000_000
"""Bytes of JSON. W&B lets a summary of 12 MB vanish whole, without a word."""
_RESERVED = frozenset({"_wandb", "_step", "_runtime", "_timestamp"})
_OURS = "outbox/"
"""What the outbox writes into a summary about the delivery itself begins so."""
_SAME = 1e-6
_TOO_LARGE = 10**300
_NAMED = 5


class ResultsSummary:
    """Counts over the samples, as the experiments' own upload script counts them.

    A sample without ``error`` is completed, steps are averaged over the samples, and validity over each sample's own
    average. Results of today say ``is_correct``, ``reasoning_steps`` and ``validity_scores``; older ones say ``label``,
    and keep steps and validity under ``metadata``. Each sample is counted by what it says itself.
    """

    def __init__(self) -> None:
        self.total = 0
        self.errors = 0
        self._flagged = 0
        self._flags = 0
        self._correct: dict[str, int] = {}
        self._incorrect: dict[str, int] = {}
        self._steps: list[float] = []
        self._validity: list[float] = []
        self._scores: list[float] = []

    def add(self, row: Mapping[str, JsonValue]) -> None:
        """Count one sample."""
        self.total += 1
        self.errors += "error" in row
        self._flags += "completed" in row
        self._flagged += bool(row.get("completed"))
        evaluations = row.get("eval")
        for name, said in evaluations.items() if isinstance(evaluations, Mapping) else ():
            if isinstance(said, Mapping):
                right = _is_correct(said)
                self._correct[name] = self._correct.get(name, 0) + right
                self._incorrect[name] = self._incorrect.get(name, 0) + (not right)
        old = row.get("metadata")
        before = old if isinstance(old, Mapping) else {}
        steps = row.get("reasoning_steps", before.get("steps"))
        if _is_number(steps):
            self._steps.append(float(steps))
        listed = row.get("validity_scores")
        scores = [float(score) for score in listed if _is_number(score)] if isinstance(listed, list) else []
        if scores:
            self._scores += scores
            self._validity.append(_mean(scores))
        elif _is_number(validity := before.get("avg_validity_score")):
            self._validity.append(float(validity))

    def values(self) -> dict[str, JsonValue]:
        """The counts by their names in the summary; shares are between 0 and 1."""
        total = self.total
        completed = total - self.errors
        found: dict[str, JsonValue] = {
            "total_samples": total,
            "completed": completed,
            "completed_pct": _share(completed, total),
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
            found["avg_steps_per_trajectory"] = _mean(self._steps)
        if self._validity:
            found["avg_validity_score"] = _mean(self._validity)
        return found

    def experiments_own(self) -> dict[str, JsonValue]:
        """What the experiment itself counts otherwise: completed by that flag, validity over all scores at once."""
        found: dict[str, JsonValue] = {}
        if self._flags:
            found |= {"completed": self._flagged, "completed_pct": _share(self._flagged, self.total)}
        if self._scores:
            found["avg_validity_score"] = _mean(self._scores)
        return found


def merged(
    counted: Mapping[str, JsonValue],
    recorded: Mapping[str, JsonValue] | None,
    recorded_in: str,
    warn: Warn,
    experiments_own: Mapping[str, JsonValue] = MappingProxyType({}),
) -> dict[str, JsonValue]:
    """The counted values, and every recorded one that was not counted. Where they disagree, the counted one wins.

    A recorded value that is one of ``experiments_own`` does not disagree: it is counted in another way.
    """
    summary = {str(key): json_safe(value) for key, value in counted.items()}
    differing: list[str] = []
    otherwise: list[str] = []
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
            known = key in experiments_own and _agree(json_safe(experiments_own[key]), safe)
            (otherwise if known else differing).append(f"{key} ({summary[key]} counted, {_brief(safe)} recorded)")
    if otherwise:
        words = f"{recorded_in} counts in its own way, the summary in that of the upload script: {', '.join(otherwise)}"
        warn(PlanWarning("metrics-counted-otherwise", Severity.NOTE, words))
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
    """Any number but an integer that no float can hold: NaN makes the whole average NaN, as it does for the script."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < _TOO_LARGE
    return isinstance(value, float)


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0


def _mean(values: Iterable[float]) -> float:
    collected = list(values)
    try:
        return math.fsum(collected) / len(collected)
    except (OverflowError, ValueError):
        # Finite numbers with an infinite sum, or infinities of both signs, which is NaN.
        return sum(collected) / len(collected)


def _agree(one: JsonValue, other: JsonValue) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME)
    return bool(one == other)


def _brief(value: JsonValue) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
