"""One folder is one run: what changes, moves, is made anew or forgotten goes where it belongs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
import run_folders
from acceptance_bench import Bench, alone_on_a_bench, artifact_of, md5s_on_disk, md5s_on_server, outputs_of, wait_for
from run_folders import Recipe

from wandb_outbox.sandbox import Fault

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")


@alone_on_a_bench
def test_resumed_folder_is_the_next_version_of_the_same_run(bench: Bench) -> None:
    """A run that is resumed after its upload keeps its run id; its new content is v1, and its summary is the new one."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    bench.watch()
    first = bench.wait_state(folder, "uploaded")
    experiment = bench.experiment(folder)
    # Files rewritten in place show in no directory: the daemon's slow pass finds them, or `flush`, which looks everywhere.
    assert bench.run("flush", bench.outputs).out == "0 uploaded, 1 still being written\n"
    waiting = bench.wait_state(folder, "writing")
    assert (waiting["url"], waiting["artifact"]) == (first["url"], first["artifact"])
    experiment.end()
    second = bench.wait_state(folder, "uploaded", revision=1)
    assert (second["id"], second["incarnation"]) == (first["id"], 0)
    (run,) = bench.server.runs()
    assert [artifact.version for artifact in outputs_of(bench.server)] == ["v0", "v1"]
    artifact = artifact_of(bench.server, run)
    assert (second["artifact"], "latest" in artifact.aliases) == (f"{artifact.name}:v1", True)
    assert md5s_on_server(artifact.files) == md5s_on_disk(folder)
    on_server, on_disk = md5s_on_server(run.files), md5s_on_disk(folder)
    rewritten = ("results.json", "metrics.json", run_folders.LOG)
    assert [on_server[name] for name in rewritten] == [on_disk[name] for name in rewritten]


@alone_on_a_bench
def test_folder_made_anew_is_a_new_run(bench: Bench) -> None:
    """A folder that was deleted and made anew is another experiment: a second run; the first stays as it was."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run", Recipe(seed=1))
    assert bench.run("flush", bench.outputs).code == 0
    (first,) = bench.server.runs()
    shutil.rmtree(folder)
    run_folders.make(folder, Recipe(seed=2))
    done = bench.run("flush", bench.outputs)
    assert (done.code, done.out) == (0, "1 uploaded\n")
    kept, second = bench.server.runs()
    assert (kept.id, kept.config, kept.history) == (first.id, first.config, first.history)
    assert second.config["system"]["seed"] == 2
    row = bench.row(folder)
    assert row is not None
    assert (row["id"], row["incarnation"], row["revision"]) == (second.id, 1, 0)
    assert md5s_on_server(artifact_of(bench.server, second).files) == md5s_on_disk(folder)


@alone_on_a_bench
def test_equal_folders_are_two_runs_and_a_renamed_one_stays_itself(bench: Bench) -> None:
    """Two experiments that left the same bytes are never merged; and a rename below the root sends nothing again."""
    one = run_folders.make(bench.outputs / "2025-12-03/gsm8k/seed42_10-00-00")
    two = bench.outputs / "2025-12-04/gsm8k/seed42_10-00-00"
    shutil.copytree(one, two)
    assert bench.run("flush", bench.outputs).out == "2 uploaded\n"
    assert len({run.display_name for run in bench.server.runs()}) == 1
    assert {artifact.name for artifact in outputs_of(bench.server)} == {
        "outputs-2025-12-03-gsm8k-seed42_10-00-00",
        "outputs-2025-12-04-gsm8k-seed42_10-00-00",
    }
    rows = {row["path"]: row["id"] for row in bench.list()}
    assert len(set(rows.values())) == 2
    requests = len(bench.server.requests)
    renamed = bench.outputs / "2025-12-04" / "better_name"
    two.rename(renamed)
    done = bench.run("flush", bench.outputs)
    assert (done.code, done.out) == (0, "0 uploaded\n")
    assert {row["path"]: row["id"] for row in bench.list()} == {str(one): rows[str(one)], str(renamed): rows[str(two)]}
    assert len(bench.server.requests) == requests


@alone_on_a_bench
def test_copies_of_one_run_are_all_known_again_when_the_outbox_is_lost(bench: Bench) -> None:
    """A container that lost its outbox has another site: each of sixteen equal folders finds its own run, all at once."""
    one = run_folders.make(bench.outputs / "2025-12-03/run-0")
    for number in range(1, 16):
        shutil.copytree(one, bench.outputs / f"2025-12-03/run-{number}")
    assert bench.run("flush", bench.outputs).out == "16 uploaded\n"
    rows = {row["path"]: row["id"] for row in bench.list()}
    for life in range(3):
        shutil.rmtree(bench.state)
        done = bench.run("flush", bench.outputs, environ={"WANDB_OUTBOX_SITE": f"life-{life}"})
        assert (done.code, done.out) == (0, "16 uploaded\n")
        assert {row["path"]: row["id"] for row in bench.list()} == rows
    assert {run.id for run in bench.server.runs()} == set(rows.values())


def lose_under_a_daemon(bench: Bench, lose: Callable[[], None], missed: str) -> None:
    """A daemon whose state is gone says what it misses, and ends; the next one sends nothing twice."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    daemon = bench.watch()
    first = bench.wait_state(folder, "uploaded")
    lose()
    done = daemon.wait()
    assert done.code == 1
    assert f"{bench.state}/{missed} was deleted or replaced while it was in use" in done.err
    bench.wait_no_uploaders()
    bench.watch()
    assert bench.wait_state(folder, "uploaded")["id"] == first["id"]
    assert [run.id for run in bench.server.runs()] == [first["id"]]
    assert [artifact.version for artifact in outputs_of(bench.server)] == ["v0"]


