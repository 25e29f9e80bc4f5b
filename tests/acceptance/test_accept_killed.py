"""Processes that are killed in the middle of an upload: nothing is lost, nothing is doubled, nothing is left running."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import run_folders
from acceptance_bench import Bench, Running, alone_on_a_bench, assert_delivered_once, wait_for
from run_folders import Recipe

from wandb_outbox.sandbox import Fault

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")

LARGE = Recipe(samples=8, padding=40_000)
"""About 2 MB: at 200 kB a second, far longer in flight than a test needs to kill somebody."""


def _daemon_in_the_middle(bench: Bench, folder: Path) -> Running:
    """A daemon whose uploader is sending the folder's files, slowly."""
    run_folders.make(folder, LARGE)
    bench.server.inject(Fault("put", "slow", bytes_per_second=200_000))
    daemon = bench.watch()
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "the artifact's upload")
    assert bench.status()["uploads"] != []
    return daemon


def _pid_of(bench: Bench, name: str) -> int:
    """The uploader's process whose name contains this."""
    (pid,) = [pid for pid, command in bench.uploaders().items() if name in command]
    return pid


@alone_on_a_bench
def test_daemon_killed_in_the_middle_of_an_upload(bench: Bench) -> None:
    """SIGKILL of the daemon ends the uploader with it; after the restart: one run, one version, exact bytes."""
    folder = bench.outputs / "2025-12-03/run"
    daemon = _daemon_in_the_middle(bench, folder)
    killed = bench.row(folder)
    assert killed is not None
    assert killed["state"] == "uploading"
    daemon.kill()
    bench.wait_no_uploaders()
    bench.server.clear_faults()
    again = bench.watch()
    row = bench.wait_state(folder, "uploaded")
    run, artifact = assert_delivered_once(bench.server, folder)
    assert (row["id"], row["artifact"], row["digest"]) == (killed["id"], f"{artifact.name}:v0", artifact.digest)
    assert row["attempts"] == 1  # being interrupted uses up none
    assert [step["_step"] for step in run.history if "confidence" in step] == list(range(LARGE.samples))
    assert again.wait_event("recovered")["uploads"] == 1


@alone_on_a_bench
def test_uploader_stopped_when_its_daemon_is_killed(bench: Bench) -> None:
    """An uploader that cannot end by itself (it is stopped) is ended by the next daemon before that sends anything."""
    folder = bench.outputs / "2025-12-03/run"
    daemon = _daemon_in_the_middle(bench, folder)
    frozen = bench.uploaders()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    daemon.kill()
    assert set(bench.uploaders()) == set(frozen)
    bench.server.clear_faults()
    again = bench.watch()
    assert again.wait_event("recovered")["processes_ended"] == len(frozen)
    bench.wait_state(folder, "uploaded")
    assert_delivered_once(bench.server, folder)
    assert not set(bench.uploaders()) & set(frozen)


@alone_on_a_bench
def test_uploader_killed_in_the_middle_of_an_upload(bench: Bench) -> None:
    """SIGKILL of the uploader costs one attempt, takes wandb-core with it, and the folder is sent again, once."""
    folder = bench.outputs / "2025-12-03/run"
    _daemon_in_the_middle(bench, folder)
    core = _pid_of(bench, "wandb-core")
    (uploader,) = set(bench.uploaders()) - {core}
    os.kill(uploader, signal.SIGKILL)
    row = bench.wait_state(folder, "queued", attempts=1)
    assert row["error"]["class"] == "UploaderCrashed"
    assert row["error"]["hint"]
    wait_for(lambda: not {core, uploader} & set(bench.uploaders()), "the end of wandb-core")
    bench.server.clear_faults()
    assert bench.run("retry", row["id"]).code == 0
    row = bench.wait_state(folder, "uploaded")
    run, _ = assert_delivered_once(bench.server, folder)
    assert row["id"] == run.id


@alone_on_a_bench
def test_wandb_core_killed_in_the_middle_of_an_upload(bench: Bench) -> None:
    """SIGKILL of wandb-core alone, which the SDK does not survive: seen at once, and the folder is sent again, once."""
    folder = bench.outputs / "2025-12-03/run"
    _daemon_in_the_middle(bench, folder)
    os.kill(_pid_of(bench, "wandb-core"), signal.SIGKILL)
    row = bench.wait_state(folder, "queued")
    assert row["error"] is not None
    bench.server.clear_faults()
    bench.run("retry", row["id"])
    row = bench.wait_state(folder, "uploaded")
    run, _ = assert_delivered_once(bench.server, folder)
    assert row["id"] == run.id


@alone_on_a_bench
def test_flush_killed_in_the_middle_of_an_upload(bench: Bench) -> None:
    """SIGKILL of a ``flush``, as at the end of a cluster job, leaves the folder to the next one."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run", LARGE)
    bench.server.inject(Fault("put", "slow", bytes_per_second=200_000))
    flush = bench.start("flush", bench.outputs)
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "the artifact's upload")
    flush.kill()
    bench.wait_no_uploaders()
    bench.server.clear_faults()
    assert bench.run("flush", bench.outputs).code == 0
    assert_delivered_once(bench.server, folder)
