"""The examples of the two guides, as a researcher would write them down, delivered and read back.

The first guide is about evaluations (``llm-tts-eval``), the second about pipelines of experiments (``params-meta``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from arrivals import Way, raw_config, table_rows
from sdk_here import sandbox_for_the_sdk

from wandb_outbox.deliver.readback import metric_axes
from wandb_outbox.demo.writer import Experiment, write_run
from wandb_outbox.model import Receipt, RootRules
from wandb_outbox.sandbox import ArtifactView, RunView, Sandbox

TEAM = "nlpresearch.group"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A server with the team of the first guide."""
    with sandbox_for_the_sdk(tmp_path_factory, ("sandbox", TEAM)) as server:
        yield server


def public_api(sandbox: Sandbox) -> wandb.Api:
    """W&B as people ask it in notebooks."""
    return wandb.Api(overrides={"base_url": sandbox.url}, api_key=sandbox.api_key)


# -- the guide of the evaluations ----------------------------------------------------------------------------------------


def evaluation(strategy: str, kind: str, model: str, dataset: str, **more: Any) -> dict[str, Any]:
    """The Hydra configuration of an evaluation."""
    about = {"strategy": {"type": strategy}, "model": {"type": kind, "model_path": model}}
    return {**about, "dataset": {"data_name": dataset, **more.pop("part", {})}, **more}


EVALUATIONS: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    "deepconf_qwen3-8b_vllm": (
        evaluation("deepconf", "vllm", "Qwen/Qwen3-8B", "aime25"),
        "llm-tts-eval-aime2025", {"deepconf", "qwen3-8b", "vllm", "aime2025"},
    ),
    "deepconf_qwen3-32b_openai": (
        {
            **evaluation("deepconf", "openai_api", "Qwen/Qwen3-32B", "aime25", generation={"top_k": 16}),
            "strategy": {"type": "deepconf", "temperature": 0.6, "confidence_threshold": -10},
        },
        "llm-tts-eval-aime2025",
        {"deepconf", "qwen3-32b", "openai", "aime2025", "temp0.6", "top_k16", "threshold-10"},
    ),
    "self-consistency_llama3-8b_hf": (
        evaluation("self_consistency", "local", "meta-llama/Llama3-8B", "gsm8k"),
        "llm-tts-eval-gsm8k", {"self-consistency", "llama3-8b", "hf", "gsm8k"},
    ),
    "baseline_gpt-4o_openai": (
        evaluation("baseline", "openai_api", "gpt-4o", "math"),
        "llm-tts-eval-math500", {"baseline", "gpt-4o", "openai", "math500"},
    ),
    "deepconf_qwen3-8b_vllm_s0-12": (
        evaluation("deepconf", "vllm", "Qwen/Qwen3-8B", "aime25", part={"offset": 0, "subset": 13}),
        "llm-tts-eval-aime2025", {"deepconf", "qwen3-8b", "vllm", "aime2025"},
    ),
    "deepconf_qwen3-8b_vllm_s13-29": (
        evaluation("deepconf", "vllm", "Qwen/Qwen3-8B", "aime25", part={"offset": 13, "subset": 17}),
        "llm-tts-eval-aime2025", {"deepconf", "qwen3-8b", "vllm", "aime2025"},
    ),
    "mur_qwen3-8b_vllm": (
        evaluation("adaptive", "vllm", "Qwen/Qwen3-8B", "gsm8k"),
        "llm-tts-eval-gsm8k", {"mur", "qwen3-8b", "vllm", "gsm8k"},
    ),
    "tot_gpt-4o_openai": (
        evaluation("tree_of_thoughts", "openai_api", "gpt-4o", "math500"),
        "llm-tts-eval-math500", {"tot", "gpt-4o", "openai", "math500"},
    ),
}  # fmt: skip
"""By the run's name in the guide: a configuration, the project, and the tags of the guide's table."""


