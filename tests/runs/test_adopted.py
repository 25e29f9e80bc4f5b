"""Runs that the guide's upload script made earlier: adopted with all that they have, and never those of another folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from live_runs import upload_by_script
from runs_makers import Memory, Place, artifact_of, bytes_on_disk, bytes_on_server, llm_tts_folder

from wandb_outbox.errors import OutboxError
from wandb_outbox.sandbox import Fault

pytest_plugins = ("runs_fixtures",)

PROJECT, NAME = "llm-tts-eval-gsm8k", "deepconf_qwen3-8b_vllm"


def by_script(place: Place, folder: Path, given: str | None = None, cwd: Path | None = None) -> str:
    """Upload the folder as the guide shows it, from the directory above ``outputs``."""
    given = os.path.relpath(folder, place.top) if given is None else given
    return upload_by_script(place.sandbox, cwd or place.top, given, project=PROJECT, name=NAME)


@pytest.mark.parametrize("given", ["relative", "absolute", "./relative", "relative/"])
def test_a_run_made_by_the_script_is_adopted(place: Place, given: str) -> None:
    """However the folder was given to it: one run, with its name and numbers, and with the whole folder besides."""
    folder = llm_tts_folder(place.root / "2025-12-03" / "x")
    named = str(folder) if given == "absolute" else given.replace("relative", os.path.relpath(folder, place.top))
    script = by_script(place, folder, named)
    before, memory = place.run(script), Memory()
    receipt = place.deliver(folder, memory)
    (after,) = place.sandbox.runs()
    assert (receipt.run_id, receipt.name, memory.contacts) == (script, NAME, [script])
    assert (after.display_name, after.state, after.heartbeat_at) == (NAME, "finished", before.heartbeat_at)
    assert {"by-hand", "baseline"} <= set(after.tags)
    assert {key: value for key, value in after.config.items() if key != "outbox"} == before.config
    assert bytes_on_server(artifact_of(place, receipt)) == bytes_on_disk(folder)
    assert artifact_of(place, receipt).metadata["provenance"]["run_id"] == script
    assert place.deliver(folder, memory) == receipt
    assert place.deliver(folder) == receipt  # its state lost, it is known by what the run says
    assert {each.name for each in place.sandbox.artifacts() if not each.name.startswith("run-")} == {
        "results-2025-12-03-x", "outputs-2025-12-03-x"
    }  # fmt: skip


def test_an_adopted_run_stays_that_of_its_folder(place: Place) -> None:
    """A later content is the next version in the same run."""
    folder = llm_tts_folder(place.root / "x")
    script = by_script(place, folder)
    memory = Memory()
    place.deliver(folder, memory)
    (folder / "results.json").write_text("[]")
    receipt = place.deliver(folder, memory)
    assert (receipt.run_id, receipt.artifact.rpartition(":")[2]) == (script, "v1")
    assert [run.id for run in place.sandbox.runs()] == [script]


def test_a_run_of_another_folder_of_the_same_name_is_left_alone(place: Place) -> None:
    """The same relative name on another machine, with other results: not adopted, and the receipt says so."""
    elsewhere = place.top / "elsewhere"
    there = llm_tts_folder(elsewhere / "outputs" / "x", samples=5)
    script = by_script(place, there, "outputs/x", elsewhere)
    shutil.rmtree(elsewhere)
    before = place.run(script)
    folder = llm_tts_folder(place.root / "x")
    receipt = place.deliver(folder)
    assert receipt.run_id != script
    assert place.run(script) == before
    assert any(warning.startswith(f"not-adopted: the run {script}") for warning in receipt.warnings)


def test_of_two_runs_of_the_script_the_newer_is_adopted(place: Place) -> None:
    """Uploaded twice by hand: both stay, and one carries the folder from now on."""
    folder = llm_tts_folder(place.root / "x")
    first, second = by_script(place, folder), by_script(place, folder)
    before = place.run(first)
    assert place.deliver(folder).run_id == second
    assert place.deliver(folder).run_id == second
    assert place.run(first) == before


def test_a_kill_between_the_record_and_the_word_to_the_run_makes_no_second_run(place: Place) -> None:
    """The outbox knows the id, and the run does not know the folder yet: it is recognised again."""
    folder = llm_tts_folder(place.root / "x")
    script = by_script(place, folder)
    memory = Memory()
    place.sandbox.inject(Fault("UpsertBucket", "status", status=400))
    with pytest.raises(OutboxError, match="bad request"):
        place.deliver(folder, memory)
    assert memory.contacts == [script]
    place.sandbox.clear_faults()
    assert place.deliver(folder, memory).run_id == script
    assert [run.id for run in place.sandbox.runs()] == [script]


def test_a_run_that_left_its_own_directory_in_the_folder_is_the_same(place: Place) -> None:
    """Called from within the folder, the script leaves ``wandb/`` there: that says which run it is, too."""
    folder = llm_tts_folder(place.root / "x")
    script = by_script(place, folder, str(folder), folder)
    receipt = place.deliver(folder)
    assert (receipt.run_id, receipt.name) == (script, NAME)
    assert [run.id for run in place.sandbox.runs()] == [script]
