"""The store: one guarded statement a change, durable, one winner a claim, and readable whatever happens."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from children import public_directory, python, run_python
from outbox_makers import (
    COMPLETE,
    CRASHED,
    MINE,
    NOW,
    OLD,
    SITE,
    WRITING,
    add,
    again,
    claim,
    content,
    deliver,
    queue,
    receipt,
    state_dir,
    state_of,
)

from wandb_outbox.errors import DiskFull, FolderChanged, Offline, RunDeleted, StateUnusable, UploaderCrashed
from wandb_outbox.model import Judgement, Kind, Overrides, State, Verdict, run_id
from wandb_outbox.outbox import schema
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import PAGE, Store

CRASH = UploaderCrashed("the uploader process died", hint="look at uploader.log")


@pytest.fixture
def where(tmp_path: Path) -> StateDir:
    """A state directory."""
    return state_dir(tmp_path)


@pytest.fixture
def store(where: StateDir) -> Iterator[Store]:
    """A new outbox."""
    made = Store.open(where)
    yield made
    made.close()


# -- rows ------------------------------------------------------------------------------------------------------------


def test_a_new_row_is_writing_and_has_its_run_id(store: Store) -> None:
    """The id is fixed before any contact, from site, path and incarnation."""
    run = add(store)
    assert (run.state, run.revision, run.incarnation, run.attempts) == (State.WRITING, 0, 0, 0)
    assert run.run_id == run_id(SITE, "/outputs/a", 0)
    assert not run.contacted


def test_adding_a_folder_twice_is_adding_it_once(store: Store) -> None:
    """The row that is there is given back, whatever became of it."""
    run = deliver(store)
    assert add(store) == run
    assert len(store.list()) == 1


@pytest.mark.parametrize(
    "name", [b"/outputs/\xff\xfe", "/outputs/ünï 🦆".encode(), b"/outputs/a\nb", b"/outputs/'; DROP TABLE runs; --"]
)
def test_paths_of_any_bytes_come_back_as_they_went(store: Store, name: bytes) -> None:
    """A name need not be UTF-8, nor friendly."""
    path = os.fsdecode(name)
    run = store.add(path=path, root=path, kind=Kind.FOLDER, format="plain", birth="1:1", site=SITE, now=NOW)
    found = again(store, run)
    assert (found.path, found.root) == (path, path)
    assert store.by_path(path) == found
    assert [each.key for each in store.find(path)] == [run.key]


def test_reasons_and_errors_may_name_a_path_that_is_not_utf8(store: Store) -> None:
    """What is said of such a folder is kept for people, and neither detection nor delivery stops at it."""
    path = os.fsdecode(b"/outputs/\xff")
    run = add(store, path)
    assert store.note(
        run.key, Judgement(Verdict.WRITING, f"{path} may not be read"), format="plain", root="/outputs", now=NOW
    )
    assert again(store, run).reason == "/outputs/? may not be read"
    assert store.enqueue(run.key, Judgement(Verdict.COMPLETE, f"{path} is done"), content(), now=NOW)
    claim(store)
    error = Offline(f"{path}: sending failed", hint=f"look at {path}")
    assert store.put_back(run.key, MINE, error, now=NOW, next_attempt_at=None, used=False, suspect=False)
    found = again(store, run)
    assert (found.error_message, found.error_hint) == ("/outputs/?: sending failed", "look at /outputs/?")
    assert [attempt.message for attempt in store.attempts(run.key)] == ["/outputs/?: sending failed"]


def test_a_row_is_found_by_the_start_of_its_id_its_path_and_what_lies_below_a_path(store: Store) -> None:
    """RUN on the command line is any of them; a neighbour with a longer name is none."""
    one, two, other = add(store, "/outputs/x/1"), add(store, "/outputs/x/2"), add(store, "/outputs/x-1")
    assert store.find(one.run_id[:8]) == [one]
    assert store.find("/outputs/x/2") == [two]
    assert store.find("/outputs/x") == [one, two]
    assert store.find("/outputs/x-1/") == [other]
    assert store.find("nothing") == []


def test_rows_are_listed_in_the_order_they_were_seen(store: Store) -> None:
    """All of them, or those in some states."""
    runs = [add(store, f"/outputs/{name}") for name in "cab"]
    assert store.list() == runs
    store.enqueue(runs[1].key, COMPLETE, content(), now=NOW)
    assert [run.path for run in store.list([State.QUEUED])] == ["/outputs/a"]
    assert [run.path for run in store.list([State.WRITING, State.QUEUED])] == ["/outputs/c", "/outputs/a", "/outputs/b"]


def test_many_rows_are_read_page_by_page(store: Store) -> None:
    """Objects and lines together tell of every row once and in order, also where they end exactly with a page."""
    assert [*store.objects(), *store.lines()] == []
    for number in range(PAGE):
        add(store, f"/outputs/{number:05}")
    assert [len(page) for page in store.objects()] == [PAGE]
    done = deliver(store, "/outputs/done")
    ids = [run.run_id for run in store.list()]
    assert [json.loads(row[0])["id"] for page in store.objects() for row in page] == ids
    lines = [line.decode() for page in store.lines() for line in page.split(b"\0")]
    assert [line[11:19] for line in lines] == [each[:8] for each in ids]
    assert lines[PAGE - 1 :] == [
        f"writing    {ids[PAGE - 1][:8]}  /outputs/{PAGE - 1:05}  just seen",
        f"uploaded   {done.run_id[:8]}  /outputs/done  {done.url}",
    ]
    assert list(store.lines([State.UPLOADED])) == [lines[-1].encode()]
    assert list(store.lines([State.FAILED])) == []
    assert [json.loads(row[0])["path"] for page in store.objects([State.UPLOADED]) for row in page] == ["/outputs/done"]


def test_times_and_queues_are_told(store: Store) -> None:
    """What `status` says of waiting, trouble and the last success."""
    assert (store.oldest_waiting(), store.next_attempt_at(), store.last_uploaded(), store.last_error()) == (None,) * 4
    deliver(store, "/outputs/done")
    first, second = queue(store, "/outputs/1", now=NOW + 1), queue(store, "/outputs/2", now=NOW + 2)
    assert (store.oldest_waiting(), store.next_attempt_at()) == (NOW + 1, 0)
    for run in (first, second):
        claim(store)
        store.put_back(run.key, MINE, CRASH, now=NOW, next_attempt_at=NOW + 60 + run.key, used=True, suspect=False)
    assert store.next_attempt_at() == NOW + 60 + first.key
    trouble, last = store.last_error(), store.last_uploaded()
    assert trouble is not None
    assert last is not None
    assert (trouble.key, last.path) == (second.key, "/outputs/done")


def test_a_note_is_written_only_when_it_says_something_new(store: Store, where: StateDir) -> None:
    """A folder that is looked at every thirty seconds for a week writes nothing to the disk."""
    run = add(store)
    assert store.note(run.key, WRITING, format="hydra", root="/outputs", now=NOW)
    with sqlite3.connect(where.database) as other:
        before = other.execute("PRAGMA data_version").fetchone()
        assert not store.note(run.key, WRITING, format="hydra", root="/outputs", now=NOW)
        assert other.execute("PRAGMA data_version").fetchone() == before
    other.close()
    found = again(store, run)
    assert (found.verdict, found.reason, found.format) == ("writing", WRITING.reason, "hydra")


def test_a_note_keeps_since_when_its_verdict_is_said(store: Store) -> None:
    """Another reason, or the same verdict again, is no new verdict; a change of the content ends it."""
    run = add(store)
    assert (run.verdict_since, run.look_at) == (None, None)
    settling = Judgement(Verdict.SETTLING, "changed 1 s ago")
    steps = [(WRITING, 10.0), (replace(WRITING, reason="another file"), 10.0), (settling, 30.0), (settling, 30.0)]
    for number, (judgement, since) in enumerate(steps, start=1):
        store.note(run.key, judgement, format="plain", root=None, now=number * 10.0, look_at=number * 10.0 + 5)
        assert again(store, run).verdict_since == since
    assert again(store, run).look_at == 35.0  # the last note said nothing new
    store.enqueue(run.key, COMPLETE, content(), now=NOW)
    store.reopen(run.key, "changed")
    assert again(store, run).verdict_since is None


def test_a_note_never_touches_a_row_that_is_decided(store: Store) -> None:
    """A late look changes nothing of what is queued."""
    run = queue(store)
    assert not store.note(run.key, WRITING, format="plain", root="/outputs", now=NOW)
    assert again(store, run) == run


# -- what follows from a verdict -------------------------------------------------------------------------------------


def test_a_finished_folder_is_queued_with_its_content(store: Store) -> None:
    """Fingerprint, number of files and bytes are those that were found complete."""
    run = queue(store)
    assert (run.state, run.fingerprint, run.files, run.bytes) == (State.QUEUED, content().fingerprint, 1, 100)
    assert (run.verdict, run.outcome, run.reason, run.completed_at) == ("complete", "ok", COMPLETE.reason, NOW)


def test_a_finished_folder_that_must_wait_is_held_with_the_reason(store: Store) -> None:
    """A person reads why."""
    run = add(store)
    assert store.enqueue(run.key, COMPLETE, content(), now=NOW, hold="larger than max_bytes")
    assert (state_of(store, run), again(store, run).reason) == (State.HELD, "larger than max_bytes")


def test_a_folder_is_queued_once(store: Store) -> None:
    """Said twice, it changes nothing: neither the time it waits since, nor its attempts."""
    run = queue(store)
    assert not store.enqueue(run.key, COMPLETE, content(2), now=NOW + 9)
    assert again(store, run) == run


def test_a_changed_folder_is_the_next_revision_once_and_keeps_its_receipt_meanwhile(store: Store) -> None:
    """However often it changes before it is delivered again."""
    run = deliver(store)
    for version in (2, 3, 4):
        assert store.reopen(run.key, "changed")
        waiting = again(store, run)
        assert (waiting.state, waiting.url, waiting.artifact) == (State.WRITING, run.url, run.artifact)
        assert store.enqueue(run.key, COMPLETE, content(version), now=NOW)
        assert again(store, run).revision == 1
    claim(store)
    assert store.uploaded(run.key, MINE, receipt(run, content(4)), now=NOW)
    store.reopen(run.key, "changed")
    store.enqueue(run.key, COMPLETE, content(5), now=NOW)
    assert (again(store, run).revision, again(store, run).run_id) == (2, run.run_id)


def test_a_folder_that_was_only_touched_is_uploaded_again_without_sending(store: Store) -> None:
    """Changed and changed back: the server has it already, and the row is what it was before."""
    run = deliver(store)
    store.reopen(run.key, "changed")
    assert store.enqueue(run.key, COMPLETE, content(), now=NOW + 99)
    found = again(store, run)
    assert (found.state, found.fingerprint, found.revision) == (State.UPLOADED, run.fingerprint, 0)
    assert (found.files, found.bytes, found.uploaded_at) == (1, 100, run.uploaded_at)


def test_a_content_in_between_that_was_never_delivered_leaves_no_trace(store: Store) -> None:
    """Changed, queued, and changed back before its turn: the row must not go on naming the content in between."""
    run = deliver(store)
    store.reopen(run.key, "changed")
    store.enqueue(run.key, COMPLETE, content(2, size=999), now=NOW)
    claim(store)
    store.put_back(run.key, MINE, CRASH, now=NOW, next_attempt_at=NOW + 60, used=True, suspect=True)
    store.reopen(run.key, "changed back")
    assert store.enqueue(run.key, COMPLETE, content(), now=NOW)
    found = again(store, run)
    assert (found.state, found.fingerprint, found.files, found.bytes) == (State.UPLOADED, run.fingerprint, 1, 100)
    assert (found.revision, found.error_message, found.next_attempt_at, found.suspect) == (0, None, None, False)


def test_a_folder_that_a_person_asks_for_is_sent_although_the_server_has_it(store: Store) -> None:
    """`upload` with another name or project is a wish, not a mistake."""
    run = deliver(store)
    assert store.force(run.key, Overrides(name="other", tags=("a", "b")), COMPLETE, content(), now=NOW)
    found = again(store, run)
    assert (found.state, found.revision, found.forced) == (State.QUEUED, 0, True)
    assert found.overrides == Overrides(name="other", tags=("a", "b"))


@pytest.mark.parametrize("version", [1, 2])
def test_a_folder_skipped_by_policy_is_looked_at_again_when_it_changes(store: Store, version: int) -> None:
    """Its content at the time is kept, so that a change is seen."""
    run = add(store)
    assert store.skip(run.key, "crashed, nothing to show", CRASHED, content(version))
    found = again(store, run)
    assert (found.state, found.fingerprint, found.by_person) == (State.SKIPPED, content(version).fingerprint, False)
    assert store.reopen(run.key, "changed")
    assert state_of(store, run) is State.WRITING


def test_a_folder_skipped_by_a_person_stays_skipped(store: Store) -> None:
    """No change of the folder moves it; a person does."""
    run = queue(store)
    assert store.skip_by_person(run.key)
    assert not store.reopen(run.key, "changed")
    assert not store.vanish(run.key)
    assert state_of(store, run) is State.SKIPPED
    assert store.force(run.key, Overrides(), COMPLETE, content(), now=NOW)
    assert (again(store, run).state, again(store, run).by_person) == (State.QUEUED, False)


# -- a person's hold -------------------------------------------------------------------------------------------------


def test_hold_and_release_of_what_is_queued(store: Store) -> None:
    """Held until the content that was shown is approved."""
    run = queue(store)
    assert store.hold(run.key)
    assert state_of(store, run) is State.HELD
    assert not store.release(run.key, content(2).fingerprint)
    assert state_of(store, run) is State.HELD
    assert store.release(run.key, content().fingerprint)
    assert (again(store, run).state, again(store, run).forced) == (State.QUEUED, True)


def test_a_change_withdraws_the_approval(store: Store) -> None:
    """What was released was one content, not the folder."""
    run = queue(store)
    store.hold(run.key)
    store.release(run.key, content().fingerprint)
    store.reopen(run.key, "changed")
    assert (again(store, run).forced, again(store, run).hold) == (False, True)


def test_a_folder_that_never_was_complete_cannot_be_released(store: Store) -> None:
    """There is no content to approve."""
    run = add(store)
    assert not store.release(run.key, "")


def test_what_was_skipped_before_it_was_finished_can_be_taken_up_again(store: Store) -> None:
    """There is no content to approve yet; what was finished is released as it was shown."""
    run = add(store)
    assert not store.unskip(run.key)
    assert store.skip_by_person(run.key)
    assert store.unskip(run.key)
    assert (again(store, run).state, again(store, run).by_person) == (State.WRITING, False)
    finished = queue(store)
    assert store.skip_by_person(finished.key)
    assert not store.unskip(finished.key)


# -- folders that go, come and are made anew -------------------------------------------------------------------------


@pytest.mark.parametrize("held", [None, "for a person"])
def test_a_folder_that_vanishes_before_its_upload_is_skipped_and_comes_back(store: Store, held: str | None) -> None:
    """Skipped with the reason while it is away; looked at as before when it is there again."""
    run = add(store)
    store.enqueue(run.key, COMPLETE, content(), now=NOW, hold=held)
    assert store.vanish(run.key)
    found = again(store, run)
    assert (found.state, found.gone) == (State.SKIPPED, True)
    assert "gone" in found.reason
    assert store.return_(run.key)
    assert (state_of(store, run), again(store, run).gone) == (State.WRITING, False)


def test_a_delivered_folder_that_vanishes_stays_uploaded(store: Store) -> None:
    """People clean up; what the server has stays known."""
    run = deliver(store)
    assert store.vanish(run.key)
    assert not store.vanish(run.key)
    assert (state_of(store, run), again(store, run).gone) == (State.UPLOADED, True)
    assert store.return_(run.key)
    assert again(store, run) == run


def test_a_folder_that_moved_away_in_the_middle_of_its_upload_is_left_to_the_uploader(store: Store) -> None:
    """Nobody takes a row out of an uploader's hands."""
    run = queue(store)
    claim(store)
    assert not store.vanish(run.key)
    assert not store.move(run.key, path="/outputs/b", root="/outputs")
    assert not store.remake(run.key, birth="2:2", site=SITE, reason="made anew")
    assert not store.rebirth(run.key, birth="2:2")
    assert not store.force(run.key, Overrides(), COMPLETE, content(), now=NOW)
    assert not store.hold(run.key)
    assert not store.skip_by_person(run.key)
    assert not store.retry(run.key)
    assert (state_of(store, run), again(store, run).path, again(store, run).birth) == (
        State.UPLOADING, "/outputs/a", "/outputs/a",
    )  # fmt: skip


