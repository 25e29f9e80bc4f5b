"""The daemon comes late, or is away: what happened meanwhile is found all the same."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import replay_lives as lives
from replay_script import Ending, Life, Session, whole_session
from replay_theatre import Theatre


def begun(folder: str) -> Life:
    """A run that is being written when the daemon goes away, and ends well while it is away."""
    act = Session(folder).begin().chunk(1).add(["cue", "seen"], ["cue", "away"]).chunk(4).evaluate().end_well()
    return Life([act.act()], (Ending(folder),))


def lasting(folder: str) -> Life:
    """A run that begins before the daemon goes away and ends when it is there again."""
    act = Session(folder).begin().chunk(1).add(["cue", "seen"], ["cue", "back"]).pause(2.0).evaluate().end_well()
    return Life([act.act()], (Ending(folder),))


def killed_meanwhile(folder: str) -> Life:
    """A run that is killed while the daemon is away."""
    act = Session(folder).begin().chunk(1).add(["cue", "seen"], ["cue", "away"]).kill()
    return Life([act.act()], (Ending(folder, verdict="crashed", outcomes=("crashed",)),))


def wholly_meanwhile(folder: str) -> Life:
    """A run that begins and ends while the daemon is away."""
    return Life([["cue", "away"], whole_session(folder).act()], (Ending(folder),))


def changed_meanwhile(folder: str) -> Life:
    """A run that was queued, and is re-evaluated while the daemon is away."""
    return Life(
        [whole_session(folder).act(), ["cue", "queued"], ["cue", "away"], lives.reevaluation(folder)],
        (Ending(folder),),
    )


def renamed_meanwhile(folder: str) -> Life:
    """A run that was queued, and is renamed while the daemon is away: it keeps its row."""
    return Life(
        [whole_session(folder).act(), ["cue", "queued"], ["cue", "away"], ["rename", folder, f"{folder}-renamed"]],
        (Ending(folder, state="gone"), Ending(f"{folder}-renamed")),
    )


def test_what_happens_while_the_daemon_is_away_is_found_when_it_is_back(tmp_path: Path) -> None:
    """Killed and started again: everything that began, ended, crashed or changed meanwhile is in the outbox, once."""
    away = {
        each.__name__: each(f"outputs/{each.__name__}")
        for each in (begun, lasting, killed_meanwhile, wholly_meanwhile, changed_meanwhile, renamed_meanwhile)
    }
    ending = [name for name in away if name != "lasting"]
    with Theatre(tmp_path) as theatre:
        theatre.play({"before": Life([whole_session("outputs/before").act()], (Ending("outputs/before"),)), **away})
        theatre.wait(lambda: theatre.journal("before").curtain, "the first life to end")
        theatre.start_daemon()
        theatre.wait_for_end(["before"])
        theatre.wait(lambda: all("away" in theatre.journal(name).cues for name in ending), "the cues")
        kept = {row.path: row.run_id for row in theatre.rows()}
        theatre.stop_daemon(signal.SIGKILL)
        theatre.give_cue("away")
        theatre.wait(lambda: all(theatre.journal(name).curtain for name in ending), "their ends")
        theatre.start_daemon()
        theatre.give_cue("back")
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        renamed = theatre.row("outputs/renamed_meanwhile-renamed")
        assert renamed.run_id == kept[theatre.path("outputs/renamed_meanwhile")]
        before = {row.path: (row.run_id, row.completed_at) for row in theatre.rows()}
        # A life that begins after the next start is in the outbox only after everything was looked at again.
        assert theatre.stop_daemon(signal.SIGTERM) == 0
        theatre.start_daemon()
        theatre.play({"last": Life([whole_session("outputs/last").act()], (Ending("outputs/last"),))})
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        assert {row.path: (row.run_id, row.completed_at) for row in theatre.rows() if row.path in before} == before
