"""Put a plan together: read the folder, decide the names, count, choose the files, mask the secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from wandb_outbox import __version__, formats
from wandb_outbox.formats import DECLARATION, Declaration
from wandb_outbox.formats.content import Content, Samples, Warn, warning
from wandb_outbox.formats.jsonfile import LinesFile, ListFile
from wandb_outbox.formats.logfile import main_log
from wandb_outbox.formats.offline_run import OfflineRun
from wandb_outbox.model import (
    Excluded,
    JsonValue,
    Kind,
    Plan,
    PlannedArtifact,
    PlannedTable,
    PlanRequest,
    PlanWarning,
    Severity,
    Snapshot,
    run_id,
)
from wandb_outbox.plan import artifact, checklist, conventions, facts, limits, media
from wandb_outbox.plan.axes import axes_of, last_values
from wandb_outbox.plan.conventions import Names
from wandb_outbox.plan.facts import Facts
from wandb_outbox.plan.inert import inert
from wandb_outbox.plan.jsonsafe import json_safe, safe_text
from wandb_outbox.plan.lineage import declared_artifacts
from wandb_outbox.plan.live import attached, find_live
from wandb_outbox.plan.models import LEFT_OUT, model_artifact
from wandb_outbox.plan.params_meta import META, PARAMS, nested
from wandb_outbox.plan.replays import Recorded, find_recorded, recorded_panels, recorded_summary, without_secrets
from wandb_outbox.plan.secrets import OWN_KEY, Secrets, find_secrets, masked_config
from wandb_outbox.plan.summary import ResultsSummary, is_reserved, merged, within_limit
from wandb_outbox.plan.table import TableBuilder

MAX_CONFIG = 5_000_000
"""Bytes of JSON. It is sent in the very request that opens the run, of which a server takes some megabytes."""
CRASHED = "crashed"
INCOMPLETE = "incomplete"
SAMPLES = "samples"
_OWN = "outbox"
_RESERVED_CONFIG = ("_wandb", "wandb_version")
_WITHHELD = "holds a secret of the run"


def make_plan(request: PlanRequest, snapshot: Snapshot, own_secrets: Sequence[str] = ()) -> Plan:
    """Decide everything that will be sent for the folder of ``request`` as it is in ``snapshot``.

    ``own_secrets`` are keys of ours that may have got into the folder: files that hold one are left out, as with those of
    the configuration. The same folder and request always give the same plan. Bad content is a warning in the plan, never
    an exception. Raises ``FolderChanged`` and ``FolderUnreadable`` when the folder changes or may not be read underneath,
    and ``UserError`` for an unknown format or convention.
    """
    warnings: list[PlanWarning] = []
    warn = warnings.append
    whole_snapshot, units = snapshot, formats.units(request.format, snapshot)
    if units:
        request = _for_unit(request, snapshot, request.unit or units[-1])
        snapshot = formats.of_unit(request.format, snapshot, str(request.unit))
    content = formats.read(request.format, request.path, snapshot)
    declared = formats.read_declaration(request.path, whole_snapshot)
    warnings += [*content.warnings, *declared.warnings]
    recorded = find_recorded(request, snapshot, warn)
    live = find_live(request, snapshot, recorded, warn)
    others = () if recorded is None else recorded.others
    if live is not None and recorded is not None:
        # The newest run carries the folder; the offline ones are runs of their own.
        others = (*recorded.others, recorded.replays[-1].directory)
        recorded = None
    own_id = None if recorded is None or request.fixed_id or request.incarnation else recorded.run.run_id
    if own_id is not None:
        request = replace(request, run_id=own_id)
    if recorded is not None:
        content = recorded.joined(content)
    content = _plain(content)
    if declared.upload is not None:
        words = "until it is released" if declared.upload == formats.HOLD else "for good"
        warn(PlanWarning("upload", Severity.NOTE, f"{DECLARATION} asks to keep this folder here {words}"))
    config = _with_declared(content.config, declared, warn)
    texts = {key: value for key, value in (content.metrics or {}).items() if isinstance(value, str)}
    secrets = find_secrets(
        [
            config,
            json_safe([content.settings, declared.summary, texts, [each.metadata for each in declared.artifacts]]),
        ],
        content.overrides,
        content.commands,
        own_secrets,
    )
    config = within_limit(cast(dict[str, JsonValue], masked_config(config, secrets)), warn, MAX_CONFIG, "config")
    withheld = _withheld(request, snapshot, secrets, warn)
    files = tuple(file for file in snapshot.files if file.path not in withheld)
    counted, table = _samples(content, warn)
    further = _further_tables(content, warn)
    log = main_log(snapshot)
    history = _history(content, warn)
    # An offline run has defined its own; they are replayed.
    axes = axes_of(history) if recorded is None else {}
    summary = _summary(request, content, declared, counted, last_values(history, axes), table, recorded, warn)
    patterns = tuple(dict.fromkeys((*request.rules.media, *declared.media)))
    taken = {*summary, SAMPLES, *(each.name for each in further)}
    shown, asked = media.requested(request.path, patterns, files, dict.fromkeys(taken), warn)
    names = conventions.decide(_facts(request, content, declared, config, recorded))
    warnings += names.warnings
    curves = dict.fromkeys(key for row in history for key in row if key != "_step")
    metrics = [name for name in dict.fromkeys((*summary, *curves)) if not name.startswith(f"{_OWN}/")]
    warnings += checklist.check(names, config, metrics, curves, declared)
    sent = nested(config) if names.proposal.nested else config
    relative = _relative(request)
    weights = formats.weights_of(request.format, files)
    results = tuple(file for file in files if file.path not in weights)
    tables = (*((table,) if table is not None else ()), *further, *asked)
    metadata = artifact.describe(request, content, sent, summary, results, tables, relative, warn)
    whole = artifact.whole_folder(names, results, metadata, relative)
    model = model_artifact(request, snapshot, content, files, sent, declared.inputs, whole.name, warn)
    about = artifact.about_run(request, metadata)
    alone = request.format == OfflineRun.name
    replays, kept_here = ((), ()) if recorded is None else without_secrets(recorded.replays, secrets.files_with)
    plan = Plan(
        path=request.path,
        format=request.format,
        kind=Kind.OFFLINE_RUN if alone else Kind.FOLDER,
        convention=names.convention,
        verdict=request.verdict,
        reason=request.reason,
        entity=names.entity,
        project=names.project,
        name=names.name,
        group=names.group,
        job_type=names.job_type,
        tags=_with_outcome(request, names),
        notes=names.notes,
        run_id=request.run_id,
        config=_with_own(request, snapshot, sent, relative, warn),
        summary=summary,
        history=history,
        media=shown,
        log=log if recorded is None and log not in withheld else None,
        axes=axes,
        tables=tables,
        # What an offline run's own directory holds is replayed, and is no artifact besides.
        artifacts=()
        if alone or not files
        else (
            *((whole,) if results else ()),
            *((model,) if model is not None else ()),
            *declared_artifacts(declared.artifacts, files, about, whole.name, warn),
        ),
        inputs=declared.inputs,
        run_files=tuple(name for name in content.run_files if name not in withheld),
        excluded=(
            *snapshot.excluded,
            *(Excluded(name, _WITHHELD) for name in (*withheld, *kept_here)),
            *(
                Excluded(name, LEFT_OUT)
                for name in sorted(weights - {file.path for file in (model.files if model is not None else ())})
            ),
        ),
        sources=_sources(names, alone=alone, own_id=own_id),
        warnings=(),
        exit_code=1 if request.outcome == CRASHED else 0,
        started_at=content.started_at,
        ended_at=content.ended_at,
        fingerprint=snapshot.fingerprint,
        upload=declared.upload,
        replays=replays,
        panels={} if recorded is None else recorded_panels(recorded.run),
        others=others,
        unit=request.unit if units else None,
        units=units[:-1] if units and request.unit == units[-1] else (),
    )
    plan = _redacted(replace(plan, warnings=tuple(dict.fromkeys(warnings))), secrets)
    return plan if live is None else attached(plan, live)


def _for_unit(request: PlanRequest, snapshot: Snapshot, unit: str) -> PlanRequest:
    """The request for one of several runs in a folder.

    Its id is made from the folder's birth: it stays when the folder is renamed, and when a newer unit takes its place.
    """
    if request.unit is not None and request.fixed_id:
        return request
    made = run_id(request.site, f"{snapshot.birth}#{unit}", request.incarnation)
    return replace(request, unit=unit, run_id=made)


def _plain(content: Content) -> Content:
    """The content with values that JSON can hold: readers of other people hand over whatever their libraries made."""
    return replace(
        content,
        config=cast(dict[str, JsonValue], json_safe(content.config)),
        metrics=None if content.metrics is None else cast(dict[str, JsonValue], json_safe(content.metrics)),
        history=tuple(cast(dict[str, JsonValue], json_safe(row)) for row in content.history),
    )


def _rows(samples: Samples, warn: Warn) -> Iterator[dict[str, JsonValue]]:
    rows = samples.rows(warn)
    # Ours come out of JSON, and may be many.
    own = isinstance(samples, ListFile | LinesFile)
    return rows if own else (cast(dict[str, JsonValue], json_safe(row)) for row in rows)


def _further_tables(content: Content, warn: Warn) -> tuple[PlannedTable, ...]:
    tables = []
    for each in content.tables:
        builder = TableBuilder(each.table, each.samples.name)
        for row in _rows(each.samples, warn):
            builder.add(row)
        tables.append(builder.build(warn))
    return tuple(table for table in tables if table is not None)


def _with_declared(config: dict[str, JsonValue], declared: Declaration, warn: Warn) -> dict[str, JsonValue]:
    """The configuration with ``params`` and ``meta`` of ``outbox.yaml``, which win over those that stand there."""
    for key, said in ((PARAMS, declared.params), (META, declared.meta)):
        if not said:
            continue
        there = config.get(key)
        if there is not None and not isinstance(there, Mapping):
            warn(
                warning(
                    "config-key-taken", f"the configuration's key {key} is no mapping; that of {DECLARATION} is sent"
                )
            )
            there = None
        config = {**config, key: {**(there or {}), **json_safe(said)}}
    return config


def _facts(
    request: PlanRequest,
    content: Content,
    declared: Declaration,
    config: Mapping[str, JsonValue],
    recorded: Recorded | None,
) -> Facts:
    below = facts.parts_below(request.path, request.root)
    if request.unit is not None:
        below = (*below, request.unit)
    inside = request.root is not None and request.path.startswith(request.root.rstrip("/") + "/")
    root = request.root if inside else None
    return Facts(
        config=config,
        below_root=below,
        format=request.format,
        root=root,
        root_date=facts.date_in(root) if root is not None else None,
        parent=os.path.basename(os.path.dirname(request.path.rstrip("/"))) or None,
        config_file=content.config_file,
        offline_run=None if recorded is None else recorded.run,
        recorded_project=content.project,
        recorded_group=content.group,
        sample_range=content.sample_range,
        sweep=content.sweep,
        started_on=_day(content.started_at),
        started_at=_moment(content.started_at),
        rules=request.rules,
        overrides=request.overrides,
        default_entity=request.default_entity,
        declared=declared,
    )


def _relative(request: PlanRequest) -> str:
    return safe_text("/".join(facts.parts_below(request.path, request.root)))


def _day(seconds: float | None) -> str | None:
    """The day in local time, as in the names of the experiment's folders."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return None


