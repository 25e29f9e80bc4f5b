"""The artifacts that ``outbox.yaml`` declares besides that of the whole folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wandb_outbox.formats import DECLARATION, DeclaredArtifact
from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import FileStat, JsonValue, PlannedArtifact
from wandb_outbox.plan.globs import file_pattern
from wandb_outbox.plan.jsonsafe import json_safe, safe_text

MAX_KEYS = 100
"""Keys at the top of an artifact's metadata: W&B allows no more."""
LATEST = "latest"


def declared_artifacts(
    declared: Iterable[DeclaredArtifact],
    files: tuple[FileStat, ...],
    metadata: Mapping[str, JsonValue],
    taken: str,
    warn: Warn,
) -> tuple[PlannedArtifact, ...]:
    """The declared artifacts, each with its files and the metadata of the run below its own.

    ``files`` are those that may leave this machine, ``taken`` is the name of the folder's own artifact. One without
    files, or of a name that is taken, is left out with a warning.
    """
    planned: dict[str, PlannedArtifact] = {}
    for place, each in enumerate(declared):
        where = f"{DECLARATION}: artifacts[{place}]"
        if each.name == taken or each.name in planned:
            warn(
                warning("artifact-name-taken", f"{where}: {each.name} is the name of another artifact; it is left out")
            )
            continue
        patterns = [file_pattern(pattern) for pattern in each.files]
        chosen = tuple(file for file in files if any(pattern.fullmatch(file.path) for pattern in patterns))
        if not chosen:
            words = f"{where}: no file of the folder is as {', '.join(each.files)}; {each.name} is left out"
            warn(warning("artifact-without-files", words))
            continue
        planned[each.name] = PlannedArtifact(
            name=each.name,
            type=each.type,
            description=safe_text(each.description),
            metadata=_within(MAX_KEYS, json_safe({**metadata, **each.metadata}), where, warn),
            aliases=tuple(dict.fromkeys((LATEST, *each.aliases))) if each.aliases else (),
            files=chosen,
        )
    return tuple(planned.values())


def _within(limit: int, metadata: dict[str, JsonValue], where: str, warn: Warn) -> dict[str, JsonValue]:
    if len(metadata) <= limit:
        return metadata
    gone = list(metadata)[limit:]
    message = f"{where}: W&B allows {limit} keys in metadata; left out: {', '.join(gone[:5])} ({len(gone)} keys)"
    warn(warning("metadata-keys", message))
    return {key: metadata[key] for key in list(metadata)[:limit]}
