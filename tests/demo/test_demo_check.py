"""The check at the end of the demo: it is silent when all is well, and says what is wrong when anything is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wandb_outbox.demo.check import Evidence, Folder, Stamp, digests_of, problems, stamps_of
from wandb_outbox.demo.demo import facts_of, table_of
from wandb_outbox.demo.writer import Kind
from wandb_outbox.sandbox import ArtifactView, RunView

STAMPS = {"results.json": Stamp(2, 10, 11), "run_tts_eval.log": Stamp(3, 12, 13)}
DIGESTS = {"results.json": "aa", "run_tts_eval.log": "bb"}


def a_run(folder: str, **changes: Any) -> RunView:
    """The run that was made from a folder."""
    run = RunView(
        entity="sandbox", project="p", id=f"id-{folder}", display_name=folder, config={"outbox": {"path": folder}},
        summary={}, history=[], log=[], tags=["baseline"], group=None, job_type="eval", notes=None, state="finished",
        exit_code=0, created_at=0.0, heartbeat_at=0.0, files={}, logged_artifacts=[], used_artifacts=[],
    )  # fmt: skip
    return replace(run, **changes)


def an_artifact(folder: str, **changes: Any) -> ArtifactView:
    """The artifact that holds a folder."""
    artifact = ArtifactView(
        entity="sandbox", project="p", name=f"outputs-{folder}", type="evaluation_results", version="v0", aliases=[],
        digest="d", state="COMMITTED", description=None, metadata={}, tags=[], size=5, files={},
        logged_by=f"id-{folder}", used_by=[],
    )  # fmt: skip
    return replace(artifact, **changes)


def a_folder(path: str, kind: Kind = Kind.NORMAL, **changes: Any) -> Folder:
    """A folder that the outbox calls uploaded."""
    row = {
        "id": f"id-{path}", "state": "uploaded", "reason": "the server confirmed it", "name": path,
        "artifact": f"outputs-{path}:v0", "files": 2, "bytes": 5,
    }  # fmt: skip
    return replace(Folder(path, kind, STAMPS, STAMPS, DIGESTS, row), **changes)


def all_is_well() -> Evidence:
    """Three folders, one of each ending, each once on the server."""
    return Evidence(
        folders=[a_folder("a"), a_folder("b", Kind.KILLED), a_folder("c", Kind.INCOMPLETE)],
        runs=[
            a_run("a"),
            a_run("b", state="failed", tags=["baseline", "crashed"]),
            a_run("c", tags=["baseline", "incomplete"]),
        ],
        artifacts=[
            an_artifact("a"),
            an_artifact("b"),
            an_artifact("c"),
            an_artifact("a", name="run-a-samples", type="run_table"),
            an_artifact("a", version=None, state="PENDING"),
        ],
        downloaded={f"outputs-{folder}:v0": DIGESTS for folder in "abc"},
        leftover=[],
    )


def said(evidence: Evidence) -> list[str]:
    """What the check complains of."""
    return [str(problem) for problem in problems(evidence)]


def with_first(evidence: Evidence, **changes: Any) -> Evidence:
    """The evidence with another first folder."""
    first, *others = evidence.folders
    return replace(evidence, folders=[replace(first, **changes), *others])


def with_row(evidence: Evidence, **changes: Any) -> Evidence:
    """The evidence with another outbox row of the first folder."""
    return with_first(evidence, row={**(evidence.folders[0].row or {}), **changes})


def test_the_check_is_silent_when_all_is_well() -> None:
    """Every folder once, whole and untouched: tables and half uploads on the server are no folders."""
    assert said(all_is_well()) == []


TAMPERED: dict[str, tuple[Callable[[Evidence], Evidence], list[str]]] = {
    "a file differs": (
        lambda e: replace(e, downloaded={**e.downloaded, "outputs-a:v0": {**DIGESTS, "results.json": "ab"}}),
        ["a: results.json differs between folder and artifact"],
    ),
    "a file is missing": (
        lambda e: replace(e, downloaded={**e.downloaded, "outputs-a:v0": {"results.json": "aa"}}),
        ["a: run_tts_eval.log is not in its artifact"],
    ),
    "a file too many": (
        lambda e: replace(e, downloaded={**e.downloaded, "outputs-a:v0": {**DIGESTS, "x": "y"}}),
        ["a: x is in its artifact and not in the folder"],
    ),
    "nothing came back": (
        lambda e: replace(e, downloaded={name: files for name, files in e.downloaded.items() if "-a:" not in name}),
        ["a: its artifact outputs-a:v0 could not be fetched"],
    ),
    "a run is doubled": (
        lambda e: replace(e, runs=[*e.runs, a_run("a", id="another")]),
        [
            "a: 2 runs on the server instead of one",
            "a: its run is another on the server and id-a in the outbox",
            "4 runs on the server for 3 folders",
        ],
    ),
    "a run of nobody": (
        lambda e: replace(e, runs=[*e.runs, a_run("z")]),
        ["4 runs on the server for 3 folders"],
    ),
    "a run is missing": (
        lambda e: replace(e, runs=e.runs[1:]),
        ["a: 0 runs on the server instead of one", "2 runs on the server for 3 folders"],
    ),
    "a second version": (
        lambda e: replace(e, artifacts=[*e.artifacts, an_artifact("a", version="v1")]),
        [
            "a: its artifact is outputs-a:v0 in the outbox, and the server has outputs-a:v0, outputs-a:v1",
            "4 artifact versions for 3 folders",
        ],
    ),
    "no version": (
        lambda e: replace(e, artifacts=e.artifacts[1:]),
        [
            "a: its artifact is outputs-a:v0 in the outbox, and the server has none",
            "2 artifact versions for 3 folders",
        ],
    ),
    "a killed run counts as finished": (
        lambda e: replace(e, runs=[e.runs[0], replace(e.runs[1], state="finished"), e.runs[2]]),
        ["b: its run is finished instead of failed"],
    ),
    "a tag is missing": (
        lambda e: replace(e, runs=[*e.runs[:2], replace(e.runs[2], tags=["baseline"])]),
        ["c: its run has the tags baseline: incomplete is missing"],
    ),
    "a tag is wrong": (
        lambda e: replace(e, runs=[replace(e.runs[0], tags=["crashed"]), *e.runs[1:]]),
        ["a: its run has the tags crashed: crashed is wrong"],
    ),
    "a file was touched": (
        lambda e: with_first(e, now={**STAMPS, "results.json": Stamp(2, 10, 99)}),
        ["a: touched after its experiment had ended: results.json"],
    ),
    "a file was added": (
        lambda e: with_first(e, now={**STAMPS, "wandb": Stamp(0, 1, 1)}),
        ["a: touched after its experiment had ended: wandb"],
    ),
    "not uploaded": (
        lambda e: with_row(e, state="queued", reason="the server is offline"),
        ["a: the outbox says queued: the server is offline"],
    ),
    "unknown to the outbox": (lambda e: with_first(e, row=None), ["a: the outbox does not know it"]),
    "a process is left over": (
        lambda e: replace(e, leftover=[4711]),
        ["processes of the daemon are left over: 4711"],
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_whatever_is_wrong_is_said(name: str) -> None:
    """One thing is tampered with, and the check names that thing and no other."""
    tamper, words = TAMPERED[name]
    assert said(tamper(all_is_well())) == words


def test_the_table_shows_a_problem_in_its_own_row() -> None:
    """A folder that is wrong says so in the column at the end, the others say that they are the same."""
    evidence = with_row(all_is_well(), state="failed", reason="refused")
    table = table_of(evidence, problems(evidence))
    assert [str(cell) for cell in table.columns[-1].cells] == [
        "the outbox says failed: refused",
        "same bytes",
        "same bytes",
    ]
    assert len(list(facts_of(evidence))) == 4


def test_any_touch_shows_in_a_stamp(tmp_path: Path) -> None:
    """A write that puts the old time back, a new file and a change of mode: each changes a stamp."""
    file = tmp_path / "deep" / "results.json"
    file.parent.mkdir()
    file.write_text("[]")
    before, digest = stamps_of(str(tmp_path)), digests_of(str(tmp_path))
    assert set(before) == {".", "deep", "deep/results.json"}
    info = file.stat()
    file.write_text("{}")
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    after = stamps_of(str(tmp_path))
    assert after["deep/results.json"].mtime_ns == before["deep/results.json"].mtime_ns
    assert after != before
    assert digests_of(str(tmp_path)) != digest
    (tmp_path / "new").touch()
    assert stamps_of(str(tmp_path))["."] != after["."]
