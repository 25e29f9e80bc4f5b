"""A folder that outboxes of different sites take up in turn: containers without a lasting state, a service and a person."""

from __future__ import annotations

import pytest
from opened_runs import remember_opened
from runs_makers import Memory, Place, artifact_of, bytes_on_disk, bytes_on_server, llm_tts_folder

from wandb_outbox.deliver import send
from wandb_outbox.errors import NotVerified
from wandb_outbox.sandbox import Fault

pytest_plugins = ("runs_fixtures",)


def test_whoever_takes_up_a_folder_takes_up_its_run(place: Place) -> None:
    """Each finds what the other left, whether it has a record of its own or not: one run, and a version for each content."""
    folder = llm_tts_folder(place.root / "x")
    first, second = Memory(), Memory()
    run = place.deliver(folder, first, site="first").run_id
    assert place.deliver(folder, second, site="second").run_id == run
    assert place.deliver(folder, first, site="first").run_id == run
    (folder / "results.json").write_text("[]")
    assert place.deliver(folder, first, site="first").run_id == run
    last = place.deliver(folder, second, site="second")
    assert last.run_id == run
    assert [each.id for each in place.sandbox.runs()] == [run]
    assert bytes_on_server(artifact_of(place, last)) == bytes_on_disk(folder)


def test_what_one_had_begun_another_finishes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outbox that was killed in the middle, and comes back after another has finished its work, makes no second run."""
    monkeypatch.setattr(send, "READ_BACK_FOR", 0.3)
    opened = remember_opened(monkeypatch)
    folder = llm_tts_folder(place.root / "x")
    first = Memory()
    place.sandbox.inject(Fault("RunFiles", "status", status=404))
    with pytest.raises(NotVerified):
        place.deliver(folder, first, site="first")
    place.sandbox.clear_faults()
    assert len(opened) == 1
    run = place.deliver(folder, Memory(), site="second").run_id
    assert place.deliver(folder, first, site="first").run_id == run
    assert [each.id for each in place.sandbox.runs()] == [run]