def test_a_renamed_folder_keeps_its_row_its_id_and_its_receipt(store: Store) -> None:
    """The name of a folder is not its identity."""
    run = deliver(store)
    assert store.by_birth(run.birth) == [run]
    assert store.move(run.key, path="/outputs/b", root="/other")
    found = again(store, run)
    assert (found.path, found.root, found.run_id, found.url) == ("/outputs/b", "/other", run.run_id, run.url)


def test_a_folder_is_not_renamed_onto_another(store: Store) -> None:
    """Two folders never become one row."""
    one, two = add(store, "/outputs/1"), add(store, "/outputs/2")
    assert not store.move(one.key, path="/outputs/2", root="/outputs")
    assert (again(store, one), again(store, two)) == (one, two)


def test_a_folder_that_was_away_when_it_was_renamed_can_still_come_back(store: Store) -> None:
    """Seen gone under its old name first, then found under its new one: it must not stay skipped."""
    run = queue(store)
    store.vanish(run.key)
    assert store.move(run.key, path="/outputs/b", root="/outputs")
    assert store.return_(run.key)
    assert state_of(store, run) is State.WRITING


def test_a_new_folder_under_the_old_name_of_a_renamed_one_has_a_run_of_its_own(store: Store) -> None:
    """`mv run run-old`, and a new experiment at `run`: two different experiments, never one run."""
    old = deliver(store, "/outputs/run")
    store.move(old.key, path="/outputs/run-old", root="/outputs")
    new = add(store, "/outputs/run", birth="2:2")
    assert new.key != old.key
    assert (new.run_id, new.incarnation) == (run_id(SITE, "/outputs/run", 1), 1)
    store.move(new.key, path="/outputs/run-new", root="/outputs")
    assert add(store, "/outputs/run", birth="3:3").incarnation == 2


