"""One delivery through the wandb SDK, inside the uploader process.

Every step may be repeated: a run is resumed by its id, config and summary are set, history rows carry explicit steps
and only those that are missing are sent, files overwrite themselves, and an artifact of known content makes no new
version. ``outbox/delivered`` is written last, after everything was read back, so its presence means that all is there.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import wandb
from wandb.proto import wandb_internal_pb2, wandb_server_pb2
from wandb.sdk.artifacts._internal_artifact import InternalArtifact
from wandb.sdk.lib.paths import LogicalPath

from wandb_outbox.deliver.attach import (
    ENDED,
    left_over,
    noted,
    own_part,
)
from wandb_outbox.deliver.digests import Digests
from wandb_outbox.deliver.edits import ours, stale_config, stale_keys, with_edits
from wandb_outbox.deliver.existing import (
    Existing,
    RemoteRun,
    is_absent,
    noted_by,
    plain,
    says_not_found,
    shown_by,
    there_of,
)
from wandb_outbox.deliver.identify import Identify, Identity
from wandb_outbox.deliver.outcome import KEY_HINT, Failure, Stage, decide, says_deleted, shorten
from wandb_outbox.deliver.probe import Answer, ServerState, ask_log_lines, ask_server
from wandb_outbox.deliver.protocol import Job
from wandb_outbox.deliver.readback import (
    DELIVERED,
    LOG,
    MISSING_INPUTS,
    Seen,
    differences,
    log_difference,
    log_record,
    metric_axes,
    metric_name,
    missing_history,
    missing_lines,
    panels_of,
)
from wandb_outbox.deliver.replay import (
    Place,
    Stream,
    copy_into,
    not_arrived,
    same_rows_key,
    save_files,
    send_panels,
    send_records,
    send_row,
    send_summary_times,
)
from wandb_outbox.deliver.sdk import Server, run_settings, start_sdk
from wandb_outbox.errors import FolderChanged, Held, NotVerified, OutboxError, Rejected, RunDeleted, Unauthorized
from wandb_outbox.folder import Selection, is_utf8, snapshot
from wandb_outbox.formats import evidence, of_unit
from wandb_outbox.formats.logfile import console_lines
from wandb_outbox.formats.offline_run import OfflineRun, log_evidence, log_in
from wandb_outbox.model import (
    ExistingRun,
    FormatEvidence,
    Kind,
    Plan,
    PlannedArtifact,
    PlannedTable,
    PlanRequest,
    Receipt,
    Severity,
    Snapshot,
    Verdict,
    run_id,
)
from wandb_outbox.plan import make_plan
from wandb_outbox.plan.lineage import missing_input
from wandb_outbox.plan.live import attached
from wandb_outbox.steps import step

API_TIMEOUT = 20
READ_BACK_FOR = 60.0
"""Seconds a server may lag behind what it has accepted."""
LOG_FOR = 15.0
"""The same for its count of the log's lines when all else is there: they travel with the run's end, and servers may count
them otherwise."""
ARTIFACT_TIMEOUT = 120
"""Seconds to wait for the commit of an artifact, besides its size."""
FINISH_TIMEOUT = 90
"""Seconds to wait at the end of a run for its last history, summary and files, besides their size."""
ROWS_FOR = 15.0
"""Seconds a server may take to show the rows of a history that it counts."""
LINES_AT_ONCE = 500
"""Of a log, in one record to the SDK."""
SLOWEST = 100_000
"""Bytes a second below which an upload counts as hung."""

Contact = Callable[[str, int], None]
"""Records (run id, incarnation) in the outbox; returns when that is durable."""
Progress = Callable[[str], None]
"""Tells the executor which stage begins."""
LogArtifact = Callable[[wandb.Artifact, list[str] | None], wandb.Artifact]
"""Logs an artifact with these aliases for a run; what it returns can be waited for."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An artifact on its way, and what the server should have in the end."""

    artifact: wandb.Artifact
    name: str
    digest: str
    """Over paths and contents, as the SDK computed it here: afterwards the artifact tells the server's."""
    bytes: int


class Sender:
    """Delivers jobs to one server; :meth:`deliver` may run in several threads at once."""

    def __init__(self, server: Server, directory: str) -> None:
        """``directory`` is ours: the SDK writes there and nowhere else."""
        if not server.key:
            raise Unauthorized("there is no API key", hint=KEY_HINT)
        self._server = server
        self._directory = directory
        try:
            start_sdk()
            self._api = wandb.Api(overrides={"base_url": server.base_url}, timeout=API_TIMEOUT, api_key=server.key)
        except Exception as error:
            # It asks the server, and calls every failure of that an AuthenticationError: no folder is to blame.
            failure = Failure(Stage.IDENTIFY, type(error).__name__, _words(error), _is_disk_full(error))
            raise decide(server.base_url, failure, ask_server(server.base_url, server.key)) from error
        self._opening = threading.Lock()
        self._stream: Any = None

    @staticmethod
    def warm() -> None:
        """Start what all senders of this process share; with this room everything is loaded that a delivery needs."""
        start_sdk()

    def _beside(self) -> Any:
        """A way into the SDK's process that belongs to no run; it is opened once, and ends with the process."""
        with self._opening:
            if self._stream is None:
                sdk = wandb.setup()
                settings = sdk.settings.model_copy()
                settings.update_from_settings(run_settings(self._server, self._directory, None))
                settings.run_id = f"beside-{os.getpid()}-{id(self)}"
                service = sdk.ensure_service()
                self._stream = service.inform_init(settings=settings.to_proto(), run_id=settings.run_id)
            return self._stream

    def deliver(self, job: Job, contact: Contact, progress: Progress, digests: Digests | None = None) -> Receipt:
        """Send one folder and read it back. Raises an :class:`OutboxError` named by the next move.

        ``digests`` are those of the folder, if some were begun already; they are stopped at the end.
        """
        delivery = _Delivery(self._api, self._server, self._directory, job, contact, progress, self._beside, digests)
        try:
            return delivery.run()
        except OutboxError:
            raise
        except Exception as error:
            # A file that is gone by now, or shorter, fails in the SDK by many names: the folder itself tells.
            changed = delivery.change()
            if changed is not None:
                raise changed from error
            failure = Failure(delivery.stage, type(error).__name__, _words(error), _is_disk_full(error))
            answer = ask_server(self._server.base_url, self._server.key)
            raise decide(job.request.path, failure, answer) from error
        finally:
            delivery.clean()


