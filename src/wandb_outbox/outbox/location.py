"""Where the state lives: found without any configuration file, so that ``status`` needs nothing else."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import sqlite3
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from wandb_outbox.detect.mounts import file_system_type, is_remote
from wandb_outbox.errors import DiskFull, StateUnusable

DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What the system says when the disk, and not the configuration, is at fault: it may pass."""


@dataclass(frozen=True, slots=True)
class StateDir:
    """The paths inside one state directory."""

    path: str

    @property
    def database(self) -> str:
        """The outbox itself."""
        return os.path.join(self.path, "outbox.db")

    @property
    def database_files(self) -> tuple[str, ...]:
        """The database and what SQLite keeps beside it while it is open."""
        return self.database, self.database + "-wal", self.database + "-shm"

    @property
    def lock(self) -> str:
        """Locked by the executor for as long as it lives."""
        return os.path.join(self.path, "lock")

    @property
    def site(self) -> str:
        """Who we are, kept apart from the database so that a damaged one does not change it."""
        return os.path.join(self.path, "site")

    @property
    def uploader(self) -> str:
        """Working directory of the uploader process, with all of the SDK's own directories below it."""
        return os.path.join(self.path, "uploader")


def find_state_dir(environ: Mapping[str, str], option: str | None = None) -> StateDir:
    """``--state-dir``, else ``WANDB_OUTBOX_STATE_DIR``, ``$STATE_DIRECTORY``, else the user's state directory."""
    service = environ.get("STATE_DIRECTORY", "").split(":")[0]
    chosen = option or environ.get("WANDB_OUTBOX_STATE_DIR") or service
    if not chosen:
        base = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or "/", ".local", "state")
        chosen = os.path.join(base, "wandb-outbox")
    return StateDir(os.path.realpath(os.path.expanduser(chosen)))


def prepare_state_dir(state_dir: StateDir) -> None:
    """Create the directory for us alone (0700). Raises :class:`StateUnusable` with what to do.

    A network file system is refused: SQLite's locks and the executor's lock may lie there, and two executors would
    then deliver everything twice.
    """
    path = state_dir.path
    kind = file_system_type(path)
    if is_remote(kind):
        raise StateUnusable(
            f"the state directory {path} lies on a network file system ({kind}), where locks cannot be trusted",
            hint="choose a local disk with --state-dir or WANDB_OUTBOX_STATE_DIR",
        )
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.makedirs(state_dir.uploader, mode=0o700, exist_ok=True)
    except OSError as error:
        if error.errno in DISK_TROUBLE:
            raise disk_full(f"the state directory {path}", error) from error
        raise StateUnusable(
            f"the state directory {path} cannot be made ({error.strerror})",
            hint="choose a directory you may write to with --state-dir or WANDB_OUTBOX_STATE_DIR",
        ) from error
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise StateUnusable(
            f"the state directory {path} lies on a file system that is read-only",
            hint="if it became so by itself, look at its disk (`dmesg`); or choose another directory with --state-dir",
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateUnusable(
            f"the state directory {path} may not be written by this user",
            hint="run the command as its owner, or choose another directory with --state-dir",
        )


def share_state(state_dir: StateDir, group: str | None) -> None:
    """Let the people of ``group`` read what the reading commands need (0750 and 0640), or nobody but us.

    For the executor, once it has made all the files. What the uploader writes stays ours alone. Repeating it changes
    nothing. Raises :class:`StateUnusable` when there is no such group, or we may not give files to it.
    """
    files = [path for path in (*state_dir.database_files, state_dir.lock, state_dir.site) if os.path.lexists(path)]
    try:
        _restrict(state_dir.uploader, 0o700)
        if group is not None:
            gid = _gid_of(group)
            # The directory last: before it is open, what is in it is ready.
            for path in files:
                _give(path, gid, 0o640)
            _give(state_dir.path, gid, 0o750)
            return
        if os.stat(state_dir.database).st_mode & stat.S_IRGRP:
            # It was shared by us once; a directory that somebody else made stays as it is. First the directory: the
            # database's own mode says, until all is done, that there is something to do.
            _restrict(state_dir.path, 0o700)
        for path in reversed(files):
            _restrict(path, 0o600)
    except OSError as error:
        raise StateUnusable(
            f"the state directory {state_dir.path} cannot be opened to the group {group} ({error})"
            if group is not None
            else f"the state directory {state_dir.path} cannot be kept from others ({error})",
            hint="its owner has to belong to the group of `state_group`: `usermod -aG GROUP OWNER`, or Group= of the service",
        ) from error


def keep_group(state_dir: StateDir) -> None:
    """Give what SQLite has just made beside the database to the database's group; it takes over the mode by itself."""
    with contextlib.suppress(OSError):  # not ours, or gone again: whoever owns it does the same
        gid = os.stat(state_dir.database).st_gid
        for path in state_dir.database_files[1:]:
            if os.stat(path).st_gid != gid:
                os.chown(path, -1, gid)


def _gid_of(group: str) -> int:
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise StateUnusable(
            f"state_group: there is no group {group!r} on this machine",
            hint="name a group that exists, or its number; or leave the setting out",
        ) from None


def _give(path: str, gid: int, mode: int) -> None:
    found = os.stat(path)
    if found.st_gid != gid:  # a hardened service may not even ask for it
        os.chown(path, -1, gid)
    if stat.S_IMODE(found.st_mode) != mode:
        os.chmod(path, mode)


def _restrict(path: str, mode: int) -> None:
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)


def disk_full(what: str, error: Exception) -> DiskFull:
    """The error that says so of one file; of a disk that fails in another way, too: both may pass."""
    number = error.errno if isinstance(error, OSError) else getattr(error, "sqlite_errorcode", 0) & 0xFF
    failing = number in (errno.EIO, sqlite3.SQLITE_IOERR)
    return DiskFull(
        f"{what} cannot be written ({error})",
        hint="look at the disk and the file system of the state directory; it is tried again"
        if failing
        else "make room on the disk of the state directory",
    )
