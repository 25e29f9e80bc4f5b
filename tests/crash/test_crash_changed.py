"""Folders that change at every step of their own upload: what was sent then is called nothing, and the rest goes by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_folders import change_folder
from crash_parallel import side_by_side
from crash_rig import opened_rig, wait_for

from wandb_outbox.sandbox import Sandbox

pytestmark = pytest.mark.timeout(180)
STEPS = ("send.planned", "send.identified", "send.opened", "send.content-sent", "send.artifact-committed")
"""All that come before the folder is compared with what it was."""


def evaluate_anew(folder: Path) -> None:
    """Results and metrics are replaced, as by a script that evaluates again."""
    change_folder(folder, 1)


def add_a_file(folder: Path) -> None:
    """Something more comes."""
    (folder / "late.txt").write_text("late\n")


def take_a_file(folder: Path) -> None:
    """Something goes."""
    (folder / "notes.txt").unlink()


def rewrite_in_secret(folder: Path) -> None:
    """Other bytes of the same length in place, and the time put back, as ``rsync --inplace -t`` does."""
    file = folder / "notes.txt"
    info = file.stat()
    with file.open("r+b") as stream:
        stream.write(file.read_bytes().swapcase())
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))


CHANGES: tuple[Callable[[Path], None], ...] = (evaluate_anew, add_a_file, take_a_file, rewrite_in_secret)


@side_by_side
def test_folders_that_change_while_they_are_uploaded(tmp_path: Path) -> None:
    """Every kind of change at every step: never ``uploaded`` with the old content, then once, byte for byte, in one run."""
    with Sandbox() as server, opened_rig(tmp_path / "rig", server) as rig:
        waiting: dict[Path, tuple[Path, Callable[[Path], None]]] = {}
        orders = []
        cells = [(step, change) for step in STEPS for change in CHANGES]
        for (step, change), folder in zip(cells, rig.add(len(cells)), strict=True):
            (folder / "notes.txt").write_text(f"Notes of {folder.name}.\n")
            place = tmp_path / "pauses" / folder.name
            place.mkdir(parents=True)
            waiting[place] = folder, change
            orders.append({"id": folder.name, "step": step, "path": folder.name, "pause": str(place)})
        rig.orders(orders)
        rig.start()

        def change_who_waits() -> bool:
            for place, (folder, change) in list(waiting.items()):
                for held in place.glob("*.held"):
                    change(folder)
                    held.unlink()
                    del waiting[place]
            return not waiting

        wait_for(change_who_waits, "all uploads to reach their step", 120)
        assert rig.finish(contents=None) == []
        folders = sorted(map(str, rig.folders.values()))
        assert sorted(event["path"] for event in rig.events("changed-while-uploading")) == folders
        assert sorted(event["path"] for event in rig.events("uploaded")) == folders
        assert {row["attempts"] for row in rig.rows()} == {1}
