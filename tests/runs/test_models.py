"""What becomes of the weights of a training: left out and said so, or sent as a model that can be loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from runs_makers import Place, artifact_of, bytes_on_server

from wandb_outbox.folder import snapshot
from wandb_outbox.formats import bytes_to_send, recognise
from wandb_outbox.model import Plan, PlanRequest, RootRules
from wandb_outbox.plan import make_plan
from wandb_outbox.sandbox import ArtifactView

pytest_plugins = ("runs_fixtures",)

CONFIG = {
    "_name_or_path": "distilbert-base-uncased", "architectures": ["DistilBertForSequenceClassification"],
    "id2label": {"0": "ham", "1": "phishing"}, "label2id": {"ham": 0, "phishing": 1}, "model_type": "distilbert",
    "transformers_version": "4.36.0",
}  # fmt: skip
PICKLE = b"\x80\x04never loaded"


def trained(folder: Path, *, best: str | None = "./results/checkpoint-20", end: bool = True) -> Path:
    """What the Trainer leaves: two checkpoints, and the model at the end."""
    state: dict[str, Any] = {
        "global_step": 30,
        "max_steps": 30,
        "best_metric": 0.94,
        "best_model_checkpoint": best,
        "log_history": [],
    }
    for number in (10, 20):
        there = folder / f"checkpoint-{number}"
        (there / "global_step20").mkdir(parents=True)
        (there / "global_step20" / "zero.pt").write_bytes(b"zero")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            (there / name).write_bytes(PICKLE)
        (there / "model.safetensors").write_bytes(b"weights of %d" % number)
        (there / "config.json").write_text(json.dumps(CONFIG))
        (there / "tokenizer.json").write_text("{}")
        (there / "trainer_state.json").write_text(json.dumps(state))
    if end:
        (folder / "model.safetensors").write_bytes(b"weights at the end")
        (folder / "tokenizer_config.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "training_args.bin").write_bytes(PICKLE)
    (folder / "trainer_state.json").write_text(json.dumps(state))
    (folder / "all_results.json").write_text(json.dumps({"eval_f1": 0.94, "eval_accuracy": 0.96, "train_loss": 0.1}))
    return folder


def plan_of(folder: Path, log_model: str, kind: str = "hf-trainer") -> Plan:
    """The plan of the folder under this rule."""
    request = PlanRequest(str(folder), None, kind, "id", "site", rules=RootRules(log_model=log_model))
    return make_plan(request, snapshot(str(folder)))


def models(place: Place) -> list[ArtifactView]:
    """The models on the server."""
    return [each for each in place.sandbox.artifacts() if each.type == "model"]


def test_weights_stay_out_unless_asked_for(place: Place) -> None:
    """The folder's artifact has everything else; the plan names each file, and the setting that sends it."""
    folder = trained(place.root / "x")
    receipt = place.deliver(folder)
    assert models(place) == []
    assert set(bytes_on_server(artifact_of(place, receipt))) == {
        "config.json", "training_args.bin", "trainer_state.json", "all_results.json", "tokenizer_config.json"
    }  # fmt: skip
    plan = plan_of(folder, "none")
    assert {"model.safetensors", "checkpoint-10/optimizer.pt"} <= {each.path for each in plan.excluded}
    assert all("see log_model" in each.reason for each in plan.excluded)
    (told,) = [each.message for each in plan.warnings if each.rule == "weights-left-out"]
    assert 'set log_model = "best" or "end"' in told


@pytest.mark.parametrize(
    ("log_model", "weights", "names", "alias"),
    [
        ("best", b"weights of 20", {"config.json", "tokenizer.json"}, "checkpoint-20"),
        ("end", b"weights at the end", {"config.json", "tokenizer_config.json"}, "end"),
    ],
)
def test_the_model_is_an_artifact_that_can_be_loaded(
    place: Place, log_model: str, weights: bytes, names: set[str], alias: str
) -> None:
    """Its files at the top, and nothing of the optimizer; its metadata says what the guide asks for."""
    folder = trained(place.root / "x")
    (folder / "outbox.yaml").write_text("params: {seed: 42, hf_dataset_path: David-Egea/phishing-texts}\n")
    receipt = place.deliver(folder, log_model=log_model)
    (model,) = models(place)
    there = bytes_on_server(model)
    assert there["model.safetensors"] == weights
    assert set(there) == {"model.safetensors", *names}
    assert (model.state, model.logged_by, {alias, "latest"} <= set(model.aliases)) == (
        "COMMITTED", receipt.run_id, True
    )  # fmt: skip
    expected: dict[str, Any] = {
        "base_model": "distilbert-base-uncased", "dataset": "David-Egea/phishing-texts", "run_id": receipt.run_id,
        "num_labels": 2, "id2label": CONFIG["id2label"], "label2id": CONFIG["label2id"], "val_f1": 0.94,
        "val_accuracy": 0.96, "best_metric": 0.94, "framework": "transformers", "transformers_version": "4.36.0",
    }  # fmt: skip
    assert {key: model.metadata[key] for key in expected} == expected
    assert model.metadata["config"]["params"]["seed"] == 42
    assert "model.safetensors" not in bytes_on_server(artifact_of(place, receipt))
    assert place.deliver(folder, log_model=log_model) == receipt


