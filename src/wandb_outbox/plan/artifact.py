"""The artifact of the whole folder, and what it says of itself without being downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from wandb_outbox import __version__
from wandb_outbox.formats.content import Content, Warn
from wandb_outbox.model import FileStat, JsonValue, PlannedArtifact, PlannedTable, PlanRequest
from wandb_outbox.plan.conventions import Names
from wandb_outbox.plan.jsonsafe import json_safe
from wandb_outbox.plan.secrets import masked_override
from wandb_outbox.plan.summary import within_limit

MAX_PART = 1_000_000
"""Bytes of JSON for the configuration, and as many for the summary."""
PROVENANCE = "provenance"
RUN_ID = "run_id"
_COMMIT_KEYS = ("git_commit", "git_hash", "git_sha", "commit", "commit_hash")
_COMMIT_PARENTS = (None, "git", "meta", "provenance")


def whole_folder(
    names: Names,
    files: tuple[FileStat, ...],
    metadata: Mapping[str, JsonValue],
    relative: str,
) -> PlannedArtifact:
    """The artifact that holds every file that may leave this machine."""
    return PlannedArtifact(
        name=names.artifact,
        type=names.artifact_type,
        description=f"The whole output folder {relative} of the run {names.name} ({len(files)} files)",
        metadata=dict(metadata),
        aliases=(),
        files=files,
    )


def describe(
    request: PlanRequest,
    content: Content,
    config: Mapping[str, JsonValue],
    summary: Mapping[str, JsonValue],
    files: tuple[FileStat, ...],
    tables: Iterable[PlannedTable],
    relative: str,
    warn: Warn,
) -> dict[str, JsonValue]:
    """The metadata: a few keys at the top (W&B allows 100 at the top), each a mapping where there is more to say.

    The counts are of files, of bytes, and of the rows of each table: of all samples, not only of those that it shows.
    """
    provenance: dict[str, JsonValue] = {
        "path": relative,
        "format": request.format,
        "outcome": request.outcome,
        "reason": request.reason,
        RUN_ID: request.run_id,
        "started_at": _iso(content.started_at),
        "ended_at": _iso(content.ended_at),
        "wandb_outbox_version": __version__,
        "overrides": [masked_override(override) for override in content.overrides],
        "git_commit": git_commit(config),
    }
    counts: dict[str, JsonValue] = {"files": len(files), "bytes": sum(file.size for file in files)}
    counts |= {table.name: table.total_rows for table in tables if table.name not in counts}
    return {
        "config": within_limit(dict(config), warn, MAX_PART, "metadata-config"),
        "summary": within_limit(dict(summary), warn, MAX_PART, "metadata-summary"),
        "counts": counts,
        PROVENANCE: json_safe({key: value for key, value in provenance.items() if value not in (None, [], "")}),
    }


def about_run(request: PlanRequest, metadata: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What an artifact of some files of the folder says of its run, from the ``metadata`` of the whole folder."""
    return {RUN_ID: request.run_id, **{key: metadata[key] for key in ("config", "summary", PROVENANCE)}}


def of_run(artifact: PlannedArtifact, was: str, run_id: str) -> PlannedArtifact:
    """The artifact with metadata that lead to another run than the one that it ``was`` planned for."""
    metadata = dict(artifact.metadata)
    provenance = metadata.get(PROVENANCE)
    if isinstance(provenance, Mapping):
        metadata[PROVENANCE] = {**provenance, RUN_ID: run_id}
    if metadata.get(RUN_ID) == was:
        metadata[RUN_ID] = run_id
    return replace(artifact, metadata=metadata)


def git_commit(config: Mapping[str, JsonValue]) -> str | None:
    """The commit that the experiment recorded in its configuration, under one of the usual names."""
    for parent in _COMMIT_PARENTS:
        holder = config if parent is None else config.get(parent)
        for key in _COMMIT_KEYS if isinstance(holder, Mapping) else ():
            value = holder.get(key) if isinstance(holder, Mapping) else None
            if isinstance(value, str) and value.strip():
                return value.strip()
    return None


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
