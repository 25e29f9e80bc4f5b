"""What ``outbox.yaml`` declares of inputs and outputs, as the plan has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plan_makers import Run, rules

from wandb_outbox.plan import plan_to_json, plan_to_text


def _plan(tmp_path: Path, *artifacts: dict[str, Any], **more: Any) -> Any:
    run = Run(tmp_path, format="plain")
    for name in ("model/weights.bin", "model/deep/a.txt", "models.txt", "a.json", "b.json", ".env"):
        run.put(name, b"12")
    return run.put("outbox.yaml", {"artifacts": list(artifacts), **more}).plan()


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ("model", ["model/deep/a.txt", "model/weights.bin"]),
        ("./model/", ["model/deep/a.txt", "model/weights.bin"]),
        ("model/**", ["model/deep/a.txt", "model/weights.bin"]),
        ("model/*.bin", ["model/weights.bin"]),
        ("**/*.txt", ["model/deep/a.txt", "models.txt"]),
        ("?.json", ["a.json", "b.json"]),
        (["a.json", "model/deep/*"], ["a.json", "model/deep/a.txt"]),
        ("*", [".hydra/config.yaml", "a.json", "b.json", "model/deep/a.txt", "model/weights.bin", "models.txt",
               "outbox.yaml"]),
    ],
)  # fmt: skip
def test_the_files_of_an_artifact(tmp_path: Path, files: object, chosen: list[str]) -> None:
    """By patterns, and only those that may leave this machine."""
    plan = _plan(tmp_path, {"name": "m", "type": "model", "files": files})
    assert [file.path for file in plan.artifacts[1].files] == chosen
    assert rules(plan) == []


def test_the_guides_model_artifact(tmp_path: Path) -> None:
    """Its own metadata beside the run's config and provenance: it documents itself."""
    metadata = {"base_model": "distilbert", "id2label": {"0": "ham", "1": "phishing"}, "val_f1": 0.94}
    plan = _plan(
        tmp_path,
        {"name": "phishing-classifier", "type": "model", "description": "Fine-tuned", "metadata": metadata,
         "aliases": ["best"], "files": "model"},
        params={"lr": 1},
        inputs=["phishing-texts-encoded:v3"],
    )  # fmt: skip
    model = plan.artifacts[1]
    assert (model.name, model.type, model.description, model.bytes) == ("phishing-classifier", "model", "Fine-tuned", 4)
    assert model.aliases == ("latest", "best")
    assert {key: model.metadata[key] for key in metadata} == metadata
    assert (model.metadata["config"], model.metadata["provenance"]["run_id"]) == ({"params": {"lr": 1}}, "run0id")
    assert plan.inputs == ("phishing-texts-encoded:v3",)
    shown = plan_to_json(plan)
    assert (len(shown["artifacts"]), shown["inputs"]) == (2, ["phishing-texts-encoded:v3"])
    text = plan_to_text(plan)
    assert "artifact  phishing-classifier (model): 2 files, 4 bytes" in text
    assert "input     phishing-texts-encoded:v3" in text


@pytest.mark.parametrize(
    ("artifacts", "rule"),
    [
        ([{"name": "m", "type": "t", "files": "nothing/*"}], "artifact-without-files"),
        ([{"name": "m", "type": "t", "files": ".env"}], "artifact-without-files"),
        ([{"name": "outputs-2025-12-03-run_name", "type": "t", "files": "*"}], "artifact-name-taken"),
    ],
)
def test_an_artifact_that_cannot_be_is_left_out(tmp_path: Path, artifacts: list[dict[str, Any]], rule: str) -> None:
    """With a warning; the folder's own is sent all the same."""
    plan = _plan(tmp_path, *artifacts)
    assert len(plan.artifacts) == 1
    assert rules(plan) == [rule]


def test_one_name_is_one_artifact(tmp_path: Path) -> None:
    """The first of the name counts."""
    plan = _plan(tmp_path, {"name": "m", "type": "t", "files": "a.json"}, {"name": "m", "type": "t", "files": "b.json"})
    assert [file.path for file in plan.artifacts[1].files] == ["a.json"]
    assert rules(plan) == ["artifact-name-taken"]


def test_metadata_keeps_to_the_limit_of_keys(tmp_path: Path) -> None:
    """W&B allows a hundred at the top."""
    metadata = {f"k{number}": number for number in range(120)}
    plan = _plan(tmp_path, {"name": "m", "type": "t", "files": "a.json", "metadata": metadata})
    assert len(plan.artifacts[1].metadata) == 100
    assert rules(plan) == ["metadata-keys"]
