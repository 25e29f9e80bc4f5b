"""What the benchmarks share: a directory, a server in a process of its own, and commands whose cost is known."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wandb_outbox.sandbox import SandboxClient

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent

KEY = "sandbox0" * 5
T = TypeVar("T")


@contextmanager
def scratch(top: str | None = None) -> Iterator[Path]:
    """A directory that is deleted afterwards: on the disk of temporary files, or below ``top``."""
    path = Path(tempfile.mkdtemp(prefix="outbox-bench-", dir=top))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 120.0, pause: float = 0.02) -> T:
    """Look until there is something, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:.0f} s for {what}")
        time.sleep(pause)
    return found


class Server:
    """A sandbox in a process of its own, whose cost is nobody's; its bytes are gone at the end."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self._process = process
        self.url = url
        self.client = SandboxClient(url)

    def environment(self) -> dict[str, str]:
        """What points the SDK at it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def served(self, operation: str) -> list[tuple[float, float]]:
        """When the requests of one operation came, and when they were answered; seconds since the epoch."""
        return [
            (each["time"], each["time"] + each["seconds"])
            for each in self.client.requests()
            if each["operation"] == operation and each["status"] == 200
        ]


@contextmanager
def server(top: str | None = None) -> Iterator[Server]:
    """A fresh server; its bytes are kept below ``top``, by default in memory."""
    with scratch(top or ("/dev/shm" if os.path.isdir("/dev/shm") else None)) as directory:
        port_file = directory / "port"
        process = subprocess.Popen(
            [sys.executable, "-m", "wandb_outbox", "sandbox", "--port", "0", "--port-file", str(port_file)],
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "TMPDIR": str(directory)},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=directory,
        )  # fmt: skip
        try:
            port = wait_for(lambda: port_file.exists() and port_file.read_text().strip(), "the server to listen")
            running = Server(process, f"http://127.0.0.1:{port}")
            running.client.wait_ready()
            yield running
        finally:
            process.terminate()
            process.wait(timeout=60)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command and everything that it started cost.

    Attributes:
        code: Its exit code.
        wall: Seconds until it ended.
        cpu: Seconds of a core, of all its processes.
        began_at: When it began, in seconds since the epoch.
        written: Bytes that its processes caused to be written to a disk.
        anonymous: The most memory that its processes had at once, without pages of files; 0 unless asked for.
        directories: The most bytes that lay in the watched directories at once.
        processes: The most processes at once; 0 unless asked for.
        out: What it printed.
    """

    code: int
    wall: float
    cpu: float
    began_at: float
    written: int
    anonymous: int
    directories: int
    processes: int
    out: str


def measure(
    command: Sequence[str], environ: Mapping[str, str], cwd: Path, *, watched: Sequence[str] = (), expect: int = 0
) -> Cost:
    """Run a command to its end. With ``watched`` directories memory and their sizes are sampled meanwhile."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as result:
        more = {"REAPER_DIRECTORIES": ":".join(watched)} if watched else {}
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(HERE / "reaper.py"), result.name, *command],
            env={**environ, **more}, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{' '.join(command[:4])} could not be run: {done.stderr}")
        figures = json.load(result)
    if figures["code"] != expect:
        raise SystemExit(f"{' '.join(command[:6])} ended with {figures['code']}:\n{done.stdout}\n{done.stderr}")
    if figures["lingered"]:
        raise SystemExit(f"{' '.join(command[:6])} left {figures['lingered']} processes behind")
    peaks = figures["peaks"]
    return Cost(
        figures["code"], figures["wall"], figures["cpu"], figures["began_at"], figures["written"], peaks["anonymous"],
        peaks["directories"], peaks["processes"], done.stdout,
    )  # fmt: skip


def plain_environment(home: Path) -> dict[str, str]:
    """An environment of nobody's habits; all of the SDK's directories lie below ``home``."""
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "WANDB_DIR": str(home),
        "WANDB_CACHE_DIR": str(home / "cache"), "WANDB_DATA_DIR": str(home / "data"),
        "WANDB_CONFIG_DIR": str(home / "config"), "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true",
    }  # fmt: skip


def outbox(*words: str | Path) -> list[str]:
    """The command line of one of our commands."""
    return [sys.executable, "-m", "wandb_outbox", *map(str, words)]


def outbox_environment(home: Path, **settings: object) -> dict[str, str]:
    """The environment of one of our commands; settings by their names."""
    made = {f"WANDB_OUTBOX_{name.upper()}": str(value) for name, value in settings.items()}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **made}


def cpu_seconds(pid: int) -> float:
    """Seconds of a core that a process and all its threads have used, in the kernel's own nanoseconds."""
    used = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with (
            contextlib.suppress(FileNotFoundError),
            open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file,
        ):
            used += int(file.read().split()[0])
    return used / 1e9


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def inotify_watches(pid: int) -> int:
    """How many inotify watches a process has."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
            found += sum(line.startswith("inotify") for line in file)
    return found


def rest(seconds: float) -> None:
    """Let time pass; none, if it is over already."""
    time.sleep(max(seconds, 0.0))


@contextmanager
def daemon(home: Path, root: Path, environ: Mapping[str, str], *, nice: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that watches ``root``; ended with all that it started."""
    log = home / "daemon.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            ["nice", "-n", str(nice), *outbox("watch", root, "--state-dir", home / "state")], env=environ, cwd=home,
            stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
        )  # fmt: skip
    try:
        wait_for(lambda: b'"started"' in log.read_bytes(), "the daemon to start")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=120)
