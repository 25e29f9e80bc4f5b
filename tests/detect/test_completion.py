"""The table of completion, row by row, as a pure function of looks, evidence and time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unhurried import unhurried

from wandb_outbox.detect.completion import (
    CONFIRM,
    LINGER,
    WEAK_CONFIRM,
    Look,
    Patience,
    Trace,
    advance,
    judge,
    left_ago,
)
from wandb_outbox.model import FileStat, FormatEvidence, Judgement, Snapshot, Verdict, WriterEvidence, Writers

DAY = 86_400.0
NOW = 1_764_756_000.0
PATIENCE = Patience(settle=10.0, crash_grace=60.0, stalled_after=6 * 3600.0)
NOTHING = FormatEvidence()
DONE = FormatEvidence(done="metrics.json is there")
FAILED = FormatEvidence(failed="stderr.log ends with a traceback")
INCOMPLETE = FormatEvidence(incomplete="a generation failed")
DONE_INCOMPLETE = FormatEvidence(done="metrics.json is there", incomplete="a generation failed")
HELD_OPEN = WriterEvidence(Writers.WRITER, "run.log is open for writing by python (pid 7)")
FREE = WriterEvidence(Writers.FREE, "none of 2 files is open for writing")
UNKNOWN = WriterEvidence(Writers.UNKNOWN, "the lease probe is turned off")


def content(version: int = 1, *, changed: float = NOW) -> Snapshot:
    """A folder with one file; ``changed`` is its newest ctime."""
    file = FileStat("results.json", version, int(changed * 1e9), int(changed * 1e9), 7)
    return Snapshot((file,), (), "1:1", int(changed * 1e9))


@dataclass
class Folder:
    """A folder under observation, with both clocks. ``wall`` and ``tick`` move together until a test moves one."""

    patience: Patience = PATIENCE
    snapshot: Snapshot = content()  # noqa: RUF009  a frozen value
    wall: float = NOW
    tick: float = 1000.0
    trace: Trace | None = None

    def wait(self, seconds: float) -> Folder:
        """Time passes."""
        self.wall += seconds
        self.tick += seconds
        return self

    def change(self, version: int) -> Folder:
        """Somebody writes now."""
        self.snapshot = content(version, changed=self.wall)
        return self

    def look(self, writers: WriterEvidence, *, left_ago: float | None = None) -> Folder:
        """One look; ``left_ago`` is what an earlier process knew of a writer."""
        self.trace = advance(self.trace, Look(self.tick, self.snapshot, writers), left_ago=left_ago)
        return self

    def then(
        self, writers: WriterEvidence, version: int, seconds: float, jump: float, *, left_ago: float | None = None
    ) -> Folder:
        """Time passes, the wall clock jumps, the content is this, and one look."""
        self.wait(seconds)
        self.wall += jump
        if self.snapshot.files[0].size != version:
            self.change(version)
        return self.look(writers, left_ago=left_ago)

    def judge(self, evidence: FormatEvidence = NOTHING, *, reopened: bool = False) -> Judgement:
        """What follows from the looks so far."""
        assert self.trace is not None
        return judge(self.trace, evidence, self.patience, now=self.wall, reopened=reopened)


def quiet_and_free(quiet: float = 100.0) -> Folder:
    """A folder that was quiet for some time and looked at twice, one second apart, with nobody writing."""
    return Folder().wait(quiet).look(FREE).wait(CONFIRM).look(FREE)


def quiet_and_unseen(quiet: float = 100.0, between: float = WEAK_CONFIRM) -> Folder:
    """The same where open files cannot be seen."""
    return Folder().wait(quiet).look(UNKNOWN).wait(between).look(UNKNOWN)


# -- somebody writes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", [NOTHING, DONE, FAILED, INCOMPLETE, DONE_INCOMPLETE])
@pytest.mark.parametrize("quiet", [0.0, 60.0, DAY, 365 * DAY])
@pytest.mark.parametrize("reopened", [False, True])
def test_while_somebody_writes_it_is_writing_without_limit(
    evidence: FormatEvidence, quiet: float, reopened: bool
) -> None:
    """However quiet, whatever the folder says of itself: a writer is a writer."""
    found = Folder().wait(quiet).look(HELD_OPEN).wait(1).look(HELD_OPEN).judge(evidence, reopened=reopened)
    assert found.verdict is Verdict.WRITING
    assert HELD_OPEN.detail in found.reason


def test_a_writer_that_lingers_after_the_end_is_told_of_with_the_way_out() -> None:
    """Half an hour after done evidence, the reason names who holds it and what a person can do."""
    folder = Folder().wait(LINGER + 1).look(HELD_OPEN)
    reason = folder.judge(DONE).reason
    assert reason.startswith("writer lingers: run.log is open for writing by python (pid 7)")
    assert "`upload` the folder by hand" in reason


@pytest.mark.parametrize(("quiet", "evidence"), [(LINGER - 1, DONE), (LINGER + 1, NOTHING), (LINGER + 1, FAILED)])
def test_a_writer_lingers_only_long_after_done_evidence(quiet: float, evidence: FormatEvidence) -> None:
    """A silent experiment is no lingering one."""
    assert Folder().wait(quiet).look(HELD_OPEN).judge(evidence).reason == HELD_OPEN.detail


# -- nobody writes ---------------------------------------------------------------------------------------------------


def test_a_folder_settles_first() -> None:
    """A folder that changed a moment ago waits for the rest of the settle time."""
    found = Folder().wait(4).look(FREE).judge(DONE)
    assert found.verdict is Verdict.SETTLING
    assert found.look_again_in == pytest.approx(6)


def test_settle_counts_from_the_newest_ctime_not_from_the_first_look() -> None:
    """A folder that has been quiet for longer passes at once, up to the second look."""
    found = Folder().wait(100).look(FREE).judge(DONE)
    assert found.verdict is Verdict.SETTLING
    assert found.look_again_in == pytest.approx(CONFIRM)


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [(DONE, "ok"), (DONE_INCOMPLETE, "incomplete"), (NOTHING, "unknown"), (INCOMPLETE, "incomplete")],
)
def test_nobody_writing_twice_is_complete(evidence: FormatEvidence, outcome: str) -> None:
    """Done, or saying nothing of its end: complete, with how it ended, and nothing to wait for."""
    found = quiet_and_free().judge(evidence)
    assert (found.verdict, found.outcome, found.look_again_in) == (Verdict.COMPLETE, outcome, None)


def test_two_looks_at_the_same_moment_are_one() -> None:
    """The second look must be a second later."""
    found = Folder().wait(100).look(FREE).wait(CONFIRM - 0.1).look(FREE).judge(DONE)
    assert found.verdict is Verdict.SETTLING
    assert found.look_again_in == pytest.approx(0.1)


def test_two_looks_with_different_content_are_none() -> None:
    """A change between the looks begins the count anew."""
    folder = Folder().wait(100).look(FREE).wait(CONFIRM).change(2).wait(20).look(FREE)
    assert folder.judge(DONE).verdict is Verdict.SETTLING
    assert folder.wait(CONFIRM).look(FREE).judge(DONE).verdict is Verdict.COMPLETE


def test_a_change_that_puts_size_and_mtime_back_is_a_change() -> None:
    """Inode and ctime tell of a writer that hides behind an old mtime."""
    folder = Folder().wait(100).look(FREE).wait(CONFIRM)
    file = replace(folder.snapshot.files[0], ctime_ns=folder.snapshot.files[0].ctime_ns + 1)
    folder.snapshot = replace(folder.snapshot, files=(file,))
    assert folder.look(FREE).judge(DONE).verdict is Verdict.SETTLING


@pytest.mark.parametrize("between", [HELD_OPEN, UNKNOWN])
def test_a_writer_between_the_looks_begins_the_count_anew(between: WriterEvidence) -> None:
    """Free, then not surely free, then free: that is one free look, not two."""
    folder = Folder().wait(100).look(FREE).wait(5).look(between).wait(5).look(FREE)
    assert folder.judge(DONE).verdict is Verdict.SETTLING
    assert folder.wait(CONFIRM).look(FREE).judge(DONE).verdict is Verdict.COMPLETE


# -- crashed ---------------------------------------------------------------------------------------------------------


def test_a_failed_folder_is_crashed_after_the_grace() -> None:
    """Quiet for longer than the grace: crashed, with the evidence as the reason."""
    found = quiet_and_free(61).judge(FAILED)
    assert (found.verdict, found.outcome) == (Verdict.CRASHED, "crashed")
    assert found.reason == "stderr.log ends with a traceback, and nobody writes to it"


def test_crash_grace_counts_from_the_writers_end() -> None:
    """A run that was silent for hours and died just now gets its whole grace: it may be resumed."""
    folder = Folder().wait(3600).look(HELD_OPEN).wait(1).look(FREE).wait(2).look(FREE)
    found = folder.judge(FAILED)
    assert found.verdict is Verdict.SETTLING
    assert found.look_again_in == pytest.approx(60 - 2)
    assert "unless it is resumed within 58 s" in found.reason
    assert folder.wait(58).look(FREE).judge(FAILED).verdict is Verdict.CRASHED


def test_a_resumed_run_gets_its_grace_again() -> None:
    """The grace begins with the last writer's end, not the first's."""
    folder = Folder().look(HELD_OPEN).wait(50).look(FREE).wait(5).look(HELD_OPEN).wait(30).look(FREE).wait(1).look(FREE)
    assert folder.judge(FAILED).look_again_in == pytest.approx(60 - 1)


def test_a_change_after_the_writers_end_gives_no_less_than_the_grace() -> None:
    """Whoever cleans up in the folder of a run that died prolongs the grace, and never shortens it."""
    folder = Folder().look(HELD_OPEN).wait(1).look(FREE).wait(30).change(2).look(FREE).wait(20).look(FREE)
    assert folder.judge(FAILED).look_again_in == pytest.approx(60 - 20)


def test_a_writer_that_an_earlier_process_saw_gets_its_whole_grace_from_the_first_look_without_it() -> None:
    """A run that was silent for hours and died while the daemon was away may have died just now."""
    folder = Folder().wait(3600).look(FREE, left_ago=0.0).wait(CONFIRM).look(FREE)
    found = folder.judge(FAILED)
    assert found.verdict is Verdict.SETTLING
    assert found.look_again_in == pytest.approx(60 - CONFIRM)
    assert folder.wait(60).look(FREE).judge(FAILED).verdict is Verdict.CRASHED


def test_an_earlier_process_that_saw_the_end_leaves_the_rest_of_the_grace() -> None:
    """Commands that run for less than the grace, one after the other, come to an end all the same."""
    folder = Folder().wait(3600).look(FREE, left_ago=45.0).wait(CONFIRM).look(FREE)
    assert folder.judge(FAILED).look_again_in == pytest.approx(60 - 45 - CONFIRM)


def test_what_an_earlier_process_saw_counts_for_the_first_look_only() -> None:
    """Later looks have seen for themselves."""
    folder = Folder().wait(3600).look(FREE).wait(CONFIRM).look(FREE, left_ago=0.0)
    assert folder.judge(FAILED).verdict is Verdict.CRASHED


@pytest.mark.parametrize(
    ("verdict", "since", "ago"),
    [
        ("writing", NOW - 500, 0.0),
        ("settling", NOW - 500, 500.0),
        ("settling", NOW + DAY, 0.0),  # the clock was put back
        ("complete", NOW - 500, None),
        ("crashed", NOW - 500, None),
        ("writing", None, None),  # a row that nobody has judged yet
    ],
)
def test_the_row_says_how_long_a_writer_is_gone_at_most(verdict: str, since: float | None, ago: float | None) -> None:
    """Writing: it may have ended just now. Settling: nobody was seen since. Anything else: nothing is known."""
    assert left_ago(verdict, since, now=NOW) == ago


def test_done_beats_failed() -> None:
    """An experiment that ended well after trouble in between is complete."""
    assert quiet_and_free(61).judge(FormatEvidence(done="done", failed="failed")).verdict is Verdict.COMPLETE


def test_a_long_grace_is_waited_for() -> None:
    """Under a scheduler that requeues jobs the grace is 30 minutes."""
    folder = quiet_and_free(600)
    folder.patience = replace(PATIENCE, crash_grace=1800)
    found = folder.judge(FAILED)
    assert found.verdict is Verdict.SETTLING
    assert found.look_again_in == pytest.approx(1800 - 601)


# -- open files cannot be seen ---------------------------------------------------------------------------------------


def test_done_where_nobody_can_be_seen_waits_for_two_snapshots_apart() -> None:
    """Ninety seconds without a change, longer than the pauses inside one rewrite, then complete; and that is said."""
    early = quiet_and_unseen(between=WEAK_CONFIRM - 1).judge(DONE)
    assert early.verdict is Verdict.SETTLING
    assert early.look_again_in == pytest.approx(1)
    found = quiet_and_unseen().judge(DONE)
    assert (found.verdict, found.outcome) == (Verdict.COMPLETE, "ok")
    assert "weak evidence" in found.reason
    assert UNKNOWN.detail in found.reason


def test_a_change_where_nobody_can_be_seen_begins_the_count_anew() -> None:
    """Both snapshots must agree."""
    folder = Folder().wait(100).look(UNKNOWN).wait(80).change(2).wait(20).look(UNKNOWN)
    assert folder.judge(DONE).look_again_in == pytest.approx(WEAK_CONFIRM)


def test_done_but_incomplete_keeps_its_outcome_where_nobody_can_be_seen() -> None:
    """Weak evidence changes nothing of how it ended."""
    assert quiet_and_unseen().judge(DONE_INCOMPLETE).outcome == "incomplete"


@pytest.mark.parametrize("evidence", [NOTHING, FAILED, INCOMPLETE])
def test_not_done_where_nobody_can_be_seen_is_stalled_after_hours_and_never_crashed(evidence: FormatEvidence) -> None:
    """Six silent hours are no proof of anything: it waits for a person, who is told the ways out."""
    young = quiet_and_unseen(3600).judge(evidence)
    assert young.verdict is Verdict.WRITING
    assert young.look_again_in == pytest.approx(5 * 3600 - WEAK_CONFIRM)
    old = quiet_and_unseen(6 * 3600).judge(evidence)
    assert (old.verdict, old.outcome) == (Verdict.STALLED, "unknown")
    assert ".outbox-done" in old.reason


# -- uploaded before, changed since ----------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", [NOTHING, FAILED, INCOMPLETE])
@pytest.mark.parametrize("writers", [FREE, UNKNOWN])
def test_a_folder_that_changed_after_its_upload_stays_writing_until_it_says_done(
    evidence: FormatEvidence, writers: WriterEvidence
) -> None:
    """A re-evaluation rewrites files without holding a log: it is never called crashed, stalled or complete."""
    found = Folder().wait(10 * DAY).look(writers).wait(DAY).look(writers).judge(evidence, reopened=True)
    assert found.verdict is Verdict.WRITING
    assert ".outbox-done" in found.reason
    assert "`upload` it" in found.reason


@pytest.mark.parametrize("folder", [quiet_and_free(), quiet_and_unseen()])
def test_a_changed_folder_with_fresh_done_evidence_is_complete(folder: Folder) -> None:
    """Then the same rules hold as for the first upload."""
    assert folder.judge(DONE, reopened=True).verdict is Verdict.COMPLETE


# -- clocks that jump ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [DAY, -DAY, 3652 * DAY, -3652 * DAY])
def test_no_jump_of_the_clock_ends_a_writer(jump: float) -> None:
    """The wall clock is nobody's witness against an open file."""
    folder = Folder().wait(5).look(HELD_OPEN)
    folder.wall += jump
    assert folder.wait(1).look(HELD_OPEN).judge(FAILED).verdict is Verdict.WRITING


