"""Whether any process has a file of this folder open for writing.

The experiment's logging handler keeps its log open until the process dies, while ``results.json`` is closed
between samples: so open files are the evidence, and quiet time is not. Two witnesses:

* the lease probe: the kernel refuses a read lease (``fcntl(2)``, F_SETLEASE, F_RDLCK) with EAGAIN while anybody
  has the file open for writing. It sees through PID namespaces and read-only bind mounts, but needs the file's
  owner or CAP_LEASE, and a file system that keeps leases.
* ``/proc/*/fd``: names the process, but sees only what this user and PID namespace may see; so it can say "yes",
  never "no". A file is known there by its path or, where a container or a hard link gives it another one, by its inode.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from wandb_outbox.detect.mounts import LEASE_TYPES, file_system_type, is_remote, type_untouched
from wandb_outbox.errors import OutboxError
from wandb_outbox.folder import LINK, FolderUnreadable, open_file
from wandb_outbox.model import Snapshot, WriterEvidence, Writers

HIDDEN = 60.0
"""Seconds between two searches for a holder that was not in sight: it may belong to another user or container."""
_MOST_REMEMBERED = 1000
_NONE: Mapping[int, str] = {}


def ignore_lease_breaks() -> None:
    """Ignore SIGIO, which the kernel sends when somebody opens a file for writing while we hold its lease.

    Its default action would end the process. Call once at start, from the main thread.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a file of the folder open for writing."""

    pid: int
    command: str
    file: str


class HolderMemory:
    """Finds who has a file open for writing, and remembers it.

    A look through all of ``/proc`` costs about half a millisecond a process, which is too dear for every look at a folder
    that is being written; whether one known process still has the file open costs next to nothing.
    """

    def __init__(self, tick: Callable[[], float]) -> None:
        """``tick`` is a monotonic clock."""
        self._tick = tick
        self._found: dict[tuple[str, str], tuple[float, Holder | None]] = {}

    def find(self, folder: str, file: str) -> Holder | None:
        """A process that has this file open for writing, if one is in sight; who hides is looked for once a minute."""
        looked, holder = self._found.get((folder, file), (float("-inf"), None))
        if holder is not None:
            again = next(iter(_held_by(holder.pid, folder, file, _inode_of(folder, file))), None)
            if again is not None:
                return again
        elif self._tick() - looked < HIDDEN:
            return None
        holder = find_holder(folder, file)
        if len(self._found) >= _MOST_REMEMBERED:
            self._found.clear()
        self._found[folder, file] = (self._tick(), holder)
        return holder


def find_holder(folder: str, file: str) -> Holder | None:
    """A process in sight that has this file open for writing."""
    return next(iter(find_holders(folder, only=file, files=_inode_of(folder, file))), None)


def known_by_inode(snapshot: Snapshot) -> Mapping[int, str]:
    """The snapshot's files by their inodes."""
    return {file.inode: file.path for file in snapshot.files}


def probe_writers(
    folder: str,
    snapshot: Snapshot,
    *,
    leases: bool = True,
    find: Callable[[str, str], Holder | None] = find_holder,
) -> WriterEvidence:
    """Ask both witnesses about every file of the folder, those most likely held open first.

    ``leases=False`` leaves the lease probe out (a prober that is frozen while it holds a lease blocks the writer's
    ``open`` for up to 45 s). ``find`` names the process behind a file that the lease probe found open. Raises nothing for
    a file that vanishes; a file we may not read makes it UNKNOWN.
    """
    paths = probe_order([*(file.path for file in snapshot.files), *snapshot.watched])
    elsewhere = _writer_elsewhere(folder, snapshot, leases=leases, find=find)
    if elsewhere is not None:
        return WriterEvidence(Writers.WRITER, elsewhere)
    if leases and file_system_type(folder) in LEASE_TYPES:
        doubt = ""
        left_out = frozenset(snapshot.watched)
        for path in paths:
            answer = probe_lease(folder, path)
            if answer is Writers.WRITER:
                holder = find(folder, path)
                by = f" by {holder.command} (pid {holder.pid})" if holder else ""
                return WriterEvidence(Writers.WRITER, f"{path} is open for writing{by}")
            # Of a file that is left out only a writer counts: leaving it out is how a person ends our doubts about it.
            if answer is Writers.UNKNOWN and not doubt and path not in left_out:
                doubt = f"no lease on {path}: {_why_no_lease(folder, path)}"
        if not doubt:
            return WriterEvidence(Writers.FREE, f"none of {len(paths)} files is open for writing")
    elif leases:
        doubt = f"the file system ({file_system_type(folder)}) does not keep leases that can be trusted"
    else:
        doubt = "the lease probe is turned off"
    holder = next(iter(find_holders(folder, files=known_by_inode(snapshot))), None)
    if holder is not None:
        return WriterEvidence(
            Writers.WRITER, f"{holder.file} is open for writing by {holder.command} (pid {holder.pid})"
        )
    return WriterEvidence(Writers.UNKNOWN, doubt)


