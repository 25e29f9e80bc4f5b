"""A backlog of small finished folders: the reference way, a process a folder, against ``flush``."""

from __future__ import annotations

import itertools
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import run_folders

from benchmarks.result import Row, at_least, compare
from benchmarks.world import HERE, Cost, measure, outbox, outbox_environment, plain_environment, rest, scratch, server

SETTLE = 10.0
"""The default: folders are older than this when they are delivered, as a backlog is."""
SAMPLES = 25
"""Of each folder: about 20 kB in nine files."""


def make_folders(root: Path, count: int) -> list[Path]:
    """Finished folders of the evaluation script, each with content of its own."""
    return [
        run_folders.make(
            root / f"2026-01-{number // 20 + 1:02}" / f"baseline_{number:03}",
            run_folders.Recipe(samples=SAMPLES, seed=number),
        )
        for number in range(count)
    ]


def reference(folders: Sequence[Path], top: Path) -> Cost:
    """The shell loop over one process a folder."""
    script = f"for folder in {shlex.join(map(str, folders))}; do {shlex.quote(sys.executable)} "
    script += (
        f'{shlex.quote(str(HERE / "reference_upload.py"))} "$folder" --project reference --tags a b || exit 1; done'
    )
    with scratch(str(top)) as home, server() as there:
        cost = measure(["sh", "-c", script], {**plain_environment(home), **there.environment()}, home)
        finished = [run for run in there.client.runs() if run.state == "finished"]
        if len(finished) != len(folders):
            raise SystemExit(f"the reference way left {len(finished)} finished runs of {len(folders)} folders")
    return cost


def flush(root: Path, count: int, top: Path) -> Cost:
    """All of a root with one ``flush``, and a look at the server whether all is there."""
    with scratch(str(top)) as home, server() as there:
        environ = outbox_environment(home, site="bench") | there.environment()
        cost = measure(outbox("flush", root, "--state-dir", home / "state"), environ, home)
        committed = [artifact for artifact in there.client.artifacts() if artifact.state == "COMMITTED"]
        whole = [artifact for artifact in committed if len(artifact.files) == len(run_folders.FILES)]
        if len(whole) != count:
            raise SystemExit(f"flush delivered {len(whole)} whole folders of {count}:\n{cost.out}")
    return cost


def run(*, quick: bool) -> list[Row]:
    """Slices of the shell loop in turn with whole flushes: a loop costs what its slices cost together."""
    large, small, rounds = (12, 6, 1) if quick else (100, 30, 3)
    with scratch() as top:
        many, few = top / "many", top / "few"
        folders = make_folders(many, large)
        make_folders(few, small)
        made = time.monotonic()
        edges = [*range(0, small * rounds, small), small * rounds, large] if not quick else [0, small, large]
        slices = [folders[a:b] for a, b in itertools.pairwise(edges) if b > a]
        rest(SETTLE - (time.monotonic() - made) + 1.0)
        loops, flushes, flushes_few = [], [], []
        for number, each in enumerate(slices):
            loops.append(reference(each, top))
            if number < rounds:
                flushes.append(flush(many, large, top))
                flushes_few.append(flush(few, small, top))
    loop_wall, loop_cpu = sum(cost.wall for cost in loops), sum(cost.cpu for cost in loops)
    words = "a shell loop over one Python process a folder, two files of each"
    return [
        compare("backlog", f"{large} small folders delivered and verified, wall time", "s",
                [(cost.wall, loop_wall) for cost in flushes], words, faster=True, target=at_least(12)),
        compare("backlog", f"{large} small folders, processor time of all processes", "s",
                [(cost.cpu, loop_cpu) for cost in flushes], words, faster=True, target=at_least(8)),
        compare("backlog", f"{small} small folders, wall time", "s",
                [(ours.wall, theirs.wall) for ours, theirs in zip(flushes_few, loops, strict=False)], words,
                faster=True, target=at_least(8)),
    ]  # fmt: skip
