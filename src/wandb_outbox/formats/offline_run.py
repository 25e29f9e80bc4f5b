"""A run that the wandb SDK logged without a server: ``wandb/offline-run-*`` with its transaction log."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

from wandb_outbox.errors import Rejected
from wandb_outbox.folder import LOG_SUFFIX, OFFLINE_PREFIX
from wandb_outbox.formats.content import Content
from wandb_outbox.formats.transaction_log import HEADER, read_end
from wandb_outbox.model import FormatEvidence, Snapshot


class OfflineRun:
    """A directory that belongs to no run folder; one that does is replayed with it."""

    name: ClassVar[str] = "offline-run"

    def recognises(self, path: str, names: Collection[str]) -> bool:
        """By its name, and the log in it."""
        return os.path.basename(path).startswith(OFFLINE_PREFIX) and any(name.endswith(LOG_SUFFIX) for name in names)

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """Done when the log ends with the record of an orderly end; failed when that says so, or is not there.

        The SDK keeps the records of the first seconds in memory: of a process that was killed in them nothing is left.
        """
        log = log_in(snapshot)
        if marker is not None or log is None:
            return FormatEvidence(done=marker)
        empty = any(file.path == log and file.size <= HEADER for file in snapshot.files)
        return replace(log_evidence(path, log), nothing_to_show=empty)

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """Nothing of its own: what the log says is read where it is replayed, as for a run folder."""
        del path, snapshot
        return Content()


def log_in(snapshot: Snapshot) -> str | None:
    """The name of the log in an offline run's own directory."""
    return next((f.path for f in snapshot.files if f.path.endswith(LOG_SUFFIX) and "/" not in f.path), None)


def log_evidence(folder: str, log: str) -> FormatEvidence:
    """What the end of a log says of its run. A log that is of no known kind says nothing."""
    try:
        code = read_end(folder, log).exit_code
    except Rejected:
        return FormatEvidence()
    if code is None:
        return FormatEvidence(failed=f"{log} has no record of the run's end: its process was killed")
    if code:
        return FormatEvidence(failed=f"{log} says that the run ended with exit code {code}")
    return FormatEvidence(done=f"{log} ends with the record of the run's end")
