"""One person's machine for a test: an empty home, outputs, a state directory, and the real command run on them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import run_folders

from wandb_outbox.sandbox import ArtifactView, FileView, RunView, Sandbox

MARK = "WANDB_OUTBOX_UPLOADER"
"""In the environment of every uploader, and of all that it starts."""
POLL = 0.05
ASK = 0.3
"""Seconds between two commands that ask for the same: each costs a tenth of a second of processor time."""
DROP_POWERS = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which root may read and write everything
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command for which, also under root, the permissions of files count."""
PATIENCE = 60.0
"""Seconds after which something that was waited for counts as never coming."""

T = TypeVar("T")


def wait_for(look: Callable[[], T | None], what: str, seconds: float = PATIENCE, pause: float = POLL) -> T:
    """Look until there is something, and return it; fails with ``what`` when it does not come."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(pause)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


class Running:
    """A command that runs, its output kept in files."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def out(self) -> str:
        """What it has written to standard output so far."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return self._err.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log events of this name so far."""
        lines = [json.loads(line) for line in self.err.splitlines() if line.startswith("{") and line.endswith("}")]
        return [event for event in lines if event["event"] == name]

    def wait_event(self, name: str) -> dict[str, Any]:
        """The first log event of this name, waited for."""
        return wait_for(lambda: self.events(name), f"the event {name!r} of process {self.pid}")[0]

    def signal(self, number: int) -> None:
        """Send a signal to it, and to nothing else."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> Done:
        """Its end, waited for."""
        code = self.process.wait(timeout=seconds)
        return Done(code, self.out, self.err)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=PATIENCE)


class Experiment:
    """A live experiment in a process of its own, which holds its log open; see ``run_folders``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, run_folders.__file__, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.stage = self._read()

    def _read(self) -> str:
        return _stream(self.process.stdout).readline().strip()

    def go_on(self) -> str:
        """Let it write its next stage; returns the stage's name, or nothing when it has ended."""
        stdin = _stream(self.process.stdin)
        stdin.write("\n")
        stdin.flush()
        self.stage = self._read()
        return self.stage

    def go_to(self, stage: str) -> None:
        """Let it write until this stage is done."""
        while self.stage != stage:
            assert self.go_on(), f"the experiment ended before {stage}"

    def end(self) -> None:
        """Let it write what is left, and end by itself."""
        while self.stage:
            self.go_on()
        self.process.wait(timeout=PATIENCE)

    def kill(self) -> None:
        """SIGKILL: what it was doing stays half done."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE)

    def close(self) -> None:
        """End it if it still runs, and let go of its pipes."""
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                _stream(stream).close()


class Bench:
    """A machine in a directory, and the server that it delivers to."""

    def __init__(self, top: Path, server: Sandbox) -> None:
        self.top = top
        self.server = server
        self.outputs = top / "outputs"
        self.state = top / "state"
        self.home = top / "home"
        self._started: list[Running] = []
        self._experiments: list[Experiment] = []
        for directory in (self.outputs, self.home):
            directory.mkdir(parents=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "WANDB_OUTBOX_STATE_DIR": str(self.state),
            # Short, so that no test waits for what is only a habit of people; "crashed" must still come after "seen".
            "WANDB_OUTBOX_SETTLE": "0.2",
            "WANDB_OUTBOX_CRASH_GRACE": "0.4",
            "WANDB_OUTBOX_RESCAN": "1",
            **server.environment(),
        }

    # -- commands ----------------------------------------------------------------------------------------------------

    def run(
        self,
        *words: str | Path,
        environ: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        powers: bool = True,
        seconds: float = PATIENCE,
    ) -> Done:
        """Run a command to its end.

        ``environ``: changes to the environment; ``None`` takes a name out. ``powers``: whether root may do everything.
        """
        line = self._line(words)
        process = subprocess.run(
            line if powers else [sys.executable, "-c", DROP_POWERS, *line],
            env=self._environment(environ), cwd=cwd or self.top, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=seconds, check=False,
        )  # fmt: skip
        return Done(process.returncode, process.stdout, process.stderr)

    def start(
        self, *words: str | Path, environ: Mapping[str, str | None] | None = None, python: Sequence[str] = ()
    ) -> Running:
        """Start a command; it is ended with the test. ``python`` are options for the interpreter."""
        number = len(self._started)
        out, err = self.top / f"command-{number}.out", self.top / f"command-{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                self._line(words, python), env=self._environment(environ), cwd=self.top, stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=stderr,
            )  # fmt: skip
        running = Running(process, out, err)
        self._started.append(running)
        return running

    def watch(self, *roots: Path, **options: Any) -> Running:
        """Start the daemon over ``outputs`` or these roots, and wait until it watches."""
        daemon = self.start("watch", *(roots or (self.outputs,)), **options)
        daemon.wait_event("started")
        return daemon

    def experiment(self, folder: Path) -> Experiment:
        """Start an experiment that writes this folder; it is ended with the test."""
        experiment = Experiment(folder)
        self._experiments.append(experiment)
        return experiment

    def _line(self, words: Sequence[str | Path], python: Sequence[str] = ()) -> list[str]:
        return [sys.executable, *python, "-m", "wandb_outbox", *map(str, words)]

    def _environment(self, changes: Mapping[str, str | None] | None) -> dict[str, str]:
        merged = {**self.environ, **(changes or {})}
        return {name: value for name, value in merged.items() if value is not None}

    # -- what the commands say -----------------------------------------------------------------------------------------

    def list(self, *words: str) -> list[dict[str, Any]]:
        """The runs of ``list --json``."""
        answer = self.run("list", "--json", *words)
        assert answer.code == 0, answer
        runs: list[dict[str, Any]] = answer.json()["runs"]
        return runs

    def row(self, folder: Path) -> dict[str, Any] | None:
        """The run of this folder, or ``None`` when it was not seen yet."""
        return next((run for run in self.list() if run["path"] == str(folder)), None)

    def wait_state(self, folder: Path, state: str, **values: object) -> dict[str, Any]:
        """The run of this folder once it is in this state (and has these values), waited for."""
        last: list[object] = [None]

        def look() -> dict[str, Any] | None:
            last[0] = row = self.row(folder)
            wanted = {"state": state, **values}
            return row if row is not None and all(row[name] == value for name, value in wanted.items()) else None

        try:
            return wait_for(look, f"{folder.name} to be {state} {values or ''}", pause=ASK)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last[0]}") from None

    def status(self) -> dict[str, Any]:
        """``status --json``."""
        answer: dict[str, Any] = self.run("status", "--json").json()
        return answer

    # -- processes -----------------------------------------------------------------------------------------------------

    def uploaders(self) -> dict[int, str]:
        """Every living process that an uploader of this state directory is or has started: its id and its name."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                entries = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                ours = f"WANDB_DIR={self.state / 'uploader'}".encode() in entries
                if ours and any(entry.startswith(f"{MARK}=".encode()) for entry in entries):
                    found[int(name)] = Path(f"/proc/{name}/comm").read_text().strip()
        return found

    def wait_no_uploaders(self) -> None:
        """Wait until no uploader and no wandb-core of this state directory is left."""
        wait_for(lambda: not self.uploaders(), f"the end of {self.uploaders()}", 10)

    def close(self) -> None:
        """End everything that was started; nothing may outlive it."""
        for experiment in self._experiments:
            experiment.close()
        for running in self._started:
            running.kill()
        try:
            self.wait_no_uploaders()
        finally:
            for pid in self.uploaders():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def opened_bench(top: Path) -> Iterator[Bench]:
    """A bench with a server of its own, which must have understood every request when it is closed."""
    with Sandbox() as server:
        bench = Bench(top, server)
        try:
            yield bench
        finally:
            server.clear_faults()
            bench.close()
        assert server.unknown == []
        assert [each for each in server.requests if each.status >= 500 and each.fault is None] == []


