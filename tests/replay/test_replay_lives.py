"""Recorded lives against the live daemon: each must be found finished, once, and not before it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import replay_lives as lives
from replay_script import Life
from replay_theatre import Theatre

NAMES: Mapping[str, Life] = {
    "normal": lives.normal(0.4),
    "killed": lives.killed(0.4),
    "killed in silence": lives.killed_in_silence(),
    "killed with nothing": lives.killed_with_nothing(),
    "raised": lives.raised(),
    "resumed in grace": lives.resumed_in_grace(),
    "resumed after verdict": lives.resumed_after_verdict(),
    "resumed and killed": lives.resumed_and_killed(),
    "resumed with stale metrics": lives.resumed_with_stale_metrics(),
    "guide shaped": lives.guide_shaped(),
    "half written": lives.half_written(),
    "half written without log": lives.half_written_without_log(),
    "lingers": lives.lingers(),
    "child outlives": lives.child_outlives(),
    "child outlives a kill": lives.child_outlives_a_kill(),
    "moved in": lives.moved_in(),
    "moved in with parents": lives.moved_in_with_parents(),
    "renamed while written": lives.renamed("seen"),
    "renamed while queued": lives.renamed("queued"),
    "copied by rsync": lives.copied_by_rsync(),
    "unpacked": lives.unpacked(),
    "hard linked": lives.hard_linked(),
    "eight levels": lives.eight_levels(),
    "late hydra": lives.late_hydra(),
    "changed while queued": lives.changed_while_queued(),
    "remade": lives.remade(),
    "deleted": lives.deleted(),
    **lives.nested(),
}


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """All recorded lives, played at the same time before one daemon; nobody listens, so they stay queued."""
    top = tmp_path_factory.mktemp("lives")
    (top / "outputs" / "inner").mkdir(parents=True)
    with Theatre(top, roots=("outputs", "outputs/inner")) as opened:
        opened.start_daemon()
        opened.play(NAMES)
        opened.wait_for_end(seconds=40)
        yield opened


@pytest.mark.parametrize("name", NAMES)
def test_a_life_is_found_finished_once_and_not_before_it_is(theatre: Theatre, name: str) -> None:
    """A recorded life ends in the outbox as it must, and was never taken for finished before."""
    if report := theatre.report(name):
        pytest.fail(report)
