"""Summary, history and table on the server, from folders as experiments leave them."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import wandb
from arrivals import Way, raw_config, table_rows
from upload_script import numbers

from wandb_outbox.deliver.readback import metric_axes
from wandb_outbox.demo.writer import EXACT_MATCH, Experiment, write_run
from wandb_outbox.sandbox import Sandbox

pytest_plugins = ("arrives_fixtures",)

OWN = {"outbox/delivered", "_wandb", "_runtime", "_step", "_timestamp", "samples"}
EXPERIMENTS = {
    "chain of thought": Experiment(samples=7, chunk=3),
    "with judges": Experiment(samples=9, strategy="deepconf", evaluators=(EXACT_MATCH, "llm_judge_gpt-4o", "alignscore")),
    "judged later": Experiment(samples=5, evaluators=("llm_judge_gpt-4o",), offset=13, backend="vllm", model="Qwen/Qwen3-8B"),
}  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_the_summary_has_the_numbers_of_the_upload_script(
    sandbox: Sandbox, tmp_path: Path, experiment: Experiment
) -> None:
    """Its keys with its values; beside them what only metrics.json says; nothing disagrees."""
    way = Way(sandbox, tmp_path)
    write_run(str(way.path), experiment)
    receipt = way.deliver()
    summary = {key: value for key, value in way.arrived(receipt).summary.items() if key not in OWN}
    counted = numbers(json.loads((way.path / "results.json").read_text()))
    recorded = json.loads((way.path / "metrics.json").read_text())
    assert {key: summary[key] for key in counted} == pytest.approx(counted)
    assert summary.keys() == counted.keys() | recorded.keys()
    assert {key: summary[key] for key in recorded if key not in counted} == pytest.approx(
        {key: value for key, value in recorded.items() if key not in counted}
    )
    assert receipt.warnings == ()


def test_a_disagreement_is_said_and_the_results_win(sandbox: Sandbox, tmp_path: Path) -> None:
    """A stale metrics.json beside a newer results.json."""
    way = Way(sandbox, tmp_path)
    write_run(str(way.path), Experiment(samples=4))
    way.put("metrics.json", {"total_samples": 3, "exact_match/accuracy": 0.125, "compute/total_tokens": 77})
    receipt = way.deliver()
    summary = way.arrived(receipt).summary
    assert (summary["total_samples"], summary["compute/total_tokens"]) == (4, 77)
    (said,) = receipt.warnings
    assert said.startswith("metrics-disagree: metrics.json does not agree with what the results say: total_samples (4 ")
    assert said.endswith("; the results win")


def test_metrics_of_samples_are_drawn_over_the_sample(sandbox: Sandbox, tmp_path: Path) -> None:
    """Every row under its own step, once, however often it is sent; what goes on afterwards is added."""
    way = Way(sandbox, tmp_path)
    write_run(str(way.path), Experiment(samples=6, chunk=2, offset=3))
    lines = (way.path / "sample_metrics.jsonl").read_text().splitlines()
    way.put("sample_metrics.jsonl", "\n".join(lines[:4]) + "\n")
    receipt = way.deliver()
    for count in (4, 6):
        way.put("sample_metrics.jsonl", "\n".join(lines[:count]) + "\n")
        way.put("revision", str(count))
        run = way.arrived(way.deliver())
        rows = [{key: value for key, value in row.items() if key[0] != "_"} for row in run.history]
        assert rows == [json.loads(line) for line in lines[:count]]
        assert [row["_step"] for row in run.history] == [row["sample_index"] for row in rows]
        axes = metric_axes(raw_config(sandbox, run))
        assert axes == dict.fromkeys(set(rows[0]) - {"sample_index"}, "sample_index")
    way.put("sample_metrics.jsonl", "\n".join(lines[1:]) + "\n")
    receipt = way.deliver()
    assert any(warning.startswith("history-frozen") for warning in receipt.warnings)
    assert len(way.arrived(receipt).history) == 6


def test_a_revision_leaves_nothing_of_the_one_before(sandbox: Sandbox, tmp_path: Path) -> None:
    """Keys of configuration and summary that are gone from the folder are gone from the run; rows and axes stay."""
    way = Way(sandbox, tmp_path, "plain").put("metrics.csv", "step,loss\n0,1\n1,0.5\n")
    way.put("config.yaml", "gone: 1\nkept: {gone: 1, kept: 2}\n").put("metrics.json", {"gone": 1, "kept": 2}).deliver()
    way.put("config.yaml", "kept: {kept: 3}\nnew: 4\n").put("metrics.json", {"kept": 3, "new": 4})
    run = way.arrived(way.deliver())
    assert {key: value for key, value in run.config.items() if key != "outbox"} == {"kept": {"kept": 3}, "new": 4}
    assert {key: value for key, value in run.summary.items() if key not in OWN} == {"kept": 3, "new": 4, "loss": 0.5}
    assert [row["loss"] for row in run.history] == [1, 0.5]
    assert metric_axes(raw_config(sandbox, run)) == {"loss": "step"}


def test_tags_of_a_revision_are_its_own_and_those_that_people_added(sandbox: Sandbox, tmp_path: Path) -> None:
    """A run that crashed and then ended well is not tagged as crashed, also where it has no other tags."""
    way = Way(sandbox, tmp_path, "plain").put("outbox.yaml", "tags: [first]\n").put("x", "1").ask(outcome="crashed")
    run = way.arrived(way.deliver())
    assert set(run.tags) == {"first", "crashed"}
    api = wandb.Api(overrides={"base_url": sandbox.url}, api_key=sandbox.api_key)
    there = api.run(f"{run.entity}/{run.project}/{run.id}")
    there.tags.append("paper")
    there.update()
    way.put("outbox.yaml", "tags: [second]\n").ask(outcome="ok")
    assert set(way.arrived(way.deliver()).tags) == {"second", "paper"}
    assert set(way.arrived(way.put("outbox.yaml", "").deliver()).tags) == {"paper"}
    there.load(force=True)
    there.tags.clear()
    there.update()
    assert way.arrived(way.put("outbox.yaml", "tags: [third]\n").deliver()).tags == ["third"]
    assert way.arrived(way.put("outbox.yaml", "").deliver()).tags == []


def test_rows_have_the_time_of_the_experiment(sandbox: Sandbox, tmp_path: Path) -> None:
    """Not that of the upload, which may come a month later: no row is of a time after the end of the run."""
    way = Way(sandbox, tmp_path, "plain").put("train.log", "2025-12-03 10:00:00,000 - begins\n")
    way.put("metrics.csv", "step,loss\n0,1\n1,0.5\n")
    end = datetime.fromisoformat("2025-12-03 10:30:00").timestamp()
    for name in ("train.log", "metrics.csv"):
        os.utime(way.path / name, (end, end))
    run = way.arrived(way.deliver())
    assert [(row["_timestamp"], row["_runtime"]) for row in run.history] == [(end, 1800), (end, 1800)]
    assert run.summary["_runtime"] == 1800


def test_what_wandb_keeps_in_a_configuration_is_left_out(sandbox: Sandbox, tmp_path: Path) -> None:
    """The keys of a file of its own, which the public API never gives back."""
    way = Way(sandbox, tmp_path, "plain").put("config.yaml", "wandb_version: 1\n_wandb: {a: 1}\nlr: 2\n")
    receipt = way.deliver()
    assert {key: value for key, value in way.arrived(receipt).config.items() if key != "outbox"} == {"lr": 2}
    assert [each.partition(":")[0] for each in receipt.warnings] == ["reserved-key", "reserved-key"]


def test_a_training_of_lightning_is_drawn_over_its_epochs(sandbox: Sandbox, tmp_path: Path) -> None:
    """What comes once an epoch over the epoch, the rest over the step; the last values are the summary."""
    csv = "epoch,step,train_loss,val_loss\n" + "".join(
        f"{epoch},{epoch * 20 + 9},{1 / (epoch + 1)},\n{epoch},{epoch * 20 + 19},{0.9 / (epoch + 1)},\n"
        f"{epoch},{epoch * 20 + 19},,{2 / (epoch + 1)}\n"
        for epoch in range(3)
    )
    way = Way(sandbox, tmp_path, "plain").put("outbox.yaml", "").put("lightning_logs/version_0/metrics.csv", csv)
    run = way.put("hparams.yaml", "lr: 1e-3\n").arrived(way.deliver())
    assert run.config["lr"] == 0.001
    assert [row["_step"] for row in run.history] == [9, 19, 29, 39, 49, 59]
    assert [row.get("val_loss") for row in run.history] == [None, 2, None, 1, None, pytest.approx(2 / 3)]
    assert metric_axes(raw_config(sandbox, run)) == {"val_loss": "epoch", "train_loss": "step"}
    assert (run.summary["train_loss"], run.summary["val_loss"]) == (pytest.approx(0.3), pytest.approx(2 / 3))


def test_a_training_of_hugging_face_is_drawn_over_its_steps(sandbox: Sandbox, tmp_path: Path) -> None:
    """As its own W&B integration draws it."""
    log = [{"loss": 1 / step, "epoch": step / 4, "step": step} for step in (2, 4, 8)]
    state = {"global_step": 8, "max_steps": 8, "log_history": [*log, {"eval_loss": 0.25, "epoch": 2.0, "step": 8}]}
    way = Way(sandbox, tmp_path, "hf-trainer").put("trainer_state.json", state)
    run = way.put("all_results.json", {"eval_loss": 0.25}).arrived(way.deliver())
    assert [row["_step"] for row in run.history] == [2, 4, 8]
    assert (run.history[-1]["eval/loss"], run.history[-1]["train/loss"]) == (0.25, 0.125)
    assert metric_axes(raw_config(sandbox, run)) == dict.fromkeys(
        ("train/loss", "train/epoch", "eval/loss"), "train/global_step"
    )


def test_a_history_with_steps_far_apart_goes_on(sandbox: Sandbox, tmp_path: Path) -> None:
    """What is there is compared in few questions, not in one for every thousand steps."""
    way = Way(sandbox, tmp_path, "plain").put("metrics.csv", "step,reward\n0,1\n500000000,2\n")
    way.deliver()
    asked = len(sandbox.requests)
    run = way.arrived(way.put("metrics.csv", "step,reward\n0,1\n500000000,2\n900000000,3\n").deliver())
    assert [(row["_step"], row["reward"]) for row in run.history] == [(0, 1), (500_000_000, 2), (900_000_000, 3)]
    assert len(sandbox.requests) - asked < 1100


def test_the_table_is_the_whole_of_many_samples(sandbox: Sandbox, tmp_path: Path) -> None:
    """Other keys in every sample, other types under one key, 10,000 rows, and the rest said so."""
    samples: list[dict[str, Any]] = [{"index": index, "odd": [index, str(index), None, {"a": index}][index % 4]}
                                     for index in range(10_002)]  # fmt: skip
    samples[7]["late"] = [1, {"b": None}]
    way = Way(sandbox, tmp_path).put("results.json", samples)
    receipt = way.deliver()
    columns, rows = table_rows(way.arrived(receipt))
    assert columns == ["index", "odd", "odd/a", "late"]
    assert len(rows) == 10_000
    assert rows[:4] == [[0, 0, None, None], [1, "1", None, None], [2, None, None, None], [3, None, 3, None]]
    assert rows[7] == [7, None, 7, '[1, {"b": null}]']
    assert any(
        warning.startswith("table-cut: the table samples shows the first 10,000") for warning in receipt.warnings
    )


def test_what_would_vanish_is_cut_and_said(sandbox: Sandbox, tmp_path: Path) -> None:
    """A summary of 12 MB, a row of 20 MB in the history, and one in the results: the rest arrives."""
    way = Way(sandbox, tmp_path).put("metrics.json", {"acc": 0.5, **{f"blob{n}": "x" * 3_000_000 for n in range(4)}})
    way.put(
        "sample_metrics.jsonl",
        json.dumps({"sample_index": 0, "t": "x" * 20_000_000}) + '\n{"sample_index": 1, "v": 1}\n',
    )
    way.put("results.json", [{"index": 0, "t": "y" * 60_000_000}, {"index": 1, "t": "z" * 100}])
    receipt = way.deliver()
    run = way.arrived(receipt)
    assert run.summary["acc"] == 0.5
    assert sum(key.startswith("blob") for key in run.summary) == 1
    assert [row["sample_index"] for row in run.history] == [1]
    assert table_rows(run)[1] == [[1, "z" * 100]]
    rules = {warning.partition(":")[0] for warning in receipt.warnings}
    assert {"summary-too-large", "history-row-too-large", "unreadable-samples"} <= rules
