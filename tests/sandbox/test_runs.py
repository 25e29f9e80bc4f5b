"""Runs, written by the real SDK and read back through its public API."""

import json
from pathlib import Path
from typing import Any

import pytest
import wandb
from sandbox_sdk import TEAM, Sdk
from wandb.errors import CommError, UsageError

from wandb_outbox.sandbox import Sandbox


def test_a_delivery_reads_back_as_it_was_written(sdk: Sdk) -> None:
    """Config, summary, history, tags, group, job type, notes, files and table come back through wandb.Api."""
    (sdk.folder / "results.json").write_text('{"ok": true}')
    config = {"lr": 0.1, "strategy": {"type": "baseline"}, "outbox": {"fingerprint": "f1"}}
    with sdk.init(
        id=sdk.id, name="nice name", group="g", job_type="eval", tags=["a", "b"], notes="words", config=config
    ) as run:
        for step in range(5):
            run.log({"loss": 1 / (step + 1), "deep": {"x": step}}, step=step)
        run.summary["acc"] = 0.5
        run.summary["samples"] = wandb.Table(columns=["q", "n"], data=[["one", 1], ["two", 2]])
        run.save(str(sdk.folder / "results.json"), base_path=str(sdk.folder), policy="now")

    read = sdk.api().run(sdk.path(sdk.id))
    assert (read.name, read.group, read.job_type, read.notes, read.state) == (
        "nice name", "g", "eval", "words", "finished",
    )  # fmt: skip
    assert sorted(read.tags) == ["a", "b"]
    assert read.config == config
    assert read.summary["acc"] == 0.5
    assert read.summary["samples"]["nrows"] == 2
    assert [row["loss"] for row in read.history(pandas=False)] == [1 / (step + 1) for step in range(5)]
    assert [row["deep"]["x"] for row in read.scan_history()] == list(range(5))
    assert list(read.scan_history(keys=["loss"], min_step=3)) == [{"_step": 3, "loss": 0.25}, {"_step": 4, "loss": 0.2}]
    assert len(read.history(keys=["loss"], samples=3, pandas=False)) == 3
    assert read.lastHistoryStep == 4
    assert json.load(read.file("results.json").download(root=str(sdk.folder / "down"))) == {"ok": True}
    table = next(artifact for artifact in read.logged_artifacts() if artifact.type == "run_table")
    samples = table.get("samples")
    assert isinstance(samples, wandb.Table)
    assert samples.data == [["one", 1], ["two", 2]]
    view = sdk.sandbox.run("sandbox", sdk.project, sdk.id)
    assert view is not None
    assert view.files["results.json"].path is not None
    assert view.files["results.json"].path.read_text() == '{"ok": true}'
    assert view.exit_code == 0


def test_a_table_in_the_history_is_there(sdk: Sdk) -> None:
    """A logged table leaves a row with its type and a media file."""
    with sdk.init(id=sdk.id) as run:
        run.define_metric("loss", summary="min")
        run.log({"table": wandb.Table(columns=["x"], data=[[1]]), "loss": 3})
        run.log({"loss": 4})
    read = sdk.api().run(sdk.path(sdk.id))
    rows = list(read.scan_history())
    assert rows[0]["table"]["_type"] == "table-file"
    assert any(file.name.startswith("media/table/") for file in read.files())
    assert read.summary["loss"]["min"] == 3


def test_an_exit_code_makes_a_run_failed(sdk: Sdk) -> None:
    """A run that ends with another code than 0 is failed, and its code is kept."""
    sdk.init(id=sdk.id).finish(exit_code=3)
    assert sdk.api().run(sdk.path(sdk.id)).state == "failed"
    view = sdk.sandbox.run("sandbox", sdk.project, sdk.id)
    assert view is not None
    assert view.exit_code == 3


def test_resume_appends_rows_and_merges_config(sdk: Sdk) -> None:
    """A resumed session goes on after the last row; its config overwrites by key, other keys stay."""
    with sdk.init(id=sdk.id, config={"a": 1, "b": 1}) as run:
        run.log({"x": 0})
        run.log({"x": 1})
    with sdk.init(id=sdk.id, resume="must", config={"b": 2}) as run:
        assert run.resumed
        assert run.starting_step == 2
        run.log({"x": 2})
    read = sdk.api().run(sdk.path(sdk.id))
    assert read.config == {"a": 1, "b": 2}
    assert [(row["_step"], row["x"]) for row in read.scan_history()] == [(0, 0), (1, 1), (2, 2)]
    assert read.state == "finished"


