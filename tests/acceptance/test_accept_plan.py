"""``plan``: what would be sent, said before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import run_folders
from acceptance_bench import Bench, alone_on_a_bench, fingerprint_of, outputs_of
from run_folders import Recipe

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")

PLAN_KEYS = {
    "path", "format", "kind", "verdict", "reason", "entity", "project", "name", "group", "job_type", "tags", "notes",
    "id", "config", "summary", "history_steps", "tables", "media", "artifacts", "inputs", "run_files", "excluded", "sources",
    "warnings",
}  # fmt: skip
NO_NETWORK = {"WANDB_API_KEY": None, "WANDB_BASE_URL": "http://127.0.0.1:9"}


@alone_on_a_bench
def test_plan_tells_all_that_an_upload_sends(bench: Bench) -> None:
    """``plan --json`` has its schema, needs no network and no key, writes nothing, and the upload does what it says."""
    folder = run_folders.make(bench.outputs / "2025-12-03/gsm8k/seed42_10-00-00", Recipe(samples=5))
    (folder / ".env").write_text("A=1")
    before = fingerprint_of(bench.outputs)
    done = bench.run("plan", folder, "--json", "--tags", "a", "b", environ=NO_NETWORK)
    assert (done.code, done.err) == (0, "")
    answer = done.json()
    assert set(answer) == {"schema", "plans"}
    assert answer["schema"] == 1
    (plan,) = answer["plans"]
    assert set(plan) == PLAN_KEYS
    assert {tuple(sorted(table)) for table in plan["tables"]} == {("columns", "name", "rows")}
    assert {tuple(sorted(each)) for each in plan["artifacts"]} == {("bytes", "files", "metadata", "name", "type")}
    assert plan["excluded"] == [{"path": ".env", "reason": "could hold credentials"}]
    assert (plan["format"], plan["kind"], plan["verdict"]) == ("llm-tts", "folder", "complete")
    assert fingerprint_of(bench.outputs) == before
    assert not bench.state.exists()
    assert bench.run("upload", folder, "--tags", "a", "b").code == 0
    (run,) = bench.server.runs()
    (artifact,) = outputs_of(bench.server)
    assert (plan["project"], plan["name"], plan["tags"]) == (run.project, run.display_name, list(run.tags))
    assert plan["artifacts"][0]["name"] == artifact.name
    assert plan["artifacts"][0]["metadata"]["config"] == artifact.metadata["config"]
    assert (plan["artifacts"][0]["files"], plan["artifacts"][0]["bytes"]) == (len(artifact.files), artifact.size)
    assert plan["history_steps"] == len(run.history) == 5
    assert [(table["name"], table["rows"]) for table in plan["tables"]] == [("samples", 5)]
    assert {key: run.summary[key] for key in plan["summary"]} == plan["summary"]
    assert set(plan["run_files"]) < set(run.files)
    again = bench.run("plan", folder, "--json", environ=NO_NETWORK).json()["plans"][0]
    assert again["id"] == run.id


@alone_on_a_bench
def test_the_id_of_a_plan_is_that_of_the_upload_or_says_that_it_is_not(bench: Bench) -> None:
    """A container gets its site at the first delivery: until then the id is provisional. A configured site is known."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run", Recipe(samples=1))
    container = {"container": "docker", "WANDB_OUTBOX_SITE": None}

    def planned(environ: Mapping[str, str | None]) -> tuple[str, bool]:
        (plan,) = bench.run("plan", folder, "--json", environ=environ).json()["plans"]
        return plan["id"], plan["sources"]["id"].startswith("provisional: ")

    before, provisional = planned(container)
    assert provisional
    assert f"run id    {before}  [provisional: " in bench.run("plan", folder, environ=container).out
    assert not planned({**container, "WANDB_OUTBOX_SITE": "box"})[1]
    assert bench.run("upload", folder, environ=container).code == 0
    assert planned(container) == (bench.server.runs()[0].id, False)


@alone_on_a_bench
def test_plan_of_a_folder_that_is_being_written(bench: Bench) -> None:
    """While the experiment writes, ``plan`` shows what there is and says that it is being written."""
    folder = bench.outputs / "2025-12-03/run"
    experiment = bench.experiment(folder)
    experiment.go_to("generated")
    (plan,) = bench.run("plan", folder, "--json", environ=NO_NETWORK).json()["plans"]
    assert (plan["verdict"], plan["tables"][0]["rows"]) == ("writing", 4)
    assert f"pid {experiment.process.pid}" in plan["reason"]
    experiment.end()
    (plan,) = bench.run("plan", folder, "--json", environ=NO_NETWORK).json()["plans"]
    assert plan["verdict"] == "complete"
    assert list(bench.server.requests) == []


