"""The plan of one folder as it is now, without sending or recording anything."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from wandb_outbox.detect.by_hand import judge_by_hand
from wandb_outbox.detect.scan import scan
from wandb_outbox.folder import OWN_DIRECTORY
from wandb_outbox.formats import bytes_to_send, recognise
from wandb_outbox.model import Overrides, Plan, PlanRequest, PlanWarning, Severity, run_id
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store
from wandb_outbox.plan import make_plan
from wandb_outbox.plan.lineage import about_inputs
from wandb_outbox.service.executor import look_rules, plan_rules
from wandb_outbox.service.site import known_site
from wandb_outbox.settings import Settings

_MADE_LATER = "made at the first delivery"
_LOOKED_AT = 10_000
"""Directories that are looked at below a folder which is named by hand."""


def preview(
    path: str, settings: Settings, overrides: Overrides, state_dir: StateDir, environ: Mapping[str, str]
) -> Plan:
    """What an upload of ``path`` would send. Raises as :func:`~wandb_outbox.detect.by_hand.judge_by_hand` does."""
    real = os.path.realpath(path)
    root = settings.root_of(real)
    judged = judge_by_hand(real, look_rules(settings, root))
    store = Store.read(state_dir)
    run = store.by_path(real) if store else None
    known = known_site(state_dir, environ, settings.site)
    site = known or _MADE_LATER
    if store is not None:
        store.close()
    request = PlanRequest(
        path=real,
        root=root.path if root else run.root if run else None,
        format=judged.format,
        run_id=run.run_id if run else run_id(site, real, 0),
        site=site,
        fixed_id=run.contacted if run else False,
        incarnation=run.incarnation if run else 0,
        revision=run.revision if run else 0,
        verdict=judged.judgement.verdict.value,
        outcome=judged.judgement.outcome,
        reason=judged.judgement.reason,
        overrides=overrides.after(run.overrides) if run else overrides,
        **plan_rules(settings, root),
    )
    plan = make_plan(request, judged.snapshot)
    delivered = run is not None and run.delivered_fingerprint == plan.fingerprint
    told = about_inputs(plan.inputs, run.warnings if run is not None and delivered else None)
    size = bytes_to_send(plan.format, judged.snapshot, request.rules.log_model)
    if size > settings.max_bytes:
        words = (
            f"{size:,} bytes are more than max_bytes ({settings.max_bytes:,}): the folder is held until it is released"
        )
        told = (*told, PlanWarning("max-bytes", Severity.WARNING, words))
    inside = runs_inside(real, settings)
    if inside is not None:
        told = (*told, PlanWarning("runs-inside", Severity.WARNING, inside))
    if known is None and run is None and plan.run_id == request.run_id:
        plan = replace(
            plan, sources={**plan.sources, "id": f"provisional: the site that it is made of is {_MADE_LATER}"}
        )
    return replace(plan, warnings=(*plan.warnings, *told))


def runs_inside(path: str, settings: Settings) -> str | None:
    """What to say of a folder that is no run folder itself, and has some below it: probably they were meant."""
    real = os.path.realpath(path)
    detect = look_rules(settings, settings.root_of(real)).detect
    found = list(islice(scan(real, lambda top, names: recognise(top, names, detect=detect)), _LOOKED_AT))
    below = [
        os.path.relpath(each.path, real)
        for each in found
        if each.format is not None and os.path.basename(os.path.dirname(each.path)) != OWN_DIRECTORY
    ]
    if not below or below[0] == os.curdir:
        return None
    what = (
        f"a run folder lies in it, {below[0]}"
        if len(below) == 1
        else f"{len(below)} run folders lie in it, such as {below[0]}"
    )
    return f"{what}; as one run it has the files of all: `wandb-outbox flush {shlex.quote(real)}` makes a run of each"
