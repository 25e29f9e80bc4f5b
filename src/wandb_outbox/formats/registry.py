"""The formats in the order in which they are asked, and the three questions that they answer."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Protocol

from wandb_outbox.errors import UserError
from wandb_outbox.formats.content import Content
from wandb_outbox.formats.done_when import done_when
from wandb_outbox.formats.hf_trainer import HfTrainer, holds_state, is_weight, state_of
from wandb_outbox.formats.hydra import Hydra
from wandb_outbox.formats.llm_tts import LlmTts
from wandb_outbox.formats.lm_eval import LmEval, of_timestamp, timestamps
from wandb_outbox.formats.marker import done_marker
from wandb_outbox.formats.offline_run import OfflineRun, log_evidence
from wandb_outbox.formats.plain import Plain
from wandb_outbox.formats.plugins import load
from wandb_outbox.model import FileStat, FormatEvidence, Kind, Snapshot

_CHECKPOINT = re.compile(r"checkpoint-\d+")
_JOB_OF_SWEEP = re.compile(r"/multirun/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d/\d+/?$")


class Format(Protocol):
    """One kind of run folder. A format holds no state; one instance serves every folder and thread."""

    @property
    def name(self) -> str:
        """The name in the outbox, in plans and in the configuration."""
        ...

    def recognises(self, path: str, names: Collection[str]) -> bool:
        """Whether a directory with these entries is a run folder of this format.

        Asked of every directory below a root, so it decides by names; it may look at a bounded part of one file.
        """
        ...

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """What in the folder says how it ended. ``marker`` is the experiment's own word, in place of other evidence.

        Reads a bounded part of a few files. Hostile content is evidence, never an exception; ``FolderChanged`` and
        ``FolderUnreadable`` are raised when the folder changes, or may not be read, underneath.
        """
        ...

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """The whole content. Bad content is a warning in it; raises as :meth:`evidence` does."""
        ...


_BUILT_IN: tuple[Format, ...] = (LlmTts(), Hydra(), HfTrainer(), LmEval(), Plain())
_OFFLINE = OfflineRun()
_FAULTS: dict[str, None] = {}


@functools.cache
def _known() -> Mapping[str, Format]:
    """Every format by its name, in the order in which they are asked: those of other packages before ours.

    The SDK's own directories come first of all: nobody else may take them. Loaded once, when a folder is first looked at.
    """
    taken = {_OFFLINE.name, *(each.name for each in _BUILT_IN)}
    ordered: tuple[Format, ...] = (_OFFLINE, *load(taken, _FAULTS.setdefault), *_BUILT_IN)
    return {each.name: each for each in ordered}


def faults() -> tuple[str, ...]:
    """What is wrong with the readers of other packages, as far as it has shown; each in words for a person."""
    _known()
    return tuple(_FAULTS)


def recognise(path: str, names: Collection[str], *, detect: Sequence[str] = ()) -> str | None:
    """The format of the directory ``path`` with the entries ``names``, or ``None`` if it is no run folder.

    ``detect`` are patterns of a root for folders that no format knows; such a folder is ``plain``. A pattern without
    ``/`` is for the name of an entry (``summary.csv``), one with ``/`` for the end of the folder's path
    (``runs/*``, or ``exp-*/`` for its own name).
    """
    if _CHECKPOINT.fullmatch(PurePosixPath(path).name):
        return None
    for each in _known().values():
        if each.recognises(path, names):
            return each.name
    if any(_detected(path, names, pattern) for pattern in detect):
        return Plain.name
    # Hydra can be told to keep its configuration out of the jobs of a sweep.
    return Hydra.name if names and _JOB_OF_SWEEP.search(path) else None


def _detected(path: str, names: Collection[str], pattern: str) -> bool:
    if "/" not in pattern:
        return any(fnmatchcase(name, pattern) for name in names)
    pattern = pattern.strip("/")
    return bool(pattern) and PurePosixPath(path.lstrip("/")).match(pattern)


def kind_of(format: str) -> Kind:  # noqa: A002  it is the word for it
    """What sort of thing a folder of this format is."""
    return Kind.OFFLINE_RUN if format == OfflineRun.name else Kind.FOLDER


def evidence(
    format: str,  # noqa: A002  it is the word for it
    path: str,
    snapshot: Snapshot,
    rules: Sequence[str] = (),
) -> FormatEvidence:
    """What the folder says about its end; see :meth:`Format.evidence`. Raises ``UserError`` for an unknown format.

    Where the format finds neither, the log of the newest run that used wandb itself in the folder speaks. Where nothing
    says that it ended well, ``rules`` do, the root's ``done_when``.
    """
    found = _said(format, path, snapshot)
    if found.done is None and rules and (met := done_when(rules, path, snapshot)):
        return replace(found, done=met)
    return found


def _said(format: str, path: str, snapshot: Snapshot) -> FormatEvidence:  # noqa: A002  it is the word for it
    found = _format(format).evidence(path, snapshot, done_marker(path, snapshot))
    if found.done is not None or found.failed is not None or not snapshot.logs:
        return found
    # The directories' names say when the run began.
    newest = max(snapshot.logs, key=lambda log: log.path.split("/")[-2].removeprefix("offline-"))
    logged = log_evidence(path, newest.path)
    shown = found.nothing_to_show and not snapshot.offline
    return replace(found, done=logged.done, failed=logged.failed, nothing_to_show=shown)


def read(format: str, path: str, snapshot: Snapshot) -> Content:  # noqa: A002  it is the word for it
    """The folder's content; see :meth:`Format.read`. Raises ``UserError`` for an unknown format."""
    return _format(format).read(path, snapshot)


def units(format: str, snapshot: Snapshot) -> tuple[str, ...]:  # noqa: A002  it is the word for it
    """The runs that a folder of this format holds, oldest first; empty where the folder is one run."""
    return timestamps(snapshot) if format == LmEval.name else ()


def bytes_to_send(format: str, snapshot: Snapshot, log_model: str) -> int:  # noqa: A002  it is the word for it
    """How much of the folder is to be sent at most: where no model is wanted, weights are not."""
    left_out = weights_of(format, snapshot.files) if log_model == "none" else ()
    return sum(file.size for file in snapshot.files if file.path not in left_out)


def weights_of(format: str, files: Sequence[FileStat]) -> frozenset[str]:  # noqa: A002  it is the word for it
    """The files of a training that are no results, by their paths; an application of Hydra may train, too.

    The state that the plan is made of is a result, wherever it is.
    """
    if format != HfTrainer.name and not (format == Hydra.name and holds_state(files)):
        return frozenset()
    return frozenset(file.path for file in files if is_weight(file.path)) - {state_of(files)}


def of_unit(format: str, snapshot: Snapshot, unit: str) -> Snapshot:  # noqa: A002  it is the word for it
    """The folder as if it held this one of its :func:`units` only. What belongs to none of them goes with the newest."""
    return of_timestamp(snapshot, unit) if format == LmEval.name else snapshot


def _format(name: str) -> Format:
    try:
        return _known()[name]
    except KeyError:
        raise UserError([f"unknown format {name!r}"], hint=f"known formats: {', '.join(_known())}") from None
