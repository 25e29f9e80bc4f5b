"""A folder that holds several runs: every one arrives, with one row in the outbox."""

from __future__ import annotations

import pytest
from acceptance_bench import Bench, alone_on_a_bench, wait_for
from lm_eval_folders import FIRST, SECOND, THIRD, evaluate

from wandb_outbox.sandbox import Fault

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")


def _assert_each_once(bench: Bench, *units: str) -> None:
    assert sorted(run.config["outbox"]["unit"] for run in bench.server.runs()) == list(units)
    outputs = [each for each in bench.server.artifacts() if each.type == "run_outputs" and each.version]
    assert [each.version for each in outputs] == ["v0"] * len(units)


@alone_on_a_bench
def test_evaluations_of_one_model_are_runs(bench: Bench) -> None:
    """Two at once, then a third; the row names the newest, and a pass in between sends nothing."""
    folder = evaluate(evaluate(bench.outputs / "out" / "gpt2__x", FIRST, 0.25), SECOND, 0.5)
    assert bench.run("flush", bench.outputs).code == 0
    first = bench.wait_state(folder, "uploaded", format="lm-eval")
    _assert_each_once(bench, FIRST, SECOND)
    asked = len(bench.server.requests)
    assert bench.run("flush", bench.outputs).code == 0
    assert len(bench.server.requests) == asked
    evaluate(folder, THIRD, 0.75)
    assert bench.run("flush", bench.outputs).code == 0
    _assert_each_once(bench, FIRST, SECOND, THIRD)
    (row,) = bench.list()
    assert (row["state"], row["revision"], row["id"] == first["id"]) == ("uploaded", 1, False)


@alone_on_a_bench
def test_killed_between_two_evaluations(bench: Bench) -> None:
    """The executor dies while the second of three is sent: afterwards each is there once."""
    folder = bench.outputs / "gpt2__x"
    for unit in (FIRST, SECOND, THIRD):
        evaluate(folder, unit, 0.5)
    bench.server.inject(Fault("CommitArtifact", "slow", delay=1.0))
    daemon = bench.watch()
    wait_for(lambda: len(bench.server.runs()) == 2, "the second run")
    daemon.kill()
    bench.wait_no_uploaders()
    bench.server.clear_faults()
    bench.watch()
    bench.wait_state(folder, "uploaded")
    _assert_each_once(bench, FIRST, SECOND, THIRD)
