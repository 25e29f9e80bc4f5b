"""What a benchmark found: figures, each beside its baseline and its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be.

    Attributes:
        of: ``ratio`` or ``value``.
        limit: The number itself, in the row's unit when it is about the value.
        least: Whether the figure should be at least this; otherwise at most.
    """

    of: str
    limit: float
    least: bool

    def met(self, figure: float) -> bool:
        """Whether a figure is good enough."""
        return figure >= self.limit if self.least else figure <= self.limit

    def margin(self, figure: float) -> float:
        """How many times better than asked for: 1 is just met, below 1 is missed."""
        if not self.limit or not figure:
            return 1.0 if self.met(figure) else 0.0
        return figure / self.limit if self.least else self.limit / figure


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        benchmark: The benchmark that it belongs to.
        what: What was measured, in words.
        unit: Of ``values`` and ``baseline_values``: ``s``, ``MB``, ``%``, ``/s``, ``µs``, or nothing for a count.
        values: Ours, one for each repeat.
        baseline: What it is compared with, in words; empty if with nothing.
        baseline_values: One for each repeat.
        ratio: How ``ratios`` are to be read: ``faster`` or ``slower`` than the baseline, or ``of`` it; empty without.
        ratios: One for each repeat, of what was measured side by side.
        target: What was asked for.
        note: What must be known to read it rightly.
    """

    benchmark: str
    what: str
    unit: str
    values: Sequence[float]
    baseline: str = ""
    baseline_values: Sequence[float] = field(default_factory=tuple)
    ratio: str = ""
    ratios: Sequence[float] = field(default_factory=tuple)
    target: Target | None = None
    note: str = ""

    @property
    def value(self) -> float:
        """The median of ours."""
        return statistics.median(self.values)

    @property
    def figure(self) -> float:
        """What the target is about: the median of the ratios, or of the values."""
        if self.target is not None and self.target.of == "ratio":
            return statistics.median(self.ratios)
        return self.value

    @property
    def met(self) -> bool | None:
        """Whether the target is met; ``None`` without one."""
        return None if self.target is None else self.target.met(self.figure)


def compare(
    benchmark: str,
    what: str,
    unit: str,
    pairs: Sequence[tuple[float, float]],
    baseline: str,
    *,
    faster: bool,
    target: Target | None = None,
    note: str = "",
) -> Row:
    """A row from pairs of (ours, baseline), each pair measured side by side."""
    ratios = [theirs / ours if faster else ours / theirs for ours, theirs in pairs]
    return Row(
        benchmark, what, unit, [ours for ours, _ in pairs], baseline, [theirs for _, theirs in pairs],
        "faster" if faster else "of", ratios, target, note,
    )  # fmt: skip


def at_least(limit: float, of: str = "ratio") -> Target:
    """The figure should be this or more."""
    return Target(of, limit, least=True)


def at_most(limit: float, of: str = "ratio") -> Target:
    """The figure should be this or less."""
    return Target(of, limit, least=False)


def row_to_json(row: Row) -> dict[str, Any]:
    """A row as JSON, with what follows from its figures."""
    return {**asdict(row), "value": row.value, "met": row.met}


def row_from_json(record: dict[str, Any]) -> Row:
    """A row from :func:`row_to_json`."""
    names = Row.__dataclass_fields__
    values = {name: record[name] for name in names}
    if values["target"] is not None:
        values["target"] = Target(**values["target"])
    return Row(**values)