@pytest.mark.parametrize("name", EVALUATIONS)
def test_the_names_projects_and_tags_of_the_guide(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    """``{strategy}_{model}_{backend}[_suffix]``, a project for each dataset, and the tags people filter by."""
    config, project, tags = EVALUATIONS[name]
    receipt = Way(sandbox, tmp_path).put(".hydra/config.yaml", config).put("results.json", "[]").deliver()
    run = sandbox.run(receipt.entity, receipt.project, receipt.run_id)
    assert run is not None
    assert (run.project, run.display_name, run.job_type, set(run.tags)) == (project, name, "eval", tags)


def test_the_artifact_is_fetched_as_the_guide_says(sandbox: Sandbox, tmp_path: Path) -> None:
    """``nlpresearch.group/llm-tts-eval-aime2025/outputs-2025-12-03-run_name:latest`` is the folder, byte for byte.

    Another experiment names it so among its inputs, and both ends of the lineage say it.
    """
    full = f"{TEAM}/llm-tts-eval-aime2025/outputs-2025-12-03-run_name:latest"
    way = Way(sandbox, tmp_path / "outputs", below="2025-12-03/run_name").ask(rules=RootRules(entity=TEAM))
    write_run(str(way.path), Experiment(samples=3, strategy="deepconf", dataset="aime2025"))
    made = way.deliver()
    assert (made.entity, f"{TEAM}/{made.project}/{made.artifact}") == (TEAM, full.replace(":latest", ":v0"))
    settings = wandb.Settings(base_url=sandbox.url, api_key=sandbox.api_key, root_dir=str(tmp_path), console="off")
    with wandb.init(project="reading", settings=settings) as run:
        fetched = Path(run.use_artifact(full).download(root=str(tmp_path / "there")))
    for file in (file for file in way.path.rglob("*") if file.is_file()):
        assert (fetched / file.relative_to(way.path)).read_bytes() == file.read_bytes()
    reader = Way(sandbox, tmp_path / "other", "plain", "analysis").put("outbox.yaml", {"inputs": [full]}).deliver()
    assert not any(said.startswith("missing-input") for said in reader.warnings)
    there = way.artifact(made)
    assert (there.logged_by, there.used_by[-1]) == (made.run_id, reader.run_id)


# -- the guide of the pipelines ------------------------------------------------------------------------------------------

GROUP = "phishing-pipeline-v2"
ENCODE = """\
project: phishing-detection
group: phishing-pipeline-v2
job_type: encode
params:
  hf_dataset_path: David-Egea/phishing-texts
  hf_config_name: null
  hf_revision: v3
  splits: {train: 0.8, val: 0.1, test: 0.1}
  max_length: 256
  encoder: head_tail
  seed: 42
  output_artifact: phishing-texts-encoded:v3
meta:
  task: binary phishing detection dataset
  labels: [ham, phishing]
  output_structure: datasets.DatasetDict
  output_format: hf_arrow_dir
  recommended_loader: datasets.load_from_disk
  license: MIT
summary: {num_samples: 20301, num_phishing: 7715, avg_text_length: 211.5}
artifacts:
  - name: phishing-texts-encoded
    type: dataset
    description: Tokenized phishing detection dataset with head-tail truncation
    files: data
    metadata:
      num_samples: {train: 16240, val: 2030, test: 2031}
      class_distribution: {ham: 0.62, phishing: 0.38}
      max_length: 256
      source_dataset: David-Egea/phishing-texts
      encoding_strategy: head_tail
      tokenizer: distilbert-base-uncased
      format: hf_arrow
      loader: datasets.load_from_disk
      columns: [input_ids, attention_mask, label]
"""
PARAMS = {
    "hf_dataset_path": "David-Egea/phishing-texts", "hf_config_name": None, "hf_revision": "v3",
    "splits": {"train": 0.8, "val": 0.1, "test": 0.1}, "max_length": 256, "encoder": "head_tail", "seed": 42,
    "output_artifact": "phishing-texts-encoded:v3",
}  # fmt: skip
META = {
    "task": "binary phishing detection dataset", "labels": ["ham", "phishing"],
    "output_structure": "datasets.DatasetDict", "output_format": "hf_arrow_dir",
    "recommended_loader": "datasets.load_from_disk", "license": "MIT",
}  # fmt: skip
STATISTICS = {"num_samples": 20301, "num_phishing": 7715, "avg_text_length": 211.5}
DATASET = {
    "num_samples": {"train": 16240, "val": 2030, "test": 2031},
    "class_distribution": {"ham": 0.62, "phishing": 0.38}, "max_length": 256,
    "source_dataset": "David-Egea/phishing-texts", "encoding_strategy": "head_tail",
    "tokenizer": "distilbert-base-uncased", "format": "hf_arrow", "loader": "datasets.load_from_disk",
    "columns": ["input_ids", "attention_mask", "label"],
}  # fmt: skip
TRAIN = """\
project: phishing-detection
tags: [nlp, transformers, baseline]
inputs: [phishing-texts-encoded]
artifacts:
  - name: phishing-classifier
    type: model
    description: Fine-tuned DistilBERT for phishing detection
    files: model_weights
    metadata:
      base_model: distilbert-base-uncased
      dataset: phishing-texts-encoded:v3
      num_labels: 2
      id2label: {0: ham, 1: phishing}
      label2id: {ham: 0, phishing: 1}
      val_f1: 0.94
      val_accuracy: 0.96
      framework: transformers
      transformers_version: 4.36.0
media: predictions.csv
"""
MODEL = {
    "base_model": "distilbert-base-uncased", "dataset": "phishing-texts-encoded:v3", "num_labels": 2,
    "id2label": {"0": "ham", "1": "phishing"}, "label2id": {"ham": 0, "phishing": 1}, "val_f1": 0.94,
    "val_accuracy": 0.96, "framework": "transformers", "transformers_version": "4.36.0",
}  # fmt: skip
CURVES = {
    "train/loss": [0.9, 0.5], "train/accuracy": [0.5, 0.75], "eval/loss": [1.0, 0.625], "eval/f1": [0.5, 0.94],
    "eval/precision": [0.25, 0.875], "eval/recall": [0.5, 0.96],
}  # fmt: skip
PREDICTIONS = """\
text,true_label,predicted_label,confidence
Click here to win!,phishing,phishing,0.98
Meeting at 3pm,ham,ham,0.95
"""


def experiment(sandbox: Sandbox, root: Path, below: str, said: str | dict[str, Any]) -> Way:
    """A folder of the pipeline, below a root with the convention of its guide."""
    way = Way(sandbox, root, "plain", below).ask(rules=RootRules(convention="params-meta"))
    return way.put("outbox.yaml", said)


def artifact_of(sandbox: Sandbox, receipt: Receipt, name: str) -> ArtifactView:
    """The newest version of an artifact in the project."""
    return [each for each in sandbox.artifacts(receipt.entity, receipt.project) if each.name == name][-1]


def config_of(run: RunView) -> dict[str, Any]:
    """The configuration without what is ours."""
    return {key: value for key, value in run.config.items() if key != "outbox"}


def test_the_data_step_of_the_guide(sandbox: Sandbox, tmp_path: Path) -> None:
    """``encode-head-tail-phishing-texts``: ``params`` and ``meta``, the statistics, and the dataset with its metadata.

    The statistics stand in the run's summary and in the artifact's metadata; people find the run by a parameter.
    """
    way = experiment(sandbox, tmp_path, "head_tail", ENCODE).put("data/train/0.arrow", b"rows")
    receipt = way.deliver()
    run = way.arrived(receipt)
    assert (run.display_name, run.group, run.job_type) == ("encode-head-tail-phishing-texts", GROUP, "encode")
    assert config_of(run) == {"params": PARAMS, "meta": META}
    assert {key: run.summary[key] for key in STATISTICS} == STATISTICS
    there = artifact_of(sandbox, receipt, "phishing-texts-encoded")
    assert (there.type, set(there.files)) == ("dataset", {"data/train/0.arrow"})
    assert there.description == "Tokenized phishing detection dataset with head-tail truncation"
    assert {key: there.metadata[key] for key in DATASET} == DATASET
    assert (there.metadata["config"], there.metadata["summary"]) == ({"params": PARAMS, "meta": META}, STATISTICS)
    assert there.metadata["run_id"] == receipt.run_id
    api = public_api(sandbox)
    (found,) = api.runs("sandbox/phishing-detection", filters={"config.params.encoder": "head_tail"})
    assert (found.id, api.artifact(f"sandbox/phishing-detection/{there.name}:v0").logged_by().id) == (
        receipt.run_id, receipt.run_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "group", "job_type"),
    [
        ("exp-003-train-2025-12-13T07-30-22Z", "exp-003", "train"),
        ("exp-001-train-20241217T1430Z", "exp-001", "train"),
        ("exp-001-fine-tune-20241217T1430Z", "exp-001", "fine-tune"),
    ],
)
def test_the_experiments_of_the_guide(sandbox: Sandbox, tmp_path: Path, name: str, group: str, job_type: str) -> None:
    """Name, group, job type, tags, the metrics over the epoch, the table of predictions, and the model's metadata.

    The last value of each metric is in the summary; the model links back to the run that trained it.
    """
    rows = zip(*CURVES.values(), strict=True)
    lines = [",".join(map(str, (epoch, *row))) for epoch, row in enumerate(rows)]
    way = experiment(sandbox, tmp_path, name, TRAIN).put("model_weights/model.safetensors", name.encode())
    way.put("metrics.csv", "\n".join([",".join(("epoch", *CURVES)), *lines]) + "\n").put("predictions.csv", PREDICTIONS)
    way.put("config.yaml", {"params": {"learning_rate": 1e-4}, "meta": {"model": "bert-base"}})
    assert way.plan().warnings == ()
    receipt = way.deliver()
    run = way.arrived(receipt)
    assert (run.display_name, run.group, run.job_type) == (name, group, job_type)
    assert set(run.tags) == {"nlp", "transformers", "baseline"}
    assert [[row[key] for row in run.history] for key in CURVES] == list(CURVES.values())
    assert {key: run.summary[key] for key in CURVES} == {key: values[-1] for key, values in CURVES.items()}
    assert metric_axes(raw_config(sandbox, run)) == dict.fromkeys(CURVES, "epoch")
    columns, cells = table_rows(run, "predictions.csv")
    assert columns == ["text", "true_label", "predicted_label", "confidence"]
    assert cells == [["Click here to win!", "phishing", "phishing", 0.98], ["Meeting at 3pm", "ham", "ham", 0.95]]
    model = artifact_of(sandbox, receipt, "phishing-classifier")
    assert (model.type, model.description) == ("model", "Fine-tuned DistilBERT for phishing detection")
    assert {key: model.metadata[key] for key in MODEL} == MODEL
    assert model.metadata["run_id"] == receipt.run_id
    assert model.metadata["config"]["params"] == {"learning_rate": 1e-4}


