"""What an experiment notices of the daemon beside it, while that one finds and delivers a folder every two seconds."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import run_folders

from benchmarks.result import Row, at_most
from benchmarks.startup import writing
from benchmarks.world import HERE, Server, daemon, outbox_environment, rest, scratch, server, wait_for

PERIOD = 2.0
SETTLE = 0.3
NICE = 10
"""As the systemd unit says."""


class Trainer:
    """An experiment in a process of its own, whose folder lies in the watched root."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(HERE / "trainer.py"), kind, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def work(self, pieces: int) -> float:
        """Let it do so many pieces; seconds that they took together."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        total = 0.0
        for _ in range(pieces):
            stdin.write("\n")
            total += float(stdout.readline())
        return total

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def arriving(folders: Iterator[Path], root: Path) -> Iterator[None]:
    """Finished folders appear below ``root`` all the time, whole at once."""
    ended = threading.Event()

    def bring() -> None:
        while not ended.wait(PERIOD):
            folder = next(folders)
            os.rename(folder, root / folder.name)

    thread = threading.Thread(target=bring)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def delivered(there: Server) -> int:
    """How many runs the server has whole."""
    return len([run for run in there.client.runs() if run.state == "finished"])


def pairs_of(kind: str, pairs: int, pieces: int) -> tuple[list[tuple[float, float]], int]:
    """(with, without) a busy daemon, in seconds, in turn; and how many folders were delivered meanwhile."""
    found = []
    with scratch() as home, server() as there:
        root, aside, stock = home / "outputs", home / "aside", home / "stock"
        for directory in (root, aside, stock):
            directory.mkdir()
        os.setpriority(os.PRIO_PROCESS, there.pid, 19)  # it stands for another machine
        environ = outbox_environment(home, settle=SETTLE, stop_timeout=1) | there.environment()
        made = iter(run_folders.make(stock / f"run_{n}", run_folders.Recipe(seed=n)) for n in range(10_000))
        with writing(root, "training") as folder:
            trainer = Trainer(kind, folder)
            trainer.work(3)
            for pair in range(pairs):
                seconds: dict[bool, float] = {}
                for busy in (True, False) if pair % 2 else (False, True):
                    if busy:
                        before = delivered(there)
                        with daemon(home, root, environ, nice=NICE), arriving(made, root):
                            # The start, with the uploader's, is over then.
                            wait_for(lambda before=before: delivered(there) > before, "the first delivery", pause=0.1)  # type: ignore[misc]
                            seconds[busy] = trainer.work(pieces)
                    else:
                        with arriving(made, aside):
                            rest(0.5)
                            seconds[busy] = trainer.work(pieces)
                found.append((seconds[True], seconds[False]))
            trainer.close()
        return found, delivered(there)


def run(*, quick: bool) -> list[Row]:
    """Both kinds of experiment."""
    pairs, pieces = (2, 20) if quick else (10, 100)
    rows = []
    for kind, words, more in (
        ("cpu", "bound by its processor", 1),
        ("io", "bound by its files, in the watched root", 3),
    ):
        found, runs = pairs_of(kind, pairs, pieces * more)
        ratios = [ours / theirs for ours, theirs in found]
        quarters = statistics.quantiles(ratios, n=4)
        # Of a median, from the spread of the middle half: the machine's other work makes wild outliers.
        error = 1.25 * (quarters[2] - quarters[0]) / 1.35 / len(ratios) ** 0.5
        rows.append(
            Row("neighbour", f"an experiment {words}, beside a busy daemon", "s", [ours for ours, _ in found],
                "the same without the daemon", [theirs for _, theirs in found], "of", ratios, at_most(1.01),
                f"±{error:.2%} (standard error of the median ratio); {runs} folders were delivered meanwhile")
        )  # fmt: skip
    return rows
