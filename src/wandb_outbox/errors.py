"""Errors, named by the next move they call for.

A caller that catches one of these knows what to do without reading the words; the words are for the
person: what happened, to which folder, what we do next, what they can do.
"""

from __future__ import annotations

from collections.abc import Sequence


class OutboxError(Exception):
    """Base of every error that this project raises on purpose.

    ``hint`` tells a person what they can do; it may be empty when there is nothing to do.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Offline(OutboxError):
    """The server, or its storage, cannot be reached now: wait for the network, use up no attempt."""


class Throttled(OutboxError):
    """The server asked us to slow down: all uploads wait ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unauthorized(OutboxError):
    """The server does not accept our key, or there is none: all uploads pause until it changes."""


class Rejected(OutboxError):
    """The server, or we, refuse this data for good: a person has to change something."""


class FolderChanged(OutboxError):
    """The folder changed or vanished since it was found complete: it goes back to ``writing``."""


class Held(OutboxError):
    """It must not be sent now: held with this reason until a person releases it, or for ``look_again_in`` seconds."""

    def __init__(self, message: str, *, hint: str = "", look_again_in: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.look_again_in = look_again_in


class Elsewhere(OutboxError):
    """Another executor of this machine delivers this folder now: ask again soon, use up no attempt."""


class RunDeleted(OutboxError):
    """The run id was deleted on the server (it answers 409 for ever): a new incarnation is needed."""


class NotVerified(OutboxError):
    """Sent, but what the server gives back differs from what was sent: try again, idempotently."""


class UploaderCrashed(OutboxError):
    """The uploader process died or hung: the attempt is used up."""


class DiskFull(OutboxError):
    """No room in the state directory: pause, say so, go on when there is room."""


class StateUnusable(OutboxError):
    """The state directory or its database cannot be used (exit code 78)."""


class StateGone(OutboxError):
    """The state directory was taken away under us: end, so that a new start makes another."""


class ExecutorRunning(OutboxError):
    """Another process holds the executor's lock of this state directory."""


class UserError(OutboxError):
    """What the person asked for cannot be done; carries every problem at once."""

    def __init__(self, problems: Sequence[str], *, hint: str = "") -> None:
        super().__init__("; ".join(problems), hint=hint)
        self.problems = tuple(problems)


class ConfigurationError(UserError):
    """The configuration is faulty; carries every fault at once (exit code 78)."""
