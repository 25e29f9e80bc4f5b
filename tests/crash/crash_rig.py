"""One machine under attack: run folders that come, the real daemon that is restarted whenever it dies, and the server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import crash_hook
from crash_check import (
    complaints_about_folder,
    complaints_about_processes,
    complaints_about_rows,
    complaints_about_strangers,
    processes_of,
    rows_of,
    runs_of_site,
)
from crash_folders import Trees, make_folder

import wandb_outbox
from wandb_outbox.deliver.processes import descendants
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store
from wandb_outbox.sandbox import Sandbox

LONG = os.environ.get("WANDB_OUTBOX_TORTURE") == "1"
"""Whether the long versions run (``make torture``)."""
REPORT = os.environ.get("WANDB_OUTBOX_TORTURE_REPORT")
"""A file to which the figures of a long run are added, a JSON object a line."""
POLL = 0.08
"""Seconds between two looks: the servers live in this process, too, and looking takes their time."""
PACKAGE = Path(wandb_outbox.__file__).parents[1]
"""So that the real processes run what the tests have imported, however that is installed."""
T = TypeVar("T")

HURRY = {
    "id": "hurry",
    "step": "executor.locked",
    "always": True,
    "set": {
        # Waits that only chance or courtesy needs: none of them guards a promise, and a killed process pays them again.
        "wandb_outbox.detect.completion:CONFIRM": 0.05,
        "wandb_outbox.outbox.intake:LOOK_GAP": 0.05,
        "wandb_outbox.deliver.deliver:FIRST_RETRY": 0.2,
        "wandb_outbox.deliver.deliver:ATTEMPT_CAP": 1.0,
        "wandb_outbox.deliver.gate:FIRST_PROBE": 0.2,
        "wandb_outbox.deliver.gate:PROBE_CAP": 2.0,
        "wandb_outbox.deliver.gate:DISK_PROBE": 0.5,
        "wandb_outbox.deliver.gate:UNAUTHORIZED_PROBE": 1.0,
        "wandb_outbox.service.daemon:TROUBLE_PAUSE": 0.3,
    },
}
"""The order that shortens the daemon's pauses."""

Order = dict[str, Any]


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """Look until there is something, and return it; fails with ``what`` when it does not come."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(POLL)


def patient(**constants: float) -> Order:
    """The order that sets constants of the uploader's ``deliver.send``, so that a hopeless wait ends sooner."""
    named = {f"wandb_outbox.deliver.send:{name}": value for name, value in constants.items()}
    return {"id": "patience", "step": "send.planned", "always": True, "set": named}