@pytest.mark.parametrize("jump", [-DAY, -3652 * DAY])
@pytest.mark.parametrize(("evidence", "verdict"), [(DONE, Verdict.COMPLETE), (FAILED, Verdict.CRASHED)])
def test_a_clock_that_was_put_back_stops_no_verdict(jump: float, evidence: FormatEvidence, verdict: Verdict) -> None:
    """File times in the future would never settle: then our own looks decide."""
    folder = Folder()
    folder.wall += jump
    assert folder.look(FREE).judge(evidence).verdict is Verdict.SETTLING
    assert folder.wait(61).look(FREE).judge(evidence).verdict is verdict


@pytest.mark.parametrize("jump", [DAY, 3652 * DAY])
def test_a_clock_that_leaps_forward_shortens_no_grace_of_a_writer_that_was_seen(jump: float) -> None:
    """The grace of a run that died before our eyes is counted in our own seconds."""
    folder = Folder().look(HELD_OPEN).wait(1).look(FREE).wait(2).look(FREE)
    folder.wall += jump
    found = folder.judge(FAILED)
    assert found.verdict is Verdict.SETTLING
    assert found.look_again_in == pytest.approx(58)


@pytest.mark.parametrize("jump", [DAY, -DAY, 3652 * DAY, -3652 * DAY])
def test_a_clock_that_jumps_shortens_neither_confirmation(jump: float) -> None:
    """The second between two looks, and the ninety of the weak case, are ours."""
    free = Folder().wait(100).look(FREE)
    free.wall += jump
    assert free.wait(0.5).look(FREE).judge(DONE).verdict is Verdict.SETTLING
    unseen = Folder().wait(100).look(UNKNOWN)
    unseen.wall += jump
    assert unseen.wait(50).look(UNKNOWN).judge(DONE).verdict is Verdict.SETTLING


