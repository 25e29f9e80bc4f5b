"""What a failed delivery means: the server's own answer decides, the SDK's words only where it is well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unhurried import unhurried

from wandb_outbox.deliver.outcome import Failure, Stage, decide, shorten
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

ONLINE = Answer(ServerState.ONLINE, "", "team")
SENDING = [Stage.IDENTIFY, Stage.INIT, Stage.CONTENT, Stage.ARTIFACT, Stage.FINISH, Stage.VERIFY]


def outcome(words: str, stage: Stage = Stage.INIT, answer: Answer = ONLINE, kind: str = "CommError") -> OutboxError:
    """The error for a folder."""
    return decide("/outputs/a", Failure(stage, kind, words), answer)


@pytest.mark.parametrize("stage", SENDING)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(ServerState.OFFLINE, "no route"), Offline),
        (Answer(ServerState.UNKNOWN, "?"), Offline),
        (Answer(ServerState.THROTTLED, "429", retry_after=9.0), Throttled),
        (Answer(ServerState.UNAUTHORIZED, "401"), Unauthorized),
    ],
)
@pytest.mark.parametrize("words", ["error 400: invalid tag", "permission denied", "whatever", ""])
def test_a_server_that_is_not_well_decides_whatever_the_sdk_says(
    stage: Stage, answer: Answer, kind: type[OutboxError], words: str
) -> None:
    """Through the SDK 429, 401 and "no network" look alike: our own question tells them apart."""
    assert type(outcome(words, stage, answer)) is kind


def test_the_servers_wait_is_handed_on() -> None:
    """Or a default, where it named none."""
    told = outcome("x", answer=Answer(ServerState.THROTTLED, "429", retry_after=9.0))
    assert isinstance(told, Throttled)
    assert told.retry_after == 9.0
    told = outcome("returned error 429: rate limit exceeded")
    assert isinstance(told, Throttled)
    assert told.retry_after == DEFAULT_RETRY_AFTER


def test_a_deleted_run_is_told_only_when_it_was_to_be_opened() -> None:
    """409 elsewhere is something else."""
    words = "returned error 409: run was previously created and deleted; try a new run name"
    assert isinstance(outcome(words), RunDeleted)
    assert isinstance(outcome(words, answer=Answer(ServerState.OFFLINE, "gone")), RunDeleted)
    assert not isinstance(outcome(words, Stage.ARTIFACT), RunDeleted)


@pytest.mark.parametrize(
    "words",
    [
        "read tcp 127.0.0.1:1->127.0.0.1:2: connection reset by peer",
        "dial tcp: lookup storage.test: no such host",
        "dial tcp 10.0.0.1:443: connect: network is unreachable",
        "Put https://storage.test: context deadline exceeded (Client.Timeout exceeded)",
        "Failed to upload file: status: 503 Service Unavailable",
        "returned error 500: internal server error",
        "unexpected EOF",
        "input: Internal Server Error",
        "input: createArtifact context deadline exceeded",
        "json: cannot unmarshal array into Go value of type graphql.Response",
        "ArtifactSaver.uploadFiles: most remaining uploads (5/5) have failed, giving up",
        "broken pipe",
        "timed out while waiting",
    ],
)
@pytest.mark.parametrize("stage", [Stage.INIT, Stage.ARTIFACT])
def test_a_storage_that_is_down_while_the_api_answers_is_offline(words: str, stage: Stage) -> None:
    """No attempt is used up by it, and the hint says what may be down."""
    found = outcome(words, stage)
    assert isinstance(found, Offline)
    assert "storage" in found.hint


@pytest.mark.parametrize("kind", ["TimeoutError", "WaitTimeoutError"])
def test_a_timeout_needs_no_words(kind: str) -> None:
    """Its class says it."""
    assert isinstance(outcome("", Stage.ARTIFACT, kind=kind), Offline)


@pytest.mark.parametrize(
    "words",
    [
        "returned error 400: invalid tag",
        "returned error 422: project name exceeds the limit",
        "returned error 413: payload",
        "returned error 400: name must be at most 512 characters",
        'returned error 400: invalid project "network-reset-connection"',
        "Invalid project name",
        "tags must be between 1 and 64 characters",
    ],
)
@pytest.mark.parametrize("stage", [Stage.INIT, Stage.CONTENT])
def test_data_that_the_server_refuses_is_rejected_with_its_words(words: str, stage: Stage) -> None:
    """At once: another try would bring the same answer, and must not pause everybody else."""
    found = outcome(words, stage)
    assert isinstance(found, Rejected)
    assert words in found.message
    assert "wandb-outbox plan" in found.hint


def test_a_refusal_after_the_data_was_taken_is_no_rejection() -> None:
    """What fails while finishing or reading back is tried again."""
    for stage in (Stage.IDENTIFY, Stage.ARTIFACT, Stage.FINISH, Stage.VERIFY):
        assert isinstance(outcome("invalid state", stage), NotVerified)


@pytest.mark.parametrize("words", ["returned error 403: permission denied", "returned error 404: entity not found"])
def test_a_key_that_may_not_write_here_uses_up_attempts(words: str) -> None:
    """The key is fine, the place is not: a person looks after some tries."""
    found = outcome(words)
    assert isinstance(found, NotVerified)
    assert "entity and project" in found.hint


def test_a_folder_that_cannot_be_planned_is_its_own_trouble() -> None:
    """The server has nothing to do with it."""
    for state in ServerState:
        assert isinstance(outcome("KeyError", Stage.PLAN, Answer(state, "")), UploaderCrashed)


def test_a_full_disk_is_told_before_everything_else() -> None:
    """Nothing can be concluded from a server when there was no room to talk to it."""
    failure = Failure(Stage.INIT, "OSError", "No space left on device", disk_full=True)
    for state in ServerState:
        assert isinstance(decide("/a", failure, Answer(state, "")), DiskFull)


@unhurried
@given(st.sampled_from(list(Stage)), st.text(), st.text(max_size=20), st.booleans(), st.sampled_from(list(ServerState)))
def test_every_failure_has_an_outcome_with_words(
    stage: Stage, words: str, kind: str, full: bool, state: ServerState
) -> None:
    """Whatever an exception says: a named error, one bounded line, never an exception of our own."""
    error = decide("/outputs/a", Failure(stage, kind, words, full), Answer(state, "detail"))
    assert type(error) is not OutboxError
    assert error.message
    assert "\n" not in error.message
    assert len(error.message) < 700


@unhurried
@given(st.text(), st.integers(1, 100))
def test_shortened_words_are_one_line_of_bounded_length(words: str, limit: int) -> None:
    """And whole where they fit."""
    short = shorten(words, limit)
    assert len(short) <= limit
    assert len(short.splitlines()) <= 1
    if len(" ".join(words.split())) <= limit:
        assert short == " ".join(words.split())
