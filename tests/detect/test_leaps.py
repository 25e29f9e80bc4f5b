"""What the wall clock says has passed counts only as far as it was lived through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wandb_outbox.detect.leaps import KEPT, LEAST, Leap, lived, noticed

NOW = 1_764_757_800.0
DAY = 86_400.0


def test_a_clock_that_goes_with_time_makes_no_leap() -> None:
    """However long nobody looked: a process that was stopped lived through it; and slewing is none."""
    assert noticed((), NOW, 5.0, now=NOW + 7200.0, now_tick=7205.0) == ()
    assert noticed((), NOW, 5.0, now=NOW + 10.0 + LEAST / 2, now_tick=15.0) == ()


def test_the_time_that_a_suspended_machine_slept_is_a_leap() -> None:
    """The monotonic clock stood still: only what was lived through on both sides counts."""
    leaps = noticed((), NOW, 5.0, now=NOW + 3 + 8 * 3600, now_tick=8.0)
    assert leaps == (Leap(NOW + 3, 8 * 3600.0),)
    assert lived(NOW - 60, NOW + 3 + 8 * 3600, leaps) == 63.0
    assert lived(NOW + 3 + 8 * 3600, NOW + 9 + 8 * 3600, leaps) == 6.0


def test_a_leap_that_is_taken_back_is_forgotten_and_an_earlier_one_is_not() -> None:
    """A clock set back to before the leap's end has undone it; one that is merely put right by an hour has not."""
    slept = Leap(NOW - DAY, 3600.0)
    wrong = noticed((slept,), NOW, 0.0, now=NOW + 3650 * DAY, now_tick=1.0)
    assert len(wrong) == 2
    assert noticed(wrong, NOW + 3650 * DAY, 1.0, now=NOW + 2, now_tick=3.0) == (slept,)
    assert noticed((slept,), NOW, 0.0, now=NOW - 3600, now_tick=1.0) == (slept,)


def test_only_so_many_leaps_are_kept() -> None:
    """A laptop that sleeps every night: the latest count."""
    leaps: tuple[Leap, ...] = ()
    for night in range(3 * KEPT):
        leaps = noticed(leaps, NOW + night * DAY, 0.0, now=NOW + night * DAY + 100, now_tick=1.0)
    assert len(leaps) == KEPT
    assert leaps[-1].at == NOW + (3 * KEPT - 1) * DAY + 1


@given(
    st.lists(
        st.tuples(st.floats(0.1, 1e6), st.one_of(st.just(0.0), st.floats(LEAST * 2, 4e8))), min_size=1, max_size=KEPT
    ),
    st.floats(0, 1e6),
)
def test_what_was_lived_through_is_what_counts(days: list[tuple[float, float]], before: float) -> None:
    """However often the clock leaps forward: the time since a file's last change is the time that passed."""
    wall, tick = NOW, 0.0
    leaps: tuple[Leap, ...] = ()
    for passed, leap in days:
        then, then_tick = wall, tick
        wall, tick = wall + passed + leap, tick + passed
        leaps = noticed(leaps, then, then_tick, now=wall, now_tick=tick)
    assert abs(lived(NOW - before, wall, leaps) - (tick + before)) < 1.0