# -- properties ------------------------------------------------------------------------------------------------------

looks = st.tuples(
    st.sampled_from([HELD_OPEN, FREE, UNKNOWN]),
    st.integers(1, 2),  # the content
    st.floats(0, 1e6),  # seconds since the look before
    st.sampled_from([0.0, 0.0, 0.0, DAY, -DAY, 3652 * DAY, -3652 * DAY]),  # a jump of the wall clock
)
evidences = st.sampled_from([NOTHING, DONE, FAILED, INCOMPLETE, DONE_INCOMPLETE])


def follow(steps: list[tuple[WriterEvidence, int, float, float]], *, left_ago: float | None = None) -> Folder:
    """The folder after these looks."""
    folder = Folder()
    for step in steps:
        folder.then(*step, left_ago=left_ago)
    return folder


@unhurried
@given(st.lists(looks, min_size=1, max_size=8), evidences, st.booleans())
def test_whatever_came_before_a_newest_look_with_a_writer_is_writing(
    steps: list[tuple[WriterEvidence, int, float, float]], evidence: FormatEvidence, reopened: bool
) -> None:
    """No history, evidence or clock makes a folder with a writer complete, crashed or stalled."""
    _, version, seconds, jump = steps[-1]
    folder = follow([*steps[:-1], (HELD_OPEN, version, seconds, jump)])
    assert folder.judge(evidence, reopened=reopened).verdict is Verdict.WRITING


