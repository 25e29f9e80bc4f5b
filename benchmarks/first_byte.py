"""From the end of a small run to its committed artifact, with the daemon watching."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import run_folders

from benchmarks.result import Row, Target, at_most
from benchmarks.world import (
    HERE,
    Server,
    daemon,
    measure,
    outbox_environment,
    plain_environment,
    scratch,
    server,
    wait_for,
)

SETTLE = 2.0


def experiment(folder: Path) -> float:
    """A process that writes the folder, holding its log open to the end; returns when it has ended."""
    with subprocess.Popen(
        [sys.executable, run_folders.__file__, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        process.communicate(b"\n" * len(run_folders.STAGES))
        ended = time.time()
    if process.returncode:
        raise SystemExit(f"the experiment of {folder} ended with {process.returncode}")
    return ended


def committed_at(there: Server, folder: Path) -> float | None:
    """When the artifact of this folder was committed, as the server tells; ``None`` while it is not."""
    for artifact in there.client.artifacts():
        if artifact.state == "COMMITTED" and artifact.name.endswith(folder.name):
            # Its commit is the last one so far: one folder at a time.
            return max(answered for _, answered in there.served("CommitArtifact"))
    return None


def _finished(there: Server, count: int) -> bool:
    return len([run for run in there.client.runs() if run.state == "finished"]) == count


def one_daemon(repeats: int) -> list[float]:
    """Seconds from the end of each of several runs to its commit, less settle; the first one meets no uploader."""
    with scratch() as home, server() as there:
        root = home / "outputs"
        root.mkdir()
        found = []
        environ = outbox_environment(home, settle=SETTLE) | there.environment()
        with daemon(home, root, environ):
            for number in range(repeats):
                folder = root / "2026-01-01" / f"baseline_{number}"
                ended = experiment(folder)
                done = wait_for(partial(committed_at, there, folder), f"the artifact of {folder.name}")
                found.append(done - ended - SETTLE)
                wait_for(partial(_finished, there, number + 1), "the run to be finished")
        return found


def reference() -> float:
    """Seconds from calling the reference script by hand to the commit of its artifact."""
    with scratch() as home, server() as there:
        folder = run_folders.make(home / "outputs" / "baseline_0")
        environ = plain_environment(home) | there.environment()
        cost = measure(
            [sys.executable, str(HERE / "reference_upload.py"), str(folder), "--project", "p"], environ, home
        )
        return max(answered for _, answered in there.served("CommitArtifact")) - cost.began_at


def run(*, quick: bool) -> list[Row]:
    """Several daemons, each with one cold and two warm deliveries, in turn with the script by hand."""
    rounds = 1 if quick else 5
    cold: list[float] = []
    warm: list[float] = []
    by_hand: list[float] = []
    for _ in range(rounds):
        by_hand.append(reference())
        first, *others = one_daemon(3)
        cold.append(first)
        warm += others
    words = "the reference script, called by hand, to its commit"
    note = f"settle is {SETTLE:g} s here and is taken off: it is a setting"

    def row(what: str, values: list[float], target: Target) -> Row:
        return Row("first_byte", what, "s", values, words, by_hand, target=target, note=note)

    return [
        row("run finished → artifact committed, less settle, uploader warm", warm, at_most(1.5, "value")),
        row("run finished → artifact committed, less settle, uploader cold", cold, at_most(3.0, "value")),
    ]