# -- tests side by side --------------------------------------------------------------------------------------------------

Body = Callable[[Bench], None]
_BODIES: dict[str, list[Body]] = {}
AT_A_TIME = 4
"""Each of these tests mostly waits: for a folder to settle, for an uploader to start."""


def bodies_of(module: str) -> list[Body]:
    """The tests of a module that were marked ``alone_on_a_bench``."""
    return _BODIES.get(module, [])


class SideBySide:
    """Runs tests that share nothing at the same time; each is still asked for its result, and fails, by itself."""

    def __init__(self, top: Path, bodies: Sequence[Body]) -> None:
        self._pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="bench")
        self._results = {body: self._pool.submit(self._run, body, top / body.__name__) for body in bodies}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def result(self, body: Body) -> None:
        """Wait for this one; raises what it raised."""
        self._results[body].result()

    @staticmethod
    def _run(body: Body, top: Path) -> None:
        with opened_bench(top) as bench:
            body(bench)


def alone_on_a_bench(body: Body) -> Callable[[SideBySide], None]:
    """Mark a test that is given a bench of its own and shares nothing, so that it may run beside others."""

    def test(side_by_side: SideBySide) -> None:
        side_by_side.result(body)

    # Not functools.wraps, through which pytest would see the body's parameters.
    test.__name__, test.__qualname__, test.__module__ = body.__name__, body.__qualname__, body.__module__
    test.__doc__ = body.__doc__
    _BODIES.setdefault(body.__module__, []).append(body)
    return test


# -- comparing -----------------------------------------------------------------------------------------------------------


def md5_of(file: Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def md5s_on_disk(folder: Path) -> dict[str, str]:
    """The MD5 of every file of a folder, by its path in it."""
    return {str(file.relative_to(folder)): md5_of(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def md5s_on_server(files: Mapping[str, FileView]) -> dict[str, str]:
    """The MD5 of every file that the server has: of the bytes on its disk, not of what it was told."""
    found = {}
    for name, file in files.items():
        assert file.path is not None, name
        found[name] = md5_of(file.path)
    return found


def outputs_of(server: Sandbox) -> list[ArtifactView]:
    """Every version of the folders' own artifacts: without those that the SDK makes for tables.

    What a killed uploader began and never committed is no version: the server keeps it aside, and drops it in time.
    """
    return [each for each in server.artifacts() if each.name.startswith("outputs-") and each.version is not None]


def artifact_of(server: Sandbox, run: RunView) -> ArtifactView:
    """The newest artifact of the whole folder that this run logged."""
    named = {f"{artifact.name}:{artifact.version}": artifact for artifact in outputs_of(server)}
    return named[next(name for name in reversed(run.logged_artifacts) if name in named)]


def assert_delivered_once(server: Sandbox, folder: Path) -> tuple[RunView, ArtifactView]:
    """The server has one run and one artifact version, committed, with exactly the bytes of the folder."""
    (run,) = server.runs()
    (artifact,) = outputs_of(server)
    assert artifact.state == "COMMITTED"
    assert md5s_on_server(artifact.files) == md5s_on_disk(folder)
    assert artifact.logged_by == run.id
    return run, artifact


def fingerprint_of(top: Path) -> dict[str, tuple[int, ...]]:
    """What a write below ``top`` would change: kind, size, inode, mtime and ctime of everything in it."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (top, *sorted(top.rglob("*"))):
        info = path.lstat()
        found[str(path)] = (info.st_mode, info.st_size, info.st_ino, info.st_mtime_ns, info.st_ctime_ns)
    return found


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
