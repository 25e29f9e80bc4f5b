"""Replay the transaction logs of an offline run into an open run, inside the uploader process.

``wandb sync`` tells of no failure, and doubles the history of a run that it sends twice. So the records are read here
and given to the SDK's own process one by one, as if the run logged them now, into a run that was opened as a resumed one:
history only from the row on that the server does not have, and each artifact answered for. What arrives is read back.

The records are built with the classes that the caller passes in, so that nothing here needs wandb.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wandb_outbox.errors import NotVerified
from wandb_outbox.folder import open_file
from wandb_outbox.formats.transaction_log import LogRecord, RecordType, records
from wandb_outbox.model import FileStat, Plan

FILES = "files"
CONSOLE = "output.log"
RECORDS_AT_ONCE = 200
"""Handed to the SDK's process together: each time its thread is woken, and waited for, which costs more than a record."""
_CHUNK = 2**20


class Stream:
    """The way into the SDK's process for one run. What is published waits here until there is much of it, or :meth:`flush`."""

    def __init__(
        self,
        record: Callable[[], Any],
        hand_over: Callable[[Sequence[Any]], None],
        ask: Callable[[Any, float], Any],
    ) -> None:
        """``record`` makes an empty one; the other two are the ways in, of several without an answer and of one with."""
        self.record = record
        self._hand_over = hand_over
        self._ask = ask
        self._waiting: list[Any] = []

    def publish(self, record: Any) -> None:
        """Hand over a record that has no answer, after those before it."""
        self._waiting.append(record)
        if len(self._waiting) == RECORDS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hand over what waits."""
        if self._waiting:
            self._hand_over(self._waiting)
            self._waiting = []

    def ask(self, record: Any, seconds: float) -> Any:
        """Hand over a record, after those before it, and return the answer, which may take so long."""
        self.flush()
        return self._ask(record, seconds)


@dataclass(frozen=True, slots=True)
class Place:
    """The run that the records go to."""

    entity: str
    project: str
    run_id: str
    files_dir: str


def send_records(
    stream: Stream,
    place: Place,
    plan: Plan,
    folder_files: Sequence[FileStat],
    *,
    there: int,
    fresh: bool,
    progress: Callable[[], None],
) -> list[str]:
    """Hand over everything but summary and files, in the log's order; returns the artifacts whose files are gone.

    ``there`` is how many rows of the history are not to be sent, because the server has them. ``fresh``: it had nothing of
    this run before; only then system metrics are sent, which have no steps by which a repetition could be told. Raises
    :class:`NotVerified` when an artifact did not arrive.
    """
    lost: list[str] = []
    contents = _Contents(plan, folder_files)
    row = 0
    for replay in plan.replays:
        for each in records(replay.directory, replay.log):
            match each.type:
                case RecordType.HISTORY if row < len(plan.history):
                    if row >= there:
                        send_row(stream, plan.history[row])
                    row += 1
                case RecordType.METRIC:
                    stream.publish(_copy(stream, each, "metric"))
                case RecordType.STATS if fresh:
                    stream.publish(_copy(stream, each, "stats"))
                case RecordType.ARTIFACT:
                    artifact = _copy(stream, each, "artifact")
                    if replay.run_id != place.run_id:
                        # Its run was deleted: what is known by the recorded name would stay with that one.
                        artifact.artifact.client_id = _renamed(artifact.artifact.client_id, place.run_id)
                    name = _send_artifact(stream, place, artifact, contents)
                    if name is not None:
                        lost.append(name)
                    progress()
                case _:
                    pass
    return list(dict.fromkeys(lost))


def send_row(stream: Stream, row: Mapping[str, Any]) -> None:
    """Hand over a row of the history, under its own step and times."""
    record = stream.record()
    record.history.step.num = row["_step"]
    for key, value in row.items():
        item = record.history.item.add()
        item.nested_key.append(key)
        item.value_json = json.dumps(value)
    stream.publish(record)


def send_summary_times(stream: Stream, last: Mapping[str, Any]) -> None:
    """Set the step and the times of the last row, which the SDK does only for rows that are logged to it one by one."""
    record = stream.record()
    for key in ("_step", "_timestamp", "_runtime"):
        if key in last:
            item = record.summary.update.add()
            item.key = key
            item.value_json = json.dumps(last[key])
    stream.publish(record)


def send_panels(stream: Stream, panels: Mapping[str, Any]) -> None:
    """Set the charts of the run into the part of its configuration that the SDK keeps for itself, as ``wandb.plot`` does."""
    record = stream.record()
    for name, panel in panels.items():
        item = record.config.update.add()
        item.nested_key.extend(["_wandb", "visualize", name])
        item.value_json = json.dumps(panel)
    if panels:
        stream.publish(record)


def run_files(plan: Plan) -> dict[str, tuple[str, str, int]]:
    """The run files of the replays by name: below which directory, where there, and their size.

    Those of a later part replace those of an earlier one.
    """
    found: dict[str, tuple[str, str, int]] = {}
    for replay in plan.replays:
        base = os.path.join(replay.directory, FILES)
        found.update({file.path: (base, file.path, file.size) for file in replay.files})
        found.update({file.name: (file.top, file.path, file.size) for file in replay.saved})
    return found


def save_files(plan: Plan, place: Place, save: Callable[[str, str], None]) -> None:
    """Hand the run files over, by ``save(path, base)``.

    The console's log is special: the SDK may write a file of that name itself, and would write through the link that its
    ``save`` makes into the folder of the experiment. So it gets a copy. What the run saved by a link is copied, too: who
    can change the link must not choose what is sent.
    """
    for name, (base, path, _) in run_files(plan).items():
        if path == name and name != CONSOLE:
            save(os.path.join(base, name), base)
            continue
        save(copy_into(place.files_dir, name, base, path), place.files_dir)


def copy_into(directory: str, name: str, base: str, path: str) -> str:
    """Copy the file ``path`` below ``base`` to ``name`` below ``directory``, without following links; returns its path."""
    copy = os.path.join(directory, name)
    os.makedirs(os.path.dirname(copy), exist_ok=True)
    with open_file(base, path) as source, open(copy, "wb") as target:
        shutil.copyfileobj(source, target, _CHUNK)
    return copy


def not_arrived(plan: Plan, files: Mapping[str, int], artifacts: Iterable[str], lost: Sequence[str]) -> list[str]:
    """What of the replayed run's files and artifacts the server does not have, in words."""
    found = []
    for name, (_, _, size) in run_files(plan).items():
        there = files.get(name)
        if there != size:
            found.append(f"run file {name} has {there if there is not None else 'no'} bytes, not {size}")
    logged = {name.rpartition(":")[0] for name in artifacts}
    wanted = {name for replay in plan.replays for name in replay.artifacts}
    found += [f"the artifact {name} is not there" for name in sorted(wanted - logged - set(lost))]
    return found


