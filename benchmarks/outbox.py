"""What a run's way through the outbox costs, with a thousand and with a hundred thousand runs in it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.filled import DONE, add, finished_outbox, receipt_of, snapshot_of
from benchmarks.result import Row, at_most
from benchmarks.world import scratch
from wandb_outbox.outbox.store import Store

T = TypeVar("T")
CLAIM = "benchmark:1"
STEPS = ("add", "claim", "complete")


class Clock:
    """Collects the seconds of each kind of call."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STEPS, 0.0)

    def measure(self, name: str, call: Callable[[], T]) -> T:
        """Call it, and remember how long that took."""
        began = time.perf_counter()
        value = call()
        self.seconds[name] += time.perf_counter() - began
        return value


def lives(store: Store, first: int, count: int) -> dict[str, float]:
    """So many folders' way through the outbox; how many of each step a second."""
    clock = Clock()
    for number in range(first, first + count):
        run = clock.measure("add", lambda number=number: add(store, number))  # type: ignore[misc]
        store.enqueue(run.key, DONE, snapshot_of(number), now=float(number))
        claimed = clock.measure("claim", lambda: store.claim(CLAIM, now=2e9, suspects=False))
        if claimed is None or claimed.key != run.key:
            raise SystemExit("the outbox gave out another row than the one that is queued")
        store.contact(run.key, CLAIM, run_id=run.run_id, incarnation=0)
        receipt = receipt_of(claimed)
        clock.measure(
            "complete", lambda key=run.key, receipt=receipt: store.uploaded(key, CLAIM, receipt, now=2e9)  # type: ignore[misc]
        )  # fmt: skip
    return {name: count / seconds for name, seconds in clock.seconds.items()}


def syncs(directory: Path, times: int = 200) -> float:
    """How many small appends with an fsync the same disk does a second."""
    taken = []
    with (directory / "fsync").open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return 1 / statistics.median(taken)


def run(*, quick: bool) -> list[Row]:
    """The two outboxes in turn, a hundred lives at a time."""
    small, large, rounds, count = (1000, 5000, 3, 20) if quick else (1000, 100_000, 15, 100)
    found: dict[int, list[dict[str, float]]] = {small: [], large: []}
    bare: list[float] = []
    with scratch() as top:
        stores = {size: Store.open(finished_outbox(top / str(size), size)) for size in (small, large)}
        first = 10_000_000
        for turn in range(rounds):
            for size in (small, large) if turn % 2 else (large, small):
                found[size].append(lives(stores[size], first, count))
                first += count
            bare.append(syncs(top, 50))
        for store in stores.values():
            store.close()
    rows = [
        Row("outbox", f"{name}, durable, {large:,} finished runs in the outbox", "/s", [each[name] for each in found[large]],
            f"with {small:,} finished runs", [each[name] for each in found[small]], "slower",
            [few[name] / many[name] for many, few in zip(found[large], found[small], strict=True)], at_most(1.3))
        for name in STEPS
    ]  # fmt: skip
    rows.append(Row("outbox", "bare appends of 4 kB with fsync on the same disk", "/s", bare))
    return rows
