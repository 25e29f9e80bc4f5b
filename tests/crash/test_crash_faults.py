"""The fault matrix: whatever goes wrong between us and the server, all is delivered once, and ``uploaded`` never lies."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crash_cells import ACTIONS, MEANINGLESS, OPERATIONS, Cell, Outcome, matrix, run_cell, run_cells_in_one_life
from crash_parallel import side_by_side
from crash_rig import LONG, opened_rig, report, wait_for

from wandb_outbox.sandbox import Fault, Sandbox

TELLING = {
    # One of each kind of trouble, at the place where it does the most harm. What hits our own first question stands
    # first, where the daemon begins.
    "a": (
        Cell("401", "viewer"), Cell("refuse", "commit", once=False, seconds=2.0), Cell("409", "upsert"),
        Cell("cut", "read-back"),
    ),
    "b": (Cell("429", "viewer"), Cell("slow", "commit"), Cell("html", "upsert"), Cell("lost-reply", "commit")),
    "c": (Cell("500", "viewer"), Cell("reset", "put"), Cell("lost-reply", "upsert"), Cell("403", "artifact")),
}  # fmt: skip
LASTING = tuple(
    Cell(action, operation, once=False, rate=0.3, seconds=60.0)
    for action, operation in (
        ("reset", "put"), ("500", "upsert"), ("429", "viewer"), ("html", "artifact"), ("lost-reply", "commit"),
        ("cut", "files"), ("slow", "put"), ("reset", "file_stream"), ("500", "read-back"), ("404", "read-back"),
    )
)  # fmt: skip


pytestmark = pytest.mark.timeout(3600 if LONG else 180)


def run_cells(cells: tuple[Cell, ...] | list[Cell], top: Path, *, at_a_time: int) -> list[Outcome]:
    """Run these cells, so many at a time; they mostly wait."""
    with ThreadPoolExecutor(at_a_time) as pool:
        return list(pool.map(lambda cell: run_cell(cell, top / cell.name), cells))


def judge(outcomes: list[Outcome]) -> None:
    """Every fault hit something, and nothing was wrong."""
    table = "\n".join(outcome.line() for outcome in outcomes)
    print(table)  # noqa: T201  for whom reads the long run's output
    assert [each for outcome in outcomes for each in outcome.complaints] == [], table
    assert [outcome.cell.name for outcome in outcomes if not outcome.hits] == [], table


@pytest.mark.parametrize("cells", sorted(TELLING))
@side_by_side
def test_telling_cells(tmp_path: Path, cells: str) -> None:
    """A dozen faults, each at its worst place: delivered once, byte for byte, and no ``uploaded`` before its time."""
    judge(run_cells_in_one_life(TELLING[cells], tmp_path))


@pytest.mark.skipif(not LONG, reason="the long version: make torture")
@side_by_side
def test_whole_matrix(tmp_path: Path) -> None:
    """Every fault at every place, once and for eight seconds: delivered once, and no ``uploaded`` before its time."""
    began = time.monotonic()
    outcomes = run_cells(matrix(), tmp_path, at_a_time=14)
    report(
        "fault matrix", cells=len(outcomes), meaningless=len(MEANINGLESS) * 2,
        complaints=sum(bool(outcome.complaints) for outcome in outcomes), seconds=round(time.monotonic() - began),
    )  # fmt: skip
    judge(outcomes)


@pytest.mark.skipif(not LONG, reason="the long version: make torture")
@side_by_side
def test_lasting_faults(tmp_path: Path) -> None:
    """Ten faults that hit three requests in ten for a minute, while folders keep coming."""
    began = time.monotonic()
    outcomes = run_cells(LASTING, tmp_path, at_a_time=5)
    report(
        "faults for 60 s at 30 %", cells=len(outcomes), hits=sum(outcome.hits for outcome in outcomes),
        complaints=sum(bool(outcome.complaints) for outcome in outcomes), seconds=round(time.monotonic() - began),
    )  # fmt: skip
    judge(outcomes)


@side_by_side
def test_called_deleted_but_there(tmp_path: Path) -> None:
    """A 409 for a run that an interrupted upload has left makes no second one: a new id is for runs that are gone."""
    with Sandbox() as server, opened_rig(tmp_path / "rig", server) as rig:
        rig.orders([{"id": "die", "step": "send.content-sent", "kill": "self"}])
        rig.add()
        rig.start()
        wait_for(rig.carried_out, "the death of the uploader")
        assert len(server.runs()) == 1
        server.inject(Fault("UpsertBucket", "status", status=409, times=1))
        assert rig.finish() == []
        assert [each.fault for each in server.requests if each.fault] == ["status"]


def test_the_matrix_is_whole() -> None:
    """Every pair of action and operation is either run, both once and for a while, or listed as meaningless."""
    run = {(cell.action, cell.operation, cell.once) for cell in matrix()}
    pairs = {(action, operation) for action in ACTIONS for operation in OPERATIONS}
    assert {(action, operation) for action, operation, _ in run} | MEANINGLESS.keys() == pairs
    assert len(run) == 2 * (len(pairs) - len(MEANINGLESS))
