"""The oracle: everything that is wrong with what the server, the outbox, the disk and the process table show.

Every function returns complaints, one sentence each; an empty list means that all is well.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crash_folders import ROWS, md5s_of

from wandb_outbox.folder import Selection, snapshot
from wandb_outbox.sandbox import ArtifactView, FileView, RunView

MARK = b"WANDB_OUTBOX_UPLOADER="
DELIVERED = "outbox/delivered"


def runs_of_site(runs: Iterable[RunView], site: str) -> list[RunView]:
    """The runs that this outbox has begun."""
    return [run for run in runs if isinstance(run.config.get("outbox"), dict) and run.config["outbox"]["site"] == site]


def versions_of(run: RunView, artifacts: Iterable[ArtifactView]) -> list[ArtifactView]:
    """The committed versions of the folder's artifact that this run logged, without what the SDK makes for tables."""
    return [
        each
        for each in artifacts
        if each.logged_by == run.id and each.version is not None and each.type == "evaluation_results"
    ]


def complaints_about_folder(
    folder: Path, path: str, runs: Sequence[RunView], artifacts: Sequence[ArtifactView], *, contents: int | None = 1
) -> list[str]:
    """Whether exactly one of the site's ``runs`` is this folder's, and holds all of it, once.

    ``path`` is the folder's in the run's config; ``contents`` is how many contents of it were delivered, ``None``
    when only the newest is known.
    """
    mine = [run for run in runs if run.config["outbox"]["path"] == path]
    if len(mine) != 1:
        return [f"{path} has {len(mine)} runs: {', '.join(run.id for run in mine) or 'none'}"]
    (run,) = mine
    versions = versions_of(run, artifacts)
    said = [] if contents is None or len(versions) == contents else [f"{path} has {len(versions)} artifact versions"]
    digests = [each.digest for each in versions]
    if len(set(digests)) != len(digests):
        said.append(f"{path} has two artifact versions of one content")
    return said + complaints_about_run(run, folder, path, artifacts)


def complaints_about_run(run: RunView, folder: Path, path: str, artifacts: Sequence[ArtifactView]) -> list[str]:
    """Whether the server has this folder whole under this run, as the outbox says when it says ``uploaded``."""
    said: list[str] = []
    if run.state != "finished":
        said.append(f"{path}: the run is {run.state}")
    delivered = run.summary.get(DELIVERED)
    if not isinstance(delivered, Mapping):
        return [*said, f"{path}: {DELIVERED} is not there"]
    fingerprint = snapshot(str(folder), Selection().selector()).fingerprint
    if delivered["fingerprint"] != fingerprint:
        said.append(f"{path}: {DELIVERED} is of another content")
    here = {f"{each.name}:{each.version}": each for each in artifacts}.get(str(delivered["artifact"]))
    if here is None:
        return [*said, f"{path}: its artifact {delivered['artifact']} is not there"]
    if here.state != "COMMITTED":
        said.append(f"{path}: its artifact is {here.state}")
    if here.digest != delivered["digest"]:
        said.append(f"{path}: its artifact has another digest than {DELIVERED} says")
    on_disk = md5s_of(folder)
    said += _differences(f"{path}: the artifact", here.files, on_disk, all_of=True)
    wanted = {name: md5 for name, md5 in on_disk.items() if name in ("results.json", "metrics.json")}
    said += _differences(f"{path}: the run's files", run.files, wanted, all_of=False)
    steps = [row["_step"] for row in run.history]
    if len(set(steps)) != len(steps):
        said.append(f"{path}: rows are doubled in the history: {steps}")
    if len(steps) != ROWS:
        said.append(f"{path}: the history has {len(steps)} rows, not {ROWS}")
    return said


def _differences(what: str, there: Mapping[str, FileView], wanted: Mapping[str, str], *, all_of: bool) -> list[str]:
    said = []
    for name in sorted(wanted.keys() | (there.keys() if all_of else set())):
        file = there.get(name)
        if name not in wanted:
            said.append(f"{what}: has {name}, which is not in the folder")
        elif file is None or file.path is None or not file.path.exists():
            said.append(f"{what}: {name} is not there")
        elif hashlib.md5(file.path.read_bytes(), usedforsecurity=False).hexdigest() != wanted[name]:
            said.append(f"{what}: {name} differs from the folder")
    return said


def complaints_about_rows(database: Path, folders: Mapping[str, Path], runs: Sequence[RunView]) -> list[str]:
    """Whether the outbox is a whole database, and says ``uploaded`` of each folder with the server's own words."""
    said = complaints_about_database(database)
    if said:
        return said
    ours = {run.config["outbox"]["path"]: run for run in runs}
    seen = {row["path"]: row for row in rows_of(database)}
    for path, folder in folders.items():
        row, run = seen.get(str(folder)), ours.get(path)
        if row is None or row["state"] != "uploaded":
            said.append(f"{path} is {row['state'] if row else 'not in the outbox'}, not uploaded")
        elif run is not None and isinstance(run.summary.get(DELIVERED), Mapping):
            delivered = run.summary[DELIVERED]
            if (row["run_id"], row["artifact"], row["digest"], row["delivered_fingerprint"]) != (
                run.id, delivered["artifact"], delivered["digest"], delivered["fingerprint"]
            ):  # fmt: skip
                said.append(f"{path}: the outbox and the server say different things: {row} and {delivered}")
    return said


def complaints_about_database(database: Path) -> list[str]:
    """Whether SQLite finds it whole."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        doubled = connection.execute("SELECT count(*) FROM runs WHERE state = 'uploading'").fetchone()[0]
    said = [] if found == ["ok"] else [f"the database is damaged: {'; '.join(found)}"]
    return said + ([f"{doubled} rows are left in uploading"] if doubled else [])


def rows_of(database: Path) -> list[dict[str, Any]]:
    """The rows of the outbox, as they stand in the file."""
    if not database.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            found = [dict(row) for row in connection.execute("SELECT * FROM runs ORDER BY key")]
        except sqlite3.DatabaseError:
            return []  # it is being made just now, or is damaged and not yet set aside
    for row in found:
        row["path"] = os.fsdecode(row["path"])
    return found


def complaints_about_processes(state: Path) -> list[str]:
    """Whether an uploader of this state directory, or something that it has started, is left."""
    return [f"process {pid} ({name}) is left over" for pid, name in processes_of(state).items()]


def processes_of(state: Path) -> dict[int, str]:
    """Every living process that an uploader of this state directory is, or has started."""
    found = {}
    wanted = f"WANDB_DIR={state / 'uploader'}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                entries = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                if wanted in entries and any(entry.startswith(MARK) for entry in entries):
                    found[int(name)] = Path(f"/proc/{name}/comm").read_text().strip()
    return found


def complaints_about_strangers(runs: Iterable[RunView], paths: Collection[str]) -> list[str]:
    """Whether a run is there that belongs to no folder."""
    return [
        f"run {run.id} of {run.config['outbox']['path']} belongs to no folder"
        for run in runs
        if run.config["outbox"]["path"] not in paths
    ]
