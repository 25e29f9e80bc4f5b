"""The convention ``params-meta``: the guide's examples, where each part of a name comes from, and the checklist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plan_makers import Run, rules

from wandb_outbox.model import Overrides, Plan, RootRules, Severity
from wandb_outbox.plan.params_meta import follows_pattern

NESTED = {"params": {"lr": 1e-4}, "meta": {"task": "phishing"}}
STARTED = "2025-12-03T10-00-00Z"


def _run(root: Path, below: str, kind: str = "plain", config: object = NESTED) -> Run:
    run = Run(root, below, format=kind).ask(rules=RootRules(convention="params-meta", tags=("nlp",)))
    (run.path / ".hydra/config.yaml").unlink()
    run.put("model.bin", b"1")
    return run.put("config.yaml", config) if config is not None else run


def _found(plan: Plan, rule: str) -> str:
    return next(warning.message for warning in plan.warnings if warning.rule == rule)


@pytest.mark.parametrize(
    ("below", "name", "group", "job_type"),
    [
        ("exp-003-train-2025-12-13T07-30-22Z", "exp-003-train-2025-12-13T07-30-22Z", "exp-003", "train"),
        ("exp-001-train-20241217T1430Z", "exp-001-train-20241217T1430Z", "exp-001", "train"),
        ("exp-001-fine-tune-20241217T1430Z", "exp-001-fine-tune-20241217T1430Z", "exp-001", "fine-tune"),
        ("exp-012-eval-1734445800", "exp-012-eval-1734445800", "exp-012", "eval"),
        ("exp_3_pre_train_2025-12-13T07-30-22Z", "exp-003-pre-train-2025-12-13T07-30-22Z", "exp-003", "pre-train"),
        ("exp-003/train/2025-12-13/07-30-22", "exp-003-train-2025-12-13T07-30-22", "exp-003", "train"),
        ("2025-12-13/exp-003/test_07-30-22", "exp-003-test-2025-12-13T07-30-22", "exp-003", "test"),
        ("exp-1234/inference", f"exp-1234-inference-{STARTED}", "exp-1234", "inference"),
        ("experiment-7/train", f"exp-007-train-{STARTED}", "exp-007", "train"),
    ],
)
def test_the_guides_names_of_experiments(tmp_path: Path, below: str, name: str, group: str, job_type: str) -> None:
    """Number, job type and timestamp from the path, in each of the guide's forms; else when it began."""
    plan = _run(tmp_path, below).plan()
    assert (plan.name, plan.group, plan.job_type) == (name, group, job_type)
    assert rules(plan) == []


@pytest.mark.parametrize(
    ("below", "declared", "config", "name"),
    [
        ("encode-head-tail-phishing-texts", {}, NESTED, "encode-head-tail-phishing-texts"),
        ("encode_head_tail_phishing_texts", {}, NESTED, "encode-head-tail-phishing-texts"),
        (
            "head_tail",
            {"job_type": "encode", "params": {"hf_dataset_path": "David-Egea/phishing-texts"}},
            None,
            "encode-head-tail-phishing-texts",
        ),
        (
            "clean-phishing-texts",
            {"params": {"dataset": "phishing-texts:v3"}, "meta": {"x": 1}},
            NESTED,
            "clean-phishing-texts",
        ),
    ],
)
def test_the_guides_names_of_data_steps(
    tmp_path: Path, below: str, declared: dict[str, Any], config: object, name: str
) -> None:
    """Job type, what else the folder says, and the dataset, once."""
    plan = _run(tmp_path, below, config=config).put("outbox.yaml", {"group": "phishing-pipeline-v2", **declared}).plan()
    assert (plan.name, plan.job_type) == (name, name.partition("-")[0])
    assert rules(plan) == []


def test_the_number_may_come_from_outbox_yaml(tmp_path: Path) -> None:
    """Its group, or its name."""
    plan = _run(tmp_path, "run7").put("outbox.yaml", {"group": "exp-003", "job_type": "train"}).plan()
    assert (plan.name, plan.group) == (f"exp-003-train-{STARTED}", "exp-003")
    assert plan.sources["name"].startswith("convention params-meta: outbox.yaml")
    named = _run(tmp_path, "other").put("outbox.yaml", {"name": "exp-004-train-20241217T1430Z"}).plan()
    assert (named.name, named.group, named.job_type) == ("exp-004-train-20241217T1430Z", "exp-004", "train")


@pytest.mark.parametrize("below", ["train", "run7", "exp", "exp-2025-12-13", "expo-7", "exp-1.5-train", "2025-12-13/a"])
def test_the_number_is_never_invented(tmp_path: Path, below: str) -> None:
    """A run without one keeps its folder's name, and the plan says how to mend that."""
    plan = _run(tmp_path, below).plan()
    assert plan.group is None
    assert not plan.name.startswith("exp-0")
    assert "say name, or group: exp-003 and job_type, in outbox.yaml" in _found(plan, "name-pattern")
    assert "found no group" in _found(plan, "missing-group")