def _moment(seconds: float | None) -> str | None:
    """The moment in UTC, as the guide writes it in names."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def _withheld(request: PlanRequest, snapshot: Snapshot, secrets: Secrets, warn: Warn) -> tuple[str, ...]:
    withheld = secrets.files_with(request.path, snapshot.files)
    # Our own key is looked for in every folder: it is worth a word only where it was found.
    named = [key for key in secrets.keys if key != OWN_KEY]
    if named or withheld:
        keys = ", ".join(named or secrets.keys)
        files = ", ".join(withheld)
        left = f"left out because they hold it: {files}" if withheld else "no file of the folder holds it"
        warn(warning("secret-left-out", f"the run holds a secret ({keys}); it is masked in the configuration; {left}"))
    return withheld


def _samples(content: Content, warn: Warn) -> tuple[ResultsSummary | None, PlannedTable | None]:
    """One pass over the samples for both the counts and the table: the file may be larger than memory."""
    if content.samples is None:
        return None, None
    counts = ResultsSummary()
    unread: list[PlanWarning] = []
    table = TableBuilder(SAMPLES, content.samples.name)
    for row in _rows(content.samples, unread.append):
        counts.add(row)
        table.add(row)
    for each in unread:
        warn(each)
    # A whole list without samples counts as none of each; of one that cannot be read nobody knows.
    return (counts if counts.total or not unread else None), table.build(warn)


def _summary(
    request: PlanRequest,
    content: Content,
    declared: Declaration,
    counted: ResultsSummary | None,
    last: Mapping[str, JsonValue],
    table: PlannedTable | None,
    recorded: Recorded | None,
    warn: Warn,
) -> dict[str, JsonValue]:
    values, own = ({}, {}) if counted is None else (counted.values(), counted.experiments_own())
    summary = merged(values, content.metrics, content.metrics_file or "the metrics", warn, own)
    summary = merged(summary, declared.summary, DECLARATION, warn)
    if recorded is not None:
        summary = merged(summary, recorded_summary(recorded.run), "the offline run", warn)
    summary |= {key: value for key, value in last.items() if key not in summary and not is_reserved(key)}
    if table is not None and table.name in summary:
        renamed = f"metrics/{table.name}"
        summary[renamed] = summary.pop(table.name)
        warn(warning("summary-key-taken", f"the metric {table.name} is sent as {renamed}: the table has that name"))
    summary = within_limit(summary, warn)
    if request.outcome in (CRASHED, INCOMPLETE):
        words = f"{request.outcome}: {request.reason}" if request.reason else request.outcome
        summary[f"{_OWN}/outcome"] = safe_text(words)
    return summary


def _history(content: Content, warn: Warn) -> tuple[dict[str, JsonValue], ...]:
    rows = content.history
    if any("" in row for row in rows):
        warn(warning("history-key", "the history has a metric without a name, which W&B drops; it is left out"))
        rows = tuple({key: value for key, value in row.items() if key} for row in rows)
    return rows


def _sources(names: Names, *, alone: bool, own_id: str | None) -> dict[str, str]:
    id_from = "the offline run's log" if own_id else "site, path and incarnation, unless the outbox knows another"
    kept = {
        field_name: words for field_name, words in names.sources.items() if not (alone and field_name == "artifact")
    }
    return {**kept, "id": id_from}


def _with_outcome(request: PlanRequest, names: Names) -> tuple[str, ...]:
    if request.outcome not in (CRASHED, INCOMPLETE):
        return names.tags
    return tuple(dict.fromkeys((*names.tags, request.outcome)))


def _with_own(
    request: PlanRequest, snapshot: Snapshot, config: Mapping[str, JsonValue], relative: str, warn: Warn
) -> dict[str, JsonValue]:
    """The experiment's configuration, and under ``outbox`` whose run this is and of which content."""
    sent = inert(config, warn)
    if _OWN in sent:
        sent[f"{_OWN}_config"] = sent.pop(_OWN)
        warn(warning("config-key-taken", f"the configuration's key {_OWN} is sent as {_OWN}_config"))
    for key in _RESERVED_CONFIG:
        if sent.pop(key, None) is not None:
            words = f"the configuration has the key {key}, which W&B keeps for itself; it is left out"
            warn(warning("reserved-key", words))
    own: dict[str, JsonValue] = {
        "site": request.site,
        "birth": snapshot.birth,
        "fingerprint": snapshot.fingerprint,
        "path": relative,
        "format": request.format,
        "incarnation": request.incarnation,
        "revision": request.revision,
        "version": __version__,
    }
    if request.unit is not None:
        own["unit"] = request.unit
    if request.root is not None:
        own["root"] = safe_text(os.path.basename(request.root.rstrip("/")))
    if request.host is not None:
        own["host"] = request.host
    return {**sent, _OWN: own}


