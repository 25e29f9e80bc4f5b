"""``.outbox-done``: the experiment's own word that it is finished."""

from __future__ import annotations

import os

from wandb_outbox.errors import FolderChanged
from wandb_outbox.folder import open_file
from wandb_outbox.model import Snapshot

DONE_MARKER = ".outbox-done"


def done_marker(path: str, snapshot: Snapshot) -> str | None:
    """What the marker says, or ``None``. It counts only while no other file of the folder is newer (by mtime)."""
    seen = {excluded.path for excluded in snapshot.excluded}
    if DONE_MARKER not in seen and snapshot.file(DONE_MARKER) is None:
        return None
    try:
        with open_file(path, DONE_MARKER) as file:
            marked_ns = os.fstat(file.fileno()).st_mtime_ns
    except FolderChanged:
        # A link or a FIFO of that name stays what it is: it is no marker, and no reason to look again for ever.
        return None
    if any(file.mtime_ns > marked_ns for file in snapshot.files if file.path != DONE_MARKER):
        return None
    return f"{DONE_MARKER} is there and no file in the folder is newer"