def test_the_minimal_example_of_the_guide(sandbox: Sandbox, tmp_path: Path) -> None:
    """``foo-project``, a name with the seconds since the epoch, and a configuration in two parts."""
    config = {
        "params": {"learning_rate": 1e-4, "batch_size": 32, "epochs": 10},
        "meta": {"task": "classification", "model": "bert-base"},
    }
    said = {"project": "foo-project", "name": "exp-001-run-1734445800", "group": "exp-001", "job_type": "train"}
    way = experiment(sandbox, tmp_path, "some-folder", {**said, "tags": ["baseline"], **config})
    assert way.plan().warnings == ()
    run = way.arrived(way.deliver())
    assert (run.project, run.display_name, run.group, run.job_type) == tuple(said.values())
    assert config_of(run) == config


BERT = {"framework": "transformers", "base_model": "bert-base-uncased", "f1_score": 0.94}
FURTHER: tuple[dict[str, Any], ...] = (
    {"name": "phishing-classifier", "type": "model", "description": "Fine-tuned BERT for phishing detection",
     "files": "model_weights", "metadata": BERT},
    {"name": "phishing-predictions", "type": "predictions", "files": "predictions.csv",
     "metadata": {"model": "phishing-classifier:v0", "dataset": "phishing-texts-encoded:v3", "threshold": 0.5,
                  "num_predictions": 2}},
)  # fmt: skip