@pytest.mark.parametrize(
    ("log_model", "made", "words"),
    [
        ("best", {"best": None}, "names no best checkpoint; set it to end"),
        ("best", {"best": "/gone/checkpoint-99"}, "there are no weights in checkpoint-99"),
        ("end", {"end": False}, "there are no weights in the folder itself"),
        ("best", {"best": "../../etc"}, "names no best checkpoint"),
    ],
)
def test_a_model_that_is_not_there_is_said(tmp_path: Path, log_model: str, made: dict[str, Any], words: str) -> None:
    """What was asked for cannot be sent: a warning, and the rest arrives."""
    plan = plan_of(trained(tmp_path / "x", **made), log_model)
    assert [each.type for each in plan.artifacts] == ["run_outputs"]
    assert any(each.rule == "model-not-found" and words in each.message for each in plan.warnings)


def test_an_adapter_names_the_model_that_it_was_trained_for(tmp_path: Path) -> None:
    """A training of LoRA leaves no model's configuration, but its own."""
    folder = trained(tmp_path / "x")
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    (folder / "adapter_model.safetensors").write_bytes(b"few weights")
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Llama3-8B"}'
    )
    model = plan_of(folder, "end").artifacts[1]
    assert model.metadata["base_model"] == "meta-llama/Llama3-8B"
    assert {file.path for file in model.files} == {
        "adapter_config.json", "adapter_model.safetensors", "tokenizer_config.json"
    }  # fmt: skip


def test_a_model_with_many_metrics_keeps_to_the_limit_of_keys(tmp_path: Path) -> None:
    """What the model is comes before how well it did in each class."""
    folder = trained(tmp_path / "x")
    (folder / "all_results.json").write_text(json.dumps({f"eval_f1_class_{number}": 0.5 for number in range(150)}))
    plan = plan_of(folder, "end")
    metadata = plan.artifacts[1].metadata
    assert len(metadata) == 100
    assert {"config", "base_model", "run_id", "id2label", "transformers_version"} <= set(metadata)
    assert "metadata-keys" in {each.rule for each in plan.warnings}


def test_the_state_of_a_checkpoint_is_sent_where_there_is_no_other(place: Place) -> None:
    """The history is read from it, so it is no weight; the model that it names as the best can be asked for."""
    folder = trained(place.root / "x")
    (folder / "trainer_state.json").unlink()
    receipt = place.deliver(folder, log_model="best")
    there = set(bytes_on_server(artifact_of(place, receipt)))
    assert {name for name in there if name.startswith("checkpoint-")} == {"checkpoint-20/trainer_state.json"}
    assert [bytes_on_server(each)["model.safetensors"] for each in models(place)] == [b"weights of 20"]


def test_weights_that_outbox_yaml_declares_are_sent(tmp_path: Path) -> None:
    """What the experiment itself names as an artifact is sent, whatever the root says."""
    folder = trained(tmp_path / "x")
    (folder / "outbox.yaml").write_text("artifacts: [{name: mine, type: model, files: model.safetensors}]\n")
    plan = plan_of(folder, "none")
    assert [(each.name, len(each.files)) for each in plan.artifacts[1:]] == [("mine", 1)]


def test_an_application_of_hydra_may_train_too(tmp_path: Path) -> None:
    """Its weights are no results, either; its configuration stays Hydra's, and its numbers are those of the Trainer."""
    folder = trained(tmp_path)
    (folder / ".hydra").mkdir()
    (folder / ".hydra/config.yaml").write_text("lr: 1e-3\n")
    assert recognise(str(folder), os.listdir(folder)) == "hydra"
    none, best, end = (plan_of(folder, each, "hydra") for each in ("none", "best", "end"))
    sent = {".hydra/config.yaml", "all_results.json", "config.json", "tokenizer_config.json", "training_args.bin"}
    for plan in (none, best, end):
        assert {file.path for file in plan.artifacts[0].files} == {*sent, "trainer_state.json"}
        assert {key: value for key, value in plan.config.items() if key != "outbox"} == {"lr": 0.001}
        assert (plan.summary["eval_f1"], plan.summary["train_loss"]) == (0.94, 0.1)
    assert "weights-left-out" in {each.rule for each in none.warnings}
    assert [each.type for each in best.artifacts] == [each.type for each in end.artifacts] == ["run_outputs", "model"]
    assert best.artifacts[1].metadata["val_f1"] == 0.94
    taken = snapshot(str(folder))
    assert bytes_to_send("hydra", taken, "none") == none.artifacts[0].bytes < bytes_to_send("hydra", taken, "best")
    (folder / "trainer_state.json").unlink()
    for number in (10, 20):
        (folder / f"checkpoint-{number}/trainer_state.json").unlink()
    assert "checkpoint-10/model.safetensors" in {
        file.path for file in plan_of(folder, "none", "hydra").artifacts[0].files
    }
