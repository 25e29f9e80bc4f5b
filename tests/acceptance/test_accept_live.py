"""The daemon and folders that log to W&B themselves while they run: one run, and nothing of it is lost."""

from __future__ import annotations

import json

import pytest
from acceptance_bench import Bench, alone_on_a_bench, artifact_of, md5s_on_disk, md5s_on_server, wait_for
from live_runs import log_live, stay_live

from wandb_outbox.sandbox import Fault

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")


@alone_on_a_bench
def test_live_folder_is_attached_to_its_run(bench: Bench) -> None:
    """While the experiment runs nothing is sent; afterwards its run has the folder, and is what it was."""
    folder = bench.outputs / "x"
    process, live = stay_live(bench.server, folder)
    (folder / "metrics.json").write_text(json.dumps({"f1": 0.5}))
    (folder / "outbox.yaml").write_text("tags: [a]\n")
    bench.watch()
    bench.wait_state(folder, "writing", verdict="writing")
    process.communicate()
    row = bench.wait_state(folder, "uploaded")
    (run,) = bench.server.runs()
    assert (row["id"], row["project"], row["name"]) == (live, "live", run.display_name)
    assert (run.id, run.state, len(run.history), run.summary["f1"]) == (live, "finished", 20, 0.5)
    on_disk = {name: md5 for name, md5 in md5s_on_disk(folder).items() if not name.startswith("wandb/")}
    assert md5s_on_server(artifact_of(bench.server, run).files) == on_disk


@alone_on_a_bench
def test_run_in_another_entity_is_held_until_a_person_says(bench: Bench) -> None:
    """The reason and the way on stand in ``why``; released it goes as a run of its own."""
    folder = bench.outputs / "x"
    live = log_live(bench.server, folder)
    bench.server.delete_run("sandbox", "live", live)
    (folder / "metrics.json").write_text("{}")
    (folder / "outbox.yaml").write_text("project: mine\n")
    bench.watch()
    row = bench.wait_state(folder, "held")
    assert f"the run {live} that it logged itself is not in sandbox/live" in row["reason"]
    assert (row["error"]["class"], row["attempts"]) == ("Held", 0)
    assert "release it" in bench.run("why", folder).out
    assert bench.run("flush", bench.outputs).code == 0
    assert bench.server.runs() == []
    assert bench.run("release", folder).code == 0
    row = bench.wait_state(folder, "uploaded")
    assert (row["project"], row["id"] == live) == ("mine", False)


@alone_on_a_bench
def test_killed_while_it_attaches(bench: Bench) -> None:
    """The executor dies after the run was told: the run still counts as finished, and gets the folder once."""
    folder = bench.outputs / "x"
    live = log_live(bench.server, folder)
    (before,) = bench.server.runs()
    (folder / "metrics.json").write_text(json.dumps({"f1": 0.5}))
    (folder / "outbox.yaml").write_text("tags: [a]\n")
    bench.server.inject(Fault("CommitArtifact", "hang"))
    daemon = bench.watch()
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "the artifact on its way")
    daemon.kill()
    bench.wait_no_uploaders()
    bench.server.clear_faults()
    (between,) = bench.server.runs()
    assert (between.state, between.heartbeat_at) == ("finished", before.heartbeat_at)
    bench.watch()
    bench.wait_state(folder, "uploaded")
    (after,) = bench.server.runs()
    assert (after.id, after.state, after.history, after.heartbeat_at) == (
        live, "finished", before.history, before.heartbeat_at
    )  # fmt: skip
    assert artifact_of(bench.server, after).version == "v0"


@alone_on_a_bench
def test_plan_of_a_live_folder_says_where_it_goes(bench: Bench) -> None:
    """Without a server: the run, its project, and that its history stays its own."""
    folder = bench.outputs / "x"
    live = log_live(bench.server, folder, name="by-a-person")
    (folder / "metrics.json").write_text("{}")
    (plan,) = bench.run("plan", folder, "--json").json()["plans"]
    assert (plan["id"], plan["project"], plan["name"], plan["history_steps"]) == (live, "live", "by-a-person", 0)
    assert plan["sources"]["id"] == "the live run's log"
    assert set(plan["config"]) == {"outbox"}
