"""Leaps of the wall clock: time that it says has passed, and that nobody lived through.

A clock that is set forward, and a machine that was suspended, make every file look old at once. File times come from
that clock, so they alone cannot tell; the monotonic clock, which stands still meanwhile, can. Pure: both are arguments.
A clock that is set back needs nothing of this: completion counts its own looks then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 2.0
"""Seconds from which on it is a leap; slewing and the time between reading two clocks are far below."""
KEPT = 20
"""How many are remembered. With more than that, the time in the earliest counts as lived through."""


@dataclass(frozen=True, slots=True)
class Leap:
    """The clock stood at ``at``, seconds since the epoch, and went on from ``by`` seconds later."""

    at: float
    by: float


def noticed(leaps: Sequence[Leap], wall: float, tick: float, *, now: float, now_tick: float) -> tuple[Leap, ...]:
    """The leaps until now; ``wall`` and ``tick`` are what the two clocks said when they were last looked at."""
    expected = wall + (now_tick - tick)
    if now - expected > LEAST:
        return (*leaps, Leap(expected, now - expected))[-KEPT:]
    if expected - now > LEAST:
        # Set back: a leap that led to a time that is still to come has been taken back.
        return tuple(leap for leap in leaps if leap.at + leap.by <= now)
    return tuple(leaps)


def lived(since: float, now: float, leaps: Sequence[Leap]) -> float:
    """Seconds from one time of the wall clock to another, without those that it leapt over in between."""
    return now - since - sum(leap.by for leap in leaps if since <= leap.at < now)
