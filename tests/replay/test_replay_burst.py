"""Many folders at once: no event of a new directory may be lost for good."""

from __future__ import annotations

from pathlib import Path

import pytest
import replay_lives as lives
from replay_theatre import Theatre, Timing

FOLDERS = 500


def test_a_burst_of_new_folders_loses_none(tmp_path: Path) -> None:
    """``mkdir -p`` and all files at once, 500 times over: each folder is found by its events, once, with all it holds."""
    with Theatre(tmp_path) as theatre:
        theatre.start_daemon()
        theatre.play({"burst": lives.burst(FOLDERS)})
        theatre.wait_for_end(seconds=50)
        if report := theatre.report():
            pytest.fail(report)


def test_a_burst_is_found_by_the_rescan_alone(tmp_path: Path) -> None:
    """The same where no events come at all: the rescan finds every folder, once."""
    with Theatre(
        tmp_path, Timing(rescan=2.0, seen=60.0), settings=f'[[roots]]\npath = "{tmp_path}/outputs"\npolling = true\n'
    ) as theatre:
        theatre.start_daemon()
        theatre.play({"burst": lives.burst(FOLDERS // 5), "killed": lives.killed(0.2), "normal": lives.normal(0.2)})
        theatre.wait_for_end(seconds=50)
        if report := theatre.report():
            pytest.fail(report)
