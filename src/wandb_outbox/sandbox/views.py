"""What the sandbox holds as plain data, for tests, demos and the `/sandbox/state` answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wandb_outbox.sandbox import store as model
from wandb_outbox.sandbox.store import HISTORY, LOG, Store


@dataclass(frozen=True, slots=True)
class FileView:
    """Uploaded bytes.

    Attributes:
        size: In bytes.
        md5: In hexadecimal; for a reference, the digest as the manifest has it.
        path: Where the bytes are on the sandbox's disk; None for a reference.
    """

    size: int
    md5: str
    path: Path | None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run. Times are seconds since the epoch; artifacts are named `name:vN`."""

    entity: str
    project: str
    id: str
    display_name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    log: Sequence[str]
    tags: Sequence[str]
    group: str | None
    job_type: str | None
    notes: str | None
    state: str
    exit_code: int | None
    created_at: float
    heartbeat_at: float
    files: Mapping[str, FileView]
    logged_artifacts: Sequence[str]
    used_artifacts: Sequence[str]


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """A version of an artifact; it has a version (`v0`) and aliases once it is committed."""

    entity: str
    project: str
    name: str
    type: str
    version: str | None
    aliases: Sequence[str]
    digest: str
    state: str
    description: str | None
    metadata: Mapping[str, Any]
    tags: Sequence[str]
    size: int
    files: Mapping[str, FileView]
    logged_by: str | None
    used_by: Sequence[str]


def run_view(store: Store, run: model.Run) -> RunView:
    """Return a run as plain data."""
    return RunView(
        entity=run.entity,
        project=run.project,
        id=run.name,
        display_name=run.display_name,
        config=run.plain_config(),
        summary=dict(run.summary),
        history=[json.loads(line) for line in run.stream(HISTORY)],
        log=list(run.stream(LOG)),
        tags=list(run.tags),
        group=run.group or None,
        job_type=run.job_type or None,
        notes=run.notes or None,
        state=run.state,
        exit_code=run.exit_code,
        created_at=run.created,
        heartbeat_at=run.heartbeat,
        files={
            name: FileView(file.size, file.md5, store.blobs.path(file.key)) for name, file in sorted(run.files.items())
        },
        logged_artifacts=_names(store, run.outputs),
        used_artifacts=_names(store, run.inputs),
    )


def _names(store: Store, numbers: Sequence[int]) -> list[str]:
    found = [store.artifact_by_number(number) for number in numbers]
    return [
        f"{store.collection_of(artifact).name}:v{artifact.version}"
        for artifact in found
        if artifact is not None and artifact.version is not None
    ]


def artifact_view(store: Store, artifact: model.Artifact) -> ArtifactView:
    """Return a version of an artifact as plain data."""
    collection = store.collection_of(artifact)
    creator = store.run_by_number(artifact.creator)
    users = [store.run_by_number(number) for number in artifact.users]
    return ArtifactView(
        entity=collection.entity,
        project=collection.project,
        name=collection.name,
        type=collection.type,
        version=None if artifact.version is None else f"v{artifact.version}",
        aliases=store.aliases(artifact),
        digest=artifact.digest,
        state=artifact.state,
        description=artifact.description,
        metadata=json.loads(artifact.metadata or "{}") or {},
        tags=list(artifact.tags),
        size=artifact.size,
        files={path: _entry_view(store, artifact, entry) for path, entry in sorted(artifact.entries.items())},
        logged_by=creator.name if creator else None,
        used_by=[run.name for run in users if run is not None],
    )


def _entry_view(store: Store, artifact: model.Artifact, entry: model.Entry) -> FileView:
    path = None if entry.ref is not None else store.blobs.path(store.content_key(artifact, entry.md5))
    return FileView(entry.size, entry.md5, path)


def artifact_views(store: Store, entity: str | None, project: str | None) -> list[ArtifactView]:
    """Return the artifacts of a project, of an entity, or all, oldest first."""
    return [
        artifact_view(store, artifact)
        for artifact in store.artifacts()
        if (collection := store.collection_of(artifact))
        and entity in (None, collection.entity)
        and project in (None, collection.project)
    ]


def to_json(view: RunView | ArtifactView) -> dict[str, Any]:
    """Return a view as a JSON object."""
    record = asdict(view)
    for file in record["files"].values():
        file["path"] = None if file["path"] is None else str(file["path"])
    return record


def _files_from_json(record: Mapping[str, Any]) -> dict[str, FileView]:
    return {
        name: FileView(file["size"], file["md5"], None if file["path"] is None else Path(file["path"]))
        for name, file in record.items()
    }


def run_from_json(record: Mapping[str, Any]) -> RunView:
    """Return the run in a JSON object that `to_json` made."""
    return RunView(**{**record, "files": _files_from_json(record["files"])})


def artifact_from_json(record: Mapping[str, Any]) -> ArtifactView:
    """Return the artifact in a JSON object that `to_json` made."""
    return ArtifactView(**{**record, "files": _files_from_json(record["files"])})
