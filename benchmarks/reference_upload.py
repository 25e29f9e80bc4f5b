"""The reference way to upload one finished folder: one process a folder, as a shell loop over it would do.

    python reference_upload.py DIR --project P [--tags T...]

It opens a run, logs the summary of ``results.json``, logs an artifact of two files (``results.json`` and the Hydra
configuration), and finishes. It sends nothing else of the folder and asks nobody whether it arrived.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import wandb
import yaml


def summary_of(results: list[dict[str, Any]]) -> dict[str, float]:
    """Counts and accuracies over the samples."""
    total = len(results)
    completed = sum(bool(each.get("completed")) for each in results)
    summary: dict[str, float] = {"total_samples": total, "completed": completed, "errors": total - completed}
    for name in sorted({name for each in results for name in each.get("eval") or {}}):
        correct = sum(bool(each["eval"].get(name, {}).get("is_correct")) for each in results if each.get("eval"))
        summary[f"{name}/correct"] = correct
        summary[f"{name}/accuracy"] = correct / total if total else 0.0
    return summary


def main() -> None:
    """Upload one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--project", required=True)
    parser.add_argument("--name")
    parser.add_argument("--tags", nargs="*", default=[])
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    results_file, config_file = folder / "results.json", folder / ".hydra" / "config.yaml"
    config = yaml.safe_load(config_file.read_text())
    summary = summary_of(json.loads(results_file.read_text()))
    run = wandb.init(project=arguments.project, name=arguments.name or folder.name, tags=arguments.tags, config=config)
    run.log(summary)
    artifact = wandb.Artifact(f"results-{folder.parent.name}-{folder.name}", "evaluation_results")
    artifact.add_file(str(results_file))
    artifact.add_file(str(config_file))
    run.log_artifact(artifact)
    run.finish()


if __name__ == "__main__":
    main()
