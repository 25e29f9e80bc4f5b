"""The store: every change of a row's state is one guarded statement, durable when the method returns.

WAL with ``synchronous=FULL``: a committed change survives power loss. Guarded means that the statement names the
state it starts from (and, for an upload, the claim it belongs to), so that a late or repeated call changes nothing
and says so by returning ``False``. Times are arguments; nothing here reads a clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from wandb_outbox.errors import Held, OutboxError, StateUnusable
from wandb_outbox.outbox import schema
from wandb_outbox.outbox.location import DISK_TROUBLE, StateDir, disk_full, keep_group
from wandb_outbox.row import LINGERS, OLDER, Kind, Overrides, Run, State, run_id

if TYPE_CHECKING:
    from wandb_outbox.model import Judgement, Receipt, Snapshot

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another connection's write."""

_COLUMNS = (
    "key, path, root, kind, format, birth, state, reason, verdict, outcome, judged, run_id, revision, incarnation, "
    "fingerprint, files, bytes, first_seen, completed_at, attempts, next_attempt_at, overrides, error_class, "
    "error_message, error_hint, entity, project, name, url, artifact, digest, delivered_fingerprint, uploaded_at, "
    "warnings, claim, contacted, suspect, gone, by_person, hold, forced, insisted, verdict_since, look_at"
)

PAGE = 500
"""Rows that are read at once where all are looked at."""

_OPEN = "state IN ('writing', 'held', 'queued', 'uploading', 'failed')"
"""The condition of the index ``runs_open``, word by word: SQLite uses it only then, and else looks at every row."""

_LINE = "printf('%-9s  %.8s  %s  %s', state, run_id, path, iif(state = 'uploaded', url, reason))"
"""State, run id, folder, and its URL once it is uploaded, else the reason for its state."""

Object = tuple[bytes, float | None, float, float | None, float | None]
"""A row as a JSON object, without its times; then ``next_attempt_at``, ``first_seen``, ``completed_at``, ``uploaded_at``."""

_OBJECT = (
    "json_object('id', run_id, 'path', CAST(path AS TEXT), 'root', CAST(root AS TEXT), 'format', format, 'kind', kind, "
    "'state', state, 'reason', reason, 'verdict', verdict, 'revision', revision, 'incarnation', incarnation, "
    "'attempts', attempts, 'entity', entity, 'project', project, 'name', name, 'url', url, 'artifact', artifact, "
    "'digest', digest, 'files', files, 'bytes', bytes, 'fingerprint', fingerprint, "
    "'error', iif(error_message IS NULL OR state IN ('uploaded', 'skipped'), NULL, "
    "json_object('class', error_class, 'message', error_message, 'hint', error_hint)))"
)

# Further away than any wait of ours means that the clock was set back since: then it is due, too.
_DUE = "(coalesce(next_attempt_at, 0) <= {now} OR next_attempt_at > {now} + 7200)"

