"""Random lives, many at a time before one daemon: none taken early, none missed, none doubled, every crash found.

``REPLAY_LIVES`` says how many (250 in ``make soak``), ``REPLAY_SEED`` which.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from replay_random import draw, life_of
from replay_theatre import Theatre, Timing

from wandb_outbox.model import State
from wandb_outbox.sandbox import Sandbox

LIVES = int(os.environ.get("REPLAY_LIVES", "60"))
SEED = int(os.environ.get("REPLAY_SEED", "3"))
AT_A_TIME = 100


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    """The server of the delivered lives."""
    with Sandbox() as opened:
        yield opened


@pytest.fixture(scope="module")
def theatres(tmp_path_factory: pytest.TempPathFactory, server: Sandbox) -> Iterator[tuple[Theatre, Theatre]]:
    """Two daemons, all lives played: with nobody to deliver to, and (a fifth as many) with a server."""
    with (
        Theatre(tmp_path_factory.mktemp("queued"), Timing(rescan=2.0)) as queued,
        Theatre(tmp_path_factory.mktemp("delivered"), Timing(rescan=1.0), server=server.environment()) as delivered,
    ):
        plays = (queued, draw(LIVES, SEED), False), (delivered, draw(max(1, LIVES // 5), SEED + 1), True)
        for theatre, _, _ in plays:
            theatre.start_daemon()
        for first in range(0, LIVES, AT_A_TIME):
            for theatre, stories, uploads in plays:
                theatre.play(
                    {
                        f"{number:03}": life_of(story, f"outputs/{number % 7}/life-{number:03}", delivered=uploads)
                        for number, story in list(enumerate(stories))[first : first + AT_A_TIME]
                    }
                )
            for theatre, _, _ in plays:
                theatre.wait_for_end(seconds=90)
        yield queued, delivered


def test_random_lives_are_found_finished_once_and_not_before_they_are(theatres: tuple[Theatre, Theatre]) -> None:
    """Whatever a run does and however it ends, the daemon's verdict is right, not early, and given once."""
    queued, _ = theatres
    if report := queued.report():
        pytest.fail(f"REPLAY_SEED={SEED}\n{report}")
    found = {crashed: sorted(queued.latencies(crashed=crashed)) for crashed in (False, True)}
    # Chance must have made enough of both.
    assert min(map(len, found.values())) > LIVES / 5
    for crashed, waits in found.items():
        sys.stdout.write(
            f"\n{len(waits)} {'crashed' if crashed else 'finished'} lives of {LIVES} (seed {SEED}), from the last writer's end "
            f"to queued: median {statistics.median(waits):.2f} s, 95 % {waits[int(len(waits) * 0.95)]:.2f} s, "
            f"longest {waits[-1]:.2f} s; settle {queued.timing.settle:g} s, crash_grace {queued.timing.grace:g} s\n"
        )


def test_random_lives_are_delivered_as_they_are_at_their_end(
    theatres: tuple[Theatre, Theatre], server: Sandbox
) -> None:
    """With a server, what is uploaded last is the last content, in one run, however often it changed before."""
    _, delivered = theatres
    if report := delivered.report():
        pytest.fail(f"REPLAY_SEED={SEED}\n{report}")
    rows = delivered.rows()
    runs = {run.id: run for run in server.runs()}
    assert len(runs) == len([row for row in rows if row.contacted])
    versions = {f"{each.name}:{each.version}": each for each in server.artifacts() if each.name.startswith("outputs-")}
    for row in rows:
        if row.state is State.UPLOADED:
            artifact = versions[[name for name in runs[row.run_id].logged_artifacts if name in versions][-1]]
            assert artifact.state == "COMMITTED"
            assert {name: digest(view.path) for name, view in artifact.files.items()} == {
                str(file.relative_to(row.path)): digest(file) for file in Path(row.path).rglob("*") if file.is_file()
            }


def digest(file: Path | None) -> str:
    """A hash of what is in a file."""
    assert file is not None
    return hashlib.sha256(file.read_bytes()).hexdigest()
