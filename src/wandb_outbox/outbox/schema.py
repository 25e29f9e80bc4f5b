"""The layout of the database, and the way from every earlier one to it.

``PRAGMA user_version`` counts the layouts. ``MIGRATIONS[n]`` leads from layout n to n + 1; a step that was ever used is
never changed: add the next one, and beside the tests of the outbox a dump of the layout before it.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
      key                   INTEGER PRIMARY KEY,
      path                  BLOB NOT NULL UNIQUE,   -- os.fsencode: names need not be UTF-8
      root                  BLOB,
      kind                  TEXT NOT NULL CHECK (kind IN ('folder', 'offline-run')),
      format                TEXT NOT NULL,
      birth                 TEXT NOT NULL,
      state                 TEXT NOT NULL CHECK (state IN
                              ('writing', 'held', 'queued', 'uploading', 'uploaded', 'failed', 'skipped')),
      reason                TEXT NOT NULL,
      verdict               TEXT NOT NULL,
      outcome               TEXT NOT NULL DEFAULT 'unknown',
      judged                TEXT NOT NULL DEFAULT '',     -- why completion said what it said
      run_id                TEXT NOT NULL UNIQUE,
      revision              INTEGER NOT NULL DEFAULT 0,
      incarnation           INTEGER NOT NULL DEFAULT 0,
      fingerprint           TEXT NOT NULL DEFAULT '',
      files                 INTEGER NOT NULL DEFAULT 0,
      bytes                 INTEGER NOT NULL DEFAULT 0,
      mtime_ns              INTEGER NOT NULL DEFAULT 0,   -- of the folder itself, when it was found complete
      first_seen            REAL NOT NULL,
      completed_at          REAL,
      attempts              INTEGER NOT NULL DEFAULT 0,
      next_attempt_at       REAL,
      overrides             TEXT NOT NULL DEFAULT '{}',
      error_class           TEXT,
      error_message         TEXT,
      error_hint            TEXT,
      entity                TEXT,
      project               TEXT,
      name                  TEXT,
      url                   TEXT,
      artifact              TEXT,
      digest                TEXT,
      delivered_fingerprint TEXT,
      uploaded_at           REAL,
      warnings              TEXT NOT NULL DEFAULT '[]',
      claim                 TEXT,
      contacted             INTEGER NOT NULL DEFAULT 0,
      begun                 INTEGER NOT NULL DEFAULT 0,   -- a sending has begun since the last receipt
      suspect               INTEGER NOT NULL DEFAULT 0,
      gone                  INTEGER NOT NULL DEFAULT 0,
      by_person             INTEGER NOT NULL DEFAULT 0,
      hold                  INTEGER NOT NULL DEFAULT 0,
      forced                INTEGER NOT NULL DEFAULT 0,
      CHECK ((state = 'uploading') = (claim IS NOT NULL))
    ) STRICT;
    -- Partial, so that claiming and waiting cost the same however many finished rows there are.
    CREATE INDEX runs_queued ON runs (completed_at, key) WHERE state = 'queued';
    CREATE INDEX runs_open ON runs (state) WHERE state IN ('writing', 'held', 'queued', 'uploading', 'failed');
    CREATE INDEX runs_uploaded ON runs (uploaded_at) WHERE state = 'uploaded';
    CREATE INDEX runs_birth ON runs (birth);

    CREATE TABLE attempts (
      id         INTEGER PRIMARY KEY,
      run        INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
      started_at REAL NOT NULL,
      ended_at   REAL,
      outcome    TEXT,
      message    TEXT
    ) STRICT;
    CREATE INDEX attempts_run ON attempts (run, id);

    CREATE TABLE requests (
      id         INTEGER PRIMARY KEY,
      verb       TEXT NOT NULL,
      arguments  TEXT NOT NULL,
      created_at REAL NOT NULL,
      done_at    REAL,
      answer     TEXT
    ) STRICT;
    CREATE INDEX requests_open ON requests (id) WHERE done_at IS NULL;

    CREATE TABLE counts (state TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO counts VALUES
      ('writing', 0), ('held', 0), ('queued', 0), ('uploading', 0), ('uploaded', 0), ('failed', 0), ('skipped', 0);
    CREATE TRIGGER runs_added AFTER INSERT ON runs BEGIN
      UPDATE counts SET number = number + 1 WHERE state = new.state;
    END;
    CREATE TRIGGER runs_moved AFTER UPDATE OF state ON runs WHEN old.state <> new.state BEGIN
      UPDATE counts SET number = number - 1 WHERE state = old.state;
      UPDATE counts SET number = number + 1 WHERE state = new.state;
    END;
    CREATE TRIGGER runs_removed AFTER DELETE ON runs BEGIN
      UPDATE counts SET number = number - 1 WHERE state = old.state;
    END;

    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE runs ADD COLUMN verdict_since REAL;  -- while it waits; NULL: this content is not judged yet
    ALTER TABLE runs ADD COLUMN look_at REAL;        -- when the look that gave the reason was to be repeated
    """,
    """
    -- Released although it was held back for the run that it logged itself.
    ALTER TABLE runs ADD COLUMN insisted INTEGER NOT NULL DEFAULT 0;
    -- When the next one is due is asked in every turn, and a month's backlog is long.
    CREATE INDEX runs_due ON runs (coalesce(next_attempt_at, 0)) WHERE state = 'queued';
    """,
)

VERSION = len(MIGRATIONS)
