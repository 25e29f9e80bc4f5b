"""The GraphQL types as Python classes: each attribute answers the field of the same name in `schema.graphql`."""

import base64
import binascii
import json
import mimetypes
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wandb_outbox.sandbox import store as model
from wandb_outbox.sandbox.blobs import base64_to_hex, hex_to_base64
from wandb_outbox.sandbox.names import invalid, is_version, not_found
from wandb_outbox.sandbox.query import MISSING, lookup_path, matches, ordered, parse_filter
from wandb_outbox.sandbox.store import EVENTS, HISTORY, LOG, Store, encode_id
from wandb_outbox.sandbox.urls import Signer

FEATURES = (
    "ARTIFACT_COLLECTIONS_FILTERING_SORTING",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILE_DOWNLOAD_HANDLER",
    "ARTIFACT_TAGS",
    "ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID",
    "CLIENT_IDS",
    "FILESTREAM_GZIP",
    "LARGE_FILENAMES",
    "MARK_RUN_FILES_UPLOADED",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "STRUCTURED_CONSOLE_LOGS",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
)
"""Server features that the sandbox has, by the names that the SDK knows them under."""

LOG_PAGE = 10_000
"""Log lines in one answer at most."""


@dataclass(frozen=True, slots=True)
class Context:
    """What resolvers need besides the value they stand on.

    Attributes:
        store: The state.
        signer: Signs storage URLs.
        base_url: Where the client reached us, without a trailing slash.
    """

    store: Store
    signer: Signer
    base_url: str

    def put_url(self, key: str, md5: str = "") -> str:
        """Return a URL to which the bytes of a key may be sent."""
        return self.base_url + self.signer.put_path(key, md5)

    def get_url(self, key: str, name: str) -> str:
        """Return a URL from which the bytes of a key may be read."""
        return self.base_url + self.signer.get_path(key, name)


def iso(seconds: float | None) -> str | None:
    """Return an instant in the form of the real server's answers."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Lists


@dataclass(frozen=True, slots=True)
class PageInfo:
    """Where a page ends."""

    end_cursor: str | None
    has_next_page: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """One item of a page."""

    node: Any
    cursor: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """One page of a list."""

    edges: Sequence[Edge]
    page_info: PageInfo
    total_count: int


def _cursor(position: int) -> str:
    return base64.b64encode(f"after:{position}".encode()).decode()


def _position(cursor: str | None) -> int:
    if not cursor:
        return 0
    try:
        return int(base64.b64decode(cursor).decode().removeprefix("after:"))
    except (binascii.Error, ValueError) as error:
        raise invalid(f"malformed cursor {cursor!r}") from error


def paginate(items: Sequence[Any], make: Callable[[Any], Any], first: int | None, after: str | None) -> Connection:
    """Return a page of items.

    Args:
        items: The whole list.
        make: Turns an item of the page into its node.
        first: Items on the page at most; None for all.
        after: The cursor at which the page before ended.
    """
    begin = _position(after)
    end = len(items) if first is None else min(begin + max(first, 0), len(items))
    edges = [Edge(make(item), _cursor(begin + index + 1)) for index, item in enumerate(items[begin:end])]
    return Connection(edges, PageInfo(_cursor(end) if edges else None, end < len(items)), len(items))


def _all(nodes: Iterable[Any]) -> Connection:
    edges = [Edge(node) for node in nodes]
    return Connection(edges, PageInfo(None, False), len(edges))


# The server and its only user


@dataclass(frozen=True, slots=True)
class ServerFeature:
    """A feature flag."""

    name: str
    is_enabled: bool


@dataclass(frozen=True, slots=True)
class LatestLocalVersionInfo:
    """What a self-hosted server says of its own version."""

    out_of_date: bool = False
    latest_version_string: str = "sandbox"
    version_on_this_instance_string: str = "sandbox"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The server."""

    cli_version_info: Mapping[str, str]
    latest_local_version_info: LatestLocalVersionInfo
    features: Sequence[ServerFeature]


