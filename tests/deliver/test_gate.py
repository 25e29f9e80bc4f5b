"""One gate for all uploads, decided purely."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unhurried import unhurried

from wandb_outbox.deliver.gate import (
    DISK_PROBE,
    UNAUTHORIZED_PROBE,
    Gate,
    after_answer,
    after_delivery,
    after_error,
)
from wandb_outbox.deliver.probe import Answer, ServerState
from wandb_outbox.errors import (
    DiskFull,
    FolderChanged,
    NotVerified,
    Offline,
    OutboxError,
    Rejected,
    Throttled,
    Unauthorized,
    UploaderCrashed,
)
from wandb_outbox.outbox.retry import PROBE_CAP

ONLINE = Answer(ServerState.ONLINE, "", "team")
OFFLINE = Answer(ServerState.OFFLINE, "no route")
OPEN = Gate(ServerState.ONLINE, since=1.0)
states = st.sampled_from([ServerState.OFFLINE, ServerState.UNAUTHORIZED, ServerState.THROTTLED, ServerState.UNKNOWN])


def test_nothing_is_sent_before_the_server_was_asked() -> None:
    """A new gate is closed, and the question is due at once."""
    assert not Gate().open
    assert Gate().next_probe == 0.0


def test_a_good_answer_opens_it() -> None:
    """With the time since when, and the entity; nothing more to ask."""
    gate = after_answer(Gate(since=1.0), ONLINE, now=50.0, chance=0.5)
    assert gate.open
    assert (gate.since, gate.detail, gate.next_probe, gate.entity) == (50.0, "", 0.0, "team")
    assert after_answer(gate, Answer(ServerState.ONLINE, ""), now=60.0, chance=0.5).entity == "team"


def test_an_outage_is_asked_after_with_growing_waits_up_to_five_minutes() -> None:
    """A month offline costs one small request every five minutes."""
    gate, now, waits = OPEN, 0.0, []
    for _ in range(12):
        gate = after_answer(gate, OFFLINE, now=now, chance=0.999)
        waits.append(gate.next_probe - now)
        now = gate.next_probe
    assert waits[0] == pytest.approx(1, rel=0.01)
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(waits))
    assert waits[-1] == pytest.approx(PROBE_CAP, rel=0.01)
    assert gate.since == 0.0
    assert gate.detail == "no route"


def test_waits_begin_anew_only_after_a_verified_delivery() -> None:
    """A server that answers the probe and fails every delivery is not hammered."""
    gate = OPEN
    for _ in range(4):
        gate = after_answer(gate, OFFLINE, now=0.0, chance=0.0)
    reopened = after_answer(gate, ONLINE, now=9.0, chance=0.0)
    assert after_error(reopened, Offline("storage"), now=10.0, chance=0.0).next_probe == 10 + 8
    assert after_error(after_delivery(reopened), Offline("storage"), now=10.0, chance=0.0).next_probe == 10.5


def test_throttled_holds_everything_for_as_long_as_the_server_said() -> None:
    """Retry-After, to the second; and a zero does not spin."""
    gate = after_answer(OPEN, Answer(ServerState.THROTTLED, "429", retry_after=77.0), now=10.0, chance=0.5)
    assert (gate.open, gate.next_probe) == (False, 87.0)
    assert (
        after_answer(OPEN, Answer(ServerState.THROTTLED, "429", retry_after=0.0), now=10.0, chance=0.5).next_probe > 10
    )
    assert after_error(OPEN, Throttled("429", retry_after=33.0), now=10.0, chance=0.5).next_probe == 43.0


def test_the_longest_retry_after_wins() -> None:
    """Several deliveries are throttled at once: the last one asked for must not be forgotten, nor the longest cut."""
    gate = after_error(OPEN, Throttled("429", retry_after=30.0), now=10.0, chance=0.5)
    longer = after_error(gate, Throttled("429", retry_after=300.0), now=11.0, chance=0.5)
    assert longer.next_probe == 311.0
    assert after_error(longer, Throttled("429", retry_after=5.0), now=12.0, chance=0.5).next_probe == 311.0
    offline = after_error(OPEN, Offline("reset"), now=10.0, chance=0.5)
    assert (
        after_error(offline, Throttled("429", retry_after=300.0), now=10.1, chance=0.5).state is ServerState.THROTTLED
    )


def test_a_refused_key_is_asked_after_slowly_and_names_the_fix() -> None:
    """Only a person can end this one."""
    gate = after_answer(OPEN, Answer(ServerState.UNAUTHORIZED, "HTTP 401"), now=10.0, chance=0.5)
    assert gate.next_probe == 10 + UNAUTHORIZED_PROBE
    assert "HTTP 401" in gate.detail
    assert "WANDB_API_KEY" in gate.detail
    by_error = after_error(OPEN, Unauthorized("HTTP 401"), now=10.0, chance=0.5)
    assert (by_error.state, by_error.next_probe) == (ServerState.UNAUTHORIZED, 10 + UNAUTHORIZED_PROBE)


def test_several_failures_in_one_outage_count_once() -> None:
    """Eight deliveries that fall together do not make the wait eight times as long."""
    first = after_error(OPEN, Offline("reset"), now=10.0, chance=0.0)
    again = first
    for _ in range(7):
        again = after_error(again, Offline("reset"), now=10.1, chance=0.0)
    assert again == first


def test_a_full_disk_pauses_for_a_while() -> None:
    """No word about the server; tried again soon, by asking it."""
    gate = after_error(OPEN, DiskFull("no room"), now=10.0, chance=0.5)
    assert (gate.open, gate.state, gate.detail) == (False, ServerState.UNKNOWN, "no room")
    assert gate.next_probe == 10 + DISK_PROBE


@pytest.mark.parametrize(
    "error",
    [Rejected("x"), NotVerified("x"), UploaderCrashed("x"), FolderChanged("x")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_one_folder_leaves_the_gate_alone(error: OutboxError) -> None:
    """One bad folder never stops the others."""
    assert after_error(OPEN, error, now=10.0, chance=0.5) == OPEN


@unhurried
@given(states, st.integers(0, 100), st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_a_closed_gate_always_has_a_next_question_in_the_future(
    state: ServerState, failures: int, now: float, chance: float
) -> None:
    """It neither stays shut for ever nor asks without a pause."""
    answer = Answer(state, "why", retry_after=5.0 if state is ServerState.THROTTLED else None)
    gate = after_answer(Gate(failures=failures), answer, now=now, chance=chance)
    assert not gate.open
    assert 0 < gate.next_probe - now <= max(PROBE_CAP, UNAUTHORIZED_PROBE)


@unhurried
@given(states, st.floats(0, 100), st.floats(0, 100))
def test_since_tells_when_the_state_began(state: ServerState, first: float, later: float) -> None:
    """The same answer again does not make it younger; another does."""
    answer = Answer(state, "why")
    gate = after_answer(OPEN, answer, now=10 + first, chance=0.5)
    assert gate.since == 10 + first
    assert after_answer(gate, answer, now=200 + later, chance=0.5).since == 10 + first
    assert after_answer(gate, ONLINE, now=200 + later, chance=0.5).since == 200 + later