@pytest.mark.parametrize(
    ("config", "declared", "sent"),
    [
        (NESTED, {}, NESTED),
        ({"lr": 1}, {}, {"params": {"lr": 1}, "meta": {}}),
        ({"lr": 1, "params": {"lr": 2}, "seed": 3}, {}, {"params": {"lr": 2, "seed": 3}, "meta": {}}),
        ({"lr": 1}, {"params": {"lr": 5}, "meta": {"t": "x"}}, {"params": {"lr": 5}, "meta": {"t": "x"}}),
        (NESTED, {"meta": {"by": "me"}}, {"params": {"lr": 1e-4}, "meta": {"task": "phishing", "by": "me"}}),
        ({"params": 3, "meta": None}, {}, {"params": {"params": 3}, "meta": {}}),
        (None, {}, {"params": {}, "meta": {}}),
    ],
)
def test_the_config_is_nested(tmp_path: Path, config: object, declared: dict[str, Any], sent: dict[str, Any]) -> None:
    """``params``, ``meta``, and ours; in the artifact's metadata, too."""
    plan = _run(tmp_path, "exp-003-train-20241217T1430Z", config=config).put("outbox.yaml", declared).plan()
    assert {key: value for key, value in plan.config.items() if key != "outbox"} == sent
    assert list(plan.config) == ["params", "meta", "outbox"]
    assert plan.artifacts[0].metadata["config"] == sent
    told = isinstance(config, dict) and (isinstance(config.get("params"), dict) or bool(declared))
    assert ("params-meta" in rules(plan)) is not told


def test_other_conventions_show_params_and_meta_beside_the_config(tmp_path: Path) -> None:
    """The Hydra config stays at the top level, where people filter by it."""
    plan = Run(tmp_path).put("outbox.yaml", {"params": {"a": 1}, "summary": {"f1": 0.5}}).plan()
    assert (plan.config["params"], plan.config["strategy"]) == ({"a": 1}, {"type": "deepconf"})
    assert plan.summary == {"f1": 0.5}


def test_a_secret_in_outbox_yaml_stays_here(tmp_path: Path) -> None:
    """The value is masked, and the file is left out."""
    key = "abcdefghij0123456789"
    run = _run(tmp_path, "exp-003-train-20241217T1430Z")
    run.put("outbox.yaml", {"params": {"api_key": key}, "summary": {"x": key}, "notes": key})
    plan = run.plan()
    assert plan.config["params"]["api_key"] == "***"
    assert (plan.summary["x"], plan.notes) == ("***", "***")
    assert "outbox.yaml" not in [file.path for file in plan.artifacts[0].files]


def test_the_layers_of_a_declared_run(tmp_path: Path) -> None:
    """Command line, then outbox.yaml, then wandb_project, then the root; tags are added to the root's."""
    said = {"project": "p", "name": "n", "group": "g", "job_type": "j", "tags": ["t"], "notes": "o"}
    run = Run(tmp_path).put("outbox.yaml", said).put(".hydra/config.yaml", {"wandb_project": "w", "wandb_group": "w"})
    run.ask(rules=RootRules(project="r", group="r", job_type="r", tags=("r",)))
    plan = run.plan()
    assert (plan.project, plan.name, plan.group, plan.job_type, plan.notes) == ("p", "n", "g", "j", "o")
    assert {"t", "r"} <= set(plan.tags)
    assert {plan.sources[key] for key in ("project", "name", "group", "job_type", "notes")} == {"outbox.yaml"}
    person = run.ask(overrides=Overrides(project="c", name="c", tags=("c",))).plan()
    assert (person.project, person.name, person.group, person.tags) == ("c", "c", "g", ("c",))


def test_a_wish_is_in_the_plan(tmp_path: Path) -> None:
    """For whoever acts on it; a note for whoever reads."""
    plan = Run(tmp_path).put("outbox.yaml", "upload: never\n").plan()
    assert plan.upload == "never"
    assert "for good" in _found(plan, "upload")
    assert Run(tmp_path, "other").plan().upload is None


def test_a_faulty_outbox_yaml_is_an_error_of_the_plan(tmp_path: Path) -> None:
    """With which `plan --strict` fails; the rest of the file counts."""
    plan = Run(tmp_path).put("outbox.yaml", "group: 3\nname: n\n").plan()
    assert plan.name == "n"
    assert (plan.warnings[0].rule, plan.warnings[0].severity) == ("outbox-yaml", Severity.ERROR)


