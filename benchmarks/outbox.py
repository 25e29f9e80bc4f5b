"""What claiming and changing states costs in the outbox, and whether that grows with what is finished.

    python benchmarks/outbox.py [--rows 10000] [--directory DIR]

Prints a table: medians and 99th percentiles in milliseconds, with none and with all of the rows finished before. Every
change is one durable transaction, so the disk decides; the last column is one bare fsync on the same disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from wandb_outbox.errors import Offline
from wandb_outbox.model import FileStat, Judgement, Kind, Receipt, Run, Snapshot, Verdict
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
from wandb_outbox.outbox.store import Store

T = TypeVar("T")
CLAIM = "benchmark:1"
DONE = Judgement(Verdict.COMPLETE, "metrics.json is there")


class Clock:
    """Collects the durations of each kind of call."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def measure(self, name: str, call: Callable[[], T]) -> T:
        """Call it, and remember how long that took."""
        began = time.perf_counter()
        value = call()
        self.times.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        return value


def snapshot_of(number: int) -> Snapshot:
    """A folder of two files."""
    files = tuple(FileStat(name, 1000, number, number, number) for name in ("metrics.json", "results.json"))
    return Snapshot(files, (), birth=f"{number}:0", newest_ctime_ns=number)


def receipt_of(run: Run) -> Receipt:
    """What the server confirms of it."""
    return Receipt(
        run.run_id, "team", "project", "name", f"https://wandb.ai/{run.run_id}", f"outputs-{run.key}:v0", "digest",
        2, 2000, run.fingerprint, 0,
    )  # fmt: skip


def one_life(store: Store, number: int, clock: Clock) -> None:
    """One folder's way through the outbox, with one interruption."""
    added = clock.measure(
        "add",
        lambda: store.add(
            path=f"/outputs/2025-12-03/run-{number:06d}", root="/outputs", kind=Kind.FOLDER, format="llm-tts",
            birth=f"{number}:0", site="box", now=float(number),
        ),
    )  # fmt: skip
    clock.measure("enqueue", lambda: store.enqueue(added.key, DONE, snapshot_of(number), now=float(number)))
    clock.measure("claim", lambda: store.claim(CLAIM, now=1e9, suspects=False))
    clock.measure(
        "put back",
        lambda: store.put_back(
            added.key, CLAIM, Offline("gone"), now=1e9, next_attempt_at=None, used=False, suspect=False
        ),
    )
    run = clock.measure("claim", lambda: store.claim(CLAIM, now=1e9, suspects=False))
    if run is None or run.key != added.key:
        raise SystemExit("the outbox gave out another row than the one that is queued")
    clock.measure("contact", lambda: store.contact(run.key, CLAIM, run_id=run.run_id, incarnation=0))
    clock.measure("uploaded", lambda: store.uploaded(run.key, CLAIM, receipt_of(run), now=1e9))
    clock.measure("counts", store.counts)
    clock.measure("next due", store.next_attempt_at)


def fsync_cost(directory: str, times: int = 200) -> float:
    """Milliseconds of one small write with fsync, the median."""
    clock = Clock()
    with open(os.path.join(directory, "fsync"), "wb", buffering=0) as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            clock.measure("fsync", lambda: os.fsync(file.fileno()))
    return statistics.median(clock.times["fsync"])


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> None:
    """Fill an outbox, and compare the first lives in it with the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=500, help="how many lives are measured at each end")
    parser.add_argument("--directory", help="where the outbox is made (default: a temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="outbox-benchmark-") as directory:
        state_dir = StateDir(directory)
        prepare_state_dir(state_dir)
        store = Store.open(state_dir)
        first, last, rest = Clock(), Clock(), Clock()
        began = time.perf_counter()
        for number in range(arguments.rows):
            early, late = number < arguments.sample, number >= arguments.rows - arguments.sample
            one_life(store, number, first if early else last if late else rest)
        seconds = time.perf_counter() - began
        store.close()
        bare = fsync_cost(directory)
    out = sys.stdout
    out.write(
        f"{arguments.rows:,} folders in {seconds:.1f} s, six durable changes each; one bare fsync: {bare:.2f} ms\n\n"
    )
    out.write(f"| call | median, empty | median, {arguments.rows:,} finished | 99 %, empty | 99 %, full |\n")
    out.write("| --- | ---: | ---: | ---: | ---: |\n")
    for name, values in first.times.items():
        others = last.times[name]
        out.write(
            f"| {name} | {statistics.median(values):.3f} | {statistics.median(others):.3f} "
            f"| {percentile(values, 0.99):.3f} | {percentile(others, 0.99):.3f} |\n"
        )


if __name__ == "__main__":
    main()
