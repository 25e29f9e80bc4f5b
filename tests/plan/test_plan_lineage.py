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


def test_a_name_that_is_not_allowed_is_made_to_fit(tmp_path: Path) -> None:
    """Cut with a hash, and with dashes for what W&B does not allow; two that become one name are not mixed."""
    long = "x" * 129
    plan = _plan(tmp_path, *({"name": name, "type": "t", "files": "a.json"} for name in (long, "a b", "a/b")))
    assert [(len(each.name), each.name[:5]) for each in plan.artifacts[1:]] == [(128, "xxxxx"), (3, "a-b")]
    assert rules(plan) == [
        "artifact-name-length", "artifact-name-characters", "artifact-name-characters", "artifact-name-taken"
    ]  # fmt: skip


def test_a_fault_in_what_an_artifact_can_be_without_costs_only_that(tmp_path: Path) -> None:
    """Aliases, description and metadata; the artifact is sent."""
    sound = {"name": "m", "type": "t", "files": "a.json"}
    (planned,) = _plan(tmp_path, {**sound, "aliases": ["v3", "ok"], "description": 5, "metadata": [1]}).artifacts[1:]
    assert (planned.aliases, planned.description, planned.metadata["run_id"]) == (("latest", "ok"), "", "run0id")


def test_texts_stand_for_lists_of_one(tmp_path: Path) -> None:
    """Inputs, and tags with commas as on the command line."""
    plan = _plan(tmp_path, inputs="raw:v1", tags="nlp, baseline")
    assert (plan.inputs, plan.tags) == (("raw:v1",), ("nlp", "baseline"))


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
