"""One run folder on disk: walk it safely, take its snapshot, open its files.

The walk never leaves the folder: directories are opened one below the other with ``O_NOFOLLOW`` and by
descriptor, so that a link swapped in half-way leads nowhere; only regular files on the folder's own device
count. ``wandb.Artifact.add_dir`` follows links and dies in a link cycle, so it is never used.
"""

from __future__ import annotations

import ctypes
import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import IO, Self, cast

from wandb_outbox.errors import FolderChanged, Rejected
from wandb_outbox.model import Excluded, FileStat, Snapshot

SECRET_PATTERNS: tuple[str, ...] = (
    ".env*", "*.env", "*.pem", "*.key", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc*", "_netrc", ".pgpass",
    "credentials*", "kubeconfig*", ".git-credentials", ".pypirc", ".npmrc", ".htpasswd", "*.kdbx", "*.p12", "*.pfx",
    "secrets.yaml", "secrets.yml", "secrets.json", "secrets.toml", "service-account*.json", "service_account*.json",
)  # fmt: skip
"""Names of files, in whatever case."""
SECRET_DIRECTORIES: tuple[str, ...] = (
    ".aws", ".ssh", ".gnupg", ".kube", ".docker", ".azure", ".gcloud", ".huggingface",
)  # fmt: skip
JUNK_DIRECTORIES: tuple[str, ...] = (
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    ".cache",
    ".ipynb_checkpoints",
    ".mypy_cache",
)
JUNK_PATTERNS: tuple[str, ...] = (
    "*.pyc", ".DS_Store", ".nfs*", ".fuse_hidden*", ".outbox-done", "*.wandb.synced", "*.wandb.syncstate",
)  # fmt: skip
OWN_DIRECTORY = "wandb"
"""The SDK's own directory in a run folder: never part of the artifact and never a sighting."""
OFFLINE_PREFIX = "offline-run-"
"""How the SDK calls the directory of a run that it logged without a server; a live one's begins with ``run-``."""
LOG_SUFFIX = ".wandb"

LINK = "a symbolic link"
"""Why a link is left out: it is never followed for sending."""
MAX_DEPTH = 64
MAX_FILES = 200_000
MAX_LEFT_OUT = 10_000
"""Entries that are looked at for open files in the directories that a person leaves out, which may hold whole data sets, and
in the SDK's own."""

_SECRET = re.compile("|".join(fnmatch.translate(pattern) for pattern in SECRET_PATTERNS), re.IGNORECASE)
_JUNK = re.compile("|".join(fnmatch.translate(pattern) for pattern in JUNK_PATTERNS))


class FolderGone(FolderChanged):
    """The folder is not there (any more), or is not a directory."""


class FolderUnreadable(Rejected):
    """The folder, or a part of it, may not be read by us."""


Selector = Callable[[str, bool], str | None]
"""Says of a relative path (and whether it is a directory) why it is left out, or ``None`` to take it."""


class Entered(str):
    """Why a directory is left out below which the walk goes on: whoever has a file there open still writes the run.

    ``included``: a pattern of ``include`` reaches into it, so that all of it has to be looked at.
    """

    __slots__ = ("included",)
    included: bool

    def __new__(cls, reason: str, *, included: bool) -> Self:
        """The reason as text."""
        made = super().__new__(cls, reason)
        made.included = included
        return made


def default_selector(path: str, is_directory: bool) -> str | None:
    """Leave out what could hold secrets and what is no result."""
    name = path.rpartition("/")[2]
    if is_directory:
        if name in SECRET_DIRECTORIES:
            return "could hold credentials"
        if name in JUNK_DIRECTORIES:
            return "a cache or version control"
        if name == OWN_DIRECTORY and "/" not in path:
            return "W&B's own directory"
        return None
    if _SECRET.match(name):
        return "could hold credentials"
    if _JUNK.match(name):
        return "not a result"
    return None


