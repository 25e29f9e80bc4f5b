"""A root with real run folders, a real outbox, and an intake whose clocks a test holds in its hand."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from children import until
from outbox_makers import MINE, NOW, receipt, state_dir

from wandb_outbox.detect.completion import Patience
from wandb_outbox.detect.watch import Watcher
from wandb_outbox.folder import snapshot
from wandb_outbox.model import Run, State
from wandb_outbox.outbox.intake import Intake, Policy
from wandb_outbox.outbox.store import Store
from wandb_outbox.settings import RootSettings

SETTLE, GRACE = 10.0, 60.0
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nRuntimeError: CUDA died\n'


class World:
    """``step`` lets time pass and takes one step; ``settle`` steps until time alone decides nothing more."""

    def __init__(self, path: Path) -> None:
        self.top = path / "outputs"
        self.top.mkdir()
        self.where = state_dir(path)
        self.store = Store.open(self.where)
        self.tick = 1000.0
        self.lag = 0.0
        """Seconds that pass whenever the intake asks for the time: its work takes long."""
        self.born = time.time() - self.tick
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.woken = threading.Event()
        self.watcher: Watcher | None = None
        self.intake: Intake

    def start(self, *roots: Path | RootSettings, watch: bool = False, grace: float = GRACE, **policy: Any) -> World:
        """Begin to watch these roots, or ``outputs``; again, as after a restart."""
        self.stop()
        self.watcher = Watcher(self.woken.set) if watch else None
        rules = [
            root if isinstance(root, RootSettings) else RootSettings(path=str(root)) for root in roots or (self.top,)
        ]
        values: dict[str, Any] = {
            "patience": Patience(SETTLE, grace, 6 * 3600.0),
            "rescan": 60.0,
            "max_bytes": 10**9,
            "hold": False,
            "crash_grace_slurm": 1800.0,
            "backlog_after": None,
            "leases": True,
        }
        self.intake = Intake(
            self.store,
            rules,
            Policy(**{**values, **policy}),
            site="site",
            watcher=self.watcher,
            now=lambda: self.born + self.tick,
            tick=self._read_tick,
            log=lambda event, **fields: self.events.append((event, fields)),
        )
        return self

    def stop(self) -> None:
        """Stop watching, as when the daemon ends."""
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher = None

    def close(self) -> None:
        """The end of the test."""
        self.stop()
        self.store.close()

    def _read_tick(self) -> float:
        self.tick += self.lag
        return self.tick

    # -- folders -----------------------------------------------------------------------------------------------------

    def folder(self, name: str, *, results: str = "[1]", log: str | None = None) -> Path:
        """A run folder, whole at once."""
        path = self.top / name
        (path / ".hydra").mkdir(parents=True)
        (path / ".hydra" / "config.yaml").write_text("lr: 1\n")
        if results:
            (path / "results.json").write_text(results)
        if log is not None:
            (path / "run.log").write_text(log)
        return path

    def crashed(self, name: str, *, results: str = "[1]") -> Path:
        """A run folder of an experiment that died of an exception."""
        return self.folder(name, results=results, log=TRACEBACK)

    # -- time --------------------------------------------------------------------------------------------------------

    def step(self, seconds: float = 0.0) -> float:
        """Time passes, then one step."""
        self.tick += seconds
        return self.intake.step()

    def settle(self, seconds: float = 90.0) -> World:
        """So much time passes, a step every second."""
        for _ in range(int(seconds)):
            self.step(1.0)
        return self

    def sighted(self) -> World:
        """Wait for the kernel's events to arrive, and take a step for them.

        The watcher wakes nobody for an instant after it gave something, so what it has is looked at, too.
        """
        watcher = self.watcher
        assert watcher is not None
        deadline = time.monotonic() + 10
        while not self.woken.wait(0.02) and not watcher._sightings:
            assert time.monotonic() < deadline, "no event came"
        time.sleep(0.02)  # those that come with it
        self.woken.clear()
        self.step(0.6)
        return self

    def until_event(self, path: Path, state: State) -> Run:
        """Steps with hardly any time passing, until events alone have brought the folder there."""

        def there() -> Run | None:
            self.step(0.05)
            run = self.store.by_path(str(path))
            return run if run is not None and run.state is state else None

        found = until(there, what=f"{path} {state}")
        assert found is not None
        return found

    # -- rows --------------------------------------------------------------------------------------------------------

    def run(self, path: Path | str) -> Run:
        """The row of a folder."""
        found = self.store.by_path(str(path))
        assert found is not None, f"{path} is not known; known are {[run.path for run in self.store.list()]}"
        return found

    def state(self, path: Path | str) -> str:
        """Where it stands."""
        return self.run(path).state.value

    def known(self) -> list[str]:
        """The paths of all rows, relative to the root."""
        return sorted(os.path.relpath(run.path, self.top) for run in self.store.list())

    def deliver(self, path: Path) -> Run:
        """Let the server have what is queued."""
        run = self.store.claim(MINE, now=2 * NOW, suspects=False, only=[self.run(path).key])
        assert run is not None, f"{path} is {self.run(path).state}: {self.run(path).reason}"
        self.store.contact(run.key, MINE, run_id=run.run_id, incarnation=run.incarnation)
        assert self.store.uploaded(run.key, MINE, receipt(run, snapshot(run.path)), now=NOW)
        self.intake.rest(str(path))
        return self.run(path)

    def delivered(self, name: str) -> Path:
        """A folder that the server has."""
        path = self.folder(name)
        self.settle()
        self.deliver(path)
        return path