def test_resume_with_explicit_steps_adds_no_row_twice(sdk: Sdk) -> None:
    """Rows that are logged again with their steps are dropped, as the SDK does with lower steps."""
    for _ in range(2):
        with sdk.init(id=sdk.id, resume="allow") as run:
            for step in range(3):
                run.log({"x": step}, step=step)
    assert len(list(sdk.api().run(sdk.path(sdk.id)).scan_history())) == 3


@pytest.mark.parametrize(("resume", "exists"), [("must", False), ("never", True)])
def test_resume_that_is_not_possible_is_refused(sdk: Sdk, resume: str, *, exists: bool) -> None:
    """`must` wants a run that is there, `never` one that is not."""
    if exists:
        sdk.init(id=sdk.id).finish()
    with pytest.raises(UsageError):
        sdk.init(id=sdk.id, resume=resume)


def test_a_deleted_run_id_is_taken_for_ever(sdk: Sdk) -> None:
    """After a deletion the run is gone, and its id answers 409 to every later session."""
    sdk.init(id=sdk.id).finish()
    sdk.api().run(sdk.path(sdk.id)).delete()
    assert sdk.sandbox.run("sandbox", sdk.project, sdk.id) is None
    with pytest.raises(CommError, match="Could not find run"):
        sdk.api().run(sdk.path(sdk.id))
    with pytest.raises(wandb.Error, match=r"HTTP 409.*previously created and deleted"):
        sdk.init(id=sdk.id, resume="allow")
    assert {each.status for each in sdk.sandbox.requests.of("UpsertBucket")} == {200, 409}


def test_the_public_api_changes_a_finished_run_and_leaves_it_finished(sdk: Sdk) -> None:
    """Config (removed keys too), tags, name, notes and summary can be changed later; state and rows stay."""
    with sdk.init(id=sdk.id, config={"a": 1, "gone": 1}, tags=["old"]) as run:
        run.log({"x": 1})
    read: Any = sdk.api().run(sdk.path(sdk.id))
    read.config["b"] = 2
    del read.config["gone"]
    read.tags = ["new"]
    read.name = "other"
    read.notes = "later"
    read.update()
    read.summary.update({"outbox/delivered": {"fingerprint": "f"}})

    again = sdk.api().run(sdk.path(sdk.id))
    assert again.config == {"a": 1, "b": 2}
    assert (again.tags, again.name, again.notes, again.state) == (["new"], "other", "later", "finished")
    assert again.summary["outbox/delivered"]["fingerprint"] == "f"
    assert again.summary["x"] == 1
    assert len(list(again.scan_history())) == 1


def test_runs_are_found_by_filters(sdk: Sdk) -> None:
    """Filters reach config keys, columns and tags, with the operators that the public API documents."""
    for number in range(4):
        with sdk.init(
            id=f"r{number}", name=f"run {number}", tags=["even" if number % 2 == 0 else "odd"],
            config={"outbox": {"fingerprint": f"f{number}"}, "n": number},
        ) as run:  # fmt: skip
            run.summary["score"] = number

    def found(filters: dict[str, object], order: str = "+created_at") -> list[str]:
        return [run.id for run in sdk.api().runs(sdk.path(), filters=filters, order=order, per_page=2)]

    assert found({}) == ["r0", "r1", "r2", "r3"]
    assert found({"config.outbox.fingerprint": "f2"}) == ["r2"]
    assert found({"config.outbox.value.fingerprint": "f2"}) == ["r2"]
    assert found({"config.outbox.fingerprint": {"$in": ["f0", "f3", "f9"]}}) == ["r0", "r3"]
    assert found({"display_name": "run 1"}) == ["r1"]
    assert found({"displayName": {"$regex": "^run [23]$"}}) == ["r2", "r3"]
    assert found({"tags": "even"}) == ["r0", "r2"]
    assert found({"tags": {"$in": ["odd"]}, "state": "finished"}) == ["r1", "r3"]
    assert found({"$or": [{"config.n": 0}, {"$and": [{"config.n": {"$gt": 1}}, {"tags": "odd"}]}]}) == ["r0", "r3"]
    assert found({"state": {"$ne": "finished"}}) == []
    assert found({}, order="-summary_metrics.score") == ["r3", "r2", "r1", "r0"]
    assert found({}, order="-created_at") == ["r3", "r2", "r1", "r0"]
    assert len(sdk.api().runs(sdk.path(), filters={"config.n": {"$lt": 2}})) == 2
    assert sdk.api().runs(sdk.path())[0].config["n"] == 0


