"""The pure heart of detection: from evidence, clock and settings to a verdict with a reason.

The table stands in docs/reference.md. The rule above all others: while anybody has a file of the folder open for
writing, the verdict is ``writing``, however long and however quiet. Nothing here reads a clock or a file.

Two clocks come in. ``now`` is the wall clock, which file times are compared with; ``tick`` is monotonic, which
everything seen by ourselves is compared with, so that a clock that jumps can neither hurry nor stop a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wandb_outbox.model import LINGERS, FormatEvidence, Judgement, Snapshot, Verdict, WriterEvidence, Writers

CONFIRM = 1.0
"""Seconds between the two looks that must both find nobody writing and the same content."""
WEAK_CONFIRM = 90.0
"""The same where open files cannot be seen: longer than the pauses inside one rewrite of the results."""
LINGER = 30 * 60.0
"""From when on a writer that stays after the end is worth telling of."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long completion waits for what; seconds."""

    settle: float
    crash_grace: float
    """Slurm requeues a killed job after a while: its folders get a longer one."""
    stalled_after: float


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a folder."""

    tick: float
    snapshot: Snapshot
    writers: WriterEvidence


@dataclass(frozen=True, slots=True)
class Trace:
    """What the looks so far add up to; all times are ticks.

    ``same_since``: the first look that saw today's content. ``free_since``: the first look that found nobody
    writing and today's content, with no writer seen since. ``left``: since when, at the earliest, a writer that
    somebody saw is gone (by now, while it is there); ``None`` when nobody saw one.
    """

    snapshot: Snapshot
    writers: WriterEvidence
    same_since: float
    free_since: float | None
    left: float | None
    looked: float


def advance(trace: Trace | None, look: Look, *, left_ago: float | None = None) -> Trace:
    """The trace with one more look in it.

    ``left_ago`` counts for the first look only: so many seconds ago, at the earliest, a writer ended whom somebody saw
    before this trace began (0: it may have ended just now); ``None`` when nobody did.
    """
    if trace is None:
        left = None if left_ago is None else look.tick - max(0.0, left_ago)
        trace = Trace(look.snapshot, look.writers, look.tick, None, left, look.tick)
        unbroken = True
    else:
        unbroken = trace.writers.writers is Writers.FREE
        if not trace.snapshot.same_bytes_as(look.snapshot):
            unbroken = False
            trace = replace(trace, snapshot=look.snapshot, same_since=look.tick, free_since=None)
    free_since = trace.free_since
    left = trace.left
    if look.writers.writers is Writers.FREE:
        free_since = look.tick if free_since is None else free_since
    else:
        free_since = None
        unbroken = False
    if look.writers.writers is Writers.WRITER or (left is not None and not unbroken):
        left = look.tick
    return replace(
        trace, snapshot=look.snapshot, writers=look.writers, free_since=free_since, left=left, looked=look.tick
    )


def left_ago(verdict: str, since: float | None, *, now: float) -> float | None:
    """How many seconds ago, at the earliest, a writer ended whom somebody saw, by what the last look recorded.

    ``verdict`` has been said since ``since``, before this process began; ``None``: nothing was said yet. While it was
    ``writing`` somebody may have been there until just now; since it is ``settling`` nobody was seen.
    """
    if since is None:
        return None
    match verdict:
        case Verdict.WRITING:
            return 0.0
        case Verdict.SETTLING:
            return max(0.0, now - since)
        case _:
            return None


def judge(
    trace: Trace,
    evidence: FormatEvidence,
    patience: Patience,
    *,
    now: float,
    reopened: bool,
) -> Judgement:
    """The verdict on a folder after the newest look of ``trace``.

    ``reopened``: this folder was uploaded before and has changed since; then only fresh done evidence counts, and
    it is never called crashed, because a later re-evaluation rewrites files without holding a log.
    """
    tick = trace.looked
    writers = trace.writers
    if writers.writers is Writers.WRITER:
        return Judgement(Verdict.WRITING, _writing_reason(evidence, trace, now))

    ctime_age = now - trace.snapshot.newest_ctime_ns / 1e9
    seen_age = tick - trace.same_since
    # A ctime in the future (the clock was put back) would never settle: then our own looks decide.
    quiet = max(ctime_age, seen_age)
    if quiet < patience.settle:
        return Judgement(
            Verdict.SETTLING,
            f"changed {max(quiet, 0):.0f} s ago; waiting until it is quiet for {patience.settle:g} s",
            min(patience.settle - quiet, patience.settle),
        )
    if reopened and evidence.done is None:
        return Judgement(
            Verdict.WRITING,
            "changed since it was uploaded, and nothing in it says that the change is finished; the last receipt "
            "stays. Create .outbox-done in the folder, or `upload` it, to send it again",
        )
    if writers.writers is Writers.UNKNOWN:
        return _judge_unseen(evidence, patience, writers, quiet, seen_age)
    return _judge_free(trace, evidence, patience, quiet)


def _judge_free(trace: Trace, evidence: FormatEvidence, patience: Patience, quiet: float) -> Judgement:
    tick = trace.looked
    free_for = 0.0 if trace.free_since is None else tick - trace.free_since
    if free_for < CONFIRM:
        return Judgement(Verdict.SETTLING, "nobody writes to it; looking once more to be sure", CONFIRM - free_for)
    if evidence.done is not None:
        if evidence.incomplete is not None:
            return Judgement(
                Verdict.COMPLETE, f"{evidence.done}, but {evidence.incomplete}; nobody writes to it", None, "incomplete"
            )
        return Judgement(Verdict.COMPLETE, f"{evidence.done}; nobody writes to it", None, "ok")
    if evidence.failed is not None:
        # Grace counts from the writer's end, which was before the first look that found nobody; where nobody ever saw a
        # writer, from the last change.
        silent = quiet if trace.left is None else min(quiet, tick - trace.left)
        if silent < patience.crash_grace:
            return Judgement(
                Verdict.SETTLING,
                f"{evidence.failed}, and nobody writes to it: crashed, unless it is resumed within "
                f"{patience.crash_grace - silent:.0f} s",
                patience.crash_grace - silent,
            )
        return Judgement(Verdict.CRASHED, f"{evidence.failed}, and nobody writes to it", None, "crashed")
    outcome = "incomplete" if evidence.incomplete is not None else "unknown"
    return Judgement(
        Verdict.COMPLETE,
        evidence.incomplete or "nobody writes to it, and nothing in it says how it ended",
        None,
        outcome,
    )


def _judge_unseen(
    evidence: FormatEvidence, patience: Patience, writers: WriterEvidence, quiet: float, seen_age: float
) -> Judgement:
    if evidence.done is not None:
        if seen_age < WEAK_CONFIRM:
            return Judgement(
                Verdict.SETTLING,
                f"{evidence.done}, but open files cannot be seen here ({writers.detail}): looking again after "
                f"{WEAK_CONFIRM:.0f} s without a change",
                WEAK_CONFIRM - seen_age,
            )
        outcome = "ok" if evidence.incomplete is None else "incomplete"
        return Judgement(
            Verdict.COMPLETE,
            f"{evidence.done}; weak evidence: open files cannot be seen ({writers.detail})",
            None,
            outcome,
        )
    if quiet < patience.stalled_after:
        return Judgement(
            Verdict.WRITING,
            f"nothing says that it is finished, and open files cannot be seen here ({writers.detail})",
            patience.stalled_after - quiet,
        )
    return Judgement(
        Verdict.STALLED,
        f"no change for {_long(quiet)}, nothing says that it is finished, and open files cannot be seen here "
        f"({writers.detail}): release it, or create .outbox-done in the folder",
    )


def _long(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.0f} min"
        if seconds >= 60
        else f"{seconds:.0f} s"
    )


def _writing_reason(evidence: FormatEvidence, trace: Trace, now: float) -> str:
    quiet = now - trace.snapshot.newest_ctime_ns / 1e9
    if evidence.done is not None and quiet > LINGER:
        return (
            f"{LINGERS}{trace.writers.detail}, although {evidence.done}; no change for {quiet / 60:.0f} min. "
            "End that process, or `upload` the folder by hand"
        )
    return trace.writers.detail
