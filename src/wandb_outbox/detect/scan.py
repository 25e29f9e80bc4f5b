"""Find the run folders below a root: by what is in them, never by depth alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass

from wandb_outbox.folder import JUNK_DIRECTORIES, MAX_DEPTH, OFFLINE_PREFIX, OWN_DIRECTORY, SECRET_DIRECTORIES

_NEVER = frozenset((*JUNK_DIRECTORIES, *SECRET_DIRECTORIES))

Recognise = Callable[[str, Collection[str]], str | None]
"""Says of a directory, by the names in it, which format of run folder it is, or ``None``."""


@dataclass(frozen=True, slots=True)
class Found:
    """A directory below a root: a run folder of ``format``, or (``None``) one of the directories between."""

    path: str
    format: str | None
    mtime_ns: int


def scan(
    top: str,
    recognise: Recognise,
    *,
    others: Collection[str] = (),
    known: Container[str] = (),
    unreadable: Callable[[str], None] = lambda _: None,
) -> Iterator[Found]:
    """Every run folder at or below ``top``, and every directory between, parents first.

    Links are not followed, and ``others`` (nested roots, which own what is below them) are left out, as are the
    ``known`` directories: their times are compared by whoever knows them. A directory that cannot be read is passed over,
    and told to ``unreadable``: what is in it may be a run, and nothing but its permissions changes when it can be.
    """
    stack = [(top, 0)]
    while stack:
        path, depth = stack.pop()
        found, children = look(path, recognise)
        if found is None:
            unreadable(path)
            continue
        yield found
        if found.format is None and depth < MAX_DEPTH:
            stack.extend(
                (child, depth + 1) for child in reversed(children) if child not in others and child not in known
            )


def look(path: str, recognise: Recognise) -> tuple[Found | None, list[str]]:
    """One directory: what it is, and the directories in it; ``(None, [])`` when it cannot be read."""
    try:
        # The time is taken first: what changes while we read shows as a newer time at the next look.
        mtime_ns = os.stat(path, follow_symlinks=False).st_mtime_ns
        names: list[str] = []
        children: list[str] = []
        # In the SDK's own directory only offline runs are looked for; below a run folder not even they.
        wanted = OFFLINE_PREFIX if os.path.basename(path) == OWN_DIRECTORY else ""
        with os.scandir(path) as entries:
            for entry in entries:
                names.append(entry.name)
                if entry.name not in _NEVER and entry.name.startswith(wanted) and entry.is_dir(follow_symlinks=False):
                    children.append(entry.path)
    except OSError:
        return None, []
    return Found(path, recognise(path, names), mtime_ns), sorted(children)
