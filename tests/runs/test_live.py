"""Folders of runs that were logged live: attached to that run, which keeps everything that it has."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from children import until
from live_runs import STEPS, log_live, stay_live
from offline_runs import made
from runs_makers import Memory, Place, artifact_of, bytes_on_disk, bytes_on_server, llm_tts_folder, stats_of

from wandb_outbox.deliver.attach import There, noted, own_part
from wandb_outbox.errors import FolderChanged, Held
from wandb_outbox.folder import snapshot
from wandb_outbox.model import PlanRequest, RootRules
from wandb_outbox.plan import make_plan
from wandb_outbox.sandbox import RunView

pytest_plugins = ("runs_fixtures",)


def assert_untouched(before: RunView, after: RunView) -> None:
    """Nothing that the run had of its own is another now, and it was not opened again."""
    same = ("entity", "project", "id", "display_name", "history", "group", "job_type", "notes", "state", "exit_code")
    for name in (*same, "created_at", "heartbeat_at", "log"):
        assert getattr(after, name) == getattr(before, name), name
    assert {key: value for key, value in after.config.items() if key != "outbox"} == before.config
    assert {key: after.summary[key] for key in before.summary} == before.summary
    assert {name: after.files[name].md5 for name in before.files} == {
        name: view.md5 for name, view in before.files.items()
    }
    assert set(before.tags) <= set(after.tags)


@pytest.mark.parametrize("how", ["0", "3"])
def test_the_folder_is_attached_to_the_run_that_it_logged(place: Place, how: str) -> None:
    """One run: with its own history, name, config and state, and with the folder's artifact, table, files and numbers."""
    folder = llm_tts_folder(place.root / "2025-12-03" / "x")
    (folder / "sample_metrics.jsonl").write_text('{"sample_index": 0, "seconds": 1.5}\n')
    live = log_live(place.sandbox, folder, how)
    before, on_disk = place.run(live), stats_of(place.root)
    memory = Memory()
    receipt = place.deliver(folder, memory)
    (after,) = place.sandbox.runs()
    assert_untouched(before, after)
    assert (receipt.run_id, receipt.name, memory.contacts) == (live, before.display_name, [live])
    assert len(after.history) == STEPS
    artifact = artifact_of(place, receipt)
    assert (artifact.state, artifact.logged_by) == ("COMMITTED", live)
    assert artifact.metadata["provenance"]["run_id"] == live
    assert bytes_on_server(artifact) == bytes_on_disk(folder)
    assert {"results.json", "metrics.json", ".hydra/config.yaml"} <= set(after.files)
    assert after.config["outbox"]["fingerprint"] == receipt.fingerprint
    assert (after.summary["total_samples"], after.summary["exact_match/accuracy"]) == (3, 2 / 3)
    assert {"by-the-run", "by-the-root", "baseline"} <= set(after.tags)
    table = json.loads(after.files[after.summary["samples"]["path"]].path.read_text())  # type: ignore[union-attr]
    assert len(table["data"]) == after.summary["samples"]["nrows"] == 3
    assert after.summary["outbox/delivered"]["fingerprint"] == receipt.fingerprint
    assert stats_of(place.root) == on_disk


def test_delivered_again_it_is_the_same(place: Place) -> None:
    """The next delivery of the same content, with the state or without, sends nothing; another state finds it, too."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder)
    memory = Memory()
    receipt = place.deliver(folder, memory)
    before, sent = place.run(live), len(place.sandbox.requests.of("CreateArtifact"))
    assert place.deliver(folder, memory) == receipt
    assert place.deliver(folder) == receipt
    assert place.deliver(folder, site="another-state").run_id == live
    assert place.run(live) == before
    assert len(place.sandbox.requests.of("CreateArtifact")) == sent


def test_a_changed_folder_is_the_next_version_in_the_same_run(place: Place) -> None:
    """What is ours in the run follows the folder; what is the run's own still stays."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder)
    before, memory = place.run(live), Memory()
    place.deliver(folder, memory)
    (folder / "metrics.json").unlink()
    (folder / "results.json").write_text(json.dumps([{"index": 0, "is_correct": True, "eval": {}, "completed": True}]))
    receipt = place.deliver(folder, memory)
    (after,) = place.sandbox.runs()
    assert_untouched(before, after)
    assert receipt.artifact.endswith(":v1")
    assert after.summary["total_samples"] == 1
    assert after.summary["samples"]["nrows"] == 1
    assert "exact_match/accuracy" not in after.summary
    assert after.files["results.json"].size == (folder / "results.json").stat().st_size


