"""The daemon's start over many folders that it knows: until it has compared all of them, and the cost of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.filled import known_outbox, make_finished_folders
from benchmarks.result import Row, at_most
from benchmarks.world import cpu_seconds, outbox, outbox_environment, scratch, wait_for
from wandb_outbox.model import State
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store

TEXTS = {
    ".hydra/config.yaml": "strategy:\n  type: baseline\ndataset:\n  data_name: gsm8k\n",
    "results.json": "[]",
    "metrics.json": '{"exact_match/accuracy": 0.5}',
}
NOWHERE = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
"""Nobody listens there: only the start is measured."""


@contextmanager
def writing(root: Path, name: str) -> Iterator[Path]:
    """A run folder that somebody is writing: its log is open."""
    folder = root / "2099-01-01" / name
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(TEXTS[".hydra/config.yaml"])
    try:
        with (folder / "run_tts_eval.log").open("w"):
            yield folder
    finally:
        shutil.rmtree(folder)


def count_writing(state: StateDir) -> int:
    """How many folders the outbox knows as being written."""
    store = Store.read(state)
    if store is None:
        return 0
    try:
        return store.counts()[State.WRITING]
    finally:
        store.close()


def start(root: Path, filled: Path | None, top: Path) -> tuple[float, float]:
    """Seconds by the wall and of a core from the daemon's start until it has compared every folder.

    A folder that is just being written shows the moment: the daemon looks at what is new after it has been everywhere.
    """
    with scratch(str(top)) as home, writing(root, "active"):
        state = StateDir(os.path.realpath(home / "state"))
        if filled is not None:
            shutil.copytree(filled, state.path)
        began = time.monotonic()
        with (home / "daemon.log").open("wb") as log:
            process = subprocess.Popen(
                outbox("watch", root, "--state-dir", state.path),
                env=outbox_environment(home, site="bench", stop_timeout=1) | NOWHERE, cwd=home,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_for(lambda: count_writing(state), "the daemon to have been everywhere", pause=0.005)
            return time.monotonic() - began, cpu_seconds(process.pid)
        finally:
            process.kill()
            process.wait(timeout=30)


def run(*, quick: bool) -> list[Row]:
    """No folder, some, and many, in turn."""
    some, many, rounds = (200, 2000, 1) if quick else (10_000, 100_000, 5)
    found: dict[int, list[tuple[float, float]]] = {0: [], some: [], many: []}
    with scratch("/dev/shm") as trees, scratch() as top:
        roots: dict[int, tuple[Path, Path | None]] = {0: (trees / "0", None)}
        roots[0][0].mkdir()
        for count in (some, many):
            tree, known = trees / str(count), top / f"known-{count}"
            known_outbox(known, tree, make_finished_folders(tree, count, TEXTS))
            roots[count] = (tree, known)
        for _ in range(rounds):
            for count, (root, filled) in roots.items():
                found[count].append(start(root, filled, top))
    each = {
        count: [(cpu - base) / count * 1e6 for (_, cpu), (_, base) in zip(found[count], found[0], strict=True)]
        for count in (some, many)
    }
    walls = {count: [wall for wall, _ in figures] for count, figures in found.items()}
    none = "with no folder at all"
    return [
        Row("startup", f"start until all of {some:,} known folders are compared", "s", walls[some], none, walls[0]),
        Row("startup", f"start until all of {many:,} known folders are compared", "s", walls[many], none, walls[0]),
        Row(
            "startup", f"processor time for each of {many:,} known folders", "µs", each[many],
            f"for each of {some:,}", each[some], "of",
            [ours / theirs for ours, theirs in zip(each[many], each[some], strict=True)], at_most(1.3),
        ),
    ]  # fmt: skip
