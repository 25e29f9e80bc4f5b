"""Clocks that jump by a day and by ten years, both ways: nothing is hurried, nothing waits for ever, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_outbox.deliver.gate import Gate, after_answer
from wandb_outbox.deliver.probe import Answer, ServerState
from wandb_outbox.detect.completion import CONFIRM, Look, Patience, advance, judge
from wandb_outbox.errors import UploaderCrashed
from wandb_outbox.model import FileStat, FormatEvidence, Judgement, Kind, Snapshot, Verdict, WriterEvidence, Writers
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
from wandb_outbox.outbox.store import Store

NOW = 1_764_757_800.0
DAY = 86_400.0
JUMPS = (-10 * 365 * DAY, -DAY, DAY, 10 * 365 * DAY)
FREE = WriterEvidence(Writers.FREE, "nobody")
PATIENCE = Patience(settle=10.0, crash_grace=60.0, stalled_after=21_600.0)


def snapshot_at(when: float) -> Snapshot:
    """A folder that was last changed then."""
    ns = int(when * 1e9)
    return Snapshot((FileStat("results.json", 10, ns, ns, 1),), (), birth="1:1", newest_ctime_ns=ns)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give an outbox with one queued folder, as of :data:`NOW`."""
    state_dir = StateDir(str(tmp_path / "state"))
    prepare_state_dir(state_dir)
    opened = Store.open(state_dir)
    run = opened.add(path="/o/run", root="/o", kind=Kind.FOLDER, format="plain", birth="1:1", site="s", now=NOW)
    assert opened.enqueue(run.key, Judgement(Verdict.COMPLETE, "done"), snapshot_at(NOW), now=NOW)
    yield opened
    opened.close()


@pytest.mark.parametrize("jump", JUMPS)
def test_a_folder_settles_in_its_own_time(jump: float) -> None:
    """A folder is complete after settle and two looks by our own count, however the wall clock jumps in between."""
    done = FormatEvidence(done="metrics.json is there")
    trace = advance(None, Look(100.0, snapshot_at(NOW - 1), FREE))
    assert judge(trace, done, PATIENCE, now=NOW, reopened=False).verdict is Verdict.SETTLING
    # The clock is set back: the last change lies in the future. Set forward: it looks old, but two looks are needed.
    trace = advance(trace, Look(100.0 + CONFIRM / 2, snapshot_at(NOW - 1), FREE))
    assert judge(trace, done, PATIENCE, now=NOW + jump, reopened=False).verdict is Verdict.SETTLING
    trace = advance(trace, Look(100.0 + PATIENCE.settle, snapshot_at(NOW - 1), FREE))
    assert judge(trace, done, PATIENCE, now=NOW + jump, reopened=False).verdict is Verdict.COMPLETE


@pytest.mark.parametrize("jump", JUMPS)
def test_a_writer_is_never_outwaited(jump: float) -> None:
    """No jump makes a folder complete that somebody writes to."""
    busy = WriterEvidence(Writers.WRITER, "pid 7")
    trace = advance(advance(None, Look(1.0, snapshot_at(NOW), busy)), Look(100.0, snapshot_at(NOW), busy))
    found = judge(trace, FormatEvidence(done="done"), PATIENCE, now=NOW + jump, reopened=False)
    assert found.verdict is Verdict.WRITING


@pytest.mark.parametrize("jump", JUMPS)
def test_an_attempt_never_waits_for_ever(store: Store, jump: float) -> None:
    """After a jump either way a waiting attempt is due at the latest after its own wait, and once only."""
    run = store.claim("c:1", now=NOW, suspects=False)
    assert run is not None
    error = UploaderCrashed("it died")
    assert store.put_back(run.key, "c:1", error, now=NOW, next_attempt_at=NOW + 3600, used=True, suspect=False)
    assert store.claim("c:1", now=NOW + 1, suspects=False) is None
    assert store.claim("c:1", now=NOW + jump, suspects=False) is not None
    assert store.claim("c:1", now=NOW + jump, suspects=False) is None


@pytest.mark.parametrize("jump", JUMPS)
def test_claims_of_a_dead_executor_come_back_whatever_the_clock_says(store: Store, jump: float) -> None:
    """Recovery goes by the executor's epoch: no clock decides whose claim it is."""
    assert store.claim("boot:1", now=NOW, suspects=False) is not None
    assert store.recover("boot:1", now=NOW + jump) == 0
    assert store.recover("boot:2", now=NOW + jump) == 1
    assert store.claim("boot:2", now=NOW + jump, suspects=False) is not None


def test_a_queue_from_the_future_is_delivered(store: Store) -> None:
    """A row that was completed "in ten years", before the clock was put right, is claimed like any other."""
    ahead = NOW + 10 * 365 * DAY
    run = store.add(path="/o/later", root="/o", kind=Kind.FOLDER, format="plain", birth="2:2", site="s", now=ahead)
    store.enqueue(run.key, Judgement(Verdict.COMPLETE, "done"), snapshot_at(ahead), now=ahead)
    first, second = (store.claim("c:1", now=NOW, suspects=False) for _ in range(2))
    assert first is not None
    assert second is not None
    assert {first.path, second.path} == {"/o/run", "/o/later"}


def test_the_gate_knows_no_wall_clock() -> None:
    """The wait for a server that is down is a number of ticks, which no clock can lengthen."""
    gate = after_answer(Gate(), Answer(ServerState.OFFLINE, "down"), now=50.0, chance=0.5)
    assert 50.0 < gate.next_probe <= 51.0