@pytest.mark.parametrize(
    ("said", "rule", "severity", "words"),
    [
        ({"job_type": "trian"}, "job-type", Severity.WARNING, "found the job type 'trian'; did you mean train?"),
        ({"job_type": "zzz"}, "job-type", Severity.WARNING, "say one of pre-train, train, fine-tune, eval"),
        (
            {"name": "exp_003_train"},
            "name-pattern",
            Severity.WARNING,
            "found the name 'exp_003_train', which is neither",
        ),
        ({"summary": {"eval f1": 1, "eval/ok": 1}}, "metric-name", Severity.NOTE, "log them as 'eval_f1' and the like"),
        (
            {"group": "exp_003", "tags": ["head_tail", "bug-fix"]},
            "dashes",
            Severity.NOTE,
            "found the group 'exp_003', the tag 'head_tail'; they are kept; with dashes: 'exp-003', 'head-tail'",
        ),
        (
            {"artifacts": [{"name": "texts", "type": "dataset", "files": "model.bin"}]},
            "artifact-metadata",
            Severity.NOTE,
            "found the dataset texts without metadata of its own; say num_samples, splits, class_distribution, schema",
        ),
        (
            {"project": "p", "inputs": ["texts:v1", "team/other/texts:v1", "team/p/texts:v2"]},
            "input-name",
            Severity.NOTE,
            "found 'team/p/texts:v2', which is in this project; 'texts:v2' is enough",
        ),
    ],
)
def test_what_breaks_a_rule_is_said_and_sent(
    tmp_path: Path, said: dict[str, Any], rule: str, severity: Severity, words: str
) -> None:
    """The found value and the fix; nothing is renamed."""
    plan = _run(tmp_path, "exp-003-train-20241217T1430Z").put("outbox.yaml", said).plan()
    (found,) = [each for each in plan.warnings if each.rule == rule]
    assert found.severity is severity
    assert words in found.message
    assert plan.job_type == said.get("job_type", "train")
    assert plan.name == said.get("name", plan.name)
    assert set(plan.summary) == set(said.get("summary", {}))


def test_curves_stand_in_namespaces(tmp_path: Path) -> None:
    """What a chart is drawn over needs none, and final numbers neither."""
    run = _run(tmp_path, "exp-003-train-20241217T1430Z").put("outbox.yaml", {"summary": {"best_f1": 1}})
    run.put("metrics.csv", "epoch,step,train/loss,val_loss\n0,0,1,2\n")
    message = (
        "found the metrics 'val_loss' without a namespace; they are sent as they are; log them as 'train/val_loss', "
    )
    assert _found(run.plan(), "metric-name") == message + "'eval/val_loss' and the like"
    assert rules(run.put("metrics.csv", "epoch,step,train/loss\n0,0,1\n").plan()) == []


def test_a_run_without_job_type_and_tags(tmp_path: Path) -> None:
    """Both are said."""
    plan = _run(tmp_path, "exp-003/x").ask(rules=RootRules(convention="params-meta")).plan()
    assert "found no job type; say one of" in _found(plan, "job-type")
    assert "found no tags" in _found(plan, "tag-category")
    assert plan.job_type is None


def test_the_guides_table_of_tags_is_a_rule(tmp_path: Path) -> None:
    """Tags of the command line replace the convention's; the plan says which categories are gone."""
    plan = Run(tmp_path).ask(overrides=Overrides(name="mine", tags=("deepconf", "x"))).plan()
    assert "add qwen3-8b (model), vllm (backend), aime2025 (dataset)" in _found(plan, "tag-category")
    assert "the convention would say 'deepconf_qwen3-8b_vllm'" in _found(plan, "name-pattern")
    assert rules(Run(tmp_path, "other").ask(overrides=Overrides(name="deepconf_qwen3-8b_vllm_x")).plan()) == []


def test_artifact_names_are_dashed_and_short(tmp_path: Path) -> None:
    """At most 128 characters, without underscores."""
    plan = _run(tmp_path, f"2025-12-13/exp_003_train_{'x' * 130}").plan()
    assert plan.artifacts[0].name.startswith("outputs-2025-12-13-exp-003-train-xxx")
    assert len(plan.artifacts[0].name) <= 128
    assert "artifact-name-length" in rules(plan)


def test_the_formats_job_is_the_job_type(tmp_path: Path) -> None:
    """Where nothing else says one."""
    run = _run(tmp_path, "exp-003", "hf-trainer", None).put("all_results.json", {"eval_f1": 0.5})
    assert run.plan().job_type == "train"


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("exp-003-train-2025-12-13T07-30-22Z", True),
        ("exp-001-run-1734445800", True),
        ("exp-03-train-20241217T1430Z", False),
        ("exp-003-train", False),
        ("encode-head-tail-phishing-texts", True),
        ("encode", False),
        ("encode_head", False),
        ("merge-texts", False),
    ],
)
def test_the_two_forms_of_a_name(name: str, follows: bool) -> None:
    """Three digits, dashes, a timestamp; or a job type of data steps and what it is about."""
    assert follows_pattern(name) is follows
