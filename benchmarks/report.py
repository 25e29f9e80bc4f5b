"""Results as text, JSON, a page and a plot. Nothing here measures."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from math import log10
from pathlib import Path
from typing import Any, Self
from xml.sax.saxutils import escape

from benchmarks.notes import HOW, TRIED
from benchmarks.result import Row, Target, row_from_json, row_to_json

SCHEMA = 1


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model, "cores": os.cpu_count(), "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(), "wandb": version("wandb"),
    }  # fmt: skip


@dataclass(slots=True)
class Results:
    """All benchmarks as last measured, by name."""

    benchmarks: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """What :meth:`save` wrote there, or nothing."""
        try:
            record = json.loads((directory / "benchmarks.json").read_text("utf-8"))
        except FileNotFoundError:
            return cls()
        return cls(dict(record["benchmarks"]))

    def take(self, name: str, rows: Sequence[Row], *, seconds: float, quick: bool) -> None:
        """Put one benchmark's rows in the place of its earlier ones."""
        self.benchmarks[name] = {
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(seconds),
            "quick": quick, "machine": machine(), "rows": [row_to_json(row) for row in rows],
        }  # fmt: skip

    def rows(self, names: Sequence[str]) -> list[Row]:
        """Every row, in the order of these benchmarks."""
        return [
            row_from_json(each) for name in names if name in self.benchmarks for each in self.benchmarks[name]["rows"]
        ]

    def save(self, directory: Path, names: Sequence[str]) -> None:
        """Write ``benchmarks.json``, ``benchmarks.svg`` and ``benchmarks.md``."""
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "benchmarks": {name: self.benchmarks[name] for name in names if name in self.benchmarks},
        }
        (directory / "benchmarks.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        rows = self.rows(names)
        (directory / "benchmarks.svg").write_text(plot(rows), "utf-8")
        (directory / "benchmarks.md").write_text(page(rows, record["benchmarks"]), "utf-8")


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(log10(abs(value)) // 1)) if abs(value) < 100 else 0
    return f"{value:,.{min(digits, 3)}f}"


def quantity(value: float, unit: str) -> str:
    """A figure with its unit; without one it is a count."""
    if not unit:
        return f"{value:,.0f}"
    return f"{number(value)} {unit}".rstrip() if unit != "/s" else f"{number(value)}/s"


def spread(values: Sequence[float], unit: str) -> str:
    """The median, and from where to where the repeats went."""
    middle = quantity(statistics.median(values), unit)
    if len(values) < 2 or min(values) == max(values):
        return middle
    return f"{middle} ({number(min(values))}–{number(max(values))})"


def ratio_text(row: Row) -> str:
    """The median ratio in words."""
    if not row.ratios:
        return ""
    middle = statistics.median(row.ratios)
    return f"{number(middle)}× " + {"faster": "as fast", "slower": "as slow", "of": "of it"}[row.ratio]


def target_text(target: Target | None, unit: str) -> str:
    """What was asked for."""
    if target is None:
        return ""
    words = f"{target.limit:g}×" if target.of == "ratio" else quantity(target.limit, unit)
    return f"{'≥' if target.least else '≤'} {words}"


def verdict(row: Row) -> str:
    """Whether the target is met, in a word."""
    return {None: "", True: "met", False: "missed"}[row.met]


def _cells(row: Row) -> tuple[str, ...]:
    baseline = f"{spread(row.baseline_values, row.unit)}: {row.baseline}" if row.baseline_values else row.baseline
    return (
        row.what,
        spread(row.values, row.unit),
        baseline,
        ratio_text(row),
        target_text(row.target, row.unit),
        verdict(row),
    )


def text(rows: Sequence[Row]) -> str:
    """Rows for a terminal."""
    lines = []
    for row in rows:
        what, ours, baseline, ratio, target, word = _cells(row)
        lines.append(
            f"{what}\n    {ours}" + (f"   {ratio}" if ratio else "") + (f"   [{target}: {word}]" if target else "")
        )
        if baseline:
            lines.append(f"    baseline {baseline}")
        if row.note:
            lines.append(f"    {row.note}")
    return "\n".join(lines)


def page(rows: Sequence[Row], benchmarks: dict[str, dict[str, Any]]) -> str:
    """``docs/benchmarks.md``, generated from the results."""
    lines = [
        "# Benchmarks",
        "",
        (
            "Generated by `make bench` (`python -m benchmarks`) from `benchmarks.json`; single ones by name, as in "
            "`python -m benchmarks backlog outbox`."
        ),
        (
            "Machines differ, so what counts are the ratios: each was taken side by side in one run. Figures are medians of the "
            "repeats, with the smallest and the largest in brackets."
        ),
        "",
        "![How far each figure is from its target](benchmarks.svg)",
        "",
    ]
    for name, record in benchmarks.items():
        mine = [row for row in rows if row.benchmark == name]
        lines += [f"## {name}", "", HOW[name], ""]
        lines += ["| what | measured | baseline | ratio | target | |", "| --- | --- | --- | --- | --- | --- |"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in mine]
        lines += ["", *[f"- {row.what}: {row.note}." for row in mine if row.note]]
        there = record["machine"]
        small = " In small (`--quick`): these figures show that it works, no more." if record["quick"] else ""
        lines += [
            "",
            (
                f"Measured {record['measured_at']} on {there['cores']} cores ({there['cpu']}), Linux {there['kernel']}, Python "
                f"{there['python']}, wandb {there['wandb']}; it took {record['seconds']} s.{small}"
            ),
            "",
        ]
    lines += ["## Tried", "", *[f"- {line}" for line in TRIED], ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def plot(rows: Sequence[Row]) -> str:
    """A bar for each figure that has a target: how many times better than asked for, on a logarithmic scale."""
    shown = [row for row in rows if row.target is not None]
    left, width, step = 470, 420, 24
    low, high = 0.1, 100.0

    def at(margin: float) -> float:
        share = (log10(min(max(margin, low), high)) - log10(low)) / (log10(high) - log10(low))
        return left + width * share

    height = step * len(shown) + 70
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 130} {height}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{left + width + 130}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="18">times better than the target (right of the line: met)</text>',
    ]
    for tick in (0.1, 1, 10, 100):
        colour = "#333" if tick == 1 else "#ddd"
        parts.append(f'<line x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="42" y2="{height - 12}" stroke="{colour}"/>')
        parts.append(f'<text x="{at(tick):.1f}" y="36" text-anchor="middle" fill="#555">{tick:g}</text>')
    for index, row in enumerate(shown):
        target = row.target
        if target is None:
            continue
        top = 48 + index * step
        end, one = at(target.margin(row.figure)), at(1)
        colour = "#2a7f4f" if row.met else "#b3402a"
        figure = f"{number(row.figure)}×" if target.of == "ratio" else quantity(row.figure, row.unit)
        label = row.what if len(row.what) <= 74 else row.what[:73] + "…"
        parts.append(f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(label)}</text>')
        parts.append(
            f'<rect x="{min(end, one):.1f}" y="{top + 2}" width="{max(abs(end - one), 1.5):.1f}" height="14" fill="{colour}"/>'
        )
        parts.append(
            f'<text x="{max(end, one) + 6:.1f}" y="{top + 13}" fill="#555">{escape(figure)} '
            f"({escape(target_text(target, row.unit))})</text>"
        )
    return "\n".join([*parts, "</svg>", ""])