@alone_on_a_bench
def test_a_folder_that_is_too_large_is_told_before_and_after(bench: Bench) -> None:
    """``plan`` says that it would be held, ``why`` says that it is, and the command that ``why`` names sends it."""
    folder = run_folders.make(bench.outputs / "2025-12-03/large")
    environ: dict[str, str | None] = {"WANDB_OUTBOX_MAX_BYTES": "1kB"}
    planned = bench.run("plan", folder, environ={**NO_NETWORK, **environ})
    assert "warning max-bytes: " in planned.out
    assert "more than max_bytes (1,000): the folder is held until it is released" in planned.out
    assert "max-bytes" not in bench.run("plan", folder, environ=NO_NETWORK).out
    assert bench.run("flush", bench.outputs, environ=environ).code == 0
    assert bench.list()[0]["state"] == "held"
    (line,) = [line for line in bench.run("why", folder).out.splitlines() if line.startswith("Next: ")]
    words = line.split("`")[1].split()
    assert words[:2] == ["wandb-outbox", "release"]
    assert bench.run(*words[1:]).code == 0
    assert bench.run("flush", bench.outputs, environ=environ).code == 0
    assert bench.list()[0]["state"] == "uploaded"


@alone_on_a_bench
def test_an_input_that_is_missing_is_told_by_plan(bench: Bench) -> None:
    """Before the delivery nobody can know; after it the plan warns, until the input is there and the folder sent again."""

    def told(folder: Path) -> list[tuple[str, str]]:
        (plan,) = bench.run("plan", folder, "--json", environ=NO_NETWORK).json()["plans"]
        return [(each["rule"], each["severity"]) for each in plan["warnings"] if "input" in each["rule"]]

    folder, source = bench.outputs / "clean", bench.outputs / "ingest"
    for path, said in (
        (folder, "project: p\ninputs: [raw:latest]\n"),
        (source, "project: p\nartifacts: [{name: raw, type: dataset, files: x}]\n"),
    ):
        path.mkdir()
        (path / "x").write_text("1")
        (path / "outbox.yaml").write_text(said)
    assert told(folder) == [("input-unchecked", "note")]
    assert bench.run("upload", folder).code == 0
    assert told(folder) == [("missing-input", "warning")]
    assert "`upload` the folder again once it is there" in bench.run("show", folder).out
    assert bench.run("upload", source).code == 0
    assert bench.run("upload", folder).code == 0
    assert told(folder) == []
    (folder / "y").write_text("1")
    assert told(folder) == [("input-unchecked", "note")]


@alone_on_a_bench
def test_plan_for_a_person(bench: Bench) -> None:
    """Without ``--json`` it says in words where every name comes from, for each DIR, and what could not be planned."""
    one = run_folders.make(bench.outputs / "2025-12-03/one")
    two = run_folders.make(bench.outputs / "2025-12-03/two", Recipe(more={"wandb_project": "mine"}))
    done = bench.run("plan", one, bench.top / "missing", two, environ=NO_NETWORK)
    assert done.code == 2
    assert f"{bench.top}/missing is not there" in done.err
    assert str(one) in done.out
    assert str(two) in done.out
    assert "llm-tts-eval-gsm8k" in done.out
    assert "baseline_gpt-4o-mini_openai" in done.out
    assert "wandb_project in .hydra/config.yaml" in done.out


@alone_on_a_bench
def test_hostile_names_reach_no_terminal(bench: Bench) -> None:
    """Newlines, escapes and bytes that are no UTF-8 in names are shown escaped, whatever the terminal can show."""
    good = run_folders.make(bench.outputs / "2025-12-03" / "bad\x1b[31m\nname")
    with open(os.fsencode(good) + b"/caf\xe9.txt", "w") as file:
        file.write("x")
    planned = bench.run("plan", good, "--json", environ=NO_NETWORK)
    assert planned.code == 0, planned
    (plan,) = planned.json()["plans"]
    assert plan["artifacts"][0]["name"].isprintable()
    assert [each["path"] for each in plan["excluded"]] == ["caf?.txt"]
    # The SDK cannot open this one: it is refused at once, with what to do, and holds up nothing.
    refused = run_folders.make(bench.outputs / "2025-12-03" / os.fsdecode(b"caf\xe9"))
    done = bench.run("upload", good, refused)
    assert done.code == 1
    assert "no path that is not valid UTF-8" in done.err
    assert "rename the folder" in done.err
    assert {run.display_name for run in bench.server.runs()} == {"baseline_gpt-4o-mini_openai"}
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    for words in (["plan", good], ["status"], ["show", good], ["why", refused], ["list"], ["upload", good]):
        shown = bench.run(*words, environ=ascii_only)
        assert shown.code == (3 if words == ["status"] else 0), shown
        assert "\x1b" not in shown.out + shown.err
        assert "Traceback" not in shown.err
    assert len(bench.run("list").out.splitlines()) == 2
    assert len(bench.server.runs()) == 1