def test_a_run_goes_to_a_team(sdk: Sdk) -> None:
    """An entity that was given is as good as the user's own."""
    with sdk.init(id=sdk.id, entity=TEAM) as run:
        assert run.entity == TEAM
    assert [each.id for each in sdk.sandbox.runs(TEAM, sdk.project)] == [sdk.id]
    assert sdk.project in {project.name for project in sdk.api().projects(TEAM)}


def test_an_unknown_entity_is_refused(sdk: Sdk) -> None:
    """A run in an entity that does not exist fails at init with the server's words."""
    with pytest.raises(CommError, match="entity nobody not found"):
        sdk.init(entity="nobody")


def test_an_unknown_project_has_no_runs(sdk: Sdk) -> None:
    """Asking for a project before its first run fails as on the real server."""
    with pytest.raises(ValueError, match="Could not find project"):
        list(sdk.api().runs(sdk.path()))


def test_a_job_type_that_is_too_long_is_refused(sdk: Sdk) -> None:
    """The server takes 64 characters of job type; the SDK lets more through."""
    with pytest.raises(CommError, match="job type"):
        sdk.init(job_type="j" * 65)


def test_the_console_log_is_kept(sdk: Sdk) -> None:
    """Lines that the SDK captures are in the Logs tab, with their text and level."""
    with sdk.init(id=sdk.id, settings={"console": "wrap"}):
        print("first line")  # noqa: T201
        print("second line")  # noqa: T201
    run = sdk.api().run(sdk.path(sdk.id))
    assert [line.content for line in run.console_logs()] == ["first line", "second line"]
    assert [line.content for line in run.console_logs(last=1)] == ["second line"]


def test_files_are_deleted_and_uploaded_through_the_public_api(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file can be added to a finished run and deleted from it; the run stays finished."""
    sdk.init(id=sdk.id).finish()
    (sdk.folder / "extra.txt").write_text("more")
    monkeypatch.chdir(sdk.folder)
    run = sdk.api().run(sdk.path(sdk.id))
    run.upload_file("extra.txt")
    assert [file.name for file in run.files(pattern="extra%")] == ["extra.txt"]
    run.file("extra.txt").delete()
    assert list(sdk.api().run(sdk.path(sdk.id)).files(names=["extra.txt"])) == []
    assert sdk.api().run(sdk.path(sdk.id)).state == "finished"


def test_a_run_without_a_sign_of_life_is_crashed(tmp_path: Path) -> None:
    """A running run whose writer went silent counts as crashed after the heartbeat timeout."""
    now = 1_700_000_000.0
    with Sandbox(clock=lambda: now, heartbeat_timeout=60) as sandbox:
        sdk = Sdk(sandbox, "p", tmp_path)
        run = sdk.init(id=sdk.id)
        assert [each.state for each in sandbox.runs()] == ["running"]
        now += 61
        assert [each.state for each in sandbox.runs()] == ["crashed"]
        run.finish()
        assert [each.state for each in sandbox.runs()] == ["finished"]


def test_login_is_verified(sdk: Sdk) -> None:
    """`wandb.login(verify=True)` takes the right key and refuses another one."""
    url = sdk.sandbox.url
    assert wandb.login(key=sdk.sandbox.api_key, host=url, verify=True, relogin=True)
    with pytest.raises(wandb.errors.AuthenticationError):
        wandb.login(key="x" * 40, host=url, verify=True, relogin=True)


def test_a_wrong_key_is_refused_at_init(sdk: Sdk) -> None:
    """A run with a wrong key fails with 401 within the init timeout."""
    with pytest.raises((CommError, wandb.errors.AuthenticationError), match=r"401|not logged in"):
        sdk.init(settings={"api_key": "x" * 40})
    assert sdk.sandbox.runs("sandbox", sdk.project) == []