def test_the_further_artifacts_of_the_guide(sandbox: Sandbox, tmp_path: Path) -> None:
    """Its first model, and predictions that name the model and the dataset they come from."""
    said = {"project": "my-project", "artifacts": list(FURTHER)}
    way = experiment(sandbox, tmp_path, "exp-001-test-20241217T1430Z", said)
    receipt = way.put("model_weights/x", b"1").put("predictions.csv", PREDICTIONS).deliver()
    for expected in FURTHER:
        there = artifact_of(sandbox, receipt, expected["name"])
        assert (there.type, there.description or "") == (expected["type"], expected.get("description", ""))
        assert {key: there.metadata[key] for key in expected["metadata"]} == expected["metadata"]


TAGS = (
    "nlp", "cv", "tabular", "classification", "regression", "full-dataset", "sample-10k", "english", "multilingual",
    "pre-2023-data", "pytorch", "transformers", "sklearn", "distributed", "soft-filtering", "keep-emojis", "cased",
    "uncased", "bpe", "wordpiece", "vocab-30k", "baseline", "experiment", "prod", "deprecated", "bug-fix",
    "prod-candidate", "dev", "local-mac", "sagemaker", "lambda", "colab", "p4d.24xlarge", "ablation", "hyperparam-search",
    "data-update", "ticket-JIRA-123", "pr-45"
)  # fmt: skip
JOB_TYPES = (
    "pre-train", "train", "fine-tune", "eval", "test", "inference", "ingest", "clean", "encode", "transform", "split"
)  # fmt: skip