GIF = b"GIF89a\x03\0\x02\0\x80\0\0" + b"\0" * 20


def test_media_of_the_folder_are_shown_in_the_run(place: Place) -> None:
    """What was asked for, byte for byte; it follows the folder, and the run stays closed."""
    folder = llm_tts_folder(place.root / "x")
    (folder / "plots").mkdir()
    (folder / "plots" / "a.gif").write_bytes(GIF)
    (folder / "plots" / "b.gif").write_bytes(GIF)
    (folder / "outbox.yaml").write_text("media: plots\n")
    live = log_live(place.sandbox, folder)
    before, memory = place.run(live), Memory()
    receipt = place.deliver(folder, memory)
    after = place.run(live)
    assert receipt.warnings == ()
    assert_untouched(before, after)
    shown = after.summary["plots/a.gif"]
    assert (shown["_type"], shown["width"], shown["height"]) == ("image-file", 3, 2)
    file = after.files[shown["path"]].path
    assert file is not None
    assert file.read_bytes() == GIF
    assert place.deliver(folder, memory) == receipt
    (folder / "plots" / "b.gif").unlink()
    place.deliver(folder, memory)
    after = place.run(live)
    assert_untouched(before, after)
    assert ("plots/a.gif" in after.summary, "plots/b.gif" in after.summary) == (True, False)


def test_media_of_the_run_win(tmp_path: Path) -> None:
    """A key or a file that the run has of its own is not exchanged, and the receipt says so."""
    folder = llm_tts_folder(tmp_path / "x")
    for name in ("a.gif", "b.gif", "c.gif"):
        (folder / name).write_bytes(GIF)
    request = PlanRequest(str(folder), None, "llm-tts", "id", "site", rules=RootRules(media=("*.gif",)))
    plan = make_plan(request, snapshot(str(folder)))
    there = There("id", "finished", {}, {"a.gif": 1}, {"media/images/b.gif": 5})
    own = own_part(plan, there)
    assert [shown.key for shown in own.media] == ["c.gif"]
    assert "the run has a.gif, b.gif of its own" in own.warnings[-1].message
    again = There("id", "finished", {}, {"outbox/delivered": noted(plan, there), "b.gif": 2}, there.files)
    assert [shown.key for shown in own_part(plan, again).media] == ["a.gif", "b.gif", "c.gif"]


def test_numbers_of_the_run_win(place: Place) -> None:
    """Where both say something, the run's own value stays, and the receipt says so."""
    folder = place.root / "x"
    live = log_live(place.sandbox, folder)
    (folder / "metrics.json").write_text(json.dumps({"final": 0.75, "loss": 1 / STEPS, "f1": 0.9}))
    receipt = place.deliver(folder)
    run = place.run(live)
    assert (run.summary["final"], run.summary["f1"]) == (0.5, 0.9)
    (told,) = [warning for warning in receipt.warnings if warning.startswith("live-run-differs")]
    assert "for final (1 keys)" in told


def test_files_of_the_run_win(place: Place) -> None:
    """A run file that the run has of its own is not written over by one of the folder."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder)
    (folder / "candidates.json").write_text("[1]")
    before = place.run(live)
    (folder / "output.log").write_text("another console")
    place.deliver(folder)
    assert_untouched(before, place.run(live))
    assert place.run(live).files["candidates.json"].size == 3


def test_a_run_that_still_runs_is_waited_for(place: Place) -> None:
    """It is held with the time to ask again; when it has ended it is attached; a person need not wait."""
    folder = llm_tts_folder(place.root / "x")
    process, live = stay_live(place.sandbox, folder)
    try:
        with pytest.raises(Held, match=f"{live} that it logged itself is running") as held:
            place.deliver(folder)
        assert held.value.look_again_in
        assert "outbox" not in place.run(live).config
        assert place.deliver(folder, insisted=True).run_id == live
    finally:
        process.communicate()
    assert place.run(live).state == "finished"
    before = place.run(live)
    place.deliver(folder)
    (after,) = place.sandbox.runs()
    assert (after.state, after.history) == ("finished", before.history)
    assert after.summary["total_samples"] == 3


def test_a_run_that_is_not_ours_is_held(place: Place) -> None:
    """In another entity, deleted, or with another folder attached: the reason says which, and a person may send it."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder, entity="team")
    with pytest.raises(Held, match="in the entity team, and this root delivers to sandbox") as held:
        place.deliver(folder)
    assert held.value.look_again_in is None
    assert "set `entity = 'team'`" in held.value.hint
    assert place.deliver(folder, entity="team").run_id == live


