"""Under which id a folder goes: ours by record, ours by what the server says, or a free one.

A run whose site or birth is not ours is never resumed, and a content that the server has under another name of the folder
is never sent a second time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wandb_outbox.deliver.attach import ASK_AGAIN, ENDED, directory_names, holds_digest, refusal, says_script
from wandb_outbox.deliver.digests import Digests
from wandb_outbox.deliver.existing import Existing, RemoteRun, there_of
from wandb_outbox.deliver.protocol import Job
from wandb_outbox.errors import Held
from wandb_outbox.model import ExistingRun, FileStat, Kind, Plan, run_id
from wandb_outbox.plan.live import ATTACHED

RESULTS = "results.json"
"""What the guide's upload script always sends: by its bytes a folder is told from another of the same name."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Under which id this folder goes, and what the server already has under it."""

    run_id: str
    incarnation: int
    remote: RemoteRun | None
    adopted: bool = False
    attached: bool = False
    """The experiment made this run itself: of it only what is ours may change."""


class Identify:
    """Finds the run of one job's folder."""

    def __init__(self, job: Job, existing: Existing, digests: Digests, note: Callable[[str], None]) -> None:
        """``note`` takes what a person should know of the search."""
        self._job = job
        self._existing = existing
        self._digests = digests
        self._note = note

    def identify(self, plan: Plan, entity: str) -> Identity:
        """The id to deliver under: ours by record, ours by what the server says, or a free one."""
        job = self._job
        # A newer unit of the folder has an id of its own, and the record is still that of the one before.
        if job.contacted and (plan.unit is None or plan.run_id == job.request.run_id):
            remote = self._existing.run(entity, plan.project, job.request.run_id)
            if remote is None or self._is_ours(remote):
                return Identity(job.request.run_id, job.request.incarnation, remote, attached=_is_attached(remote))
            if self._is_of_script(remote, plan):  # recorded, and killed before the run was told of it
                return Identity(remote.id, job.request.incarnation, remote, attached=True)
        for incarnation in itertools.count(job.request.incarnation):
            # The recorded id first: a folder that was renamed before its first contact keeps it. That of an offline run
            # comes before ours.
            recorded = incarnation == job.request.incarnation
            candidate = plan.run_id if recorded else run_id(job.request.site, job.request.path, incarnation)
            remote = self._existing.run(entity, plan.project, candidate)
            if remote is None:
                break
            if self._is_ours(remote) or (recorded and self._is_same_offline_run(remote, plan)):
                return Identity(candidate, incarnation, remote, attached=_is_attached(remote))
        # Also of a folder with a record: another outbox may have taken it up meanwhile, and its run with it.
        known, by_script = self._find_known(plan, entity)
        if known is not None:
            intent = known.config.get("outbox", {})
            return Identity(
                known.id, int(intent.get("incarnation", 0)), known, adopted=True, attached=_is_attached(known)
            )
        script = None if plan.replays or job.contacted else self._of_script(by_script, plan)
        if script is not None:
            return Identity(script.id, incarnation, script, attached=True)
        return Identity(candidate, incarnation, None)

    def _is_ours(self, remote: RemoteRun) -> bool:
        intent = remote.config.get("outbox")
        if not isinstance(intent, dict) or intent.get("site") != self._job.request.site:
            return False
        # An inode can change under a folder that did not (a restored backup, some overlays): then the local record
        # vouches for the path. Without one only the birth does.
        return intent.get("birth") == self._job.birth or (
            self._job.contacted and intent.get("path") == self._path(intent)
        )

    def _is_same_offline_run(self, remote: RemoteRun, plan: Plan) -> bool:
        """Whether somebody sent the offline run by hand, or another part of it went before."""
        if not plan.replays or remote.id != plan.replays[-1].run_id:
            return False
        intent = remote.config.get("outbox")
        if not isinstance(intent, dict):
            return True
        return plan.kind is Kind.OFFLINE_RUN and intent.get("site") == self._job.request.site

    def _path(self, intent: dict[str, Any]) -> object:
        root = self._job.request.root
        path = self._job.request.path
        return intent.get("path") if root is None else os.path.relpath(path, root)

    def _find_known(self, plan: Plan, entity: str) -> tuple[RemoteRun | None, list[RemoteRun]]:
        """Runs of this folder under whatever id, in one question.

        First one that holds this very content (state lost, folder moved); then those of which the config says that the
        guide's upload script made them of a folder of this name, the newest first.
        """
        mine = plan.config["outbox"]
        wanted: dict[str, Any] = {"config.outbox.fingerprint": plan.fingerprint}
        if _results(plan) is not None:
            names = directory_names(plan.path)
            there = [*names, *(f"{name}/" for name in names)]
            wanted = {"$or": [wanted, {"config.original_output_dir": {"$in": there}}]}
        by_script: list[RemoteRun] = []
        for remote in self._existing.runs(entity, plan.project, wanted):
            theirs = remote.config.get("outbox")
            if not isinstance(theirs, dict):
                by_script += [remote] if says_script(remote.config, plan.path) else []
                continue
            if theirs.get("fingerprint") != plan.fingerprint:
                continue
            same_place = theirs.get("site") == mine["site"] and theirs.get("path") == mine["path"]
            if theirs.get("birth") == self._job.birth or same_place:
                return remote, by_script
        return None, by_script

    def _of_script(self, candidates: list[RemoteRun], plan: Plan) -> RemoteRun | None:
        """The newest run that the guide's script made of this very folder. Raises :class:`Held` while it is being made."""
        for remote in candidates:
            if not self._is_of_script(remote, plan):
                self._note(
                    f"not-adopted: the run {remote.id} says that it is of a folder of this name, but has no artifact with "
                    f"this {RESULTS}: it may be of another machine, and is left alone"
                )
            elif remote.state not in ENDED and not self._job.insisted:
                raise Held(
                    f"{plan.path}: its run {remote.id}, made by an upload script, is {remote.state} on the server",
                    hint="it is looked at again every few minutes until it has ended; release it to attach the folder at once",
                    look_again_in=ASK_AGAIN,
                )
            else:
                return remote
        return None

    def _is_of_script(self, remote: RemoteRun, plan: Plan) -> bool:
        """Whether the guide's script made this run of this folder: a name stands on many machines, these bytes do not."""
        results = _results(plan)
        if "outbox" in remote.config or not says_script(remote.config, plan.path) or results is None:
            return False
        manifests = (
            {path: str(entry.digest) for path, entry in artifact.manifest.entries.items()}
            for artifact in remote.logged_artifacts()
            if artifact.state == "COMMITTED"
        )
        return holds_digest(manifests, RESULTS, self._digests.of(results))

    def live_run(self, plan: Plan, run: ExistingRun, entity: str) -> RemoteRun | Held:
        """The run that the folder logged itself, if it may be attached to it now; else why not."""
        sound = run.problem is None and run.entity in (None, entity)
        remote = self._existing.run(entity, plan.project, run.run_id) if sound else None
        there = None if remote is None else there_of(remote)
        mine = remote is None or self._may_attach(remote, plan)
        held = refusal(run, entity, plan.project, there, path=plan.path, mine=mine)
        if remote is None or (held is not None and not (self._job.insisted and held.look_again_in is not None)):
            return held or Held(f"{plan.path}: its run {run.run_id} is not there", hint="release it")
        return remote

    def _may_attach(self, remote: RemoteRun, plan: Plan) -> bool:
        """Whether nothing is attached to this run yet, or this folder, or (under whatever name) this very content."""
        intent = remote.config.get("outbox")
        if not isinstance(intent, dict) or self._is_ours(remote):
            return True
        return intent.get("birth") == self._job.birth or intent.get("fingerprint") == plan.fingerprint


def _is_attached(remote: RemoteRun | None) -> bool:
    intent = None if remote is None else remote.config.get("outbox")
    return isinstance(intent, dict) and intent.get(ATTACHED) is True


def _results(plan: Plan) -> FileStat | None:
    """The file by which a folder is told from another of the same name."""
    return next((file for artifact in plan.artifacts[:1] for file in artifact.files if file.path == RESULTS), None)
