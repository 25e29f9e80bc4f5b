"""What was planned against what the server gives back: pure comparisons."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wandb_outbox.model import JsonValue, Plan

DELIVERED = "outbox/delivered"
"""The summary key that is written last: its presence means that everything before it was read back."""
KEYS = "keys"
"""In what was delivered: the summary keys that are ours."""
LOG = "log"
"""In what was delivered: the :func:`log_record` of the lines that the run shows as its output."""
MISSING_INPUTS = "outbox/missing_inputs"
"""The summary key for inputs that the run names and the server does not have."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A run and its artifact as the server has them."""

    state: str
    config: Mapping[str, JsonValue]
    summary: Mapping[str, JsonValue]
    history_rows: int
    axes: Mapping[str, str]
    files: Mapping[str, int]
    tags: frozenset[str]
    name: str
    artifact_state: str
    artifact_files: int
    artifact_bytes: int
    panels: Mapping[str, JsonValue] = field(default_factory=dict)


def differences(seen: Seen, plan: Plan, *, history_rows: int, sizes: Mapping[str, int]) -> list[str]:
    """Every difference in words; an empty list means that the server has all of it but perhaps the log.

    ``sizes`` are the planned artifact's files; ``history_rows`` is how many rows the run should have by now.
    """
    found: list[str] = []
    wanted_state = "finished" if plan.exit_code == 0 else "failed"
    if plan.attach is None and seen.state != wanted_state:
        found.append(f"the run is {seen.state}, not {wanted_state}")
    if seen.name != plan.name:
        found.append(f"the run is called {seen.name!r}, not {plan.name!r}")
    if not set(plan.tags) <= seen.tags:
        found.append(f"tags are missing: {', '.join(sorted(set(plan.tags) - seen.tags))}")
    found += [f"config {key} differs" for key in plan.config if not same(plan.config[key], seen.config.get(key))]
    found += [f"summary {key} differs" for key, value in plan.summary.items() if not same(value, seen.summary.get(key))]
    for table in plan.tables:
        there = seen.summary.get(table.name)
        if not isinstance(there, dict) or there.get("nrows") != len(table.rows):
            found.append(f"table {table.name} is not there with its {len(table.rows)} rows")
        elif seen.files.get(str(there.get("path"))) != there.get("size"):
            found.append(f"the file of table {table.name} is not there with its {there.get('size')} bytes")
    if seen.history_rows != history_rows:
        found.append(f"the history has {seen.history_rows} rows, not {history_rows}")
    found += [
        f"{shown.kind} {shown.key} is not there"
        for shown in plan.media
        if not same(shown.value, seen.summary.get(shown.key)) or seen.files.get(shown.name) != shown.file.size
    ]
    found += [
        f"the metric {key} is not drawn over {axis}" for key, axis in plan.axes.items() if not _has(seen, key, axis)
    ]
    found += [
        f"the chart {key} is not there" for key, panel in plan.panels.items() if not same(panel, seen.panels.get(key))
    ]
    for name in plan.run_files:
        if seen.files.get(name) != sizes.get(name):
            found.append(f"run file {name} has {seen.files.get(name, 'no')} bytes, not {sizes.get(name)}")
    if seen.artifact_state != "COMMITTED":
        found.append(f"the artifact is {seen.artifact_state}")
    if seen.artifact_files != len(sizes):
        found.append(f"the artifact has {seen.artifact_files} files, not {len(sizes)}")
    if seen.artifact_bytes != sum(sizes.values()):
        found.append(f"the artifact has {seen.artifact_bytes} bytes, not {sum(sizes.values())}")
    return found


def log_difference(there: int | None, lines: int) -> str | None:
    """In words, when the server counts other lines of the log than were sent; it need not tell (``None``)."""
    return None if there in (None, lines) else f"the log has {there} lines, not {lines}"


_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def metric_name(key: str) -> str:
    """The key as metrics are defined by: there a dot would mean what is nested, unless a backslash stands before it."""
    return key.replace(".", "\\.")


