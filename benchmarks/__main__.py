"""``python -m benchmarks [NAME...] [--quick]``: measure, print a table, and write JSON, plot and page."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.world import REPOSITORY

NAMES = (
    "backlog",
    "artifacts",
    "crowd",
    "startup",
    "commands",
    "outbox",
    "neighbour",
    "first_byte",
    "detection",
    "planning",
)
"""Each is a module with ``run(*, quick)``, in the order of the table."""


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run (default: all): {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats, to see that it works")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (default: docs/, with --quick build/benchmarks/)"
    )
    parser.add_argument("--render", action="store_true", help="measure nothing; write plot and page from the JSON")
    said = parser.parse_args()
    unknown = [name for name in said.names if name not in NAMES]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    output: Path = said.output or (REPOSITORY / "build" / "benchmarks" if said.quick else REPOSITORY / "docs")
    output.mkdir(parents=True, exist_ok=True)
    results = report.Results.load(output)
    for name in () if said.render else said.names or NAMES:
        began = time.monotonic()
        sys.stderr.write(f"{name} ...\n")
        rows = importlib.import_module(f"benchmarks.{name}").run(quick=said.quick)
        print(report.text(rows), flush=True)
        sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
        # Written after each, so that what was measured is kept whatever happens to the next one.
        results.take(name, rows, seconds=time.monotonic() - began, quick=said.quick)
        results.save(output, NAMES)
    results.save(output, NAMES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
