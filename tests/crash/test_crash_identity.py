"""Whatever gets lost, and in whatever order: one run for one content of one folder, never two experiments in one run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash_rig import LONG, report
from crash_world import ON_A_FOLDER, ON_A_SITE, SITES, Event, World, live
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from wandb_outbox.detect import completion
from wandb_outbox.outbox import intake
from wandb_outbox.sandbox import Sandbox

pytestmark = pytest.mark.timeout(3600 if LONG else 180)
NUMBERS = itertools.count()

events = st.lists(
    st.tuples(
        # Delivering in between is what makes the others matter.
        st.sampled_from((*ON_A_SITE, *ON_A_FOLDER, "flush", "flush", "lose_state")),
        st.sampled_from(SITES),
        st.integers(0, 2),
    ),
    min_size=6,
    max_size=12,
).map(lambda chosen: [("make", "alpha", 0), ("make", "beta", 0), ("flush", "alpha", 0), *chosen])

# Each of these combines losses that hide one another.
MOVED_UNKNOWN: list[Event] = [
    ("make", "alpha", 0), ("make", "alpha", 0), ("make", "beta", 0), ("flush", "alpha", 0), ("flush", "beta", 0),
    ("lose_state", "alpha", 0), ("move", "alpha", 0), ("copy", "alpha", 1), ("flush", "alpha", 0),
    ("change", "alpha", 0), ("move", "beta", 0), ("lose_state", "beta", 0), ("change", "beta", 0), ("flush", "beta", 0),
]  # fmt: skip
DELETED_AND_REMADE: list[Event] = [
    ("make", "alpha", 0), ("make", "alpha", 0), ("flush", "alpha", 0), ("delete_run", "alpha", 0),
    ("change", "alpha", 0), ("remake", "alpha", 1), ("flush", "alpha", 0), ("lose_state", "alpha", 0),
    ("copy", "alpha", 0), ("remove", "alpha", 0), ("remake", "alpha", 0), ("lose_state", "alpha", 0),
]  # fmt: skip


def also(sequence: list[Event]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A further sequence for the long version."""
    return example(sequence) if LONG else lambda test: test


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    """Give one server to all sequences; each has a project of its own."""
    with Sandbox() as sandbox:
        yield sandbox
        assert sandbox.unknown == []


@pytest.fixture(scope="module")
def tops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a directory, and shorten the pauses that only chance needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "CONFIRM", 0.02)
        patch.setattr(intake, "LOOK_GAP", 0.01)
        yield tmp_path_factory.mktemp("worlds")


@settings(
    max_examples=40, deadline=None, phases=tuple(Phase) if LONG else (Phase.explicit,), database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(events)
@example(MOVED_UNKNOWN)
@also(DELETED_AND_REMADE)
def test_identity_survives_losses(server: Sandbox, tops: Path, happened: list[Event]) -> None:
    """States lost, folders moved, copied, remade, changed, runs deleted, two pods with the same paths: one run each."""
    number = next(NUMBERS)
    (tops / f"{number}").mkdir()
    assert live(World(tops / f"{number}", server, f"p{number}"), happened) == []
    report("identity", sequence=number, events=len(happened))


def test_the_model_complains(server: Sandbox, tops: Path) -> None:
    """The model sees a content with two runs, and a folder without one."""
    top = tops / "model"
    top.mkdir()
    world = World(top, server, "model")
    site = world.sites["alpha"]
    try:
        world.make(site)
        world.flush(site)
        assert world.complaints() == []
        site.delivered.clear()
        assert "one content has 1 runs" in world.complaints()[0]
        world.make(site)
        assert "has no run" in world.complaints()[-1]
    finally:
        world.close()
