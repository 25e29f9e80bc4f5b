"""The oracle of these tests, shown to complain: a checker that cannot fail proves nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from crash_check import (
    complaints_about_database,
    complaints_about_folder,
    complaints_about_processes,
    complaints_about_rows,
    complaints_about_strangers,
    runs_of_site,
)
from crash_folders import Trees, change_folder
from crash_rig import Rig, opened_rig, wait_for

from wandb_outbox.sandbox import ArtifactView, RunView, Sandbox


class Delivered:
    """A rig with two folders delivered, and what the server says of them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.runs = runs_of_site(rig.server.runs(), rig.site)
        self.artifacts: list[ArtifactView] = rig.server.artifacts()
        self.path, self.folder = next(iter(rig.folders.items()))
        self.run: RunView = next(run for run in self.runs if run.config["outbox"]["path"] == self.path)

    def complaints(self, *, runs: list[RunView] | None = None, artifacts: list[ArtifactView] | None = None) -> str:
        """What the oracle says of the first folder, with other runs or artifacts put in their place."""
        return "; ".join(
            complaints_about_folder(
                self.folder, self.path, self.runs if runs is None else runs,
                self.artifacts if artifacts is None else artifacts,
            )
        )  # fmt: skip

    def with_run(self, **changes: object) -> list[RunView]:
        """The runs, the first folder's changed."""
        return [replace(run, **changes) if run.id == self.run.id else run for run in self.runs]  # type: ignore[arg-type]

    def with_artifact(self, **changes: object) -> list[ArtifactView]:
        """The artifacts, the first folder's changed."""
        return [
            replace(each, **changes) if each.logged_by == self.run.id and each.type == "evaluation_results" else each  # type: ignore[arg-type]
            for each in self.artifacts
        ]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """Deliver two folders, with which all is well."""
    with Sandbox() as server, opened_rig(tmp_path_factory.mktemp("oracle") / "rig", server) as rig:
        rig.add(2)
        assert rig.finish() == []
        yield Delivered(rig)


def test_complains_about_runs(delivered: Delivered) -> None:
    """A folder without a run, one with two, and a run without a folder are seen."""
    runs = delivered.runs
    assert delivered.complaints() == ""
    assert "has 0 runs" in delivered.complaints(runs=[run for run in runs if run.id != delivered.run.id])
    assert "has 2 runs" in delivered.complaints(runs=[*runs, replace(delivered.run, id="another")])
    assert "belongs to no folder" in complaints_about_strangers(runs, set())[0]
    assert "the run is running" in delivered.complaints(runs=delivered.with_run(state="running"))


def test_complains_about_what_was_delivered(delivered: Delivered) -> None:
    """A missing or wrong ``outbox/delivered``, doubled and missing rows, and a wrong run file are seen."""
    summary, history = dict(delivered.run.summary), list(delivered.run.history)
    said = summary.pop("outbox/delivered")
    assert "is not there" in delivered.complaints(runs=delivered.with_run(summary=summary))
    stale = {**summary, "outbox/delivered": {**said, "fingerprint": "0" * 32}}
    assert "of another content" in delivered.complaints(runs=delivered.with_run(summary=stale))
    assert "rows are doubled" in delivered.complaints(runs=delivered.with_run(history=history * 2))
    assert "has 1 rows" in delivered.complaints(runs=delivered.with_run(history=history[:1]))
    assert "run's files" in delivered.complaints(runs=delivered.with_run(files={}))


def test_complains_about_artifacts(delivered: Delivered) -> None:
    """A doubled, pending, missing, incomplete or differing artifact is seen."""
    (mine,) = [each for each in delivered.with_artifact() if f"{each.name}:{each.version}" == _name(delivered)]
    twice = [*delivered.artifacts, replace(mine, version="v1")]
    assert "two artifact versions of one content" in delivered.complaints(artifacts=twice)
    assert "has 0 artifact versions" in delivered.complaints(artifacts=[])
    assert "PENDING" in delivered.complaints(artifacts=delivered.with_artifact(state="PENDING"))
    assert "another digest" in delivered.complaints(artifacts=delivered.with_artifact(digest="0"))
    fewer = {name: file for name, file in mine.files.items() if name != "results.json"}
    assert "results.json is not there" in delivered.complaints(artifacts=delivered.with_artifact(files=fewer))
    other = {**mine.files, "results.json": mine.files["metrics.json"]}
    assert "results.json differs" in delivered.complaints(artifacts=delivered.with_artifact(files=other))
    more = {**mine.files, "more.json": mine.files["metrics.json"]}
    assert "not in the folder" in delivered.complaints(artifacts=delivered.with_artifact(files=more))


def _name(delivered: Delivered) -> str:
    name: str = delivered.run.summary["outbox/delivered"]["artifact"]
    return name


def test_complains_about_the_folder(delivered: Delivered, tmp_path: Path) -> None:
    """A folder that was written to is seen on disk, and no longer equals what the server has."""
    copy = tmp_path / "copy"
    shutil.copytree(delivered.folder, copy)
    before = Trees.of(copy)
    assert before.changes_in(Trees.of(copy)) == []
    change_folder(copy, 1)
    assert any("results.json was changed on disk" in each for each in before.changes_in(Trees.of(copy)))
    said = complaints_about_folder(copy, delivered.path, delivered.runs, delivered.artifacts)
    assert any("results.json differs" in each for each in said)


def test_complains_about_the_outbox(delivered: Delivered, tmp_path: Path) -> None:
    """A row that says something else than the server, one that is missing, and a damaged database are seen."""
    folders = {delivered.path: delivered.folder}
    database = tmp_path / "outbox.db"
    shutil.copy(delivered.rig.database, database)
    assert complaints_about_rows(database, folders, delivered.runs) == []
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE runs SET artifact = 'other:v7'")
    assert "say different things" in complaints_about_rows(database, folders, delivered.runs)[0]
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE runs SET state = 'queued'")
    connection.close()
    assert "is queued, not uploaded" in complaints_about_rows(database, folders, delivered.runs)[0]
    assert "not in the outbox" in complaints_about_rows(database, {"x": tmp_path}, delivered.runs)[0]
    with database.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))
    try:
        said = complaints_about_database(database)
    except sqlite3.DatabaseError as error:
        said = [str(error)]
    assert said != []


def test_complains_about_processes_left_over(tmp_path: Path) -> None:
    """A process with an uploader's environment that lives on is seen, and seen to end."""
    environ = {**os.environ, "WANDB_OUTBOX_UPLOADER": "x:1", "WANDB_DIR": str(tmp_path / "uploader")}
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as left:
        assert left.stdout is not None
        left.stdout.readline()
        assert f"process {left.pid} " in complaints_about_processes(tmp_path)[0]
        left.kill()
        left.wait()
    wait_for(lambda: not complaints_about_processes(tmp_path), "its end", 5)


def test_a_step_that_was_never_reached_is_no_success(tmp_path: Path) -> None:
    """The harness knows which of its orders were carried out: one at a step that does not exist is not."""
    with Sandbox() as server, opened_rig(tmp_path / "rig", server) as rig:
        rig.orders([{"id": "never", "step": "no.such.step", "kill": "self"}])
        rig.start()
        wait_for(lambda: rig.events("started"), "the start")
        assert rig.carried_out() == set()
        assert json.loads((rig.hook / "orders.json").read_text())[-1]["id"] == "never"