def test_a_remade_folder_is_a_new_run_once_the_server_may_know_the_old_one(store: Store) -> None:
    """Deleted and made anew is another experiment: the receipt of the first is not the receipt of the second."""
    run = deliver(store)
    assert store.remake(run.key, birth="2:2", site=SITE, reason="deleted and made anew")
    found = again(store, run)
    assert (found.state, found.incarnation, found.run_id) == (State.WRITING, 1, run_id(SITE, run.path, 1))
    assert (found.url, found.delivered_fingerprint, found.revision, found.contacted) == (None, None, 0, False)
    assert not store.remake(run.key, birth="2:2", site=SITE, reason="again")


def test_a_remade_folder_that_nobody_heard_of_keeps_its_id(store: Store) -> None:
    """Before the first contact there is nothing to keep apart."""
    run = queue(store)
    assert store.remake(run.key, birth="2:2", site=SITE, reason="deleted and made anew")
    assert (again(store, run).incarnation, again(store, run).run_id) == (0, run.run_id)


def test_a_remade_folder_never_takes_the_id_of_a_renamed_one(store: Store) -> None:
    """Ids are unique over the whole outbox, whatever was renamed to what."""
    b = deliver(store, "/outputs/b")
    store.move(b.key, path="/outputs/c", root="/outputs")
    a = queue(store, "/outputs/a")
    store.move(a.key, path="/outputs/b", root="/outputs")
    assert store.remake(a.key, birth="9:9", site=SITE, reason="made anew")
    assert again(store, a).run_id == run_id(SITE, "/outputs/b", 1)