@dataclass(frozen=True, slots=True)
class Selection:
    """The rules of one root on what is left out: the defaults, plus ``exclude``, less ``include``.

    ``exclude`` and ``include`` are gitignore patterns; ``include`` wins over ``exclude`` and over the defaults,
    so that a person can take a file that only looks like a secret. It reaches into a directory that is left out when it
    names it: ``checkpoints/best.pt``, ``.cache/**/scores.json``.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    def selector(self) -> Selector:
        """The rules as a function; pathspec is loaded only when there are patterns (46 ms of start-up)."""
        if not self.exclude and not self.include:
            return default_selector
        import pathspec

        exclude = pathspec.GitIgnoreSpec.from_lines(self.exclude)
        include = pathspec.GitIgnoreSpec.from_lines(self.include)
        named = {part for pattern in self.include for part in pattern.strip("/").split("/")[:-1]}

        def select(path: str, is_directory: bool) -> str | None:
            name = f"{path}/" if is_directory else path
            if include.match_file(name):
                return None
            *above, last = path.split("/")
            # Below a directory that is left out by default we are only for the sake of what is included.
            for part in (*above, last) if is_directory else above:
                if reason := default_selector(part, True) if part != OWN_DIRECTORY else None:
                    return Entered(reason, included=True) if is_directory and part in named else reason
            if exclude.match_file(name):
                reason = "excluded by the configuration"
                return Entered(reason, included=not named.isdisjoint(path.split("/"))) if is_directory else reason
            return default_selector(path, is_directory)

        return select


def is_pattern(text: str) -> bool:
    """Whether this can be read as a pattern of gitignore. Loads pathspec, as :meth:`Selection.selector` does later."""
    import pathspec

    try:
        pathspec.GitIgnoreSpec.from_lines([text])
    except ValueError:
        return False
    return True


def snapshot(path: str, selector: Selector = default_selector) -> Snapshot:
    """Walk the folder once and return what is in it.

    Raises :class:`FolderGone` when it is not there or is no directory, and :class:`FolderUnreadable` when it, or
    a subfolder of it, may not be read (an upload without that part would not be the whole folder).
    """
    files: list[FileStat] = []
    excluded: list[Excluded] = []
    directories: list[str] = []
    watched: list[str] = []
    logs: list[FileStat] = []
    newest = 0
    birth = birth_of(path)
    with open_folder(path) as top:
        device = os.fstat(top).st_dev
        newest = os.fstat(top).st_ctime_ns
        mtime_ns = os.fstat(top).st_mtime_ns
        # An explicit stack of (descriptor, prefix): the depth is bounded, so the descriptors are, too.
        stack: list[tuple[int, str, Iterator[os.DirEntry[str]]]] = [(top, "", _scan(top, path))]
        try:
            while stack:
                directory, prefix, entries = stack[-1]
                entry = next(entries, None)
                if entry is None:
                    stack.pop()
                    if directory != top:
                        os.close(directory)
                    continue
                relative = prefix + entry.name
                try:
                    info = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:  # a subfolder that may be listed but not searched, a bad disk
                    raise _folder_error(f"{path}/{relative}", error) from error
                if unfit := _unfit_name(relative):
                    excluded.append(Excluded(relative, unfit))
                    if stat.S_ISREG(info.st_mode):
                        watched.append(relative)
                    continue
                mode = info.st_mode
                in_own = relative == OWN_DIRECTORY or relative.startswith(OWN_DIRECTORY + "/")
                if not in_own:
                    newest = max(newest, info.st_ctime_ns)
                if stat.S_ISLNK(mode):
                    excluded.append(Excluded(relative, LINK))
                elif _is_elsewhere(info, device, directory, entry.name):
                    excluded.append(Excluded(relative, "on another file system"))
                elif stat.S_ISDIR(mode):
                    reason = selector(relative, True)
                    if reason is not None:
                        excluded.append(Excluded(relative + "/", reason))
                        if in_own and not isinstance(reason, Entered):
                            reason = Entered(reason, included=False)
                        if isinstance(reason, Entered):
                            for found, below in _below_left_out(directory, relative, reason, selector, device, path):
                                if reason.included and selector(found, False) is None:
                                    files.append(_file_stat(found, below))
                                    newest = max(newest, below.st_ctime_ns)
                                elif not _SECRET.match(found.rpartition("/")[2]):
                                    watched.append(found)
                        if in_own:
                            logs.extend(_run_logs(directory, entry.name, relative))
                            watched.extend(log.path for log in logs if log.path not in watched)
                    elif len(stack) >= MAX_DEPTH:
                        excluded.append(Excluded(relative + "/", f"deeper than {MAX_DEPTH} levels"))
                    else:
                        child = _open_directory(entry.name, directory, relative, path)
                        if child is not None:
                            directories.append(relative)
                            stack.append((child, relative + "/", _scan(child, path)))
                elif not stat.S_ISREG(mode):
                    excluded.append(Excluded(relative, "not a regular file"))
                else:
                    reason = selector(relative, False)
                    if reason is not None:
                        excluded.append(Excluded(relative, reason))
                        if not _SECRET.match(entry.name):
                            # It is not sent, but whoever holds it open still writes the run.
                            watched.append(relative)
                    else:
                        files.append(_file_stat(relative, info))
                if len(files) > MAX_FILES:
                    raise Rejected(
                        f"{path} holds more than {MAX_FILES:,} files",
                        hint="pack them, or leave some out with `exclude` in the configuration",
                    )
        finally:
            for directory, _, _ in stack:
                if directory != top:
                    os.close(directory)
    files.sort(key=lambda file: os.fsencode(file.path))
    logs.sort(key=lambda file: os.fsencode(file.path))
    return Snapshot(
        tuple(files), tuple(excluded), birth, newest, tuple(directories), tuple(watched), mtime_ns, tuple(logs)
    )


def _unfit_name(relative: str) -> str | None:
    """Why W&B takes no file of this name, or ``None``. The SDK refuses what would lead elsewhere on Windows."""
    if not is_utf8(relative):
        return "its name is not valid UTF-8"
    if relative[1:2] == ":" or "\\" in relative:
        there = PureWindowsPath(relative)
        if there.anchor or ".." in there.parts:
            return "W&B takes no file of such a name: on Windows it would lead out of the folder"
    return None


@contextmanager
def open_folder(path: str) -> Iterator[int]:
    """Open the folder itself as a descriptor. Raises as :func:`snapshot` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _folder_error(path, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(folder: str, relative: str) -> IO[bytes]:
    """Open one regular file of the folder for reading, without following a link at any level.

    Raises :class:`FolderChanged` when it is gone or is no regular file any more, :class:`FolderUnreadable` when we
    may not read it. Never blocks, not even on a FIFO that took the file's place.
    """
    parts = relative.split("/")
    with open_folder(folder) as top:
        directory = top
        try:
            for part in parts[:-1]:
                child = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                if directory != top:
                    os.close(directory)
                directory = child
            descriptor = os.open(
                parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory
            )
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise FolderUnreadable(
                    f"{folder}: {relative} may not be read by this user",
                    hint="give the daemon's user read access to it, or exclude it",
                ) from error
            raise FolderChanged(f"{folder}: {relative} is gone or was replaced ({error.strerror})") from error
        finally:
            if directory != top:
                os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FolderChanged(f"{folder}: {relative} is not a regular file any more")
    return cast(IO[bytes], os.fdopen(descriptor, "rb"))


def read_file(folder: str, relative: str, limit: int) -> bytes:
    """The file's content. Raises :class:`Rejected` when it holds more than ``limit`` bytes, and as :func:`open_file`."""
    with open_file(folder, relative) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Rejected(f"{folder}: {relative} is larger than {limit:,} bytes")
    return data


def read_tail(folder: str, relative: str, size: int) -> bytes:
    """The last ``size`` bytes of the file, or all of it. Raises as :func:`open_file`."""
    with open_file(folder, relative) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - size))
        return file.read(size)