class _Delivery:
    """The steps of one delivery, and how far it has come."""

    def __init__(
        self,
        api: wandb.Api,
        server: Server,
        directory: str,
        job: Job,
        contact: Contact,
        progress: Progress,
        beside: Callable[[], Any],
        digests: Digests | None = None,
    ) -> None:
        self.stage = Stage.PLAN
        self._api = api
        self._server = server
        self._directory = directory
        self._job = job
        self._contact = contact
        self._progress = progress
        self._beside = beside
        self._run: wandb.Run | None = None
        self._sync_dir: str | None = None
        self._frozen = False
        self._rows = 0
        self._lines: Sequence[str] | None = None
        """Of the log, as they should be on the server in the end."""
        self._log_frozen = False
        self._log_record: dict[str, Any] = {}
        self._missing_inputs: list[str] = []
        self._fresh = True
        self._before: Snapshot | None = None
        self._digests = digests or Digests(job.request.path, self._still)
        self._lost: list[str] = []
        """Artifacts of the offline run whose files are gone."""
        self._notes: list[str] = []
        self._wanted: Plan | None = None
        """What is to be sent, before what people changed on the server."""
        self._noted: Mapping[str, Any] = {}
        """What an earlier delivery noted of itself in the run."""
        self._existing = Existing(api, self._still)
        self._who = Identify(job, self._existing, self._digests, self._notes.append)

    def run(self) -> Receipt:
        job = self._job
        before = self._before = self._take_snapshot()
        if before.fingerprint != job.fingerprint:
            raise FolderChanged(f"{job.request.path} changed since it was found complete; it is looked at again")
        if not before.files and not before.offline:
            raise Rejected(f"{job.request.path}: there is no file to upload", hint="everything in it is left out")
        if not is_utf8(job.request.path):
            raise Rejected(
                f"{job.request.path}: the SDK opens no path that is not valid UTF-8", hint="rename the folder"
            )
        plan = self._plan(job.request, before)
        if plan.attach is not None and job.contacted and job.request.run_id != plan.attach.run_id:
            plan = self._own_plan(before)  # it has a run of its own since before it logged one itself
        _refuse_errors(plan, job)
        step("send.planned")
        self._deliver_others(plan)
        entity = plan.entity or self._default_entity()
        self._enter(Stage.IDENTIFY)
        if plan.attach is not None:
            live = self._who.live_run(plan, plan.attach, entity)
            if not isinstance(live, Held):
                return self._attach(plan, entity, live, before)
            plan = self._own_plan(before)
            identity = self._who.identify(plan, entity)
            if identity.remote is None and not job.insisted:
                raise live
        else:
            identity = self._who.identify(plan, entity)
        if identity.attached and identity.remote is not None:
            there = ExistingRun(identity.run_id, entity, plan.project, str(identity.remote.display_name))
            return self._attach(attached(plan, there), entity, identity.remote, before, adopted=identity.adopted)
        if identity.run_id != plan.run_id or identity.incarnation != job.request.incarnation:
            known = replace(
                job.request, run_id=identity.run_id, incarnation=identity.incarnation, fixed_id=True, unit=plan.unit
            )
            plan = self._plan(known, before)
        if identity.remote is not None:
            receipt = self._delivered_already(identity, identity.remote, plan, entity)
            if receipt is not None:
                return receipt
        step("send.identified")
        self._contact(identity.run_id, identity.incarnation)
        self._wanted = plan
        if identity.remote is not None:
            self._noted = noted_by(identity.remote)
            plan = with_edits(plan, shown_by(identity.remote), self._noted)
        artifacts = self._send(plan, entity, identity, before)
        self._enter(Stage.VERIFY)
        return self._verify(plan, entity, identity, artifacts)

    def _own_plan(self, before: Snapshot) -> Plan:
        return self._plan(replace(self._job.request, own_run=True), before)

    def _plan(self, request: PlanRequest, before: Snapshot) -> Plan:
        return make_plan(request, before, own_secrets=[self._server.key] if self._server.key else [])

    def _delivered_already(self, identity: Identity, remote: RemoteRun, plan: Plan, entity: str) -> Receipt | None:
        """The receipt, when the server has this content whole; else ``None``: send it again, idempotently."""
        delivered = noted_by(remote)
        if delivered.get("fingerprint") != plan.fingerprint:
            return None
        if delivered.get("intent") != intent_of(plan) and not identity.adopted:
            return None
        if remote.state not in (ENDED if plan.attach else ("finished", "failed")):
            return None
        if remote.summary_metrics.get(MISSING_INPUTS):
            return None  # what was missing may be there by now, and else is told again
        artifact = (
            self._existing.artifact(entity, plan.project, str(delivered["artifact"]))
            if delivered.get("artifact")
            else None
        )
        if plan.artifacts and (artifact is None or artifact.digest != delivered.get("digest")):
            return None
        if identity.adopted:
            self._contact(identity.run_id, identity.incarnation)
            config = dict(remote.config)
            config["outbox"] = {**config["outbox"], **{k: plan.config["outbox"][k] for k in ("site", "birth", "path")}}
            remote.config.update(config)
            remote.update()
        return self._receipt(plan, entity, identity, remote, artifact)

    # -- send --------------------------------------------------------------------------------------------------------

    def _send(self, plan: Plan, entity: str, identity: Identity, before: Snapshot) -> list[wandb.Artifact]:
        remote = identity.remote
        self._fresh = remote is None
        self._digests.begin(file for artifact in plan.artifacts for file in artifact.files)
        rows, self._frozen = plan.history, False
        if remote is not None and (remote.history_line_count or 0) > 0:
            sent = self._rows_there(plan, remote)
            planned = [same_rows_key(row) | {"_step": row["_step"]} for row in plan.history] if plan.replays else None
            missing, self._frozen = missing_history(sent, planned or plan.history)
            rows = plan.history[len(plan.history) - len(missing) :]
            self._rows = len(sent)
        self._rows += len(rows)
        printed = self._missing_lines(plan, entity, remote)
        self._enter(Stage.INIT)
        run = self._open(plan, entity, identity)
        step("send.opened")
        try:
            self._enter(Stage.CONTENT)
            holders = self._send_content(run, plan, rows, entity, before)
            self._print(run, printed)
            step("send.content-sent")
            self._enter(Stage.ARTIFACT)
            self._use_inputs(run.use_artifact, plan, entity)
            artifacts = [self._send_artifact(planned, self._log_into(run)) for planned in plan.artifacts]
            for holder in holders:
                self._committed_as_sent(holder)
            step("send.artifact-committed")
            self._check_unchanged(before)
        except (FolderChanged, NotVerified):
            # The server answers, and the next try resumes this run: end it in order. After any other failure that could
            # block for minutes on the very network that failed; then the executor ends this process instead.
            with contextlib.suppress(Exception):
                run.finish(exit_code=plan.exit_code)
            raise
        self._enter(Stage.FINISH)
        run.finish(exit_code=plan.exit_code)
        step("send.finished")
        return artifacts

    def _rows_there(self, plan: Plan, remote: RemoteRun) -> list[dict[str, Any]]:
        """The rows of the history that the server has.

        It may count rows that it does not show yet. Rows that are sent go behind those that it counts: who sent what it
        does not show would have it twice.
        """
        for wait in _pauses(ROWS_FOR):
            # Asked for in a thousand pieces at most: steps may be far apart, and the SDK asks for those between them, too.
            piece = max(1000, remote.lastHistoryStep // 1000 + 1)
            rows = [plain(row) for row in remote.scan_history(page_size=piece, use_cache=False)]
            if len(rows) >= int(remote.history_line_count or 0) or plan.replays:
                return rows  # rows of an offline run may share a step, and be shown as one
            self._still()
            if wait is not None:
                time.sleep(wait)
        raise NotVerified(
            f"{plan.path}: of its history of {remote.history_line_count} rows the server shows {len(rows)}",
            hint="it is tried again; none is sent twice",
        )

    def _missing_lines(self, plan: Plan, entity: str, remote: RemoteRun | None) -> Sequence[str]:
        """The lines of the log that the server does not have yet."""
        if plan.log is None:
            return ()
        lines, left_out = console_lines(plan.path, plan.log)
        if left_out:
            self._notes.append(
                f"log-cut: {left_out:,} lines in the middle of {plan.log} are not shown as the run's output"
            )
        missing: Sequence[str] = lines
        if remote is not None:
            there = self._count_lines(entity, plan, remote)
            recorded = noted_by(remote).get(LOG)
            missing, self._log_frozen = missing_lines(there, recorded, lines)
            self._log_record = recorded if isinstance(recorded, dict) else {}
        if not self._log_frozen:
            self._lines = lines
        return missing

    def _count_lines(self, entity: str, plan: Plan, remote: RemoteRun) -> int | None:
        server = self._server
        return self._existing.until_found(
            lambda: ask_log_lines(server.base_url, server.key, entity, plan.project, str(remote.id))
        )

    def _print(self, run: wandb.Run, lines: Sequence[str]) -> None:
        """Show the lines as output of the run, the SDK's way for lines of a logger: it takes no console from anybody."""
        interface: Any = run._interface  # noqa: SLF001  the public way takes records of a Python logger only
        begin = 0
        while begin < len(lines):
            end = begin + LINES_AT_ONCE
            while end < len(lines) and not lines[end - 1].strip():
                end += 1  # an empty line at the end of a record is lost
            interface.publish_output_logger("\n".join(lines[begin:end]))
            begin = end

    def _attach(
        self, plan: Plan, entity: str, remote: RemoteRun, before: Snapshot, *, adopted: bool = False
    ) -> Receipt:
        """Send the folder to a run that the experiment made itself, beside whatever it holds; it is never opened."""
        identity = Identity(remote.id, self._job.request.incarnation, remote, adopted=adopted)
        there = there_of(remote)
        plan = replace(own_part(plan, there), name=str(remote.display_name))
        self._rows = int(remote.history_line_count or 0)
        self._wanted = plan
        receipt = self._delivered_already(identity, remote, plan, entity)
        if receipt is not None:
            self._contact(identity.run_id, identity.incarnation)
            return receipt
        step("send.identified")
        self._contact(identity.run_id, identity.incarnation)
        self._enter(Stage.CONTENT)
        # Whose it is, and which of it is ours, before anything of ours is there.
        remote.config["outbox"] = plan.config["outbox"]
        remote._attrs["tags"] = list(dict.fromkeys((*remote.tags, *plan.tags)))  # noqa: SLF001  it has no setter
        remote.summary._json_dict[DELIVERED] = noted(plan, there)  # noqa: SLF001  `update` sets it and sends it at once
        remote.update()
        step("send.opened")
        for name in plan.run_files:
            _upload_file(remote, os.path.join(plan.path, name), plan.path)
            self._still()
        with tempfile.TemporaryDirectory(dir=self._directory) as top:
            for shown in plan.media:
                _upload_file(remote, copy_into(top, shown.name, plan.path, shown.file.path), top)
                self._still()
        self._enter(Stage.ARTIFACT)
        self._use_inputs(remote.use_artifact, plan, entity)

        def beside(artifact: wandb.Artifact, aliases: list[str] | None) -> wandb.Artifact:
            return self._log_beside(Place(entity, plan.project, remote.id, ""), artifact, aliases)

        artifacts = [self._send_artifact(planned, beside) for planned in plan.artifacts]
        step("send.artifact-committed")
        tables = {table.name: self._send_table(table, remote, beside) for table in plan.tables}
        summary = remote.summary
        for key in (*left_over(plan, there), MISSING_INPUTS):
            summary._json_dict.pop(key, None)  # noqa: SLF001  the public face can only set keys it has loaded
        media = {shown.key: shown.value for shown in plan.media}
        summary.update({**plan.summary, **tables, **media})  # type: ignore[no-untyped-call]
        step("send.content-sent")
        self._check_unchanged(before)
        self._enter(Stage.VERIFY)
        return self._verify(plan, entity, identity, artifacts)

    def change(self) -> FolderChanged | None:
        """What happened to the folder since the delivery began, if anything did."""
        try:
            if self._before is not None:
                self._check_unchanged(self._before)
        except FolderChanged as changed:
            return changed
        except OutboxError:
            pass  # it cannot be told: then what failed counts
        return None

    def _check_unchanged(self, before: Snapshot) -> None:
        if not before.same_bytes_as(self._take_snapshot()):
            raise FolderChanged(
                f"{self._job.request.path} changed while it was uploaded; what was sent is not called uploaded, and it "
                "is looked at again"
            )

    def _open(self, plan: Plan, entity: str, identity: Identity) -> wandb.Run:
        settings = run_settings(self._server, self._directory, plan.started_at)
        settings.finish_timeout = FINISH_TIMEOUT + self._run_file_bytes(plan) / SLOWEST
        if self._job.contacted and identity.remote is None:
            # The server knew it, or was about to: perhaps it was deleted. The SDK takes that answer (409) for one that
            # may pass, and with its usual patience we would hear of it after a quarter of a minute.
            settings.x_graphql_retry_max = 1
            settings.x_graphql_retry_wait_max_seconds = 1
        remote = identity.remote
        if remote is not None and remote.tags and not plan.tags:
            remote._attrs["tags"] = []  # noqa: SLF001  it has no setter; a run that is resumed without tags keeps its old ones
            remote.update()
        if remote is not None and not remote.summary_metrics:
            # It was killed right after it was opened. Servers may say null of an empty summary, and that the SDK resumes not.
            remote.summary.update({DELIVERED: {}})  # type: ignore[no-untyped-call]
        try:
            run = wandb.init(
                settings=settings,
                entity=entity,
                project=plan.project,
                id=identity.run_id,
                name=plan.name,
                group=plan.group,
                job_type=plan.job_type,
                tags=list(plan.tags),
                notes=plan.notes,
                config=plan.config,
                resume="allow",
                reinit="create_new",
            )
        except Exception as error:
            if not says_deleted(str(error)):
                raise
            if self._existing.run(entity, plan.project, identity.run_id) is not None:
                # Not deleted at all: under a new id it would be there twice.
                raise NotVerified(
                    f"{plan.path}: the server calls its run {identity.run_id} deleted, but has it",
                    hint="it is tried again under the same id",
                ) from error
            raise RunDeleted(
                f"{plan.path}: its run {identity.run_id} was deleted on the server; it goes under a new one"
            ) from error
        self._run = run
        self._sync_dir = os.path.dirname(run.dir)
        if identity.remote is None and run.resumed:
            # All of its rows and lines would be sent a second time.
            with contextlib.suppress(Exception):
                run.finish(exit_code=plan.exit_code)
            raise NotVerified(
                f"{plan.path}: the server did not show its run {identity.run_id}, and then opened it as one that it has",
                hint="it is tried again, with what the run holds by then",
            )
        return run

    def _send_content(
        self, run: wandb.Run, plan: Plan, rows: tuple[dict[str, Any], ...], entity: str, before: Snapshot
    ) -> list[Logged]:
        """Hand everything over but the folder's artifacts; what is given back are those of its tables, still under way."""
        if plan.replays:
            self._replay(run, plan, rows, Place(entity, plan.project, run.id, run.dir), before)
        if not any(replay.rows for replay in plan.replays):
            self._log(run, plan, rows)
        # From here on, and until all is read back, nobody may take an earlier content for delivered.
        record = {LOG: self._log_record} if self._log_record else {}
        run.summary.update({**plan.summary, DELIVERED: {**ours(self._wanted or plan, self._noted), **record}})
        holders = [self._set_table(run, table) for table in plan.tables]
        self._save_files(run, plan)
        for shown in plan.media:
            # It has another name among the run's files, and a copy cannot be exchanged for a link meanwhile.
            copy = copy_into(run.dir, shown.name, plan.path, shown.file.path)
            run.save(copy, base_path=run.dir, policy="now", glob=False)
            run.summary[shown.key] = shown.value
        return holders

    def _log(self, run: wandb.Run, plan: Plan, rows: tuple[dict[str, Any], ...]) -> None:
        """Hand the rows over as they are: ``run.log`` would add the last value of every column to the plan's summary."""
        # All of them, and not only those of the rows that are missing: a later session's definitions replace the earlier.
        names = (
            {key for row in plan.history for key in row if key != "_step" and "*" not in key} if plan.axes else set()
        )
        for key in sorted(names):
            axis = plan.axes.get(key)
            step = None if axis is None else metric_name(axis)
            run.define_metric(metric_name(key), summary="none", step_metric=step, step_sync=False)
        stream = self._stream(run)
        # Nothing says when a row was written. What people draw over the time is the experiment's, not that of the upload.
        now = time.time() if plan.ended_at is None else plan.ended_at
        times = {"_timestamp": now, "_runtime": 0.0 if plan.started_at is None else max(now - plan.started_at, 0.0)}
        for row in rows:
            send_row(stream, {**times, **row})
        if rows:
            send_summary_times(stream, {**times, **rows[-1]})
        stream.flush()

    def _save_files(self, run: wandb.Run, plan: Plan) -> None:
        """Hand the run files over as links, as ``run.save`` does, but all of them in one record."""
        if not plan.run_files:
            return
        top = run.dir
        for name in plan.run_files:
            link = os.path.join(top, name)
            os.makedirs(os.path.dirname(link), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
            os.symlink(os.path.join(plan.path, name), link)
        self._interface(run).publish_files({"files": [(name, "now") for name in plan.run_files]})

    def _set_table(self, run: wandb.Run, table: PlannedTable) -> Logged:
        """Set a table into the summary, with the artifact that holds it, as the SDK does for a table that is logged."""
        made = _table(table)
        holder = InternalArtifact(f"run-{run.id}-{table.name}", "run_table")
        holder.add(made, table.name)
        logged = Logged(self._log_into(run)(holder, None), holder.name, holder.digest, holder.size)
        made.bind_to_run(run, table.name, "summary")  # type: ignore[no-untyped-call]
        run.summary[table.name] = made
        return logged

    def _log_into(self, run: wandb.Run) -> LogArtifact:
        """The usual way to log an artifact, without what ``run.log_artifact`` asks before.

        It asks who we are, what the server can do, and of which type an artifact of this name is, for every run anew. The
        first two are known, and a wrong type the server refuses by itself.
        """

        def log(artifact: wandb.Artifact, aliases: list[str] | None) -> wandb.Artifact:
            artifact.finalize()
            names = list(dict.fromkeys(("latest", *(aliases or ()))))
            handle = self._interface(run).deliver_artifact(run, artifact, names, None, run.step)
            self._api._set_artifact_save_handle(artifact, handle)  # noqa: SLF001  as `log_artifact` does, for `wait`
            return artifact

        return log

    def _interface(self, run: wandb.Run) -> Any:
        """The way of this run into the SDK's process."""
        if run._interface is None:  # noqa: SLF001  no public way gives it a row as it is, or an artifact unasked
            raise NotVerified(f"{self._job.request.path}: the SDK's process is gone", hint="it is tried again")
        return run._interface  # noqa: SLF001  as above

    def _stream(self, run: wandb.Run) -> Stream:
        """The way of records into the SDK's process."""
        interface = self._interface(run)

        def ask(record: Any, seconds: float) -> Any:
            return interface._deliver(record).wait_or(timeout=seconds)  # noqa: SLF001  as above

        record: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]  # made when it is loaded

        def hand_over(records: Sequence[Any]) -> None:
            requests = []
            for each in records:
                interface._assign(each)  # noqa: SLF001  as above
                requests.append(wandb_server_pb2.ServerRequest(record_publish=each))  # type: ignore[attr-defined]

            async def publish() -> None:
                for request in requests:
                    await interface._client.publish(request)  # noqa: SLF001  as above

            interface._asyncer.run(publish)  # noqa: SLF001  as above

        return Stream(record, hand_over, ask)

    def _replay(
        self, run: wandb.Run, plan: Plan, rows: tuple[dict[str, Any], ...], place: Place, before: Snapshot
    ) -> None:
        """Hand the records of the offline run to the SDK's process, as its own sync does."""
        stream = self._stream(run)
        files = () if plan.kind is Kind.OFFLINE_RUN else before.files
        self._lost = send_records(
            stream,
            place,
            plan,
            files,
            there=len(plan.history) - len(rows),
            fresh=self._fresh,
            progress=self._still,
        )
        if plan.history:
            send_summary_times(stream, plan.history[-1])
        send_panels(stream, plan.panels)
        stream.flush()

        def save(path: str, base: str) -> None:
            run.save(path, base_path=base, policy="now", glob=False)

        save_files(plan, place, save)

    def _deliver_others(self, plan: Plan) -> None:
        """Deliver the folder's other offline runs as runs of their own; each is sent only if the server lacks it."""
        for directory in plan.others:
            taken = snapshot(directory)
            request = replace(
                self._job.request,
                path=directory,
                format=OfflineRun.name,
                run_id=run_id(self._job.request.site, directory, 0),
                incarnation=0,
                revision=0,
                fixed_id=False,
                overrides=replace(self._job.request.overrides, name=None),
                **_ending(directory, taken),
            )
            job = Job(self._job.key, request, taken.birth, taken.fingerprint, contacted=False)
            other = _Delivery(
                self._api, self._server, self._directory, job, lambda *_: None, self._progress, self._beside
            )
            try:
                receipt = other.run()
            finally:
                self.stage = other.stage
                other.clean()
            self._notes += [f"{os.path.basename(directory)}: {warning}" for warning in receipt.warnings]
        for unit in plan.units:
            self._deliver_unit(unit)

    def _deliver_unit(self, unit: str) -> None:
        """Deliver one of several runs of the folder; it is sent only if the server lacks it, or has less of it."""
        path = self._job.request.path
        taken = of_unit(self._job.request.format, self._take_snapshot(), unit)
        said = evidence(self._job.request.format, path, taken)
        request = replace(
            self._job.request,
            unit=unit,
            incarnation=0,
            revision=0,
            fixed_id=False,
            overrides=replace(self._job.request.overrides, name=None),
            outcome="ok" if said.done else "unknown",
            verdict=Verdict.COMPLETE,
            reason=said.done or "nothing in it says how it ended",
        )
        job = replace(self._job, request=request, contacted=False)
        other = _Delivery(self._api, self._server, self._directory, job, lambda *_: None, self._progress, self._beside)
        try:
            self._notes += [f"{unit}: {warning}" for warning in other.run().warnings]
        except RunDeleted:
            self._notes.append(f"run-deleted: that of {unit} was deleted on the server, and is left so")
        finally:
            self.stage = other.stage
            other.clean()

    def _use_inputs(self, use: Callable[[wandb.Artifact], object], plan: Plan, entity: str) -> None:
        """Say which artifacts the run used. One that cannot be had is a warning: the upload is worth more than a line."""
        self._missing_inputs = []
        for name in plan.inputs:
            above = [entity, plan.project][: max(2 - name.count("/"), 0)]
            full = "/".join((*above, name)) + ("" if ":" in name else ":latest")
            try:
                use(self._api.artifact(full))
            except (ValueError, wandb.errors.CommError) as error:
                if not is_absent(error) and check_server(self._server).state is not ServerState.ONLINE:
                    raise
                self._missing_inputs.append(name)
            self._still()

    def _send_artifact(self, planned: PlannedArtifact, log: LogArtifact) -> wandb.Artifact:
        artifact = wandb.Artifact(
            planned.name, planned.type, description=planned.description, metadata=planned.metadata
        )
        for file in planned.files:
            # Neither staged nor cached: the SDK reads the folder itself, and the snapshots before and after tell
            # whether it changed under the upload.
            artifact._add_local_file(  # noqa: SLF001  the public way hashes the file itself
                LogicalPath(file.path.removeprefix(planned.below)),
                os.path.join(self._job.request.path, file.path),
                digest=self._digests.of(file),
                policy="immutable",
                skip_cache=True,
            )
            self._still()
        digest = artifact.digest
        logged = self._committed_as_sent(
            Logged(log(artifact, list(planned.aliases) or None), planned.name, digest, planned.bytes)
        )
        aliases = {*logged.aliases, *planned.aliases}
        outdated = logged.metadata != planned.metadata or logged.description != planned.description
        if outdated or aliases != set(logged.aliases):
            # A known content keeps its first metadata and aliases: bring them up to date.
            logged.metadata = planned.metadata
            logged.description = planned.description
            logged.aliases = sorted(aliases)
            logged.save()
        return logged

    def _committed_as_sent(self, sent: Logged) -> wandb.Artifact:
        """Wait until the server has it, with the content that was sent.

        Raises:
            NotVerified: What it has is not committed, or something else.
        """
        path = self._job.request.path
        artifact = sent.artifact.wait(timeout=int(ARTIFACT_TIMEOUT + sent.bytes / SLOWEST))
        for wait in _pauses(READ_BACK_FOR):
            if artifact.state == "COMMITTED":
                break
            if wait is None:
                raise NotVerified(
                    f"{path}: the artifact {sent.name} is {artifact.state}, not COMMITTED", hint="it is tried again"
                )
            self._still()
            time.sleep(wait)
            _look_again(artifact)
        if artifact.digest != sent.digest:
            raise NotVerified(
                f"{path}: the server has the artifact {sent.name} with the digest {artifact.digest}, not {sent.digest}",
                hint="it is tried again; if that does not help, somebody has to look at the server",
            )
        return artifact

    def _log_beside(self, place: Place, artifact: wandb.Artifact, aliases: list[str] | None) -> wandb.Artifact:
        """Log an artifact as an output of a run that is not opened: the SDK's process needs only the run's name."""
        beside = self._beside()
        artifact.finalize()
        record = beside._make_artifact(artifact)  # noqa: SLF001  no public way logs an artifact for a run that has ended
        record.entity, record.project, record.run_id, record.finalize = place.entity, place.project, place.run_id, True
        record.aliases.extend(dict.fromkeys(("latest", *(aliases or ()))))
        request = wandb_internal_pb2.LogArtifactRequest(artifact=record)  # type: ignore[attr-defined]  # as above
        handle = beside._deliver_artifact(request)  # noqa: SLF001  as above
        self._api._set_artifact_save_handle(artifact, handle)  # noqa: SLF001  as `log_artifact` does, for `wait`
        return artifact

    def _send_table(self, table: PlannedTable, remote: RemoteRun, log: LogArtifact) -> dict[str, Any]:
        """A table for a run that is not opened, as the SDK leaves one: its summary names a run file and an artifact."""
        name = re.sub(r"[^A-Za-z0-9._-]", "-", f"run-{remote.id}-{table.name}")[:128]
        artifact = InternalArtifact(name, "run_table")
        entry = artifact.add(_table(table), table.name)
        with open(str(entry.local_path), "rb") as file:
            content = file.read()
        digest = hashlib.sha256(content).hexdigest()
        with tempfile.TemporaryDirectory(dir=self._directory) as top:
            path = os.path.join("media", "table", f"{table.name}_{digest[:20]}.table.json")
            os.makedirs(os.path.join(top, os.path.dirname(path)))
            with open(os.path.join(top, path), "wb") as file:
                file.write(content)
            _upload_file(remote, os.path.join(top, path), top)
        own = artifact.digest
        logged = self._committed_as_sent(Logged(log(artifact, None), name, own, len(content)))
        return {
            "_type": "table-file",
            "path": path,
            "sha256": digest,
            "size": len(content),
            "ncols": len(table.columns),
            "nrows": len(table.rows),
            "artifact_path": f"wandb-artifact://{base64.b64decode(str(logged.id)).hex()}/{entry.path}",
        }

    # -- read back ---------------------------------------------------------------------------------------------------

    def _verify(self, plan: Plan, entity: str, identity: Identity, artifacts: list[wandb.Artifact]) -> Receipt:
        """Poll until the server gives back what was sent, then write ``outbox/delivered``."""
        artifact = artifacts[0] if artifacts else None
        began = time.monotonic()
        for wait in _pauses(READ_BACK_FOR):
            log: str | None = None
            try:
                remote, found, log = self._read_back(plan, entity, identity, artifacts)
            except Exception as error:
                # A question may be asked again: all is sent, and one answer that is lost is no reason to begin anew.
                there = wait is not None and check_server(self._server).state is ServerState.ONLINE
                if not there and not says_not_found(error):
                    raise
                remote, found = None, [f"asked for it, the server says: {_words(error)}"]
            if remote is not None and not found and (log is None or time.monotonic() - began > LOG_FOR):
                if log is not None:
                    self._notes.append(f"log-unverified: {log}, although all else of the run is there")
                return self._seal(plan, entity, identity, remote, artifact)
            self._still()
            if wait is None:
                raise NotVerified(
                    f"{plan.path}: sent, but the server gives back something else: {shorten('; '.join(found))}",
                    hint="it is tried again; what has arrived is not sent twice",
                )
            time.sleep(wait)
        raise AssertionError("unreachable: the last pause is None")

    def _read_back(
        self, plan: Plan, entity: str, identity: Identity, artifacts: list[wandb.Artifact]
    ) -> tuple[RemoteRun | None, list[str], str | None]:
        """The run as the server has it by now, in what it differs from what was sent, and in what its log does."""
        artifact = artifacts[0] if artifacts else None
        remote = self._existing.run(entity, plan.project, identity.run_id)
        if remote is None:
            return None, ["the run is not there"], None
        for planned, logged in zip(plan.artifacts, artifacts, strict=True):
            if (logged.file_count, logged.size) != (len(planned.files), planned.bytes):
                _look_again(logged)
        files = {file.name: int(file.size) for file in remote.files(per_page=200)}
        lines = None if self._lines is None else self._count_lines(entity, plan, remote)
        seen = Seen(
            state=remote.state,
            config=plain(remote.config),
            summary=plain(remote.summary_metrics),
            history_rows=int(remote.history_line_count or 0),
            axes=metric_axes(plain(remote.rawconfig)),
            panels=panels_of(plain(remote.rawconfig)),
            files=files,
            tags=frozenset(remote.tags),
            name=str(remote.display_name),
            artifact_state=artifact.state if artifact else "COMMITTED",
            artifact_files=int(artifact.file_count) if artifact else 0,
            artifact_bytes=int(artifact.size) if artifact else 0,
        )
        sizes = {file.path: file.size for file in plan.artifacts[0].files} if plan.artifacts else {}
        ended = plan.attach is None or remote.state in ENDED
        found = differences(
            seen,
            plan,
            history_rows=self._rows if ended else seen.history_rows,
            sizes=sizes,
        )
        found += [
            f"the artifact {more.name} has {there.file_count} files of {there.size} bytes"
            for more, there in zip(plan.artifacts[1:], artifacts[1:], strict=True)
            if (there.file_count, there.size) != (len(more.files), more.bytes)
        ]
        if plan.replays:
            found += not_arrived(plan, files, (each.name for each in remote.logged_artifacts()), self._lost)
        return remote, found, None if self._lines is None else log_difference(lines, len(self._lines))

    def _seal(
        self, plan: Plan, entity: str, identity: Identity, remote: RemoteRun, artifact: wandb.Artifact | None
    ) -> Receipt:
        step("send.read-back")
        wanted = self._wanted or plan
        before = noted_by(remote)
        left = [] if plan.attach else stale_config(remote.config, plan, before)
        for key in left:
            # Of an earlier revision: the SDK only adds keys to the configuration of a run that it resumes.
            del remote.config[key]
        if left:
            remote.update()
        summary = remote.summary
        for key in [] if plan.attach else stale_keys(plain(remote.summary_metrics), plan, before):
            summary._json_dict.pop(key, None)  # noqa: SLF001  the public face can only set keys it has loaded
        if plan.started_at is not None and plan.ended_at is not None:
            # The SDK counts the seconds of the upload; what people compare is the experiment's duration.
            runtime = round(max(plan.ended_at - plan.started_at, 0.0))
            summary._json_dict["_wandb"] = {**summary._json_dict.get("_wandb", {}), "runtime": runtime}  # noqa: SLF001
            summary._json_dict["_runtime"] = runtime  # noqa: SLF001  as above
        if self._missing_inputs:
            summary.update({MISSING_INPUTS: self._missing_inputs})  # type: ignore[no-untyped-call]
        summary.update(  # type: ignore[no-untyped-call]
            {
                DELIVERED: {
                    "fingerprint": plan.fingerprint,
                    "incarnation": identity.incarnation,
                    "artifact": artifact.name if artifact else "",
                    "digest": artifact.digest if artifact else "",
                    "intent": intent_of(wanted),
                    **({LOG: self._log_record if self._lines is None else log_record(self._lines)} if plan.log else {}),
                    **(noted(plan, there_of(remote)) if plan.attach else ours(wanted, {})),
                }
            }
        )
        step("send.sealed")
        return self._receipt(plan, entity, identity, remote, artifact)

    def _receipt(
        self, plan: Plan, entity: str, identity: Identity, remote: RemoteRun, artifact: wandb.Artifact | None
    ) -> Receipt:
        notes = [
            f"{warning.rule}: {warning.message}" for warning in plan.warnings if warning.severity is not Severity.NOTE
        ]
        notes += [missing_input(name) for name in self._missing_inputs]
        notes += [
            f"offline-artifact-lost: files of the artifact {name} are neither where the offline run left them nor in the "
            "folder; it was not sent"
            for name in self._lost
        ]
        notes += self._notes
        if self._frozen:
            notes.append("history-frozen: the server has other history rows than this folder; none were sent")
        if self._log_frozen:
            notes.append(
                "log-frozen: the server shows other lines of the log than this folder's, or does not tell; none were sent"
            )
        return Receipt(
            run_id=identity.run_id,
            entity=entity,
            project=plan.project,
            name=plan.name,
            url=str(remote.url),
            artifact=str(artifact.name) if artifact else "",
            digest=str(artifact.digest) if artifact else "",
            files=int(artifact.file_count) if artifact else sum(len(replay.files) for replay in plan.replays),
            bytes=int(artifact.size) if artifact else sum(f.size for replay in plan.replays for f in replay.files),
            fingerprint=self._job.fingerprint,
            incarnation=identity.incarnation,
            warnings=tuple(notes),
        )

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _take_snapshot(self) -> Snapshot:
        return snapshot(self._job.request.path, Selection(self._job.exclude, self._job.include).selector())

    def _default_entity(self) -> str:
        entity = self._api.default_entity
        if not entity:
            raise Rejected(
                f"{self._job.request.path}: the API key has no default entity",
                hint="set `entity` in the configuration, or WANDB_ENTITY",
            )
        return str(entity)

    def _still(self) -> None:
        """Tell the executor that the stage goes on."""
        self._progress(self.stage.value)

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self._progress(stage.value)

    def _run_file_bytes(self, plan: Plan) -> int:
        names = set(plan.run_files)
        more = sum(file.size for replay in plan.replays for file in replay.files)
        more += sum(shown.file.size for shown in plan.media)
        return more + sum(file.size for artifact in plan.artifacts[:1] for file in artifact.files if file.path in names)

    def clean(self) -> None:
        """Remove what the SDK left on disk for this run; the server's answer is what counts, never this."""
        self._digests.stop()
        if self._sync_dir is not None:
            shutil.rmtree(self._sync_dir, ignore_errors=True)


def _refuse_errors(plan: Plan, job: Job) -> None:
    found = [each.message for each in plan.warnings if each.severity is Severity.ERROR]
    if found and job.request.rules.strict:
        raise Rejected(f"{plan.path}: {'; '.join(found)}", hint="mend it; or set `strict = false` for the root")


def intent_of(plan: Plan) -> str:
    """Hash over what a person can change about a run without changing the folder."""
    said = [plan.project, plan.name, plan.group, plan.job_type, list(plan.tags), plan.notes, plan.exit_code]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()


def _ending(directory: str, taken: Snapshot) -> dict[str, Any]:
    """How the offline run in this directory ended, for the request of its plan."""
    log = log_in(taken)
    said = FormatEvidence() if log is None else log_evidence(directory, log)
    if said.failed is None:
        return {"outcome": "ok" if said.done else "unknown", "verdict": Verdict.COMPLETE, "reason": said.done or ""}
    return {"outcome": "crashed", "verdict": Verdict.CRASHED, "reason": said.failed}


def _table(planned: PlannedTable) -> wandb.Table:
    """The table of the SDK. Its rows are set at once: added one by one, each cell would be asked for its type.

    With mixed types allowed every column has the type "any" before and after.
    """
    table = wandb.Table(columns=list(planned.columns), data=[], allow_mixed_types=True)
    table.data = [list(row) for row in planned.rows]
    return table


def _upload_file(remote: RemoteRun, path: str, root: str) -> None:
    """Upload a file of a run that is not opened."""
    try:
        remote.upload_file(path, root=root)
    except wandb.errors.CommError as error:
        # Its last act is to look the file up, which the server may not show yet: everything is read back in the end.
        if not isinstance(error.exc, IndexError):
            raise


def _look_again(artifact: wandb.Artifact) -> None:
    """Read an artifact that was logged anew: the SDK keeps what it was told when it had sent it."""
    artifact._populate_after_save(str(artifact._id))  # noqa: SLF001  no public way reads it, or names it before its commit


def check_server(server: Server) -> Answer:
    """The server's answer to our own question."""
    return (
        ask_server(server.base_url, server.key)
        if server.key
        else Answer(ServerState.UNAUTHORIZED, "there is no API key")
    )


def _pauses(total: float) -> Iterator[float | None]:
    """Seconds between looks, growing, ``total`` in sum; then one ``None``."""
    pause = 0.1
    while total > 0:
        yield min(pause, total)
        total -= pause
        pause = min(pause * 2, 5.0)
    yield None


def _words(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    cause = error.__cause__
    return f"{text} ({cause})" if cause is not None and str(cause) not in text else text


def _is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