@alone_on_a_bench
def test_a_daemon_whose_state_is_deleted_under_it_ends_and_the_next_sends_nothing_twice(bench: Bench) -> None:
    """An outbox that nobody can see any more would deliver beside the next one's: it makes room."""
    lose_under_a_daemon(bench, lambda: shutil.rmtree(bench.state), "lock")


@alone_on_a_bench
def test_a_daemon_whose_outbox_alone_is_deleted_ends_too(bench: Bench) -> None:
    """It would hear no command any more, and what it delivers would stand in no list."""

    def lose() -> None:
        for file in bench.state.glob("outbox.db*"):
            file.unlink()

    lose_under_a_daemon(bench, lose, "outbox.db")


@alone_on_a_bench
def test_a_run_that_a_person_deleted_goes_under_a_new_one_or_is_left_alone(bench: Bench) -> None:
    """``on_deleted``: a new run, or skipped until it is released; either way known within seconds, not the SDK's retries."""
    new, skip = bench.outputs / "new", bench.outputs / "skip"
    folders = {root: run_folders.make(root / "2025-12-03/run") for root in (new, skip)}
    config = bench.top / "config.toml"
    config.write_text(f'[[roots]]\npath = "{new}"\n[[roots]]\npath = "{skip}"\non_deleted = "skip"\n')
    flush = ("flush", "--config", str(config))
    assert bench.run(*flush).out == "2 uploaded\n"
    rows = {root: bench.row(folder) or {} for root, folder in folders.items()}
    for root, folder in folders.items():
        bench.server.delete_run(bench.server.entity, rows[root]["project"], rows[root]["id"])
        (folder / "results.json").write_text((folder / "results.json").read_text() + "\n")
        (folder / "metrics.json").touch()
    bench.server.requests.clear()
    assert bench.run(*flush).out.startswith("1 uploaded")
    # The SDK asks each of the two deleted ones once more, not five times.
    assert [each.status for each in bench.server.requests.of("UpsertBucket")].count(409) == 2 * 2
    fresh, left = bench.row(folders[new]) or {}, bench.row(folders[skip]) or {}
    assert (fresh["state"], fresh["incarnation"]) == ("uploaded", 1)
    assert (left["state"], left["id"], left["url"]) == ("skipped", rows[skip]["id"], None)
    assert "on_deleted = skip" in left["reason"]
    assert [run.id for run in bench.server.runs()] == [fresh["id"]]
    requests = len(bench.server.requests)
    assert bench.run(*flush).out == "0 uploaded\n"
    assert len(bench.server.requests) == requests
    assert bench.run("release", folders[skip]).code == 0
    assert bench.run(*flush).out == "1 uploaded\n"
    released = bench.row(folders[skip]) or {}
    assert (released["state"], released["incarnation"]) == ("uploaded", 1)
    assert {run.id for run in bench.server.runs()} == {fresh["id"], released["id"]}


@alone_on_a_bench
def test_two_outboxes_that_watch_one_root_send_everything_once(bench: Bench) -> None:
    """A service and a person at the same moment: the later one waits, and finds the run there, whatever its site is."""
    other = {"WANDB_OUTBOX_STATE_DIR": str(bench.top / "other-state"), "WANDB_OUTBOX_SITE": "elsewhere"}
    bench.server.inject(Fault("put", "hang"))
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    bench.watch()
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "its files to be under way")
    flush = bench.start("flush", bench.outputs, environ={**other, "WANDB_OUTBOX_LOG_LEVEL": "info"})

    def told() -> bool:
        listed = bench.run("list", "--json", environ=other)
        return listed.code == 0 and any(run["error"] for run in listed.json()["runs"])

    wait_for(told, "the later one to find it taken")
    bench.server.clear_faults()
    done = flush.wait()
    assert (done.code, done.out) == (0, "1 uploaded\n")
    assert "another wandb-outbox of this machine delivers it now" in done.err
    row = bench.wait_state(folder, "uploaded")
    theirs = bench.run("list", "--json", environ=other).json()["runs"][0]
    assert (theirs["id"], theirs["artifact"]) == (row["id"], row["artifact"])
    assert theirs["attempts"] == 1
    (run,) = bench.server.runs()
    assert len(run.history) == len({json.dumps(entry["_step"]) for entry in run.history}) > 0
    assert [artifact.version for artifact in outputs_of(bench.server)] == ["v0"]
