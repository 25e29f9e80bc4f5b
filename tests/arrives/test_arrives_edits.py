"""What a person changes about a run in W&B outlives the folder's next revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wandb
from arrivals import Way

from wandb_outbox.model import Overrides
from wandb_outbox.sandbox import Sandbox

pytest_plugins = ("arrives_fixtures",)


def test_a_later_revision_leaves_what_a_person_changed(sandbox: Sandbox, tmp_path: Path) -> None:
    """Name, notes and group, tags both ways, keys of summary and configuration; what was ours alone goes as before."""
    way = Way(sandbox, tmp_path, format="hydra").put("results.json", []).put("metrics.json", {"acc": 0.5, "old": 1})
    way.put(".hydra/config.yaml", "lr: 0.1\ngone: 1\n").ask(overrides=Overrides(tags=("a", "b")))
    first = way.deliver()
    remote: Any = wandb.Api(overrides={"base_url": sandbox.url}, api_key=sandbox.api_key).run(
        f"{first.entity}/{first.project}/{first.run_id}"
    )
    remote.display_name, remote.notes, remote.group = "the best run", "see the paper", "figure 3"
    remote.tags.remove("a")
    remote.tags.append("paper")
    remote.config["reviewed_by"] = "Ann"
    remote.update()
    remote.summary.update({"human_score": 4.5})
    for revision in (1, 2):  # a second time, too: what was said last is ours, not theirs
        way.put("metrics.json", {"acc": 0.5 + revision / 10}).put(".hydra/config.yaml", f"lr: 0.{revision}\n")
        receipt = way.deliver()
        run = way.arrived(receipt)
        assert receipt.run_id == first.run_id
        assert (receipt.name, run.display_name, run.notes, run.group) == (
            "the best run",
            *("the best run", "see the paper"),
            "figure 3",
        )
        assert set(run.tags) == {"b", "paper"}
        assert (run.config["reviewed_by"], run.config["lr"]) == ("Ann", revision / 10)
        assert "gone" not in run.config
        assert (run.summary["human_score"], run.summary["acc"]) == (4.5, 0.5 + revision / 10)
        assert "old" not in run.summary
