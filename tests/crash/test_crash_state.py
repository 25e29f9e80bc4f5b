"""The state directory in trouble: no room, damaged, from the future; and processes that were suspended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash_check import complaints_about_database, complaints_about_processes
from crash_parallel import side_by_side
from crash_rig import LONG, POLL, Rig, opened_rig, patient, report, wait_for

from wandb_outbox.sandbox import Fault, Sandbox

EX_CONFIG = 78
MS_RDONLY, MS_REMOUNT = 1, 32
PAGE = 4096
only_long = pytest.mark.skipif(not LONG, reason="the long version: make torture")


pytestmark = pytest.mark.timeout(3600 if LONG else 180)


@contextlib.contextmanager
def one_rig(top: Path) -> Iterator[Rig]:
    """A machine and a server."""
    with Sandbox() as server, opened_rig(top / "rig", server) as rig:
        yield rig


# -- no room ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[None]:
    """A tmpfs of this size at this directory; skips where mounting is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    directory.mkdir(parents=True)
    options = f"size={size},mode=0700".encode()
    if libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, options):
        pytest.skip(f"a small tmpfs cannot be mounted here ({os.strerror(ctypes.get_errno())})")
    try:
        yield
    finally:
        libc.umount2(os.fsencode(directory), 2)


def remount(directory: Path, *, read_only: bool) -> None:
    """Make a mounted file system read-only, or writable again."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, os.fsencode(directory), None, MS_REMOUNT | (MS_RDONLY if read_only else 0), None):
        raise OSError(ctypes.get_errno(), "remount")


def fill(directory: Path, left: int) -> Path:
    """Take all the room of this disk but ``left`` bytes."""
    ballast = directory / "ballast"
    free = os.statvfs(directory)
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize - left, 1))
    return ballast


@side_by_side
def test_disk_full_while_it_runs(tmp_path: Path) -> None:
    """With less and less room beside the outbox the daemon goes on or restarts clean; with room again all is delivered."""
    rooms = range(75) if LONG else (0, 1, 3, 8, 20)
    began = time.monotonic()
    said = restarts = 0
    top = tmp_path / "rig"
    with Sandbox() as server, opened_rig(top, server) as rig, small_disk(rig.state, 16 << 20):
        rig.orders([patient(ARTIFACT_TIMEOUT=5, FINISH_TIMEOUT=5)])
        rig.add()
        rig.start()
        rig.drain()
        assert rig.daemon is not None
        for room in rooms:
            ballast = fill(rig.state, room * PAGE)
            rig.add()
            deadline = time.monotonic() + 4.0
            # Until it has said that there is no room, or has gone through all the same.
            while not rig.all_uploaded() and time.monotonic() < deadline and rig.daemon.poll() is None:
                if len(rig.events("state-unusable")) + len(rig.events("put-back")) > said:
                    break
                time.sleep(POLL)
            if rig.daemon.poll() is not None:
                restarts += 1
                assert rig.daemon.returncode != EX_CONFIG, rig.log()
            ballast.unlink()
            if rig.daemon.poll() is not None:
                rig.start()
            rig.drain()
            said = len(rig.events("state-unusable")) + len(rig.events("put-back"))
        assert said, "the disk was never too small: nothing was shown"
        assert rig.finish() == []
        report("disk full at every 4 KiB", steps=len(rooms), restarts=restarts, seconds=round(time.monotonic() - began))


@side_by_side
def test_disk_full_at_start(tmp_path: Path) -> None:
    """A daemon that finds no room at its start does not count as misconfigured, and with room it delivers."""
    with Sandbox() as server, opened_rig(tmp_path / "rig", server) as rig, small_disk(rig.state, 4 << 20):
        rig.add()
        for room in (0, 2, 6):
            ballast = fill(rig.state, room * PAGE)
            before = len(rig.events("started"))
            rig.start()
            assert rig.daemon is not None
            wait_for(
                lambda: rig.daemon is None or rig.daemon.poll() is not None or len(rig.events("started")) > before,  # noqa: B023
                "its start or its end",
                60,
            )
            with contextlib.suppress(AssertionError):
                wait_for(lambda: rig.daemon is None or rig.daemon.poll() is not None, "its end", 3)
            # A service manager starts it again after any end but this one.
            assert rig.daemon.poll() != EX_CONFIG, rig.log()
            ballast.unlink()
            if rig.daemon.poll() is None:
                rig.drain()
                assert rig.stop() == 0
        rig.start()
        assert rig.finish() == []


# -- out of order ----------------------------------------------------------------------------------------------------


@side_by_side
def test_the_disk_fails_under_the_running_daemon(tmp_path: Path) -> None:
    """Writes to the outbox that fail for another reason than room are waited out, with the disk named, and nothing is lost.

    A limit on the size of files stands for the bad disk: the system's own write fails, and SQLite calls it an I/O error.
    """
    with one_rig(tmp_path) as rig:
        rig.add()
        rig.start()
        rig.drain()
        assert rig.daemon is not None
        journal = rig.database.with_name(rig.database.name + "-wal")
        _, most = resource.prlimit(rig.daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(rig.daemon.pid, resource.RLIMIT_FSIZE, (journal.stat().st_size, most))
        rig.add(3)
        wait_for(lambda: rig.events("state-unusable"), "the daemon to say so")
        assert "disk I/O error" in rig.events("state-unusable")[0]["reason"]
        assert "look at the disk" in rig.events("state-unusable")[0]["hint"]
        assert rig.daemon.poll() is None
        resource.prlimit(rig.daemon.pid, resource.RLIMIT_FSIZE, (most, most))
        assert rig.finish() == []


@side_by_side
def test_the_outbox_is_locked_by_somebody(tmp_path: Path) -> None:
    """A program that keeps the database locked for too long delays what is to be recorded: no receipt is lost, none repeated."""
    with one_rig(tmp_path) as rig:
        rig.orders(
            [
                {
                    "id": "busy",
                    "step": "executor.locked",
                    "always": True,
                    "set": {"wandb_outbox.outbox.store:BUSY_TIMEOUT": 0.5},
                },
                {"id": "receipt", "step": "deliver.receipt-arrived", "pause": str(rig.top / "held")},
            ]
        )
        rig.add()
        rig.start()
        held = wait_for(lambda: next(rig.top.glob("held/*.held"), None), "a receipt in the daemon's hand")
        with contextlib.closing(sqlite3.connect(rig.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held.unlink()
            rig.add(2)
            wait_for(lambda: rig.events("state-unusable"), "the daemon to say so")
            assert "database is locked" in rig.events("state-unusable")[0]["reason"]
            assert {row["state"] for row in rig.rows()} == {"uploading"}
            other.execute("ROLLBACK")
        assert rig.finish() == []
        assert {row["attempts"] for row in rig.rows()} == {1}


@side_by_side
def test_a_state_directory_that_became_read_only(tmp_path: Path) -> None:
    """It is called by its name at the next start, the outbox can still be read, and with it writable again all is delivered."""
    with Sandbox() as server, opened_rig(tmp_path / "rig", server) as rig, small_disk(rig.state, 16 << 20):
        rig.add()
        rig.start()
        rig.drain()
        assert rig.stop() == 0
        remount(rig.state, read_only=True)
        rig.add()
        rig.start()
        assert rig.daemon is not None
        assert rig.daemon.wait(30) == EX_CONFIG
        assert "lies on a file system that is read-only" in rig.log()
        listed = subprocess.run(
            [sys.executable, "-m", "wandb_outbox", "list"], env=rig.environ, capture_output=True, text=True, check=False
        )
        assert (listed.returncode, listed.stdout.split()[0]) == (0, "uploaded"), listed.stderr
        remount(rig.state, read_only=False)
        rig.start()
        assert rig.finish() == []


# -- damaged ---------------------------------------------------------------------------------------------------------


def _overwrite(database: Path) -> None:
    size = database.stat().st_size
    chance = random.Random(7)
    with database.open("r+b") as file:
        for page in range(1, size // PAGE):
            file.seek(page * PAGE)
            file.write(chance.randbytes(PAGE))


def _overwrite_one(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(PAGE)
        file.write(b"\xa5" * PAGE)


def _truncate(database: Path) -> None:
    os.truncate(database, database.stat().st_size // 2 // PAGE * PAGE + 100)


def _garbage(database: Path) -> None:
    database.write_bytes(b"no database at all\n" * 1000)


def _header(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(b"\0" * 100)


@pytest.mark.parametrize("damage", [_overwrite, _overwrite_one, _truncate, _garbage, _header] if LONG else [_overwrite])
@side_by_side
def test_damaged_database(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A damaged outbox is set aside with a copy, and a new one built from folders and server: nothing is sent twice."""
    with one_rig(tmp_path) as rig:
        rig.add(3)
        rig.start()
        rig.drain()
        rig.add()
        assert rig.stop() == 0
        with contextlib.closing(sqlite3.connect(rig.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        damage(rig.database)
        puts = len(rig.server.requests.of("CommitArtifact"))
        rig.start()
        assert rig.finish() == []
        (copy,) = [path for path in rig.state.glob("outbox.db.damaged-*") if path.name[-1].isdigit()]
        assert copy.stat().st_size
        assert rig.events("outbox-set-aside")[0]["copy"] == str(copy)
        # Only the folder that was not there before was sent: itself, and its table.
        assert len(rig.server.requests.of("CommitArtifact")) - puts <= 2


@only_long
@side_by_side
def test_emptied_database(tmp_path: Path) -> None:
    """A database of no bytes, and one that is gone, are begun anew, and nothing is sent twice."""
    with one_rig(tmp_path) as rig:
        rig.add(3)
        rig.start()
        rig.drain()
        assert rig.stop() == 0
        for suffix in ("-wal", "-shm"):
            rig.database.with_name(rig.database.name + suffix).unlink(missing_ok=True)
        rig.database.write_bytes(b"")
        rig.start()
        rig.drain()
        assert rig.stop() == 0
        for path in rig.state.glob("outbox.db*"):
            path.unlink()
        rig.start()
        assert rig.finish() == []


@only_long
@side_by_side
def test_damaged_under_the_running_daemon(tmp_path: Path) -> None:
    """Pages that go bad under a running daemon end it, or are noticed at its next start; all is delivered once."""
    with one_rig(tmp_path) as rig:
        rig.add(3)
        rig.start()
        rig.drain()
        _overwrite(rig.database)
        rig.add(2)
        assert rig.daemon is not None
        with contextlib.suppress(AssertionError):
            wait_for(lambda: rig.daemon is None or rig.daemon.poll() is not None, "its end", 4)
        code = rig.daemon.poll()
        assert code != EX_CONFIG, rig.log()
        if code is None:
            rig.daemon.kill()
            rig.daemon.wait()
        rig.start()
        assert rig.finish() == []


@side_by_side
def test_newer_layout(tmp_path: Path) -> None:
    """An outbox of a newer version is refused with exit code 78, and is left as it is."""
    with one_rig(tmp_path) as rig:
        rig.add()
        rig.start()
        rig.drain()
        assert rig.stop() == 0
        with contextlib.closing(sqlite3.connect(rig.database)) as connection:
            connection.execute("PRAGMA user_version = 999")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = rig.database.read_bytes()
        rig.start()
        assert rig.daemon is not None
        assert rig.daemon.wait(30) == EX_CONFIG
        assert "newer" in rig.log()
        assert rig.database.read_bytes() == before
        assert list(rig.state.glob("*damaged*")) == []


# -- suspended -------------------------------------------------------------------------------------------------------


@side_by_side
def test_suspended(tmp_path: Path) -> None:
    """Daemon, uploader and wandb-core stopped for some seconds in the middle of uploads, as a laptop that is closed."""
    with one_rig(tmp_path) as rig:
        rig.server.inject(Fault("put", "slow", delay=0.3))
        rig.add(6)
        rig.start()
        wait_for(lambda: rig.server.requests.of("CreateArtifact"), "the first artifact")
        for names in (("daemon",), ("uploader",), ("daemon", "uploader", "core")):
            rig.add(2)
            pids = [pid for name, pid in rig.pids().items() if name in names]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(2.5)  # how long it is suspended is what this is about
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        rig.server.clear_faults()
        assert rig.finish() == []
        assert {row["attempts"] for row in rig.rows()} == {1}


@side_by_side
def test_terminated_in_the_middle(tmp_path: Path) -> None:
    """SIGTERM while the server hangs: the daemon ends in its time, nothing is left over, and the next one delivers."""
    with one_rig(tmp_path) as rig:
        hang = Fault("CommitArtifact", "hang")
        rig.server.inject(hang)
        rig.environ["WANDB_OUTBOX_STOP_TIMEOUT"] = "1"
        rig.add(3)
        rig.start()
        wait_for(lambda: rig.server.requests.of("CreateArtifactFiles"), "the first files")
        began = time.monotonic()
        assert rig.stop() == 0
        assert time.monotonic() - began < 10
        assert complaints_about_processes(rig.state) == []
        assert complaints_about_database(rig.database) == []
        assert {row["attempts"] for row in rig.rows()} == {0}
        rig.server.clear_faults()
        rig.start()
        assert rig.finish() == []
