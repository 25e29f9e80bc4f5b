"""The intake: sightings become looks, looks become verdicts, verdicts become rows.

One :meth:`Intake.step` does what is due and says when the next thing is; the loop around it is dumb. Everything it
remembers is a cache: after a restart, or when events were lost, a rescan brings it all back.
"""

from __future__ import annotations

import errno
import heapq
import os
import re
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace

from wandb_outbox.detect.completion import LINGER, Look, Patience, Trace, advance, judge, left_ago
from wandb_outbox.detect.leaps import Leap, lived, noticed
from wandb_outbox.detect.mounts import file_system_type, is_remote
from wandb_outbox.detect.scan import Found, Recognise, look, scan
from wandb_outbox.detect.watch import GATHER, Sighting, Watcher
from wandb_outbox.detect.writers import HolderMemory, probe_writers
from wandb_outbox.errors import DiskFull, FolderChanged, OutboxError, StateUnusable
from wandb_outbox.folder import MAX_DEPTH, OWN_DIRECTORY, FolderGone, Selection, Selector, birth_of, snapshot
from wandb_outbox.formats import bytes_to_send, evidence, kind_of, recognise, upload_wish
from wandb_outbox.model import OLDER, FormatEvidence, Judgement, Run, Snapshot, State, Verdict, WriterEvidence, Writers
from wandb_outbox.outbox.store import Store
from wandb_outbox.row import is_at_or_below
from wandb_outbox.settings import RootSettings
from wandb_outbox.steps import step

LOOK_GAP = 0.5
"""Seconds between two looks at one folder, however many events come."""
LOOK_SHARE = 0.1
"""Share of one core that the looks at one folder may take: one of a hundred thousand files takes a second."""
WRITER_POLL = 30.0
"""Seconds until a folder that somebody writes to is looked at without an event, at the latest."""
SLICE = 0.05
"""Seconds of work in one step, so that events and deliveries never wait long."""
SCAN_SHARE = 0.0025
"""Share of one core that the full passes may take."""
RECENT = 86_400.0
"""A directory between that changed within this many seconds is watched even with no active folder below it."""

QUIET = 3600.0
"""A folder that nobody writes to, and that has not changed for so many seconds, is judged without being watched."""
WAITING_IN_SIGHT = 100
"""Queued folders that are watched still, the newest; a month's backlog is looked at like what is at rest."""

COARSE = 2.0
"""A file system's clock may stand still for this many seconds (FAT's does; most tick every few milliseconds)."""

_SLURM = re.compile(r"(?:^|/)(?:slurm-[^/]*\.out|\.submitit/)")
"""What a job under Slurm leaves in its folder."""


@dataclass(slots=True)
class Tracked:
    """A run folder that is not at rest, and what the looks at it have added up to."""

    path: str
    root: RootSettings
    format: str
    due: float | None
    trace: Trace | None = None
    looked: float = float("-inf")
    gap: float = LOOK_GAP
    """Seconds from one look to the next at least: the more, the longer a look takes."""
    sighted: float = float("-inf")
    """When something of it was last seen to change."""
    judgement: Judgement | None = None
    watched: bool = False
    """Events of it, and of all its subfolders, reach us."""


