"""Watches a tree as others do, for comparison; run by an interpreter that has the libraries.

    python bystanders.py watchdog|watchfiles|polling ROOT

Prints ``ready`` once everything is watched. Events are received and forgotten: what a daemon would do with them comes
on top. Imports nothing of the project.
"""

from __future__ import annotations

import importlib
import sys
import time

WANTED = (
    "FileClosedEvent", "FileCreatedEvent", "FileMovedEvent", "FileDeletedEvent", "DirCreatedEvent", "DirMovedEvent",
    "DirDeletedEvent",
)  # fmt: skip
"""The fewest events that finished files can be found by."""


def main() -> None:
    """Watch until killed."""
    kind, root = sys.argv[1:]
    if kind == "watchfiles":
        changes = importlib.import_module("watchfiles").watch(root, yield_on_timeout=True, rust_timeout=500)
        next(changes)  # it gives back nothing for the first time after half a second of watching
        print("ready", flush=True)
        for _ in changes:
            pass
    observers = importlib.import_module("watchdog.observers" + (".polling" if kind == "polling" else ""))
    events = importlib.import_module("watchdog.events")
    observer = observers.PollingObserver() if kind == "polling" else observers.Observer()
    # Asked for everything, watchdog drowns in the openings of its own walk over a large tree, and walks again for ever.
    wanted = [getattr(events, name) for name in WANTED]
    observer.schedule(events.FileSystemEventHandler(), root, recursive=True, event_filter=wanted)
    observer.start()
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
