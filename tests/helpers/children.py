"""Real child processes for tests: they hold files, take locks, are killed, or look at a folder as somebody else."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

NOBODY = 65534
T = TypeVar("T")

BECOME_NOBODY = """
import os
def become_nobody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
"""
"""Drops every right of root for good; everything must be imported before, for nobody may not read the sources."""


def until(condition: Callable[[], T], *, seconds: float = 15.0, what: str = "what was waited for") -> T:
    """Wait for the event that makes ``condition`` true, and give back its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.003)
    return value


def run_python(code: str, *arguments: str) -> str:
    """Run a program to its end with this interpreter and the project, and give back what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", BECOME_NOBODY + code, *arguments], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


class Child:
    """A process that has said ``ready`` and lives until its input is closed or it is killed."""

    def __init__(self, command: Sequence[str], *, user: int | None = None) -> None:
        # The group as well: /proc shows open files only to a process with the same user and the same group.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            cwd="/",
            start_new_session=True,
        )
        self.pid = self._process.pid
        first = self.line()
        assert first == "ready", f"the child said {first!r}"

    def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def say(self, line: str) -> None:
        """Write a line to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Close its input, and wait for it; its return code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        code = self._process.wait(timeout=20)
        self._process.stdout.close()
        return code

    def kill(self) -> None:
        """End it as a power loss would."""
        self._process.kill()
        self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.end()


def python(code: str, *arguments: str) -> Child:
    """A child that runs a program with this interpreter and the project."""
    return Child([sys.executable, "-u", "-c", BECOME_NOBODY + code, *arguments])


def holding(path: Path | str, flags: int, *, pause: str = "sys.stdin.read()") -> Child:
    """A child that keeps a file open."""
    code = f"import os, sys\nf = os.open(sys.argv[1], {flags}, 0o644)\nprint('ready', flush=True)\n{pause}"
    return Child([sys.executable, "-I", "-S", "-c", code, str(path)])


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that every user may enter and read, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="outbox-test-"))
    try:
        path.chmod(0o755)
        for above in path.resolve().parents:
            assert above.stat().st_mode & stat.S_IXOTH, f"{above} is closed to other users: set TMPDIR to an open one"
        yield path
    finally:
        path.chmod(0o700)
        for directory, names, _ in os.walk(path):
            for name in names:  # before the walk enters them
                os.chmod(os.path.join(directory, name), 0o700)
        shutil.rmtree(path)
