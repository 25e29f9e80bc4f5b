"""One cell of the fault matrix: a folder, a daemon and a server of its own, with one fault between them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_check import complaints_about_run, runs_of_site
from crash_rig import POLL, Order, Rig, opened_rig

from wandb_outbox.deliver.deliver import FIRST_RETRY
from wandb_outbox.outbox.retry import ATTEMPT_CAP
from wandb_outbox.sandbox import Fault, Sandbox

FOR_SECONDS = 8.0
ACTIONS = ("refuse", "reset", "hang", "slow", "401", "403", "404", "409", "429", "500", "html", "lost-reply", "cut")
OPERATIONS = {
    # name in the matrix → what it is for the sandbox
    "viewer": "Viewer",
    "upsert": "UpsertBucket",
    "artifact": "CreateArtifact",
    "files": "Create*Files",
    "put": "put",
    "commit": "CommitArtifact",
    "file_stream": "file_stream",
    "read-back": "Run*",
}
MEANINGLESS = {
    ("409", "viewer"): "the question who we are has no conflict",
    ("409", "put"): "signed storage knows no conflict",
    ("409", "file_stream"): "W&B answers it to a run that was deleted, which upsert shows first",
    ("409", "read-back"): "reading has no conflict",
    ("slow", "viewer"): "three seconds for one small answer are within every limit: the same as no fault",
}
"""Cells that say nothing, and why."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What goes wrong, where, and for how long: ``once``, ``for 8 s``, or at ``rate`` for ``seconds``."""

    action: str
    operation: str
    once: bool = True
    rate: float = 1.0
    seconds: float = FOR_SECONDS

    @property
    def name(self) -> str:
        """For people."""
        how = "once" if self.once else f"{self.seconds:.0f}s" + ("" if self.rate == 1.0 else f"@{self.rate}")
        return f"{self.action}-{self.operation}-{how}"

    def fault(self) -> Fault:
        """The fault for the sandbox, until it is cleared."""
        common: dict[str, Any] = {
            "operation": OPERATIONS[self.operation], "times": 1 if self.once else None, "rate": self.rate
        }  # fmt: skip
        match self.action:
            case "slow":
                return Fault(action="slow", delay=3.0, bytes_per_second=4000, **common)
            case "html":
                return Fault(action="html", status=200, **common)
            case "cut":
                return Fault(action="cut", after_bytes=40, **common)
            case "429":
                return Fault(action="status", status=429, retry_after=2, **common)
            case "401" | "403" | "404" | "409" | "500":
                return Fault(action="status", status=int(self.action), **common)
            case "reset" | "hang" | "lost-reply":
                return Fault(action=self.action, **common)
            case _:
                raise ValueError(self.action)


def matrix() -> list[Cell]:
    """Every cell that means something."""
    return [
        Cell(action, operation, once)
        for action in ACTIONS
        for operation in OPERATIONS
        for once in (True, False)
        if (action, operation) not in MEANINGLESS
    ]


@dataclass(slots=True)
class Outcome:
    """What became of a cell."""

    cell: Cell
    complaints: list[str]
    hits: int
    attempts: int
    seconds: float
    errors: list[str]

    def line(self) -> str:
        """One line for a table."""
        return (
            f"{self.cell.name:28} {self.seconds:6.1f} s  hits {self.hits:3}  attempts {self.attempts}  "
            f"{'; '.join(self.errors)[:300]}"
        )


class _Run:
    """A cell at work."""

    def __init__(self, cell: Cell, rig: Rig, server: Sandbox) -> None:
        self.cell = cell
        self.rig = rig
        self.server = server
        self.said: list[str] = []
        self.begun: float | None = None
        self.ended = False
        self._injected = False
        self._came = time.time()

    def turn(self) -> None:
        """Begin the fault when its time has come, end it when that is over, and check each ``uploaded``."""
        if not self._injected and self._time_has_come():
            self._injected = True
            if self.cell.action == "refuse":
                self.begun = time.monotonic()
                self.server.down(1.0 if self.cell.once else self.cell.seconds)
            else:
                self.server.inject(self.cell.fault())
        if self._injected:
            # Whoever has sent everything waits here until the fault stands: reading back takes less time than a look.
            for held in self.rig.top.glob("sent/*.held"):
                held.unlink()
        if self.begun is None and self._injected and self._was_hit():
            self.begun = time.monotonic()
        if not self.cell.once and not self.ended and self.begun and time.monotonic() - self.begun > self.cell.seconds:
            self.ended = True
            self.server.clear_faults()
        self.check_held()

    def _time_has_come(self) -> bool:
        """A refusal hits the whole server, so it waits for its operation; reading back comes after the commit."""
        if self.cell.operation == "read-back":
            return bool(self.server.requests.of("CommitArtifact"))
        if self.cell.action != "refuse" or self.cell.operation == "viewer":
            return True
        operation = OPERATIONS[self.cell.operation].replace("Create*Files", "CreateArtifactFiles")
        return bool(self.server.requests.of(operation))

    def _was_hit(self) -> bool:
        if any(each.fault is not None for each in self.server.requests):
            return True
        if self.cell.action != "hang":
            return False
        # A request that hangs is recorded when it ends: it does when nothing more comes, although there is work.
        if not self.rig.events("started" if self.cell.operation == "viewer" else "uploading"):
            return False
        quiet_since = max((each.time for each in self.server.requests), default=self._came)
        return time.time() - max(quiet_since, self._came) > 4.0

    def check_held(self) -> None:
        """The daemon waits with a receipt in its hand: the server must have everything already."""
        for held in sorted((self.rig.top / "held").glob("*.held")):
            folder = json.loads(held.read_text())["folder"]
            path = next(path for path, each in self.rig.folders.items() if str(each) == folder)
            runs = [
                run for run in runs_of_site(self.server.runs(), self.rig.site) if run.config["outbox"]["path"] == path
            ]
            artifacts = self.server.artifacts()
            # Of several runs of one folder any may be meant here; that there is one only is looked at in the end.
            whole = [run for run in runs if not complaints_about_run(run, self.rig.folders[path], path, artifacts)]
            if not whole:
                said = [
                    each for run in runs for each in complaints_about_run(run, self.rig.folders[path], path, artifacts)
                ]
                self.said.append(f"uploaded was about to be said while: {'; '.join(said) or 'there is no run'}")
            held.unlink()