def _redacted(plan: Plan, secrets: Secrets) -> Plan:
    """The plan without any secret value, wherever it got in: a result can quote its prompt, a folder an override."""
    if not secrets:
        return plan

    def text(value: str | None) -> str | None:
        return None if value is None else secrets.redact(value)

    def table(each: PlannedTable) -> PlannedTable:
        rows = tuple(tuple(secrets.redact_all(cell) for cell in row) for row in each.rows)
        return replace(each, columns=tuple(secrets.redact(column) for column in each.columns), rows=rows)

    def whole(each: PlannedArtifact) -> PlannedArtifact:
        name = limits.fit_artifact(secrets.redact(each.name), lambda _: None)
        return replace(
            each, name=name, description=secrets.redact(each.description), metadata=secrets.redact_all(each.metadata)
        )

    # The fingerprint and the ids are ours and not searched: a short secret could stand in them by chance.
    return replace(
        plan,
        reason=secrets.redact(plan.reason),
        project=secrets.redact(plan.project),
        name=secrets.redact(plan.name),
        group=text(plan.group),
        job_type=text(plan.job_type),
        tags=tuple(secrets.redact(tag) for tag in plan.tags),
        notes=text(plan.notes),
        inputs=tuple(secrets.redact(name) for name in plan.inputs),
        config={**cast(dict[str, JsonValue], secrets.redact_all(plan.config)), _OWN: plan.config[_OWN]},
        summary=cast(dict[str, JsonValue], secrets.redact_all(plan.summary)),
        history=tuple(cast(dict[str, JsonValue], secrets.redact_all(row)) for row in plan.history),
        panels=cast(dict[str, JsonValue], secrets.redact_all(plan.panels)),
        tables=tuple(table(each) for each in plan.tables),
        artifacts=tuple(whole(each) for each in plan.artifacts),
        warnings=tuple(replace(each, message=secrets.redact(each.message)) for each in plan.warnings),
    )
