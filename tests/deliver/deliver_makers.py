"""Stand-ins and small values for tests of deliveries."""

from __future__ import annotations

from typing import Any

from wandb_outbox.deliver.protocol import Job
from wandb_outbox.deliver.sink import Sink
from wandb_outbox.errors import DiskFull
from wandb_outbox.model import Plan, PlannedTable, PlanRequest, Run


def job(run: Run | None = None, **changes: Any) -> Job:
    """What the uploader is told of a row."""
    request = PlanRequest(run.path if run else "/outputs/a", "/outputs", "plain", run.run_id if run else "id", "site")
    values: dict[str, Any] = {
        "key": run.key if run else 1,
        "request": request,
        "birth": "1:1",
        "fingerprint": run.fingerprint if run else "f",
        "contacted": run.contacted if run else False,
    }
    return Job(**{**values, **changes})


class StandIn(Sink):
    """An uploader that says what the test lets it say, and keeps the contract of :mod:`wandb_outbox.deliver.sink`."""

    def __init__(self) -> None:
        super().__init__({}, base_url="http://127.0.0.1:1", directory="/nowhere", mark="none", wake=lambda: None)
        self.sent: list[Job] = []
        self.allowed: list[tuple[int, bool]] = []
        self.probes = 0
        self.kills = 0
        self.running = False
        self.broken = False
        self._said: list[dict[str, Any]] = []

    @property
    def pid(self) -> int | None:
        """Whether it runs."""
        return 1 if self.running else None

    def runs(self) -> bool:
        """Whether it runs now."""
        return self.running

    def say(self, **message: Any) -> None:
        """Let it say something."""
        assert self.running, "a process that does not run says nothing"
        self._said.append(message)

    def answer(self, state: str, **more: Any) -> None:
        """Let it answer a probe."""
        self.say(**{"is": "answer", "state": state, "detail": f"it is {state}", **more})

    def die(self) -> None:
        """Let it die by itself."""
        self.say(**{"is": "died"})
        self.running = False

    def _start_once(self) -> None:
        if self.broken:
            raise DiskFull("the uploader cannot be started: no room")
        self.running = True

    def send(self, job: Job) -> None:
        """Take a delivery."""
        self._start_once()
        self.sent.append(job)

    def allow(self, key: int, *, recorded: bool) -> None:
        """Take the permission."""
        self.allowed.append((key, recorded))

    def warm(self) -> None:
        """Be ready."""
        self._start_once()

    def probe(self) -> None:
        """Take the question."""
        self._start_once()
        self.probes += 1

    def poll(self) -> list[dict[str, Any]]:
        """Give what was said."""
        said, self._said = self._said, []
        return said

    def kill(self) -> None:
        """Be gone, with everything that was not heard yet."""
        self.kills += self.running
        self.running = False
        self._said.clear()

    def stop(self) -> None:
        """Be ended when idle."""
        self.kill()

    def last_words(self) -> str:
        """Say why it died."""
        return "MemoryError"

    def end_leftovers(self) -> int:
        """Nothing is ever left."""
        return 0


def plan(**changes: Any) -> Plan:
    """A small plan."""
    values: dict[str, Any] = {
        "path": "/outputs/a", "format": "plain", "kind": "folder", "convention": "auto", "verdict": "complete",
        "reason": "", "entity": None, "project": "p", "name": "n", "group": None, "job_type": "eval",
        "tags": ("a", "b"), "notes": None, "run_id": "id", "config": {"strategy": {"type": "x"}, "lr": 1},
        "summary": {"acc": 0.5, "n": 3}, "history": (), "tables": (PlannedTable("samples", ("q",), (("1",),), 1),),
        "artifacts": (), "inputs": (), "run_files": ("results.json",), "excluded": (), "sources": {}, "warnings": (),
        "exit_code": 0, "started_at": None, "ended_at": None, "fingerprint": "f",
    }  # fmt: skip
    return Plan(**{**values, **changes})
