"""The sandbox's memory on disk: one SQLite file, written through after every request."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS line (run INTEGER, stream TEXT, number INTEGER, body TEXT,
                                 PRIMARY KEY (run, stream, number)) WITHOUT ROWID;
"""

_ORDER = "kind, CASE WHEN key GLOB '[0-9]*' THEN CAST(key AS INTEGER) ELSE 0 END, key"
"""Records of a kind come back in the order of their numbers, which is the order in which they were made."""


class Journal:
    """Records by kind and key, and the lines of runs.

    It survives the death of the process, not of the machine: a sandbox is worth no fsync.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, which is made when it is missing."""
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_SCHEMA)

    def secret(self, fresh: str) -> str:
        """Return the secret that was kept first, which is `fresh` in a new file."""
        self._connection.execute("INSERT OR IGNORE INTO record VALUES ('secret', '', ?)", (json.dumps(fresh),))
        row = self._connection.execute("SELECT body FROM record WHERE kind = 'secret'").fetchone()
        return str(json.loads(row[0]))

    def records(self) -> Iterator[tuple[str, str]]:
        """Yield the kind and the JSON of every record."""
        yield from self._connection.execute(f"SELECT kind, body FROM record ORDER BY {_ORDER}")  # noqa: S608

    def lines(self) -> Iterator[tuple[int, str, list[str]]]:
        """Yield the number of a run, the name of a stream, and all its lines."""
        rows = self._connection.execute("SELECT run, stream, body FROM line ORDER BY run, stream, number")
        for (run, stream), group in groupby(rows, key=lambda row: (row[0], row[1])):
            yield run, stream, [row[2] for row in group]

    def write(
        self, records: Mapping[tuple[str, str], Any], lines: Sequence[tuple[int, str, int, Sequence[str]]]
    ) -> None:
        """Write what changed, all or nothing.

        Args:
            records: By kind and key; None deletes, and deletes a run's lines with the run.
            lines: Run number, stream, the number of the first line, the lines.
        """
        connection = self._connection
        connection.execute("BEGIN")
        try:
            for (kind, key), record in records.items():
                if record is None:
                    connection.execute("DELETE FROM record WHERE kind = ? AND key = ?", (kind, key))
                    if kind == "run":
                        connection.execute("DELETE FROM line WHERE run = ?", (int(key),))
                else:
                    body = json.dumps(record, default=_plain)
                    connection.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (kind, key, body))
            for run, stream, first, content in lines:
                connection.executemany(
                    "INSERT OR REPLACE INTO line VALUES (?, ?, ?, ?)",
                    ((run, stream, first + index, body) for index, body in enumerate(content)),
                )
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value) if each.name != "lines"}
    raise TypeError(f"cannot write {type(value).__name__}")