@unhurried
@given(st.lists(looks, min_size=1, max_size=8), evidences, st.booleans())
def test_every_wait_is_positive_and_finite(
    steps: list[tuple[WriterEvidence, int, float, float]], evidence: FormatEvidence, reopened: bool
) -> None:
    """Settling always says when to look again, and a wait never spins or lasts for ever; every verdict has a reason."""
    found = follow(steps).judge(evidence, reopened=reopened)
    assert found.reason
    if found.verdict is Verdict.SETTLING:
        assert found.look_again_in is not None
    if found.look_again_in is not None:
        assert found.look_again_in > 0
        assert math.isfinite(found.look_again_in)


@unhurried
@given(st.lists(looks, min_size=1, max_size=8), evidences, st.booleans())
def test_a_final_verdict_needs_two_agreeing_looks(
    steps: list[tuple[WriterEvidence, int, float, float]], evidence: FormatEvidence, reopened: bool
) -> None:
    """Complete and crashed follow only from two looks at the same content; where nobody writing can be seen, both saw so."""
    folder = follow(steps)
    if folder.judge(evidence, reopened=reopened).verdict not in (Verdict.COMPLETE, Verdict.CRASHED):
        return
    assert len(steps) > 1
    (before, content_before, *_), (last, content_last, *_) = steps[-2:]
    assert content_last == content_before
    assert last is not HELD_OPEN
    if last is FREE:
        assert before is FREE