def run_cells_in_one_life(cells: Sequence[Cell], top: Path) -> list[Outcome]:
    """These cells one after the other, through one daemon and its warm uploader, a folder each."""
    outcomes = []
    with Sandbox(seed=1) as server, opened_rig(top / "rig", server, WANDB_OUTBOX_MAX_ATTEMPTS="5") as rig:
        rig.orders(_holds(rig))
        for cell in cells:
            server.requests.clear()
            outcomes.append(_live_through(cell, rig, server, 1, 100.0))
            server.clear_faults()
        if not any(outcome.complaints for outcome in outcomes):
            outcomes[-1].complaints += rig.finish(seconds=30)
        outcomes[-1].complaints += [each.message for each in server.unknown]
    return outcomes


AS_IN_LIFE: Order = {
    "id": "as in life",
    "step": "executor.locked",
    "always": True,
    "set": {
        "wandb_outbox.deliver.deliver:FIRST_RETRY": FIRST_RETRY,
        "wandb_outbox.deliver.deliver:ATTEMPT_CAP": ATTEMPT_CAP,
    },
}
"""A fault of a minute lasts for two or three attempts of a folder; with hurried pauses it would last for fifty."""


def run_cell(cell: Cell, top: Path, *, folders: int = 1, patience: float = 400.0) -> Outcome:
    """Deliver through the fault on a server of its own, and judge."""
    with Sandbox(seed=1) as server, opened_rig(top / "rig", server, WANDB_OUTBOX_MAX_ATTEMPTS="5") as rig:
        rig.orders([*_holds(rig), *([AS_IN_LIFE] if cell.rate < 1.0 else [])])
        outcome = _live_through(cell, rig, server, folders, patience)
        server.clear_faults()
        if not outcome.complaints:
            outcome.complaints += rig.finish(seconds=30)
        outcome.complaints += [each.message for each in server.unknown]
        return outcome


def _holds(rig: Rig) -> list[Order]:
    """The uploader waits with everything sent and nothing read back, the daemon with the receipt in its hand."""
    return [
        {"id": "sent", "step": "send.finished", "always": True, "pause": str(rig.top / "sent")},
        {"id": "receipt", "step": "deliver.receipt-arrived", "always": True, "pause": str(rig.top / "held")},
    ]


def _live_through(cell: Cell, rig: Rig, server: Sandbox, folders: int, patience: float) -> Outcome:
    """Let folders come and the fault work, until it is over and all is uploaded, or something is wrong."""
    began = time.monotonic()
    put_back = len(rig.events("put-back"))
    rig.add(folders)
    run = _Run(cell, rig, server)
    run.turn()
    rig.keep_up()
    fed = began
    while not (rig.all_uploaded() and (run.begun is None or run.ended or cell.once)):
        if rig.daemon is not None and rig.daemon.poll() is not None:
            run.said.append(f"the daemon ended with {rig.daemon.returncode}:\n{rig.log()}")
            break
        if time.monotonic() > began + patience:
            rows = [(row["state"], row["reason"], row["attempts"], row["error_class"]) for row in rig.rows()]
            run.said.append(f"not delivered within {patience:.0f} s: {rows}")
            break
        if cell.rate < 1.0 and not run.ended and time.monotonic() - fed > 2.0:
            rig.add()  # a lasting fault is met by folders that keep coming
            fed = time.monotonic()
        failed = [row for row in rig.rows() if row["state"] == "failed"]
        if failed:
            run.said.append(f"failed: {failed[0]['error_class']}: {failed[0]['error_message']}")
            break
        run.turn()
        time.sleep(POLL)
    run.check_held()
    hits = sum(each.fault is not None for each in server.requests) + (cell.action == "refuse" and run.begun is not None)
    errors = [
        f"{event['error']}{'!' if event.get('attempt_used') else ''}: {event['reason'][-90:]}"
        for event in (*rig.events("put-back")[put_back:], *rig.events("failed"))
    ]
    attempts = max((row["attempts"] for row in rig.rows()), default=0)
    seconds = time.monotonic() - began
    return Outcome(cell, [f"{cell.name}: {each}" for each in run.said], hits, attempts, seconds, errors)
