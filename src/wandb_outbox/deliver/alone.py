"""Be the only one on this machine that delivers a folder, whatever state directory the others have.

A service and the person whose experiments it delivers may watch the same root. Each would find no run on the server, and
send all of it: rows twice, or two runs. The later one waits, and then finds the folder delivered.
"""

from __future__ import annotations

import fcntl
import os

from wandb_outbox.errors import Elsewhere


def lock_folder(path: str) -> int | None:
    """Lock the folder itself until the descriptor is closed or its process dies; raises :class:`Elsewhere`.

    It needs no more than to read the folder, and writes nothing; it is seen from other containers and through read-only
    mounts. ``None`` where a folder cannot be locked: some file systems of networks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None  # what is wrong with it, its delivery tells
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Elsewhere(
            f"{path}: another wandb-outbox of this machine delivers it now",
            hint="when that has ended, this one looks at what the server has; should it last, `lsof` tells who holds the folder",
        ) from error
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
