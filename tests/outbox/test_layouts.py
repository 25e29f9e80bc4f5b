"""Every earlier layout of the database is brought up to date, whole or not at all; ``layout_N.sql`` is a dump of each."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from children import run_python
from outbox_makers import COMPLETE, MINE, NOW, SITE, content, receipt, state_dir

from wandb_outbox.errors import StateUnusable
from wandb_outbox.model import Kind, Overrides, Run, State
from wandb_outbox.outbox import schema
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Request, Store

DUMPS = {int(path.stem.removeprefix("layout_")): path for path in Path(__file__).parent.glob("layout_*.sql")}


@pytest.fixture
def where(tmp_path: Path) -> StateDir:
    """Give a state directory without a database."""
    return state_dir(tmp_path)


def restore(where: StateDir, layout: int) -> None:
    """Put an outbox of this layout there."""
    connection = sqlite3.connect(where.database)
    connection.executescript(f"PRAGMA journal_mode = WAL;\n{DUMPS[layout].read_text()}")
    connection.close()


def layout_of(where: StateDir) -> tuple[int, list[tuple[str, ...]]]:
    """The number of the layout, and the shape of all tables as SQLite knows it."""
    connection = sqlite3.connect(where.database)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    shape = connection.execute(
        "SELECT m.type, m.name, c.name, c.type, c.dflt_value FROM sqlite_schema m LEFT JOIN pragma_table_info(m.name) c "
        "ORDER BY 1, 2, 3"
    ).fetchall()
    connection.close()
    return version, shape


def test_there_is_a_dump_of_every_earlier_layout() -> None:
    """Whoever adds a layout keeps an outbox of the one before."""
    assert sorted(DUMPS) == list(range(1, schema.VERSION))


@pytest.mark.parametrize("layout", sorted(DUMPS))
def test_an_earlier_outbox_is_brought_up_to_date_with_all_that_is_in_it(where: StateDir, layout: int) -> None:
    """Every row, receipt, attempt, request and fact is there; the tables are those of a new outbox; work goes on."""
    restore(where, layout)
    store, set_aside = Store.open_or_rebuild(where, now=NOW)
    assert set_aside is None
    runs: dict[str, Run] = {run.path.rpartition("/")[2]: run for run in store.list()}
    uploaded = os.fsdecode(b"uploaded-\xff")
    names = {state.value: state for state in State if state is not State.UPLOADED} | {uploaded: State.UPLOADED}
    assert {name: run.state for name, run in runs.items()} == names
    assert store.counts() == dict.fromkeys(State, 1)
    assert all(run.root == "/outputs" and run.kind is Kind.FOLDER and run.first_seen == NOW for run in runs.values())
    delivered = runs[uploaded]
    assert (delivered.delivered_fingerprint, delivered.uploaded_at) == (content().fingerprint, NOW + 9)
    assert (delivered.artifact, delivered.digest) == (receipt(delivered).artifact, "d1")
    assert delivered.warnings == ("table-cut: 10,000 rows",)
    assert (runs["failed"].error_class, runs["failed"].error_hint) == ("Rejected", "look at plan")
    assert [each.outcome for each in store.attempts(runs["failed"].key)] == ["Rejected"]
    assert (runs["held"].hold, runs["skipped"].by_person, runs["failed"].contacted) == (True, True, True)
    assert runs["uploading"].overrides == Overrides(project="other", tags=("a", "b"))
    assert (store.fact("generation"), store.fact("mark"), store.fact("paused")) == (7, "0123456789abcdef", False)
    assert store.requests() == [Request(1, "recheck", {})]

    # And on: an interrupted upload, a new content of a delivered folder, a new folder.
    assert store.recover(MINE, now=NOW) == 1
    assert store.reopen(delivered.key, "changed")
    assert store.enqueue(delivered.key, COMPLETE, content(2), now=NOW + 20)
    new = store.add(
        path="/outputs/new", root="/outputs", kind=Kind.FOLDER, format="plain", birth="b", site=SITE, now=NOW
    )
    assert store.enqueue(new.key, COMPLETE, content(3), now=NOW + 30)
    claimed = [store.claim(MINE, now=NOW + 40, suspects=False) for _ in range(4)]
    assert {run.path.rpartition("/")[2] for run in claimed if run} == {"queued", "uploading", uploaded, "new"}
    store.close()
    fresh = state_dir(Path(where.path) / "fresh")
    Store.open(fresh).close()
    assert layout_of(where) == layout_of(fresh)


@pytest.mark.parametrize("layout", sorted(DUMPS))
def test_only_the_executor_changes_the_layout(where: StateDir, layout: int) -> None:
    """A command of a newer version beside a daemon of an earlier one leaves its tables alone, and says what to do."""
    restore(where, layout)
    before = layout_of(where)
    for opener in (Store.open, Store.read):
        with pytest.raises(StateUnusable, match=f"earlier wandb-outbox \\(layout {layout}") as told:
            opener(where)
        assert "restart the daemon" in told.value.hint
    assert layout_of(where) == before


@pytest.mark.parametrize("fault", ["SELECT no_such_function();", "INSERT INTO counts VALUES ('held', 0);", "not SQL;"])
def test_a_step_that_fails_leaves_the_layout_as_it_was(
    where: StateDir, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Half a step is rolled back, and nothing is set aside; with a step that works the same outbox is brought up to date."""
    good = "ALTER TABLE runs ADD COLUMN extra TEXT; UPDATE runs SET extra = 'there'; "
    Store.open(where).close()
    steps = schema.MIGRATIONS
    before = layout_of(where)
    monkeypatch.setattr(schema, "VERSION", len(steps) + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", (*steps, good + fault))
    with pytest.raises(StateUnusable, match="cannot be opened"):
        Store.open_or_rebuild(where, now=NOW)
    assert layout_of(where) == before
    monkeypatch.setattr(schema, "MIGRATIONS", (*steps, good))
    store, set_aside = Store.open_or_rebuild(where, now=NOW)
    store.close()
    assert set_aside is None
    assert layout_of(where)[0] == len(steps) + 1


def test_a_process_that_dies_in_a_step_leaves_the_layout_as_it_was(where: StateDir) -> None:
    """``kill -9`` in the middle: the next start finds the layout before it, with every row, and does it again."""
    restore(where, 1)
    before = layout_of(where)
    code = """
import os, signal, sqlite3, sys
from wandb_outbox.outbox import schema
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store
connect = sqlite3.connect
def connect_with_an_end(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return connection
sqlite3.connect = connect_with_an_end
schema.MIGRATIONS = (schema.MIGRATIONS[0], schema.MIGRATIONS[1] + "UPDATE runs SET reason = 'half done'; SELECT die();")
if os.fork() == 0:
    Store.open_or_rebuild(StateDir(sys.argv[1]), now=1.0)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert run_python(code, where.path).strip() == "-9"
    assert layout_of(where) == before
    store, set_aside = Store.open_or_rebuild(where, now=NOW)
    assert set_aside is None
    assert "half done" not in {run.reason for run in store.list()}
    assert len(store.list()) == len(State)
    store.close()