def same_rows_key(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row tells it from every other: the step, and the moment at which it was logged."""
    return {key: row[key] for key in ("_step", "_timestamp") if key in row}


def _copy(stream: Stream, read: LogRecord, name: str) -> Any:
    """The record without the numbers and addresses of the session that wrote it."""
    whole = stream.record()
    whole.ParseFromString(read.payload)
    record = stream.record()
    getattr(record, name).CopyFrom(getattr(whole, name))
    return record


def _renamed(client_id: str, run_id: str) -> str:
    """Another name of the kind that the SDK gives an artifact before the server does; the same one for each attempt."""
    return hashlib.blake2b(f"{client_id} {run_id}".encode()).hexdigest()


def _send_artifact(stream: Stream, place: Place, record: Any, contents: _Contents) -> str | None:
    """Send one artifact and wait for its commit; returns its name when files of it are not here any more."""
    artifact: Any = record.artifact
    artifact.entity, artifact.project, artifact.run_id = place.entity, place.project, place.run_id
    name: str = str(artifact.name)
    if artifact.manifest.manifest_file_path:
        return name  # its list of files lies outside of the log, where nothing vouches for it
    size = 0
    for entry in artifact.manifest.contents:
        if entry.ref or entry.birth_artifact_id:
            continue
        here = contents.find(entry.local_path, entry.digest, entry.size)
        if here is None:
            return name
        entry.local_path = here
        size += entry.size
    request = stream.record()
    request.request.log_artifact.artifact.CopyFrom(artifact)
    answer = stream.ask(request, 120 + size / 100_000).response.log_artifact_response
    if answer.error_message:
        raise NotVerified(
            f"{place.project}/{place.run_id}: its artifact {name} did not arrive: {answer.error_message}",
            hint="it is tried again; what has arrived is not sent twice",
        )
    return None


class _Contents:
    """Finds the files of artifacts by their content.

    The log names the SDK's staging directory, which may be gone, belong to another user, or be a lie: a log could name
    any file of this machine. Only a file with the recorded digest is sent, so that whoever wrote the log had its content.
    """

    def __init__(self, plan: Plan, folder_files: Sequence[FileStat]) -> None:
        self._by_size: dict[int, list[str]] = {}
        for file in folder_files:
            self._by_size.setdefault(file.size, []).append(os.path.join(plan.path, file.path))
        for base, path, size in run_files(plan).values():
            self._by_size.setdefault(size, []).append(os.path.join(base, path))

    def find(self, staged: str, digest: str, size: int) -> str | None:
        """A file with this content: where the log says, or else one of the run's own."""
        places: list[str] = [staged, *self._by_size.get(size, ())]
        for path in places:
            if path and _digest(path, size) == digest:
                return path
        return None


def _digest(path: str, size: int) -> str | None:
    """The MD5 of a regular file of this size as W&B writes it; ``None`` for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size != size:
            return None
        digest = hashlib.md5(usedforsecurity=False)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()
