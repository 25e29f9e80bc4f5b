"""Which file system a path lies on, and what can be trusted there (from ``/proc/self/mountinfo``)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

LEASE_TYPES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay"})
"""Where a lease probe tells the truth. Elsewhere it may say EINVAL, or EAGAIN for ever (NFSv4)."""

REMOTE_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "glusterfs", "ocfs2",
     "gfs2", "orangefs", "pvfs2", "fuse", "fuseblk", "virtiofs"}
)  # fmt: skip
"""Where other machines can write unseen: inotify tells nothing of them, and file locks may lie."""


def file_system_type(path: str) -> str:
    """The type of the file system that ``path`` (or its nearest existing parent) lies on, ``"unknown"`` if unclear.

    The device number decides, not the longest mount path: bind mounts and overlays shadow each other by path.
    """
    while True:
        try:
            device = os.stat(path).st_dev
            break
        except OSError:
            parent = os.path.dirname(path)
            if parent == path:
                return "unknown"
            path = parent
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            lines = mounts.readlines()
    except OSError:
        return "unknown"
    return find_type(lines, f"{os.major(device)}:{os.minor(device)}", path)


def find_type(lines: Sequence[str], device: str, path: str) -> str:
    """The same from the lines of a ``mountinfo`` (proc(5)) and the path's device, ``"major:minor"``."""
    wanted = f" {device} "
    # Asked at every look at a folder, so nothing is taken apart that is not needed.
    for line in lines:
        if wanted in line and line.split(" ", 3)[2] == device:
            return _type_in(line)
    # btrfs subvolumes have device numbers of their own, which no mount line shows: then the path decides.
    return _type_by_path(lines, os.path.realpath(path))


def type_untouched(path: str) -> str:
    """The type of the file system that a path without links in it lies on, told without touching what lies there.

    A look at a file on a dead network server would hang us.
    """
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            return _type_by_path(mounts.readlines(), path)
    except OSError:
        return "unknown"


def _type_by_path(lines: Sequence[str], path: str) -> str:
    nearest = ("", "unknown")
    for line in lines:
        point = _unescape(line.split(" ", 5)[4])
        if _is_below(path, point) and len(point) >= len(nearest[0]):
            nearest = (point, _type_in(line))
    return nearest[1]


def _type_in(line: str) -> str:
    return line.partition(" - ")[2].split(" ", 1)[0]


def is_remote(kind: str) -> bool:
    """Whether a file system of this type can be written to from another machine."""
    return kind in REMOTE_TYPES or kind.startswith("fuse.")


def _is_below(path: str, point: str) -> bool:
    return point in ("/", path) or path.startswith(point + "/")


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