def test_the_same_content_under_another_inode_is_the_same_folder(store: Store) -> None:
    """A restored backup changes the birth and nothing else."""
    run = deliver(store)
    assert store.rebirth(run.key, birth="2:2")
    found = again(store, run)
    assert (found.birth, found.state, found.run_id) == ("2:2", State.UPLOADED, run.run_id)


# -- claims ----------------------------------------------------------------------------------------------------------


def test_the_oldest_due_row_is_claimed_first(store: Store) -> None:
    """In the order in which they were complete, not seen."""
    late, early = queue(store, "/outputs/1", now=NOW + 2), queue(store, "/outputs/2", now=NOW + 1)
    assert [claim(store).key, claim(store).key] == [early.key, late.key]
    assert store.claim(MINE, now=NOW, suspects=False) is None


def test_a_claim_says_who_has_it_and_begins_an_attempt(store: Store) -> None:
    """The row in hand is the row as it is now."""
    queue(store)
    run = claim(store, now=NOW + 3)
    assert run == again(store, run)
    assert (run.state, run.claim) == (State.UPLOADING, MINE)
    assert [(a.started_at, a.ended_at, a.outcome) for a in store.attempts(run.key)] == [(NOW + 3, None, None)]


def test_a_row_that_waits_for_its_next_attempt_is_not_claimed_before(store: Store) -> None:
    """Backoff is kept to the second, and over a restart."""
    run = queue(store)
    claim(store)
    store.put_back(run.key, MINE, CRASH, now=NOW, next_attempt_at=NOW + 60, used=True, suspect=False)
    assert store.claim(MINE, now=NOW + 59.9, suspects=False) is None
    assert claim(store, now=NOW + 60).key == run.key


