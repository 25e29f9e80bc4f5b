"""Backoff: doubled, capped, spread, and never nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from unhurried import unhurried

from wandb_outbox.outbox.retry import backoff

chances = st.floats(0, 1, exclude_max=True)
failures = st.integers(-5, 10**9)


@unhurried
@given(failures, chances)
def test_a_wait_is_between_half_and_all_of_the_doubled_time(number: int, chance: float) -> None:
    """Capped, positive, finite, for any number of failures."""
    wait = backoff(number, first=10.0, cap=3600.0, chance=chance)
    whole = min(10.0 * 2.0 ** min(max(number - 1, 0), 12), 3600.0)
    assert whole / 2 <= wait <= whole


@unhurried
@given(st.integers(1, 50), chances)
def test_waits_never_shrink_with_more_failures(number: int, chance: float) -> None:
    """With the same chance, more failures never mean a shorter wait."""
    waits = [backoff(count, first=1.0, cap=300.0, chance=chance) for count in (number, number + 1)]
    assert waits[0] <= waits[1]


def test_the_first_waits() -> None:
    """The numbers that people see in the log."""
    assert [backoff(count, first=10.0, cap=3600.0, chance=0.0) for count in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert [backoff(count, first=1.0, cap=300.0, chance=0.0) for count in (9, 10, 11)] == [128, 150, 150]


@unhurried
@given(st.integers(1, 50))
def test_daemons_that_lost_the_same_server_do_not_come_back_in_step(number: int) -> None:
    """Chance spreads the waits over half of the interval."""
    low, high = (backoff(number, first=1.0, cap=300.0, chance=chance) for chance in (0.0, 0.999))
    assert high > 1.9 * low
