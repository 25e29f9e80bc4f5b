"""The MD5 of the files of an artifact: of large ones ahead, several at a time, beside what else a delivery does.

The SDK hashes one file after another, and through a memory map: a file that is cut while it does so ends the process.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from wandb_outbox.folder import open_file
from wandb_outbox.model import FileStat

LARGE = 1 << 20
"""Bytes of a file from which on handing it to another thread is worth it."""
BLOCK = 1 << 20
_POOL = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="digest")
"""For all deliveries of the process: more of them at once would only take turns on the disk."""


class Digests:
    """The digests of one folder's files, in base64 as W&B's manifest has them."""

    def __init__(self, folder: str, progress: Callable[[], None]) -> None:
        """``progress`` is called while a large file is read, from whatever thread reads it."""
        self._folder = folder
        self._progress = progress
        self._stopped = threading.Event()
        self._ahead: dict[str, Future[str]] = {}

    def begin(self, files: Iterable[FileStat]) -> None:
        """Begin with the large ones of these files."""
        for file in files:
            if file.size >= LARGE and file.path not in self._ahead:
                self._ahead[file.path] = _POOL.submit(self._of, file.path)

    def of(self, file: FileStat) -> str:
        """The digest of one file. Raises ``FolderChanged`` or ``FolderUnreadable``."""
        ahead = self._ahead.get(file.path)
        return self._of(file.path) if ahead is None else ahead.result()

    def stop(self) -> None:
        """End what is under way: nobody will ask for it."""
        self._stopped.set()
        for ahead in self._ahead.values():
            ahead.cancel()

    def _of(self, path: str) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        with open_file(self._folder, path) as file:
            while (block := file.read(BLOCK)) and not self._stopped.is_set():
                digest.update(block)
                self._progress()
        return base64.b64encode(digest.digest()).decode()
