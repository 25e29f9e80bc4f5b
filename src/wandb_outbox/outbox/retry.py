"""When to try again: pure arithmetic, chance is an argument."""

from __future__ import annotations

PROBE_CAP = 300.0
"""Longest wait between two probes of a server that is down; seconds."""
ATTEMPT_CAP = 3600.0
"""Longest wait between two attempts of one folder; seconds."""


def backoff(failures: int, *, first: float, cap: float, chance: float) -> float:
    """Seconds to wait after the ``failures``-th failure in a row: doubled each time, capped, with jitter.

    ``chance`` is in [0, 1): it spreads the wait over the upper half of the interval, so that many daemons that lost
    the same server do not come back in step.
    """
    doubled = first * 2.0 ** min(max(failures - 1, 0), 40)
    return min(doubled, cap) * (0.5 + chance / 2)