def test_a_claim_can_ask_for_small_or_large_or_named_rows(store: Store) -> None:
    """What does not come into question is passed over, not waited for."""
    large, small = queue(store, "/outputs/1", size=1000), queue(store, "/outputs/2", size=10)
    taken = store.claim(MINE, now=NOW, suspects=False, max_bytes=500)
    assert taken is not None
    assert taken.key == small.key
    assert store.claim(MINE, now=NOW, suspects=False, max_bytes=500) is None
    assert store.claim(MINE, now=NOW, suspects=False, only=[small.key]) is None
    assert store.claim(MINE, now=NOW, suspects=False, only=[]) is None
    taken = store.claim(MINE, now=NOW, suspects=False, min_bytes=500, only=[large.key, 99])
    assert taken is not None
    assert taken.key == large.key


def test_suspects_are_claimed_only_when_asked_for(store: Store) -> None:
    """A row whose uploader died in company is carried alone."""
    run, other = queue(store, "/outputs/1"), queue(store, "/outputs/2", now=NOW + 1)
    claim(store)
    assert not store.has_suspect(NOW)
    store.put_back(run.key, MINE, CRASH, now=NOW, next_attempt_at=None, used=False, suspect=True)
    assert store.has_suspect(NOW)
    assert claim(store).key == other.key
    assert store.claim(MINE, now=NOW, suspects=False) is None
    taken = store.claim(MINE, now=NOW, suspects=True)
    assert taken is not None
    assert taken.key == run.key


def test_a_claim_has_one_winner_among_threads(where: StateDir) -> None:
    """Eight threads with two connections, forty rows: each row is claimed once."""
    stores = [Store.open(where), Store.open(where)]
    keys = [queue(stores[0], f"/outputs/{number}").key for number in range(40)]
    barrier = threading.Barrier(8)

    def work(number: int) -> list[int]:
        barrier.wait()
        won = []
        while (run := stores[number % 2].claim(f"boot:{number}", now=NOW, suspects=False)) is not None:
            won.append(run.key)
        return won

    with ThreadPoolExecutor(8) as pool:
        won = [key for keys in pool.map(work, range(8)) for key in keys]
    assert sorted(won) == sorted(keys)
    assert [len(stores[0].attempts(key)) for key in keys] == [1] * 40
    for each in stores:
        each.close()


CLAIM_ALL = """
import sys
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store
store = Store.open(StateDir(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
while (run := store.claim(sys.argv[2], now=2e9, suspects=False)) is not None:
    print(run.key, flush=True)
print("end", flush=True)
sys.stdin.read()
"""


def test_a_claim_has_one_winner_among_processes(where: StateDir) -> None:
    """Two processes, sixty rows: each row is claimed once, and says by whom."""
    store = Store.open(where)
    keys = [queue(store, f"/outputs/{number}").key for number in range(60)]
    with python(CLAIM_ALL, where.path, "boot:1") as one, python(CLAIM_ALL, where.path, "boot:2") as two:
        for child in (one, two):
            child.say("go")
        won = [list(iter(child.line, "end")) for child in (one, two)]
    assert sorted(int(key) for keys in won for key in keys) == sorted(keys)
    for claimed, name in zip(won, ("boot:1", "boot:2"), strict=True):
        assert {store.get(int(key)).claim for key in claimed} <= {name}  # type: ignore[union-attr]
    store.close()


@pytest.mark.parametrize("who", [OLD, "", "boot:22"])
def test_a_message_for_a_lost_claim_changes_nothing(store: Store, who: str) -> None:
    """A late answer of an uploader that was given up cannot touch the row that another has now."""
    queue(store)
    run = claim(store)
    assert not store.contact(run.key, who, run_id="other", incarnation=7)
    assert not store.uploaded(run.key, who, receipt(run), now=NOW)
    assert not store.put_back(run.key, who, CRASH, now=NOW, next_attempt_at=None, used=True, suspect=True)
    assert not store.fail(run.key, who, CRASH, now=NOW)
    assert not store.renew(
        run.key, who, RunDeleted("gone"), run_id="other", incarnation=1, now=NOW, next_attempt_at=NOW
    )
    assert not store.forsake(run.key, who, RunDeleted("gone"), reason="gone", now=NOW)
    assert not store.changed(run.key, who, FolderChanged("changed"), now=NOW)
    assert again(store, run) == run
    assert store.attempts(run.key)[0].ended_at is None


def test_a_message_that_comes_twice_counts_once(store: Store) -> None:
    """The second receipt, and an error after it, change nothing."""
    queue(store)
    run = claim(store)
    assert store.uploaded(run.key, MINE, receipt(run), now=NOW)
    done = again(store, run)
    assert not store.uploaded(run.key, MINE, receipt(run), now=NOW + 9)
    assert not store.fail(run.key, MINE, CRASH, now=NOW + 9)
    assert not store.put_back(run.key, MINE, CRASH, now=NOW, next_attempt_at=None, used=True, suspect=False)
    assert again(store, run) == done


def test_the_receipt_is_kept_whole(store: Store) -> None:
    """Everything that the server confirmed can be shown later, and the trouble before it is over."""
    queue(store)
    run = claim(store)
    store.put_back(run.key, MINE, CRASH, now=NOW, next_attempt_at=None, used=True, suspect=True)
    assert store.claim(MINE, now=NOW, suspects=True) is not None
    told = receipt(run)
    assert store.uploaded(run.key, MINE, told, now=NOW + 7)
    found = again(store, run)
    assert (found.state, found.claim, found.uploaded_at, found.contacted) == (State.UPLOADED, None, NOW + 7, True)
    assert (found.entity, found.project, found.name) == (told.entity, told.project, told.name)
    assert (found.url, found.artifact, found.digest) == (told.url, told.artifact, told.digest)
    assert (found.warnings, found.delivered_fingerprint) == (told.warnings, told.fingerprint)
    assert (found.error_class, found.suspect, found.next_attempt_at) == (None, False, None)


