"""A stage with real processes: performs lives of runs, and keeps a journal of what it did when.

As a program (``python -I -S replay_actor.py``) it reads ``{"top", "journals", "cues", "lives": {name: [operation]}}``
from its standard input. Every life gets a process of its own, and every act of it (``["act", [operation, ...]]``) a
further one, which holds what it opened until it closes it, exits, or is killed. It ends when the last process of the
last life has ended.

An operation is a list: its name and its arguments (see ``_Actor``); paths are relative to ``top``. A line of the journal
is ``{"t", "u", "pid", "op", ...}``: ``t`` is the time before the operation and ``u`` the time after it, so that a file
was certainly open from the ``u`` of its opening to the ``t`` of its closing. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import time
from typing import Any, NoReturn

_CUE_POLL = 0.02
_PIECE = 8192
"""Bytes at which Python empties a file's buffer: a file larger than this is written in several pieces."""
_PR_SET_CHILD_SUBREAPER = 36


class _Actor:
    """A process that performs operations; each method ``do_NAME`` is the operation ``NAME``."""

    def __init__(self, name: str, top: str, journal: int, cues: str, began: float) -> None:
        self._name = name
        self._top = top
        self._journal = journal
        self._cues = cues
        self._began = began
        self._open: dict[str, int] = {}
        self._paths: dict[str, str] = {}

    def perform(self, operations: list[list[Any]]) -> None:
        """Perform one after the other."""
        for operation, *arguments in operations:
            getattr(self, f"do_{operation}")(*arguments)

    def note(self, op: str, t: float, **more: Any) -> None:
        """Write a line of the journal; one write, so that the lines of several processes do not mix."""
        line = {"t": t, "u": time.time(), "pid": os.getpid(), "op": op, **more}
        os.write(self._journal, (json.dumps(line) + "\n").encode())

    # -- time ------------------------------------------------------------------------------------------------------

    def do_pause(self, seconds: float) -> None:
        """Do nothing for a while."""
        time.sleep(seconds)

    def do_at(self, seconds: float) -> None:
        """Wait until so many seconds after the life began."""
        time.sleep(max(0.0, self._began + seconds - time.monotonic()))

    def do_cue(self, word: str) -> None:
        """Wait until whoever watches gives this cue."""
        self.note("cue", time.time(), word=word)
        while not os.path.exists(os.path.join(self._cues, f"{self._name}.{word}")):
            time.sleep(_CUE_POLL)

    # -- files -----------------------------------------------------------------------------------------------------

    def do_mkdir(self, path: str) -> None:
        """``mkdir -p``."""
        t = time.time()
        os.makedirs(self._path(path), exist_ok=True)
        self.note("touch", t, path=path)

    def do_open(self, handle: str, path: str, mode: str) -> None:
        """Open for writing (``a`` appends, ``w`` truncates, ``x`` makes a new file) and keep open as ``handle``."""
        flags = {"a": os.O_APPEND | os.O_CREAT, "w": os.O_TRUNC | os.O_CREAT, "x": os.O_EXCL | os.O_CREAT}[mode]
        t = time.time()
        self._open[handle] = os.open(self._path(path), flags | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        self._paths[handle] = path
        self.note("open", t, handle=handle, path=path, mode=mode)

    def do_write(self, handle: str, text: str) -> None:
        """Write to an open file, in the pieces in which Python's buffer empties."""
        t = time.time()
        data = text.encode()
        for begin in range(0, len(data), _PIECE):
            os.write(self._open[handle], data[begin : begin + _PIECE])
        self.note("touch", t, path=self._paths[handle])

    def do_close(self, handle: str) -> None:
        """Close an open file."""
        t = time.time()
        os.close(self._open.pop(handle))
        self.note("close", t, handle=handle)

    def do_put(self, path: str, text: str, mode: str = "w") -> None:
        """Open, write and close."""
        self.do_open("", path, mode)
        self.do_write("", text)
        self.do_close("")

    def do_rename(self, old: str, new: str) -> None:
        """Rename a file or a directory."""
        t = time.time()
        os.rename(self._path(old), self._path(new))
        self.note("touch", t, path=new)

    def do_link(self, old: str, new: str) -> None:
        """Give a file a second name."""
        t = time.time()
        os.link(self._path(old), self._path(new))
        self.note("touch", t, path=new)

    def do_remove(self, path: str) -> None:
        """Delete a file, or a directory with all that is in it."""
        t = time.time()
        if os.path.isdir(self._path(path)):
            shutil.rmtree(self._path(path))
        else:
            os.unlink(self._path(path))
        self.note("touch", t, path=path)

    def do_utime(self, path: str, seconds: float) -> None:
        """Set the time of the last change, as ``tar -x`` and ``rsync -t`` do."""
        t = time.time()
        os.utime(self._path(path), (seconds, seconds))
        self.note("touch", t, path=path)

    # -- processes -------------------------------------------------------------------------------------------------

    def do_act(self, operations: list[list[Any]]) -> None:
        """Perform these in a process of their own, and wait for its end."""
        pid = os.fork()
        if pid == 0:
            self.note("began", time.time())
            self.perform(operations)
            self.do_exit(0)
        os.waitpid(pid, 0)

    def do_fork(self, seconds: float, handle: str = "", text: str = "") -> None:
        """Start a child that inherits every open file and ends after a while, with a last word to one of them."""
        if os.fork() == 0:
            self.note("inherited", time.time(), handles={handle: self._paths[handle] for handle in self._open})
            time.sleep(seconds)
            if handle:
                self.do_write(handle, text)
            self.do_exit(0)

    def do_kill(self) -> NoReturn:
        """End this process as ``kill -9`` does."""
        self.note("end", time.time(), how="killed")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    def do_exit(self, code: int) -> NoReturn:
        """End this process; only now is closed what it left open."""
        self.note("end", time.time(), how=f"exit {code}")
        os._exit(code)

    def _path(self, path: str) -> str:
        return os.path.join(self._top, path)


def _perform(name: str, operations: list[list[Any]], plan: dict[str, Any]) -> NoReturn:
    """One life from its first operation to the end of its last process."""
    journal = os.open(
        os.path.join(plan["journals"], name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    actor = _Actor(name, plan["top"], journal, plan["cues"], time.monotonic())
    try:
        # Children that outlive their parent become ours, so that the life ends with the last of them.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        actor.perform(operations)
        _wait_for_all()
        actor.note("curtain", time.time())
    except BaseException as error:  # noqa: BLE001  told to whoever reads the journal
        actor.note("failed", time.time(), error=repr(error))
        os._exit(1)
    os._exit(0)


def _wait_for_all() -> None:
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return


def main() -> None:
    """Perform every life of the plan, all at the same time."""
    plan = json.load(sys.stdin)
    for name, operations in plan["lives"].items():
        if os.fork() == 0:
            _perform(name, operations, plan)
    _wait_for_all()


if __name__ == "__main__":
    main()