def birth_of(path: str) -> str:
    """``"{inode}:{birth time in ns}"`` of the folder; the time is 0 where the file system keeps none.

    Raises :class:`FolderGone` when it is not there.
    """
    try:
        info = os.stat(path, follow_symlinks=False)
    except OSError as error:
        raise _folder_error(path, error) from error
    return f"{info.st_ino}:{_birth_time(path)}"


def is_utf8(name: str) -> bool:
    """Whether a name or path can be written as UTF-8, which the SDK needs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scan(descriptor: int, path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(descriptor) as entries:
            return iter(list(entries))
    except OSError as error:
        raise _folder_error(path, error) from error


def _open_directory(name: str, parent: int, relative: str, path: str) -> int | None:
    """A subfolder by descriptor; ``None`` when it vanished or became a link meanwhile."""
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return None
        raise _folder_error(f"{path}/{relative}", error) from error


def _file_stat(relative: str, info: os.stat_result) -> FileStat:
    return FileStat(relative, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


def _below_left_out(
    parent: int, relative: str, reason: Entered, selector: Selector, device: int, path: str
) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files below a directory that is left out.

    Where nothing of it is included, no more than :data:`MAX_LEFT_OUT`, and what may not be read is passed over: leaving it
    out is how a person says that it does not matter. Else it raises as :func:`snapshot` does.
    """
    left = MAX_LEFT_OUT
    for file in _walk_left_out(parent, relative, reason, selector, device, path):
        left -= 1
        if left < 0 and not reason.included:
            return
        yield file


def _walk_left_out(
    parent: int, relative: str, reason: Entered, selector: Selector, device: int, path: str
) -> Iterator[tuple[str, os.stat_result]]:
    try:
        directory = _open_directory(relative.rpartition("/")[2], parent, relative, path)
        if directory is None or relative.count("/") >= MAX_DEPTH:
            return
        try:
            for entry in _scan(directory, path):
                name = f"{relative}/{entry.name}"
                try:
                    info = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise _folder_error(f"{path}/{name}", error) from error
                if _is_elsewhere(info, device, directory, entry.name) or not is_utf8(name):
                    continue
                if stat.S_ISREG(info.st_mode):
                    yield name, info
                elif stat.S_ISDIR(info.st_mode):
                    why = selector(name, True)
                    if why is None or isinstance(why, Entered):
                        yield from _walk_left_out(directory, name, reason, selector, device, path)
        finally:
            os.close(directory)
    except FolderUnreadable:
        if reason.included:
            raise


