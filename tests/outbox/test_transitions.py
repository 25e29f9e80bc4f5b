"""Whatever is asked of the store in whatever order, only legal changes of state happen, and the counts are right."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from outbox_makers import COMPLETE, CRASHED, MINE, NOW, OLD, SITE, WRITING, add, again, content, receipt, state_dir
from unhurried import unhurried

from wandb_outbox.errors import FolderChanged, Offline, RunDeleted, UploaderCrashed
from wandb_outbox.model import STATE_MEANINGS, TRANSITIONS, Overrides, Run, Snapshot, State, run_id
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store

LEGAL = ", ".join(f"('{old}', '{new}')" for old, news in TRANSITIONS.items() for new in sorted(news))
GUARD = f"""
CREATE TRIGGER legal_changes_only BEFORE UPDATE OF state ON runs
WHEN old.state <> new.state AND (old.state, new.state) NOT IN (VALUES {LEGAL})
BEGIN SELECT RAISE(ABORT, 'an illegal change of state'); END;
"""


def guarded(path: Path) -> tuple[Store, StateDir]:
    """An outbox whose database refuses every change of state that the model does not know."""
    where = state_dir(path)
    store = Store.open(where)
    connection = sqlite3.connect(where.database)
    connection.executescript(GUARD)
    connection.close()
    return store, where


def test_every_state_has_a_meaning_and_a_way_on() -> None:
    """No state is a dead end, and each has its sentence."""
    assert set(TRANSITIONS) == set(State) == set(STATE_MEANINGS)
    assert all(news and old not in news for old, news in TRANSITIONS.items())


def test_the_guard_of_these_tests_bites(tmp_path: Path) -> None:
    """A change that the model does not know is refused by the database itself."""
    store, where = guarded(tmp_path)
    add(store)
    connection = sqlite3.connect(where.database)
    with pytest.raises(sqlite3.IntegrityError, match="illegal change"):
        connection.execute("UPDATE runs SET state = 'uploading', claim = 'x'")
    connection.close()
    store.close()


def test_a_state_without_its_claim_is_refused_by_the_database(tmp_path: Path) -> None:
    """`uploading` and a claim go together, in every row, always."""
    store, where = guarded(tmp_path)
    add(store)
    connection = sqlite3.connect(where.database)
    for change in ("claim = 'x'", "state = 'queued', claim = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            connection.execute(f"UPDATE runs SET {change}")  # noqa: S608  two fixed texts
    connection.close()
    store.close()


PATHS = st.sampled_from([f"/outputs/{name}" for name in "abcd"])
CONTENTS = st.integers(1, 3).map(content)
CLAIMS = st.sampled_from([MINE, OLD])
ERRORS = st.sampled_from([Offline("no route"), UploaderCrashed("it died", hint="look")])
HOLDS = st.sampled_from([None, None, "for a person"])


class Model:
    """What the outbox should hold of one row."""

    def __init__(self, run: Run) -> None:
        self.state = run.state
        self.claim: str | None = None
        self.path = run.path
        self.attempts = 0
        self.tries = 0
        self.fingerprint = ""
        self.delivered: str | None = None
        self.gone = False
        self.by_person = False
        self.forced = False
        self.hold = False
        self.begun = False
        self.revision = 0


class Outbox(RuleBasedStateMachine):
    """Detection, delivery, commands and crashes in any order, against a plain model."""

    keys = Bundle("keys")

    @initialize()
    def begin(self) -> None:
        """A new outbox."""
        self.directory = tempfile.mkdtemp(prefix="outbox-machine-")
        self.store, self.where = guarded(Path(self.directory))
        self.rows: dict[int, Model] = {}
        self.births = 0

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.directory)

    def _check(self, key: int, changed: bool, expected: bool) -> Model:
        assert changed == expected
        return self.rows[key]

    @rule(target=keys, path=PATHS)
    def see(self, path: str) -> object:
        """A folder is seen."""
        run = add(self.store, path)
        if run.key in self.rows:
            assert self.rows[run.key].path == path
            return multiple()
        assert run.state is State.WRITING
        self.rows[run.key] = Model(run)
        return run.key

    @rule(key=keys)
    def note(self, key: int) -> None:
        """A look says that somebody writes."""
        self.store.note(key, WRITING, format="plain", root="/outputs", now=NOW)
        if self.rows[key].state is State.WRITING:
            self.rows[key].gone = False

    @rule(key=keys, found=CONTENTS, hold=HOLDS)
    def complete(self, key: int, found: Snapshot, hold: str | None) -> None:
        """A look finds it complete."""
        row = self.rows[key]
        changed = self.store.enqueue(key, COMPLETE, found, now=NOW, hold=hold)
        self._check(key, changed, row.state is State.WRITING)
        if not changed:
            return
        if row.delivered == found.fingerprint and not row.forced and not row.begun:
            row.state = State.UPLOADED
            row.revision -= row.fingerprint != found.fingerprint
        else:
            row.state = State.QUEUED if hold is None else State.HELD
            row.revision += row.delivered is not None and row.fingerprint == row.delivered != found.fingerprint
            row.attempts = 0
        row.fingerprint, row.gone = found.fingerprint, False

    @rule(key=keys, found=CONTENTS)
    def skip(self, key: int, found: Snapshot) -> None:
        """Policy leaves it alone."""
        row = self.rows[key]
        if self._check(key, self.store.skip(key, "why", CRASHED, found), row.state is State.WRITING).state is (
            State.WRITING
        ):
            row.state, row.by_person, row.fingerprint = State.SKIPPED, False, found.fingerprint

    @rule(key=keys)
    def change(self, key: int) -> None:
        """Its content changed."""
        row = self.rows[key]
        expected = row.state in (State.HELD, State.QUEUED, State.UPLOADED, State.FAILED) or (
            row.state is State.SKIPPED and not row.by_person
        )
        if self._check(key, self.store.reopen(key, "changed"), expected) and expected:
            row.state, row.forced, row.gone = State.WRITING, False, False

    @rule(key=keys)
    def remake(self, key: int) -> None:
        """It was deleted and made anew."""
        self.births += 1
        row, before = self.rows[key], self.store.get(key)
        expected = row.state is not State.UPLOADING
        changed = self.store.remake(key, birth=f"new:{self.births}", site=SITE, reason="anew")
        self._check(key, changed, expected)
        if changed:
            run = self.store.get(key)
            assert before is not None
            assert run is not None
            assert not (before.contacted and run.run_id == before.run_id)
            row.state, row.fingerprint, row.delivered, row.revision = State.WRITING, "", None, 0
            row.attempts, row.gone, row.forced = 0, False, False

    @rule(key=keys)
    def vanish(self, key: int) -> None:
        """It is not there any more."""
        row = self.rows[key]
        waiting = row.state in (State.WRITING, State.HELD, State.QUEUED, State.FAILED)
        expected = waiting or (row.state is State.UPLOADED and not row.gone)
        self._check(key, self.store.vanish(key), expected)
        if expected:
            row.gone = True
        if waiting:
            row.state = State.SKIPPED

    @rule(key=keys)
    def come_back(self, key: int) -> None:
        """It is there again."""
        row = self.rows[key]
        expected = row.gone and row.state in (State.UPLOADED, State.SKIPPED)
        self._check(key, self.store.return_(key), expected)
        if expected:
            row.gone = False
            row.state = State.WRITING if row.state is State.SKIPPED else row.state

    @rule(key=keys, path=PATHS)
    def rename(self, key: int, path: str) -> None:
        """It has another name."""
        row = self.rows[key]
        expected = row.state is not State.UPLOADING and all(path != other.path for other in self.rows.values())
        self._check(key, self.store.move(key, path=path, root="/outputs"), expected)
        if expected:
            row.path = path

    @rule(claim=CLAIMS)
    def take(self, claim: str) -> None:
        """An executor takes the next."""
        run = self.store.claim(claim, now=NOW, suspects=False)
        queued = {key for key, row in self.rows.items() if row.state is State.QUEUED}
        if run is None:
            assert all(again(self.store, run_).suspect for run_ in self.store.list([State.QUEUED]))
            return
        assert run.key in queued
        row = self.rows[run.key]
        row.state, row.claim, row.tries = State.UPLOADING, claim, row.tries + 1

    @rule(key=keys, claim=CLAIMS)
    def contact(self, key: int, claim: str) -> None:
        """The uploader is about to open the run."""
        run = self.store.get(key)
        assert run is not None
        changed = self.store.contact(key, claim, run_id=run.run_id, incarnation=run.incarnation)
        self._check(key, changed, self.rows[key].claim == claim)
        self.rows[key].begun = self.rows[key].begun or changed

    @rule(key=keys, claim=CLAIMS)
    def uploaded(self, key: int, claim: str) -> None:
        """A receipt arrives."""
        row, run = self.rows[key], self.store.get(key)
        assert run is not None
        told = replace(receipt(run), fingerprint=run.fingerprint)
        if self._check(key, self.store.uploaded(key, claim, told, now=NOW), row.claim == claim).claim == claim:
            row.state, row.claim, row.delivered = State.UPLOADED, None, run.fingerprint
            row.forced, row.begun, row.attempts = False, False, row.attempts + 1

    @rule(key=keys, claim=CLAIMS, error=ERRORS, used=st.booleans(), suspect=st.booleans())
    def put_back(self, key: int, claim: str, error: Offline, used: bool, suspect: bool) -> None:
        """It could not be delivered now."""
        row = self.rows[key]
        changed = self.store.put_back(key, claim, error, now=NOW, next_attempt_at=None, used=used, suspect=suspect)
        if self._check(key, changed, row.claim == claim).claim == claim:
            row.state = State.HELD if row.hold and not row.forced else State.QUEUED
            row.claim, row.attempts = None, row.attempts + used

    @rule(key=keys, claim=CLAIMS, error=ERRORS)
    def fail(self, key: int, claim: str, error: Offline) -> None:
        """It is given up."""
        row = self.rows[key]
        if self._check(key, self.store.fail(key, claim, error, now=NOW), row.claim == claim).claim == claim:
            row.state, row.claim, row.attempts = State.FAILED, None, row.attempts + 1

    @rule(key=keys, claim=CLAIMS)
    def changed_meanwhile(self, key: int, claim: str) -> None:
        """It changed under its upload."""
        row = self.rows[key]
        changed = self.store.changed(key, claim, FolderChanged("changed"), now=NOW)
        if self._check(key, changed, row.claim == claim).claim == claim:
            row.state, row.claim = State.WRITING, None

    @rule(key=keys, claim=CLAIMS)
    def deleted_there(self, key: int, claim: str) -> None:
        """Its run was deleted on the server."""
        row, run = self.rows[key], self.store.get(key)
        assert run is not None
        incarnation = run.incarnation + 1
        fresh = run_id(SITE, f"{key}", incarnation)
        changed = self.store.renew(
            key, claim, RunDeleted("x"), run_id=fresh, incarnation=incarnation, now=NOW, next_attempt_at=NOW
        )
        if self._check(key, changed, row.claim == claim).claim == claim:
            row.state, row.claim, row.delivered, row.revision = State.QUEUED, None, None, 0
            row.begun, row.attempts = False, row.attempts + 1

    @rule(key=keys, claim=CLAIMS)
    def deleted_there_for_good(self, key: int, claim: str) -> None:
        """Its run was deleted on the server, and it is to be left alone then."""
        row = self.rows[key]
        changed = self.store.forsake(key, claim, RunDeleted("x"), reason="deleted there", now=NOW)
        if self._check(key, changed, row.claim == claim).claim == claim:
            row.state, row.claim, row.delivered, row.begun, row.by_person = State.SKIPPED, None, None, False, False

    @rule(claim=CLAIMS)
    def restart(self, claim: str) -> None:
        """An executor starts and finds what others left."""
        lost = [row for row in self.rows.values() if row.claim not in (None, claim)]
        assert self.store.recover(claim, now=NOW) == len(lost)
        for row in lost:
            row.state, row.claim = State.QUEUED, None

    @rule(key=keys)
    def retry(self, key: int) -> None:
        """A person asks for another try."""
        row = self.rows[key]
        expected = row.state in (State.FAILED, State.QUEUED)
        self._check(key, self.store.retry(key), expected)
        if expected:
            row.state, row.attempts = State.QUEUED, 0

    @rule(key=keys)
    def hold(self, key: int) -> None:
        """A person holds it."""
        row = self.rows[key]
        self._check(key, self.store.hold(key), row.state is not State.UPLOADING)
        row.hold = True
        if row.state is State.QUEUED:
            row.state, row.forced = State.HELD, False

    @rule(key=keys, found=CONTENTS)
    def release(self, key: int, found: Snapshot) -> None:
        """A person approves a content."""
        row = self.rows[key]
        waiting = row.state is State.HELD or (row.state is State.SKIPPED and not row.gone)
        expected = waiting and row.fingerprint == found.fingerprint
        self._check(key, self.store.release(key, found.fingerprint), expected)
        if expected:
            row.state, row.forced, row.by_person, row.attempts = State.QUEUED, True, False, 0

    @rule(key=keys)
    def skip_by_person(self, key: int) -> None:
        """A person wants it left alone."""
        row = self.rows[key]
        expected = row.state in (State.WRITING, State.HELD, State.QUEUED, State.FAILED)
        self._check(key, self.store.skip_by_person(key), expected)
        if expected:
            row.state, row.by_person = State.SKIPPED, True

    @rule(key=keys, found=CONTENTS)
    def force(self, key: int, found: Snapshot) -> None:
        """A person asks for it as it is now."""
        row = self.rows[key]
        expected = row.state is not State.UPLOADING
        self._check(key, self.store.force(key, Overrides(), COMPLETE, found, now=NOW), expected)
        if expected:
            row.revision += row.delivered is not None and row.fingerprint == row.delivered != found.fingerprint
            row.state, row.forced, row.by_person, row.gone = State.QUEUED, True, False, False
            row.attempts, row.fingerprint = 0, found.fingerprint

    @rule()
    def reopen_the_file(self) -> None:
        """The process dies and another opens the outbox."""
        self.store.close()
        self.store = Store.open(self.where)

    @invariant()
    def the_outbox_holds_what_the_model_says(self) -> None:
        """Row by row, and in the counts."""
        if not hasattr(self, "store"):
            return
        runs = self.store.list()
        assert {run.key for run in runs} == set(self.rows)
        for run in runs:
            row = self.rows[run.key]
            assert (run.state, run.claim, run.path, run.attempts) == (row.state, row.claim, row.path, row.attempts)
            assert (run.fingerprint, run.delivered_fingerprint) == (row.fingerprint, row.delivered)
            assert (run.gone, run.forced, run.hold) == (row.gone, row.forced, row.hold)
            assert run.revision == row.revision >= 0
            tries = self.store.attempts(run.key)
            assert len(tries) == row.tries
            assert [each.ended_at is None for each in tries[:-1]] == [False] * (len(tries) - 1 if tries else 0)
            if tries:
                assert (tries[-1].ended_at is None) == (row.state is State.UPLOADING)
        counted = {state: sum(row.state is state for row in self.rows.values()) for state in State}
        assert self.store.counts() == counted
        assert len({run.run_id for run in runs}) == len(runs)


TestOutbox = Outbox.TestCase
TestOutbox.settings = settings(unhurried, max_examples=30, stateful_step_count=40)