@dataclass(slots=True)
class RootWatch:
    """One root and how it is kept in sight."""

    settings: RootSettings
    polling: bool
    between: dict[str, int]
    """Directories between the root and its run folders, with their mtime when they were last listed."""
    resting: dict[str, int]
    """Run folders that nothing is to be done for, unless they change, with their mtime."""
    unreadable: dict[str, None] = field(default_factory=dict)
    """Directories that could not be read: tried again with every scan."""
    problem: str | None = None
    mounted: bool = False
    """Something was mounted here when last seen: an empty directory in its place says nothing of the run folders."""
    next_scan: float = 0.0
    full_pass_seconds: float | None = None

    @property
    def unreadable_words(self) -> str | None:
        """What cannot be seen below this root, for a person; ``None`` when all can."""
        if not self.unreadable:
            return None
        more = f" and {len(self.unreadable) - 1} more directories" if len(self.unreadable) > 1 else ""
        return f"{next(iter(self.unreadable))}{more} may not be read by this user: a run in there is not seen"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says of detection; seconds and bytes."""

    patience: Patience
    rescan: float
    max_bytes: int
    hold: bool
    crash_grace_slurm: float
    backlog_after: float | None
    """``None``: no folder is too old to be sent (``flush``)."""
    leases: bool


class Intake:
    """Keeps the outbox true to the folders below the roots. Not thread-safe: one loop owns it."""

    def __init__(
        self,
        store: Store,
        roots: Sequence[RootSettings],
        policy: Policy,
        *,
        site: str,
        watcher: Watcher | None,
        now: Callable[[], float],
        tick: Callable[[], float],
        log: Callable[..., None],
    ) -> None:
        self._store = store
        self._policy = policy
        self._site = site
        self._watcher = watcher
        self._now = now
        self._tick = tick
        self._log = log
        self._tracked: dict[str, Tracked] = {}
        self._agenda: list[tuple[float, str]] = []
        """When a folder is to be looked at again. What is not the folder's own ``due`` any more is passed over."""
        self._unseen: dict[str, int] = {}
        """Folders that were found and not looked at yet, with the negative of their time: there may be very many."""
        self._newest: list[tuple[int, str]] = []
        """The same with the newest on top: it is the likeliest to be alive. What is not unseen any more is passed over."""
        self._waiting: dict[str, None] = {}
        self._holders = HolderMemory(tick)
        self._others = frozenset(root.path for root in roots)
        # The innermost root owns a folder, so the longest path is asked first.
        ordered = sorted({root.path: root for root in roots}.values(), key=lambda root: -len(root.path))
        self.roots = [
            RootWatch(
                root,
                polling=is_remote(file_system_type(root.path)) if root.polling is None else root.polling,
                between={},
                resting={},
                mounted=bool(store.fact(_fact_of_root("mounted", root.path))),
            )
            for root in ordered
        ]
        for path, mtime_ns in store.known_folders():
            if (owner := self.root_of(path)) is not None:
                owner.resting[path] = mtime_ns  # of what is being written none is equal: it is looked at first of all
        for path in store.waiting_by_hand():
            if self.root_of(path) is None:
                self.track(path)
        self._selectors: dict[str, Selector] = {root.path: root.selection.selector() for root in ordered}
        self._plain_selector = Selection().selector()
        self.main_ended = False
        """The main container beside this sidecar has ended: what cannot be seen is not written any more."""
        self._leaps = self._kept_leaps = tuple(Leap(*leap) for leap in store.fact("leaps") or ())
        self._clocks = now(), tick()
        self._full_pass: Iterator[None] | None = None
        self._next_slice = 0.0

    # -- the step ----------------------------------------------------------------------------------------------------

    def step(self) -> float:
        """Do what is due, for about :data:`SLICE` seconds at most; returns in how many seconds the next thing is due."""
        self._notice_leaps()
        start = self._tick()
        longest = float("inf")
        if self._watcher is not None:
            if self._watcher.take_overflow():
                self._log("events-lost", action="rescan")
                self.rescan()
            for sighting in self._watcher.drain():
                self._sighted(sighting)
                longest = GATHER
        if self._watcher is not None and any(root.next_scan <= start for root in self.roots):
            self._watcher.retry()  # before the scan, so that what came until now is found by one of them
        for root in self.roots:
            if root.next_scan <= start:
                self._cheap_scan(root)
                root.next_scan = self._tick() + self._policy.rescan
        while (tracked := self._next_up()) is not None:
            self._look_at(tracked)
            if self._tick() - start > SLICE:
                break
        self._advance_full_pass()
        return max(0.0, min(self._next_due() - self._tick(), longest))

    def end_of_main(self) -> None:
        """The main container has ended (``--sidecar``): look at everything once more in this light."""
        self.main_ended = True
        self.look_everywhere()
        for run in self._store.list([State.HELD]):
            if run.verdict == Verdict.STALLED.value:
                self.track(run.path)
        for tracked in self._tracked.values():
            tracked.judgement = None  # what was said before does not count any more: wait for what is said now
            self._set_due(tracked, self._tick())

    def rescan(self) -> None:
        """Events were lost: list every root anew at once, and begin the pass over what is at rest."""
        for root in self.roots:
            root.next_scan = 0.0
            root.between.clear()
        self._full_pass, self._next_slice = None, 0.0

    def look_everywhere(self) -> None:
        """List every root and compare every folder, now and without a pause: what ``flush`` asks for."""
        for root in self.roots:
            root.between.clear()
            self._cheap_scan(root)
            root.next_scan = self._tick() + self._policy.rescan
        for _ in self._pass_over_resting():
            pass
        for tracked in self._tracked.values():
            # However lately it was looked at: a writer seen then may be gone by now.
            self._set_due(tracked, self._tick())

    def scan_nothing(self) -> None:
        """Know the roots and their rules, but look for nothing below them (``upload`` names its folders)."""
        for root in self.roots:
            root.next_scan = float("inf")

    def settling(self, path: str | None = None) -> bool:
        """Whether something, or this folder, is about to be decided by time alone: settle, confirmation or crash grace."""
        if (self._unseen and path is None) or path in self._unseen:
            return True
        return any(
            tracked.judgement is None or tracked.judgement.verdict is Verdict.SETTLING
            for tracked in self._tracked.values()
            if tracked.due is not None and path in (None, tracked.path)
        )

    def decides_within(self, seconds: float) -> bool:
        """Whether time alone is about to decide something so soon."""
        soon = self._tick() + seconds
        return any(
            tracked.due is not None
            and tracked.due <= soon
            and tracked.judgement is not None
            and tracked.judgement.verdict is Verdict.SETTLING
            for tracked in self._tracked.values()
        )

    def caught_up(self) -> bool:
        """Whether every root was scanned and every folder that is due was looked at."""
        tick = self._tick()
        return all(root.next_scan > tick for root in self.roots) and self._next_look() > tick

    def track(self, path: str) -> None:
        """Look at this folder soon: it changed, or its upload found it changed.

        Also where it lies outside every root, or looks like no run at all, because a person named it: it is looked at in
        a rhythm until it is finished.
        """
        self._unseen.pop(path, None)
        tracked = self._tracked.get(path)
        if tracked is None:
            root, run = self.root_of(path), self._store.by_path(path)
            recognised = self._recognise(root) if root is not None else recognise
            found, _ = look(path, recognised)
            kind = None if found is None else found.format or (None if run is None else run.format)
            if found is None or kind is None:
                self._vanished(path)
                return
            settings = RootSettings(path=path) if root is None else root.settings
            tracked = self._tracked[path] = Tracked(path, settings, kind, None, sighted=self._tick())
            if root is not None:
                root.resting.pop(path, None)
        self._schedule(tracked, self._tick())

    def rest(self, path: str) -> None:
        """This folder is uploaded, or waits with many others: stop watching it, and look only at what the rescan finds."""
        tracked = self._tracked.get(path)
        if tracked is None or tracked.due is not None:
            return  # something was seen since: the look that is due decides
        self._settle_down(tracked)

    def writer_of(self, path: str) -> str | None:
        """Who writes to a folder that was found finished, in words; ``None`` when nobody is seen."""
        root = self.root_of(path)
        settings = RootSettings(path=path) if root is None else root.settings
        try:
            taken = snapshot(path, self._selectors.get(settings.path, self._plain_selector))
            found = probe_writers(path, taken, leases=self._leases(settings), find=self._holders.find)
        except OutboxError:
            return None  # whoever is to upload it will meet it, too, and knows what follows
        return found.detail if found.writers is Writers.WRITER else None

    def root_of(self, path: str) -> RootWatch | None:
        """The innermost root that the path is, or lies below."""
        return next((root for root in self.roots if is_at_or_below(path, root.settings.path)), None)

    # -- scanning ----------------------------------------------------------------------------------------------------

    def _recognise(self, root: RootWatch) -> Recognise:
        top, patterns = root.settings.path, root.settings.detect

        def decide(path: str, names: Collection[str]) -> str | None:
            # The root itself holds run folders; it is one only if the experiment says so by a marker.
            return recognise(path, names, detect=patterns if path != top else ())

        return decide

    def _cheap_scan(self, root: RootWatch) -> None:
        """List what changed between the root and its run folders, and compare the times of those at rest."""
        top = root.settings.path
        problem = self._problem_of(root)
        if problem != root.problem:
            self._log("root-unusable" if problem else "root-usable", root=top, problem=problem)
            root.problem = problem
        if problem is not None:
            root.between.clear()
            return
        self._remember_mount(root)
        if self._policy.backlog_after is not None:
            self._first_seen(top)
        if top not in root.between:
            self._scan_below(root, top)
        else:
            for path, mtime_ns in list(root.between.items()):
                now_ns = _mtime_ns(path)
                if now_ns is None:
                    root.between.pop(path, None)
                elif now_ns != mtime_ns and path in root.between:
                    self._scan_below(root, path)
        for path in list(root.unreadable):
            if not _is_unreadable(path):
                del root.unreadable[path]
                if not _is_gone(path):
                    self._scan_below(root, path)
        for path, mtime_ns in list(root.resting.items()):
            if _mtime_ns(path) != mtime_ns:
                self._wake_up(path, root)
        self._let_go(root)

    def _let_go(self, root: RootWatch) -> None:
        """Stop watching the directories between that have not changed for long and have nothing active below them."""
        now_ns = self._now() * 1e9
        recent = [path for path, mtime_ns in root.between.items() if mtime_ns < 0 or now_ns - mtime_ns < RECENT * 1e9]
        kept = {root.settings.path}
        for each in (*recent, *self._tracked):
            above = each
            while above not in kept and is_at_or_below(above, root.settings.path):
                kept.add(above)
                above = os.path.dirname(above)
        for path in root.between:
            if self._watcher is not None and path not in kept and self._is_watched(path):
                self._watcher.unwatch(path)

    def _unreadable_below(self, root: RootWatch, path: str) -> None:
        if path in root.unreadable or not _is_unreadable(path):
            return  # it has vanished
        root.unreadable[path] = None
        self._log("directory-unreadable", path=path, root=root.settings.path, action="tried again with every scan")

    def _problem_of(self, root: RootWatch) -> str | None:
        top = root.settings.path
        if problem := _root_problem(top):
            return problem
        if root.mounted and not os.path.ismount(top) and _is_empty(top):
            return "nothing is mounted there any more; it is looked for again at every rescan"
        return None

    def _remember_mount(self, root: RootWatch) -> None:
        mounted = os.path.ismount(root.settings.path)
        if mounted != root.mounted:
            root.mounted = mounted
            self._store.set_fact(_fact_of_root("mounted", root.settings.path), mounted)

    def _scan_below(self, root: RootWatch, top: str) -> None:
        """Find what is not known yet at and below ``top``, and watch what should be watched."""
        others = self._others - {root.settings.path}
        tops = [top]
        while tops:
            top = tops.pop()
            # Directories between that are known have times of their own, which are compared one by one.
            known = _AnyOf(root.resting, self._tracked, self._unseen, root.between)
            # Listed first, watched then: what came between the two would be known to nobody.
            tops += [
                found.path
                for found in scan(
                    top,
                    self._recognise(root),
                    others=others,
                    known=known,
                    unreadable=lambda path: self._unreadable_below(root, path),
                )
                if self._found(root, found) and self._may_have_changed(found)
            ]

    def _may_have_changed(self, found: Found) -> bool:
        return _mtime_ns(found.path) != found.mtime_ns or self._now() - found.mtime_ns / 1e9 < COARSE

    def _found(self, root: RootWatch, found: Found) -> bool:
        """Take note of a directory; whether it is one between that is watched from now on, and was not before."""
        if found.format is None:
            age = self._now() - found.mtime_ns / 1e9
            # What changes within the same tick of the file system's clock shows no newer time.
            root.between[found.path] = -1 if age < COARSE else found.mtime_ns
            recent = found.path == root.settings.path or age < RECENT
            return recent and not self._is_watched(found.path) and self._watch(root, found.path)
        known = found.path in self._tracked or found.path in self._unseen
        if known or root.resting.get(found.path) == found.mtime_ns:
            return False
        root.resting.pop(found.path, None)
        if root.between.pop(found.path, None) is not None:
            for path in [path for path in root.between if is_at_or_below(path, found.path)]:
                del root.between[path]
        self._unseen[found.path] = -found.mtime_ns
        heapq.heappush(self._newest, (-found.mtime_ns, found.path))
        return False

    def _wake_up(self, path: str, root: RootWatch) -> None:
        root.resting.pop(path, None)
        found, _ = look(path, self._recognise(root))
        if found is not None and found.format is not None:
            self._found(root, found)
        elif found is None and not _is_gone(path):
            root.resting[path] = -1  # it may not be read now: looked at again with every scan
        else:
            self._vanished(path)

    def _advance_full_pass(self) -> None:
        """One slice of the pass over every folder at rest, which finds what events and directory times cannot show.

        An in-place rewrite changes no directory's time. The pass pauses after each slice for as long as keeps its
        share of a core, so its period follows from the size of the tree.
        """
        start = self._tick()
        if start < self._next_slice:
            return
        if self._full_pass is None:
            self._full_pass = self._pass_over_resting()
        spent = 0.0
        for _ in self._full_pass:
            spent = self._tick() - start
            if spent > SLICE / 10:
                break
        else:
            self._full_pass = None
            self._next_slice = self._tick() + max(spent / SCAN_SHARE, self._policy.rescan)
            return
        self._next_slice = self._tick() + spent / SCAN_SHARE

    def _pass_over_resting(self) -> Iterator[None]:
        for root in self.roots:
            began = self._tick()
            selector = self._selectors[root.settings.path]
            # The newest first: they are the likeliest to be taken up again.
            for path in reversed(list(root.resting)):
                if path not in root.resting or root.problem is not None:
                    continue
                run = self._store.by_path(path)
                try:
                    changed = run is None or snapshot(path, selector).fingerprint != run.fingerprint
                except OutboxError:
                    changed = True
                if changed:
                    self._wake_up(path, root)
                yield
            root.full_pass_seconds = self._tick() - began

    # -- events ------------------------------------------------------------------------------------------------------

    def _sighted(self, sighting: Sighting) -> None:
        path = os.path.join(sighting.directory, sighting.name) if sighting.name else sighting.directory
        tracked = self._tracked_above(path)
        if tracked is not None:
            if sighting.is_directory and sighting.appeared:
                tracked.watched &= self._watch_tree(tracked, path)
            tracked.sighted = self._tick()
            self._schedule(tracked, tracked.sighted)
            return
        root = self.root_of(path)
        if root is None:
            return
        if not sighting.name:
            # It went, or has another name now; what lay below it is watched no more, wherever it is by now.
            if self._watcher is not None:
                self._watcher.unwatch(path)
            for below in [below for below in root.between if is_at_or_below(below, path)]:
                del root.between[below]
            for moved in self._tracked.values():
                if is_at_or_below(moved.path, path):
                    moved.watched = False
                    self._schedule(moved, self._tick())
            root.next_scan = 0.0
            return
        # What came or went may have made its directory a run folder, or have been one; and others came with it whose
        # own events were lost.
        if sighting.directory in root.between:
            self._scan_below(root, sighting.directory)
        else:
            found, _ = look(sighting.directory, self._recognise(root))
            if found is not None and found.format is not None:
                self._found(root, found)
            elif found is not None and sighting.is_directory and sighting.appeared:
                self._scan_below(root, path)
        if not sighting.appeared:
            for known in [known for known in root.resting if is_at_or_below(known, path)]:
                self._wake_up(known, root)

    def _tracked_above(self, path: str) -> Tracked | None:
        while len(path) > 1:
            tracked = self._tracked.get(path)
            if tracked is not None:
                return tracked
            path = os.path.dirname(path)
        return None

    def _is_watched(self, path: str) -> bool:
        return self._watcher is not None and self._watcher.is_watched(path)

    def _watch(self, root: RootWatch, path: str) -> bool:
        return self._watcher is not None and not root.polling and self._watcher.watch(path)

    def _watch_tree(self, tracked: Tracked, top: str) -> bool:
        """Watch a run folder's directory and those below it; whether all of them are watched."""
        root = self.root_of(tracked.path)
        if root is None or not self._watch(root, top):
            return False
        own = os.path.join(tracked.path, OWN_DIRECTORY)
        complete = True
        for directory, names, _ in os.walk(top):
            names[:] = [name for name in names if os.path.join(directory, name) != own]
            for name in names:
                complete &= self._watch(root, os.path.join(directory, name))
            if directory.count("/") - tracked.path.count("/") >= MAX_DEPTH:
                names.clear()  # what lies deeper is not sent either
        return complete

    # -- looking -----------------------------------------------------------------------------------------------------

    def _schedule(self, tracked: Tracked, at: float) -> None:
        at = max(at, tracked.looked + tracked.gap)
        if tracked.due is None or at < tracked.due:
            self._set_due(tracked, at)

    def _set_due(self, tracked: Tracked, at: float) -> None:
        tracked.due = at
        heapq.heappush(self._agenda, (at, tracked.path))

    def _next_up(self) -> Tracked | None:
        """The folder to look at now, if there is one; its entry is taken off.

        What was looked at before comes first: of thousands of folders that are new at once, each is done with, and no
        longer watched and kept in mind, before many others are begun.
        """
        while (at := self._next_look()) <= self._tick():
            if at > float("-inf"):
                return self._tracked[heapq.heappop(self._agenda)[1]]
            _, path = heapq.heappop(self._newest)
            self.track(path)
        return None

    def _next_look(self) -> float:
        """When the next look is due, with no end in the past for what is unseen; what is out of date is taken off."""
        while self._agenda:
            at, path = self._agenda[0]
            tracked = self._tracked.get(path)
            if tracked is not None and tracked.due == at:
                break
            heapq.heappop(self._agenda)
        due = self._agenda[0][0] if self._agenda else float("inf")
        while self._newest and self._unseen.get(self._newest[0][1]) != self._newest[0][0]:
            heapq.heappop(self._newest)
        return float("-inf") if self._newest and due > self._tick() else due

    def _look_at(self, tracked: Tracked) -> None:
        tracked.due = None
        tracked.looked = self._tick()
        try:
            self._judge(tracked)
        except (DiskFull, StateUnusable):
            self._schedule(tracked, self._tick() + LOOK_GAP)
            raise
        except FolderGone:
            self._vanished(tracked.path)
        except FolderChanged:
            self._schedule(tracked, self._tick() + LOOK_GAP)
        except OutboxError as error:
            self._unreadable(tracked, error)
        tracked.gap = max(LOOK_GAP, (self._tick() - tracked.looked) / LOOK_SHARE)

    def _judge(self, tracked: Tracked) -> None:
        selector = self._selectors.get(tracked.root.path, self._plain_selector)
        taken = snapshot(tracked.path, selector)
        if self._now() - taken.newest_ctime_ns / 1e9 < QUIET and self._keep_in_sight(tracked):
            # Watch first, then look: what happens between the two is seen by one of them.
            taken = snapshot(tracked.path, selector)
        run = self._row(tracked, taken)
        if run.state is State.UPLOADING:
            self._schedule(tracked, self._tick() + 1.0)
            return
        if run.state is State.SKIPPED and run.by_person:
            self._settle_down(tracked)
            return
        if run.state is not State.WRITING:
            if taken.fingerprint == run.fingerprint and not self._is_stalled_no_more(tracked, run, taken):
                self._wait_or_settle(tracked, run)
                return
            self._store.reopen(run.key, "changed since it was found complete")
            run = self._store.get(run.key) or run
        writers = probe_writers(tracked.path, taken, leases=self._leases(tracked.root), find=self._holders.find)
        if writers.writers is Writers.UNKNOWN and self.main_ended:
            writers = WriterEvidence(Writers.FREE, "the main container has ended")
        # What an earlier process, or this one under the folder's earlier name, saw of a writer is in the row only.
        now = self._now_for(run.verdict_since or 0.0)
        before = left_ago(run.verdict, run.verdict_since, now=now)
        tracked.trace = advance(tracked.trace, Look(self._tick(), taken, writers), left_ago=before)
        # While somebody writes, what the folder says of its end matters only for telling that a writer lingers.
        now = self._now_for(taken.newest_ctime_ns / 1e9)
        lively = writers.writers is Writers.WRITER and now - taken.newest_ctime_ns / 1e9 < LINGER
        found = FormatEvidence()
        if not lively:
            tracked.format = self._format_now(tracked)
            found = self._evidence(tracked, taken)
        # What changed while it was uploaded on a person's word goes on that word when it is quiet.
        delivered = None if run.forced else run.delivered_fingerprint
        reopened = delivered is not None and taken.fingerprint != delivered
        judgement = judge(
            tracked.trace, found, self._patience(tracked.path, tracked.root, taken), now=now, reopened=reopened
        )
        tracked.judgement = judgement
        self._apply(tracked, run, judgement, taken, found)
        if writers.writers is Writers.WRITER and self._keep_in_sight(tracked):
            self._schedule(tracked, self._tick())  # it was quiet for long: what came since the look has no event

    def _keep_in_sight(self, tracked: Tracked) -> bool:
        """Watch this folder, those in it and those above; whether that is new."""
        root = self.root_of(tracked.path)
        if tracked.watched or root is None or not self._watch(root, tracked.path):
            return False
        tracked.watched = self._watch_tree(tracked, tracked.path)
        self._watch_parents(root, tracked.path)
        return True

    def _is_stalled_no_more(self, tracked: Tracked, run: Run, taken: Snapshot) -> bool:
        """Whether a stalled folder can be judged by now: ``.outbox-done``, which changes no fingerprint, or no writer left."""
        stalled = run.state is State.HELD and run.verdict == Verdict.STALLED.value
        return stalled and (self.main_ended or self._evidence(tracked, taken).done is not None)

    def _format_now(self, tracked: Tracked) -> str:
        """What the folder is by now: at the first sighting what tells its format may not have been there."""
        root = self.root_of(tracked.path)
        found, _ = look(tracked.path, self._recognise(root)) if root is not None else (None, [])
        return tracked.format if found is None or found.format is None else found.format

    def _evidence(self, tracked: Tracked, taken: Snapshot) -> FormatEvidence:
        return evidence(tracked.format, tracked.path, taken, tracked.root.done_when)

    def _leases(self, root: RootSettings) -> bool:
        return self._policy.leases if root.probe is None else root.probe == "lease"

    def _patience(self, path: str, root: RootSettings, taken: Snapshot) -> Patience:
        everywhere = self._policy.patience
        patience = Patience(
            everywhere.settle if root.settle is None else root.settle,
            everywhere.crash_grace if root.crash_grace is None else root.crash_grace,
            everywhere.stalled_after if root.stalled_after is None else root.stalled_after,
        )
        under_slurm = any(_SLURM.search(file.path) for file in taken.files) or _is_job_of_submitit(path, root.path)
        grace = max(patience.crash_grace, self._policy.crash_grace_slurm) if under_slurm else patience.crash_grace
        return replace(patience, crash_grace=grace)

    def _row(self, tracked: Tracked, taken: Snapshot) -> Run:
        """The row of this folder: its own, that of the folder it was renamed from, or a new one."""
        root = self._top_of(tracked)
        run = self._store.by_path(tracked.path)
        if run is None:
            for candidate in self._store.by_birth(taken.birth):
                if os.path.lexists(candidate.path):
                    continue
                if taken.birth.endswith(":0") and candidate.fingerprint != taken.fingerprint:
                    continue  # no birth times here: an inode alone is handed out again to another folder
                if candidate.state is State.UPLOADING:
                    raise FolderChanged(f"{tracked.path} was renamed while it was uploaded: wait for that to end")
                if self._store.move(candidate.key, path=tracked.path, root=root):
                    self._log("folder-renamed", path=tracked.path, was=candidate.path, run=candidate.run_id)
                    self._forget(candidate.path)
                    break
            run = self._store.add(
                path=tracked.path, root=root, kind=kind_of(tracked.format), format=tracked.format, birth=taken.birth,
                site=self._site, now=self._now(),
            )  # fmt: skip
            step("intake.row-added")
        if run.gone:
            self._store.return_(run.key)
        if run.birth != taken.birth and run.state is not State.UPLOADING:
            if taken.fingerprint == run.fingerprint:
                self._store.rebirth(run.key, birth=taken.birth)
            elif self._store.remake(run.key, birth=taken.birth, site=self._site, reason="deleted and made anew"):
                self._log("folder-remade", path=tracked.path, run=run.run_id)
        return self._store.get(run.key) or run

    def _apply(self, tracked: Tracked, run: Run, judgement: Judgement, taken: Snapshot, found: FormatEvidence) -> None:
        if run.format != tracked.format:
            self._note(tracked, run, judgement, None)
        match judgement.verdict:
            case Verdict.COMPLETE | Verdict.CRASHED if upload_wish(tracked.path, taken) == "never":
                self._store.skip(run.key, "outbox.yaml says upload: never", judgement, taken)
            case Verdict.COMPLETE | Verdict.CRASHED if taken.live and tracked.root.live_runs == "skip":
                self._store.skip(run.key, f"{_logged_live(taken)}, and live_runs = skip", judgement, taken)
            case Verdict.COMPLETE:
                self._store.enqueue(
                    run.key, judgement, taken, now=self._now(), hold=self._hold_reason(tracked, run, taken, judgement)
                )
            case Verdict.CRASHED:
                self._crashed(tracked, run, judgement, taken, found)
            case Verdict.STALLED:
                self._store.enqueue(run.key, judgement, taken, now=self._now(), hold=judgement.reason)
            case _:
                wait = judgement.look_again_in
                rhythm = self._rhythm(tracked)
                wait = rhythm if wait is None else min(wait, rhythm)
                self._note(tracked, run, judgement, wait)
                self._set_due(tracked, self._tick() + min(wait, self._soon_after_event(tracked)))
                return
        step("intake.queued")
        tracked.trace = None
        after = self._store.get(run.key)
        if after is not None and after.state is not run.state:
            self._log(
                "decided", path=tracked.path, run=after.run_id, state=after.state.value, verdict=judgement.verdict.value,
                reason=after.reason,
            )  # fmt: skip
        if after is not None:
            self._wait_or_settle(tracked, after)

    def _wait_or_settle(self, tracked: Tracked, run: Run) -> None:
        """What waits for its turn stays in sight, by its events, while not too many do; the others are at rest."""
        if run.state is not State.QUEUED or not tracked.watched:
            self._settle_down(tracked)
            return
        self._waiting[tracked.path] = None
        if len(self._waiting) > WAITING_IN_SIGHT:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            self.rest(oldest)

    def _note(self, tracked: Tracked, run: Run, judgement: Judgement, wait: float | None) -> bool:
        now = self._now()
        return self._store.note(
            run.key, judgement, format=tracked.format, root=self._top_of(tracked), now=now,
            look_at=None if wait is None else now + wait,
        )  # fmt: skip

    def _rhythm(self, tracked: Tracked) -> float:
        """Seconds until a folder is looked at without an event; without events at all, sooner the newer its content."""
        if tracked.watched or tracked.trace is None:
            return WRITER_POLL
        quiet = tracked.trace.looked - tracked.trace.same_since
        return min(max(quiet / 10, 1.0), max(self._policy.rescan, 1.0))

    def _soon_after_event(self, tracked: Tracked) -> float:
        """Seconds until a folder with a writer is looked at once more: as many as have passed since its last event.

        Of what dies together the last file may be closed an instant later, where no event of it reaches us.
        """
        if tracked.trace is None or tracked.trace.writers.writers is not Writers.WRITER:
            return float("inf")
        return max(self._tick() - tracked.sighted, tracked.gap)

    def _crashed(
        self, tracked: Tracked, run: Run, judgement: Judgement, taken: Snapshot, found: FormatEvidence
    ) -> None:
        on_crash = tracked.root.on_crash
        if found.nothing_to_show or on_crash == "skip":
            why = "nothing to show" if found.nothing_to_show else "on_crash = skip"
            self._store.skip(run.key, f"crashed, {why}: {judgement.reason}", judgement, taken)
            return
        hold = self._hold_reason(tracked, run, taken, judgement)
        if on_crash == "hold":
            hold = hold or f"crashed, and on_crash = hold: {judgement.reason}"
        self._store.enqueue(run.key, judgement, taken, now=self._now(), hold=hold)

    def _hold_reason(self, tracked: Tracked, run: Run, taken: Snapshot, judgement: Judgement) -> str | None:
        """Why a finished folder waits for a person, or ``None``."""
        if not taken.files and not taken.offline:
            return "there is no file to upload in it"
        if upload_wish(tracked.path, taken) == "hold":
            return (
                f"outbox.yaml says upload: hold, or something else that is no consent: see `plan`; {judgement.reason}"
            )
        size = bytes_to_send(tracked.format, taken, tracked.root.log_model)
        if size > self._policy.max_bytes:
            return f"{size:,} bytes are more than max_bytes ({self._policy.max_bytes:,})"
        if taken.live and tracked.root.live_runs == "hold":
            return f"{_logged_live(taken)}, and live_runs = hold; {judgement.reason}"
        if run.hold:
            return f"held by a person; {judgement.reason}"
        hold = tracked.root.hold if tracked.root.hold is not None else self._policy.hold
        if hold:
            return f"hold = true for this root; {judgement.reason}"
        backlog_after = self._policy.backlog_after
        if backlog_after is not None and tracked.root.backlog_after is not None:
            backlog_after = tracked.root.backlog_after
        in_root = self._top_of(tracked) is not None
        if in_root and backlog_after is not None and run.delivered_fingerprint is None:
            first = self._first_seen(tracked.root.path)
            quiet = lived(taken.newest_ctime_ns / 1e9, first, self._leaps)
            if quiet > backlog_after:
                return f"{OLDER}: quiet for {quiet / 86_400:.0f} days when it began"
        return None

    def _top_of(self, tracked: Tracked) -> str | None:
        """The root that the folder lies below, or ``None`` for one that was given by hand outside every root."""
        root = self.root_of(tracked.path)
        return None if root is None else root.settings.path

    def _first_seen(self, root: str) -> float:
        """When a daemon first saw this root; kept for ever, so that a restart makes no new backlog."""
        name = _fact_of_root("root", root)
        first = self._store.fact(name)
        if first is None:
            first = self._now()
            self._store.set_fact(name, first)
        return float(first)

    def _watch_parents(self, root: RootWatch, path: str) -> None:
        while path != root.settings.path and len(path) > len(root.settings.path):
            path = os.path.dirname(path)
            self._watch(root, path)

    # -- leaving -----------------------------------------------------------------------------------------------------

    def _settle_down(self, tracked: Tracked) -> None:
        self._forget(tracked.path)
        mtime_ns = _mtime_ns(tracked.path)
        root = self.root_of(tracked.path)
        if mtime_ns is not None and root is not None:
            root.resting[tracked.path] = mtime_ns

    def _vanished(self, path: str) -> None:
        self._forget(path)
        root = self.root_of(path)
        if root is not None and self._problem_of(root) is not None:
            # The whole root is away (unmounted, renamed): that says nothing of its folders until it is back.
            root.resting[path] = -1
            return
        run = self._store.by_path(path)
        if run is not None and self._store.vanish(run.key):
            self._log("folder-gone", path=path, run=run.run_id, state=run.state.value)

    def _forget(self, path: str) -> None:
        self._tracked.pop(path, None)
        self._unseen.pop(path, None)
        self._waiting.pop(path, None)
        root = self.root_of(path)
        if root is not None:
            root.resting.pop(path, None)
        if self._watcher is not None:
            self._watcher.unwatch(path)

    def _unreadable(self, tracked: Tracked, error: OutboxError) -> None:
        run = self._store.by_path(tracked.path)
        if run is None:
            try:
                birth = birth_of(tracked.path)
            except OutboxError:  # not even that can be seen: there is no row to say it in
                self._log("folder-unreadable", path=tracked.path, reason=error.message)
                self._schedule(tracked, self._tick() + self._policy.rescan)
                return
            run = self._store.add(
                path=tracked.path, root=self._top_of(tracked), kind=kind_of(tracked.format), format=tracked.format, birth=birth,
                site=self._site, now=self._now(),
            )  # fmt: skip
        judgement = Judgement(Verdict.WRITING, f"{error.message}; {error.hint}" if error.hint else error.message)
        tracked.judgement = judgement
        if self._note(tracked, run, judgement, self._policy.rescan):
            self._log("folder-unreadable", path=tracked.path, reason=error.message)
        self._schedule(tracked, self._tick() + self._policy.rescan)

    def _notice_leaps(self) -> None:
        """Remember, for later processes too, when the wall clock went further than the time that has passed."""
        wall, tick = self._clocks
        now, now_tick = self._clocks = self._now(), self._tick()
        leaps = noticed(self._leaps, wall, tick, now=now, now_tick=now_tick)
        if leaps != self._leaps:
            self._leaps = leaps
            self._log(
                "clock-leapt", seconds=round(now - wall - (now_tick - tick), 1), action="not counted as quiet time"
            )
        if leaps != self._kept_leaps:
            self._store.set_fact("leaps", [[leap.at, leap.by] for leap in leaps])
            self._kept_leaps = leaps

    def _now_for(self, since: float) -> float:
        """What the wall clock would say now if it had not leapt since then."""
        return since + lived(since, self._now(), self._leaps)

    def _next_due(self) -> float:
        return min([self._next_look(), *(root.next_scan for root in self.roots), self._next_slice])


