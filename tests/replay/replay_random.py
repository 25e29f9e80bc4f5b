"""Lives that chance makes up: sessions that write, think, tear files, fork, crash, are resumed and re-evaluated.

A life is drawn as what happens in it, and its ending follows from that: the last session's end, and whether there was
anything to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import hypothesis
from hypothesis import strategies as st
from replay_script import (
    EVALUATES,
    GENERATED,
    METRICS,
    RESULTS,
    Ending,
    Life,
    Operation,
    Session,
    log_line,
    metrics,
    results,
)

SAMPLES = 3
SHORT, LONG, LONGEST = 0.2, 2.2, 4.5
"""Seconds: within settle, longer than settle, longer than settle and grace together."""
thinking = st.sampled_from((0.0, SHORT, SHORT, LONG, LONGEST))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Think, and save; ``torn`` seconds pass with half of the results written."""

    think: float
    torn: float = 0.0


@dataclass(frozen=True, slots=True)
class Child:
    """Fork a child that keeps every open file for so many seconds, and may have a last word."""

    lives: float
    speaks: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A session: its steps, and how it ends: ``well``, ``killed``, ``killed torn`` or ``raised``; ``lingers`` before it."""

    steps: tuple[Chunk | Child, ...]
    end: str
    evaluates: bool
    lingers: float


@dataclass(frozen=True, slots=True)
class Reevaluation:
    """A later script without a log: it saves so often, with these pauses, and is ``finished``, ``killed`` or ``torn``."""

    saves: int
    pause: float
    end: str


@dataclass(frozen=True, slots=True)
class Story:
    """Sessions with gaps between them; ``None`` is a gap until the outbox has queued what there was."""

    starts: float
    runs: tuple[Run, ...]
    gaps: tuple[float | None, ...]
    later: Reevaluation | None


steps = st.lists(
    st.one_of(
        st.builds(Chunk, thinking),
        st.builds(Chunk, thinking, st.sampled_from((SHORT, LONG))),
        st.builds(Child, st.sampled_from((0.5, LONG, 5.0)), st.booleans()),
    ),
    max_size=4,
).map(tuple)
runs = st.builds(
    Run,
    steps,
    st.sampled_from(("well", "well", "killed", "killed torn", "raised")),
    evaluates=st.booleans(),
    lingers=st.sampled_from((0.0, SHORT, LONG)),
)
reevaluations = st.builds(
    Reevaluation,
    st.integers(1, 3),
    st.sampled_from((0.0, SHORT, LONG)),
    st.sampled_from(("finished", "finished", "killed", "torn")),
)
stories = st.builds(
    Story,
    st.sampled_from((0.0, 0.1, 0.4, 1.0)),
    st.lists(runs, min_size=1, max_size=3).map(tuple),
    st.tuples(*[st.sampled_from((0.0, 0.3, 1.0, LONG, None))] * 3),
    st.none() | reevaluations,
)


def draw(count: int, seed: int) -> list[Story]:
    """So many different stories; the same for the same seed."""
    drawn: list[Story] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count * 2, phases=[hypothesis.Phase.generate], database=None, deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(stories)
    def collect(story: Story) -> None:
        if story not in drawn:
            drawn.append(story)

    collect()
    return drawn[:count]


def life_of(story: Story, folder: str, *, delivered: bool = False) -> Life:
    """The story as a life in this folder. ``delivered``: a server takes what is queued."""
    if delivered and not _ends_well(story):
        # Whether something was delivered before the end decides what the end is: leave no gap in which it may or may not.
        gaps = tuple(gap if gap is None else SHORT for gap in story.gaps)
        story = replace(story, gaps=gaps, later=story.later and replace(story.later, pause=SHORT))
    if delivered:
        story = replace(story, gaps=_deliverable(story))
    operations: list[Operation] = [["pause", story.starts]]
    for number, run in enumerate(story.runs):
        operations.append(_act(run, folder))
        if number + 1 < len(story.runs) or story.later is not None:
            gap = story.gaps[number]
            operations.append(
                ["cue", _cue(story.runs[: number + 1], number, delivered)] if gap is None else ["pause", gap]
            )
    if story.later is not None and story.runs[-1].end == "well":
        operations.append(_later(story.later, folder))
    return Life(operations, (_ending(story, folder, delivered=delivered),))


def _ends_well(story: Story) -> bool:
    return story.runs[-1].end == "well" and (story.later is None or story.later.end == "finished")


def _deliverable(story: Story) -> tuple[float | None, ...]:
    """The gaps, without those that wait for a delivery that rightly never comes.

    A session that does not end well leaves a folder that was delivered before waiting, with the receipt of before.
    """
    gaps: list[float | None] = []
    before = False
    for number, gap in enumerate(story.gaps[: len(story.runs)]):
        waits_in_vain = gap is None and before and story.runs[number].end != "well"
        gaps.append(SHORT if waits_in_vain else gap)
        before = before or (gaps[-1] in (None, LONG) and _shows(story.runs[: number + 1]))
    return (*gaps, *story.gaps[len(story.runs) :])


def _cue(runs: Sequence[Run], number: int, delivered: bool) -> str:
    """The state to wait for, in a word of its own, so that each such gap waits for itself."""
    if not _shows(runs):
        return f"skipped {number}"
    return f"{'uploaded' if delivered else 'queued'} {number}"


def _act(run: Run, folder: str) -> Operation:
    session = Session(folder, SAMPLES).begin()
    done = 0
    for step in run.steps:
        if isinstance(step, Child):
            session.add(["fork", step.lives, *(["log", log_line("a child has ended")] if step.speaks else [])])
            continue
        done = min(done + 1, SAMPLES)
        session.pause(step.think)
        if step.torn:
            session.save_half(done).pause(step.torn).save_rest(done)
        else:
            session.chunk(done)
    if run.end == "well":
        return session.evaluate(*((SHORT,) * SAMPLES if run.evaluates else ())).end_well(linger=run.lingers).act()
    if run.evaluates:
        session.say(GENERATED, EVALUATES)
        if done:
            session.save(done)
    if run.end == "killed torn":
        session.save_half(SAMPLES)
    session.pause(run.lingers)
    return (session.raise_() if run.end == "raised" else session.kill()).act()


def _later(later: Reevaluation, folder: str) -> Operation:
    act: list[Operation] = []
    for number in range(later.saves):
        act += [["put", f"{folder}/{RESULTS}", results(SAMPLES, size=2000 + number)], ["pause", later.pause]]
    if later.end == "finished":
        act.append(["put", f"{folder}/{METRICS}", metrics(SAMPLES)])
    elif later.end == "torn":
        act += [["put", f"{folder}/{RESULTS}", results(SAMPLES)[:-40]], ["kill"]]
    return ["act", act]


def _shows(runs: Sequence[Run]) -> bool:
    """Whether any session left a result."""
    return any(run.end in ("well", "killed torn") or any(isinstance(step, Chunk) for step in run.steps) for run in runs)


def _ending(story: Story, folder: str, *, delivered: bool) -> Ending:
    state = "uploaded" if delivered else "queued"
    if _ends_well(story):
        return Ending(folder, state)
    last = len(story.runs) - (story.runs[-1].end != "well" or story.later is None)
    if delivered and any(story.gaps[number] is None and _shows(story.runs[: number + 1]) for number in range(last)):
        # What changes after a delivery and does not end well waits, with the old receipt.
        return Ending(folder, "writing", verdict="writing", outcomes=("ok", "crashed", "unknown"))
    if story.runs[-1].end != "well":
        if not _shows(story.runs):
            return Ending(folder, "skipped", verdict="crashed", outcomes=("crashed",))
        return Ending(folder, state, verdict="crashed", outcomes=("crashed",))
    if story.later is not None and story.later.end == "torn":
        return Ending(folder, state, verdict="crashed", outcomes=("crashed",))
    # Results newer than metrics and log, and nothing that says that it failed.
    return Ending(folder, state, outcomes=("unknown",))
