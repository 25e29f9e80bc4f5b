"""One executor a state directory, by a lock that the kernel drops with the process."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from children import python, until
from outbox_makers import NOW, state_dir

from wandb_outbox import __version__
from wandb_outbox.errors import ExecutorRunning
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.lock import Executor, ExecutorLock, running_executor

TAKE = """
import sys
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.lock import ExecutorLock
lock = ExecutorLock(StateDir(sys.argv[1]), now=12.5, command="watch")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def where(tmp_path: Path) -> StateDir:
    """A state directory."""
    return state_dir(tmp_path)


def test_nobody_runs_in_a_new_directory(where: StateDir) -> None:
    """Asking makes no file."""
    assert running_executor(where) is None
    assert not os.path.exists(where.lock)


def test_the_holder_is_known_to_all(where: StateDir) -> None:
    """Process, since when, version, command."""
    with python(TAKE, where.path) as holder:
        assert running_executor(where) == Executor(holder.pid, 12.5, __version__, "watch")


def test_a_second_taker_is_told_who_has_it_and_what_to_do(where: StateDir) -> None:
    """No traceback: the pid, the command, and the way out."""
    with python(TAKE, where.path) as holder:
        with pytest.raises(ExecutorRunning, match=rf"pid {holder.pid}, `wandb-outbox watch` is already") as told:
            ExecutorLock(where, now=NOW, command="flush")
        assert "wandb-outbox status" in told.value.hint
        assert where.path in told.value.message


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_lock_goes_with_its_holder(where: StateDir, how: signal.Signals | None) -> None:
    """However the process ends; what the file still says counts for nothing."""
    with python(TAKE, where.path) as holder:
        if how is not None:
            holder.signal(how)
        holder.end()
        assert running_executor(where) is None
        ExecutorLock(where, now=NOW, command="flush").release()


def test_a_stopped_holder_keeps_the_lock(where: StateDir) -> None:
    """A suspended daemon is not dead: two must never deliver."""
    with python(TAKE, where.path) as holder:
        holder.signal(signal.SIGSTOP)
        try:
            with pytest.raises(ExecutorRunning):
                ExecutorLock(where, now=NOW, command="flush")
        finally:
            holder.signal(signal.SIGCONT)


def test_a_child_of_the_holder_does_not_inherit_the_lock(where: StateDir) -> None:
    """An uploader that outlives a killed executor must not keep the next one out."""
    code = TAKE.replace(
        'print("ready"',
        'import subprocess; child = subprocess.Popen(["/bin/sleep", "60"], close_fds=False); print("ready"',
    ).replace("sys.stdin.read()", "print(child.pid, flush=True); sys.stdin.read()")
    with python(code, where.path) as holder:
        child = int(holder.line())
        holder.signal(signal.SIGKILL)
        holder.end()
        try:
            assert running_executor(where) is None
        finally:
            os.kill(child, signal.SIGKILL)


def test_after_release_the_next_gets_it(where: StateDir) -> None:
    """The file stays, for a deleted lock file would let two in; it names nobody any more."""
    lock = ExecutorLock(where, now=NOW, command="watch")
    assert running_executor(where) == Executor(os.getpid(), NOW, __version__, "watch")
    lock.release()
    assert running_executor(where) is None
    assert Path(where.lock).read_bytes() == b""
    ExecutorLock(where, now=NOW, command="flush").release()


def test_people_who_ask_never_keep_an_executor_out(where: StateDir) -> None:
    """Somebody runs `status --watch` in every window: starting works all the same, each time."""
    ExecutorLock(where, now=NOW, command="watch").release()
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.0005):
            running_executor(where)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            ExecutorLock(where, now=NOW, command="watch").release()
    finally:
        stop.set()
        for thread in asking:
            thread.join()


def test_a_lock_file_with_nonsense_still_says_that_somebody_runs(where: StateDir) -> None:
    """The lock is the fact; its content is for people."""
    with python(TAKE, where.path):
        Path(where.lock).write_bytes(b"\xff{")
        found = running_executor(where)
        assert found is not None
        assert found.pid == 0
        with pytest.raises(ExecutorRunning, match="another process"):
            ExecutorLock(where, now=NOW, command="flush")
    until(lambda: running_executor(where) is None)
