"""The run that an experiment logged to a server while it ran: the folder is attached to it, and changes nothing of it.

Its log (``wandb/run-*/run-<id>.wandb``) says which run that is. Of several the newest counts; when an offline run is newer
still, or is the same run, the folder goes there and the live ones are left as they are.
"""

from __future__ import annotations

import os
from dataclasses import replace

from wandb_outbox.errors import Rejected
from wandb_outbox.formats.content import Warn
from wandb_outbox.formats.transaction_log import read_head
from wandb_outbox.model import ExistingRun, Plan, PlanRequest, PlanWarning, Severity, Snapshot
from wandb_outbox.plan.artifact import of_run
from wandb_outbox.plan.jsonsafe import safe_text
from wandb_outbox.plan.replays import Recorded

OWN = "outbox"
ATTACHED = "attached"
"""The key below :data:`OWN` in the run's config that says so: of such a run only what is ours is ever changed."""
_SOURCE = "the live run's log"
_KEPT = "the run itself, which keeps its own"


def find_live(request: PlanRequest, snapshot: Snapshot, recorded: Recorded | None, warn: Warn) -> ExistingRun | None:
    """The run that the folder is attached to, or ``None``. Raises ``FolderChanged`` when its log goes away underneath."""
    if request.own_run or not snapshot.live:
        return None
    newest = max(snapshot.live, key=lambda log: _began(log.path))
    directory, _, log = newest.path.rpartition("/")
    newest_offline = max((_began(log.path) for log in snapshot.offline), default="")
    if newest_offline > _began(newest.path):
        return None
    try:
        head = read_head(os.path.join(request.path, directory), log)
    except Rejected as error:
        run_id = log.removeprefix("run-").removesuffix(".wandb")
        return ExistingRun(run_id, None, None, None, problem=error.message)
    if recorded is not None and recorded.run.run_id == head.run_id:
        return None  # continued offline: replaying it goes into this very run
    ids = {log.path.rpartition("/")[2] for log in snapshot.live}
    if len(ids) > 1:
        words = f"the folder holds {len(ids)} runs that were logged live; it is attached to the newest, {head.run_id}"
        warn(PlanWarning("live-runs", Severity.NOTE, words))
    return ExistingRun(head.run_id, head.entity, head.project, head.name)


def attached(plan: Plan, run: ExistingRun) -> Plan:
    """The plan for a run that is there already: its name, history and configuration stay its own."""
    sources = {key: words for key, words in plan.sources.items() if key not in ("group", "job_type", "notes")}
    sources["id"] = _SOURCE
    sources["project"] = _SOURCE if run.project else plan.sources.get("project", _SOURCE)
    sources["name"] = _KEPT
    project = run.project or plan.project
    words = f"it is attached to the run {run.run_id}, which the experiment logged itself; history, name and config stay"
    notes = [PlanWarning("live-run", Severity.NOTE, words)]
    return replace(
        plan,
        attach=run,
        run_id=run.run_id,
        project=project,
        name=safe_text(run.name or plan.name),
        group=None,
        job_type=None,
        notes=None,
        config={OWN: {**plan.config[OWN], ATTACHED: True}},
        history=(),
        log=None,
        artifacts=tuple(of_run(artifact, plan.run_id, run.run_id) for artifact in plan.artifacts),
        axes={},
        replays=(),
        panels={},
        exit_code=0,
        started_at=None,
        ended_at=None,
        sources=sources,
        warnings=(*plan.warnings, *notes),
    )


def _began(log: str) -> str:
    """When the run began, as its directory's name says it: ``[offline-]run-20261125_040018-<id>``."""
    return log.split("/")[-2].removeprefix("offline-").partition("-")[2]
