"""Events from the file system: hints, never the truth. The only importer of watchdog.

watchdog's observer spends a thread on every scheduled directory; its inotify layer below needs one thread and one
descriptor for all of them, and tells of an overflowed queue, which the observer keeps to itself. So that layer is used:
one :class:`InotifyFD`, one callback, one identical mask on every directory (with overlapping masks the last one wins).
Reads, opens and single writes are not asked for: they cost up to 12 % of a core in a storm and say nothing new.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

_MASK = Mask(
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_EXCL_UNLINK
)


GATHER = 0.2
"""Seconds after something was taken during which more of it wakes nobody: a writer at full speed makes thousands of
events a second, and each would cost the reader a turn."""
PAUSE = 0.05
"""Seconds between two reads from the kernel: a thread that waits for events is woken by each of them on the writer's
time, which slows a writer that closes thousands of files a second by 3 %."""
BUFFER = 1 << 20
"""Bytes of one read: as many events as the kernel keeps by default (16,384), so that a pause loses none."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something happened in ``directory``: to its entry ``name``, or to itself when ``name`` is empty."""

    directory: str
    name: str
    is_directory: bool
    appeared: bool


class _Unhurried(InotifyFD):
    """Reads many events at once when many come; the first after a silence at once."""

    def __init__(self) -> None:
        super().__init__()
        self._read_at = float("-inf")

    def read_events(self, *, event_buffer_size: int = BUFFER) -> list[InotifyEvent]:
        """Wait for events, and give all that have gathered."""
        if (left := self._read_at + PAUSE - time.monotonic()) > 0:
            time.sleep(left)
        events = super().read_events(event_buffer_size=event_buffer_size)
        self._read_at = time.monotonic()
        return events


class Watcher:
    """Watches single directories, never recursively. Thread-safe; :meth:`take` and :meth:`drain` are for one reader."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """``wake`` is called, from the watcher's thread, whenever there is something to take.

        But for :data:`GATHER` seconds after :meth:`drain` gave something: then the reader comes back by itself.
        """
        self._wake = wake
        self._took_at = float("-inf")
        self._lock = threading.Lock()
        self._sightings: dict[Sighting, None] = {}
        self._paths: dict[WatchDescriptor, str] = {}
        self._descriptors: dict[str, tuple[WatchDescriptor, CallbackId]] = {}
        self._numbers = itertools.count(1)
        self._overflows = 0
        self._overflowed = False
        self._refused: set[str] = set()
        self._inotify = self._start()

    def _start(self) -> InotifyFD:
        inotify = _Unhurried()
        inotify.daemon = True
        inotify.start()
        return inotify

    def watch(self, path: str) -> bool:
        """Watch this directory; ``False`` when that cannot be (it is gone, unreadable, or the kernel's limit is reached)."""
        with self._lock:
            if path in self._descriptors:
                return True
        # A number of its own for each watch: a directory that was moved keeps its descriptor, and watchdog warns
        # about the same number twice on one.
        number = CallbackId(next(self._numbers))
        try:
            descriptor = self._inotify.add_callback(os.fsencode(path), _MASK, self, number)
        except OSError as error:
            with self._lock:
                if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EMFILE):
                    self._refused.add(path)
                else:
                    self._refused.discard(path)
            return False
        if descriptor < 0:
            return False
        with self._lock:
            self._refused.discard(path)
            old = self._descriptors.pop(self._paths.get(descriptor, ""), None)
            self._paths[descriptor] = path
            self._descriptors[path] = (descriptor, number)
        if old is not None:
            self._forget([old])
        return True

    def unwatch(self, path: str) -> None:
        """Stop watching this directory, and every watched one below it."""
        below = path + "/"
        with self._lock:
            paths = [watched for watched in self._descriptors if watched == path or watched.startswith(below)]
            gone = [self._descriptors.pop(watched) for watched in paths]
            self._refused = {each for each in self._refused if each != path and not each.startswith(below)}
            for descriptor, _ in gone:
                self._paths.pop(descriptor, None)
        self._forget(gone)

    def _forget(self, watches: list[tuple[WatchDescriptor, CallbackId]]) -> None:
        with contextlib.suppress(OSError):
            self._inotify.remove_callbacks(watches)

    def drain(self) -> list[Sighting]:
        """What was seen since the last call, each thing once."""
        with self._lock:
            found = list(self._sightings)
            self._sightings.clear()
            if found:
                self._took_at = time.monotonic()
        return found

    def take_overflow(self) -> bool:
        """Whether the kernel dropped events, or the watching thread was lost, since the last call: then rescan."""
        if not self._inotify.is_alive():
            self._restart()
        with self._lock:
            overflowed, self._overflowed = self._overflowed, False
        return overflowed

    @property
    def watched(self) -> int:
        """How many directories are watched."""
        return len(self._descriptors)

    def is_watched(self, path: str) -> bool:
        """Whether this directory is watched."""
        return path in self._descriptors

    def watched_below(self, top: str) -> int:
        """How many watched directories are at or below ``top``."""
        with self._lock:
            return sum(path == top or path.startswith(top + "/") for path in self._descriptors)

    @property
    def overflows(self) -> int:
        """How often events were lost so far."""
        return self._overflows

    @property
    def refused(self) -> int:
        """How many directories the kernel refuses to watch for now, for its limits."""
        return len(self._refused)

    def retry(self) -> None:
        """Ask again for what was refused, as far as the kernel goes along: limits are raised, and watches given back."""
        for path in sorted(self._refused):
            if not self.watch(path) and path in self._refused:
                return

    def stop(self) -> None:
        """Stop watching; the thread ends."""
        self._inotify.stop()
        self._inotify.join(timeout=5)

    def _restart(self) -> None:
        with self._lock:
            paths = list(self._descriptors)
            self._descriptors.clear()
            self._paths.clear()
            self._overflows += 1
            self._overflowed = True
        with contextlib.suppress(OSError):
            self._inotify.stop()  # its thread is dead, its descriptors are not
        self._inotify = self._start()
        for path in paths:
            self.watch(path)

    # -- what InotifyFD calls, from its own thread ---------------------------------------------------------------

    def on_event(self, event: InotifyEvent) -> None:
        """One event of one watched directory."""
        with self._lock:
            directory = self._paths.get(event.wd)
            if directory is None:
                return
            appeared = bool(event.is_create or event.is_moved_to)
            self._sightings[Sighting(directory, os.fsdecode(event.name), event.is_directory, appeared)] = None
            gathering = time.monotonic() - self._took_at < GATHER
        if not gathering:
            self._wake()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """The kernel dropped a watch, because its directory is gone."""
        with self._lock:
            path = self._paths.pop(wd, None)
            if path is None:
                return
            self._descriptors.pop(path, None)
            self._sightings[Sighting(path, "", is_directory=True, appeared=False)] = None
        self._wake()

    def on_queue_overflow(self) -> None:
        """The kernel dropped events."""
        with self._lock:
            self._overflows += 1
            self._overflowed = True
        self._wake()