# Counted once for each content that follows a delivered one, however often it changes before it is delivered.
_NEXT_REVISION = (
    "revision = revision + "
    "(delivered_fingerprint IS NOT NULL AND fingerprint = delivered_fingerprint AND fingerprint <> ?5)"
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver a run, as the history keeps it."""

    started_at: float
    ended_at: float | None
    outcome: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """Something a command asked of the running executor."""

    id: int
    verb: str
    arguments: dict[str, Any]


class Store:
    """One connection to the outbox. Methods may be called from several threads; each call is atomic."""

    def __init__(self, connection: sqlite3.Connection, *, path: str) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self._path = path

    # -- opening ---------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, state_dir: StateDir, *, migrate: bool = False) -> Store:
        """Open for reading and writing; create it if there is none.

        ``migrate``: bring an earlier layout up to date. Only for the executor: beside a daemon of an earlier version the
        tables must not change. Raises :class:`StateUnusable` for another layout, a database that cannot be opened, or one
        that is damaged.
        """
        path = state_dir.database
        try:
            # Created by us, so that it is ours alone from its first byte.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            store = cls(connection, path=path)
            store._prepare(migrate=migrate)
            keep_group(state_dir)
        except (sqlite3.Error, OSError) as error:
            if _is_disk_trouble(error):
                # Not a matter of configuration: who starts us again finds room again, one day.
                raise disk_full(f"the outbox {path}", error) from error
            raise StateUnusable(
                f"the outbox {path} cannot be opened ({error})",
                hint="check the permissions and the disk; if it is damaged, move it away: it is rebuilt from the "
                "folders and from what the server says, and nothing is sent twice",
            ) from error
        return store

    @classmethod
    def open_or_rebuild(cls, state_dir: StateDir, *, now: float) -> tuple[Store, str | None]:
        """The same for the executor, which holds the lock: a damaged database is set aside, and a new one begun.

        Nothing is lost by it but the history of attempts: folders are found by the rescan, and what the server has is
        recognised by the run ids and by what their configs say. Returns the store, and where the old one lies.
        """
        damage: sqlite3.DatabaseError | None = None
        try:
            store = cls.open(state_dir, migrate=True)
            answer = store._value("PRAGMA quick_check(1)")  # noqa: SLF001  our own
            if answer == "ok":
                return store, None
            store.close()
        except sqlite3.DatabaseError as error:
            damage = error
        except StateUnusable as error:
            if not isinstance(error.__cause__, sqlite3.DatabaseError):
                raise
            damage = error.__cause__
            if damage.sqlite_errorcode not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
        copy = f"{state_dir.database}.damaged-{now:.0f}"
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(state_dir.database + suffix, copy + suffix)
        return cls.open(state_dir), copy

    @classmethod
    def read(cls, state_dir: StateDir) -> Store | None:
        """Open for reading only, or ``None`` when there is no outbox yet. Works with the daemon dead or alive.

        A WAL database whose last writer is gone cannot be opened ``mode=ro`` by somebody who may not write to its
        directory; ``immutable=1`` can, and is right only while there is no ``-wal`` file.
        """
        path = state_dir.database
        try:
            os.stat(path)
        except PermissionError as error:
            # Not "there is none": a service's outbox would look empty to everybody else.
            raise _cannot_be_read(path, "it may not be read by this user") from error
        except OSError:
            return None
        escaped = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        for pause in (0.01, 0.03, 0.1, None):
            quiet = not os.path.exists(path + "-wal") and not os.access(state_dir.path, os.W_OK)
            try:
                connection = sqlite3.connect(
                    f"file:{escaped}?mode=ro" + ("&immutable=1" if quiet else ""),
                    uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False,
                )  # fmt: skip
                store = cls(connection, path=path)
                version = store._check_version()
                if version:
                    store._refuse_earlier(version)
            except sqlite3.Error as error:
                if pause is None:
                    raise _cannot_be_read(path, str(error)) from error
                time.sleep(pause)  # an executor came or went just between the two lines
            else:
                break
        keep_group(state_dir)
        if version == 0:
            store.close()
            return None  # it is being made just now
        return store

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _prepare(self, *, migrate: bool) -> None:
        connection = self._connection
        self._switch_to_wal()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        version = self._check_version()
        if version and not migrate:
            self._refuse_earlier(version)
        if version == schema.VERSION:
            return
        # One transaction for all steps: nobody ever sees a layout in between.
        steps = "".join(f"{each};" for each in schema.MIGRATIONS[version:])
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {schema.VERSION}; COMMIT;")
        except sqlite3.Error:
            if self._inside():
                connection.execute("ROLLBACK")
            if self._check_version() < schema.VERSION:
                raise  # else another process has done the same just now

    def _switch_to_wal(self) -> None:
        # SQLite does not wait for this lock: processes that open a new outbox together meet here.
        for pause in (0.01, 0.03, 0.1, 0.3, 0.5, None):
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if pause is None or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                time.sleep(pause)
            else:
                return

    def _check_version(self) -> int:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > schema.VERSION:
            raise StateUnusable(
                f"the outbox {self._path} was written by a newer wandb-outbox (layout {version}, this one knows "
                f"{schema.VERSION})",
                hint="upgrade wandb-outbox, or give this one another --state-dir",
            )
        return version

    def _refuse_earlier(self, version: int) -> None:
        if version < schema.VERSION:
            raise StateUnusable(
                f"the outbox {self._path} was written by an earlier wandb-outbox (layout {version}, this one knows "
                f"{schema.VERSION})",
                hint="it is brought up to date by the next `watch` or `flush`; restart the daemon if one runs",
            )

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: int) -> Run | None:
        """One row by its key."""
        return next(iter(self._select("WHERE key = ?", (key,))), None)

    def by_path(self, path: str) -> Run | None:
        """The row of the folder with this real path."""
        return next(iter(self._select("WHERE path = ?", (os.fsencode(path),))), None)

    def find(self, query: str) -> Sequence[Run]:
        """The rows whose run id starts with ``query``, or whose folder is ``query`` or lies below it."""
        path = os.fsencode(os.path.realpath(query))
        return self._select(
            "WHERE path = ? OR (run_id >= ? AND run_id < ?) OR (path > ? AND path < ?) ORDER BY key",
            (path, query, query + "\U0010ffff", path + b"/", path + b"0"),
        )

    def list(self, states: Sequence[State] = ()) -> Sequence[Run]:
        """All rows, or those in ``states``, in the order they were first seen."""
        where, values = _in_states(states)
        return self._select(f"WHERE {where} ORDER BY key", values)

    def objects(self, states: Sequence[State] = ()) -> Iterator[Sequence[Object]]:
        """The rows as ``list --json`` shows them, written as JSON by SQLite itself, in pages.

        That is a fifth of the cost of making a :class:`Run` of each. The times come beside: SQLite writes 15 digits of them.
        """
        where, values = _in_states(states)
        statement = (
            f"SELECT CAST({_OBJECT} AS BLOB), next_attempt_at, first_seen, completed_at, uploaded_at FROM runs "
            f"WHERE key BETWEEN ? AND ? AND {where} ORDER BY key"
        )
        for first, last in self._key_ranges():
            yield self._query(statement, first, last, *values)

    def lines(self, states: Sequence[State] = ()) -> Iterator[bytes]:
        """The lines of ``list``, put together by SQLite: in pages, with a NUL between two lines, which no path can hold."""
        where, values = _in_states(states)
        statement = (
            f"SELECT CAST(group_concat(line, char(0)) AS BLOB) FROM (SELECT {_LINE} AS line FROM runs "
            f"WHERE key BETWEEN ? AND ? AND {where} ORDER BY key)"
        )
        for first, last in self._key_ranges():
            page = self._value(statement, first, last, *values)
            if page is not None:
                yield page

    def _key_ranges(self) -> Iterator[tuple[int, int]]:
        """The first and the last key of each page, so that memory stays small however many rows there are.

        Each page is read by itself: whoever prints them may be stopped for hours, and the journal must not grow meanwhile.
        Keys count up from 1, and no row is ever deleted; with some states only, a page may be empty.
        """
        newest = int(self._value("SELECT max(key) FROM runs") or 0)
        for first in range(1, newest + 1, PAGE):
            yield first, first + PAGE - 1

    def known_folders(self) -> Iterator[tuple[str, int]]:
        """Path and folder time of every row: -1 for one that is being written, else the time when it was found finished.

        Read in pages, so that memory stays small however many there are.
        """
        last = -1
        statement = (
            "SELECT key, path, iif(state = 'writing', -1, mtime_ns) FROM runs WHERE key > ? AND gone = 0 "
            f"ORDER BY key LIMIT {PAGE}"
        )
        while page := self._query(statement, last):
            yield from ((os.fsdecode(path), int(mtime_ns)) for _, path, mtime_ns in page)
            last = page[-1][0]

    def waiting_by_hand(self) -> Sequence[str]:
        """The folders below no root that a person gave and that are not delivered yet."""
        rows = self._query(f"SELECT path FROM runs WHERE {_OPEN} AND state IN ('writing', 'queued') AND root IS NULL")
        return [os.fsdecode(path) for (path,) in rows]

    def counts(self) -> dict[State, int]:
        """How many rows are in each state; costs the same however many there are."""
        rows = dict(self._query("SELECT state, number FROM counts"))
        return {state: int(rows.get(state.value, 0)) for state in State}

    def settling(self) -> int:
        """How many rows wait for time alone."""
        return int(
            self._value(f"SELECT count(*) FROM runs WHERE {_OPEN} AND state = 'writing' AND verdict = 'settling'")
        )

    def backlog(self) -> Sequence[tuple[str, int, int]]:
        """Of each root the folders that were old when the watch over it began, and are held: how many, and their bytes."""
        rows = self._query(
            f"SELECT root, count(*), sum(bytes) FROM runs WHERE {_OPEN} AND state = 'held' AND root IS NOT NULL "
            "AND substr(reason, 1, ?1) = ?2 GROUP BY root ORDER BY root",
            len(OLDER), OLDER,
        )  # fmt: skip
        return [(os.fsdecode(root), int(number), int(total)) for root, number, total in rows]

    def lingering(self) -> Sequence[Run]:
        """Rows that say that they are done while somebody still has a file of theirs open, the oldest first."""
        return self._select(
            f"WHERE {_OPEN} AND state = 'writing' AND substr(reason, 1, {len(LINGERS)}) = ? ORDER BY verdict_since",
            (LINGERS,),
        )

    def oldest_waiting(self) -> float | None:
        """Since when the oldest queued row has been complete."""
        return _time(self._value("SELECT min(completed_at) FROM runs WHERE state = 'queued'"))

    def next_attempt_at(self) -> float | None:
        """When the next queued row may be tried; 0 when one may be tried now."""
        return _time(self._value("SELECT min(coalesce(next_attempt_at, 0)) FROM runs WHERE state = 'queued'"))

    def uploaded_since(self, moment: float) -> int:
        """How many rows were confirmed at or after this time."""
        return int(self._value("SELECT count(*) FROM runs WHERE state = 'uploaded' AND uploaded_at >= ?", moment))

    def last_uploaded(self) -> Run | None:
        """The row whose upload was confirmed last."""
        return next(iter(self._select("WHERE state = 'uploaded' ORDER BY uploaded_at DESC LIMIT 1")), None)

    def last_error(self) -> Run | None:
        """An unfinished row with an error, the newest attempt first."""
        return next(
            iter(
                self._select(
                    f"WHERE {_OPEN} AND state <> 'held' AND error_message IS NOT NULL "
                    "ORDER BY (SELECT max(id) FROM attempts WHERE run = runs.key) DESC LIMIT 1"
                )
            ),
            None,
        )

    def attempts(self, key: int) -> Sequence[Attempt]:
        """The history of every try of this row, oldest first."""
        rows = self._query("SELECT started_at, ended_at, outcome, message FROM attempts WHERE run = ? ORDER BY id", key)
        return [Attempt(*row) for row in rows]

    def fact(self, name: str) -> Any:
        """A value kept with :meth:`set_fact`, or ``None``."""
        text = self._value("SELECT value FROM facts WHERE name = ?", name)
        return None if text is None else json.loads(text)

    def look_rules(self, root: str | None) -> Any:
        """What :meth:`keep_look_rules` kept for the folders of this root, or elsewhere; ``None`` when nothing was."""
        kept = self.fact("look-rules")
        return None if kept is None else kept["roots"].get(root, kept["elsewhere"])

    def data_version(self) -> int:
        """Changes whenever another connection has committed something."""
        return int(self._value("PRAGMA data_version"))

    # -- detection writes ------------------------------------------------------------------------------------------

    def add(self, *, path: str, root: str | None, kind: Kind, format: str, birth: str, site: str, now: float) -> Run:  # noqa: A002
        """The row of this folder, made if there is none yet. The run id is fixed here, before any contact."""
        encoded = os.fsencode(path)
        with self._transaction():
            incarnation = self._free_incarnation(site, path, 0)
            self._connection.execute(
                "INSERT INTO runs (path, root, kind, format, birth, state, reason, verdict, incarnation, run_id, first_seen) "
                "VALUES (?, ?, ?, ?, ?, 'writing', 'just seen', 'writing', ?, ?, ?) ON CONFLICT (path) DO NOTHING",
                (
                    encoded,
                    None if root is None else os.fsencode(root),
                    kind.value,
                    format,
                    birth,
                    incarnation,
                    run_id(site, path, incarnation),
                    now,
                ),
            )
        run = self.by_path(path)
        if run is None:
            raise OutboxError(f"{path}: the outbox lost the row that it just wrote")
        return run

    def note(
        self,
        key: int,
        judgement: Judgement,
        *,
        format: str,  # noqa: A002
        root: str | None,
        now: float,
        look_at: float | None = None,
    ) -> bool:
        """Keep the newest verdict and reason of a row that waits, and since when; writes only when something is new.

        ``look_at``: when it is looked at again without a sighting.
        """
        return self._change(
            "UPDATE runs SET verdict_since = iif(verdict = ?2, coalesce(verdict_since, ?6), ?6), verdict = ?2, reason = ?3, "
            "format = ?4, root = ?5, gone = 0, look_at = ?7 WHERE key = ?1 AND state = 'writing' "
            "AND (verdict <> ?2 OR verdict_since IS NULL OR reason <> ?3 OR format <> ?4 OR root IS NOT ?5 OR gone <> 0)",
            key, judgement.verdict.value, judgement.reason, format, None if root is None else os.fsencode(root), now, look_at,
        )  # fmt: skip

    def enqueue(
        self, key: int, judgement: Judgement, snapshot: Snapshot, *, now: float, hold: str | None = None
    ) -> bool:
        """A finished folder: to ``queued``, or to ``held`` with the reason in ``hold``; fresh attempts either way.

        When the server already has exactly this content, and nothing of another was begun to be sent since, the row goes
        back to ``uploaded`` instead.
        """
        print_ = snapshot.fingerprint
        with self._transaction():
            # A revision that was counted for a content in between, and never delivered, is taken back.
            if self._change(
                "UPDATE runs SET state = 'uploaded', verdict = ?2, outcome = ?3, reason = 'the server has it', gone = 0, "
                "revision = revision - (fingerprint <> ?4), fingerprint = ?4, files = ?5, bytes = ?6, mtime_ns = ?7, "
                "next_attempt_at = NULL, suspect = 0, error_class = NULL, error_message = NULL, error_hint = NULL "
                "WHERE key = ?1 AND state = 'writing' AND delivered_fingerprint = ?4 AND forced = 0 AND begun = 0",
                key, judgement.verdict.value, judgement.outcome, print_, len(snapshot.files), snapshot.bytes,
                snapshot.mtime_ns,
            ):  # fmt: skip
                return True
            state = State.QUEUED if hold is None else State.HELD
            return self._change(
                f"UPDATE runs SET state = '{state.value}', {_NEXT_REVISION}, verdict = ?2, outcome = ?3, reason = ?4, "
                "fingerprint = ?5, files = ?6, bytes = ?7, completed_at = ?8, attempts = 0, "
                "next_attempt_at = NULL, suspect = 0, gone = 0, mtime_ns = ?9, judged = ?10, "
                "error_class = NULL, error_message = NULL, error_hint = NULL WHERE key = ?1 AND state = 'writing'",
                key, judgement.verdict.value, judgement.outcome, hold or judgement.reason, print_,
                len(snapshot.files), snapshot.bytes, now, snapshot.mtime_ns, judgement.reason,
            )  # fmt: skip

    def skip(self, key: int, reason: str, judgement: Judgement, snapshot: Snapshot) -> bool:
        """Leave a finished folder alone by policy, until its content changes."""
        return self._change(
            "UPDATE runs SET state = 'skipped', by_person = 0, reason = ?2, verdict = ?3, outcome = ?4, fingerprint = ?5, "
            "files = ?6, bytes = ?7, mtime_ns = ?8 WHERE key = ?1 AND state = 'writing'",
            key, reason, judgement.verdict.value, judgement.outcome, snapshot.fingerprint,
            len(snapshot.files), snapshot.bytes, snapshot.mtime_ns,
        )  # fmt: skip

    def reopen(self, key: int, reason: str) -> bool:
        """The folder changed: back to ``writing``; after an upload the receipt is kept meanwhile."""
        return self._change(
            "UPDATE runs SET state = 'writing', verdict = 'writing', verdict_since = NULL, reason = ?2, forced = 0, "
            "insisted = 0, gone = 0 "
            "WHERE key = ?1 "
            "AND (state IN ('held', 'queued', 'uploaded', 'failed') OR (state = 'skipped' AND by_person = 0))",
            key, reason,
        )  # fmt: skip

    def remake(self, key: int, *, birth: str, site: str, reason: str) -> bool:
        """The folder was deleted and made anew: a new experiment, so a new run, once the server may know the old one."""
        run = self.get(key)
        if run is None or run.state is State.UPLOADING:
            return False
        incarnation = self._free_incarnation(site, run.path, run.incarnation + (1 if run.contacted else 0))
        return self._change(
            "UPDATE runs SET state = 'writing', verdict = 'writing', verdict_since = NULL, reason = ?2, birth = ?3, "
            "incarnation = ?4, run_id = ?5, "
            "revision = 0, fingerprint = '', contacted = 0, suspect = 0, gone = 0, forced = 0, insisted = 0, "
            "overrides = '{}', attempts = 0, "
            "url = NULL, artifact = NULL, digest = NULL, delivered_fingerprint = NULL, uploaded_at = NULL, "
            "error_class = NULL, error_message = NULL, error_hint = NULL, outcome = 'unknown' "
            "WHERE key = ?1 AND state <> 'uploading' AND birth <> ?3",
            key, reason, birth, incarnation, run_id(site, run.path, incarnation),
        )  # fmt: skip

    def _free_incarnation(self, site: str, path: str, incarnation: int) -> int:
        """The first from ``incarnation`` on whose run id no other folder has: one that was renamed keeps its id."""
        taken = "SELECT EXISTS (SELECT 1 FROM runs WHERE run_id = ? AND path <> ?)"
        while self._value(taken, run_id(site, path, incarnation), os.fsencode(path)):
            incarnation += 1
        return incarnation

    def rebirth(self, key: int, *, birth: str) -> bool:
        """The same content under another inode: a restored backup, or a file system that hands out new ones."""
        return self._change("UPDATE runs SET birth = ? WHERE key = ? AND state <> 'uploading'", birth, key)

    def move(self, key: int, *, path: str, root: str | None) -> bool:
        """The folder was renamed: the row keeps its run id and its receipt."""
        return self._change(
            "UPDATE runs SET path = ?2, root = ?3 WHERE key = ?1 AND state <> 'uploading' "
            "AND NOT EXISTS (SELECT 1 FROM runs WHERE path = ?2)",
            key, os.fsencode(path), None if root is None else os.fsencode(root),
        )  # fmt: skip

    def by_birth(self, birth: str) -> Sequence[Run]:
        """The rows of folders born so: candidates for a rename."""
        return self._select("WHERE birth = ? ORDER BY key", (birth,))

    def vanish(self, key: int) -> bool:
        """The folder is gone: what was delivered stays, what was not is skipped until it comes back."""
        with self._transaction():
            kept = self._change("UPDATE runs SET gone = 1 WHERE key = ? AND state = 'uploaded' AND gone = 0", key)
            return kept or self._change(
                "UPDATE runs SET state = 'skipped', gone = 1, reason = 'the folder is gone: deleted or moved away before it "
                "could be uploaded' WHERE key = ? AND state IN ('writing', 'held', 'queued', 'failed')",
                key,
            )

    def return_(self, key: int) -> bool:
        """A folder that was gone is there again, and is the same one."""
        with self._transaction():
            back = self._change("UPDATE runs SET gone = 0 WHERE key = ? AND gone = 1 AND state = 'uploaded'", key)
            return back or self._change(
                "UPDATE runs SET state = 'writing', gone = 0, reason = 'it is there again' "
                "WHERE key = ? AND gone = 1 AND state = 'skipped'",
                key,
            )

    # -- delivery writes -------------------------------------------------------------------------------------------

    def has_suspect(self, now: float) -> bool:
        """Whether a row that is due has to be carried alone."""
        return bool(
            self._value(
                "SELECT EXISTS (SELECT 1 FROM runs WHERE state = 'queued' AND suspect = 1 "
                f"AND {_DUE.format(now='?1')})",
                now,
            )
        )

    def claim(
        self,
        claim: str,
        *,
        now: float,
        suspects: bool,
        max_bytes: int | None = None,
        min_bytes: int | None = None,
        only: Sequence[int] | None = None,
        without: Collection[int] = (),
    ) -> Run | None:
        """Take the oldest queued row that is due, for this executor; ``None`` when there is none.

        ``suspects`` asks for a row whose uploader died in company, to be carried alone; otherwise those are passed
        over. ``max_bytes`` and ``min_bytes`` pass over larger and smaller folders; ``only`` are the keys that come into
        question at all, and ``without`` those that do not.
        """
        # Asked many times a delivery, mostly in vain: then no other connection has to wait for us.
        if not self._value("SELECT EXISTS (SELECT 1 FROM runs WHERE state = 'queued')"):
            return None
        with self._transaction():
            row = self._connection.execute(
                "UPDATE runs SET state = 'uploading', claim = ?1, reason = 'an uploader has it' WHERE key = ("
                f"  SELECT key FROM runs WHERE state = 'queued' AND suspect = ?2 "
                f"  AND {_DUE.format(now='?3')} "
                "  AND (?4 IS NULL OR bytes <= ?4) AND (?5 IS NULL OR bytes >= ?5) "
                "  AND (?6 IS NULL OR key IN (SELECT value FROM json_each(?6))) "
                "  AND key NOT IN (SELECT value FROM json_each(?7)) ORDER BY completed_at, key LIMIT 1"
                f") AND state = 'queued' RETURNING {_COLUMNS}",
                (
                    claim,
                    int(suspects),
                    now,
                    max_bytes,
                    min_bytes,
                    None if only is None else json.dumps(list(only)),
                    json.dumps(list(without)),
                ),
            ).fetchone()
            if row is None:
                return None
            run = _run(row)
            self._connection.execute("INSERT INTO attempts (run, started_at) VALUES (?, ?)", (run.key, now))
            return run

    def contact(self, key: int, claim: str, *, run_id: str, incarnation: int) -> bool:
        """Fix the run id before the server hears of it for the first time; never one that another row has."""
        return self._change(
            "UPDATE OR IGNORE runs SET contacted = 1, begun = 1, run_id = ?3, incarnation = ?4 "
            "WHERE key = ?1 AND state = 'uploading' AND claim = ?2",
            key, claim, run_id, incarnation,
        )  # fmt: skip

    def uploaded(self, key: int, claim: str, receipt: Receipt, *, now: float) -> bool:
        """The server confirmed it."""
        with self._transaction():
            done = self._change(
                "UPDATE runs SET state = 'uploaded', claim = NULL, reason = 'the server has it', run_id = ?3, "
                "incarnation = ?4, entity = ?5, project = ?6, name = ?7, url = ?8, artifact = ?9, digest = ?10, "
                "delivered_fingerprint = ?11, files = ?12, bytes = ?13, uploaded_at = ?14, contacted = 1, suspect = 0, "
                "attempts = attempts + 1, next_attempt_at = NULL, forced = 0, insisted = 0, begun = 0, warnings = ?15, "
                "error_class = NULL, error_message = NULL, error_hint = NULL "
                "WHERE key = ?1 AND state = 'uploading' AND claim = ?2",
                key, claim, receipt.run_id, receipt.incarnation, receipt.entity, receipt.project, receipt.name,
                receipt.url, receipt.artifact, receipt.digest, receipt.fingerprint, receipt.files, receipt.bytes, now,
                json.dumps(receipt.warnings),
            )  # fmt: skip
            return done and self._end_attempt(key, now, "uploaded", receipt.url)

    def put_back(
        self,
        key: int,
        claim: str,
        error: OutboxError,
        *,
        now: float,
        next_attempt_at: float | None,
        used: bool,
        suspect: bool,
    ) -> bool:
        """Not delivered: to ``queued`` again, or ``held`` if that was asked for meanwhile. ``used``: an attempt is used up."""
        with self._transaction():
            done = self._change(
                "UPDATE runs SET state = iif(hold AND NOT forced, 'held', 'queued'), claim = NULL, reason = ?3, "
                "attempts = attempts + ?4, "
                "next_attempt_at = ?5, suspect = ?6, error_class = ?7, error_message = ?3, error_hint = ?8 "
                "WHERE key = ?1 AND state = 'uploading' AND claim = ?2",
                key, claim, error.message, int(used), next_attempt_at, int(suspect), type(error).__name__, error.hint,
            )  # fmt: skip
            return done and self._end_attempt(key, now, type(error).__name__, error.message)

    def hold_back(self, key: int, claim: str, error: Held, *, now: float) -> bool:
        """It must not be sent now: ``held``, until a person releases it or, if that is said, the time to ask again."""
        again = None if error.look_again_in is None else now + error.look_again_in
        with self._transaction():
            done = self._change(
                "UPDATE runs SET state = 'held', claim = NULL, reason = ?3, next_attempt_at = ?4, suspect = 0, "
                "error_class = 'Held', error_message = ?3, error_hint = ?5 "
                "WHERE key = ?1 AND state = 'uploading' AND claim = ?2",
                key, claim, error.message, again, error.hint,
            )  # fmt: skip
            return done and self._end_attempt(key, now, "Held", error.message)

    def ask_again(self, *, now: float) -> int:
        """Queue what was held back for a while and is due again, unless a person holds it; returns how many."""
        with self._transaction():
            keys = [
                row[0]
                for row in self._query(
                    f"SELECT key FROM runs WHERE {_OPEN} AND state = 'held' AND error_class = 'Held' "
                    "AND next_attempt_at IS NOT NULL "
                    f"AND (hold = 0 OR forced) AND {_DUE.format(now='?1')}",
                    now,
                )
            ]
            for key in keys:
                self._change(
                    "UPDATE runs SET state = 'queued', next_attempt_at = NULL, reason = 'it is time to ask again', "
                    "error_class = NULL, error_message = NULL, error_hint = NULL "
                    "WHERE key = ? AND state = 'held'",
                    key,
                )
            return len(keys)

    def next_asking(self) -> float | None:
        """When the next of those that were held back for a while is due."""
        return _time(
            self._value(
                f"SELECT min(next_attempt_at) FROM runs WHERE {_OPEN} AND state = 'held' AND error_class = 'Held' "
                "AND (hold = 0 OR forced)"
            )
        )

    def fail(self, key: int, claim: str, error: OutboxError, *, now: float) -> bool:
        """Given up: a person has to look."""
        with self._transaction():
            done = self._change(
                "UPDATE runs SET state = 'failed', claim = NULL, reason = ?3, attempts = attempts + 1, "
                "next_attempt_at = NULL, error_class = ?4, error_message = ?3, error_hint = ?5 "
                "WHERE key = ?1 AND state = 'uploading' AND claim = ?2",
                key, claim, error.message, type(error).__name__, error.hint,
            )  # fmt: skip
            return done and self._end_attempt(key, now, type(error).__name__, error.message)

    def renew(
        self,
        key: int,
        claim: str,
        error: OutboxError,
        *,
        run_id: str,
        incarnation: int,
        now: float,
        next_attempt_at: float,
    ) -> bool:
        """Its run was deleted on the server: queued again under the next incarnation, as if never sent.

        An attempt is used up, so that a server that says so of every run is not asked for ever.
        """
        with self._transaction():
            done = self._change(
                "UPDATE runs SET state = 'queued', claim = NULL, reason = ?3, run_id = ?4, incarnation = ?5, revision = 0, "
                "contacted = 0, begun = 0, attempts = attempts + 1, next_attempt_at = ?6, url = NULL, artifact = NULL, "
                "digest = NULL, delivered_fingerprint = NULL, uploaded_at = NULL "
                "WHERE key = ?1 AND state = 'uploading' AND claim = ?2",
                key, claim, error.message, run_id, incarnation, next_attempt_at,
            )  # fmt: skip
            return done and self._end_attempt(key, now, type(error).__name__, error.message)

    def forsake(self, key: int, claim: str, error: OutboxError, *, reason: str, now: float) -> bool:
        """Its run was deleted on the server, and shall not come back: left alone, and nothing counts as delivered."""
        with self._transaction():
            done = self._change(
                "UPDATE runs SET state = 'skipped', by_person = 0, claim = NULL, reason = ?3, begun = 0, url = NULL, "
                "artifact = NULL, digest = NULL, delivered_fingerprint = NULL, uploaded_at = NULL "
                "WHERE key = ?1 AND state = 'uploading' AND claim = ?2",
                key, claim, reason,
            )  # fmt: skip
            return done and self._end_attempt(key, now, type(error).__name__, error.message)

    def changed(self, key: int, claim: str, error: OutboxError, *, now: float) -> bool:
        """The folder changed while it was uploaded: back to ``writing``; what was sent is not called uploaded."""
        with self._transaction():
            done = self._change(
                "UPDATE runs SET state = 'writing', verdict = 'writing', verdict_since = NULL, claim = NULL, reason = ?3 "
                "WHERE key = ?1 AND state = 'uploading' AND claim = ?2",
                key, claim, error.message,
            )  # fmt: skip
            return done and self._end_attempt(key, now, type(error).__name__, error.message)

    def recover(self, claim: str, *, now: float) -> int:
        """Put every claim of an earlier executor back at once; returns how many. No clock decides."""
        with self._transaction():
            keys = [
                row[0] for row in self._query("SELECT key FROM runs WHERE state = 'uploading' AND claim <> ?", claim)
            ]
            for key in keys:
                self._change(
                    "UPDATE runs SET state = 'queued', claim = NULL, "
                    "reason = 'the last upload was interrupted; it is taken up again' WHERE key = ? AND state = 'uploading'",
                    key,
                )
                self._end_attempt(key, now, "Interrupted", "the executor ended before the upload did")
            return len(keys)

    # -- what people ask for ---------------------------------------------------------------------------------------

    def retry(self, key: int) -> bool:
        """A failed row gets fresh attempts; a queued one is tried at once."""
        return self._change(
            "UPDATE runs SET state = 'queued', attempts = 0, next_attempt_at = NULL, suspect = 0, "
            "reason = 'asked for again by a person' WHERE key = ? AND state IN ('failed', 'queued')",
            key,
        )

    def hold(self, key: int) -> bool:
        """A person wants to see it first: what is queued is held, and so is every later content."""
        with self._transaction():
            self._change("UPDATE runs SET hold = 1 WHERE key = ? AND hold = 0", key)
            return self._change(
                "UPDATE runs SET state = 'held', forced = 0, insisted = 0, reason = 'held by a person' "
                "WHERE key = ? AND state = 'queued'",
                key,
            ) or bool(self._value("SELECT hold AND state <> 'uploading' FROM runs WHERE key = ?", key))

    def release(self, key: int, fingerprint: str) -> bool:
        """A person approves this content: queued. A later content is held again if a hold applies to it."""
        return self._change(
            "UPDATE runs SET state = 'queued', forced = 1, insisted = coalesce(error_class = 'Held', 0), "
            "by_person = 0, attempts = 0, "
            "next_attempt_at = NULL, "
            "reason = 'released by a person' WHERE key = ?1 AND fingerprint = ?2 AND fingerprint <> '' "
            "AND (state = 'held' OR (state = 'skipped' AND gone = 0))",
            key, fingerprint,
        )  # fmt: skip

    def unskip(self, key: int) -> bool:
        """A person takes back that it is skipped, before it was ever found finished: it is looked at as any other."""
        return self._change(
            "UPDATE runs SET state = 'writing', verdict = 'writing', verdict_since = NULL, by_person = 0, "
            "reason = 'released by a person; it was not found finished yet' "
            "WHERE key = ? AND state = 'skipped' AND gone = 0 AND by_person = 1 AND fingerprint = ''",
            key,
        )

    def skip_by_person(self, key: int) -> bool:
        """A person wants it left alone, whatever happens to the folder."""
        return self._change(
            "UPDATE runs SET state = 'skipped', by_person = 1, reason = 'skipped by a person' "
            "WHERE key = ? AND state IN ('writing', 'held', 'queued', 'failed')",
            key,
        )

    def force(self, key: int, overrides: Overrides, judgement: Judgement, snapshot: Snapshot, *, now: float) -> bool:
        """A person asks for this folder as it is now: queued, whatever it waited for."""
        return self._change(
            f"UPDATE runs SET state = 'queued', {_NEXT_REVISION.replace('?5', '?6')}, forced = 1, insisted = 0, by_person = 0, "
            "overrides = ?2, "
            "verdict = ?3, outcome = ?4, reason = ?5, fingerprint = ?6, files = ?7, bytes = ?8, completed_at = ?9, "
            "attempts = 0, next_attempt_at = NULL, suspect = 0, gone = 0, mtime_ns = ?10, judged = ?5, "
            "error_class = NULL, error_message = NULL, error_hint = NULL "
            "WHERE key = ?1 AND state <> 'uploading'",
            key, json.dumps(asdict(overrides)), judgement.verdict.value, judgement.outcome, judgement.reason,
            snapshot.fingerprint, len(snapshot.files), snapshot.bytes, now, snapshot.mtime_ns,
        )  # fmt: skip

    def ask(self, verb: str, arguments: dict[str, Any], *, now: float) -> int:
        """Leave a request for the running executor; returns its number."""
        with self._transaction():
            cursor = self._connection.execute(
                "INSERT INTO requests (verb, arguments, created_at) VALUES (?, ?, ?)",
                (verb, json.dumps(arguments), now),
            )
            return int(cursor.lastrowid or 0)

    def requests(self) -> Sequence[Request]:
        """The requests that nobody has answered, oldest first."""
        rows = self._query("SELECT id, verb, arguments FROM requests WHERE done_at IS NULL ORDER BY id")
        return [Request(number, verb, json.loads(arguments)) for number, verb, arguments in rows]

    def answer(self, request: int, answer: dict[str, Any], *, now: float) -> bool:
        """Say what became of a request. Only a recorded answer ends it."""
        return self._change(
            "UPDATE requests SET done_at = ?2, answer = ?3 WHERE id = ?1 AND done_at IS NULL",
            request,
            now,
            json.dumps(answer),
        )

    def answer_to(self, request: int) -> dict[str, Any] | None:
        """The answer to a request, or ``None`` while there is none."""
        text = self._value("SELECT answer FROM requests WHERE id = ?", request)
        return None if text is None else dict(json.loads(text))

    def set_fact(self, name: str, value: Any) -> None:
        """Keep a small value by name; written only when it is new."""
        self._change(
            "INSERT INTO facts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2 WHERE value <> ?2",
            name, json.dumps(value),
        )  # fmt: skip

    def keep_look_rules(self, roots: Mapping[str, Any], *, elsewhere: Any) -> None:
        """What the configuration says of looking at a folder, by root: for ``why``, which does not read it."""
        self.set_fact("look-rules", {"roots": roots, "elsewhere": elsewhere})

    # -- plumbing --------------------------------------------------------------------------------------------------

    def _end_attempt(self, key: int, now: float, outcome: str, message: str) -> bool:
        self._connection.execute(
            "UPDATE attempts SET ended_at = ?, outcome = ?, message = ? WHERE id = (SELECT max(id) FROM attempts WHERE run = ?)",
            (now, outcome, _storable(message), key),
        )
        return True

    def _inside(self) -> bool:
        return self._connection.in_transaction

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction; an inner one joins the outer."""
        with self._lock:
            if self._inside():
                yield
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._inside():
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise self._told(error) from error
                raise

    def _change(self, statement: str, *values: object) -> bool:
        with self._lock:
            try:
                return self._connection.execute(statement, [_storable(value) for value in values]).rowcount > 0
            except sqlite3.OperationalError as error:
                raise self._told(error) from error

    def _told(self, error: sqlite3.OperationalError) -> OutboxError:
        if _is_disk_trouble(error):
            return disk_full(f"the outbox {self._path}", error)
        return StateUnusable(
            f"the outbox {self._path} cannot be used ({error})",
            hint="somebody else has it locked, or its file system became read-only; it is tried again",
        )

    def _query(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(statement, [_storable(value) for value in values]).fetchall()
            except sqlite3.OperationalError as error:
                raise self._told(error) from error

    def _value(self, statement: str, *values: object) -> Any:
        rows = self._query(statement, *values)
        return rows[0][0] if rows else None

    def _select(self, where: str, values: Iterable[object] = ()) -> Sequence[Run]:
        return [_run(row) for row in self._query(f"SELECT {_COLUMNS} FROM runs {where}", *values)]


def _cannot_be_read(path: str, why: str) -> StateUnusable:
    return StateUnusable(
        f"the outbox {path} cannot be read ({why})",
        hint="run the command as the owner of the state directory, or let the owner set `state_group`",
    )


def _in_states(states: Sequence[State]) -> tuple[str, tuple[str, ...]]:
    """The condition that a row is in one of these states, and its values; no states: any."""
    if not states:
        return "TRUE", ()
    condition = f"state IN ({', '.join('?' * len(states))})"
    if State.UPLOADED not in states and State.SKIPPED not in states:
        condition = f"{_OPEN} AND {condition}"
    return condition, tuple(state.value for state in states)


def _is_disk_trouble(error: sqlite3.Error | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno in DISK_TROUBLE
    # The low byte is the kind; the others say where (SQLITE_IOERR_WRITE, ...).
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _storable(value: object) -> object:
    """Text as SQLite can hold it: a path that is not UTF-8 may stand in a reason, which is for people only."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _run(row: tuple[Any, ...]) -> Run:
    """A row as a value, in the order of ``_COLUMNS``, which is the order of the fields."""
    values = list(row)
    values[1] = os.fsdecode(row[1])
    values[2] = None if row[2] is None else os.fsdecode(row[2])
    values[3] = Kind(row[3])
    values[6] = State(row[6])
    values[21] = overrides_from_json(row[21])
    values[33] = tuple(json.loads(row[33]))
    for index in range(35, 42):
        values[index] = bool(row[index])
    return Run(*values)


def overrides_from_json(text: str) -> Overrides:
    """The overrides that :meth:`Store.force` wrote."""
    values = json.loads(text)
    if values.get("tags") is not None:
        values["tags"] = tuple(values["tags"])
    return Overrides(**values)
