"""What the sandbox knows: projects, runs, files and artifacts, and the rules by which requests change them.

Every public method of `Store` but `transaction` and `unlocked` must be called inside `transaction()`.
"""

import base64
import json
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from wandb_outbox.sandbox.blobs import BlobStore, Received, base64_to_hex, hex_to_base64
from wandb_outbox.sandbox.journal import Journal
from wandb_outbox.sandbox.names import (
    MAX_METADATA_KEYS,
    ApiError,
    check_alias,
    check_artifact_name,
    check_artifact_tag,
    check_artifact_type,
    check_length,
    check_project,
    check_run_id,
    check_run_tags,
    invalid,
    is_version,
    not_found,
)

_log = logging.getLogger(__name__)

PENDING, COMMITTED, DELETED = "PENDING", "COMMITTED", "DELETED"

HISTORY, EVENTS, SUMMARY, LOG = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log"

HEARTBEAT_TIMEOUT = 300.0
"""Seconds without a sign of life after which a running run counts as crashed."""


@dataclass(slots=True)
class Project:
    """A project of an entity."""

    number: int
    entity: str
    name: str
    created: float
    description: str | None = None
    access: str | None = None
    views: str | None = None


@dataclass(slots=True)
class RunFile:
    """A file of a run, listed once its bytes have arrived."""

    number: int
    name: str
    key: str
    size: int
    md5: str
    updated: float


@dataclass(slots=True)
class Run:
    """One run. `config` is in the server's form, `{key: {"value": ...}}`; `files` holds only what has arrived."""

    number: int
    entity: str
    project: str
    name: str
    created: float
    heartbeat: float
    display_name: str
    state: str = "running"
    exit_code: int | None = None
    description: str | None = None
    notes: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    commit: str | None = None
    host: str | None = None
    program: str | None = None
    repo: str | None = None
    sweep: str | None = None
    stop_requested: bool = False
    files: dict[str, RunFile] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)

    @property
    def storage_id(self) -> str:
        """The id by which the public API addresses the run."""
        return encode_id("Run", f"v1:{self.name}:{self.project}:{self.entity}")

    def stream(self, name: str) -> list[str]:
        """Return the lines of `HISTORY`, `EVENTS` or `LOG`."""
        return self.lines.setdefault(name, [])

    def plain_config(self) -> dict[str, Any]:
        """Return the config as the user wrote it, without the wrapping and without the SDK's own `_wandb` key."""
        return {key: unwrap(value) for key, value in self.config.items() if key != "_wandb"}


@dataclass(slots=True)
class Collection:
    """An artifact name: the versions that were logged under it, and the aliases that point to them.

    `aliases` maps an alias to an artifact's number; `vN` aliases are not in it, they follow from the version.
    """

    number: int
    entity: str
    project: str
    name: str
    type: str
    created: float
    updated: float | None = None
    description: str | None = None
    state: str = "READY"
    next_version: int = 0
    aliases: dict[str, int] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    client_id: str | None = None


@dataclass(slots=True)
class Entry:
    """A file of an artifact as its manifest names it. A reference has a `ref` and no bytes here."""

    path: str
    md5: str
    size: int
    ref: str | None = None


@dataclass(slots=True)
class Manifest:
    """A manifest of an artifact; the last one that was made is the current one."""

    number: int
    artifact: int
    digest: str
    name: str


