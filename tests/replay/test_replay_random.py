"""Random lives, many at a time before one daemon: none taken early, none missed, none doubled, every crash found.

``REPLAY_LIVES`` says how many (200 and more in ``make replay``), ``REPLAY_SEED`` which.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median

import pytest
from replay_random import draw, life_of
from replay_theatre import Theatre, Timing

LIVES = int(os.environ.get("REPLAY_LIVES", "60"))
SEED = int(os.environ.get("REPLAY_SEED", "3"))
AT_A_TIME = 100


def test_random_lives_are_found_finished_once_and_not_before_they_are(tmp_path: Path) -> None:
    """Whatever a run does and however it ends, the daemon's verdict is right, not early, and given once."""
    stories = draw(LIVES, SEED)
    with Theatre(tmp_path, Timing(rescan=2.0)) as theatre:
        theatre.start_daemon()
        for first in range(0, len(stories), AT_A_TIME):
            batch = {
                f"{number:03}": life_of(stories[number], f"outputs/{number % 7}/life-{number:03}")
                for number in range(first, min(first + AT_A_TIME, len(stories)))
            }
            theatre.play(batch)
            theatre.wait_for_end(list(batch), seconds=60)
        if report := theatre.report():
            pytest.fail(f"seed {SEED}\n{report}")
        well, crashed = theatre.latencies(crashed=False), theatre.latencies(crashed=True)
        print(f"{len(well)} ended well, {len(crashed)} crashed, median {median(well):.2f} and {median(crashed):.2f} s")
