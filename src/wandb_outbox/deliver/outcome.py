"""What a failed delivery means: one pure decision from the server's answer and the SDK's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from wandb_outbox.deliver.probe import DEFAULT_RETRY_AFTER, Answer, ServerState
from wandb_outbox.errors import (
    DiskFull,
    NotVerified,
    Offline,
    OutboxError,
    Rejected,
    RunDeleted,
    Throttled,
    Unauthorized,
    UploaderCrashed,
)


class Stage(StrEnum):
    """How far a delivery had come."""

    PLAN = "planning"
    IDENTIFY = "looking the run up"
    INIT = "opening the run"
    CONTENT = "sending config, summary and history"
    ARTIFACT = "sending the artifact"
    FINISH = "finishing the run"
    VERIFY = "reading it back"


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception out of the SDK: where it came, its class, its words."""

    stage: Stage
    kind: str
    words: str
    disk_full: bool = False


KEY_HINT = "set WANDB_API_KEY, or put the key into the service's credential wandb_api_key or into ~/.netrc"
_DELETED = re.compile(r"\b409\b|previously created and deleted|was deleted", re.IGNORECASE)
_REFUSED = re.compile(r"invalid|exceeds|too large|must be", re.IGNORECASE)
_CODE = re.compile(r"\b[45]\d\d\b")
_TRANSPORT = re.compile(
    r"time(?:d)? ?out|refused|reset|unreachable|no such host|EOF|connection|broken pipe|network|did not respond|"
    # Storage, of which the SDK tells no more than this: an outage of it uses up no attempt, and a file that it refuses
    # alone is found by the deliveries beside it that went through.
    r"uploads \(\d+/\d+\) have failed|"
    # A page where JSON was expected: a proxy or a login page answers, not W&B.
    r"looking for beginning of value|<html|<!doctype|cannot unmarshal|"
    # The server's own trouble, of which GraphQL tells with HTTP 200.
    r"internal (?:server )?error|deadline exceeded|unavailable|try again|deadlock|"
    r"\b5\d\d\b|\b429\b|\b408\b",
    re.IGNORECASE,
)


def decide(path: str, failure: Failure, answer: Answer) -> OutboxError:
    """The error whose class says what follows. The server's own answer decides, the SDK's exception supplies the words."""
    words = f"{path}: {failure.stage} failed: {shorten(failure.words)}"
    if failure.disk_full:
        return DiskFull(words, hint="make room on the disk of the state directory")
    if failure.stage is Stage.PLAN:
        return UploaderCrashed(
            words, hint="this folder cannot be planned: please report it with its `wandb-outbox plan`"
        )
    if failure.stage is Stage.INIT and says_deleted(failure.words):
        return RunDeleted(words)
    match answer.state:
        case ServerState.OFFLINE | ServerState.UNKNOWN:
            return Offline(f"{answer.detail} ({words})")
        case ServerState.THROTTLED:
            return Throttled(answer.detail, retry_after=answer.retry_after or DEFAULT_RETRY_AFTER)
        case ServerState.UNAUTHORIZED:
            return Unauthorized(answer.detail, hint=KEY_HINT)
        case ServerState.ONLINE:
            pass
    if re.search(r"\b429\b", failure.words):
        return Throttled(words, retry_after=DEFAULT_RETRY_AFTER)
    refused = Rejected(
        words, hint="the server refuses this data: look at `wandb-outbox plan`, then `wandb-outbox retry`"
    )
    sends_data = failure.stage in (Stage.INIT, Stage.CONTENT)
    code = _CODE.search(failure.words)
    if sends_data and code is not None and code[0] in ("400", "413", "422"):
        return refused  # before the words are looked at: they may name a "network" or a limit of 512
    if _TRANSPORT.search(failure.words) or failure.kind in ("TimeoutError", "WaitTimeoutError"):
        return Offline(
            words, hint="the server answers, but not for this: its storage or one of its services may be down"
        )
    if re.search(r"\b40[134]\b|permission|not found", failure.words, re.IGNORECASE):
        # Not final: a server that is being repaired says so, too. It uses up attempts, and then a person looks.
        return NotVerified(words, hint="the API key is accepted, but perhaps not for this: check entity and project")
    if sends_data and _REFUSED.search(failure.words):
        return refused
    return NotVerified(words, hint="it is tried again; what has arrived is not sent twice")


def says_deleted(words: str) -> bool:
    """Whether these are the server's words for a run id that was deleted; a port number is none."""
    return _DELETED.search(words) is not None


def shorten(words: str, limit: int = 500) -> str:
    """One line of at most ``limit`` characters."""
    line = " ".join(words.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
