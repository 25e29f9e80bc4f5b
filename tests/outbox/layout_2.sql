-- An outbox of layout 2: that of layout 1, brought up to date.
BEGIN TRANSACTION;
CREATE TABLE attempts (
      id         INTEGER PRIMARY KEY,
      run        INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
      started_at REAL NOT NULL,
      ended_at   REAL,
      outcome    TEXT,
      message    TEXT
    ) STRICT;
INSERT INTO "attempts" VALUES(1,5,1764756000.0,1764756005.0,'Rejected','the server refuses it');
INSERT INTO "attempts" VALUES(2,6,1764756000.0,1764756009.0,'uploaded','https://wandb.test/team/p/runs/xxespqcf0k6jsxjp');
INSERT INTO "attempts" VALUES(3,7,1764756000.0,NULL,NULL,NULL);
CREATE TABLE counts (state TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "counts" VALUES('failed',1);
INSERT INTO "counts" VALUES('held',1);
INSERT INTO "counts" VALUES('queued',1);
INSERT INTO "counts" VALUES('skipped',1);
INSERT INTO "counts" VALUES('uploaded',1);
INSERT INTO "counts" VALUES('uploading',1);
INSERT INTO "counts" VALUES('writing',1);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "facts" VALUES('generation','7');
INSERT INTO "facts" VALUES('mark','"0123456789abcdef"');
INSERT INTO "facts" VALUES('paused','false');
CREATE TABLE requests (
      id         INTEGER PRIMARY KEY,
      verb       TEXT NOT NULL,
      arguments  TEXT NOT NULL,
      created_at REAL NOT NULL,
      done_at    REAL,
      answer     TEXT
    ) STRICT;
INSERT INTO "requests" VALUES(1,'recheck','{}',1764756000.0,NULL,NULL);
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
      forced                INTEGER NOT NULL DEFAULT 0, verdict_since REAL, look_at REAL,
      CHECK ((state = 'uploading') = (claim IS NOT NULL))
    ) STRICT;
INSERT INTO "runs" VALUES(1,X'2F6F7574707574732F323032352D31322D30332F77726974696E67',X'2F6F757470757473','folder','plain','1:1','writing','just seen','writing','unknown','','hng73ma9cg5gnqep',0,0,'',0,0,0,1764756000.0,NULL,0,NULL,'{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,0,0,0,0,0,0,0,NULL,NULL);
INSERT INTO "runs" VALUES(2,X'2F6F7574707574732F323032352D31322D30332F717565756564',X'2F6F757470757473','folder','plain','/outputs/2025-12-03/queued','queued','metrics.json is there; nobody writes to it','complete','ok','metrics.json is there; nobody writes to it','3p6hhe8xc6h90x41',0,0,'da3062ec0853b4f0e982c9accea1ab64',1,100,1,1764756000.0,1764756000.0,0,NULL,'{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,0,0,0,0,0,0,0,NULL,NULL);
INSERT INTO "runs" VALUES(3,X'2F6F7574707574732F323032352D31322D30332F68656C64',X'2F6F757470757473','folder','plain','/outputs/2025-12-03/held','held','held by a person','complete','ok','metrics.json is there; nobody writes to it','u2auc7kh9asb168s',0,0,'da3062ec0853b4f0e982c9accea1ab64',1,100,1,1764756000.0,1764756000.0,0,NULL,'{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,0,0,0,0,0,1,0,NULL,NULL);
INSERT INTO "runs" VALUES(4,X'2F6F7574707574732F323032352D31322D30332F736B6970706564',X'2F6F757470757473','folder','plain','/outputs/2025-12-03/skipped','skipped','skipped by a person','complete','ok','metrics.json is there; nobody writes to it','ic3eniqdhn5sudr3',0,0,'da3062ec0853b4f0e982c9accea1ab64',1,100,1,1764756000.0,1764756000.0,0,NULL,'{}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,0,0,0,0,1,0,0,NULL,NULL);
INSERT INTO "runs" VALUES(5,X'2F6F7574707574732F323032352D31322D30332F6661696C6564',X'2F6F757470757473','folder','plain','/outputs/2025-12-03/failed','failed','the server refuses it','complete','ok','metrics.json is there; nobody writes to it','gxubx7h6f6wv2bt6',0,0,'da3062ec0853b4f0e982c9accea1ab64',1,100,1,1764756000.0,1764756000.0,1,NULL,'{}','Rejected','the server refuses it','look at plan',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,1,1,0,0,0,0,0,NULL,NULL);
INSERT INTO "runs" VALUES(6,X'2F6F7574707574732F323032352D31322D30332F75706C6F616465642DFF',X'2F6F757470757473','folder','plain','9:9','uploaded','the server has it','complete','ok','metrics.json is there; nobody writes to it','xxespqcf0k6jsxjp',0,0,'da3062ec0853b4f0e982c9accea1ab64',1,100,1,1764756000.0,1764756000.0,1,NULL,'{}',NULL,NULL,NULL,'team','llm-tts-eval-aime2025','deepconf_qwen3-8b_vllm','https://wandb.test/team/p/runs/xxespqcf0k6jsxjp','outputs-2025-12-03-run:v0','d1','da3062ec0853b4f0e982c9accea1ab64',1764756009.0,'["table-cut: 10,000 rows"]',NULL,1,0,0,0,0,0,0,NULL,NULL);
INSERT INTO "runs" VALUES(7,X'2F6F7574707574732F323032352D31322D30332F75706C6F6164696E67',X'2F6F757470757473','folder','plain','/outputs/2025-12-03/uploading','uploading','an uploader has it','complete','ok','metrics.json is there; nobody writes to it','s3epm0nqsfeu756g',0,0,'da3062ec0853b4f0e982c9accea1ab64',1,100,1,1764756000.0,1764756000.0,0,NULL,'{"entity": null, "project": "other", "name": null, "group": null, "job_type": null, "tags": ["a", "b"], "notes": null}',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]','boot:1',1,1,0,0,0,0,1,NULL,NULL);
CREATE INDEX runs_queued ON runs (completed_at, key) WHERE state = 'queued';
CREATE INDEX runs_open ON runs (state) WHERE state IN ('writing', 'held', 'queued', 'uploading', 'failed');
CREATE INDEX runs_uploaded ON runs (uploaded_at) WHERE state = 'uploaded';
CREATE INDEX runs_birth ON runs (birth);
CREATE INDEX attempts_run ON attempts (run, id);
CREATE INDEX requests_open ON requests (id) WHERE done_at IS NULL;
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
COMMIT;
PRAGMA user_version = 2;
