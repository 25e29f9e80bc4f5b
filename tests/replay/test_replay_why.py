"""``why``: which file is open, by whom, since when, what is waited for, and when it is looked at again."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
from replay_script import Ending, Life, Session
from replay_theatre import Theatre, Timing

from wandb_outbox.model import State

FOLDER = "outputs/run"
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def said(theatre: Theatre) -> str:
    """What it says of the folder by now."""
    return theatre.command("why", theatre.path(FOLDER))


@pytest.mark.parametrize("leases", [True, False])
def test_why_tells_the_evidence_with_the_daemon_alive_and_dead(tmp_path: Path, leases: bool) -> None:
    """While somebody writes, while time alone decides, and when nobody is there to look."""
    act = Session(FOLDER).begin().chunk(1).add(["cue", "asked"]).kill().act()
    crashed = Ending(FOLDER, verdict="crashed", outcomes=("crashed",))
    probe = {} if leases else {"WANDB_OUTBOX_PROBE": "proc"}
    with Theatre(tmp_path, Timing(grace=3600.0), environ=probe) as theatre:
        theatre.start_daemon()
        theatre.play({"run": Life([act], (crashed,))})
        theatre.wait(lambda: any("open for writing" in row.reason for row in theatre.rows()), "the writer to be seen")
        text = said(theatre)
        (pid,) = set(re.findall(r"\(pid (\d+)\)", text))
        command = Path(f"/proc/{pid}/comm").read_text().strip()
        assert f"is writing: run_tts_eval.log is open for writing by {command} (pid {pid})." in text
        assert re.search(rf"^That it is writing has been so since {TIME}, for \d+ s\.$", text, re.MULTILINE)
        assert "Waited for: a sign of its end, which is that the last open file is closed" in text
        assert re.search(rf"^Looked at again, without an event, at {TIME}, in \d+ s\.$", text, re.MULTILINE)
        assert f"{command} (pid {pid}) has run_tts_eval.log open for writing" in text  # what `why` sees by itself
        theatre.give_cue("asked")
        theatre.wait(lambda: theatre.journal("run").curtain, "its end")
        if leases:
            theatre.wait(lambda: "unless it is resumed" in said(theatre), "the grace")
            text = said(theatre)
            assert re.search(r"and nobody writes to it: crashed, unless it is resumed within 3[56]\d\d s\.", text)
            assert "Waited for: time alone." in text
            assert "writers  free: none of" in text
        else:
            theatre.wait(lambda: "open files cannot be seen here" in said(theatre), "the doubt")
        theatre.stop_daemon(signal.SIGKILL)
        text = said(theatre)
        assert "No daemon runs: it is looked at again by the next `wandb-outbox watch` or `wandb-outbox flush`." in text
        assert re.search(rf"^That it is \w+ has been so since {TIME}", text, re.MULTILINE)
        files = [file for file in Path(theatre.path(FOLDER)).rglob("*") if file.is_file()]
        assert f"A look at it now: {len(files)} files" in text
        assert "failed   run_tts_eval.log says that this began, and not that it ended: trajectory generation" in text


def test_a_run_that_was_skipped_while_it_was_written_can_be_released(tmp_path: Path) -> None:
    """It goes as soon as it is finished, without a rescan."""
    act = Session(FOLDER).begin().chunk(4).add(["cue", "skipped"]).evaluate().end_well().act()
    with Theatre(tmp_path) as theatre:
        theatre.start_daemon()
        theatre.play({"run": Life([act], (Ending(FOLDER),))})
        theatre.wait(lambda: any("open for writing" in row.reason for row in theatre.rows()), "the writer to be seen")
        theatre.command("skip", theatre.path(FOLDER))
        theatre.give_cue("skipped")
        theatre.wait(lambda: theatre.journal("run").curtain, "its end")
        time.sleep(2 * theatre.timing.settle)  # nothing can tell when it is left alone
        assert theatre.row(FOLDER).state is State.SKIPPED
        assert "sent as soon as it is finished" in theatre.command("release", theatre.path(FOLDER))
        theatre.wait(lambda: theatre.row(FOLDER).state is State.QUEUED, "its turn")


def test_why_says_when_the_daemon_does_not_watch_the_root(tmp_path: Path) -> None:
    """Nobody waits for a look that never comes."""
    with Theatre(tmp_path) as theatre, Theatre(tmp_path, roots=("other",)) as later:
        theatre.start_daemon()
        theatre.play({"run": Life([Session(FOLDER).begin().add(["cue", "on"]).act()], (Ending(FOLDER),))})
        theatre.wait(theatre.rows, "its beginning")
        theatre.stop_daemon()
        later.start_daemon()
        later.wait(lambda: "does not watch" in said(theatre), "its roots to be told")
        assert f"The daemon that runs does not watch {theatre.path('outputs')}: start it with that root" in said(
            theatre
        )


def test_why_looks_by_the_rules_of_the_root(tmp_path: Path) -> None:
    """What is left out, what says that a run is done, and how writers are looked for, with no configuration to read."""
    rules = 'detect = ["summary.csv"]\ndone_when = ["summary.csv: all fine"]\nexclude = ["scratch/"]\nprobe = "proc"\n'
    with Theatre(tmp_path, settings=f'[[roots]]\npath = "{tmp_path}/outputs"\n{rules}') as theatre:
        theatre.start_daemon()
        path = Path(theatre.path(FOLDER))
        (path / "scratch").mkdir(parents=True)
        (path / "scratch" / "part.bin").touch()
        (path / "summary.csv").write_text("all fine\n")
        theatre.wait(lambda: any("done_when" in row.reason for row in theatre.rows()), "the rule to be met")
        text = said(theatre)
    assert "A look at it now: 1 files" in text
    assert "writers  unknown: the lease probe is turned off" in text
    assert "done     summary.csv is as done_when asks" in text
