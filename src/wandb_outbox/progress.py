"""Progress bars for ``upload`` on a terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from wandb_outbox.model import Run, State
from wandb_outbox.outbox.store import Store


class Bars:
    """One bar a folder. Use as a context manager, which gives the function that moves the bars."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(), console=Console(stderr=True),
        )  # fmt: skip
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, store: Store, runs: Sequence[Run]) -> None:
        """Show how far these rows have come."""
        sent = {upload["id"]: upload["bytes_sent"] for upload in store.fact("uploads") or ()}
        for run in runs:
            if run.key not in self._tasks:
                name = escape(os.fsencode(os.path.basename(run.path)).decode("utf-8", "replace"))
                self._tasks[run.key] = self._progress.add_task(name, total=run.bytes, state="")
            done = run.bytes if run.state is State.UPLOADED else sent.get(run.run_id, 0)
            self._progress.update(self._tasks[run.key], completed=done, state=run.state.value)
