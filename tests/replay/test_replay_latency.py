"""How soon the end of a run is known: by events, and where every one of them was lost."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from replay_script import Ending, Life, Session, whole_session
from replay_theatre import Theatre, Timing

TIMING = Timing(settle=1.5, grace=2.5)
COUNT = 9
CONFIRM = 1.0
"""Seconds between the two looks that must both find nobody."""


def lives(gap: float) -> dict[str, Life]:
    """Runs that end well or are killed, each ``gap`` seconds after the one before."""
    found = {}
    for number in range(COUNT):
        wait, well, killed = ["pause", number * gap], f"outputs/well-{number}", f"outputs/killed-{number}"
        crashed = Ending(killed, verdict="crashed", outcomes=("crashed",))
        found[f"well {number}"] = Life([wait, whole_session(well).act()], (Ending(well),))
        found[f"killed {number}"] = Life([wait, Session(killed).begin().chunk(1).pause(0.5).kill().act()], (crashed,))
    return found


def play(theatre: Theatre, gap: float) -> tuple[list[float], list[float]]:
    """Seconds from the last writer's end until it is queued: of those that ended well, and of those that were killed."""
    theatre.start_daemon()
    theatre.play(lives(gap))
    theatre.wait_for_end()
    if report := theatre.report():
        pytest.fail(report)
    return theatre.latencies(crashed=False), theatre.latencies(crashed=True)


@pytest.fixture(scope="module")
def by_events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[float], list[float]]]:
    """With file events, and a rescan that never comes."""
    with Theatre(tmp_path_factory.mktemp("events"), TIMING) as theatre:
        yield play(theatre, 0.5)


def test_a_run_that_ended_is_queued_when_it_has_settled(by_events: tuple[list[float], list[float]]) -> None:
    """The median from the last writer's exit to `queued` is settle and at most 0.3 s more."""
    well, _ = by_events
    assert statistics.median(well) <= TIMING.settle + 0.3, sorted(well)


def test_a_run_that_was_killed_is_queued_when_its_grace_is_over(by_events: tuple[list[float], list[float]]) -> None:
    """The median from the kill to `queued` is the grace and at most 1 s more."""
    _, killed = by_events
    assert statistics.median(killed) <= TIMING.grace + 1.0, sorted(killed)


def test_a_run_whose_events_were_all_lost_is_queued_within_one_rescan(tmp_path: Path) -> None:
    """Nothing but the rescan tells of it: no later than one of them after settle, or grace, and the second look."""
    rescan = 3.0
    settings = f'[[roots]]\npath = "{tmp_path}/outputs"\npolling = true\n'
    with Theatre(tmp_path, Timing(TIMING.settle, TIMING.grace, rescan, seen=60.0), settings=settings) as theatre:
        well, killed = play(theatre, 0.2)
    assert statistics.median(well) <= rescan + TIMING.settle + CONFIRM, sorted(well)
    assert statistics.median(killed) <= rescan + TIMING.grace + CONFIRM, sorted(killed)