@unhurried
@given(st.lists(looks, min_size=1, max_size=8), st.none() | st.floats(0, 1e3), evidences)
def test_nobody_is_called_crashed_within_the_grace_of_a_writer_that_somebody_saw(
    steps: list[tuple[WriterEvidence, int, float, float]], ago: float | None, evidence: FormatEvidence
) -> None:
    """Whatever the clock does and whoever saw it, this process or the one before: the whole grace since its last sign."""
    first, *rest = steps
    folder = follow([first], left_ago=ago)
    seen = folder.tick if first[0] is HELD_OPEN else None if ago is None else folder.tick - ago
    for writers, version, seconds, jump in rest:
        folder.then(writers, version, seconds, jump)
        seen = folder.tick if writers is HELD_OPEN else seen
    if folder.judge(evidence).verdict is Verdict.CRASHED and seen is not None:
        assert folder.tick - seen >= PATIENCE.crash_grace


@unhurried
@given(st.lists(looks, min_size=1, max_size=8), evidences)
def test_a_reopened_folder_is_never_crashed_or_stalled(
    steps: list[tuple[WriterEvidence, int, float, float]], evidence: FormatEvidence
) -> None:
    """Once uploaded, a change alone never takes the verdict away from the experiment."""
    assert follow(steps).judge(evidence, reopened=True).verdict not in (Verdict.CRASHED, Verdict.STALLED)


@unhurried
@given(st.lists(looks, min_size=1, max_size=6), evidences, st.booleans())
def test_time_alone_leads_to_a_decision_or_says_what_it_waits_for(
    steps: list[tuple[WriterEvidence, int, float, float]], evidence: FormatEvidence, reopened: bool
) -> None:
    """Looking again when told to, with nothing changing, ends after a few looks: settling is not for ever."""
    folder = follow(steps)
    writers = steps[-1][0]
    found = folder.judge(evidence, reopened=reopened)
    for _ in range(6):
        if found.look_again_in is None:
            break
        found = folder.wait(found.look_again_in + 1e-3).look(writers).judge(evidence, reopened=reopened)
    assert found.verdict is not Verdict.SETTLING
    assert found.look_again_in is None
