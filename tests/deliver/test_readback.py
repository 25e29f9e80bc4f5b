"""What was planned against what the server gives back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from deliver_makers import plan
from hypothesis import given
from hypothesis import strategies as st
from unhurried import unhurried

from wandb_outbox.deliver.readback import Seen, differences, log_difference, metric_axes, missing_history, same

SIZES = {"results.json": 10, "run.log": 5}
TABLE = {"nrows": 1, "path": "media/table/samples.table.json", "size": 8}
WHOLE = Seen(
    state="finished",
    config={"strategy": {"type": "x"}, "lr": 1.0, "_wandb": {}},
    summary={"acc": 0.5, "n": 3, "samples": TABLE, "_runtime": 7},
    history_rows=2,
    axes={},
    files={"results.json": 10, "wandb-summary.json": 3, "media/table/samples.table.json": 8},
    tags=frozenset({"a", "b", "theirs"}),
    name="n",
    artifact_state="COMMITTED",
    artifact_files=2,
    artifact_bytes=15,
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


def found(**changes: Any) -> list[str]:
    """The differences of a run that is whole but for these."""
    return differences(replace(WHOLE, **changes), plan(), history_rows=2, sizes=SIZES)


def test_a_run_that_is_all_there_has_no_differences() -> None:
    """What others added (tags, own keys) does not matter."""
    assert found() == []


def test_what_metrics_are_drawn_over_is_read_from_the_raw_configuration() -> None:
    """The SDK counts the definitions from 1; what is no definition is passed over."""
    raw = {
        "_wandb": {
            "m": [{"1": "loss", "5": 2, "6": [1]}, {"1": "epoch"}, {"2": "x*", "5": 9}, "odd", {"1": "a", "5": 0}]
        }
    }
    assert metric_axes(raw) == {"loss": "epoch"}
    assert metric_axes({}) == metric_axes({"_wandb": {"m": None}}) == {}
    there = replace(WHOLE, axes={"loss": "epoch"})
    for axes, words in (
        ({"loss": "epoch", "a*b": "epoch"}, []),
        ({"loss": "step"}, ["the metric loss is not drawn over step"]),
    ):
        assert differences(there, replace(plan(), axes=axes), history_rows=2, sizes=SIZES) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "running"}, "the run is running, not finished"),
        ({"state": "failed"}, "the run is failed, not finished"),
        ({"name": "other"}, "the run is called 'other', not 'n'"),
        ({"tags": frozenset({"a"})}, "tags are missing: b"),
        ({"config": {"lr": 1}}, "config strategy differs"),
        ({"config": {"strategy": {"type": "y"}, "lr": 1}}, "config strategy differs"),
        ({"summary": {"n": 3, "samples": TABLE}}, "summary acc differs"),
        ({"summary": {}}, "summary acc differs"),
        ({"summary": {"acc": 0.5, "n": 3}}, "table samples is not there with its 1 rows"),
        (
            {"summary": {"acc": 0.5, "n": 3, "samples": TABLE | {"nrows": 2}}},
            "table samples is not there with its 1 rows",
        ),
        ({"summary": {"acc": 0.5, "n": 3, "samples": 7}}, "table samples is not there with its 1 rows"),
        ({"files": {"results.json": 10}}, "the file of table samples is not there with its 8 bytes"),
        (
            {"summary": {"acc": 0.5, "n": 3, "samples": TABLE | {"size": 9}}},
            "the file of table samples is not there with its 9 bytes",
        ),
        ({"history_rows": 1}, "the history has 1 rows, not 2"),
        ({"files": {}}, "run file results.json has no bytes, not 10"),
        ({"files": {"results.json": 9}}, "run file results.json has 9 bytes, not 10"),
        ({"artifact_state": "PENDING"}, "the artifact is PENDING"),
        ({"artifact_files": 1}, "the artifact has 1 files, not 2"),
        ({"artifact_bytes": 14}, "the artifact has 14 bytes, not 15"),
    ],
)
def test_everything_that_is_missing_is_named(changes: dict[str, Any], words: str) -> None:
    """Each in words that a person can act on."""
    assert words in found(**changes)


def test_a_crashed_run_should_be_failed_on_the_server() -> None:
    """W&B shows exit code 1 as failed."""
    crashed = plan(exit_code=1)
    assert differences(replace(WHOLE, state="failed"), crashed, history_rows=2, sizes=SIZES) == []
    assert differences(WHOLE, crashed, history_rows=2, sizes=SIZES) == ["the run is finished, not failed"]


@unhurried
@given(json_values)
def test_a_value_is_the_same_as_itself(value: object) -> None:
    """Whatever JSON can hold."""
    assert same(value, value)


@pytest.mark.parametrize(
    ("planned", "there", "equal"),
    [
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (2**53 + 1, float(2**53), True),
        (10**400, 10**400, True),
        (1, 2, False),
        (0, 1e-300, False),
        (True, 1, False),
        (0, False, False),
        (1, "1", False),
        (None, 0, False),
        (None, None, True),
        ({"a": None}, {}, True),
        ({"a": None}, None, True),
        ({}, None, True),
        ([], None, True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ([1, 2], [1, 2, 3], False),
        ((1, 2), [1, 2], True),
        ([1], {"0": 1}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1.0}]}, True),
    ],
)
def test_values_are_equal_as_far_as_a_server_may_change_them(planned: object, there: object, equal: bool) -> None:
    """One and 1.0 are one number, a key without a value may be absent; true is not 1."""
    assert same(planned, there) is equal


# -- history ---------------------------------------------------------------------------------------------------------

ROWS = tuple({"_step": step, "loss": 1.0 / (step + 1)} for step in range(5))


@pytest.mark.parametrize("count", range(6))
def test_only_the_rows_that_are_missing_are_sent(count: int) -> None:
    """After an interrupted session the rest follows, however much arrived."""
    sent = [{**row, "_runtime": 3, "_timestamp": 1.0} for row in ROWS[:count]]
    assert missing_history(sent, ROWS) == (ROWS[count:], False)


@pytest.mark.parametrize(
    "sent",
    [
        [*ROWS, {"_step": 9, "loss": 0}],
        [{"_step": 0, "loss": 7}],
        [{"_step": 3, "loss": 1.0}],
        [{"loss": 1.0}],
        [{"_step": 0}],
    ],
)
def test_a_history_that_does_not_begin_like_ours_is_frozen(sent: list[dict[str, object]]) -> None:
    """History is append-only on the server: rather none than doubled or mixed rows."""
    assert missing_history(sent, ROWS) == ((), True)


def test_columns_that_others_added_do_not_freeze_the_history() -> None:
    """Only what we planned is compared."""
    assert missing_history([{**ROWS[0], "theirs": 1}], ROWS) == (ROWS[1:], False)


def test_what_is_no_number_may_come_back_as_one() -> None:
    """It is sent by its name; a server that keeps columns of numbers gives back what it was."""
    assert all(same(*pair) for pair in (("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf)))
    assert not any(
        same(*pair) for pair in (("NaN", math.inf), ("Infinity", -math.inf), (0.0, math.nan), ("x", math.nan))
    )


def test_a_log_that_is_counted_otherwise_is_told() -> None:
    """A server that does not tell is believed."""
    assert log_difference(None, 3) is log_difference(3, 3) is None
    assert log_difference(2, 3) == "the log has 2 lines, not 3"
