"""The oracle itself: it must see what it is there to see, or its silence means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import replay_lives as lives
from replay_script import Ending, Life, Session, whole_session
from replay_theatre import Decision, Held, Journal, Theatre, Timing, Touch, early

TIMING = Timing(settle=1.5, grace=2.5)
LIFE = Journal(held=(Held("run/log", 10.0, 20.0),), touches=(Touch("run/log", 10.0), Touch("run/results.json", 14.0)))


def said(at: float, verdict: str = "complete") -> list[str]:
    """What the oracle says of a decision at this time."""
    return list(early(Decision(at, "run", "queued", verdict, ""), LIFE, TIMING))


@pytest.mark.parametrize("at", [12.0, 16.0, 19.9])
def test_a_decision_while_a_file_is_open_is_early(at: float) -> None:
    """However quiet it has been: while somebody has a file open, no decision is right."""
    assert any("was open" in fault for fault in said(at))


def test_a_decision_before_settle_is_early() -> None:
    """Nobody has a file open, and the last change is too fresh."""
    journal = Journal(touches=(Touch("run/results.json", 14.0),))
    decision = Decision(15.4, "run", "queued", "complete", "")
    assert ["after the last change" in fault for fault in early(decision, journal, TIMING)] == [True]


def test_a_crash_before_its_grace_is_early() -> None:
    """The grace counts from the end of a writer that was there for long."""
    assert ["after its end" in fault for fault in said(22.4, "crashed")] == [True]
    assert said(22.6, "crashed") == []


def test_a_decision_after_the_end_is_right() -> None:
    """After the last change, settle and the writer's end there is nothing to say."""
    assert said(20.2) == []


def test_what_happens_to_parents_is_nothing_to_a_folder() -> None:
    """A directory above that is made or renamed is no change of the folder."""
    journal = Journal(touches=(Touch("outputs", 1.0), Touch("outputs/run", 2.0), Touch("outside/run/log", 3.0)))
    assert [touch.at for touch in journal.about("outputs/run", alone=False).touches] == [2.0]
    assert [touch.at for touch in journal.about("outputs/run", alone=True).touches] == [2.0, 3.0]


def test_a_hasty_daemon_is_caught(tmp_path: Path) -> None:
    """A daemon that waits for less than it is told to is found out by what it does to real folders."""
    told = Timing(settle=8.0, grace=9.0)
    with Theatre(tmp_path, told, environ={"WANDB_OUTBOX_SETTLE": "0.1"}) as theatre:
        theatre.start_daemon()
        theatre.play({"plain": lives.guide_shaped()})
        theatre.wait_for_end()
        assert any("EARLY" in fault for fault in theatre.faults("plain"))


def test_a_wrong_end_is_caught(tmp_path: Path) -> None:
    """A crash that is expected and does not come, and a row that nobody expects, are faults."""
    with Theatre(tmp_path, TIMING) as theatre:
        theatre.start_daemon()
        wrong = Ending("outputs/well", verdict="crashed", outcomes=("crashed",))
        theatre.play(
            {
                "well": Life([whole_session("outputs/well").act()], (wrong,)),
                "other": Life(
                    [whole_session("outputs/other").act(), Session("outputs/more").begin().end_well().act()],
                    (Ending("outputs/other"),),
                ),
            }
        )
        theatre.wait_for_end(["other"])
        theatre.wait(lambda: len(theatre.rows()) == 3 and theatre.row("outputs/well").state == "queued", "three rows")
        faults = "\n".join(theatre.faults())
        assert "well: outputs/well: MISSED: queued complete ok" in faults
        assert "DOUBLED: " + theatre.path("outputs/more") in faults
