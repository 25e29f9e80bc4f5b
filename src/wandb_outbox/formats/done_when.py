"""A root's own rule for "this run has ended well": ``done_when`` in the configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from wandb_outbox.folder import read_tail
from wandb_outbox.model import Snapshot

_TAIL = 65_536


def done_when(rules: Sequence[str], path: str, snapshot: Snapshot) -> str | None:
    """Why the run has ended well, when every rule holds; else ``None``.

    ``"FILE"`` holds when a file of that name or pattern is there, ``"FILE: REGEX"`` when the end of it (64 KB) also
    matches. Raises ``FolderChanged`` and ``FolderUnreadable`` like every reader.
    """
    met = []
    for rule in rules:
        name, separator, pattern = rule.partition(": ")
        files = [file for file in snapshot.files if fnmatchcase(file.path, name)]
        if separator:
            wanted = re.compile(pattern)
            files = [
                file for file in files if wanted.search(read_tail(path, file.path, _TAIL).decode(errors="replace"))
            ]
        if not files:
            return None
        met.append(files[0].path)
    return f"{', '.join(met)} is as done_when asks" if met else None