def test_a_deleted_run_is_held_and_then_sent_as_one_of_its_own(place: Place) -> None:
    """What is not there cannot be attached to; released it becomes a run of its own, and stays that."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder)
    place.sandbox.delete_run("sandbox", "live", live)
    with pytest.raises(Held, match="is not in sandbox/live: it was deleted"):
        place.deliver(folder)
    memory = Memory()
    receipt = place.deliver(folder, memory, insisted=True)
    assert (receipt.project, receipt.name) == ("llm-tts-eval-gsm8k", "baseline_qwen3-8b_vllm")
    assert place.deliver(folder) == receipt  # found again without the state
    (folder / "more.txt").write_text("more")
    assert place.deliver(folder, memory).run_id == receipt.run_id
    assert [run.id for run in place.sandbox.runs()] == [receipt.run_id]


def test_a_copy_does_not_take_the_run_of_another_folder(place: Place) -> None:
    """A copied folder brings the log along; with another content it is another experiment, and a person decides."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder)
    place.deliver(folder)
    before = place.run(live)
    copy = place.root / "copy"
    shutil.copytree(folder, copy, symlinks=True)
    (copy / "results.json").write_text("[]")
    with pytest.raises(Held, match="has another folder attached to it"):
        place.deliver(copy)
    assert place.run(live) == before
    assert place.deliver(copy, insisted=True).run_id != live
    assert place.run(live) == before


def test_a_log_that_cannot_be_read_is_held(place: Place) -> None:
    """Which run it is, is not known for sure: nothing is sent twice by guessing."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder)
    (log,) = folder.glob("wandb/run-*/*.wandb")
    os.truncate(log, 5)
    with pytest.raises(Held, match=f"{live} that it logged itself is not known well enough"):
        place.deliver(folder)


def test_a_live_run_newer_than_an_offline_one_carries_the_folder(place: Place) -> None:
    """The offline run arrives as a run of its own, and the folder goes to the live one."""
    folder = llm_tts_folder(place.root / "x")
    made().into(folder)
    live = log_live(place.sandbox, folder)
    receipt = place.deliver(folder)
    assert receipt.run_id == live
    assert {run.id: len(run.history) for run in place.sandbox.runs()} == {live: STEPS, made().run_id: 200}


@pytest.mark.parametrize("place", [2.0], indirect=True)
def test_a_vanished_process_leaves_a_crashed_run(place: Place) -> None:
    """The run was killed with its process: the server calls it crashed in time, and then it is attached as it is."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder, "vanish")
    until(lambda: place.run(live).state == "crashed", what="the end of the server's patience")
    before = place.run(live)
    place.deliver(folder)
    assert_untouched(before, place.run(live))


def test_a_folder_that_changes_meanwhile_is_not_called_delivered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run keeps its state; the next look sends the folder as it is then."""
    folder = llm_tts_folder(place.root / "x")
    live = log_live(place.sandbox, folder)
    before = place.run(live)
    memory = Memory()

    def contact(run: str, incarnation: int) -> None:
        (folder / "late.txt").write_text("late")
        Memory.contact(memory, run, incarnation)

    changing = replace(memory)
    changing.contact = contact  # type: ignore[method-assign]
    with pytest.raises(FolderChanged):
        place.deliver(folder, changing)
    assert "fingerprint" not in place.run(live).summary["outbox/delivered"]
    receipt = place.deliver(folder, memory)
    assert set(artifact_of(place, receipt).files) >= {"late.txt"}
    assert_untouched(before, place.run(live))
