"""Many finished folders and few active ones: idle and in a storm, beside other ways to watch the same tree."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from replay_script import files_of_a_run

from benchmarks.filled import known_outbox, make_finished_folders
from benchmarks.report import quantity
from benchmarks.result import Row, Target, at_most
from benchmarks.startup import NOWHERE, count_writing, writing
from benchmarks.tools import tool_python
from benchmarks.world import (
    HERE,
    cpu_seconds,
    inotify_watches,
    outbox,
    outbox_environment,
    resident_bytes,
    rest,
    scratch,
    wait_for,
)
from wandb_outbox.outbox.location import StateDir

ACTIVE = 10
STORM = """
import os, sys, time
folder, seconds, lines, rewrites = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
log = open(folder + "/run_tts_eval.log", "a", buffering=1)
data = b"[" + b" " * 5_000_000 + b"]"
began = time.monotonic()
logged = written = 0
while (now := time.monotonic() - began) < seconds:
    while logged < now * lines:
        log.write("[2026-11-21 19:04:48,792][__main__][INFO] - a line as any other\\n"); logged += 1
    if written < now * rewrites:
        with open(folder + "/results.json", "wb") as file:
            file.write(data)
        written += 1
    time.sleep(0.0005)
"""
LINES, REWRITES = 1000, 10


@dataclass(frozen=True, slots=True)
class Figures:
    """What a process that watches costs."""

    start: float
    start_cpu: float
    idle: float
    storm: float
    memory: float
    watches: int


@contextmanager
def daemon(root: Path, filled: Path) -> Iterator[tuple[int, float]]:
    """Our daemon, when it has compared all and watches the active folders; its pid, and the seconds until then."""
    began = time.monotonic()
    state = StateDir(os.path.realpath(filled))
    with (filled / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            outbox("watch", root, "--state-dir", state.path),
            env=outbox_environment(filled, site="bench", stop_timeout=1) | NOWHERE, cwd=filled,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(lambda: count_writing(state) == ACTIVE, "the active folders to be seen", pause=0.01)
        yield process.pid, time.monotonic() - began
    finally:
        process.kill()
        process.wait(timeout=30)


@contextmanager
def bystander(kind: str, root: Path) -> Iterator[tuple[int, float]]:
    """Another way to watch the same tree."""
    began = time.monotonic()
    with subprocess.Popen(
        [str(tool_python()), str(HERE / "bystanders.py"), kind, str(root)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise SystemExit(f"{kind} could not watch {root}")
            yield process.pid, time.monotonic() - began
        finally:
            process.kill()


def figures(pid: int, start: float, storm: Path, idle_seconds: float, storm_seconds: float) -> Figures:
    """Watch it idle, then in a storm."""
    began_cpu = cpu_seconds(pid)
    began = time.monotonic()
    rest(idle_seconds)
    idle = (cpu_seconds(pid) - began_cpu) / (time.monotonic() - began)
    watches = inotify_watches(pid)
    words = [str(storm), str(storm_seconds + 2), str(LINES), str(REWRITES)]
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", STORM, *words]) as writer:
        rest(1.0)
        used, began = cpu_seconds(pid), time.monotonic()
        rest(storm_seconds)
        share = (cpu_seconds(pid) - used) / (time.monotonic() - began)
        writer.wait(timeout=60)
    return Figures(start, began_cpu, idle * 100, share * 100, resident_bytes(pid) / 1e6, watches)


def run(*, quick: bool) -> list[Row]:
    """The daemon, then the others, one after the other on the same tree."""
    count, idle_seconds, storm_seconds = (500, 3.0, 3.0) if quick else (50_000, 30.0, 10.0)
    texts = {**files_of_a_run(1, size=400), "eval_inconsistencies.json": "[]", ".hydra/hydra.yaml": "hydra: {}\n"}
    found: dict[str, Figures] = {}
    with scratch("/dev/shm") as trees, scratch() as top, ExitStack() as actives:
        root = trees / "outputs"
        known_outbox(top / "state", root, make_finished_folders(root, count, texts))
        folders = [actives.enter_context(writing(root, f"active-{number}")) for number in range(ACTIVE)]
        with daemon(root, top / "state") as (pid, start):
            found["wandb-outbox"] = figures(pid, start, folders[0], idle_seconds, storm_seconds)
        for kind in ("watchdog", "watchfiles", "polling"):
            with bystander(kind, root) as (pid, start):
                found[kind] = figures(pid, start, folders[0], idle_seconds, storm_seconds)
    names = {
        "watchdog": "watchdog, recursive, fewest events", "watchfiles": "watchfiles", "polling": "watchdog's PollingObserver",
    }  # fmt: skip
    ours = found["wandb-outbox"]
    others = {names[kind]: theirs for kind, theirs in found.items() if kind in names}

    def row(what: str, unit: str, name: str, target: Target | None) -> Row:
        words = "; ".join(f"{kind}: {quantity(getattr(theirs, name), unit)}" for kind, theirs in others.items())
        return Row("crowd", f"{count:,} finished folders, {ACTIVE} active: {what}", unit, [float(getattr(ours, name))],
                   words, target=target)  # fmt: skip

    return [
        row("until all is compared and watched", "s", "start", at_most(5.0, "value")),
        row("processor time until then", "s", "start_cpu", None),
        row("idle, of a core", "%", "idle", at_most(0.5, "value")),
        row(f"in a storm ({LINES:,} lines and {REWRITES} rewrites of 5 MB a second), of a core", "%", "storm",
            at_most(1.0, "value")),
        row("resident memory", "MB", "memory", at_most(80.0, "value")),
        row("inotify watches", "", "watches", None),
    ]  # fmt: skip
