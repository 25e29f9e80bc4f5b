"""The watch loses events, watches, or its root; nothing is lost by it, nothing is early, and ``status`` says so."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import replay_lives as lives
from namespaces import need, unshare
from replay_script import Ending, Life, Session, whole_session
from replay_theatre import Theatre, Timing

from wandb_outbox.model import State


def limited(name: str, number: int) -> Callable[[Sequence[str]], list[str]]:
    """How to start a daemon for which alone the kernel has this limit (in a user namespace)."""

    def launch(words: Sequence[str]) -> list[str]:
        command = shlex.join([sys.executable, "-m", "wandb_outbox", *words])
        return [*unshare("--user"), "sh", "-c", f"echo {number} >/proc/sys/user/{name} && exec {command}"]

    return launch


def problem(theatre: Theatre) -> str:
    """What ``status`` says of the root."""
    (root,) = json.loads(theatre.command("status", "--json"))["roots"] or [{"problem": None}]
    return root["problem"] or ""


def test_a_daemon_without_enough_watches_polls_the_rest_and_says_so(tmp_path: Path) -> None:
    """Beyond ``max_user_watches`` everything is found all the same; ``status`` says degraded until there are enough."""
    need("--user")
    folders = [f"outputs/{number % 3}/deep/run-{number}" for number in range(12)]
    held = {
        folder: Life(
            [Session(folder).begin().chunk(1).add(["cue", "told"]).pause(1.0).chunk(4).evaluate().end_well().act()],
            (Ending(folder),),
        )
        for folder in folders
    }
    played = {str(number): life for number, life in enumerate(held.values())}
    with Theatre(tmp_path, Timing(rescan=1.0), launch=limited("max_inotify_watches", 12)) as theatre:
        theatre.start_daemon()
        theatre.play({**played, "killed": lives.killed(0.3), "normal": lives.normal(0.3)})
        theatre.wait(lambda: "degraded: the kernel refused to watch" in problem(theatre), "the problem to be told")
        assert "raise fs.inotify.max_user_watches" in theatre.command("status")
        theatre.give_cue("told")
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        more = "echo 4000 >/proc/sys/user/max_inotify_watches"
        enter = ["nsenter", "--user", "--preserve-credentials", "--target", str(theatre.daemon_pid), "sh", "-c", more]
        subprocess.run(enter, check=True, capture_output=True, timeout=20)
        theatre.wait(lambda: not problem(theatre), "the end of the problem")


def test_a_daemon_without_any_file_events_polls_and_says_so(tmp_path: Path) -> None:
    """Beyond ``max_user_instances`` it starts all the same, and finds everything by looking."""
    need("--user")
    with Theatre(tmp_path, Timing(rescan=1.0, seen=60.0), launch=limited("max_inotify_instances", 0)) as theatre:
        theatre.start_daemon()
        theatre.play({"killed": lives.killed(0.3), "normal": lives.normal(0.3)})
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        theatre.wait(lambda: "fs.inotify.max_user_instances" in problem(theatre), "the problem to be told")
        assert "polling, 0 directories watched" in theatre.command("status")


def test_what_happens_during_an_overflow_is_found_by_the_rescan_that_it_calls_for(tmp_path: Path) -> None:
    """The daemon stands still, the kernel's queue runs over, and runs come and go meanwhile: none is lost, none early."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text("ascii"))
    lasting = Session("outputs/lasting").begin().chunk(1).add(["cue", "on"]).pause(2.0).chunk(4).evaluate().end_well()
    missed = {f"missed {number}": f"outputs/{number}/deep/run" for number in range(20)}
    with Theatre(tmp_path) as theatre:
        theatre.start_daemon()
        theatre.play({"lasting": Life([lasting.act()], (Ending("outputs/lasting"),))})
        theatre.wait(theatre.rows, "the first run to be seen")
        os.kill(theatre.daemon_pid, signal.SIGSTOP)
        one, two = tmp_path / "outputs" / "one", tmp_path / "outputs" / "two"
        one.touch()
        for _ in range(limit // 4 + 1100):  # two events for each rename, and what was read already
            os.rename(one, two)
            os.rename(two, one)
        theatre.play(
            {
                **{name: Life([whole_session(folder).act()], (Ending(folder),)) for name, folder in missed.items()},
                "killed": lives.killed(0.2),
            }
        )
        # The outbox can be read while its daemon stands still.
        theatre.wait(lambda: all(theatre.journal(name).curtain for name in (*missed, "killed")), "their ends")
        assert len(theatre.rows()) == 1
        os.kill(theatre.daemon_pid, signal.SIGCONT)
        theatre.give_cue("on")
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        assert '"events-lost"' in theatre.log()


def test_a_broken_lease_does_not_end_the_daemon(tmp_path: Path) -> None:
    """SIGIO, which the kernel sends to whoever holds a lease that a writer breaks, is ignored by the daemon as a whole."""
    with Theatre(tmp_path) as theatre:
        theatre.start_daemon()
        for _ in range(3):
            os.kill(theatre.daemon_pid, signal.SIGIO)
        theatre.play({"normal": lives.normal(0.1)})
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)


