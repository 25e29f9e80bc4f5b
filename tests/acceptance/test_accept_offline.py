"""Offline runs that the real SDK made: replayed once, whole, and never twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_bench import (
    Bench,
    alone_on_a_bench,
    artifact_of,
    fingerprint_of,
    md5s_on_disk,
    md5s_on_server,
    outputs_of,
    wait_for,
)
from offline_runs import STEPS, Made, made

from wandb_outbox.sandbox import Fault, RunView

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")


def _assert_whole(bench: Bench, run: RunView, name: str = "by-the-run") -> None:
    """The run is there as it was recorded: every row once, summary, table, artifact, files."""
    assert (run.project, run.display_name, run.notes, run.job_type) == ("recorded", name, "by hand", "train")
    assert [row["_step"] for row in run.history] == list(range(STEPS))
    assert [row["loss"] for row in run.history] == [1 / (step + 1) for step in range(STEPS)]
    assert run.history[0]["by"] == {"rank": 0}
    assert run.config["lr"] == 0.1
    assert run.config["late"] == 7
    assert run.summary["final"] == 0.5
    assert run.summary["table"]["_type"] == "table-file"
    artifacts = {each.name: each for each in bench.server.artifacts()}
    assert {"model", f"run-{run.id}-table"} <= set(artifacts)
    assert artifacts["model"].state == "COMMITTED"
    assert artifacts["model"].files["model.txt"].path.read_text().startswith("weights of")  # type: ignore[union-attr]
    assert {"output.log", "model.txt"} <= set(run.files)
    assert any(name.startswith("media/table/") for name in run.files)


@alone_on_a_bench
def test_bare_offline_run_is_replayed_once(bench: Bench) -> None:
    """A tree with no run folder around it is delivered as the SDK recorded it; the next pass asks the server nothing."""
    offline = made().into(bench.outputs / "script")
    before = fingerprint_of(bench.outputs)
    assert bench.run("flush", bench.outputs).code == 0
    (run,) = bench.server.runs()
    assert run.id == made().run_id
    assert run.state == "finished"
    _assert_whole(bench, run)
    (row,) = bench.list()
    assert (row["kind"], row["state"], row["path"], row["id"]) == ("offline-run", "uploaded", str(offline), run.id)
    assert fingerprint_of(bench.outputs) == before
    asked = len(bench.server.requests)
    assert bench.run("flush", bench.outputs).code == 0
    assert len(bench.server.requests) == asked


@alone_on_a_bench
def test_killed_in_the_middle_of_a_replay(bench: Bench) -> None:
    """What the server has of the history is not sent again: 200 rows, each once."""
    offline = made().into(bench.outputs / "script")
    bench.server.inject(Fault("CreateArtifact", "hang"))  # the artifact was logged half-way
    daemon = bench.watch()
    wait_for(lambda: any(run.history for run in bench.server.runs()), "the first rows")
    (run,) = bench.server.runs()
    assert len(run.history) < STEPS
    daemon.kill()
    bench.wait_no_uploaders()
    bench.server.clear_faults()
    assert len(bench.server.runs()[0].history) < STEPS
    bench.watch()
    bench.wait_state(offline, "uploaded")
    (run,) = bench.server.runs()
    assert run.state == "finished"
    _assert_whole(bench, run)


@alone_on_a_bench
def test_marker_of_wandb_sync_is_not_believed(bench: Bench) -> None:
    """``.wandb.synced`` stands there although nothing has arrived: the run is delivered."""
    offline = made().into(bench.outputs / "script")
    (offline / f"{made().log.name}.synced").touch()
    assert bench.run("flush", bench.outputs).code == 0
    (run,) = bench.server.runs()
    _assert_whole(bench, run)


@alone_on_a_bench
def test_run_that_was_synced_by_hand_is_adopted(bench: Bench) -> None:
    """What ``wandb sync`` has sent is completed under the same id; no row comes twice."""
    offline = made().into(bench.outputs / "script")
    by_hand = bench.top / "by-hand"
    shutil.copytree(offline, by_hand / offline.name, symlinks=True)
    command = [sys.executable, "-m", "wandb", "sync", str(by_hand / offline.name)]
    subprocess.run(command, env=bench.environ, cwd=by_hand, check=True, capture_output=True, timeout=60)
    (run,) = bench.server.runs()
    assert len(run.history) == STEPS
    assert bench.run("flush", bench.outputs).code == 0
    (run,) = bench.server.runs()
    _assert_whole(bench, run)


@alone_on_a_bench
def test_log_without_an_end_is_a_crashed_run(bench: Bench) -> None:
    """No writer and no record of the end: what was logged is delivered, marked as crashed."""
    offline = made().into(bench.outputs / "script")
    log = offline / made().log.name
    os.truncate(log, log.stat().st_size - 60)
    assert bench.run("flush", bench.outputs).code == 0
    (run,) = bench.server.runs()
    assert (run.state, run.exit_code) == ("failed", 1)
    assert "crashed" in run.tags
    assert [row["_step"] for row in run.history] == list(range(STEPS))


@alone_on_a_bench
def test_log_without_a_record_has_nothing_to_show(bench: Bench) -> None:
    """What the SDK leaves of a process that was killed in its first seconds is left alone, and is no failure."""
    offline = made().into(bench.outputs / "script")
    os.truncate(offline / made().log.name, 7)
    assert bench.run("flush", bench.outputs).code == 0
    assert bench.wait_state(offline, "skipped")["reason"].startswith("crashed, nothing to show: ")
    assert bench.server.runs() == []


@alone_on_a_bench
def test_log_that_is_held_open_is_waited_for(bench: Bench) -> None:
    """While a process has the log open for writing, nothing is sent; after its end it is."""
    offline = made().into(bench.outputs / "script")
    with (offline / made().log.name).open("ab"):
        daemon = bench.watch()
        row = bench.wait_state(offline, "writing", verdict="writing")
        assert row["kind"] == "offline-run"
        assert bench.server.requests.of("UpsertBucket") == []
    bench.wait_state(offline, "uploaded")
    _assert_whole(bench, bench.server.runs()[0])
    assert not daemon.events("failed")


def _folder_with(bench: Bench, *runs: Made) -> Path:
    """A run folder in which these offline runs were made."""
    folder = bench.outputs / "trained"
    for each in runs:
        each.into(folder)
    (folder / "outbox.yaml").write_text("job_type: train\ntags: [by-the-folder]\nsummary: {f1: 0.25}\n")
    return folder


@alone_on_a_bench
def test_offline_run_in_a_run_folder_is_one_run_with_it(bench: Bench) -> None:
    """The folder goes to the run that it logged: its rows, and the folder's artifact, under one id."""
    folder = _folder_with(bench, made())
    before = fingerprint_of(bench.outputs)
    assert bench.run("flush", bench.outputs).code == 0
    (run,) = bench.server.runs()
    assert run.id == made().run_id
    _assert_whole(bench, run)
    assert {"early", "by-the-folder"} <= set(run.tags)
    assert run.summary["f1"] == 0.25
    artifact = artifact_of(bench.server, run)
    assert artifact.metadata["provenance"]["run_id"] == run.id
    assert md5s_on_server(artifact.files) == {
        name: digest for name, digest in md5s_on_disk(folder).items() if not name.startswith("wandb/")
    }
    assert fingerprint_of(bench.outputs) == before


