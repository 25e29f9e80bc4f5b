"""Where the state lives: found without any configuration file, so that ``status`` needs nothing else."""

from __future__ import annotations

import errno
import os
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
    def lock(self) -> str:
        """Locked by the executor for as long as it lives."""
        return os.path.join(self.path, "lock")

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
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateUnusable(
            f"the state directory {path} may not be written by this user",
            hint="run the command as its owner, or choose another directory with --state-dir",
        )


def disk_full(what: str, error: Exception) -> DiskFull:
    """The error that says so of one file."""
    return DiskFull(f"{what} cannot be written ({error})", hint="make room on the disk of the state directory")