SERVER_INFO = ServerInfo(
    {"min_cli_version": "0.13.0", "max_cli_version": "99.0.0"},
    LatestLocalVersionInfo(),
    [ServerFeature(name, is_enabled=True) for name in FEATURES],
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The user's key, without its value."""

    id: str
    name: str
    description: str | None = None


class User:
    """The only user."""

    admin = False
    flags = "{}"
    deleted_at = None

    def __init__(self, context: Context) -> None:
        """Stand for the store's user."""
        self._context = context
        self.name = self.username = self.entity = context.store.user
        self.id = encode_id("User", self.name)
        self.email = f"{self.name}@sandbox.invalid"

    @property
    def api_keys(self) -> Connection:
        """The user's only key."""
        return _all([ApiKey(encode_id("ApiKey", self.name), "sandbox")])

    @property
    def teams(self) -> Connection:
        """All entities: the SDK looks for those it may write to here."""
        return _all(Entity(self._context, name) for name in self._context.store.entities)


class Organization:
    """The organization of an entity. It has no registry, hence no entity of its own."""

    core_weave_organization_id = None
    org_entity = None

    def __init__(self, name: str) -> None:
        """Stand for the organization of an entity."""
        self.id = encode_id("Organization", name)
        self.name = name


class Entity:
    """The user's own entity or a team."""

    xxhash_digests_enabled = False

    def __init__(self, context: Context, name: str) -> None:
        """Stand for an entity."""
        self._context = context
        self.id = encode_id("Entity", name)
        self.name = name
        self.is_team = name != context.store.user
        self.entity_type = "team" if self.is_team else "user"
        self.organization = Organization(name) if self.is_team else None

    @property
    def user(self) -> User | None:
        """The user, of a personal entity."""
        return None if self.is_team else User(self._context)

    def project(self, name: str | None = None) -> "Project | None":
        """Return a project of the entity."""
        found = self._context.store.project(self.name, name)
        return Project(self._context, found) if found else None


# Projects


class Project:
    """A project."""

    is_benchmark = False
    read_only = False

    def __init__(self, context: Context, project: model.Project) -> None:
        """Stand for a project."""
        self._context = context
        self._project = project
        self.id = encode_id("Project", f"v1:{project.name}:{project.entity}")
        self.internal_id = str(project.number)
        self.name = project.name
        self.entity_name = project.entity
        self.description = project.description
        self.access = project.access
        self.views = project.views
        self.created_at = iso(project.created)

    @property
    def entity(self) -> Entity:
        """The owner."""
        return Entity(self._context, self.entity_name)

    @property
    def user(self) -> User:
        """Who made it."""
        return User(self._context)

    def _filtered(self, filters: str | None) -> list[model.Run]:
        runs = self._context.store.runs(self.entity_name, self.name)
        condition = parse_filter(filters)
        if not condition:
            return runs
        user = self._context.store.user
        return [run for run in runs if matches(condition, lambda path, run=run: run_value(run, path, user))]  # type: ignore[misc]

    def run_count(self, filters: str | None = None) -> int:
        """Return how many runs pass a filter."""
        return len(self._filtered(filters))

    def runs(
        self, filters: str | None = None, after: str | None = None, first: int | None = 50, order: str | None = None
    ) -> Connection:
        """Return the runs that pass a filter, oldest first if no order is given."""
        user = self._context.store.user
        runs = ordered(self._filtered(filters), order, lambda run, path: _order_value(run, path, user))
        return paginate(runs, lambda run: Run(self._context, run), first, after)

    def run(self, name: str) -> "Run | None":
        """Return a run by its id."""
        found = self._context.store.run(self.entity_name, self.name, name)
        return Run(self._context, found) if found else None

    def bucket(self, name: str, missing_ok: bool | None = False) -> "Run | None":
        """Return a run by its id; the older name of the same thing.

        Raises:
            ApiError: 404; there is none, and that is not fine.
        """
        found = self.run(name)
        if found is None and not missing_ok:
            raise not_found(f"run {name} not found")
        return found

    def _member(self, name: str) -> tuple[model.Collection, model.Artifact] | None:
        collection_name, _, alias = name.partition(":")
        collection = self._context.store.collection(self.entity_name, self.name, collection_name)
        artifact = self._context.store.resolve_alias(collection, alias or "latest") if collection else None
        return (collection, artifact) if collection and artifact else None

    def artifact(self, name: str) -> "Artifact | None":
        """Return a version by `name:alias`."""
        found = self._member(name)
        return Artifact(self._context, found[1]) if found else None

    def artifact_collection_membership(self, name: str) -> "ArtifactCollectionMembership | None":
        """Return a version in its collection by `name:alias`."""
        found = self._member(name)
        return ArtifactCollectionMembership(self._context, *found) if found else None

    def _types(self) -> list[str]:
        collections = self._context.store.collections(self.entity_name, self.name)
        return sorted({collection.type for collection in collections})

    def artifact_type(self, name: str) -> "ArtifactType | None":
        """Return a type that some artifact of the project has."""
        return ArtifactType(self._context, self._project, name) if name in self._types() else None

    def artifact_types(self, after: str | None = None, first: int | None = 50) -> Connection:
        """Return the types that artifacts of the project have."""
        return paginate(self._types(), lambda name: ArtifactType(self._context, self._project, name), first, after)

    def artifact_collection(self, name: str) -> "ArtifactSequence | None":
        """Return a collection by its name."""
        found = self._context.store.collection(self.entity_name, self.name, name)
        return ArtifactSequence(self._context, found) if found else None

    def artifact_collections(
        self, after: str | None = None, first: int | None = 50, filters: str | None = None, order: str | None = None
    ) -> Connection:
        """Return the collections of the project."""
        found = self._context.store.collections(self.entity_name, self.name)
        return _collections(self._context, found, after, first, filters, order)


# Runs

_RUN_FIELDS: Mapping[str, Callable[[model.Run], Any]] = {
    "name": lambda run: run.name,
    "displayname": lambda run: run.display_name,
    "state": lambda run: run.state,
    "group": lambda run: run.group,
    "jobtype": lambda run: run.job_type,
    "tags": lambda run: run.tags,
    "description": lambda run: run.description,
    "notes": lambda run: run.notes,
    "commit": lambda run: run.commit,
    "host": lambda run: run.host,
    "sweep": lambda run: run.sweep,
    "createdat": lambda run: iso(run.created),
    "updatedat": lambda run: iso(run.heartbeat),
    "heartbeatat": lambda run: iso(run.heartbeat),
}


def run_value(run: model.Run, path: str, user: str) -> Any:
    """Return the value at a path of a filter or an order: a field of the run, or `config.`, `summary_metrics.`.

    In a config path, `.value` after the first key may stand or not: the public API's users write both.

    Raises:
        ApiError: 400; runs have no such field.
    """
    section, _, rest = path.partition(".")
    folded = section.replace("_", "").lower()
    if folded == "config" and rest:
        return _config_value(run.config, rest)
    if folded in {"summarymetrics", "summary"} and rest:
        return lookup_path(run.summary, rest)
    if folded == "tags" and rest:
        return rest in run.tags
    if folded in {"username", "user"}:
        return user
    field = _RUN_FIELDS.get(folded)
    if field is None or rest:
        raise invalid(f"filters: unknown field {path!r}")
    return field(run)


def _order_value(run: model.Run, path: str, user: str) -> Any:
    match path.replace("_", "").lower():
        case "createdat":
            return run.created
        case "heartbeatat" | "updatedat":
            return run.heartbeat
        case _:
            return run_value(run, path, user)


def _config_value(config: Mapping[str, Any], path: str) -> Any:
    head, rest = path, ""
    while head not in config:
        head, dot, last = head.rpartition(".")
        if not dot:
            return MISSING
        rest = f"{last}.{rest}" if rest else last
    value = model.unwrap(config[head])
    if not rest:
        return value
    found = lookup_path(value, rest)
    return found if found is not MISSING else lookup_path(config[head], rest)


class Run:
    """A run."""

    read_only = False

    def __init__(self, context: Context, run: model.Run) -> None:
        """Stand for a run."""
        self._context = context
        self._run = run
        self.id = run.storage_id
        self.name = run.name
        self.display_name = run.display_name
        self.description = run.description
        self.notes = run.notes
        self.sweep_name = run.sweep
        self.state = run.state
        self.group = run.group
        self.job_type = run.job_type
        self.tags = run.tags
        self.commit = run.commit
        self.host = run.host
        self.stopped = run.stop_requested
        self.created_at = iso(run.created)
        self.heartbeat_at = iso(run.heartbeat)

    @property
    def config(self) -> str:
        """The config, each value wrapped."""
        return json.dumps(self._run.config)

    @property
    def summary_metrics(self) -> str | None:
        """The summary; null where there is none, as of a run that was only opened."""
        return json.dumps(self._run.summary) if self._run.summary else None

    @property
    def system_metrics(self) -> str:
        """The newest system metrics."""
        lines = self._run.stream(EVENTS)
        row = json.loads(lines[-1]) if lines else {}
        return json.dumps({key.removeprefix("system."): row[key] for key in row if key.startswith("system.")})

    @property
    def history_line_count(self) -> int:
        """How many history rows there are: where a resumed session goes on."""
        return len(self._run.stream(HISTORY))

    @property
    def events_line_count(self) -> int:
        """How many rows of system metrics there are."""
        return len(self._run.stream(EVENTS))

    @property
    def log_line_count(self) -> int:
        """How many lines the console log has."""
        return len(self._run.stream(LOG))

    @property
    def history_tail(self) -> str:
        """The last history row, in a JSON list of JSON strings."""
        return json.dumps(self._run.stream(HISTORY)[-1:])

    @property
    def events_tail(self) -> str:
        """The last row of system metrics, in a JSON list of JSON strings."""
        return json.dumps(self._run.stream(EVENTS)[-1:])

    @property
    def history_keys(self) -> dict[str, Any]:
        """What the history holds: types and counts by key, and the last step."""
        keys: dict[str, dict[str, Any]] = {}
        last_step = -1
        for line in self._run.stream(HISTORY):
            row = json.loads(line)
            last_step = max(last_step, int(row.get("_step", -1)))
            for key, value in row.items():
                counts = keys.setdefault(key, {})
                kind = _type_name(value)
                counts[kind] = counts.get(kind, 0) + 1
        return {
            "lastStep": last_step,
            "sets": [],
            "keys": {
                key: {"typeCounts": [{"type": kind, "count": count} for kind, count in counts.items()]}
                for key, counts in keys.items()
            },
        }

    def wandb_config(self, keys: Sequence[str] | None = None) -> str:
        """Return the SDK's own part of the config, or some keys of it."""
        config = model.unwrap(self._run.config.get("_wandb", {}))
        return json.dumps({key: config[key] for key in config if keys is None or key in keys})

    def _model_project(self) -> model.Project:
        project = self._context.store.project(self._run.entity, self._run.project)
        if project is None:
            raise not_found(f"project {self._run.project} not found")
        return project

    @property
    def project_id(self) -> int:
        """The project's number."""
        return self._model_project().number

    @property
    def project(self) -> Project:
        """The project."""
        return Project(self._context, self._model_project())

    @property
    def user(self) -> User:
        """Who made it."""
        return User(self._context)

    def history(
        self, min_step: int | None = None, max_step: int | None = None, samples: int | None = None
    ) -> Sequence[str]:
        """Return history rows as JSON strings.

        Args:
            min_step: The first step.
            max_step: The step to stop before.
            samples: Rows at most; beyond that, evenly chosen ones.
        """
        lines: Sequence[str] = self._run.stream(HISTORY)
        if min_step is not None or max_step is not None:
            low = min_step if min_step is not None else 0
            lines = [
                line
                for line in lines
                if low <= (step := json.loads(line).get("_step", 0)) and (max_step is None or step < max_step)
            ]
        return _sample(lines, samples)

    def events(self, samples: int | None = None) -> Sequence[str]:
        """Return rows of system metrics as JSON strings."""
        return _sample(self._run.stream(EVENTS), samples)

    def sampled_history(self, specs: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return, for each spec, the rows that have all its keys, cut down to these keys; its last step is included."""
        return [self._sampled(model.json_object("specs", spec) or {}) for spec in specs]

    def _sampled(self, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
        keys = list(dict.fromkeys(spec.get("keys", [])))
        low, high = spec.get("minStep"), spec.get("maxStep")
        rows = []
        for line in self._run.stream(HISTORY):
            row = json.loads(line)
            step = row.get("_step", 0)
            values = {key: lookup_path(row, key) for key in keys}
            if MISSING in values.values() or (low is not None and step < low) or (high is not None and step > high):
                continue
            rows.append(values)
        return list(_sample(rows, spec.get("samples")))

    def parquet_history(self, live_keys: Sequence[str]) -> "ParquetHistory":
        """Say that nothing was exported to Parquet yet, so that clients read the live rows."""
        rows = (json.loads(line) for line in self._run.stream(HISTORY))
        return ParquetHistory([], [{key: row[key] for key in live_keys if key in row} for row in rows])

    def log_lines(
        self,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        use_improved_pagination: bool | None = False,  # noqa: ARG002
    ) -> Connection:
        """Return console lines in ascending order: the last ones, or a page."""
        lines = list(enumerate(self._run.stream(LOG)))
        if last is not None:
            return _all(LogLine.parse(*line) for line in lines[-min(last, LOG_PAGE) :])
        return paginate(lines, lambda line: LogLine.parse(*line), min(first or LOG_PAGE, LOG_PAGE), after)

    @property
    def file_count(self) -> int:
        """How many files have arrived."""
        return len(self._run.files)

    def files(
        self,
        names: Sequence[str | None] | None = None,
        after: str | None = None,
        first: int | None = 50,
        pattern: str | None = None,
    ) -> Connection:
        """Return the files that have arrived, all or those with certain names or those that match a LIKE pattern."""
        files = sorted(self._run.files.values(), key=lambda file: file.name)
        if names:
            files = [file for file in files if file.name in names]
        elif pattern:
            like = re.compile("".join({"%": ".*", "_": "."}.get(char, re.escape(char)) for char in pattern), re.DOTALL)
            files = [file for file in files if like.fullmatch(file.name)]
        return paginate(files, lambda file: run_file(self._context, self._run, file), first, after)

    def _artifacts(self, numbers: Sequence[int], after: str | None, first: int | None) -> Connection:
        found = [self._context.store.artifact_by_number(number) for number in numbers]
        committed = [artifact for artifact in found if artifact is not None and artifact.state == model.COMMITTED]
        return paginate(committed, lambda artifact: Artifact(self._context, artifact), first, after)

    def output_artifacts(self, after: str | None = None, first: int | None = 50) -> Connection:
        """Return the committed artifacts that the run logged."""
        return self._artifacts(self._run.outputs, after, first)

    def input_artifacts(self, after: str | None = None, first: int | None = 50) -> Connection:
        """Return the artifacts that the run used."""
        return self._artifacts(self._run.inputs, after, first)


def _type_name(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("_type", "map"))
    if isinstance(value, list):
        return "list"
    if isinstance(value, str):
        return "string"
    return "nil" if value is None else "number"


def _sample(rows: Sequence[Any], count: int | None) -> Sequence[Any]:
    if count is None or len(rows) <= count:
        return rows
    if count <= 1:
        return rows[: max(count, 0)]
    return [rows[round(index * (len(rows) - 1) / (count - 1))] for index in range(count)]


@dataclass(frozen=True, slots=True)
class ParquetHistory:
    """Exported history files, of which there are none, and the rows that are not exported."""

    parquet_urls: Sequence[str]
    live_data: Sequence[Mapping[str, Any]]


_LEGACY_LINE = re.compile(r"(?P<level>ERROR )?(?P<ts>\d{4}-\d\d-\d\dT[\d:.]+) (?P<line>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the console log."""

    number: int
    timestamp: str | None
    level: str | None
    label: str | None
    line: str

    @classmethod
    def parse(cls, number: int, text: str) -> "LogLine":
        """Read a line in either form in which the SDK sends it: a JSON object, or a time before the text."""
        try:
            record = json.loads(text) if text.startswith("{") else None
        except ValueError:
            record = None
        if isinstance(record, dict) and "content" in record:
            return cls(number, record.get("ts"), record.get("level") or "info", record.get("label"), record["content"])
        found = _LEGACY_LINE.fullmatch(text)
        if found:
            return cls(number, found["ts"], "error" if found["level"] else "info", None, found["line"])
        return cls(number, None, None, None, text)


# Files


@dataclass(frozen=True, slots=True)
class UploadUrlPart:
    """Where one part of an upload goes."""

    part_number: int
    upload_url: str


@dataclass(frozen=True, slots=True)
class UploadMultipartUrls:
    """Where the parts of an upload go."""

    upload_id: str
    upload_url_parts: Sequence[UploadUrlPart]


@dataclass(frozen=True, slots=True)
class File:
    """A file of a run, of an artifact, or one that is to be uploaded."""

    id: str
    name: str
    direct_url: str
    size_bytes: int = 0
    download_url: str | None = None
    upload_url: str | None = None
    upload_headers: Sequence[str] = ()
    upload_multipart_urls: UploadMultipartUrls | None = None
    storage_path: str | None = None
    updated_at: str | None = None
    md5: str | None = None
    artifact: "Artifact | None" = None

    @property
    def display_name(self) -> str:
        """The same as the name."""
        return self.name

    @property
    def digest(self) -> str | None:
        """The same as the MD5, in base64."""
        return self.md5

    @property
    def mimetype(self) -> str | None:
        """A guess from the name."""
        return mimetypes.guess_type(self.name)[0]

    def url(self, upload: bool | None = False) -> str | None:
        """Return where the file can be read, or written."""
        return self.upload_url if upload else self.download_url


def run_file(context: Context, run: model.Run, file: model.RunFile) -> File:
    """Return a file of a run."""
    url = context.get_url(file.key, file.name)
    return File(
        encode_id("File", str(file.number)),
        file.name,
        url,
        size_bytes=file.size,
        download_url=url,
        upload_url=context.put_url(context.store.run_file_key(run, file.name)),
        updated_at=iso(file.updated),
        md5=hex_to_base64(file.md5),
    )


def _artifact_file(context: Context, artifact: model.Artifact, entry: model.Entry) -> File:
    id_ = encode_id("ArtifactFile", f"{artifact.number}:{entry.path}")
    if entry.ref is not None:
        return File(id_, entry.path, entry.ref, size_bytes=entry.size, download_url=entry.ref)
    key = context.store.content_key(artifact, entry.md5)
    url = context.get_url(key, entry.path)
    return File(
        id_, entry.path, url,
        size_bytes=entry.size, download_url=url, storage_path=key, updated_at=iso(artifact.updated),
        md5=hex_to_base64(entry.md5),
    )  # fmt: skip


# Artifacts


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of an artifact or a collection."""

    id: str
    name: str

    @classmethod
    def named(cls, name: str) -> "Tag":
        """Return the tag with this name."""
        return cls(encode_id("Tag", name), name)


class ArtifactType:
    """A type of artifacts in a project."""

    description = None

    def __init__(self, context: Context, project: model.Project, name: str) -> None:
        """Stand for a type."""
        self._context = context
        self._project = project
        self.id = encode_id("ArtifactType", f"{project.number}:{name}")
        self.name = name
        self.created_at = iso(project.created)

    def artifact_collection(self, name: str) -> "ArtifactSequence | None":
        """Return a collection of this type by its name."""
        found = self._context.store.collection(self._project.entity, self._project.name, name)
        return ArtifactSequence(self._context, found) if found and found.type == self.name else None

    def artifact_collections(
        self, after: str | None = None, first: int | None = 50, filters: str | None = None, order: str | None = None
    ) -> Connection:
        """Return the collections of this type."""
        found = self._context.store.collections(self._project.entity, self._project.name, self.name)
        return _collections(self._context, found, after, first, filters, order)


def _collection_value(collection: model.Collection, path: str) -> Any:
    match path.replace("_", "").lower():
        case "name":
            return collection.name
        case "description":
            return collection.description
        case "createdat":
            return iso(collection.created)
        case "updatedat":
            return iso(collection.updated)
        case "tag" | "tags":
            return collection.tags
        case _:
            raise invalid(f"filters: unknown field {path!r}")


def _collections(
    context: Context,
    collections: Sequence[model.Collection],
    after: str | None,
    first: int | None,
    filters: str | None,
    order: str | None,
) -> Connection:
    condition = parse_filter(filters)
    found = [each for each in collections if matches(condition, lambda path, each=each: _collection_value(each, path))]  # type: ignore[misc]
    found = ordered(found, order, _collection_value) if order else found[::-1]
    return paginate(found, lambda each: ArtifactSequence(context, each), first, after)


def _artifact_value(store: Store, artifact: model.Artifact, path: str) -> Any:
    section, _, rest = path.partition(".")
    match section.replace("_", "").lower():
        case "state":
            return artifact.state
        case "digest":
            return artifact.digest
        case "versionindex" | "version":
            return artifact.version
        case "createdat":
            return iso(artifact.created)
        case "updatedat":
            return iso(artifact.updated)
        case "size":
            return artifact.size
        case "tag" | "tags":
            return artifact.tags
        case "alias" | "aliases":
            return [*store.aliases(artifact), f"v{artifact.version}"]
        case "metadata" if rest:
            return lookup_path(model.json_object("metadata", artifact.metadata) or {}, rest)
        case _:
            raise invalid(f"filters: unknown field {path!r}")


class ArtifactSequence:
    """A collection of versions under one name."""

    digest_algorithm = "MANIFEST_MD5"

    def __init__(self, context: Context, collection: model.Collection) -> None:
        """Stand for a collection."""
        self._context = context
        self._collection = collection
        self.id = encode_id("ArtifactCollection", str(collection.number))
        self.name = collection.name
        self.description = collection.description
        self.state = collection.state
        self.created_at = iso(collection.created)
        self.updated_at = iso(collection.updated)

    def _model_project(self) -> model.Project:
        return self._context.store.require_project(self._collection.entity, self._collection.project)

    @property
    def project(self) -> Project:
        """The project it belongs to."""
        return Project(self._context, self._model_project())

    @property
    def default_artifact_type(self) -> ArtifactType:
        """The type of all its versions."""
        return ArtifactType(self._context, self._model_project(), self._collection.type)

    @property
    def tags(self) -> Connection:
        """Its tags."""
        return _all(map(Tag.named, self._collection.tags))

    @property
    def latest_artifact(self) -> "Artifact | None":
        """The version that `latest` points to."""
        found = self._context.store.latest(self._collection)
        return Artifact(self._context, found) if found else None

    def _committed(self) -> list[model.Artifact]:
        return [each for each in self._context.store.versions(self._collection) if each.state == model.COMMITTED]

    def aliases(self, after: str | None = None, first: int | None = 1000) -> Connection:
        """Return all aliases of its versions, `vN` among them."""
        names = [*self._collection.aliases, *(f"v{artifact.version}" for artifact in self._committed())]
        return paginate(names, lambda name: ArtifactAlias(self._context, self._collection, name), first, after)

    def artifacts(
        self, after: str | None = None, first: int | None = 50, order: str | None = None, filters: str | None = None
    ) -> Connection:
        """Return its versions, newest first if no order is given."""
        store = self._context.store
        condition = parse_filter(filters) or {"state": model.COMMITTED}
        found = [
            each
            for each in store.versions(self._collection)
            if matches(condition, lambda path, each=each: _artifact_value(store, each, path))  # type: ignore[misc]
        ]
        found = ordered(found, order, lambda each, path: _artifact_value(store, each, path)) if order else found[::-1]
        page = paginate(found, lambda each: Artifact(self._context, each), first, after)
        edges = [Edge(edge.node, edge.cursor, f"v{edge.node.version_index}") for edge in page.edges]
        return Connection(edges, page.page_info, page.total_count)

    def artifact_membership(self, alias_name: str) -> "ArtifactCollectionMembership | None":
        """Return the version that an alias points to."""
        found = self._context.store.resolve_alias(self._collection, alias_name)
        return ArtifactCollectionMembership(self._context, self._collection, found) if found else None


class ArtifactAlias:
    """An alias in a collection."""

    def __init__(self, context: Context, collection: model.Collection, alias: str) -> None:
        """Stand for an alias."""
        self._context = context
        self._collection = collection
        self.id = encode_id("ArtifactAlias", f"{collection.number}:{alias}")
        self.alias = alias

    @property
    def artifact_collection(self) -> ArtifactSequence:
        """The collection it is unique in."""
        return ArtifactSequence(self._context, self._collection)


class ArtifactCollectionMembership:
    """A version as a member of its collection."""

    def __init__(self, context: Context, collection: model.Collection, artifact: model.Artifact) -> None:
        """Stand for a membership."""
        self._context = context
        self._collection = collection
        self._artifact = artifact
        self.id = encode_id("ArtifactCollectionMembership", f"{collection.number}:{artifact.number}")
        self.version_index = artifact.version
        self.created_at = iso(artifact.created)

    @property
    def aliases(self) -> list[ArtifactAlias]:
        """The aliases of the version, `vN` among them."""
        return Artifact(self._context, self._artifact).aliases

    @property
    def artifact_collection(self) -> ArtifactSequence:
        """The collection."""
        return ArtifactSequence(self._context, self._collection)

    @property
    def artifact(self) -> "Artifact":
        """The version."""
        return Artifact(self._context, self._artifact)

    def files(self, names: Sequence[str] | None = None, after: str | None = None, first: int | None = 50) -> Connection:
        """Return the files of the version."""
        return self.artifact.files(names, after, first)


@dataclass(frozen=True, slots=True)
class ArtifactManifest:
    """A manifest and the file that holds it."""

    id: str
    digest: str
    file: File


def _manifest(context: Context, manifest: model.Manifest) -> ArtifactManifest:
    key = Store.manifest_key(manifest)
    url = context.get_url(key, manifest.name)
    id_ = encode_id("ArtifactManifest", str(manifest.number))
    headers = [f"Content-MD5:{manifest.digest}", "Content-Type:application/json"] if manifest.digest else []
    blob = context.store.blob(key)
    file = File(
        id_, manifest.name, url,
        size_bytes=blob.size if blob else 0, download_url=url, md5=manifest.digest or None,
        upload_url=context.put_url(key, manifest.digest), upload_headers=headers,
    )  # fmt: skip
    return ArtifactManifest(id_, manifest.digest, file)


class Artifact:
    """One version of an artifact."""

    digest_algorithm = "MANIFEST_MD5"
    ttl_is_inherited = True
    commit_hash = None

    def __init__(self, context: Context, artifact: model.Artifact) -> None:
        """Stand for a version."""
        self._context = context
        self._artifact = artifact
        self.id = artifact.id
        self.digest = artifact.digest
        self.state = artifact.state
        self.version_index = artifact.version
        self.description = artifact.description
        self.metadata = artifact.metadata
        self.ttl_duration_seconds = artifact.ttl if artifact.ttl is not None else -2
        self.history_step = artifact.history_step
        self.size = artifact.size
        self.file_count = len(artifact.entries)
        self.created_at = iso(artifact.created)
        self.updated_at = iso(artifact.updated)

    @property
    def _collection(self) -> model.Collection:
        return self._context.store.collection_of(self._artifact)

    @property
    def artifact_sequence(self) -> ArtifactSequence:
        """The collection it belongs to."""
        return ArtifactSequence(self._context, self._collection)

    @property
    def artifact_type(self) -> ArtifactType:
        """The type of its collection."""
        return self.artifact_sequence.default_artifact_type

    @property
    def tags(self) -> list[Tag]:
        """Its tags."""
        return list(map(Tag.named, self._artifact.tags))

    @property
    def aliases(self) -> list[ArtifactAlias]:
        """Its aliases, `vN` among them once it is committed."""
        names = self._context.store.aliases(self._artifact)
        if self._artifact.version is not None:
            names = [*names, f"v{self._artifact.version}"]
        return [ArtifactAlias(self._context, self._collection, name) for name in names]

    @property
    def artifact_memberships(self) -> Connection:
        """Its only membership: links do not exist here."""
        return _all([ArtifactCollectionMembership(self._context, self._collection, self._artifact)])

    @property
    def current_manifest(self) -> ArtifactManifest | None:
        """The manifest that was made last."""
        found = self._context.store.manifest(self._artifact.manifest)
        return _manifest(self._context, found) if found else None

    @property
    def created_by(self) -> Run | User:
        """The run that logged it first, the user if that run is gone."""
        run = self._context.store.run_by_number(self._artifact.creator)
        return Run(self._context, run) if run else User(self._context)

    @property
    def used_by(self) -> Connection:
        """The runs that used it."""
        runs = [self._context.store.run_by_number(number) for number in self._artifact.users]
        return _all(Run(self._context, run) for run in runs if run is not None)

    def files(self, names: Sequence[str] | None = None, after: str | None = None, first: int | None = 50) -> Connection:
        """Return its files, all or those with certain names."""
        entries = list(self._artifact.entries.values())
        if names is not None:
            wanted = set(names)
            entries = [entry for entry in entries if entry.path in wanted]
        return paginate(entries, lambda entry: _artifact_file(self._context, self._artifact, entry), first, after)


@dataclass(frozen=True, slots=True)
class ClientIDMapping:
    """The server's id of an artifact that a client named first."""

    server_id: str


# Roots


class Query:
    """What can be read."""

    server_info = SERVER_INFO

    def __init__(self, context: Context, *, signed_in: bool) -> None:
        """Answer one request."""
        self._context = context
        self.viewer = User(context) if signed_in else None

    def entity(self, name: str | None = None) -> Entity | None:
        """Return an entity."""
        wanted = name or self._context.store.user
        return Entity(self._context, wanted) if wanted in self._context.store.entities else None

    def project(self, name: str | None = None, entity_name: str | None = None) -> Project | None:
        """Return a project."""
        found = self._context.store.project(entity_name, name)
        return Project(self._context, found) if found else None

    def model(self, name: str | None = None, entity_name: str | None = None) -> Project | None:
        """Return a project; the older name of the same thing."""
        return self.project(name, entity_name)

    def models(
        self, entity_name: str | None = None, after: str | None = None, first: int | None = 50
    ) -> Connection | None:
        """Return the projects of an entity, newest first."""
        entity = self._context.store.require_entity(entity_name)
        projects = self._context.store.projects(entity)[::-1]
        return paginate(projects, lambda project: Project(self._context, project), first, after)

    def artifact(self, id_: str) -> Artifact | None:
        """Return a version by its id; one that was deleted is not found."""
        artifact = self._context.store.require_artifact(id_)
        return Artifact(self._context, artifact) if artifact.state != model.DELETED else None

    def artifact_collection(self, id_: str) -> ArtifactSequence:
        """Return a collection by its id."""
        return ArtifactSequence(self._context, self._context.store.require_collection(id_))

    def client_id_mapping(self, client_id: str) -> ClientIDMapping | None:
        """Return the artifact with a client's id."""
        artifact = self._context.store.artifact_by_client(client_id)
        return ClientIDMapping(artifact.id) if artifact else None


Input = Mapping[str, Any]
Payload = dict[str, Any]


class Mutation:
    """What can be changed. Each method takes the operation's input and returns its payload."""

    def __init__(self, context: Context) -> None:
        """Answer one request."""
        self._context = context
        self._store = context.store

    def upsert_bucket(self, input_: Input) -> Payload:
        """Make or change a run."""
        run, inserted = self._store.upsert_run(input_)
        return {"bucket": Run(self._context, run), "inserted": inserted}

    def delete_run(self, input_: Input) -> Payload:
        """Delete a run for ever."""
        run = self._store.require_run_by_id(input_["id"])
        self._store.delete_run(run, delete_artifacts=bool(input_.get("delete_artifacts")))
        return {"client_mutation_id": input_.get("client_mutation_id")}

    def update_run_state(self, input_: Input) -> Payload:
        """Move a run to another state."""
        self._store.set_run_state(input_["id"], input_["state"])
        return {"success": True}

    def stop_run(self, input_: Input) -> Payload:
        """Ask a run to stop."""
        self._store.stop_run(input_["id"])
        return {"success": True}

    def _run_of(self, input_: Input) -> model.Run:
        return self._store.require_run(input_["entity_name"], input_["project_name"], input_["run_name"])

    def create_run_files(self, input_: Input) -> Payload:
        """Give upload URLs for files of a run."""
        run = self._run_of(input_)
        files = []
        for name in input_["files"]:
            key = self._store.run_file_key(run, name)
            files.append(File(encode_id("RunFile", key), name, "", upload_url=self._context.put_url(key)))
        return {"run_id": run.storage_id, "upload_headers": [], "files": files}

    def mark_run_files_uploaded(self, input_: Input) -> Payload:
        """Hear that files of a run were uploaded, which their arrival has already told."""
        run = self._run_of(input_)
        return {"success": all(name in run.files for name in input_["files"])}

    def delete_files(self, input_: Input) -> Payload:
        """Delete files of runs."""
        self._store.delete_run_files(input_["files"])
        return {"success": True}

    def upsert_model(self, input_: Input) -> Payload:
        """Make or change a project."""
        project, inserted = self._store.upsert_project(input_)
        view = Project(self._context, project)
        return {"project": view, "model": view, "inserted": inserted}

    def create_artifact(self, input_: Input) -> Payload:
        """Log an artifact, or find the version with the same content."""
        return {"artifact": Artifact(self._context, self._store.create_artifact(input_))}

    def create_artifact_manifest(self, input_: Input) -> Payload:
        """Begin a manifest."""
        artifact = self._store.require_artifact(input_["artifact_id"])
        manifest = self._store.create_manifest(artifact, input_["name"], input_["digest"])
        return {"artifact_manifest": _manifest(self._context, manifest)}

    def update_artifact_manifest(self, input_: Input) -> Payload:
        """Change a manifest's digest before its bytes are sent."""
        manifest = self._store.update_manifest(input_["artifact_manifest_id"], input_.get("digest"))
        return {"artifact_manifest": _manifest(self._context, manifest)}

    def create_artifact_files(self, input_: Input) -> Payload:
        """Give upload URLs for files of an artifact; none for bytes that the collection already has."""
        return {"files": _all(self._new_artifact_file(spec) for spec in input_["artifact_files"])}

    def _new_artifact_file(self, spec: Input) -> File:
        artifact = self._store.require_artifact(spec["artifact_id"])
        try:
            md5 = base64_to_hex(spec["md5"])
        except ValueError as error:
            raise invalid(f"malformed MD5 of {spec['name']!r}") from error
        key = self._store.content_key(artifact, md5)
        upload_url, multipart = None, None
        headers = [f"Content-MD5:{spec['md5']}", f"Content-Type:{mimetypes.guess_type(spec['name'])[0] or ''}"]
        if self._store.blob(key) is None:
            upload_url = self._context.put_url(key, spec["md5"])
            parts = {int(part["part_number"]): part["hex_md5"] for part in spec.get("upload_parts_input") or ()}
            if parts:
                upload = self._store.begin_multipart(key, md5, parts)
                urls = [
                    UploadUrlPart(number, self._context.put_url(Store.part_key(upload, number), hex_to_base64(digest)))
                    for number, digest in parts.items()
                ]
                multipart = UploadMultipartUrls(upload.id, urls)
        return File(
            encode_id("ArtifactFile", f"{artifact.number}:{spec['name']}"), spec["name"], "",
            upload_url=upload_url, upload_headers=headers, upload_multipart_urls=multipart, storage_path=key,
            md5=spec["md5"], artifact=Artifact(self._context, artifact),
        )  # fmt: skip

    def complete_multipart_upload_artifact(self, input_: Input) -> Payload:
        """Join the parts of an upload."""
        parts = {int(part["part_number"]): part["hex_md5"] for part in input_["completed_parts"]}
        return {"digest": self._store.complete_multipart(input_["upload_id"], parts)}

    def commit_artifact(self, input_: Input) -> Payload:
        """Commit a version."""
        artifact = self._store.require_artifact(input_["artifact_id"])
        self._store.commit_artifact(artifact)
        return {"artifact": Artifact(self._context, artifact)}

    def update_artifact(self, input_: Input) -> Payload:
        """Change what may change in a version: its files may not."""
        artifact = self._store.require_artifact(input_["artifact_id"])
        self._store.update_artifact(artifact, input_)
        return {"artifact": Artifact(self._context, artifact)}

    def delete_artifact(self, input_: Input) -> Payload:
        """Delete a version."""
        artifact = self._store.require_artifact(input_["artifact_id"])
        self._store.delete_artifact(artifact, delete_aliases=bool(input_.get("delete_aliases")))
        return {"artifact": Artifact(self._context, artifact)}

    def use_artifact(self, input_: Input) -> Payload:
        """Record that a run used a version."""
        artifact = self._store.require_artifact(input_["artifact_id"])
        self._store.use_artifact(self._run_of(input_), artifact)
        return {"artifact": Artifact(self._context, artifact)}

    def _alias_change(self, input_: Input) -> tuple[model.Artifact, list[str]]:
        artifact = self._store.require_artifact(input_["artifact_id"])
        collection = self._store.collection_of(artifact)
        for each in input_["aliases"]:
            if each["artifact_collection_name"] != collection.name:
                raise not_found(f"artifact collection {each['artifact_collection_name']} does not hold the artifact")
        return artifact, [each["alias"] for each in input_["aliases"]]

    def add_aliases(self, input_: Input) -> Payload:
        """Let aliases point to a version."""
        self._store.add_aliases(*self._alias_change(input_))
        return {"success": True}

    def delete_aliases(self, input_: Input) -> Payload:
        """Take aliases away from a version."""
        artifact, aliases = self._alias_change(input_)
        if any(is_version(alias) for alias in aliases):
            raise invalid("cannot delete a version alias")
        self._store.delete_aliases(artifact, aliases)
        return {"success": True}

    def update_artifact_sequence(self, input_: Input) -> Payload:
        """Rename or describe a collection."""
        collection = self._store.require_collection(input_["artifact_sequence_id"])
        self._store.update_collection(collection, input_)
        return {"artifact_collection": ArtifactSequence(self._context, collection)}

    def delete_artifact_sequence(self, input_: Input) -> Payload:
        """Delete a collection with its versions."""
        collection = self._store.require_collection(input_["artifact_sequence_id"])
        self._store.delete_collection(collection)
        return {"artifact_collection": ArtifactSequence(self._context, collection)}

    def _collection_tags(self, input_: Input) -> tuple[model.Collection, list[str]]:
        name = input_["artifact_collection_name"]
        collection = self._store.collection(input_["entity_name"], input_["project_name"], name)
        if collection is None:
            raise not_found(f"artifact collection {name} not found")
        return collection, [tag["tag_name"] for tag in input_["tags"]]

    def create_artifact_collection_tag_assignments(self, input_: Input) -> Payload:
        """Tag a collection."""
        collection, tags = self._collection_tags(input_)
        self._store.tag_collection(collection, add=tags)
        return {"tags": list(map(Tag.named, tags))}

    def delete_artifact_collection_tag_assignments(self, input_: Input) -> Payload:
        """Take tags away from a collection."""
        collection, tags = self._collection_tags(input_)
        self._store.tag_collection(collection, remove=tags)
        return {"success": True}


def type_name(value: Any) -> str:
    """Return the GraphQL type of a value behind an interface or a union."""
    return type(value).__name__


def _views() -> dict[str, type]:
    classes = [
        Query, Mutation, PageInfo, ServerInfo, LatestLocalVersionInfo, ServerFeature, User, ApiKey, Entity,
        Organization, Project, Run, ParquetHistory, LogLine, File, UploadMultipartUrls, UploadUrlPart, Tag,
        ArtifactType, ArtifactSequence, ArtifactAlias, ArtifactCollectionMembership, Artifact, ArtifactManifest,
        ClientIDMapping,
    ]  # fmt: skip
    lists = [
        "ApiKey", "Entity", "Project", "Run", "LogLine", "File", "Tag", "ArtifactType", "ArtifactCollection",
        "ArtifactAlias", "ArtifactCollectionMembership", "Artifact", "VersionedArtifact",
    ]  # fmt: skip
    return {
        **{each.__name__: each for each in classes},
        **{f"{name}Connection": Connection for name in lists},
        **{f"{name}Edge": Edge for name in lists},
    }


VIEWS: Mapping[str, type] = _views()
"""The class of each GraphQL object type."""
