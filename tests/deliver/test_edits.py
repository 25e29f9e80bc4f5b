"""What people changed about a run on the server, and what of it stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deliver_makers import plan

from wandb_outbox.deliver.edits import Shown, ours, stale_config, stale_keys, with_edits
from wandb_outbox.deliver.readback import DELIVERED, MISSING_INPUTS
from wandb_outbox.model import Plan

SENT = plan(group="g", notes="ours")
NOTED = ours(SENT, {})
UNTOUCHED = Shown("n", "g", "eval", "ours", ("a", "b"))


def kept(shown: Shown, planned: Plan = SENT) -> tuple[object, ...]:
    """What is sent for a plan when the server shows this."""
    merged = with_edits(planned, shown, NOTED)
    return merged.name, merged.group, merged.job_type, merged.notes, merged.tags


def test_what_nobody_touched_is_sent_as_planned() -> None:
    """Whatever the plan says by now."""
    assert with_edits(SENT, UNTOUCHED, NOTED) == SENT
    newer = replace(SENT, name="m", group=None, notes="more", tags=("b", "c"))
    assert with_edits(newer, UNTOUCHED, NOTED) == newer


def test_what_people_changed_stays() -> None:
    """Words of theirs, tags that they added, and tags that they took away."""
    assert kept(Shown("best", "fig3", "train", "look", ("b", "paper"))) == (
        "best", "fig3", "train", "look", ("b", "paper"),
    )  # fmt: skip


def test_what_the_plan_says_anew_counts_more() -> None:
    """A new name of the folder's own replaces theirs; their tags and its new ones stand together."""
    newer = replace(SENT, name="m", tags=("a", "b", "incomplete"))
    assert kept(Shown("best", "g", "eval", "look", ("b", "paper")), newer) == (
        "m", "g", "eval", "look", ("b", "incomplete", "paper"),
    )  # fmt: skip


def test_a_tag_that_was_ours_goes_with_its_reason() -> None:
    """The run is no longer crashed: that somebody else's tag stands beside it does not keep it."""
    crashed = ours(plan(tags=("a", "crashed")), {})
    shown = replace(UNTOUCHED, tags=("a", "crashed", "paper"))
    assert with_edits(plan(tags=("a",)), shown, crashed).tags == ("a", "paper")


def test_a_word_that_people_took_away_is_sent_again() -> None:
    """A server may show nothing for what it does not tell."""
    assert kept(Shown(None, "", None, None, ("a", "b"))) == ("n", "g", "eval", "ours", ("a", "b"))


@pytest.mark.parametrize("noted", [{}, {"said": "x"}, {"said": {}}])
def test_without_a_note_the_plan_is_sent(noted: dict[str, object]) -> None:
    """It is unknown who said what; anything may stand in the note by now."""
    assert with_edits(SENT, Shown("best", None, None, None, ("paper",)), noted) == SENT


def test_only_what_was_ours_is_stale() -> None:
    """Keys of others, W&B's own, and our mark stay."""
    before = ours(plan(summary={"acc": 1, "old": 2}, config={"lr": 1, "gone": 2}), {})
    summary = ["acc", "old", "_runtime", "samples", DELIVERED, MISSING_INPUTS, "human_score"]
    assert stale_keys(summary, SENT, before) == ["old", MISSING_INPUTS]
    assert stale_config(["lr", "strategy", "gone", "reviewed_by"], SENT, before) == ["gone"]
    assert stale_keys(["old"], SENT, {}) == stale_config(["gone"], SENT, {"said": {"config": "gone"}}) == []


def test_a_delivery_that_did_not_come_to_its_end_leaves_the_earlier_notes() -> None:
    """What both of them sent is known for ours."""
    before = ours(plan(summary={"old": 2}, config={"gone": 2}), {})
    under_way = ours(SENT, before)
    assert stale_keys(["acc", "old"], SENT, under_way) == ["old"]
    assert stale_config(["lr", "gone"], SENT, under_way) == ["gone"]
