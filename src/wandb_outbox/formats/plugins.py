"""Readers of other people: formats that an installed package names as entry points in the group :data:`GROUP`.

Such a reader runs in the daemon (``recognises``, ``evidence``) and in the uploader (``read``). Whatever goes wrong in it costs
the folders that it is asked about, and nothing else: each call is guarded, and each fault is told once, in words that name
the reader.
"""

from __future__ import annotations

import importlib.metadata
import re
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from wandb_outbox.errors import OutboxError, Rejected
from wandb_outbox.formats.content import Content
from wandb_outbox.model import FormatEvidence, Snapshot

GROUP = "wandb_outbox.formats"
SLOW = 0.25
"""Seconds that loading a reader may take without a word: the daemon loads it, too."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_METHODS = ("recognises", "evidence", "read")
_HINT = "mend the reader and restart the daemon, or uninstall its package"
_Answer = TypeVar("_Answer")
Tell = Callable[[str], object]
"""Takes a fault that stops nothing; the same one may come again and again."""


class Reader:
    """A format of somebody else, as the registry asks it: it answers as promised, or says who did not."""

    def __init__(self, name: str, made: Any, source: str, tell: Tell) -> None:
        """``made`` is the object that the entry point ``source`` gave; ``tell`` takes a fault that stops nothing."""
        self._name = name
        self._made = made
        self._source = source
        self._tell = tell

    @property
    def name(self) -> str:
        """The name in the outbox, in plans and in the configuration."""
        return self._name

    def recognises(self, path: str, names: Collection[str]) -> bool:
        """Whether the reader says so; one that fails recognises nothing."""
        try:
            return bool(self._made.recognises(path, names))
        except Exception as error:  # noqa: BLE001  anything may come out of it, and the daemon goes on
            self._tell(f"{self._source}: recognises failed: {_words(error)}; it recognises nothing; {_HINT}")
            return False

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """What the reader says. Raises :class:`Rejected` when it fails: nobody knows then whether the run has ended."""
        return self._ask(path, FormatEvidence, lambda: self._made.evidence(path, snapshot, marker))

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """What the reader says. Raises :class:`Rejected` when it fails."""
        return self._ask(path, Content, lambda: self._made.read(path, snapshot))

    def _ask(self, path: str, kind: type[_Answer], question: Callable[[], object]) -> _Answer:
        try:
            answer = question()
        except OutboxError:
            raise
        except Exception as error:
            raise Rejected(
                f"{path}: the format {self._name} ({self._source}) failed: {_words(error)}", hint=_HINT
            ) from error
        if not isinstance(answer, kind):
            words = f"gave a {type(answer).__name__}, not a {kind.__name__}"
            raise Rejected(f"{path}: the format {self._name} ({self._source}) {words}", hint=_HINT)
        return answer


def load(taken: Collection[str], tell: Tell) -> tuple[Reader, ...]:
    """Every reader that can be used, by name; of the others ``tell`` hears why. ``taken`` are the names that are not free."""
    found: dict[str, Reader] = {}
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        source = f"{point.name} = {point.value}"
        if point.name in taken or point.name in found:
            tell(f"{source}: there is a format of this name already; it is not used")
            continue
        if not _NAME.fullmatch(point.name):
            tell(f"{source}: the name of a format is of small letters, digits, dots and dashes; it is not used")
            continue
        began = time.perf_counter()
        try:
            made = point.load()
            made = made() if isinstance(made, type) else made
        except (Exception, SystemExit) as error:  # noqa: BLE001  as above
            tell(f"{source}: cannot be loaded: {_words(error)}; it is not used")
            continue
        missing = [method for method in _METHODS if not callable(getattr(made, method, None))]
        if missing:
            tell(f"{source}: has no {', '.join(missing)}; it is not used")
            continue
        took = time.perf_counter() - began
        if took > SLOW:
            tell(
                f"{source}: took {took:.1f} s to load; import what is heavy inside `read`, which the daemon never calls"
            )
        found[point.name] = Reader(point.name, made, source, tell)
    return tuple(found.values())


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
