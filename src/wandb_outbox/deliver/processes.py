"""Processes as ``/proc`` shows them: whose child is whose, what they wrote, and which are ours."""

from __future__ import annotations

import contextlib
import os
import signal
import time

MARK = "WANDB_OUTBOX_UPLOADER"
"""Set in the environment of an uploader and so of everything it starts: wandb-core leaves its process group, but
keeps this."""


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, children before grandchildren."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop(0)
        for task in _listing(f"/proc/{parent}/task"):
            try:
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
                    children = [int(word) for word in file.read().split()]
            except OSError:
                continue
            found += children
            queue += children
    return found


def written_bytes(pid: int) -> int:
    """How many bytes the process has handed to ``write(2)``, sockets included; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("wchar:")), 0)
    except OSError:
        return 0


def marked(mark: str) -> list[int]:
    """Every process in sight whose environment carries ``mark`` as the value of :data:`MARK`, or begins with it."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in _listing("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if any(entry.startswith(wanted) for entry in file.read().split(b"\0")):
                    found.append(int(name))
        except OSError:
            continue
    return found


def kill_marked(mark: str, *, patience: float = 5.0) -> int:
    """SIGKILL everything that carries ``mark`` until nothing does; returns how many processes were found.

    One that dies loses its environment first, and its files and locks after that: it is waited for until it is dead.
    """
    seen: set[int] = set()
    deadline = time.monotonic() + patience
    while ((pids := marked(mark)) or any(map(_runs, seen))) and time.monotonic() < deadline:
        for pid in pids:
            seen.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return len(seen)


def _runs(pid: int) -> bool:
    """Whether there is such a process, and it is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
