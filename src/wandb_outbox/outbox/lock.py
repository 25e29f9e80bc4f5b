"""The executor's lock: one process at a time delivers from one state directory.

``flock(2)`` on a file that is never deleted: the kernel drops the lock when the process dies, however it dies, so
no clock decides and nothing is left behind. The file's content is for people.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass

from wandb_outbox import __version__
from wandb_outbox.errors import ExecutorRunning, StateGone
from wandb_outbox.outbox.location import DISK_TROUBLE, StateDir, disk_full


@dataclass(frozen=True, slots=True)
class Executor:
    """Who holds the lock: the process, since when, its version and what it is doing."""

    pid: int
    since: float
    version: str
    command: str


class ExecutorLock:
    """Held from construction to :meth:`release`, or to the death of the process."""

    def __init__(self, state_dir: StateDir, *, now: float, command: str) -> None:
        """Take the lock, or raise :class:`ExecutorRunning` that says who has it."""
        try:
            self._descriptor = os.open(state_dir.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in DISK_TROUBLE:
                raise disk_full(f"the lock {state_dir.lock}", error) from error
            raise
        try:
            _lock(self._descriptor)
        except BlockingIOError as error:
            os.close(self._descriptor)
            holder = _describe(state_dir)
            by = f"pid {holder.pid}, `wandb-outbox {holder.command}`" if holder else "another process"
            raise ExecutorRunning(
                f"{by} is already delivering from {state_dir.path}",
                hint="ask it with `wandb-outbox status`; stop it first, or give this one another --state-dir",
            ) from error
        self._guarded = {state_dir.lock: os.fstat(self._descriptor)}
        text = json.dumps(asdict(Executor(os.getpid(), now, __version__, command)))
        with contextlib.suppress(OSError):  # a full disk: the lock itself needs no room
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)

    def guard(self, path: str) -> None:
        """Let :meth:`check` look after this file, too: it is there now."""
        self._guarded[path] = os.stat(path)

    def check(self) -> None:
        """Raise :class:`StateGone` when the files that we work with are not those that others see.

        Somebody deleted the state directory or its outbox, or put another in its place: an outbox that nobody can see would
        hear no command, and go on delivering beside that of the next executor.
        """
        for path, ours in self._guarded.items():
            try:
                there = os.stat(path)
            except OSError:
                there = None
            if there is None or not os.path.samestat(there, ours):
                raise StateGone(
                    f"{path} was deleted or replaced while it was in use",
                    hint="start again: the outbox is made anew from the folders and from what the server says, and nothing is "
                    "sent twice",
                )

    def release(self) -> None:
        """Let the next executor in. The file stays: deleting a locked file would let two in."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _lock(descriptor: int) -> None:
    """Take it, or raise ``BlockingIOError`` at once when an executor has it.

    Who only asks (:func:`running_executor`) has it shared for an instant: that is waited out.
    """
    for _ in range(100):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(0.005)
        else:
            return
    raise BlockingIOError


def running_executor(state_dir: StateDir) -> Executor | None:
    """Who holds the lock now, or ``None``. Changes nothing and needs only read permission."""
    try:
        descriptor = os.open(state_dir.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe(state_dir) or Executor(0, 0.0, "unknown", "watch")
    finally:
        os.close(descriptor)
    return None


def _describe(state_dir: StateDir) -> Executor | None:
    try:
        with open(state_dir.lock, encoding="utf-8") as file:
            return Executor(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None