def test_a_root_that_goes_and_comes_back_is_followed(tmp_path: Path) -> None:
    """Renamed away and back while a run in it is written: neither gone, nor crashed, nor early; ``status`` says where."""
    folder = "outputs/run"
    act = Session(folder).begin().chunk(1).add(["cue", "seen"], ["rename", "outputs", "away"], ["cue", "told"])
    act = act.add(["rename", "away", "outputs"]).pause(2.5).chunk(4).evaluate().end_well()
    with Theatre(tmp_path, Timing(rescan=1.0)) as theatre:
        theatre.start_daemon()
        theatre.play({"run": Life([act.act()], (Ending(folder),))})
        theatre.wait(lambda: "it is not there" in problem(theatre), "the root to be missed")
        assert [(row.state, row.gone) for row in theatre.rows()] == [(State.WRITING, False)]
        theatre.give_cue("told")
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        assert theatre.latencies(crashed=False)[0] < 10  # by events, not by the half-minute look at what is written
        theatre.wait(lambda: not problem(theatre), "the end of the problem")


def test_a_root_that_is_deleted_and_made_anew_is_watched_anew(tmp_path: Path) -> None:
    """What was in it and not sent is gone, and says so; what comes is found."""
    with Theatre(tmp_path, Timing(rescan=1.0)) as theatre:
        theatre.start_daemon()
        theatre.play(
            {
                "before": Life(
                    [whole_session("outputs/before").act(), ["cue", "queued"], ["remove", "outputs"], ["cue", "missed"],
                     ["mkdir", "outputs"], ["cue", "made"]],
                    (Ending("outputs/before", "skipped", outcomes=("ok",)),),
                ),
            }
        )  # fmt: skip
        theatre.wait(lambda: "it is not there" in problem(theatre), "the root to be missed")
        assert [row.state for row in theatre.rows()] == [State.QUEUED]
        theatre.give_cue("missed")
        theatre.wait(lambda: "made" in theatre.journal("before").cues, "the new root")
        theatre.give_cue("made")
        theatre.play({"after": Life([whole_session("outputs/after").act()], (Ending("outputs/after"),))})
        theatre.wait_for_end()
        if report := theatre.report("after"):
            pytest.fail(report)
        theatre.wait(lambda: theatre.row("outputs/before").gone, "what was deleted to be missed")


def test_a_root_that_is_a_link_is_watched_where_it_leads(tmp_path: Path) -> None:
    """Events, rows and run ids are those of the real path."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "outputs").symlink_to("disk")
    with Theatre(tmp_path) as theatre:
        theatre.start_daemon()
        theatre.play({"run": Life([whole_session("disk/run").act()], (Ending("disk/run"),))})
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        assert theatre.row("disk/run").root == theatre.path("disk")