def test_what_went_wrong_is_kept_for_the_person(store: Store) -> None:
    """Class, words and hint of the last error; attempts counted only when they are used up."""
    run = queue(store)
    for used, attempts in ((False, 0), (True, 1), (True, 2)):
        claim(store)
        assert store.put_back(run.key, MINE, CRASH, now=NOW, next_attempt_at=None, used=used, suspect=False)
        found = again(store, run)
        assert found.attempts == attempts
        assert (found.error_class, found.error_message) == ("UploaderCrashed", CRASH.message)
        assert (found.error_hint, found.reason) == (CRASH.hint, CRASH.message)


def test_the_history_of_attempts_is_kept(store: Store) -> None:
    """Every try with its beginning, end and outcome, oldest first, over revisions."""
    run = queue(store)
    claim(store, now=NOW + 1)
    store.put_back(run.key, MINE, Offline("no route"), now=NOW + 2, next_attempt_at=None, used=False, suspect=False)
    claim(store, now=NOW + 3)
    store.changed(run.key, MINE, FolderChanged("it changed"), now=NOW + 4)
    store.enqueue(run.key, COMPLETE, content(2), now=NOW)
    claim(store, now=NOW + 5)
    store.uploaded(run.key, MINE, receipt(run, content(2)), now=NOW + 6)
    assert [(a.started_at - NOW, (a.ended_at or 0) - NOW, a.outcome) for a in store.attempts(run.key)] == [
        (1, 2, "Offline"), (3, 4, "FolderChanged"), (5, 6, "uploaded"),
    ]  # fmt: skip


def test_a_failed_row_waits_for_a_person_and_gets_fresh_attempts(store: Store) -> None:
    """`retry` forgets the attempts, not the history; a row that is no failure is only hurried."""
    run = queue(store)
    claim(store)
    assert store.fail(run.key, MINE, CRASH, now=NOW)
    assert (state_of(store, run), again(store, run).attempts) == (State.FAILED, 1)
    assert store.claim(MINE, now=NOW + 1e9, suspects=False) is None
    assert store.retry(run.key)
    assert (state_of(store, run), again(store, run).attempts) == (State.QUEUED, 0)
    assert len(store.attempts(run.key)) == 1
    assert not store.retry(deliver(store, "/outputs/done").key)


def test_a_failed_folder_that_changes_gets_fresh_attempts_by_itself(store: Store) -> None:
    """Another content is another chance."""
    run = queue(store)
    claim(store)
    store.fail(run.key, MINE, CRASH, now=NOW)
    assert store.reopen(run.key, "changed")
    assert store.enqueue(run.key, COMPLETE, content(2), now=NOW)
    assert (again(store, run).attempts, again(store, run).error_message) == (0, None)


def test_a_run_that_was_deleted_on_the_server_is_sent_as_a_new_one(store: Store) -> None:
    """The next incarnation has no receipt and was never heard of."""
    run = deliver(store)
    store.reopen(run.key, "changed")
    store.enqueue(run.key, COMPLETE, content(2), now=NOW)
    claim(store)
    fresh = run_id(SITE, run.path, 1)
    assert store.renew(run.key, MINE, RunDeleted("deleted"), run_id=fresh, incarnation=1, now=NOW, next_attempt_at=NOW)
    found = again(store, run)
    assert (found.state, found.run_id, found.incarnation) == (State.QUEUED, fresh, 1)
    assert (found.contacted, found.url, found.delivered_fingerprint, found.revision) == (False, None, None, 0)


def test_a_run_that_was_deleted_on_the_server_can_be_left_alone(store: Store) -> None:
    """Nothing counts as delivered any more, so the same content does not pass for uploaded; a release sends it."""
    run = deliver(store)
    store.reopen(run.key, "changed")
    store.enqueue(run.key, COMPLETE, content(2), now=NOW)
    claim(store)
    assert store.forsake(run.key, MINE, RunDeleted("deleted"), reason="deleted there", now=NOW)
    found = again(store, run)
    assert (found.state, found.reason, found.run_id) == (State.SKIPPED, "deleted there", run.run_id)
    assert (found.url, found.delivered_fingerprint, found.contacted) == (None, None, True)
    assert store.attempts(run.key)[-1].outcome == "RunDeleted"
    assert store.reopen(run.key, "changed")
    assert store.enqueue(run.key, COMPLETE, content(1), now=NOW)
    assert state_of(store, run) is State.QUEUED


def test_a_new_executor_puts_the_claims_of_the_old_one_back_at_once(store: Store) -> None:
    """No clock decides, no attempt is used up, and its own claims stay."""
    runs = [queue(store, f"/outputs/{number}") for number in range(3)]
    for _ in range(2):
        claim(store, claim=OLD)
    mine = claim(store, claim=MINE)
    assert store.recover(MINE, now=NOW + 8) == 2
    assert [state_of(store, run) for run in runs] == [State.QUEUED, State.QUEUED, State.UPLOADING]
    assert again(store, runs[0]).attempts == 0
    assert store.attempts(runs[0].key)[0].outcome == "Interrupted"
    assert store.attempts(mine.key)[0].outcome is None
    assert store.recover(MINE, now=NOW) == 0


# -- requests and facts ----------------------------------------------------------------------------------------------