def report(what: str, **figures: object) -> None:
    """Add the figures of a long run to the report."""
    if LONG and REPORT:
        with open(REPORT, "a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **figures}) + "\n")


class Rig:
    """A machine with a state directory of its own; several may share one server, told apart by their site."""

    def __init__(self, top: Path, server: Sandbox, *, hurry: bool = True, **environ: str) -> None:
        self.top = top
        self.server = server
        self.site = f"site-{top.name}"
        self.outputs = top / "outputs"
        self.state = top / "state"
        self.database = self.state / "outbox.db"
        self.hook = top / "hook"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.lives = 0
        self.kills = 0
        self.folders: dict[str, Path] = {}
        self._hurry = hurry
        for directory in (self.outputs, self.hook, top / "home", top / "held", top / "sent"):
            directory.mkdir(parents=True)
        shutil.copy(crash_hook.__file__, self.hook / "sitecustomize.py")
        self.orders([])
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(top / "home"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{self.hook}{os.pathsep}{PACKAGE}",
            "WANDB_OUTBOX_STATE_DIR": str(self.state),
            "WANDB_OUTBOX_SITE": self.site,
            "WANDB_OUTBOX_SETTLE": "0",
            "WANDB_OUTBOX_RESCAN": "2",
            "WANDB_OUTBOX_MAX_ATTEMPTS": "1000",
            "WANDB_OUTBOX_STOP_TIMEOUT": "5",
            **server.environment(),
            **environ,
        }

    # -- orders --------------------------------------------------------------------------------------------------------

    def orders(self, orders: Sequence[Order]) -> None:
        """What the processes that start from now on do at their steps."""
        (self.hook / "new").write_text(json.dumps([*([HURRY] if self._hurry else []), *orders]))
        (self.hook / "new").rename(self.hook / "orders.json")

    def carried_out(self) -> set[str]:
        """The orders that were carried out, by their ids."""
        return {path.name.removeprefix("done-") for path in self.hook.glob("done-*")}

    # -- folders -------------------------------------------------------------------------------------------------------

    def add(self, count: int = 1, *, project: str = "gsm8k", padding: int = 0) -> list[Path]:
        """So many further experiments have ended."""
        made = []
        for _ in range(count):
            number = len(self.folders)
            # The rig's name in it: artifacts are named by the path, and the server may be shared.
            path = f"2025-12-03/{self.top.name}-{number:04d}"
            # All at once, by a rename: these tests are not about noticing the end.
            new = make_folder(self.top / "new" / f"{number}", path, project=project, padding=padding)
            (self.outputs / "2025-12-03").mkdir(exist_ok=True)
            new.rename(self.outputs / path)
            self.folders[path] = self.outputs / path
            made.append(self.outputs / path)
        return made

    # -- the daemon ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemon."""
        with (self.top / f"daemon-{self.lives:04d}.log").open("wb") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "wandb_outbox", "watch", str(self.outputs)],
                env=self.environ, cwd=self.top, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.lives += 1

    def keep_up(self) -> bool:
        """Start the daemon again when it was killed; whether that was so. Fails when it ended in any other way."""
        if self.daemon is None:
            self.start()
            return False
        code = self.daemon.poll()
        if code is None:
            return False
        assert code == -signal.SIGKILL, f"the daemon ended with {code}:\n{self.log()}"
        self.start()
        return True

    def pids(self) -> dict[str, int]:
        """The living processes by what they are: ``daemon``, ``uploader``, ``core``."""
        daemon = self.daemon
        if daemon is None or daemon.poll() is not None:
            return {}
        found = {"daemon": daemon.pid}
        below = descendants(daemon.pid)
        for pid in below:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if crash_hook.UPLOADER.encode() in words:
                    found["uploader"] = pid
                elif b"wandb-core" in words[0]:
                    found["core"] = pid
        return found

    def log(self, last: int = 4000) -> str:
        """The end of what the daemon has said in its last life, and its uploader."""
        texts = []
        for path in (self.top / f"daemon-{self.lives - 1:04d}.log", self.state / "uploader" / "uploader.log"):
            with contextlib.suppress(OSError):
                texts.append(path.read_text(errors="replace")[-last:])
        return "\n--- uploader.log\n".join(texts)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the daemon has logged under this name, in all its lives."""
        found = []
        for path in sorted(self.top.glob("daemon-*.log")):
            for line in path.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict) and event.get("event") == name:
                        found.append(event)
        return found

    def stop(self) -> int:
        """Ask the daemon to end, and wait for it; its exit code."""
        assert self.daemon is not None
        daemon, log = self.daemon, self.top / f"daemon-{self.lives - 1:04d}.log"
        # Before it says so it has no handler yet.
        wait_for(lambda: daemon.poll() is not None or '"started"' in log.read_text(errors="replace"), "its start")
        self.daemon.send_signal(signal.SIGTERM)
        try:
            return self.daemon.wait(30)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon does not end:\n{self.log()}") from None

    def close(self) -> None:
        """End whatever is left of the daemon and what it has started."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.kill()
        if self.daemon is not None:
            self.daemon.wait(30)
        for pid in processes_of(self.state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- the outbox ----------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the outbox."""
        return rows_of(self.database)

    def states(self) -> dict[str, str]:
        """The state of every folder by its path below the outputs."""
        return {os.path.relpath(row["path"], self.outputs): row["state"] for row in self.rows()}

    def all_uploaded(self) -> bool:
        """Whether the outbox says so of every folder."""
        states = self.states()
        return all(states.get(path) == "uploaded" for path in self.folders)

    def fact(self, name: str) -> Any:
        """What the daemon tells ``status`` under this name."""
        store = Store.read(StateDir(str(self.state)))
        if store is None:
            return None
        try:
            return store.fact(name)
        finally:
            store.close()

    def drain(self, seconds: float = 120.0) -> None:
        """Keep the daemon up until everything is uploaded."""

        def look() -> bool:
            self.keep_up()
            return self.all_uploaded()

        try:
            wait_for(look, "everything to be uploaded", seconds)
        except AssertionError as error:
            left = [row for row in self.rows() if row["state"] != "uploaded"]
            words = [(row["path"], row["state"], row["reason"], row["attempts"]) for row in left]
            raise AssertionError(f"{error}; left: {words}\n{self.log()}") from None

    # -- the verdict ---------------------------------------------------------------------------------------------------

    def complaints(self, before: Trees | None = None, *, contents: int | None = 1) -> list[str]:
        """Everything that is wrong now; ``before`` is what the outputs looked like."""
        runs, artifacts = runs_of_site(self.server.runs(), self.site), self.server.artifacts()
        ours = {run.id for run in runs}
        artifacts = [each for each in artifacts if each.logged_by in ours]
        said = complaints_about_strangers(runs, self.folders)
        for path, folder in self.folders.items():
            said += complaints_about_folder(folder, path, runs, artifacts, contents=contents)
        said += complaints_about_rows(self.database, self.folders, runs)
        if before is not None:
            said += before.changes_in(Trees.of(self.outputs))
        return said

    def finish(self, *, seconds: float = 120.0, contents: int | None = 1) -> list[str]:
        """Drain, stop, and return everything that is wrong then."""
        before = Trees.of(self.outputs)
        self.drain(seconds)
        code = self.stop()
        said = [] if code == 0 else [f"the daemon ended with {code}"]
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not processes_of(self.state), "the end of the uploader", 5)
        return said + complaints_about_processes(self.state) + self.complaints(before, contents=contents)


@contextlib.contextmanager
def opened_rig(top: Path, server: Sandbox, **options: Any) -> Iterator[Rig]:
    """A rig of which nothing is left running at the end."""
    rig = Rig(top, server, **options)
    try:
        yield rig
    finally:
        rig.close()


def kill(pids: Mapping[str, int], *names: str) -> int:
    """SIGKILL those of a rig's processes that live; how many that were."""
    count = 0
    for name in names:
        if name in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[name], signal.SIGKILL)
                count += 1
    return count
