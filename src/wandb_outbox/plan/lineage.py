"""What ``outbox.yaml`` declares of the lineage: inputs, and artifacts besides that of the whole folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wandb_outbox.formats import DECLARATION, DeclaredArtifact
from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import FileStat, JsonValue, PlannedArtifact, PlanWarning, Severity
from wandb_outbox.plan.globs import file_pattern
from wandb_outbox.plan.jsonsafe import json_safe, safe_text
from wandb_outbox.plan.limits import fit_artifact, fit_metadata

LATEST = "latest"
MISSING_INPUT = "missing-input"


def missing_input(name: str) -> str:
    """What is said of an input that the server did not give, after the delivery and in later plans."""
    return (
        f"{MISSING_INPUT}: {name} is not there, or may not be read with this key; the run does not show it as an input; "
        "`upload` the folder again once it is there"
    )


def about_inputs(inputs: Iterable[str], known: Iterable[str] | None) -> tuple[PlanWarning, ...]:
    """What can be said of a run's inputs without asking a server.

    ``known`` are the warnings of the delivery of this very content; ``None``: it was not delivered yet.
    """
    names = tuple(inputs)
    if known is None:
        words = f"a plan asks no server: whether {', '.join(names)} can be had is known once the run is delivered"
        return (PlanWarning("input-unchecked", Severity.NOTE, words),) if names else ()
    said = frozenset(known)
    return tuple(
        warning(MISSING_INPUT, missing_input(name).removeprefix(f"{MISSING_INPUT}: "))
        for name in names
        if missing_input(name) in said
    )


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
    for each in declared:
        where = f"{DECLARATION}: the artifact {each.name}"
        name = fit_artifact(each.name, warn)
        if name == taken or name in planned:
            warn(warning("artifact-name-taken", f"{where} is left out: another has the name {name}"))
            continue
        patterns = [file_pattern(pattern) for pattern in each.files]
        chosen = tuple(file for file in files if any(pattern.fullmatch(file.path) for pattern in patterns))
        if not chosen:
            asked = ", ".join(each.files) or "(nothing)"
            words = f"{where} is left out: no file of the folder is as {asked}"
            warn(warning("artifact-without-files", words))
            continue
        planned[name] = PlannedArtifact(
            name=name,
            type=each.type,
            description=safe_text(each.description),
            metadata=fit_metadata(json_safe({**metadata, **each.metadata}), where, warn),
            aliases=tuple(dict.fromkeys((LATEST, *each.aliases))) if each.aliases else (),
            files=chosen,
        )
    return tuple(planned.values())
