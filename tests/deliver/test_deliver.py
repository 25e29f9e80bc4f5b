"""One step of delivery after the other: what is claimed, what follows from each answer, and who is blamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deliver_makers import StandIn, job

from wandb_outbox.deliver.deliver import FIRST_RETRY, IDLE, LOOK_CAP, PROBE_STALL, SMALL, STALL, Deliverer, Limits
from wandb_outbox.deliver.gate import DISK_PROBE
from wandb_outbox.deliver.probe import ServerState
from wandb_outbox.deliver.protocol import error_to_json
from wandb_outbox.errors import (
    DiskFull,
    Elsewhere,
    FolderChanged,
    Held,
    NotVerified,
    Offline,
    OutboxError,
    Rejected,
    RunDeleted,
    Throttled,
    Unauthorized,
    UploaderCrashed,
)
from wandb_outbox.folder import FolderGone
from wandb_outbox.model import FileStat, Judgement, Kind, Overrides, Run, Snapshot, State, Verdict, run_id
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
from wandb_outbox.outbox.store import Store

NOW = 1_764_756_000.0
CLAIM = "boot:1"


class Bench:
    """A store, a stand-in uploader, and a deliverer between them, with both clocks in hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sink = StandIn()
        self.tick = 1000.0
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.changed: list[str] = []
        self.uploaded: list[str] = []
        self.writers: dict[str, str] = {}
        """Who writes to a folder, by its path."""
        self.deliverer = Deliverer(
            store,
            self.sink,
            Limits(concurrency=2, max_attempts=3),
            claim=CLAIM,
            site="site",
            job_of=job,
            skips_deleted=lambda path: path.endswith("-skip"),
            writer_of=self.writers.get,
            now=lambda: NOW + self.tick,
            tick=lambda: self.tick,
            chance=lambda: 0.0,
            log=lambda event, **fields: self.events.append((event, fields)),
            on_changed=self.changed.append,
            on_rest=self.uploaded.append,
        )

    @property
    def now(self) -> float:
        """The wall clock."""
        return NOW + self.tick

    def queue(self, name: str = "a", *, size: int = 100) -> Run:
        """A finished folder."""
        path = f"/outputs/{name}"
        run = self.store.add(
            path=path, root="/outputs", kind=Kind.FOLDER, format="plain", birth=name, site="site", now=NOW
        )
        content = Snapshot((FileStat("results.json", size, 1, 1, 7),), (), "1:1", 1)
        assert self.store.enqueue(run.key, Judgement(Verdict.COMPLETE, "done"), content, now=NOW + run.key)
        return self.row(run)

    def row(self, run: Run) -> Run:
        """The row as it is now."""
        found = self.store.get(run.key)
        assert found is not None
        return found

    def step(self, seconds: float = 0.0) -> float:
        """Time passes, then one step."""
        self.tick += seconds
        return self.deliverer.step()

    def online(self) -> None:
        """Let the server be there."""
        self.step()
        self.sink.answer("online", entity="team")
        self.step()

    def fly(self, *names: str, size: int = 100) -> list[Run]:
        """Folders in the uploader's hands."""
        runs = [self.queue(name, size=size) for name in names or ("a",)]
        self.online()
        assert {sent.key for sent in self.sink.sent} >= {run.key for run in runs}
        return [self.row(run) for run in runs]

    def fail(self, run: Run, error: OutboxError, **more: Any) -> Run:
        """Let the delivery fail."""
        self.sink.say(**{"is": "error", "key": run.key, **error_to_json(error), **more})
        self.step()
        return self.row(run)

    def confirm(self, run: Run) -> Run:
        """Let the server confirm the delivery."""
        receipt = {
            "run_id": run.run_id, "entity": "team", "project": "p", "name": "n", "url": "https://x", "artifact": "a:v0",
            "digest": "d", "files": 1, "bytes": run.bytes, "fingerprint": run.fingerprint,
            "incarnation": run.incarnation, "warnings": (),
        }  # fmt: skip
        self.sink.say(**{"is": "receipt", "key": run.key, **receipt})
        self.step()
        return self.row(run)

    def states(self) -> list[str]:
        """Where the rows stand, in the order they were seen."""
        return [run.state.value for run in self.store.list()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A deliverer with nothing to do."""
    where = StateDir(str(tmp_path / "state"))
    prepare_state_dir(where)
    store = Store.open(where)
    yield Bench(store)
    store.close()


# -- the good way ----------------------------------------------------------------------------------------------------


def test_nothing_to_send_costs_no_request_and_no_process(bench: Bench) -> None:
    """A month without a finished run."""
    for _ in range(50):
        assert bench.step(3600) == 60.0
    assert (bench.sink.probes, bench.sink.runs()) == (0, False)


def test_the_server_is_asked_before_anything_is_claimed(bench: Bench) -> None:
    """A row leaves the queue only when there is somebody to take it."""
    run = bench.queue()
    bench.step()
    assert (bench.sink.probes, bench.row(run).state) == (1, State.QUEUED)
    bench.step(1)
    assert bench.sink.probes == 1
    bench.sink.answer("online", entity="team")
    bench.step()
    assert [sent.key for sent in bench.sink.sent] == [run.key]
    assert (bench.row(run).state, bench.row(run).claim) == (State.UPLOADING, CLAIM)


def test_a_receipt_makes_it_uploaded(bench: Bench) -> None:
    """Recorded first, then told to the others."""
    (run,) = bench.fly()
    assert bench.confirm(run).state is State.UPLOADED
    assert bench.uploaded == [run.path]
    assert bench.deliverer.under_way == 0
    assert [event for event, _ in bench.events][-1] == "uploaded"


def test_contact_is_allowed_only_when_the_id_is_recorded(bench: Bench) -> None:
    """The outbox knows the run id before the server does."""
    (run,) = bench.fly()
    assert bench.sink.allowed == []
    bench.sink.say(**{"is": "contact", "key": run.key, "run_id": "another", "incarnation": 4})
    bench.step()
    found = bench.row(run)
    assert (found.run_id, found.incarnation, found.contacted) == ("another", 4, True)
    assert bench.sink.allowed == [(run.key, True)]


def test_an_id_that_another_folder_has_is_not_allowed(bench: Bench) -> None:
    """Two folders never go to one run."""
    one, two = bench.fly("a", "b")
    bench.sink.say(**{"is": "contact", "key": two.key, "run_id": one.run_id, "incarnation": 0})
    bench.step()
    assert bench.sink.allowed == [(two.key, False)]
    assert bench.row(two).run_id == two.run_id


def test_what_is_said_of_a_delivery_that_is_over_is_passed_over(bench: Bench) -> None:
    """Late words of any kind change nothing."""
    (run,) = bench.fly()
    done = bench.confirm(run)
    for message in ("contact", "progress", "receipt", "error"):
        bench.sink.say(**{"is": message, "key": run.key})
    bench.sink.say(**{"is": "receipt", "key": 999})
    bench.sink.say(**{"is": "receipt", "key": None})
    bench.step()
    assert bench.row(run) == done


def test_small_deliveries_share_and_large_ones_are_counted(bench: Bench) -> None:
    """Up to eight small ones at a time beside as many large ones as `concurrency` says."""
    for number in range(12):
        bench.queue(f"small-{number}")
    for number in range(4):
        bench.queue(f"large-{number}", size=SMALL)
    bench.online()
    sizes = [bench.store.get(sent.key).bytes for sent in bench.sink.sent]  # type: ignore[union-attr]
    assert (len([size for size in sizes if size < SMALL]), len([size for size in sizes if size >= SMALL])) == (8, 2)
    bench.confirm(bench.row(bench.store.list()[0]))
    assert len(bench.sink.sent) == 11


def test_only_what_a_person_named_is_delivered(bench: Bench) -> None:
    """`upload DIR` does not send the rest of the queue."""
    _, wanted = bench.queue("a"), bench.queue("b")
    bench.deliverer.only = [wanted.key]
    bench.online()
    assert [sent.key for sent in bench.sink.sent] == [wanted.key]


@pytest.mark.parametrize("how", ["paused", "shutting down"])
def test_paused_means_nothing_new(bench: Bench, how: str) -> None:
    """What is under way ends, and is recorded."""
    (run,) = bench.fly()
    bench.queue("b")
    if how == "paused":
        bench.deliverer.paused = True
    else:
        bench.deliverer.accepting = False
    bench.confirm(run)
    bench.step(100)
    assert bench.states() == ["uploaded", "queued"]


def test_an_idle_uploader_is_ended_and_started_again_when_needed(bench: Bench) -> None:
    """It stays warm for a while, and takes no memory for ever."""
    (run,) = bench.fly()
    bench.confirm(run)
    bench.step(IDLE - 1)
    assert bench.sink.runs()
    bench.step(2)
    assert not bench.sink.runs()
    later = bench.queue("b")
    bench.step()
    assert bench.sink.runs()
    assert bench.row(later).state is State.UPLOADING


def test_progress_is_told_for_status(bench: Bench) -> None:
    """What is under way, with bytes sent of all, and nothing when it is over."""
    (run,) = bench.fly(size=1000)
    for total in (5000, 5400):
        bench.sink.say(**{"is": "progress", "key": None, "bytes": total})
        bench.step(1)
    expected = {"id": run.run_id, "path": run.path, "bytes_sent": 400, "bytes_total": 1000}
    assert bench.store.fact("uploads") == [expected]
    bench.sink.say(**{"is": "progress", "key": None, "bytes": 99_999})
    bench.step(1)
    assert bench.store.fact("uploads")[0]["bytes_sent"] == 1000
    bench.confirm(run)
    assert bench.store.fact("uploads") == []


# -- what follows from a failure -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Offline("no route"), ServerState.OFFLINE),
        (Throttled("429", retry_after=77), ServerState.THROTTLED),
        (Unauthorized("401"), ServerState.UNAUTHORIZED),
        (DiskFull("no room"), ServerState.UNKNOWN),
    ],
    ids=lambda value: getattr(type(value), "__name__", ""),
)
def test_a_trouble_of_everybody_pauses_all_and_uses_up_nothing(
    bench: Bench, error: OutboxError, state: ServerState
) -> None:
    """Queued again at once, and nothing is claimed until the server was asked and said yes."""
    (run,) = bench.fly()
    found = bench.fail(run, error)
    assert (found.state, found.attempts) == (State.QUEUED, 0)
    assert (found.next_attempt_at or 0) <= bench.now + FIRST_RETRY
    assert (found.error_class, found.error_message) == (type(error).__name__, error.message)
    assert bench.deliverer.gate.state is state
    assert bench.deliverer.closed
    probes = bench.sink.probes
    bench.step(0.3)
    assert (bench.sink.probes, bench.row(run).state) == (probes, State.QUEUED)
    bench.step(100)
    assert bench.sink.probes == probes + 1
    bench.sink.answer("online")
    bench.step()
    assert bench.row(run).state is State.UPLOADING


def test_a_month_offline_uses_up_no_attempt(bench: Bench) -> None:
    """Hundreds of probes, each answered with nothing: the row waits as on the first day."""
    (run,) = bench.fly()
    bench.fail(run, Offline("no route"))
    for _ in range(300):
        bench.step(600)
        bench.sink.answer("offline")
        bench.step()
    assert (bench.row(run).state, bench.row(run).attempts) == (State.QUEUED, 0)
    assert len(bench.store.attempts(run.key)) == 1


def test_a_folder_that_fails_alone_while_others_are_confirmed_uses_up_its_attempts(bench: Bench) -> None:
    """Storage that refuses one folder for ever is that folder's trouble, and does not pause the rest."""
    (bad,) = bench.fly("bad")
    good = bench.queue("good")
    bench.step(1)
    bench.confirm(bench.row(good))
    found = bench.fail(bad, Offline("broken pipe"))
    assert (found.state, found.attempts) == (State.QUEUED, 1)
    assert bench.deliverer.gate.open


def test_a_folder_that_fails_together_with_others_is_not_to_blame(bench: Bench) -> None:
    """A confirmation of something that was sent before the trouble says nothing of the trouble."""
    early, bad, also_bad = bench.fly("early", "bad", "also-bad")
    bench.tick += 1
    bench.sink.say(**{"is": "progress", "key": bad.key, "stage": "sending"})
    bench.step()
    bench.confirm(early)
    assert bench.fail(also_bad, Offline("reset")).attempts == 0
    assert bench.fail(bad, Offline("reset")).attempts == 0


def test_after_an_outage_one_trial_goes_first(bench: Bench) -> None:
    """The rest follows when it is confirmed: a server that answers and fails every upload gets one at a time."""
    runs = bench.fly("a", "b", "c")
    for run in runs:
        bench.fail(run, Offline("storage"))
    bench.step(100)
    bench.sink.answer("online")
    bench.step()
    assert bench.states().count("uploading") == 1
    (trial,) = [run for run in map(bench.row, runs) if run.state is State.UPLOADING]
    bench.step(1)
    assert bench.states().count("uploading") == 1
    bench.confirm(trial)
    assert sorted(bench.states()) == ["uploaded", "uploading", "uploading"]


@pytest.mark.parametrize("error", [NotVerified("differs"), UploaderCrashed("boom")], ids=lambda e: type(e).__name__)
def test_a_trouble_of_one_folder_uses_up_its_attempts_with_growing_waits(bench: Bench, error: OutboxError) -> None:
    """Then a person looks; the gate stays open for the others all the time."""
    (run,) = bench.fly()
    waits = []
    for attempts in (1, 2):
        found = bench.fail(run, error)
        assert (found.state, found.attempts) == (State.QUEUED, attempts)
        assert found.next_attempt_at is not None
        waits.append(found.next_attempt_at - bench.now)
        bench.step(waits[-1] - 0.5)
        assert bench.row(run).state is State.QUEUED
        bench.step(1)
        assert bench.row(run).state is State.UPLOADING
    assert waits == [pytest.approx(FIRST_RETRY / 2), pytest.approx(FIRST_RETRY)]
    found = bench.fail(run, error)
    assert (found.state, found.attempts, found.error_message) == (State.FAILED, 3, error.message)
    assert bench.deliverer.gate.open
    assert bench.events[-1][0] == "failed"


def test_what_another_executor_delivers_is_asked_after_soon_and_uses_up_nothing(bench: Bench) -> None:
    """With growing waits up to two minutes, however long the other takes; the gate stays open for the others."""
    (run,) = bench.fly()
    for _ in range(9):
        found = bench.fail(run, Elsewhere("another delivers it"))
        assert (found.state, found.attempts, found.reason) == (State.QUEUED, 0, "another delivers it")
        assert found.next_attempt_at is not None
        wait = found.next_attempt_at - bench.now
        bench.step(wait + 0.1)
        assert bench.row(run).state is State.UPLOADING
    assert wait == pytest.approx(LOOK_CAP / 2)
    assert bench.deliverer.gate.open
    assert bench.confirm(run).attempts == 1


def test_rejected_data_fails_at_once(bench: Bench) -> None:
    """Another try would bring the same answer."""
    (run,) = bench.fly()
    found = bench.fail(run, Rejected("invalid tag", hint="look at the plan"))
    assert (found.state, found.error_class, found.error_hint) == (State.FAILED, "Rejected", "look at the plan")


def test_a_folder_that_was_taken_up_again_while_it_waited_is_not_sent(bench: Bench) -> None:
    """Somebody has its log open, and has written nothing yet: back to detection; the others go."""
    bench.writers["/outputs/a"] = "run.log is open for writing by python (pid 7)"
    run, other = bench.queue("a"), bench.queue("b")
    bench.online()
    assert bench.row(run).state is State.WRITING
    assert bench.row(run).reason.endswith("run.log is open for writing by python (pid 7)")
    assert bench.row(run).attempts == 0
    assert [sent.key for sent in bench.sink.sent] == [other.key]
    assert bench.changed == [run.path]


def test_what_a_person_asks_for_is_sent_also_while_somebody_writes(bench: Bench) -> None:
    """That is what `upload` is for where a writer lingers."""
    bench.writers["/outputs/a"] = "run.log is open for writing"
    run = bench.queue("a")
    whole = Snapshot((FileStat("results.json", 100, 1, 1, 7),), (), "1:1", 1)
    assert bench.store.force(run.key, Overrides(), Judgement(Verdict.COMPLETE, "asked for"), whole, now=NOW)
    bench.online()
    assert [sent.key for sent in bench.sink.sent] == [run.key]


@pytest.mark.parametrize("error", [FolderChanged("it changed"), FolderGone("it is not there")])
def test_a_folder_that_changed_or_vanished_goes_back_to_detection(bench: Bench, error: OutboxError) -> None:
    """No attempt is used up, nothing is called uploaded, and the intake is told to look."""
    (run,) = bench.fly()
    found = bench.fail(run, error)
    assert (found.state, found.attempts, found.reason) == (State.WRITING, 0, error.message)
    assert bench.changed == [run.path]
    assert bench.store.attempts(run.key)[0].outcome is not None


def test_what_must_not_be_sent_now_is_held_until_it_is_time_to_ask_again(bench: Bench) -> None:
    """No attempt is used up; with a time it is queued again by itself, without one only by a person."""
    for_a_while, for_good = bench.fly("a", "b")
    found = bench.fail(for_a_while, Held("still running", hint="wait", look_again_in=300.0))
    assert (found.state, found.attempts, found.error_class, found.reason) == (State.HELD, 0, "Held", "still running")
    bench.fail(for_good, Held("in another entity", hint="set it"))
    assert bench.deliverer.gate.open
    assert bench.step(200) <= 100
    assert bench.states() == ["held", "held"]
    bench.step(101)
    assert bench.states() == ["uploading", "held"]
    assert not bench.row(for_a_while).insisted
    found = bench.row(for_good)
    assert bench.store.release(found.key, found.fingerprint)
    bench.step()
    assert bench.states() == ["uploading", "uploading"]
    assert (bench.row(for_good).insisted, bench.confirm(for_good).insisted) == (True, False)


def test_what_is_due_again_is_found_after_a_restart_and_not_while_a_person_holds_it(bench: Bench) -> None:
    """The next executor asks again when the time has come; a person's hold goes before."""
    first, second = bench.fly("a", "b")
    for run in (first, second):
        bench.fail(run, Held("still running", look_again_in=300.0))
    bench.store.hold(second.key)
    again = Bench(bench.store)
    again.tick = bench.tick + 301
    again.online()
    assert again.states() == ["uploading", "held"]


def test_a_run_that_was_deleted_there_is_sent_as_the_next_incarnation(bench: Bench) -> None:
    """Under a new id, at once."""
    (run,) = bench.fly()
    bench.fail(run, RunDeleted("409"))
    found = bench.row(run)
    assert (found.run_id, found.incarnation, found.attempts) == (run_id("site", run.path, 1), 1, 1)
    assert bench.sink.sent[-1].request.run_id == found.run_id


def test_a_run_that_was_deleted_there_is_left_alone_where_that_is_asked_for(bench: Bench) -> None:
    """With no attempt after it, and its folder rests; but a person who asks for it all the same gets a new run."""
    (run,) = bench.fly("a-skip")
    bench.fail(run, RunDeleted("409"))
    found = bench.row(run)
    assert (found.state, found.run_id, found.contacted) == (State.SKIPPED, run.run_id, False)
    assert "`release` it to send it under a new one" in found.reason
    assert bench.uploaded == [run.path]
    assert bench.store.release(run.key, found.fingerprint)
    bench.step()
    bench.fail(run, RunDeleted("409"))
    assert (bench.row(run).state, bench.row(run).incarnation) == (State.UPLOADING, 1)


def test_after_a_failure_that_spoils_the_sdk_the_next_try_gets_a_new_process(bench: Bench) -> None:
    """When what is under way has ended: nobody is interrupted for it, and nobody else has to wait for that."""
    one, two = bench.fly("a", "b")
    bench.fail(one, NotVerified("differs"), spent=True)
    third = bench.queue("c")
    bench.step(60.0)
    assert (bench.row(third).state, bench.sink.kills) == (State.UPLOADING, 0)
    assert bench.row(one).state is State.QUEUED
    bench.confirm(two)
    assert (bench.row(one).state, bench.sink.kills) == (State.QUEUED, 0)
    bench.confirm(third)
    assert (bench.row(one).state, bench.sink.kills) == (State.UPLOADING, 1)


# -- an uploader that dies -------------------------------------------------------------------------------------------


def test_a_delivery_that_was_alone_when_the_uploader_died_is_to_blame(bench: Bench) -> None:
    """An attempt is used up, and the last words of the process are kept."""
    (run,) = bench.fly()
    bench.sink.die()
    bench.step()
    found = bench.row(run)
    assert (found.state, found.attempts, found.error_class) == (State.QUEUED, 1, "UploaderCrashed")
    assert "MemoryError" in (found.error_message or "")


def test_of_several_each_is_tried_alone_until_the_poison_one_is_found(bench: Bench) -> None:
    """The others are not blamed, however often it dies."""
    runs = bench.fly("a", "poison", "c")
    bench.sink.die()
    bench.step()
    assert [bench.row(run).attempts for run in runs] == [0, 0, 0]
    for _ in range(40):
        alone = [run for run in map(bench.row, runs) if run.state is State.UPLOADING]
        assert len(alone) <= 1
        for run in alone:
            if run.path.endswith("poison"):
                bench.sink.die()
            else:
                bench.confirm(run)
        bench.step(60)
    assert bench.states() == ["uploaded", "failed", "uploaded"]


def test_while_one_is_carried_alone_nothing_else_is(bench: Bench) -> None:
    """Else it could not be told which one it was."""
    bench.fly("a", "b")
    bench.sink.die()
    bench.step()
    bench.queue("c")
    bench.step()
    assert bench.states().count("uploading") == 1


def test_an_uploader_that_dies_when_asked_for_the_server_is_not_started_in_a_loop(bench: Bench) -> None:
    """A broken installation costs a start now and then, and `status` names it."""
    run = bench.queue()
    for _ in range(100):
        bench.step(0.05)
        if bench.sink.runs():
            bench.sink.die()
    assert bench.sink.probes < 6
    assert "MemoryError" in bench.deliverer.gate.detail
    assert (bench.row(run).state, bench.row(run).attempts) == (State.QUEUED, 0)


def test_an_uploader_that_cannot_be_started_pauses_everything(bench: Bench) -> None:
    """No room for its directory: said, waited for, and gone on with; nothing is used up and nothing stays claimed."""
    bench.queue("a")
    bench.queue("b")
    bench.sink.broken = True
    bench.step()
    assert bench.deliverer.gate.detail == "the uploader cannot be started: no room"
    bench.sink.broken = False
    bench.step(DISK_PROBE + 1)
    bench.sink.broken = True
    bench.sink.answer("online")
    bench.step()
    assert bench.states() == ["queued", "queued"]
    assert [run.attempts for run in bench.store.list()] == [0, 0]
    assert not bench.deliverer.gate.open
    bench.sink.broken = False
    bench.step(DISK_PROBE + 1)
    bench.sink.answer("online")
    bench.step()
    assert bench.states() == ["uploading", "uploading"]


# -- an uploader that hangs ------------------------------------------------------------------------------------------


def test_a_delivery_without_progress_is_ended_at_its_deadline(bench: Bench) -> None:
    """The deadline follows progress, whatever kind: stages, and bytes."""
    (run,) = bench.fly(size=10**6)
    bench.sink.say(**{"is": "progress", "key": None, "bytes": 0})
    for number in range(4):
        bench.step(STALL - 10)
        bench.sink.say(**{"is": "progress", "key": None, "bytes": 1000 * (number + 1)})
        bench.step()
    for _ in range(3):
        bench.step(STALL - 10)
        bench.sink.say(**{"is": "progress", "key": run.key, "stage": "sending"})
        bench.step()
    assert bench.sink.kills == 0
    bench.step(STALL + 1)
    assert bench.sink.kills == 1


def test_chatter_of_the_sdk_is_no_sign_of_life(bench: Bench) -> None:
    """Heartbeats go on when an upload hangs: what moves beyond the folder's own bytes, sent twice, does not count."""
    bench.fly(size=1000)
    rounds = 0
    while not bench.sink.kills:
        rounds += 1
        assert rounds < 12
        bench.sink.say(**{"is": "progress", "key": None, "bytes": 500 * rounds})
        bench.step(STALL / 4)
    assert rounds > 8


def test_a_hung_delivery_is_to_blame_when_the_server_was_there(bench: Bench) -> None:
    """The server is asked first; the others that the process carried are not blamed."""
    hung, other = bench.fly("hung", "other")
    bench.step(100)
    bench.sink.say(**{"is": "progress", "key": other.key, "stage": "sending"})
    bench.step(STALL - 99)
    bench.step()
    assert bench.sink.probes == 2
    assert (bench.row(other).state, bench.row(other).attempts) == (State.QUEUED, 0)
    bench.sink.answer("online")
    bench.step()
    found = bench.row(hung)
    assert (found.state, found.attempts) == (State.QUEUED, 1)
    assert "no progress" in (found.error_message or "")


def test_a_hung_delivery_is_not_to_blame_when_the_server_was_away(bench: Bench) -> None:
    """An outage hangs the SDK; that is the network's trouble."""
    (run,) = bench.fly()
    bench.step(STALL + 1)
    bench.step()
    bench.sink.answer("offline")
    bench.step()
    assert (bench.row(run).state, bench.row(run).attempts, bench.deliverer.under_way) == (State.QUEUED, 0, 0)


def test_the_verdict_on_a_hung_delivery_waits_while_the_question_itself_dies(bench: Bench) -> None:
    """Nothing is forgotten and nothing is decided twice when the uploader dies, or hangs, on the question."""
    (run,) = bench.fly()
    bench.step(STALL + 1)
    bench.step()
    bench.sink.die()
    bench.step()
    assert (bench.row(run).attempts, bench.deliverer.under_way) == (0, 1)
    bench.step(60)
    assert bench.sink.runs()
    bench.step(PROBE_STALL + 1)
    bench.step()
    assert (bench.row(run).attempts, bench.deliverer.under_way) == (0, 1)
    bench.sink.answer("online")
    bench.step()
    assert (bench.row(run).state, bench.row(run).attempts, bench.deliverer.under_way) == (State.QUEUED, 1, 0)


def test_a_hung_question_is_asked_again_in_a_new_process(bench: Bench) -> None:
    """A proxy that never answers does not stop the outbox for ever."""
    bench.queue()
    bench.step()
    bench.step(PROBE_STALL + 1)
    assert (bench.sink.kills, bench.sink.probes) == (1, 2)


# -- leaving ---------------------------------------------------------------------------------------------------------


def test_shutting_down_leaves_everything_queued(bench: Bench) -> None:
    """The process is ended, no attempt is used up, and the reason says that it goes on."""
    runs = bench.fly("a", "b")
    bench.deliverer.put_all_back()
    assert not bench.sink.runs()
    for run in map(bench.row, runs):
        assert (run.state, run.attempts, run.claim) == (State.QUEUED, 0, None)
        assert "shutdown" in run.reason
    assert bench.deliverer.under_way == 0


def test_a_person_can_have_the_server_asked_again_at_once(bench: Bench) -> None:
    """`retry` and `flush` do not wait for the backoff."""
    (run,) = bench.fly()
    bench.fail(run, Offline("no route"))
    probes = bench.sink.probes
    bench.deliverer.recheck()
    bench.step()
    assert bench.sink.probes == probes + 1


def test_the_state_of_the_server_is_told_for_status(bench: Bench) -> None:
    """State, since when, detail and the next question, as times of the wall clock."""
    (run,) = bench.fly()
    assert bench.store.fact("server")["state"] == "online"
    bench.fail(run, Throttled("429", retry_after=120))
    told = bench.store.fact("server")
    assert (told["state"], told["detail"]) == ("throttled", "429")
    assert told["next_probe"] == pytest.approx(bench.now + 120, abs=1)
    assert told["since"] == pytest.approx(bench.now, abs=1)


def test_the_next_step_is_due_when_something_is(bench: Bench) -> None:
    """Neither busy waiting nor oversleeping."""
    (run,) = bench.fly()
    assert bench.step() == 1.0
    found = bench.fail(run, NotVerified("differs"))
    assert found.next_attempt_at is not None
    assert bench.step() == pytest.approx(found.next_attempt_at - bench.now)
    bench.step(100)
    bench.fail(run, Throttled("429", retry_after=40))
    assert bench.step() == pytest.approx(40)


def test_an_expected_delivery_finds_its_uploader_ready(bench: Bench) -> None:
    """What is about to come starts the uploader; while a person paused, or the server is known to be away, nothing does."""
    bench.deliverer.paused = True
    bench.deliverer.expect()
    assert not bench.sink.runs()
    bench.deliverer.paused = False
    bench.deliverer.expect()
    assert bench.sink.runs()
    bench.queue()
    bench.step()
    bench.sink.answer("offline")
    bench.step()
    bench.sink.kill()
    bench.deliverer.expect()
    assert not bench.sink.runs()


def test_an_uploader_that_cannot_be_made_ready_is_told_of_with_the_delivery(bench: Bench) -> None:
    """Nothing has failed yet."""
    bench.sink.broken = True
    bench.deliverer.expect()
    assert bench.deliverer.gate.state is ServerState.UNKNOWN
