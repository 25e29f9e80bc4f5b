"""docs/conventions.md says what the code does."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conventions_doc import PAGE, blocks, facts_of, rendered
from hydra_shapes import CONFIGS
from plan_makers import Run, rules

from wandb_outbox.formats import Declaration
from wandb_outbox.formats.content import SampleRange
from wandb_outbox.model import RootRules
from wandb_outbox.plan.checklist import RULES
from wandb_outbox.plan.conventions import decide
from wandb_outbox.plan.defined import definition_faults
from wandb_outbox.plan.facts import Facts


def test_the_tables_of_the_page_are_those_of_the_code() -> None:
    """Write them anew with `python tests/plan/conventions_doc.py`."""
    assert len(CONFIGS) == 20
    assert rendered(PAGE.read_text()) == PAGE.read_text()


def test_the_outbox_yaml_of_the_page_is_sound(tmp_path: Path) -> None:
    """The example breaks no rule."""
    run = Run(tmp_path, "exp", format="plain").ask(rules=RootRules(convention="params-meta"))
    run.put("outbox.yaml", blocks("yaml")[0]).put("data/train/a.arrow", b"1").put("predictions.csv", "a\n1\n")
    run.put("plots/x.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1")
    plan = run.plan()
    assert rules(plan) == ["upload"]
    assert (plan.name, plan.group, plan.upload) == ("encode-head-tail-phishing-texts", "phishing-pipeline-v2", "hold")


@pytest.mark.parametrize("title", CONFIGS)
def test_the_convention_of_the_page_is_llm_tts_eval(title: str) -> None:
    """A user's own convention has the power of the built-in one: the same names for every configuration."""
    tables = tomllib.loads(blocks("toml")[0])
    table = tables["conventions"]["tts"]
    assert definition_faults("tts", table) == []
    facts = facts_of(CONFIGS[title])
    built_in = decide(facts)
    own = decide(replace(facts, rules=RootRules(convention="tts", definition=table)))
    for name in ("project", "name", "group", "job_type", "tags", "artifact", "artifact_type", "warnings"):
        assert getattr(own, name) == getattr(built_in, name), name


NESTED: dict[str, Any] = {"params": {"lr": 1}, "meta": {}}
TEXTS: dict[str, Any] = {"params": {"hf_dataset_path": "David-Egea/phishing-texts:v3"}}
PIPELINE: dict[str, tuple[str, dict[str, Any], Declaration]] = {
    "a timestamp": ("exp-003-train-2025-12-13T07-30-22Z", NESTED, Declaration()),
    "another form": ("exp-001-fine-tune-20241217T1430Z", NESTED, Declaration()),
    "seconds": ("exp-012-eval-1734445800", NESTED, Declaration()),
    "underscores": ("exp_3_pre_train_2025-12-13T07-30-22Z", NESTED, Declaration()),
    "Hydra's date and time": ("exp-003/train/2025-12-13/07-30-22", NESTED, Declaration()),
    "no timestamp": ("exp-1234/inference", NESTED, Declaration()),
    "no number": ("weird ünï name", NESTED, Declaration()),
    "a data step": ("encode_head_tail_phishing_texts", NESTED, Declaration()),
    "a dataset": ("head_tail", TEXTS, Declaration(job_type="encode", group="phishing-pipeline-v2")),
    "a dataset that is said already": ("clean-phishing-texts", TEXTS, Declaration()),
    "a group": ("run7", NESTED, Declaration(group="exp-003", job_type="fine_tune")),
    "a name": ("run7", NESTED, Declaration(name="exp-004-eval-x")),
}  # fmt: skip
"""By what is special: the path below the root, the configuration, and what ``outbox.yaml`` says."""


@pytest.mark.parametrize("title", PIPELINE)
def test_the_second_convention_of_the_page_is_params_meta(title: str) -> None:
    """Numbers with their zeros, dashes, what ``outbox.yaml`` says, and nothing twice: all of it can be said in TOML."""
    table = tomllib.loads(blocks("toml")[1])["conventions"]["pipeline"]
    assert definition_faults("pipeline", table) == []
    below, config, declared = PIPELINE[title]
    facts = Facts(
        config=config, below_root=tuple(below.split("/")), format="plain", root="/data/outputs", declared=declared,
        started_on="2025-12-03", started_at="2025-12-03T10-00-00Z",
    )  # fmt: skip
    built_in = decide(replace(facts, rules=RootRules(convention="params-meta")))
    own = decide(replace(facts, rules=RootRules(convention="pipeline", definition=table)))
    for name in ("project", "name", "group", "job_type", "tags", "artifact", "artifact_type", "warnings"):
        assert getattr(own, name) == getattr(built_in, name), name
    assert own.proposal.nested


def test_the_convention_of_the_page_follows_the_log_too() -> None:
    """A subset that the dataset did not fill is no subset."""
    table = tomllib.loads(blocks("toml")[0])["conventions"]["tts"]
    facts = facts_of({**CONFIGS["vllm"], "dataset": {"data_name": "new", "subset": 1000}})
    own = replace(facts, rules=RootRules(convention="tts", definition=table))
    assert decide(own).name == "deepconf_qwen3-8b_vllm_s0-999"
    assert decide(replace(own, sample_range=SampleRange(0, 411, 412))).name == "deepconf_qwen3-8b_vllm"


def test_every_rule_of_the_checklist_has_a_place_on_the_page() -> None:
    """The ten rules."""
    assert set(RULES) == {
        "name-pattern", "tag-category", "job-type", "missing-group", "params-meta", "metric-name", "dashes",
        "artifact-metadata", "input-name", "artifact-name-length",
    }  # fmt: skip
