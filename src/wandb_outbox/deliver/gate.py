"""May we talk to the server now? One gate for all uploads, decided purely.

All uploads pause together and one probe finds the network again, so that a month offline costs one small request
every five minutes and not one failing upload for each folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wandb_outbox.deliver.outcome import KEY_HINT
from wandb_outbox.deliver.probe import Answer, ServerState
from wandb_outbox.errors import DiskFull, Offline, OutboxError, Throttled, Unauthorized
from wandb_outbox.outbox.retry import PROBE_CAP, backoff

FIRST_PROBE = 1.0
UNAUTHORIZED_PROBE = 60.0
"""A key changes when a person changes it: asked for slowly."""
DISK_PROBE = 15.0


@dataclass(frozen=True, slots=True)
class Gate:
    """``next_probe`` is the earliest time to ask again; ``failures`` counts those since the last verified delivery.

    All times here are ticks of a monotonic clock: a wall clock that is set back must not keep the gate closed.
    """

    state: ServerState = ServerState.UNKNOWN
    since: float = 0.0
    detail: str = ""
    next_probe: float = 0.0
    failures: int = 0
    entity: str | None = None

    @property
    def open(self) -> bool:
        """Whether uploads may start."""
        return self.state is ServerState.ONLINE


def after_answer(gate: Gate, answer: Answer, *, now: float, chance: float) -> Gate:
    """The gate after a probe was answered."""
    if answer.state is ServerState.ONLINE:
        return _enter(gate, ServerState.ONLINE, "", now, next_probe=0.0, entity=answer.entity or gate.entity)
    failures = gate.failures + 1
    if answer.state is ServerState.THROTTLED:
        wait = answer.retry_after or FIRST_PROBE
    elif answer.state is ServerState.UNAUTHORIZED:
        wait = UNAUTHORIZED_PROBE
    else:
        wait = backoff(failures, first=FIRST_PROBE, cap=PROBE_CAP, chance=chance)
    gate = _enter(gate, answer.state, answer.detail, now, next_probe=now + wait, entity=gate.entity)
    return replace(gate, failures=failures)


def after_error(gate: Gate, error: OutboxError, *, now: float, chance: float) -> Gate:
    """The gate after a delivery failed; an error that says nothing of the server leaves it as it is."""
    match error:
        case Throttled():
            answer = Answer(ServerState.THROTTLED, error.message, retry_after=error.retry_after)
        case Unauthorized():
            answer = Answer(ServerState.UNAUTHORIZED, error.message)
        case Offline():
            answer = Answer(ServerState.OFFLINE, error.message)
        case DiskFull():
            return _enter(
                gate, ServerState.UNKNOWN, error.message, now, next_probe=now + DISK_PROBE, entity=gate.entity
            )
        case _:
            return gate
    longer = isinstance(error, Throttled) and now + error.retry_after > gate.next_probe
    if not gate.open and gate.next_probe > now and not longer:
        return gate  # several deliveries fell in the same outage: it counts once
    return after_answer(gate, answer, now=now, chance=chance)


def after_delivery(gate: Gate) -> Gate:
    """The gate after the server confirmed something."""
    return replace(gate, failures=0)


def _enter(gate: Gate, state: ServerState, detail: str, now: float, *, next_probe: float, entity: str | None) -> Gate:
    since = gate.since if gate.state is state else now
    if state is ServerState.UNAUTHORIZED:
        detail = f"{detail}; {KEY_HINT}"  # the one trouble that only a person can end: `status` names the fix
    return replace(gate, state=state, since=since, detail=detail, next_probe=next_probe, entity=entity)
