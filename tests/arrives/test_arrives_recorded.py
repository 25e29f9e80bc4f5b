"""What an offline run recorded beside numbers: its configuration as the SDK would keep it, and its own charts."""

from __future__ import annotations

from pathlib import Path

import wandb
from arrivals import Way, raw_config
from offline_runs import made

from wandb_outbox.deliver.readback import panels_of
from wandb_outbox.formats.transaction_log import merge_into
from wandb_outbox.model import JsonValue, run_id
from wandb_outbox.sandbox import Sandbox

pytest_plugins = ("arrives_fixtures",)


def test_charts_and_a_changed_configuration_arrive(sandbox: Sandbox, tmp_path: Path) -> None:
    """``wandb.plot`` keeps a chart's definition apart from its table; ``config.update`` changes one key of a mapping."""
    recorded = made(5, "chart")
    way = Way(sandbox, tmp_path, "offline-run", str(recorded.into(tmp_path).relative_to(tmp_path)))
    run = way.arrived(way.deliver())
    assert run.config["net"] == {"depth": 3, "width": 2}
    charts = panels_of(raw_config(sandbox, run))
    assert set(charts) == {"curve"}
    assert charts["curve"] == way.plan().panels["curve"]
    assert "A curve" in str(charts["curve"])
    assert run.summary["curve_table"]["_type"] == "table-file"
    assert len(run.history) == 6


def test_an_offline_run_that_was_deleted_on_the_server_goes_under_a_new_one(sandbox: Sandbox, tmp_path: Path) -> None:
    """With its rows and its artifacts, whose versions the server still has."""
    recorded = made(6)
    below = str(recorded.into(tmp_path).relative_to(tmp_path))
    first = Way(sandbox, tmp_path, "offline-run", below).deliver()
    api = wandb.Api(overrides={"base_url": sandbox.url}, api_key=sandbox.api_key)
    api.run(f"{first.entity}/{first.project}/{first.run_id}").delete()
    way = Way(sandbox, tmp_path, "offline-run", below)
    again = way.ask(incarnation=1, run_id=run_id("site", str(way.path), 1)).deliver()
    assert again.run_id != first.run_id == recorded.run_id
    run = way.arrived(again)
    assert [row["_step"] for row in run.history] == list(range(6))
    there = api.run(f"{run.entity}/{run.project}/{run.id}").logged_artifacts()
    assert {"model", f"run-{recorded.run_id}-table"} <= {each.name.partition(":")[0] for each in there}


def test_a_chart_in_a_run_folder_goes_to_its_run(sandbox: Sandbox, tmp_path: Path) -> None:
    """The folder's own configuration goes before what the run recorded, and takes nothing else away."""
    way = Way(sandbox, tmp_path, "plain", "run").put("config.yaml", "lr: 0.5\n")
    made(5, "chart", project="in-a-folder").into(way.path)
    run = way.arrived(way.deliver())
    assert (run.config["lr"], run.config["net"]) == (0.5, {"depth": 3, "width": 2})
    assert set(panels_of(raw_config(sandbox, run))) == {"curve"}


def test_a_configuration_is_changed_leaf_by_leaf() -> None:
    """What is no mapping on either side takes the other's place; an empty mapping changes nothing."""
    config: dict[str, JsonValue] = {"a": {"b": 1, "c": {"d": 2}}, "e": 3, "f": {"g": 4}}
    merge_into(config, {"a": {"c": {"h": 5}}, "e": {"i": 6}, "f": 7, "j": {}})
    assert config == {"a": {"b": 1, "c": {"d": 2, "h": 5}}, "e": {"i": 6}, "f": 7, "j": {}}
    merge_into(config, {"a": {}, "e": {}, "f": {}})
    assert config == {"a": {"b": 1, "c": {"d": 2, "h": 5}}, "e": {"i": 6}, "f": 7, "j": {}}
