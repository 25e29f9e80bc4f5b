"""docs/conventions.md says what the code does."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from conventions_doc import PAGE, blocks, facts_of, rendered
from hydra_shapes import CONFIGS
from plan_makers import Run, rules

from wandb_outbox.formats.content import SampleRange
from wandb_outbox.model import RootRules
from wandb_outbox.plan.checklist import RULES
from wandb_outbox.plan.conventions import decide
from wandb_outbox.plan.defined import definition_faults


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


def test_the_convention_of_the_page_follows_the_log_too() -> None:
    """A subset that the dataset did not fill is no subset."""
    table = tomllib.loads(blocks("toml")[0])["conventions"]["tts"]
    facts = facts_of({**CONFIGS["vllm"], "dataset": {"data_name": "new", "subset": 1000}})
    own = replace(facts, rules=RootRules(convention="tts", definition=table))
    assert decide(own).name == "deepconf_qwen3-8b_vllm_s0-999"
    assert decide(replace(own, sample_range=SampleRange(0, 411, 412))).name == "deepconf_qwen3-8b_vllm"


def test_every_rule_of_the_checklist_has_a_place_on_the_page() -> None:
    """The seven rules."""
    assert set(RULES) == {
        "name-pattern", "tag-category", "job-type", "missing-group", "params-meta", "metric-name", "artifact-name-length"
    }  # fmt: skip