def _run_logs(parent: int, name: str, relative: str) -> list[FileStat]:
    """The transaction logs one level below ``wandb/*run-*``, which the SDK keeps open while it writes them."""
    found: list[FileStat] = []
    try:
        own = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return found
    try:
        for run in os.listdir(own):
            try:
                directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=own)
            except OSError:
                continue
            try:
                found += [
                    FileStat(f"{relative}/{run}/{file}", info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
                    for file in os.listdir(directory)
                    if file.endswith(LOG_SUFFIX)
                    and is_utf8(run + file)
                    and stat.S_ISREG((info := os.stat(file, dir_fd=directory, follow_symlinks=False)).st_mode)
                ]
            finally:
                os.close(directory)
    except OSError:
        return found
    finally:
        os.close(own)
    return found


def _folder_error(path: str, error: OSError) -> FolderGone | FolderUnreadable:
    if error.errno in (errno.EACCES, errno.EPERM):
        return FolderUnreadable(
            f"{path} may not be read by this user", hint="give the daemon's user read and search access to it"
        )
    if error.errno == errno.ENOTDIR:
        return FolderGone(f"{path} is not a directory")
    if error.errno == errno.ELOOP:
        return FolderGone(f"{path} is a symbolic link")
    if error.errno == errno.ENOENT:
        return FolderGone(f"{path} is not there")
    # A stale handle, a bad disk, too many open files: that says nothing of whether the folder is there.
    return FolderUnreadable(f"{path} cannot be read ({error.strerror})", hint="look at its disk or file system")


class _Timestamp(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_uint32), ("pad", ctypes.c_int32)]


class _Statx(ctypes.Structure):
    """``struct statx`` of the kernel (include/uapi/linux/stat.h), as far as the mount, then padding."""

    _fields_ = [
        ("mask", ctypes.c_uint32), ("block_size", ctypes.c_uint32), ("attributes", ctypes.c_uint64),
        ("links", ctypes.c_uint32), ("uid", ctypes.c_uint32), ("gid", ctypes.c_uint32), ("mode", ctypes.c_uint16),
        ("pad", ctypes.c_uint16), ("inode", ctypes.c_uint64), ("size", ctypes.c_uint64), ("blocks", ctypes.c_uint64),
        ("attributes_mask", ctypes.c_uint64), ("accessed", _Timestamp), ("born", _Timestamp),
        ("changed", _Timestamp), ("modified", _Timestamp), ("devices", ctypes.c_uint32 * 4), ("mount", ctypes.c_uint64),
        ("rest", ctypes.c_uint8 * 136),
    ]  # fmt: skip


_STATX_BTIME = 0x800
_STATX_MNT_ID = 0x1000
_AT_EMPTY_PATH = 0x1000
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_libc = ctypes.CDLL(None, use_errno=True)


def _birth_time(path: str) -> int:
    """Birth time in ns by ``statx(2)``, which Python 3.11 does not wrap; 0 where there is none."""
    found = _statx(_AT_FDCWD, path, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME)
    return 0 if found is None else int(found.born.seconds) * 1_000_000_000 + int(found.born.nanoseconds)


def _is_elsewhere(info: os.stat_result, device: int, directory: int, name: str) -> bool:
    """Whether an entry lies on another file system than its folder.

    Where its layers are several file systems, overlayfs gives files other device numbers than their directories: then the
    mount decides.
    """
    if info.st_dev == device:
        return False
    if not stat.S_ISREG(info.st_mode):
        return True
    there = _statx(directory, name, _AT_SYMLINK_NOFOLLOW, _STATX_MNT_ID)
    here = _statx(directory, "", _AT_EMPTY_PATH, _STATX_MNT_ID)
    return there is None or here is None or there.mount != here.mount


def _statx(directory: int, name: str, flags: int, wanted: int) -> _Statx | None:
    """What the kernel knows of an entry, or ``None`` where it does not know what is wanted."""
    if not hasattr(_libc, "statx"):
        return None
    buffer = _Statx()
    failed = _libc.statx(directory, os.fsencode(name), flags, wanted, ctypes.byref(buffer))
    return None if failed or not buffer.mask & wanted else buffer