@dataclass(slots=True)
class Artifact:
    """One version of an artifact; it has a version number from its commit on."""

    number: int
    collection: int
    digest: str
    created: float
    state: str = PENDING
    version: int | None = None
    description: str | None = None
    metadata: str | None = None
    tags: list[str] = field(default_factory=list)
    ttl: int | None = None
    history_step: int | None = None
    pending_aliases: list[str] = field(default_factory=list)
    creator: int | None = None
    users: list[int] = field(default_factory=list)
    client_id: str | None = None
    updated: float | None = None
    manifest: int | None = None
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id by which clients address the version."""
        return encode_id("Artifact", str(self.number))

    @property
    def size(self) -> int:
        """Bytes of all its files together."""
        return sum(entry.size for entry in self.entries.values())


@dataclass(slots=True)
class Blob:
    """Size and MD5 (hexadecimal) of uploaded bytes."""

    key: str
    size: int
    md5: str


@dataclass(slots=True)
class Multipart:
    """An upload in parts that has not been completed."""

    id: str
    key: str
    md5: str
    parts: dict[int, str]
    completed: bool = False


def encode_id(kind: str, value: str) -> str:
    """Return an opaque id. It must be base64: the SDK puts its hexadecimal form into `wandb-artifact://` references."""
    return base64.b64encode(f"{kind}:{value}".encode()).decode()


def decode_id(kind: str, text: str) -> str | None:
    """Return what `encode_id` was given, or None if this is no id of that kind."""
    try:
        found, _, value = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return None
    return value if found == kind else None


def decode_number(kind: str, text: str) -> int | None:
    """Return the number in an id of that kind, or None."""
    value = decode_id(kind, text)
    return int(value) if value is not None and value.isdecimal() else None


def unwrap(value: Any) -> Any:
    """Return the value of one config entry, which the SDK wraps as `{"value": ..., "desc": ...}`."""
    return value["value"] if isinstance(value, Mapping) and "value" in value else value


def json_object(what: str, text: str | None) -> dict[str, Any] | None:
    """Return the object in a JSON string, non-finite numbers as the strings that the real server answers with.

    Raises:
        ApiError: It is not a JSON object.
    """
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise invalid(f"{what}: not JSON: {error}") from error
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid(f"{what}: must be an object")
    finite: dict[str, Any] = _finite(value) if "NaN" in text or "Infinity" in text else value
    return finite


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value


def _finite_line(line: str) -> str:
    if "NaN" not in line and "Infinity" not in line:
        return line
    return json.dumps(_finite(json.loads(line)))


class Store:
    """The state of one sandbox, in memory and, with a journal, on disk."""

    def __init__(
        self,
        *,
        user: str,
        entities: Sequence[str],
        blobs: BlobStore,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.time,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    ) -> None:
        """Make an empty store, or the one that the journal remembers.

        Args:
            user: The only user, whose own entity has the same name.
            entities: Entities besides the user's: teams.
            blobs: Holds the bytes.
            journal: Remembers changes; without one, they end with the process.
            clock: Gives seconds since the epoch.
            heartbeat_timeout: Seconds of silence after which a running run counts as crashed.
        """
        self.user = user
        self.entities = list(dict.fromkeys([user, *entities]))
        self.blobs = blobs
        self._journal = journal
        self._clock = clock
        self._heartbeat_timeout = heartbeat_timeout
        self._lock = threading.Lock()
        self._dirty: dict[tuple[str, str], Any] = {}
        self._dirty_lines: list[tuple[int, str, int, list[str]]] = []
        self._counter = 0
        self._secret = secrets.token_hex(32)
        self._projects: dict[tuple[str, str], Project] = {}
        self._runs: dict[int, Run] = {}
        self._run_numbers: dict[tuple[str, str, str], int] = {}
        self._project_runs: dict[tuple[str, str], list[int]] = {}
        self._tombstones: set[tuple[str, str, str]] = set()
        self._collections: dict[int, Collection] = {}
        self._collection_numbers: dict[tuple[str, str, str], int] = {}
        self._versions: dict[int, list[int]] = {}
        self._artifacts: dict[int, Artifact] = {}
        self._artifact_clients: dict[str, int] = {}
        self._manifests: dict[int, Manifest] = {}
        self._blobs: dict[str, Blob] = {}
        self._multiparts: dict[str, Multipart] = {}
        if journal is not None:
            self._load(journal)

    # State on disk

    def _load(self, journal: Journal) -> None:
        self._secret = journal.secret(self._secret)
        for kind, body in journal.records():
            record = json.loads(body)
            match kind:
                case "project":
                    project = Project(**record)
                    self._projects[project.entity, project.name] = project
                case "run":
                    record["files"] = {name: RunFile(**each) for name, each in record["files"].items()}
                    self._index_run(Run(**record))
                case "tombstone":
                    self._tombstones.add((record[0], record[1], record[2]))
                case "collection":
                    self._index_collection(Collection(**record))
                case "artifact":
                    record["entries"] = {path: Entry(**each) for path, each in record["entries"].items()}
                    self._index_artifact(Artifact(**record))
                case "manifest":
                    manifest = Manifest(**record)
                    self._manifests[manifest.number] = manifest
                case "blob":
                    self._blobs[record["key"]] = Blob(**record)
                case "counter":
                    self._counter = record
        for number, stream, lines in journal.lines():
            if number in self._runs:
                self._runs[number].lines[stream] = lines

    def _changed(self, kind: str, key: object, record: Any) -> None:
        if self._journal is not None:
            self._dirty[kind, str(key)] = record

    @contextmanager
    def transaction(self) -> Iterator["Store"]:
        """Hold the lock; what changed is on disk when this ends."""
        with self._lock:
            try:
                yield self
            finally:
                if self._journal is not None and (self._dirty or self._dirty_lines):
                    self._journal.write(self._dirty, self._dirty_lines)
                    self._dirty.clear()
                    self._dirty_lines.clear()

    @contextmanager
    def unlocked(self) -> Iterator[None]:
        """Let go of the lock inside a transaction, for work on bytes that takes seconds."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    @property
    def secret(self) -> str:
        """The key that signs storage URLs. It outlives a restart, so that a client's URLs do."""
        return self._secret

    def _next_number(self) -> int:
        self._counter += 1
        self._changed("counter", "", self._counter)
        return self._counter

    # Entities and projects

    def require_entity(self, name: str | None) -> str:
        """Return the entity's name, the user's own if there is none.

        Raises:
            ApiError: 404; there is no such entity.
        """
        if not name:
            return self.user
        if name not in self.entities:
            raise not_found(f"entity {name} not found")
        return name

    def project(self, entity: str | None, name: str | None) -> Project | None:
        """Return a project, or None."""
        return self._projects.get((entity or self.user, name or ""))

    def projects(self, entity: str | None = None) -> list[Project]:
        """Return the projects of an entity, or all, oldest first."""
        return [project for project in self._projects.values() if entity is None or project.entity == entity]

    def ensure_project(self, entity: str | None, name: str | None) -> tuple[Project, bool]:
        """Return a project, made now if need be, and whether it was."""
        owner, name = self.require_entity(entity), name or "uncategorized"
        found = self._projects.get((owner, name))
        if found is not None:
            return found, False
        check_project(name)
        project = Project(self._next_number(), owner, name, self._clock())
        self._projects[owner, name] = project
        self._changed("project", f"{owner}/{name}", project)
        return project, True

    def require_project(self, entity: str | None, name: str | None) -> Project:
        """Return a project.

        Raises:
            ApiError: 404; there is no such project.
        """
        project = self.project(self.require_entity(entity), name)
        if project is None:
            raise not_found(f"project {entity or self.user}/{name} not found")
        return project

    def upsert_project(self, data: Mapping[str, Any]) -> tuple[Project, bool]:
        """Make or change a project."""
        project, inserted = self.ensure_project(data.get("entity_name"), data.get("name"))
        for attribute in ("description", "access", "views"):
            if data.get(attribute) is not None:
                setattr(project, attribute, data[attribute])
        self._changed("project", f"{project.entity}/{project.name}", project)
        return project, inserted

    # Runs

    def _index_run(self, run: Run) -> None:
        self._runs[run.number] = run
        self._run_numbers[run.entity, run.project, run.name] = run.number
        self._project_runs.setdefault((run.entity, run.project), []).append(run.number)

    def run(self, entity: str | None, project: str | None, name: str) -> Run | None:
        """Return a run by its path, or None."""
        number = self._run_numbers.get((entity or self.user, project or "", name))
        return None if number is None else self._alive(self._runs[number])

    def run_by_number(self, number: int | None) -> Run | None:
        """Return a run by its number, or None if there is none or it was deleted."""
        run = self._runs.get(number) if number is not None else None
        return None if run is None else self._alive(run)

    def _alive(self, run: Run) -> Run:
        if run.state == "running" and self._clock() - run.heartbeat > self._heartbeat_timeout:
            run.state = "crashed"
            self._changed("run", run.number, run)
        return run

    def runs(self, entity: str | None = None, project: str | None = None) -> list[Run]:
        """Return the runs of a project, of an entity, or all, oldest first."""
        if entity is not None and project is not None:
            return [self._alive(self._runs[number]) for number in self._project_runs.get((entity, project), [])]
        return [
            self._alive(run)
            for run in self._runs.values()
            if (entity is None or run.entity == entity) and (project is None or run.project == project)
        ]

    def require_run(self, entity: str | None, project: str | None, name: str) -> Run:
        """Return a run by its path.

        Raises:
            ApiError: 404 if there is none, 409 if it was deleted.
        """
        run = self.run(entity, project, name)
        if run is None:
            self._refuse_deleted(entity or self.user, project or "", name)
            raise not_found(f"run {entity}/{project}/{name} not found")
        return run

    def require_run_by_id(self, storage_id: str) -> Run:
        """Return a run by its storage id.

        Raises:
            ApiError: 404 if there is none, 409 if it was deleted.
        """
        parts = (decode_id("Run", storage_id) or "").split(":")
        if len(parts) != 4:
            raise not_found(f"run with id {storage_id} not found")
        return self.require_run(parts[3], parts[2], parts[1])

    def _refuse_deleted(self, entity: str, project: str, name: str) -> None:
        if (entity, project, name) in self._tombstones:
            raise ApiError(
                409, f"run {entity}/{project}/{name} was previously created and deleted; try a new run name", "CONFLICT"
            )

    def upsert_run(self, data: Mapping[str, Any]) -> tuple[Run, bool]:
        """Make or change a run.

        A client that writes a run addresses it by name, and brings it to life; the public API addresses it by
        storage id, and leaves its state alone. The config is replaced as a whole: merging is the SDK's work.

        Returns:
            The run, and whether it is new.
        """
        _check_run_fields(data)
        name, inserted = data.get("name"), False
        if name is None:
            if data.get("id") is None:
                raise invalid("upsertBucket needs a name or an id")
            run = self.require_run_by_id(data["id"])
        else:
            check_run_id(name)
            try:
                entity = self.require_entity(data.get("entity_name"))
            except ApiError as error:
                raise not_found(f"{error.message} during upsertBucket") from error
            self._refuse_deleted(entity, data.get("model_name") or "uncategorized", name)
            project, _ = self.ensure_project(entity, data.get("model_name"))
            found = self.run(project.entity, project.name, name)
            inserted = found is None
            run = found or self._new_run(project, name)
            run.heartbeat = self._clock()
            run.state = "running"
        self._update_run(run, data)
        self._changed("run", run.number, run)
        return run, inserted

    def _new_run(self, project: Project, name: str) -> Run:
        count = len(self._project_runs.get((project.entity, project.name), ())) + 1
        now = self._clock()
        run = Run(
            self._next_number(), project.entity, project.name, name, created=now, heartbeat=now,
            display_name=f"sandbox-run-{count}",
        )  # fmt: skip
        self._index_run(run)
        return run

    def _update_run(self, run: Run, data: Mapping[str, Any]) -> None:
        for key, attribute in _RUN_TEXTS.items():
            if data.get(key) is not None:
                setattr(run, attribute, data[key])
        if data.get("tags") is not None:
            run.tags = list(dict.fromkeys(data["tags"]))
        config = json_object("config", data.get("config"))
        if config is not None:
            run.config = config
        summary = json_object("summaryMetrics", data.get("summary_metrics"))
        if summary is not None:
            run.summary = summary

    def set_run_state(self, storage_id: str, state: str) -> None:
        """Move a run to `pending` or `failed`, as the public API may."""
        run = self.require_run_by_id(storage_id)
        allowed = {"pending": {"running", "failed", "crashed", "preempted"}, "failed": {"pending", "running"}}
        if run.state not in allowed.get(state, ()):
            raise invalid(f"cannot move a run from {run.state} to {state}")
        run.state = state
        self._changed("run", run.number, run)

    def stop_run(self, storage_id: str) -> None:
        """Ask the process that writes a run to stop; it learns of it from its next stream answer."""
        run = self.require_run_by_id(storage_id)
        run.stop_requested = True
        self._changed("run", run.number, run)

    def delete_run(self, run: Run, *, delete_artifacts: bool = False) -> None:
        """Delete a run. Its id can never be used again in its project: the answer is 409 from now on."""
        path = (run.entity, run.project, run.name)
        self._tombstones.add(path)
        self._changed("tombstone", "/".join(path), list(path))
        self._changed("run", run.number, None)
        del self._runs[run.number]
        del self._run_numbers[path]
        self._project_runs[run.entity, run.project].remove(run.number)
        for file in run.files.values():
            self._forget_blob(file.key)
        if delete_artifacts:
            for number in run.outputs:
                artifact = self._artifacts.get(number)
                if artifact is not None and artifact.state != DELETED:
                    self.delete_artifact(artifact, delete_aliases=True)

    def file_stream(self, run: Run, data: Mapping[str, Any]) -> dict[str, Any]:
        """Take one request of a run's stream: lines at offsets, the newest summary, the end of the run.

        A line that is sent again at its offset replaces itself, so a repeated request changes nothing.

        Returns:
            The answer's body.

        Raises:
            ApiError: 400; a chunk is malformed, or begins after the end of what is there.
        """
        for name, chunk in (data.get("files") or {}).items():
            try:
                offset, content = int(chunk["offset"]), [str(line) for line in chunk["content"]]
            except (KeyError, TypeError, ValueError) as error:
                raise invalid(f"file_stream: malformed chunk of {name}") from error
            if name == SUMMARY:
                run.summary = json_object(SUMMARY, content[-1] if content else None) or {}
            else:
                self._splice(run, name, offset, content)
        run.heartbeat = self._clock()
        if data.get("complete"):
            run.exit_code = int(data.get("exitcode") or 0)
            run.state = "finished" if run.exit_code == 0 else "failed"
        elif data.get("preempting"):
            run.state = "preempting"
        else:
            run.state = "running"
        self._changed("run", run.number, run)
        return {"exitcode": run.exit_code, "limits": {}, "stopped": run.stop_requested}

    def _splice(self, run: Run, name: str, offset: int, content: list[str]) -> None:
        lines = run.stream(name)
        if offset > len(lines):
            if name != LOG:
                raise invalid(f"file_stream: {name} has {len(lines)} lines, a chunk begins at {offset}")
            content = [""] * (offset - len(lines)) + content
            offset = len(lines)
        if name in {HISTORY, EVENTS}:
            content = [_finite_line(line) for line in content]
        lines[offset : offset + len(content)] = content
        if self._journal is not None:
            self._dirty_lines.append((run.number, name, offset, content))

    # Bytes

    def blob(self, key: str) -> Blob | None:
        """Return size and MD5 of uploaded bytes, or None if they have not arrived."""
        return self._blobs.get(key)

    def take_blob(self, key: str, received: Received) -> None:
        """Keep bytes that were sent to a signed URL, and list them with their run if they are a run's file."""
        self.blobs.keep(received, key)
        blob = Blob(key, received.size, received.md5)
        self._blobs[key] = blob
        self._changed("blob", key, blob)
        kind, _, rest = key.partition("/")
        if kind == "run":
            number, _, name = rest.partition("/")
            run = self._runs.get(int(number))
            if run is not None:
                old = run.files.get(name)
                file_number = old.number if old else self._next_number()
                run.files[name] = RunFile(file_number, name, key, blob.size, blob.md5, self._clock())
                self._changed("run", run.number, run)

    def _forget_blob(self, key: str) -> None:
        if self._blobs.pop(key, None) is not None:
            self._changed("blob", key, None)
        self.blobs.remove(key)

    def run_file_key(self, run: Run, name: str) -> str:
        """Return the key of a run's file.

        Raises:
            ApiError: 400; the name leaves the run's folder.
        """
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise invalid(f"invalid file name {name!r}")
        return f"run/{run.number}/{name}"

    def delete_run_files(self, ids: Iterable[str]) -> None:
        """Delete run files by their ids."""
        wanted = {decode_number("File", each) for each in ids}
        for run in self._runs.values():
            for file in [file for file in run.files.values() if file.number in wanted]:
                del run.files[file.name]
                self._forget_blob(file.key)
                self._changed("run", run.number, run)

    # Artifacts

    def _index_collection(self, collection: Collection) -> None:
        self._collections[collection.number] = collection
        if collection.state == "READY":
            self._collection_numbers[collection.entity, collection.project, collection.name] = collection.number
        self._versions.setdefault(collection.number, [])

    def _index_artifact(self, artifact: Artifact) -> None:
        self._artifacts[artifact.number] = artifact
        self._versions.setdefault(artifact.collection, []).append(artifact.number)
        if artifact.client_id:
            self._artifact_clients[artifact.client_id] = artifact.number

    def collection(self, entity: str, project: str, name: str) -> Collection | None:
        """Return a collection by its path, or None."""
        number = self._collection_numbers.get((entity, project, name))
        return None if number is None else self._collections[number]

    def collection_by_number(self, number: int | None) -> Collection | None:
        """Return a collection by its number, or None."""
        return self._collections.get(number) if number is not None else None

    def require_collection(self, id_: str) -> Collection:
        """Return a collection by its id.

        Raises:
            ApiError: 404; there is no such collection.
        """
        collection = self.collection_by_number(decode_number("ArtifactCollection", id_))
        if collection is None:
            raise not_found(f"artifact collection {id_} not found")
        return collection

    def collections(self, entity: str, project: str, type_: str | None = None) -> list[Collection]:
        """Return the collections of a project, of one type or of all, oldest first."""
        return [
            each
            for each in self._collections.values()
            if each.state == "READY"
            and (each.entity, each.project) == (entity, project)
            and type_ in (None, each.type)
            and any(self._artifacts[number].state == COMMITTED for number in self._versions[each.number])
        ]

    def versions(self, collection: Collection) -> list[Artifact]:
        """Return all that was ever logged under a name, oldest first, pending and deleted versions included."""
        return [self._artifacts[number] for number in self._versions[collection.number]]

    def artifacts(self) -> list[Artifact]:
        """Return all artifacts, oldest first, pending and deleted ones included."""
        return list(self._artifacts.values())

    def artifact_by_number(self, number: int | None) -> Artifact | None:
        """Return an artifact by its number, or None."""
        return self._artifacts.get(number) if number is not None else None

    def artifact_by_client(self, client_id: str) -> Artifact | None:
        """Return the artifact that a client gave this id, or None."""
        return self.artifact_by_number(self._artifact_clients.get(client_id))

    def require_artifact(self, id_: str) -> Artifact:
        """Return an artifact by its id.

        Raises:
            ApiError: 404; there is no such artifact.
        """
        artifact = self.artifact_by_number(decode_number("Artifact", id_))
        if artifact is None:
            raise not_found(f"artifact {id_} not found")
        return artifact

    def resolve_alias(self, collection: Collection, alias: str) -> Artifact | None:
        """Return the committed version that an alias, a `vN` or a digest points to, or None."""
        number = collection.aliases.get(alias)
        if number is not None:
            return self._artifacts[number]
        for artifact in self.versions(collection):
            if artifact.state == COMMITTED and alias in {f"v{artifact.version}", artifact.digest}:
                return artifact
        return None

    def aliases(self, artifact: Artifact) -> list[str]:
        """Return the aliases that point to a version, `vN` not among them."""
        collection = self._collections[artifact.collection]
        return [alias for alias, number in collection.aliases.items() if number == artifact.number]

    def latest(self, collection: Collection) -> Artifact | None:
        """Return the version that `latest` points to, or None."""
        return self.artifact_by_number(collection.aliases.get("latest"))

    def create_artifact(self, data: Mapping[str, Any]) -> Artifact:
        """Log an artifact.

        A committed version of the same name with the same digest is returned as it is, with its first metadata; the
        aliases move to it. The same client id again, which is a repeated request, gives the same artifact.
        """
        names = data.get("artifact_collection_names") or [data.get("artifact_collection_name") or ""]
        name, type_ = names[0], data["artifact_type_name"]
        check_artifact_name(name)
        check_artifact_type(type_)
        project = self.require_project(data["entity_name"], data["project_name"])
        metadata = json_object("metadata", data.get("metadata"))
        if metadata is not None and len(metadata) > MAX_METADATA_KEYS:
            raise invalid(f"artifact metadata must not have more than {MAX_METADATA_KEYS} keys, got {len(metadata)}")
        aliases = [each["alias"] for each in data.get("aliases") or []]
        tags = [each["tag_name"] for each in data.get("tags") or []]
        for alias in aliases:
            check_alias(alias)
        for tag in tags:
            check_artifact_tag(tag)
        run = None
        if data.get("run_name"):
            run = self.require_run(project.entity, project.name, data["run_name"])
        repeated = self.artifact_by_client(data["client_id"]) if data.get("client_id") else None
        if repeated is not None:
            return repeated
        collection = self._ensure_collection(project, name, type_, data.get("sequence_client_id"))
        artifact = self._same_content(collection, data["digest"]) if data.get("enable_digest_deduplication") else None
        if artifact is None:
            artifact = Artifact(
                self._next_number(), collection.number, data["digest"], self._clock(),
                description=data.get("description"), metadata=data.get("metadata"), tags=tags,
                ttl=data.get("ttl_duration_seconds"), history_step=data.get("history_step"), pending_aliases=aliases,
                creator=run.number if run else None, client_id=data.get("client_id"),
            )  # fmt: skip
            self._index_artifact(artifact)
        else:
            self._point(collection, artifact, aliases)
            if data.get("client_id"):
                self._artifact_clients[data["client_id"]] = artifact.number
        if run is not None and artifact.number not in run.outputs:
            run.outputs.append(artifact.number)
            self._changed("run", run.number, run)
        self._changed("artifact", artifact.number, artifact)
        return artifact

    def _ensure_collection(self, project: Project, name: str, type_: str, client_id: str | None) -> Collection:
        collection = self.collection(project.entity, project.name, name)
        if collection is None:
            collection = Collection(
                self._next_number(), project.entity, project.name, name, type_, self._clock(), client_id=client_id
            )
            self._index_collection(collection)
            self._changed("collection", collection.number, collection)
        elif collection.type != type_:
            raise invalid(f"artifact {name} already exists with type {collection.type}, cannot log it as {type_}")
        return collection

    def _same_content(self, collection: Collection, digest: str) -> Artifact | None:
        for artifact in self.versions(collection):
            if artifact.state == COMMITTED and artifact.digest == digest:
                return artifact
        return None

    def _point(self, collection: Collection, artifact: Artifact, aliases: Iterable[str]) -> None:
        for alias in aliases:
            if not is_version(alias):
                collection.aliases[alias] = artifact.number
        collection.updated = self._clock()
        self._changed("collection", collection.number, collection)

    def collection_of(self, artifact: Artifact) -> Collection:
        """Return the collection that a version belongs to."""
        return self._collections[artifact.collection]

    def create_manifest(self, artifact: Artifact, name: str, digest: str) -> Manifest:
        """Make the manifest record to which the manifest's bytes will be uploaded."""
        manifest = Manifest(self._next_number(), artifact.number, digest, name)
        self._manifests[manifest.number] = manifest
        artifact.manifest = manifest.number
        self._changed("manifest", manifest.number, manifest)
        self._changed("artifact", artifact.number, artifact)
        return manifest

    def update_manifest(self, id_: str, digest: str | None) -> Manifest:
        """Change the digest of a manifest record.

        Raises:
            ApiError: 404; there is no such manifest.
        """
        manifest = self.manifest(decode_number("ArtifactManifest", id_))
        if manifest is None:
            raise not_found(f"artifact manifest {id_} not found")
        manifest.digest = digest or manifest.digest
        self._changed("manifest", manifest.number, manifest)
        return manifest

    def manifest(self, number: int | None) -> Manifest | None:
        """Return a manifest by its number, or None."""
        return self._manifests.get(number) if number is not None else None

    @staticmethod
    def manifest_key(manifest: Manifest) -> str:
        """Return the key of a manifest's bytes."""
        return f"manifest/{manifest.number}"

    def content_key(self, artifact: Artifact, md5: str) -> str:
        """Return the key of an artifact file's bytes: equal content under one name is stored once.

        Args:
            artifact: The version that names the file.
            md5: In hexadecimal.
        """
        return f"artifact/{artifact.collection}/{md5}"

    def begin_multipart(self, key: str, md5: str, parts: Mapping[int, str]) -> Multipart:
        """Begin an upload in parts, `parts` giving the hexadecimal MD5 of each by its number."""
        upload = Multipart(secrets.token_hex(16), key, md5, dict(parts))
        self._multiparts[upload.id] = upload
        return upload

    @staticmethod
    def part_key(upload: Multipart, number: int) -> str:
        """Return the key of a part's bytes."""
        return f"part/{upload.id}/{number}"

    def complete_multipart(self, upload_id: str, parts: Mapping[int, str]) -> str:
        """Join the parts of an upload. Again is harmless.

        Returns:
            The MD5 of the whole in base64.

        Raises:
            ApiError: 404 for an upload that is not open, 400 for a missing or a differing part.
        """
        upload = self._multiparts.get(upload_id)
        if upload is None:
            raise not_found(f"upload {upload_id} not found")
        if upload.completed:
            return hex_to_base64(upload.md5)
        keys = []
        for number in sorted(upload.parts):
            blob = self.blob(self.part_key(upload, number))
            if blob is None or parts.get(number, "").strip('"') != blob.md5:
                raise invalid(f"upload {upload_id}: part {number} is missing or differs")
            keys.append(blob.key)
        with self.unlocked():
            joined = self.blobs.join(keys)
        if joined.md5 != upload.md5:
            self.blobs.drop(joined)
            raise invalid(f"upload {upload_id}: the whole has MD5 {joined.md5}, not {upload.md5}")
        self.take_blob(upload.key, joined)
        for key in keys:
            self._forget_blob(key)
        upload.completed = True
        return hex_to_base64(joined.md5)

    def commit_artifact(self, artifact: Artifact) -> None:
        """Commit a version: give it a number and let its aliases point to it. Again is harmless.

        Raises:
            ApiError: 400; there is no manifest, or bytes that it names are missing or of another size.
        """
        if artifact.state == COMMITTED:
            return
        if artifact.state == DELETED:
            raise invalid("cannot commit a deleted artifact")
        artifact.entries = self._read_manifest(artifact)
        collection = self.collection_of(artifact)
        artifact.version = collection.next_version
        artifact.state = COMMITTED
        artifact.updated = self._clock()
        collection.next_version += 1
        self._point(collection, artifact, artifact.pending_aliases)
        self._changed("artifact", artifact.number, artifact)

    def _read_manifest(self, artifact: Artifact) -> dict[str, Entry]:
        manifest = self.manifest(artifact.manifest)
        blob = self.blob(self.manifest_key(manifest)) if manifest else None
        if manifest is None or blob is None:
            raise invalid("cannot commit artifact: its manifest was not uploaded")
        try:
            document = json.loads(self.blobs.path(blob.key).read_bytes())
            entries = {path: self._entry(artifact, path, each) for path, each in document["contents"].items()}
        except (KeyError, TypeError, ValueError) as error:
            raise invalid(f"cannot commit artifact: malformed manifest: {error!r}") from error
        return entries

    def _entry(self, artifact: Artifact, path: str, record: Mapping[str, Any]) -> Entry:
        size = int(record.get("size") or 0)
        if record.get("ref") is not None:
            return Entry(path, record["digest"], size, record["ref"])
        md5 = base64_to_hex(record["digest"])
        blob = self.blob(self.content_key(artifact, md5))
        if blob is None:
            raise invalid(f"cannot commit artifact: file {path!r} was not uploaded")
        if blob.size != size:
            raise invalid(f"cannot commit artifact: file {path!r} has {blob.size} bytes, the manifest says {size}")
        return Entry(path, md5, size)

    def update_artifact(self, artifact: Artifact, data: Mapping[str, Any]) -> None:
        """Change description, metadata, tags, time to live or aliases; what is absent stays."""
        metadata = json_object("metadata", data.get("metadata"))
        if metadata is not None:
            if len(metadata) > MAX_METADATA_KEYS:
                raise invalid(f"artifact metadata must not have more than {MAX_METADATA_KEYS} keys")
            artifact.metadata = data["metadata"]
        if data.get("description") is not None:
            artifact.description = data["description"]
        if data.get("ttl_duration_seconds") is not None:
            artifact.ttl = data["ttl_duration_seconds"]
        removed = {each["tag_name"] for each in data.get("tags_to_delete") or []}
        added = [each["tag_name"] for each in data.get("tags_to_add") or []]
        for tag in added:
            check_artifact_tag(tag)
        artifact.tags = list(dict.fromkeys([tag for tag in artifact.tags if tag not in removed] + added))
        if data.get("aliases") is not None:
            wanted = [each["alias"] for each in data["aliases"]]
            collection = self.collection_of(artifact)
            for alias in self.aliases(artifact):
                if alias not in wanted:
                    del collection.aliases[alias]
            self.add_aliases(artifact, wanted)
        artifact.updated = self._clock()
        self._changed("artifact", artifact.number, artifact)

    def add_aliases(self, artifact: Artifact, aliases: Iterable[str]) -> None:
        """Let aliases point to a version."""
        aliases = list(aliases)
        for alias in aliases:
            check_alias(alias)
        self._point(self.collection_of(artifact), artifact, aliases)

    def delete_aliases(self, artifact: Artifact, aliases: Iterable[str]) -> None:
        """Take aliases away from a version."""
        collection = self.collection_of(artifact)
        for alias in aliases:
            if collection.aliases.get(alias) == artifact.number:
                del collection.aliases[alias]
        self._changed("collection", collection.number, collection)

    def delete_artifact(self, artifact: Artifact, *, delete_aliases: bool) -> None:
        """Delete a version; its number is not given again.

        Raises:
            ApiError: 400; it has aliases, and they were not to be deleted with it.
        """
        aliases = self.aliases(artifact)
        if aliases and not delete_aliases:
            raise invalid(f"cannot delete an artifact with aliases: {', '.join(aliases)}")
        self.delete_aliases(artifact, aliases)
        artifact.state = DELETED
        artifact.updated = self._clock()
        self._changed("artifact", artifact.number, artifact)

    def use_artifact(self, run: Run, artifact: Artifact) -> None:
        """Record that a run used an artifact."""
        if artifact.number not in run.inputs:
            run.inputs.append(artifact.number)
            artifact.users.append(run.number)
            self._changed("run", run.number, run)
            self._changed("artifact", artifact.number, artifact)

    def update_collection(self, collection: Collection, data: Mapping[str, Any]) -> None:
        """Rename a collection or change its description."""
        name = data.get("name")
        if name and name != collection.name:
            check_artifact_name(name)
            if self.collection(collection.entity, collection.project, name) is not None:
                raise invalid(f"an artifact collection {name} already exists")
            del self._collection_numbers[collection.entity, collection.project, collection.name]
            collection.name = name
            self._collection_numbers[collection.entity, collection.project, name] = collection.number
        if data.get("description") is not None:
            collection.description = data["description"]
        collection.updated = self._clock()
        self._changed("collection", collection.number, collection)

    def delete_collection(self, collection: Collection) -> None:
        """Delete a collection with all its versions."""
        for artifact in self.versions(collection):
            if artifact.state != DELETED:
                self.delete_artifact(artifact, delete_aliases=True)
        collection.state = DELETED
        del self._collection_numbers[collection.entity, collection.project, collection.name]
        self._changed("collection", collection.number, collection)

    def tag_collection(self, collection: Collection, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Add or remove tags of a collection."""
        add, removed = list(add), set(remove)
        for tag in add:
            check_artifact_tag(tag)
        collection.tags = list(dict.fromkeys([tag for tag in collection.tags if tag not in removed] + add))
        self._changed("collection", collection.number, collection)

    def close(self) -> None:
        """Let go of the files on disk."""
        self.blobs.close()
        if self._journal is not None:
            self._journal.close()


_RUN_TEXTS = {
    "display_name": "display_name",
    "description": "description",
    "notes": "notes",
    "group_name": "group",
    "job_type": "job_type",
    "commit": "commit",
    "host": "host",
    "job_program": "program",
    "job_repo": "repo",
    "sweep": "sweep",
    "state": "state",
}


def _check_run_fields(data: Mapping[str, Any]) -> None:
    for key, what, limit in (
        ("display_name", "display name", 128),
        ("group_name", "group", 128),
        ("job_type", "job type", 64),
    ):
        if data.get(key) is not None:
            check_length(what, data[key], limit)
    check_run_tags(data.get("tags") or [])