def test_a_request_is_open_until_it_is_answered(store: Store, where: StateDir) -> None:
    """Only a recorded answer ends it: an executor that dies in between leaves it for the next."""
    path = os.fsdecode(b"/outputs/\xff")
    number = store.ask("upload", {"paths": [path]}, now=NOW)
    other = Store.open(where)
    assert [(request.id, request.verb, request.arguments) for request in other.requests()] == [
        (number, "upload", {"paths": [path]})
    ]
    assert store.answer_to(number) is None
    assert other.answer(number, {"keys": [1]}, now=NOW)
    assert not other.answer(number, {"keys": [2]}, now=NOW)
    assert store.requests() == []
    assert store.answer_to(number) == {"keys": [1]}
    assert store.answer_to(99) is None
    other.close()


def test_a_change_by_another_process_can_be_noticed(store: Store, where: StateDir) -> None:
    """The data version moves with every commit of another connection, not with our own."""
    other = Store.open(where)
    before = store.data_version()
    add(store)
    assert store.data_version() == before
    other.set_fact("x", 1)
    assert store.data_version() != before
    other.close()


def test_facts_are_small_values_by_name(store: Store, where: StateDir) -> None:
    """Any JSON value; and the same value again is not written again."""
    assert store.fact("paused") is None
    for value in (True, [1, "two"], {"a": None}, None):
        store.set_fact("paused", value)
        assert store.fact("paused") == value
    other = Store.open(where)
    before = other.data_version()
    store.set_fact("paused", None)
    assert other.data_version() == before
    other.close()


# -- the file --------------------------------------------------------------------------------------------------------


def test_the_database_is_ours_alone_and_durable(where: StateDir) -> None:
    """Mode 0600 from the first byte, with its journal; write-ahead, synced at every commit."""
    store = Store.open(where)
    add(store)
    for name in os.listdir(where.path):
        if name.startswith("outbox.db"):
            assert stat.S_IMODE(os.stat(os.path.join(where.path, name)).st_mode) == 0o600, name
    store.close()
    connection = sqlite3.connect(where.database)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    connection.close()


def test_what_was_committed_is_there_after_reopening(where: StateDir) -> None:
    """Closed or not, the next process reads it."""
    first = Store.open(where)
    run = deliver(first)
    second = Store.open(where)
    assert second.list() == [run]
    first.close()
    second.close()


def test_processes_that_open_a_new_outbox_together_all_get_it(tmp_path: Path) -> None:
    """A daemon and a command that start at the same moment both find the tables, made once."""
    for number in range(8):
        fresh = state_dir(tmp_path / str(number))
        barrier = threading.Barrier(6)

        def work(_: int, fresh: StateDir = fresh, barrier: threading.Barrier = barrier) -> dict[State, int]:
            barrier.wait()
            store = Store.open(fresh)
            try:
                return store.counts()
            finally:
                store.close()

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(work, range(6))) == [dict.fromkeys(State, 0)] * 6


def test_a_newer_layout_is_refused_with_the_way_out(where: StateDir) -> None:
    """An older program never writes into what it does not understand, and does not even read it."""
    Store.open(where).close()
    connection = sqlite3.connect(where.database)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    for opener in (Store.open, Store.read):
        with pytest.raises(StateUnusable, match="newer wandb-outbox") as told:
            opener(where)
        assert "upgrade" in told.value.hint


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_file_is_told_with_the_way_out(where: StateDir, damage: bytes) -> None:
    """No traceback, no silent new beginning: what happened, and that nothing is lost by moving it away."""
    Path(where.database).write_bytes(damage)
    with pytest.raises(StateUnusable, match="cannot be opened") as told:
        Store.open(where)
    assert "move it away" in told.value.hint
    with pytest.raises(StateUnusable, match="cannot be read"):
        Store.read(where)
    assert Path(where.database).read_bytes() == damage


def test_an_executor_sets_a_damaged_outbox_aside_and_begins_a_new_one(where: StateDir) -> None:
    """The old one is kept for whoever wants to look; nothing of its journal is applied to the new one."""
    Path(where.database).write_bytes(b"no database at all" * 100)
    Path(where.database + "-wal").write_bytes(b"old journal")
    store, copy = Store.open_or_rebuild(where, now=NOW)
    assert copy == f"{where.database}.damaged-{NOW:.0f}"
    assert Path(copy).read_bytes().startswith(b"no database")
    assert Path(copy + "-wal").read_bytes() == b"old journal"
    assert store.list() == []
    add(store)
    store.close()
    assert Store.open_or_rebuild(where, now=NOW)[1] is None


def test_an_outbox_damaged_in_its_middle_is_set_aside(where: StateDir) -> None:
    """Pages of zeros below a good header are found at the start, not when it is too late."""
    store = Store.open(where)
    for number in range(200):
        add(store, f"/outputs/{number}", birth=str(number))
    store.close()
    with open(where.database, "r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\0" * (os.path.getsize(where.database) - 4 * 4096))
    fresh, copy = Store.open_or_rebuild(where, now=NOW)
    assert copy is not None
    assert fresh.list() == []
    fresh.close()