class _AnyOf:
    """Whether something is in any of several collections, without putting them together."""

    def __init__(self, *collections: Container[str]) -> None:
        self._collections = collections

    def __contains__(self, item: object) -> bool:
        return any(item in each for each in self._collections)


def _is_job_of_submitit(path: str, root: str) -> bool:
    """Whether Hydra's launcher for Slurm began it: it keeps its own files beside the jobs, in the sweep's directory."""
    while (path := os.path.dirname(path)) != root and is_at_or_below(path, root):
        if os.path.isdir(os.path.join(path, ".submitit")):
            return True
    return False


def _logged_live(taken: Snapshot) -> str:
    return f"it logged a run to W&B itself ({taken.live[-1].path.split('/')[-2]})"


def _mtime_ns(path: str) -> int | None:
    try:
        return os.stat(path, follow_symlinks=False).st_mtime_ns
    except OSError:
        return None


def _is_gone(path: str) -> bool:
    """Whether there is nothing under this name; what cannot be told counts as there."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


def _fact_of_root(kind: str, path: str) -> str:
    return f"{kind}:{os.fsencode(path).hex()}"


def _is_empty(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _is_unreadable(path: str) -> bool:
    """Whether there is a directory here that this user may not list."""
    try:
        os.scandir(path).close()
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno not in (errno.ENOTDIR, errno.ELOOP)
    return False


def _root_problem(path: str) -> str | None:
    """Why this root cannot be watched now, for a person; ``None`` when it can."""
    if not os.path.exists(path):
        return "it is not there; it is looked for again at every rescan"
    if not os.path.isdir(path):
        return "it is not a directory"
    if not os.access(path, os.R_OK | os.X_OK):
        return "it may not be read by this user"
    return None