@alone_on_a_bench
def test_run_folder_killed_in_the_middle_of_the_replay(bench: Bench) -> None:
    """The executor dies after the rows and before the folder's artifact is there: still 200 rows, and one version."""
    folder = _folder_with(bench, made())
    bench.server.inject(Fault("CreateArtifact", "hang"))
    daemon = bench.watch()
    wait_for(lambda: any(run.history for run in bench.server.runs()), "the first rows")
    daemon.kill()
    bench.wait_no_uploaders()
    bench.server.clear_faults()
    bench.watch()
    bench.wait_state(folder, "uploaded")
    (run,) = bench.server.runs()
    _assert_whole(bench, run)
    assert [each.version for each in outputs_of(bench.server)] == ["v0"]


@alone_on_a_bench
def test_ranks_of_one_folder_are_runs_of_their_own(bench: Bench) -> None:
    """Offline runs of other ids arrive besides the folder's own, each once, and the folder goes to the newest."""
    older, newest = made(name="rank-1"), made(name="rank-0")
    folder = _folder_with(bench, older, newest)
    assert bench.run("flush", bench.outputs).code == 0
    assert bench.run("flush", bench.outputs).code == 0
    runs = {run.id: run for run in bench.server.runs()}
    assert set(runs) == {older.run_id, newest.run_id}
    for each, name in ((older, "rank-1"), (newest, "rank-0")):
        _assert_whole(bench, runs[each.run_id], name)
    (row,) = bench.list()
    assert (row["path"], row["state"], row["id"]) == (str(folder), "uploaded", newest.run_id)
    assert artifact_of(bench.server, runs[newest.run_id]).logged_by == newest.run_id


@alone_on_a_bench
def test_parts_of_a_resumed_run_are_one_run(bench: Bench) -> None:
    """Two logs of one id are one run, whose steps go on where the first part ended."""
    first, second = made(run_id="resumed1", name="part"), made(steps=50, run_id="resumed1", name="part", how="0")
    _folder_with(bench, first, second)
    assert bench.run("flush", bench.outputs).code == 0
    (run,) = bench.server.runs()
    assert run.id == "resumed1"
    assert [row["_step"] for row in run.history] == list(range(STEPS + 50))
    assert [row["loss"] for row in run.history[STEPS:]] == [1 / (step + 1) for step in range(50)]
