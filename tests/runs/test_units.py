"""Folders of lm-eval: each evaluation, told by its timestamp, is a run of its own, and arrives once."""

from __future__ import annotations

import shutil

import pytest
from lm_eval_folders import FIRST, SECOND, THIRD, evaluate
from runs_makers import Memory, Place, artifact_of, bytes_on_server

from wandb_outbox.folder import snapshot
from wandb_outbox.formats import evidence
from wandb_outbox.sandbox import ArtifactView, RunView

pytest_plugins = ("runs_fixtures",)


def runs_by_unit(place: Place) -> dict[str, RunView]:
    """The runs on the server by the timestamp that their config names; never two of one."""
    runs = place.sandbox.runs()
    found = {run.config["outbox"]["unit"]: run for run in runs}
    assert len(found) == len(runs)
    return found


def folder_artifact(place: Place, run: RunView) -> ArtifactView:
    """The newest artifact of the folder that this run logged."""
    named = {f"{each.name}:{each.version}": each for each in place.sandbox.artifacts()}
    return [named[name] for name in run.logged_artifacts if name in named and named[name].type == "run_outputs"][-1]


def test_each_timestamp_is_a_run(place: Place) -> None:
    """Two evaluations of one model: two runs with their own numbers, tables, files and artifacts."""
    folder = evaluate(place.root / "out" / "gpt2__x", FIRST, 0.25)
    evaluate(folder, SECOND, 0.75, samples=3)
    (folder / "notes.txt").write_text("of no evaluation")
    receipt = place.deliver(folder)
    runs = runs_by_unit(place)
    assert set(runs) == {FIRST, SECOND}
    assert runs[SECOND].id == receipt.run_id
    for unit, accuracy, rows in ((FIRST, 0.25, 2), (SECOND, 0.75, 3)):
        run = runs[unit]
        assert (run.state, run.display_name, run.job_type) == ("finished", f"gpt2__x-{unit}", "eval")
        assert run.summary["gsm8k/exact_match,strict-match"] == accuracy
        assert run.summary["mmlu/acc"] == accuracy
        assert run.summary["samples_gsm8k"]["nrows"] == run.summary["samples_mmlu_anatomy"]["nrows"] == rows
        assert f"results_{unit}.json" in run.files
        own = {file.name: file.read_bytes() for file in folder.iterdir() if unit in file.name}
        more = {"notes.txt": b"of no evaluation"} if unit == SECOND else {}
        assert bytes_on_server(folder_artifact(place, run)) == {**own, **more}
    assert artifact_of(place, receipt).name.endswith(f"gpt2__x-{SECOND}")


def test_a_later_evaluation_joins_and_nothing_comes_twice(place: Place) -> None:
    """Delivered again, with and without the state, and with one evaluation more: each has its run and one version."""
    folder = evaluate(place.root / "gpt2__x", FIRST, 0.25)
    memory = Memory()
    receipt = place.deliver(folder, memory)
    assert place.deliver(folder, memory) == receipt
    assert place.deliver(folder) == receipt
    before = runs_by_unit(place)[FIRST]
    evaluate(folder, SECOND, 0.5)
    second = place.deliver(folder, memory)
    evaluate(folder, THIRD, 0.75)
    place.deliver(folder, memory)
    third = place.deliver(folder)
    runs = runs_by_unit(place)
    assert set(runs) == {FIRST, SECOND, THIRD}
    assert (runs[FIRST], runs[SECOND].id, runs[THIRD].id) == (before, second.run_id, third.run_id)
    outputs = [each for each in place.sandbox.artifacts() if each.type == "run_outputs"]
    assert [each.version for each in outputs] == ["v0"] * 3


def test_a_renamed_folder_keeps_its_runs(place: Place) -> None:
    """The ids come from the folder's birth."""
    folder = evaluate(evaluate(place.root / "a", FIRST, 0.25), SECOND, 0.5)
    memory = Memory()
    place.deliver(folder, memory)
    ids = {run.id for run in place.sandbox.runs()}
    folder.rename(place.root / "b")
    evaluate(place.root / "b", THIRD, 0.5)
    place.deliver(place.root / "b", memory)
    assert ids < {run.id for run in place.sandbox.runs()}
    assert len(runs_by_unit(place)) == 3


def test_a_folder_made_anew_is_another_experiment(place: Place) -> None:
    """The same timestamp in another folder, under the same name: runs of their own."""
    folder = evaluate(place.root / "a", FIRST, 0.25)
    first = place.deliver(folder)
    kept = place.top / "kept"
    folder.rename(kept)
    evaluate(folder, FIRST, 0.5)
    second = place.deliver(folder)
    assert first.run_id != second.run_id
    shutil.rmtree(kept)


def test_a_unit_that_a_person_deleted_stays_deleted(place: Place) -> None:
    """Its run is gone on the server on purpose; the others go on, and the receipt says so."""
    folder = evaluate(place.root / "a", FIRST, 0.25)
    memory = Memory()
    receipt = place.deliver(folder, memory)
    place.sandbox.delete_run(receipt.entity, receipt.project, receipt.run_id)
    evaluate(folder, SECOND, 0.5)
    told = place.deliver(folder, memory).warnings
    assert set(runs_by_unit(place)) == {SECOND}
    assert f"run-deleted: that of {FIRST} was deleted on the server, and is left so" in told


@pytest.mark.parametrize("missing", ["samples_mmlu_anatomy", "samples_gsm8k"])
def test_results_come_before_the_samples(place: Place, missing: str) -> None:
    """Done is only what has the samples of every task; a group of tasks has none."""
    folder = evaluate(place.root / "a", FIRST, 0.25)
    assert evidence("lm-eval", str(folder), snapshot(str(folder))).done is not None
    (folder / f"{missing}_{FIRST}.jsonl").unlink()
    assert evidence("lm-eval", str(folder), snapshot(str(folder))).done is None