def test_a_healthy_outbox_is_never_set_aside_for_being_busy(where: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked is not damaged."""
    monkeypatch.setattr("wandb_outbox.outbox.store.BUSY_TIMEOUT", 0.1)
    store = Store.open(where)
    add(store)
    store.close()
    other = sqlite3.connect(where.database, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StateUnusable):
        Store.open_or_rebuild(where, now=NOW)
    other.close()
    assert os.path.exists(where.database)
    again_ = Store.open(where)
    assert len(again_.list()) == 1
    again_.close()


def test_a_directory_that_may_not_be_written_is_told_with_the_way_out(where: StateDir) -> None:
    """A path that is a directory cannot be opened, and says so."""
    os.mkdir(where.database)
    with pytest.raises(StateUnusable, match="cannot be opened") as told:
        Store.open(where)
    assert "permissions" in told.value.hint


def limited(where: StateDir, pages: int) -> Store:
    """The outbox on a disk with room for so many more pages."""
    Store.open(where).close()
    connection = sqlite3.connect(where.database, isolation_level=None, check_same_thread=False)
    size = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {size + pages}")
    return Store(connection, path=where.database)


def test_a_full_disk_is_told_as_such_and_nothing_is_half_written(where: StateDir) -> None:
    """Every write says so by name, and what was committed before stays whole."""
    store = limited(where, 1)
    done = 0

    def fill() -> None:
        nonlocal done
        for done in range(100_000):
            add(store, f"/outputs/{done}", birth=str(done))

    with pytest.raises(DiskFull, match="cannot be written") as told:
        fill()
    assert "room" in told.value.hint
    assert len(store.list()) == done == store.counts()[State.WRITING]
    with pytest.raises(DiskFull):
        store.set_fact("long", "x" * 100_000)
    assert store.fact("long") is None
    store.close()
    whole = Store.open(where)
    assert len(whole.list()) == done
    add(whole, "/outputs/after")
    whole.close()


def test_a_disk_that_refuses_writes_is_told_as_a_full_one() -> None:
    """An input/output error from the operating system leads to the same pause."""
    code = """
import resource, sys, tempfile
from wandb_outbox.errors import DiskFull
from wandb_outbox.model import Kind
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store
with tempfile.TemporaryDirectory() as path:
    store = Store.open(StateDir(path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        for number in range(100_000):
            store.add(path=f"/{number}", root=None, kind=Kind.FOLDER, format="plain", birth="1", site="s", now=1.0)
    except DiskFull as error:
        print(number > 10, "cannot be written" in error.message, len(store.list()) == number)
    store.close()
"""
    assert run_python(code).strip() == "True True True"


WRITE_FOR_EVER = """
import sys
sys.path.insert(0, sys.argv[2])
from outbox_makers import *
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store
from wandb_outbox.errors import Offline
store = Store.open(StateDir(sys.argv[1]))
store.recover(MINE, now=NOW)
print("ready", flush=True)
number = len(store.list())
while True:
    number += 1
    run = queue(store, f"/outputs/{number}")
    taken = claim(store)
    if number % 2:
        store.uploaded(taken.key, MINE, receipt(taken), now=NOW)
    else:
        store.put_back(taken.key, MINE, Offline("x"), now=NOW, next_attempt_at=NOW + 9e9, used=False, suspect=False)
    print(number, flush=True)
"""


def test_a_process_killed_while_writing_leaves_a_whole_outbox(where: StateDir) -> None:
    """Killed at any moment, round after round: every change that was told is there, and the counts are right."""
    for wait in (0.0, 0.003, 0.011, 0.023):
        with python(WRITE_FOR_EVER, where.path, os.path.dirname(__file__)) as child:
            told = [child.line()]
            time.sleep(wait)
            child.signal(signal.SIGKILL)
            told += [line for line in iter(child.line, "") if line.isdigit()]
            assert child.end() == -signal.SIGKILL
        reader = Store.read(where)
        assert reader is not None
        runs = reader.list()
        states = {run.path: run.state for run in runs}
        assert State.WRITING not in {states[f"/outputs/{number}"] for number in told}
        counted = {state: sum(run.state is state for run in runs) for state in State}
        assert reader.counts() == counted
        reader.close()
        connection = sqlite3.connect(where.database)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


# -- reading only ----------------------------------------------------------------------------------------------------


def test_without_an_outbox_there_is_nothing_to_read(where: StateDir) -> None:
    """`status` before the first start is no error, and makes no file."""
    assert Store.read(where) is None
    assert not os.path.exists(where.database)


def test_an_outbox_that_is_being_made_is_not_there_yet(where: StateDir) -> None:
    """Between its first byte and its tables a reader sees nothing, not an error."""
    Path(where.database).touch()
    assert Store.read(where) is None


def test_a_reader_sees_what_a_living_writer_commits_and_changes_nothing(store: Store, where: StateDir) -> None:
    """The daemon goes on writing while people look."""
    reader = Store.read(where)
    assert reader is not None
    run = queue(store)
    assert reader.list() == [run]
    with pytest.raises(StateUnusable):
        reader.set_fact("x", 1)
    with pytest.raises(StateUnusable):
        reader.ask("retry", {}, now=NOW)
    reader.close()


def test_a_path_with_signs_of_a_url_can_be_read(tmp_path: Path) -> None:
    """Question marks, hashes and percent signs in the directory's name are part of it."""
    odd = state_dir(tmp_path / "a?mode=rw&b#c%41")
    Store.open(odd).close()
    reader = Store.read(odd)
    assert reader is not None
    assert reader.list() == []
    reader.close()


READ_AS_NOBODY = """
import sys
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store
become_nobody()
store = Store.read(StateDir(sys.argv[1]))
print([run.state.value for run in store.list()], store.counts()["writing"])
store.close()
"""


@pytest.mark.parametrize("alive", [False, True])
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a look by another user: only root can")
def test_another_user_can_read_with_the_writer_dead_or_alive(alive: bool) -> None:
    """A group member's `status` works on a directory that it may not write to, with and without a journal."""
    with public_directory() as public:
        where = StateDir(str(public))
        store = Store.open(where)
        add(store)
        if not alive:
            store.close()
        for name in os.listdir(public):
            (public / name).chmod(0o644)
        before = sorted(os.listdir(public))
        assert any(name.endswith("-wal") for name in before) == alive
        assert run_python(READ_AS_NOBODY, str(public)).strip() == "['writing'] 1"
        assert sorted(os.listdir(public)) == before
        store.close()
