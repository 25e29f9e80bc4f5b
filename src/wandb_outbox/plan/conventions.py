"""Which convention, and which layer, has the word. Pure: no file is read and nothing is remembered.

The layers, strongest first: the command line, the folder's offline run (project and name), its ``outbox.yaml``, its own
``wandb_project`` and ``wandb_group``, the root's configuration, the convention. Tags of ``outbox.yaml`` and of the root are
added to the convention's; tags of the command line replace all. The entity never comes from a run folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wandb_outbox.errors import ConfigurationError
from wandb_outbox.formats import DECLARATION
from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import PlanWarning
from wandb_outbox.plan import limits, llm_tts_eval, params_meta
from wandb_outbox.plan.defined import read_definition
from wandb_outbox.plan.facts import (
    NO_PROJECT,
    PLAIN,
    Facts,
    Proposal,
    Propose,
    artifact_name,
    folder_name,
    job_type_of_format,
    parts_from_date,
    project_of_place,
)
from wandb_outbox.plan.jsonsafe import safe_text
from wandb_outbox.plan.lookup import without_references

AUTO = "auto"
CONVENTIONS = frozenset({AUTO, llm_tts_eval.NAME, params_meta.NAME, PLAIN})
"""The conventions that come built in; a root may also name one that the configuration defines."""
_COMMAND_LINE = "command line"
_OFFLINE_RUN = "the offline run's log"
_ROOT = "root configuration"

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SEED = re.compile(r"seed[-_=]?\d+(?:[-_].*)?", re.IGNORECASE)
_TIME = re.compile(r"\d\d-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Names:
    """What a run and its artifact are called, and for each the words that say where it came from."""

    convention: str
    entity: str | None
    project: str
    name: str
    group: str | None
    job_type: str | None
    tags: tuple[str, ...]
    notes: str | None
    artifact: str
    artifact_type: str
    sources: dict[str, str]
    warnings: tuple[PlanWarning, ...]
    proposal: Proposal
    """What the convention alone would have said."""


def decide(facts: Facts) -> Names:
    """Apply the layers. Raises ``ConfigurationError`` for a convention that does not exist, or is faulty."""
    warnings: list[PlanWarning] = []
    warn = warnings.append
    convention, propose = _convention(facts)
    proposal = propose(facts, warn)
    overrides, rules, declared, logged = facts.overrides, facts.rules, facts.declared, facts.offline_run
    sources: dict[str, str] = {}

    def first(field_name: str, *layers: tuple[str | None, str] | None) -> str | None:
        for layer in layers:
            if layer is not None and layer[0] is not None and layer[0].strip():
                sources[field_name] = layer[1]
                return safe_text(layer[0])
        return None

    recorded_in = facts.config_file or "the folder"
    entity = first(
        "entity", (overrides.entity, _COMMAND_LINE), (rules.entity, _ROOT), (facts.default_entity, "default entity")
    )
    project = first(
        "project",
        (overrides.project, _COMMAND_LINE),
        (logged.project if logged and logged.project != NO_PROJECT else None, _OFFLINE_RUN),
        (declared.project, DECLARATION),
        (_recorded(facts, "wandb_project", facts.recorded_project, warn), f"wandb_project in {recorded_in}"),
        (rules.project, _ROOT),
        proposal.project,
    )
    name = first(
        "name",
        (overrides.name, _COMMAND_LINE),
        (logged.name if logged else None, _OFFLINE_RUN),
        (declared.name, DECLARATION),
        proposal.name,
    )
    group = first(
        "group",
        (overrides.group, _COMMAND_LINE),
        (declared.group, DECLARATION),
        (logged.group if logged else None, _OFFLINE_RUN),
        (_recorded(facts, "wandb_group", facts.recorded_group, warn), f"wandb_group in {recorded_in}"),
        (rules.group, _ROOT),
        proposal.group,
        _sweep(facts),
        # In the guide's convention a run has the group that its experiment names, or none.
        _seeds(facts) if convention != llm_tts_eval.NAME else None,
    )
    job_type = first(
        "job_type",
        (overrides.job_type, _COMMAND_LINE),
        (declared.job_type, DECLARATION),
        (logged.job_type if logged else None, _OFFLINE_RUN),
        (rules.job_type, _ROOT),
        proposal.job_type,
    )
    notes = first(
        "notes",
        (overrides.notes, _COMMAND_LINE),
        (declared.notes, DECLARATION),
        (logged.notes if logged else None, _OFFLINE_RUN),
    )
    tags = _tags(facts, proposal, sources)
    artifact, sources["artifact"] = proposal.artifact or artifact_name(facts)
    return Names(
        convention=convention,
        entity=entity,
        project=limits.fit_project(project or PLAIN, warn),
        name=limits.fit_name(name or PLAIN, limits.RUN_NAME, "name", warn),
        group=limits.fit_name(group, limits.GROUP, "group", warn) if group else None,
        job_type=limits.fit_name(job_type, limits.JOB_TYPE, "job type", warn) if job_type else None,
        tags=limits.fit_tags(tags, warn),
        notes=notes,
        artifact=limits.fit_artifact(artifact, warn),
        artifact_type=proposal.artifact_type,
        sources=sources,
        warnings=tuple(warnings),
        proposal=proposal,
    )


def _convention(facts: Facts) -> tuple[str, Propose]:
    built_in: dict[str, Propose] = {
        llm_tts_eval.NAME: llm_tts_eval.propose, params_meta.NAME: params_meta.propose, PLAIN: _plain
    }  # fmt: skip
    wanted = facts.rules.convention
    if wanted == AUTO:
        wanted = llm_tts_eval.NAME if facts.format == "llm-tts" else PLAIN
    if wanted in built_in:
        return wanted, built_in[wanted]
    if facts.rules.definition is not None:
        return wanted, read_definition(wanted, facts.rules.definition).propose
    raise ConfigurationError(
        [f"there is no convention {wanted!r}"],
        hint=f"known conventions: {', '.join((AUTO, *built_in))}, and those that the configuration defines",
    )


def _plain(facts: Facts, warn: Warn) -> Proposal:
    del warn  # every run folder has a name
    job_type = job_type_of_format(facts)
    source = f"convention {PLAIN}: the folder's path"
    return Proposal(
        project=(project_of_place(facts), source),
        name=(folder_name(facts), source),
        job_type=(job_type, f"convention {PLAIN}: the format {facts.format}") if job_type else None,
        tags=((), source),
        artifact_type="run_outputs",
    )


def _tags(facts: Facts, proposal: Proposal, sources: dict[str, str]) -> tuple[str, ...]:
    if facts.overrides.tags is not None:
        sources["tags"] = _COMMAND_LINE
        return facts.overrides.tags
    logged = facts.offline_run.tags if facts.offline_run else ()
    layers = (
        (facts.rules.tags, _ROOT), (facts.declared.tags, DECLARATION), (logged, _OFFLINE_RUN), proposal.tags
    )  # fmt: skip
    words = [source for tags, source in layers if tags]
    if words:
        sources["tags"] = ", ".join(words)
    said = (*proposal.tags[0], *map(safe_text, (*logged, *facts.declared.tags)), *facts.rules.tags)
    return tuple(dict.fromkeys(said))


def _sweep(facts: Facts) -> tuple[str, str] | None:
    """Hydra's ``multirun/DATE/TIME/N``, or any job that says it is one of a sweep: its siblings are its group."""
    above = facts.below_root[:-1]
    job = facts.below_root[-1] if facts.below_root else ""
    if len(above) >= 2 and job.isdigit() and _DATE.fullmatch(above[-2]) and _TIME.fullmatch(above[-1]):
        return f"multirun-{above[-2]}-{above[-1]}", "the sweep"
    if facts.sweep and (above or facts.parent):
        name = "-".join(above) or str(facts.parent)
        return f"multirun-{name.removeprefix('multirun-')}", "the sweep"
    return None


def _seeds(facts: Facts) -> tuple[str, str] | None:
    """One of several runs of the same configuration, ``.../seed42_19-04-48``: the path above the seed is their group.

    The date is no part of it: seeds of one configuration need not all run on one day.
    """
    above = parts_from_date(facts)[:-1]
    if facts.below_root and above and _SEED.fullmatch(facts.below_root[-1]):
        return "-".join(above), "the folder's path above its seed"
    return None


def _recorded(facts: Facts, key: str, value: str | None, warn: Warn) -> str | None:
    if value is None:
        return None
    plain = without_references(facts.config, value)
    if plain is None:
        warn(warning("unresolved-name", f"{key} holds an interpolation that is not resolved; it is not used"))
    return plain