def _writer_elsewhere(
    folder: str, snapshot: Snapshot, *, leases: bool, find: Callable[[str, str], Holder | None]
) -> str | None:
    """Who writes to a log that lies elsewhere (on a faster disk, say) and is linked into the folder, in words.

    Such a log is not sent, but who holds it open is the experiment. Only logs: another link may lead to what everybody
    writes to.
    """
    for link in snapshot.excluded:
        if link.reason != LINK or not link.path.endswith(".log"):
            continue
        try:
            text = os.readlink(os.path.join(folder, link.path))
        except OSError:
            continue
        target = os.path.normpath(os.path.join(folder, os.path.dirname(link.path), text))
        if target.startswith(folder.rstrip("/") + "/"):
            continue  # a file of the folder, asked for under its own name
        answer = _probe_elsewhere(target, leases=leases)
        holder = find(*os.path.split(target)) if answer is not Writers.FREE else None
        if answer is Writers.WRITER or holder is not None:
            by = f" by {holder.command} (pid {holder.pid})" if holder else ""
            return f"{link.path}, a link to {target}, is open for writing{by}"
    return None


def _probe_elsewhere(path: str, *, leases: bool) -> Writers:
    kind = type_untouched(path)
    if kind not in LEASE_TYPES:
        return Writers.UNKNOWN if is_remote(kind) else Writers.FREE
    try:
        if not stat.S_ISREG(os.stat(path, follow_symlinks=False).st_mode):
            return Writers.FREE  # opening a device may do something
    except OSError:
        return Writers.FREE
    return probe_lease(*os.path.split(path)) if leases else Writers.UNKNOWN


def probe_order(paths: Sequence[str]) -> list[str]:
    """Logs first: they are what a living experiment holds open."""
    return sorted(paths, key=lambda path: (not (path.endswith((".log", ".wandb")) or ".tfevents." in path), path))


def probe_lease(folder: str, relative: str) -> Writers:
    """One lease, taken and released at once (held for about 3 µs)."""
    try:
        with open_file(folder, relative) as file:
            descriptor = file.fileno()
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            except OSError as error:
                return Writers.WRITER if error.errno == errno.EAGAIN else Writers.UNKNOWN
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return Writers.FREE
    except OutboxError as error:
        # Gone since the snapshot: nobody writes to it under this name, and the next snapshot sees the change.
        return Writers.FREE if _is_gone(error) else Writers.UNKNOWN


def _why_no_lease(folder: str, relative: str) -> str:
    """Why the kernel gives no lease on this file, in words."""
    try:
        open_file(folder, relative).close()
    except FolderUnreadable:
        return "it may not be read by this user; give the daemon's user read access to it, or exclude it"
    except OutboxError:
        return "it is gone"
    return "it belongs to another user, and we have no CAP_LEASE"


def find_holders(folder: str, *, only: str | None = None, files: Mapping[int, str] = _NONE) -> Iterator[Holder]:
    """Every process in sight that has a file below ``folder`` open for writing (or only that file).

    ``files``: those that are known by their inodes, too. A process in a container has another path for the same file.
    """
    own = os.getpid()
    for pid in _processes():
        if pid != own:
            yield from _held_by(pid, folder, only, files)


def _held_by(pid: int, folder: str, only: str | None, files: Mapping[int, str]) -> Iterator[Holder]:
    """The files below ``folder`` (or only that file) that this process has open for writing."""
    prefix = folder.rstrip("/") + "/"
    directory = f"/proc/{pid}/fd"
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(f"{directory}/{descriptor}")
            if not target.startswith("/"):
                continue  # a pipe, a socket
            # The link's own mode bits tell the access mode: 0200 is "open for writing" (proc(5)).
            if not stat.S_IMODE(os.lstat(f"{directory}/{descriptor}").st_mode) & 0o200:
                continue
            file = target[len(prefix) :] if target.startswith(prefix) else _by_inode(pid, descriptor, folder, files)
        except OSError:
            continue
        if file is not None and only in (None, file):
            yield Holder(pid, _command(pid), file)


def _by_inode(pid: int, descriptor: str, folder: str, files: Mapping[int, str]) -> str | None:
    """Which of these files of the folder the descriptor is of, however its process calls it.

    Its inode number is read without touching the file, which may lie on a dead server. Raises ``OSError``.
    """
    if not files:
        return None
    with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as told:
        number = next((line.split()[1] for line in told if line.startswith(b"ino:")), None)
    name = files.get(int(number)) if number is not None else None
    if name is None or not os.path.samestat(
        os.stat(f"/proc/{pid}/fd/{descriptor}"), os.stat(os.path.join(folder, name), follow_symlinks=False)
    ):
        return None
    return name


def _inode_of(folder: str, file: str) -> Mapping[int, str]:
    try:
        return {os.stat(os.path.join(folder, file), follow_symlinks=False).st_ino: file}
    except OSError:
        return {}


def _is_gone(error: OutboxError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def _processes() -> Iterable[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process"
