"""One bad folder never stops the others: it is found, blamed alone, and given up; a hung SDK is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_check import complaints_about_processes
from crash_parallel import side_by_side
from crash_rig import LONG, Order, Rig, opened_rig, wait_for

from wandb_outbox.sandbox import Sandbox

pytestmark = pytest.mark.timeout(3600 if LONG else 180)


@contextlib.contextmanager
def one_rig(top: Path, attempts: int) -> Iterator[Rig]:
    """A machine with seven good folders and one bad one, which gives up after so many attempts."""
    with Sandbox() as server, opened_rig(top / "rig", server, WANDB_OUTBOX_MAX_ATTEMPTS=str(attempts)) as opened:
        opened.add(8)
        yield opened


def bad(rig: Rig) -> str:
    """The bad folder, below the outputs: one in the middle, so that others come before and after it."""
    return sorted(rig.folders)[3]


def end_of_all(rig: Rig, given: int) -> None:
    """Wait until all are at their ends: seven delivered, at the cost of no attempt, and the bad one given up."""
    path = bad(rig)

    def look() -> bool:
        rig.keep_up()
        return rig.states() == {each: "failed" if each == path else "uploaded" for each in rig.folders}

    wait_for(look, f"the end of all:\n{rig.log()}", 90)
    attempts = {str(Path(row["path"]).relative_to(rig.outputs)): row["attempts"] for row in rig.rows()}
    assert attempts == {each: given if each == path else 1 for each in rig.folders}
    assert rig.stop() == 0
    wait_for(lambda: not complaints_about_processes(rig.state), "the end of the uploader", 5)
    # The bad one never came to its end: judge the others, of which nothing may be missing or doubled.
    del rig.folders[path]
    assert [each for each in rig.complaints() if "belongs to no folder" not in each] == []


@pytest.mark.parametrize("step", ["send.planned", "send.content-sent"] if LONG else ["send.content-sent"])
@side_by_side
def test_poison_folder(tmp_path: Path, step: str) -> None:
    """A folder that kills its uploader each time is ``failed`` after its attempts; what shared the process goes through."""
    with one_rig(tmp_path, 3) as rig:
        poison: Order = {"id": "poison", "step": step, "path": bad(rig), "always": True, "kill": "self"}
        rig.orders([poison])
        rig.start()
        end_of_all(rig, 3)
        (row,) = [row for row in rig.rows() if row["state"] == "failed"]
        assert row["error_class"] == "UploaderCrashed"
        shared = [event for event in rig.events("put-back") if not event["attempt_used"]]
        assert len(shared) > 1, "the poison one was alone from the beginning: nothing was shown"


@side_by_side
def test_hung_upload(tmp_path: Path) -> None:
    """An upload that shows no progress is ended with its process, blamed when the server is there, and others go on."""
    with one_rig(tmp_path, 2) as rig:
        stall: Order = {
            "id": "stall", "step": "executor.locked", "always": True, "set": {"wandb_outbox.deliver.deliver:STALL": 8.0}
        }  # fmt: skip
        hang: Order = {
            "id": "hang", "step": "send.opened", "path": bad(rig), "always": True, "pause": str(rig.top / "held")
        }  # fmt: skip
        rig.orders([stall, hang])
        rig.start()
        end_of_all(rig, 2)
        (row,) = [row for row in rig.rows() if row["state"] == "failed"]
        assert "no progress" in row["error_message"]