@pytest.mark.parametrize("job_type", JOB_TYPES)
def test_every_job_type_and_tag_of_the_guide(sandbox: Sandbox, tmp_path: Path, job_type: str) -> None:
    """As they are written there, and without a word about them."""
    said = {"project": "vocabulary", "group": GROUP, "job_type": job_type, "tags": list(TAGS), "params": {"a": 1}}
    way = experiment(sandbox, tmp_path, "exp-002-20241217T1430Z", said)
    assert way.plan().warnings == ()
    run = way.arrived(way.deliver())
    assert (run.job_type, set(run.tags), run.group) == (job_type, set(TAGS), GROUP)
    assert run.display_name == f"exp-002-{job_type}-20241217T1430Z"


def test_the_lineage_graph_of_the_guide(sandbox: Sandbox, tmp_path: Path) -> None:
    """One cleaned dataset, two encodings of it, and a model from each: from a model one comes back to the source.

    The same files under two names stay two artifacts; each arrow is read back with the public interface.
    """

    def step(below: str, makes: str, kind: str = "dataset", uses: str | None = None) -> None:
        said = {
            "project": "lineage", "group": GROUP, "tags": ["english"], "inputs": [uses] if uses else [],
            "artifacts": [{"name": makes, "type": kind, "files": "data"}],
        }  # fmt: skip
        receipt = experiment(sandbox, tmp_path, below, json.dumps(said)).put("data/x", kind).deliver()
        assert not any(each.startswith("missing-input") for each in receipt.warnings)

    step("ingest-phishing-texts", "raw-data")
    step("clean-phishing-texts", "cleaned-data", uses="raw-data:latest")
    step("encode-standard-phishing-texts", "encoded-standard", uses="cleaned-data:latest")
    step("encode-head-tail-phishing-texts", "encoded-head-tail", uses="sandbox/lineage/cleaned-data:v0")
    step("exp-001-fine-tune-20241217T1430Z", "model-standard", "model", "encoded-standard:v0")
    step("exp-002-fine-tune-20241217T1430Z", "model-head-tail", "model", "encoded-head-tail")
    api = public_api(sandbox)

    def back(name: str) -> list[str]:
        """The way from an artifact to its source."""
        artifact = api.artifact(f"sandbox/lineage/{name}:v0")
        run = artifact.logged_by()
        used = [each.name.partition(":")[0] for each in run.used_artifacts()]
        return [name, str(run.name), *(back(used[0]) if used else [])]

    assert back("model-head-tail") == [
        "model-head-tail", "exp-002-fine-tune-20241217T1430Z", "encoded-head-tail", "encode-head-tail-phishing-texts",
        "cleaned-data", "clean-phishing-texts", "raw-data", "ingest-phishing-texts",
    ]  # fmt: skip
    assert back("model-standard")[2:4] == ["encoded-standard", "encode-standard-phishing-texts"]
    users = {run.name for run in api.artifact("sandbox/lineage/cleaned-data:v0").used_by()}
    assert users == {"encode-standard-phishing-texts", "encode-head-tail-phishing-texts"}