def metric_axes(config: Mapping[str, JsonValue]) -> dict[str, str]:
    """By metric, what it is drawn over, as the SDK keeps it in the run's raw configuration.

    There it is a list of definitions with numbers for names: 1 is the metric, 5 the place (from 1) of its axis in the list.
    """
    own = config.get("_wandb")
    definitions = own.get("m") if isinstance(own, Mapping) else None
    listed = [each for each in definitions if isinstance(each, Mapping)] if isinstance(definitions, list) else []
    names = [each.get("1") for each in listed]
    found: dict[str, str] = {}
    for each, name in zip(listed, names, strict=True):
        place = each.get("5")
        axis = names[place - 1] if isinstance(place, int) and 0 < place <= len(names) else None
        if isinstance(name, str) and isinstance(axis, str):
            found[name] = axis
    return found


def panels_of(config: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """The charts of a run by name, from its raw configuration."""
    own = config.get("_wandb")
    panels = own.get("visualize") if isinstance(own, Mapping) else None
    return panels if isinstance(panels, Mapping) else {}


def _has(seen: Seen, metric: str, axis: str) -> bool:
    # The SDK takes no definition of a metric with a star in its name.
    return "*" in metric or "*" in axis or seen.axes.get(metric_name(metric)) == metric_name(axis)


def same(planned: JsonValue, there: JsonValue) -> bool:
    """Whether two JSON values are equal, as far as a trip through the server may change them.

    Integers and floats of the same value are one; a key whose value is ``None`` may be absent; what is no number is sent as
    its name, and comes back as one or the other.
    """
    if isinstance(there, float) and not math.isfinite(there):
        return bool(planned == _NO_NUMBERS[str(there)])
    if isinstance(planned, bool) or isinstance(there, bool):
        return planned is there
    if isinstance(planned, (int, float)) and isinstance(there, (int, float)):
        return planned == there or math.isclose(planned, there, rel_tol=1e-12, abs_tol=0.0)
    if isinstance(planned, dict):
        there = {} if there is None else there
        return isinstance(there, dict) and all(same(value, there.get(key)) for key, value in planned.items())
    if isinstance(planned, (list, tuple)):
        there = [] if there is None else there
        return (
            isinstance(there, (list, tuple))
            and len(planned) == len(there)
            and all(same(a, b) for a, b in zip(planned, there, strict=True))
        )
    return bool(planned == there)


def missing_history(
    sent: Sequence[Mapping[str, JsonValue]], planned: Sequence[dict[str, JsonValue]]
) -> tuple[tuple[dict[str, JsonValue], ...], bool]:
    """The planned rows that the server does not have yet, and whether the history is frozen.

    History is append-only on the server. When the planned rows do not begin with those that are there, none may be
    sent: that is ``frozen``.
    """
    if len(sent) > len(planned):
        return (), True
    for there, row in zip(sent, planned, strict=False):
        if there.get("_step") != row["_step"] or not _same_row(row, there):
            return (), True
    return tuple(planned[len(sent) :]), False


def log_record(lines: Sequence[str]) -> dict[str, JsonValue]:
    """What is kept of the lines that were sent: how many, and a hash of them."""
    digest = hashlib.blake2b("\n".join(lines).encode("utf-8", "replace"), digest_size=8).hexdigest()
    return {"lines": len(lines), "digest": digest}


def missing_lines(there: int | None, recorded: JsonValue, planned: Sequence[str]) -> tuple[Sequence[str], bool]:
    """The lines of the log that the server does not have yet, and whether they are frozen: it only takes more of them.

    ``there`` is how many it has (``None``: it does not tell, so none may be sent twice), ``recorded`` the
    :func:`log_record` of an earlier delivery. Without one that speaks of these lines they were sent by a delivery that did
    not come to its end, from the same log.
    """
    if there is None or there > len(planned):
        return (), True
    known = isinstance(recorded, Mapping) and recorded.get("lines") == there
    if known and recorded != log_record(planned[:there]):
        return (), True
    return planned[there:], False


def own_keys(plan: Plan) -> set[str]:
    """The summary keys that a plan sets."""
    return {*plan.summary, *(table.name for table in plan.tables), *(shown.key for shown in plan.media)}


def texts(value: JsonValue) -> set[str]:
    """The texts of a list that was noted on the server, where anything may stand by now."""
    return {each for each in value if isinstance(each, str)} if isinstance(value, list) else set()


def _same_row(row: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    return all(same(value, there.get(key)) for key, value in row.items() if key != "_step")
