"""A run that the experiment made itself: may the folder be attached to it now, and what of the plan is sent there. Pure.

Attaching never opens the run: a run that is resumed counts as running again until somebody ends it, so that a kill in
between would turn a finished run into a crashed one. What is sent goes through the public API beside it instead, and only
what the run does not have of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from wandb_outbox.deliver.readback import DELIVERED, KEYS, MISSING_INPUTS, own_keys, same, texts
from wandb_outbox.errors import Held
from wandb_outbox.model import ExistingRun, JsonValue, Plan, PlanWarning, Severity

ENDED = frozenset({"finished", "failed", "crashed", "killed"})
"""The states of a run that nobody logs to any more."""
ASK_AGAIN = 300.0
"""Seconds until a run that has not ended is asked for again. The server itself gives up a silent one after some minutes."""
FILES = "files"
"""In ``outbox/delivered`` of an attached run: the run files there that are ours."""
SCRIPT_KEYS = ("retroactive_logging", "original_output_dir")
"""What the guide's upload script writes into the config of the runs that it makes."""


@dataclass(frozen=True, slots=True)
class There:
    """A run as the server has it."""

    run_id: str
    state: str
    config: Mapping[str, JsonValue]
    summary: Mapping[str, JsonValue]
    files: Mapping[str, int]

    @property
    def ours(self) -> Mapping[str, JsonValue]:
        """What an earlier delivery noted of itself; empty when there was none."""
        noted = self.summary.get(DELIVERED)
        return noted if isinstance(noted, Mapping) else {}


def refusal(run: ExistingRun, entity: str, project: str, there: There | None, *, path: str, mine: bool) -> Held | None:
    """Why the folder is not attached to its run now, or ``None``.

    ``mine``: what the run's config says of the folder that was attached to it before, if any, is true of this one.
    """
    name = f"{path}: the run {run.run_id} that it logged itself"
    own = "or release it, and it is sent as a run of its own"
    if run.problem is not None:
        return Held(f"{name} is not known well enough ({run.problem})", hint=f"take that log away, {own}")
    if run.entity is not None and run.entity != entity:
        return Held(
            f"{name} is in the entity {run.entity}, and this root delivers to {entity}",
            hint=f"set `entity = {run.entity!r}` for the root, {own}",
        )
    if there is None:
        return Held(
            f"{name} is not in {entity}/{project}: it was deleted, or went to another entity or server",
            hint=f"set `entity` for the root if it is elsewhere, {own}",
        )
    if not mine:
        return Held(f"{name} has another folder attached to it", hint=f"look whether this is a copy; skip it, {own}")
    if there.state not in ENDED:
        return Held(
            f"{name} is {there.state} on the server, although nobody writes to the folder",
            hint="it is looked at again every few minutes until it has ended; release it to attach the folder at once",
            look_again_in=ASK_AGAIN,
        )
    return None


def own_part(plan: Plan, there: There) -> Plan:
    """The plan without what the run has of its own: such summary keys, tables, media and files stay as they are there."""
    ours = {DELIVERED, MISSING_INPUTS, *texts(there.ours.get(KEYS))}
    taken = {key for key in there.summary if key not in ours and not key.startswith("_")}
    foreign = there.files.keys() - texts(there.ours.get(FILES))
    media = tuple(shown for shown in plan.media if shown.key not in taken and shown.name not in foreign)
    differ = sorted(key for key in taken & set(plan.summary) if not same(plan.summary[key], there.summary[key]))
    warnings = list(plan.warnings)
    if differ:
        words = (
            f"the folder has other values than the run for {', '.join(differ[:5])} ({len(differ)} keys); the run's stay"
        )
        warnings.append(PlanWarning("live-run-differs", Severity.WARNING, words))
    if hidden := sorted({table.name for table in plan.tables} & taken):
        words = f"the run has {', '.join(hidden)} of its own; the table of the folder is not sent"
        warnings.append(PlanWarning("live-run-differs", Severity.WARNING, words))
    if len(media) < len(plan.media):
        words = ", ".join(shown.key for shown in plan.media if shown not in media)
        warnings.append(
            PlanWarning(
                "live-run-differs",
                Severity.WARNING,
                f"the run has {words} of its own; those of the folder are not shown",
            )
        )
    return replace(
        plan,
        summary={key: value for key, value in plan.summary.items() if key not in taken},
        tables=tuple(table for table in plan.tables if table.name not in taken),
        run_files=tuple(name for name in plan.run_files if name not in foreign),
        media=media,
        warnings=tuple(warnings),
    )


def noted(plan: Plan, there: There) -> dict[str, JsonValue]:
    """What is ours in the run, noted there before any of it is sent: after a kill in between it is known for ours."""
    keys = {*texts(there.ours.get(KEYS)), *own_keys(plan)}
    files = {*texts(there.ours.get(FILES)), *plan.run_files, *(shown.name for shown in plan.media)}
    return {KEYS: sorted(keys), FILES: sorted(files)}


def left_over(plan: Plan, there: There) -> list[str]:
    """Our summary keys of an earlier revision that this plan does not have any more."""
    return sorted(key for key in texts(there.ours.get(KEYS)) - own_keys(plan) if key in there.summary)


def directory_names(path: str) -> list[str]:
    """Every way in which the guide's script may have been given this folder: from any directory above, or absolute."""
    parts = [part for part in path.split("/") if part]
    below = ["/".join(parts[place:]) for place in range(len(parts))]
    return [path, *below, *(f"./{name}" for name in below), *(f"../{name}" for name in below)]


def says_script(config: Mapping[str, JsonValue], path: str) -> bool:
    """Whether this is the config of a run that the guide's script made of a folder of this name."""
    retroactive, directory = (config.get(key) for key in SCRIPT_KEYS)
    return retroactive is True and isinstance(directory, str) and directory.rstrip("/") in directory_names(path)


def holds_digest(manifests: Iterable[Mapping[str, str]], name: str, digest: str) -> bool:
    """Whether one of the artifacts, each as its paths with their digests, holds this very file under its name."""
    return any(
        there == digest for manifest in manifests for path, there in manifest.items() if path.rpartition("/")[2] == name
    )
