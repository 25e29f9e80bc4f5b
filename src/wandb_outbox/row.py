"""The words of a row of the outbox: its states and their transitions, and what a person can say about it.

Apart from the other words (:mod:`wandb_outbox.model`, which has these, too), because the commands that look need no more,
and people type them all day: making the classes of all the others would be a fifth of their start-up time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """Where a run folder stands in the outbox; one sentence each is in :data:`STATE_MEANINGS`."""

    WRITING = "writing"
    HELD = "held"
    QUEUED = "queued"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    FAILED = "failed"
    SKIPPED = "skipped"


STATE_MEANINGS: Mapping[State, str] = {
    State.WRITING: "somebody writes to the folder, or we cannot tell yet that it is finished",
    State.HELD: "finished, and waits for a person to release it",
    State.QUEUED: "finished, and waits for its turn or for the network",
    State.UPLOADING: "an uploader process is delivering it now",
    State.UPLOADED: "the server confirmed run, artifact, digest and file count",
    State.FAILED: "given up after its attempts or refused by the server; a person has to look",
    State.SKIPPED: "left alone on purpose",
}

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.WRITING: frozenset({State.HELD, State.QUEUED, State.UPLOADED, State.FAILED, State.SKIPPED}),
    State.HELD: frozenset({State.WRITING, State.QUEUED, State.SKIPPED}),
    State.QUEUED: frozenset({State.WRITING, State.HELD, State.UPLOADING, State.FAILED, State.SKIPPED}),
    State.UPLOADING: frozenset({State.WRITING, State.HELD, State.QUEUED, State.UPLOADED, State.FAILED, State.SKIPPED}),
    State.UPLOADED: frozenset({State.WRITING, State.HELD, State.QUEUED}),
    State.FAILED: frozenset({State.WRITING, State.QUEUED, State.SKIPPED}),
    State.SKIPPED: frozenset({State.WRITING, State.QUEUED}),
}
"""Every legal change of state; the store makes no others. ``writing`` to ``uploaded``: what the server has was put back."""


OLDER = "older than the watch over its root"
"""How the reason begins for which a folder of an old backlog is held."""


class Verdict(StrEnum):
    """What completion says of a folder at one moment."""

    WRITING = "writing"
    SETTLING = "settling"
    COMPLETE = "complete"
    CRASHED = "crashed"
    STALLED = "stalled"


LINGERS = "writer lingers: "
"""How the reason begins of a folder that says that it is done while somebody still has a file of it open."""


class Kind(StrEnum):
    """What sort of thing is delivered."""

    FOLDER = "folder"
    OFFLINE_RUN = "offline-run"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a person said on the command line about one delivery. ``None``: nothing said."""

    entity: str | None = None
    project: str | None = None
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] | None = None
    notes: str | None = None

    def after(self, earlier: Overrides) -> Overrides:
        """These, in the project that was said earlier unless another is said now: there the folder would be a second run."""
        return replace(self, entity=self.entity or earlier.entity, project=self.project or earlier.project)


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the outbox: one run folder, or one offline run."""

    key: int
    path: str
    root: str | None
    kind: Kind
    format: str
    birth: str
    state: State
    reason: str
    verdict: str
    outcome: str
    judged: str
    """Why completion said what it said, when it last found the folder finished."""
    run_id: str
    revision: int
    incarnation: int
    fingerprint: str
    files: int
    bytes: int
    first_seen: float
    completed_at: float | None
    attempts: int
    next_attempt_at: float | None
    overrides: Overrides
    error_class: str | None
    error_message: str | None
    error_hint: str | None
    entity: str | None
    project: str | None
    name: str | None
    url: str | None
    artifact: str | None
    digest: str | None
    delivered_fingerprint: str | None
    uploaded_at: float | None
    warnings: tuple[str, ...]
    """What plan and receipt of the last confirmed delivery warned of."""
    claim: str | None
    contacted: bool
    """The server may know this run id: from now on it never changes without a new incarnation."""
    suspect: bool
    """Its uploader died while it carried several: deliver it alone, so that the poison one is found."""
    gone: bool
    """The folder was not there when last looked for."""
    by_person: bool
    """A person skipped it: no change of the folder moves it."""
    hold: bool
    """A person wants to see every content of it before it is sent."""
    forced: bool
    """A person asked for it by ``upload`` or ``release``: holds do not apply to the approved fingerprint."""
    insisted: bool
    """It was held because of the run that it logged itself, and a person released it all the same."""
    verdict_since: float | None
    """Since when completion has said ``verdict``, while it waits; ``None``: it has not judged this content yet."""
    look_at: float | None
    """When the look that recorded the reason was to be repeated, if nothing is seen before."""


def run_id(site: str, path: str, incarnation: int) -> str:
    """The W&B run id of a folder: the same for ever for (site, real path, incarnation); 16 characters.

    Names collide (many experiments share a project and a name), so the id must not come from them. Sixteen
    base-32 digits are 80 bits, and hold none of the characters that W&B forbids in ids.
    """
    import hashlib

    digest = hashlib.blake2b(digest_size=10)
    for part in (site.encode(), os.fsencode(path), b"%d" % incarnation):
        digest.update(b"%d:" % len(part) + part)
    number = int.from_bytes(digest.digest(), "big")
    alphabet = "0123456789abcdefghijkmnpqrstuvwx"
    return "".join(alphabet[(number >> shift) & 31] for shift in range(75, -1, -5))


def is_at_or_below(path: str, top: str) -> bool:
    """Whether a path is this directory, or lies below it."""
    return path == top or path.startswith(top.rstrip("/") + "/")
