"""The executor: the one process that delivers from a state directory, wired from the rooms before it."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, Self

from wandb_outbox import __version__, formats
from wandb_outbox.deliver.deliver import Deliverer, Limits
from wandb_outbox.deliver.protocol import Job
from wandb_outbox.deliver.sink import Sink
from wandb_outbox.detect.by_hand import judge_by_hand
from wandb_outbox.detect.completion import Patience
from wandb_outbox.detect.rules import LookRules
from wandb_outbox.detect.watch import Watcher
from wandb_outbox.errors import OutboxError, UserError
from wandb_outbox.folder import Selection
from wandb_outbox.model import Overrides, PlanRequest, RootRules, Run, State
from wandb_outbox.outbox.intake import Intake, Policy, RootWatch
from wandb_outbox.outbox.location import StateDir, prepare_state_dir, share_state
from wandb_outbox.outbox.lock import ExecutorLock
from wandb_outbox.outbox.store import Request, Store, overrides_from_json
from wandb_outbox.service.logs import Log
from wandb_outbox.service.site import find_site
from wandb_outbox.settings import RootSettings, Settings
from wandb_outbox.steps import step

REQUEST_POLL = 0.5
"""Seconds between two looks for what another process left in the database."""
TELL_ROOTS = 5.0
WARM_UP = 2.0
"""Seconds before a folder may be found finished at which the uploader is started: about what its libraries take to load."""


class Executor:
    """Holds the lock and owns intake and deliverer. Use as a context manager; :meth:`turn` is one round of all."""

    def __init__(
        self,
        state_dir: StateDir,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        command: str,
        watch: bool,
        backlog: bool,
        scan: bool,
        log: Log,
    ) -> None:
        """Take the lock, end what a dead executor left behind, put its claims back.

        ``watch``: listen to file events. ``backlog``: hold folders that are older than the watch over their root.
        ``scan``: look for run folders below the roots. Raises ``ExecutorRunning`` when another process holds the lock,
        ``StateUnusable`` when the state cannot be used.
        """
        prepare_state_dir(state_dir)
        self._lock = ExecutorLock(state_dir, now=time.time(), command=command)
        step("executor.locked")
        try:
            self.store, set_aside = Store.open_or_rebuild(state_dir, now=time.time())
            if set_aside is not None:
                log("outbox-set-aside", copy=set_aside, action="rebuilt from the folders and from what the server says")
            self._lock.guard(state_dir.database)
            self._settings = settings
            self._log = log
            self._wake = threading.Event()
            self.site = find_site(state_dir, environ, settings.site)
            share_state(state_dir, settings.state_group)
            self._claim = self._new_claim()
            self._sink = Sink(
                environ,
                base_url=settings.base_url,
                directory=state_dir.uploader,
                mark=self._mark(),
                wake=self._wake.set,
            )
            # First end whoever may still be sending, then hand its work out again.
            leftovers = self._sink.end_leftovers()
            step("executor.leftovers-ended")
            recovered = self.store.recover(self._claim, now=time.time())
            step("executor.recovered")
            if leftovers or recovered:
                log("recovered", uploads=recovered, processes_ended=leftovers)
            self._watcher, self._no_watcher = self._make_watcher() if watch else (None, None)
            self.intake = Intake(
                self.store,
                settings.roots,
                Policy(
                    Patience(settings.settle, settings.crash_grace, settings.stalled_after),
                    rescan=settings.rescan,
                    max_bytes=settings.max_bytes,
                    hold=settings.hold,
                    crash_grace_slurm=settings.crash_grace_slurm,
                    backlog_after=settings.backlog_after if backlog else None,
                    leases=settings.probe == "lease",
                ),
                site=self.site,
                watcher=self._watcher,
                now=time.time,
                tick=time.monotonic,
                log=log,
            )
            self.deliverer = Deliverer(
                self.store,
                self._sink,
                Limits(settings.concurrency, settings.max_attempts),
                claim=self._claim,
                site=self.site,
                job_of=self.job_of,
                skips_deleted=self.skips_deleted,
                writer_of=self.intake.writer_of,
                now=time.time,
                tick=time.monotonic,
                chance=random.random,
                log=log,
                on_changed=self.intake.track,
                on_rest=self.intake.rest,
            )
            self.store.keep_look_rules(
                {root.path: look_rules(settings, root).as_json() for root in settings.roots},
                elsewhere=look_rules(settings, None).as_json(),
            )
            if not scan:
                self.intake.scan_nothing()
            self._data_version = -1
            self._told_roots_at = float("-inf")
            self._told_problems: list[str | None] = []
            self._told_faults = 0
            self._next_request_look = 0.0
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.deliverer.put_all_back()
        if self._watcher is not None:
            self._watcher.stop()
        self.store.set_fact("uploads", [])
        self.store.close()
        self._lock.release()

    # -- the turn ----------------------------------------------------------------------------------------------------

    def turn(self, longest: float) -> None:
        """One round of all; then wait until the next thing is due, at most ``longest`` seconds. Raises as :meth:`work`."""
        self.wait(min(self.work(), longest))

    def work(self) -> float:
        """One round: requests, intake, deliveries. Returns in how many seconds the next is due if nothing wakes us.

        Raises ``StateGone`` when the state directory was taken away.
        """
        self._wake.clear()
        self._lock.check()
        self._take_requests()
        self._tell_format_faults()
        # The intake first: what it queues is claimed in the same turn.
        due = self.intake.step()
        self._tell_roots()
        if self.intake.decides_within(WARM_UP):
            self.deliverer.expect()
        return min(due, self.deliverer.step(), REQUEST_POLL)

    def wait(self, seconds: float) -> None:
        """Do nothing for so long, or until something has come since :meth:`work` began."""
        self._wake.wait(max(seconds, 0.0))

    def rest(self, seconds: float) -> None:
        """Do nothing for a while, or until woken."""
        self._wake.clear()
        self._wake.wait(seconds)

    def wake(self) -> None:
        """End the current wait; safe from a signal handler."""
        self._wake.set()

    @property
    def settling(self) -> bool:
        """Whether time alone is about to decide something."""
        return self.intake.settling()

    def worth_waiting(self) -> bool:
        """Whether something can still be decided or delivered soon; never for a folder that is being written."""
        if self.deliverer.under_way or self.settling:
            return True
        return self.waiting() > 0 and not self.deliverer.closed and not self.deliverer.paused

    def waiting(self) -> int:
        """How many finished folders are not delivered yet and could be."""
        counts = self.store.counts()
        return counts[State.QUEUED] + counts[State.UPLOADING]

    # -- jobs --------------------------------------------------------------------------------------------------------

    def root_of(self, path: str) -> RootSettings | None:
        """The innermost configured root of a folder."""
        return self._settings.root_of(path)

    def job_of(self, run: Run) -> Job:
        """What the uploader needs to know of one claimed row."""
        root = self.root_of(run.path)
        request = PlanRequest(
            path=run.path,
            # Names are made from the root: one that was given for an earlier command only is still the folder's.
            root=root.path if root else run.root,
            format=run.format,
            run_id=run.run_id,
            site=self.site,
            fixed_id=run.contacted,
            incarnation=run.incarnation,
            revision=run.revision,
            verdict=run.verdict,
            outcome=run.outcome,
            reason=run.judged,
            overrides=run.overrides,
            **plan_rules(self._settings, root),
        )
        selection = root.selection if root else Selection()
        return Job(
            run.key,
            request,
            run.birth,
            run.fingerprint,
            run.contacted,
            run.insisted,
            selection.exclude,
            selection.include,
        )

    def skips_deleted(self, path: str) -> bool:
        """Whether a folder whose run was deleted on the server is left alone from then on."""
        root = self.root_of(path)
        return root is not None and root.on_deleted == "skip"

    # -- requests ----------------------------------------------------------------------------------------------------

    def accept_upload(self, path: str, overrides: Overrides) -> Run:
        """Queue one folder because a person asks for it, as it is now. Raises :class:`OutboxError` with a clear answer."""
        real = os.path.realpath(path)
        root = self.root_of(real)
        judged = judge_by_hand(real, look_rules(self._settings, root))
        run = self.store.add(
            path=real, root=root.path if root else None, kind=formats.kind_of(judged.format), format=judged.format,
            birth=judged.snapshot.birth, site=self.site, now=time.time(),
        )  # fmt: skip
        if run.birth != judged.snapshot.birth and run.fingerprint != judged.snapshot.fingerprint:
            self.store.remake(run.key, birth=judged.snapshot.birth, site=self.site, reason="deleted and made anew")
            run = self.store.get(run.key) or run
        said = overrides.after(run.overrides)
        if not self.store.force(run.key, said, judged.judgement, judged.snapshot, now=time.time()):
            raise UserError(
                [f"{path} is being uploaded just now"], hint="wait for it with `wandb-outbox status --watch`"
            )
        return self.store.get(run.key) or run

    def _take_requests(self) -> None:
        version = self.store.data_version()
        if version == self._data_version:
            return
        self._data_version = version
        paused = bool(self.store.fact("paused"))
        if paused != self.deliverer.paused:
            self._log("paused" if paused else "resumed")
            self.deliverer.paused = paused
        for request in self.store.requests():
            self.store.answer(request.id, self._answer(request), now=time.time())

    def _answer(self, request: Request) -> dict[str, Any]:
        self._log("asked", verb=request.verb)
        match request.verb:
            case "upload":
                overrides = overrides_from_json(json.dumps(request.arguments["overrides"]))
                keys, problems = [], []
                for path in request.arguments["paths"]:
                    try:
                        keys.append(self.accept_upload(path, overrides).key)
                    except OutboxError as error:
                        problems.append(f"{error.message}; {error.hint}" if error.hint else error.message)
                self.deliverer.recheck()
                return {"keys": keys, "problems": problems}
            case "recheck":
                self.deliverer.recheck()
                return {}
            case "look":
                for path in request.arguments["paths"]:
                    self.intake.track(path)
                return {}
            case "flush":
                self.intake.look_everywhere()
                while not self.intake.caught_up():
                    self.intake.step()
                self.deliverer.recheck()
                return {}
            case _:
                return {"problems": [f"this executor (version {__version__}) does not know {request.verb!r}"]}

    # -- plumbing ----------------------------------------------------------------------------------------------------

    def _new_claim(self) -> str:
        """This executor's epoch: the boot and how often the lock was taken. No clock is in it."""
        generation = int(self.store.fact("generation") or 0) + 1
        self.store.set_fact("generation", generation)
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                boot = file.read().strip()
        except OSError:
            boot = "unknown"
        return f"{boot}:{generation}"

    def _mark(self) -> str:
        """What every process that this outbox starts carries in its environment."""
        mark = self.store.fact("mark")
        if not isinstance(mark, str):
            mark = secrets.token_hex(8)
            self.store.set_fact("mark", mark)
        return f"{mark}:"

    def _tell_format_faults(self) -> None:
        for fault in formats.faults()[self._told_faults :]:
            self._log("format-faulty", fault=fault)
            self._told_faults += 1

    def _tell_roots(self) -> None:
        problems = [self._problem_of(root) for root in self.intake.roots]
        if time.monotonic() - self._told_roots_at < TELL_ROOTS and problems == self._told_problems:
            return
        self._told_roots_at = time.monotonic()
        self._told_problems = problems
        watcher = self._watcher
        self.store.set_fact(
            "roots",
            [
                {
                    "path": root.settings.path,
                    "mode": "polling" if root.polling or watcher is None else "events",
                    "watched": watcher.watched_below(root.settings.path) if watcher else 0,
                    "overflows": watcher.overflows if watcher else 0,
                    "full_pass_seconds": None if root.full_pass_seconds is None else round(root.full_pass_seconds, 1),
                    "problem": problem,
                }
                for root, problem in zip(self.intake.roots, problems, strict=True)
            ],
        )

    def _make_watcher(self) -> tuple[Watcher | None, str | None]:
        """A watcher, or ``None`` and why there is none: then everything is polled."""
        try:
            return Watcher(self._wake.set), None
        except OSError as error:
            problem = (
                f"degraded: the kernel gives no file events ({error.strerror}), and everything is polled instead; raise "
                "fs.inotify.max_user_instances, and start again"
            )
            self._log("polling", reason=problem)
            return None, problem

    def _problem_of(self, root: RootWatch) -> str | None:
        return root.problem or root.unreadable_words or self._watch_problem()

    def _watch_problem(self) -> str | None:
        if self._no_watcher:
            return self._no_watcher
        refused = self._watcher.refused if self._watcher else 0
        if not refused:
            return None
        return (
            f"degraded: the kernel refused to watch {refused} directories, which are polled instead; raise "
            "fs.inotify.max_user_watches"
        )


def look_rules(settings: Settings, root: RootSettings | None) -> LookRules:
    """What the configuration says of a look at a folder of this root, or outside every root."""
    if root is None:
        return LookRules(leases=settings.leases(None))
    return LookRules(root.selection, root.detect, root.done_when, settings.leases(root))


def plan_rules(settings: Settings, root: RootSettings | None) -> dict[str, Any]:
    """The fields of a plan request that come from the configuration."""
    return {
        "rules": root.rules if root else RootRules(),
        "default_entity": settings.entity,
        "host": socket.gethostname() if settings.record_host else None,
    }
