"""How runs are called: the guide's examples, every fall-back, and the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from wandb_outbox.errors import ConfigurationError
from wandb_outbox.formats.content import SampleRange
from wandb_outbox.model import Overrides, RootRules
from wandb_outbox.plan.conventions import Names, decide
from wandb_outbox.plan.facts import Facts, parts_below


def _facts(config: Mapping[str, Any], *below: str, **more: Any) -> Facts:
    facts = {"below_root": below or ("2025-12-03", "run_name"), "format": "llm-tts", "root": "/o", **more}
    return Facts(config=config, **facts)


def _config(strategy: Any, model: Any, dataset: Any = "aime25", **more: Any) -> dict[str, Any]:
    return {
        "strategy": strategy if isinstance(strategy, dict) else {"type": strategy},
        "model": model,
        "dataset": dataset if isinstance(dataset, dict) else {"data_name": dataset},
        **more,
    }


def _decide(config: Mapping[str, Any], *below: str, **more: Any) -> Names:
    return decide(_facts(config, *below, **more))


VLLM = {"type": "vllm", "model_path": "Qwen/Qwen3-8B"}
OPENAI = {"type": "openai_api", "model_path": "Qwen/Qwen3-32B"}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (_config("deepconf", VLLM), "deepconf_qwen3-8b_vllm"),
        (_config("deepconf", OPENAI), "deepconf_qwen3-32b_openai"),
        (
            _config("self_consistency", {"type": "local", "model_path": "meta-llama/Llama3-8B"}),
            "self-consistency_llama3-8b_hf",
        ),
        (_config("baseline", {"type": "openai_api", "model_path": "gpt-4o"}), "baseline_gpt-4o_openai"),
        (_config("deepconf", VLLM, {"data_name": "aime25", "offset": 0, "subset": 13}), "deepconf_qwen3-8b_vllm_s0-12"),
        (
            _config("deepconf", VLLM, {"data_name": "aime25", "offset": 13, "subset": 17}),
            "deepconf_qwen3-8b_vllm_s13-29",
        ),
    ],
)
def test_the_guides_run_names(config: dict[str, Any], name: str) -> None:
    """Every example of the guide comes out as it stands there."""
    assert _decide(config).name == name


@pytest.mark.parametrize(
    ("dataset", "project"),
    [
        ("aime25", "llm-tts-eval-aime2025"),
        ("aime2025", "llm-tts-eval-aime2025"),
        ("gsm8k", "llm-tts-eval-gsm8k"),
        ("math", "llm-tts-eval-math500"),
        ("math500", "llm-tts-eval-math500"),
        ("human_eval_plus", "llm-tts-eval-human-eval-plus"),
    ],
)
def test_the_guides_project_names(dataset: str, project: str) -> None:
    """One project a dataset, whatever the configuration calls it."""
    assert _decide(_config("baseline", VLLM, dataset)).project == project


def test_the_guides_table_of_tags() -> None:
    """Strategy, model, backend, dataset and configuration; then scorer, aggregation and seed."""
    config = _config(
        {"type": "deepconf", "temperature": 0.6, "confidence_threshold": -10, "aggregation": "mean"},
        VLLM,
        generation={"temperature": 0.9, "top_k": 16},
        scorer={"type": "pd_gap"},
        system={"seed": 42},
    )
    tags = "deepconf qwen3-8b vllm aime2025 temp0.6 top_k16 threshold-10 pd-gap mean seed42"
    assert _decide(config).tags == tuple(tags.split())


@pytest.mark.parametrize(
    ("strategy", "generation", "expected"),
    [
        ({"type": "baseline", "temperature": 0.1}, {"temperature": 0.6}, "temp0.6"),
        ({"type": "deepconf"}, {"temperature": 0.7}, "temp0.7"),
        ({"type": "deep_think_confidence", "temperature": 1}, {}, "temp1"),
        ({"type": "adaptive"}, {"temperature": "0.60"}, "temp0.6"),
        ({"type": "adaptive", "uncertainty_threshold": 0.3}, {}, "threshold-0.3"),
        ({"type": "deepconf", "confidence_threshold": 10}, {}, "threshold-10"),
        ({"type": "tree_of_thoughts"}, {}, "tot"),
        ({"type": "adaptive"}, {}, "mur"),
    ],
)
def test_tags_follow_their_key_paths(strategy: dict[str, Any], generation: dict[str, Any], expected: str) -> None:
    """DeepConf's temperature is its strategy's; thresholds are confidence, then uncertainty."""
    assert expected in _decide(_config(strategy, VLLM, generation=generation)).tags


SHAPES: list[tuple[dict[str, Any], str, str]] = [
    (_config("baseline", {"type": "openai_api", "provider": "openrouter", "model_path": "openai/gpt-4o-mini"}),
     "baseline_gpt-4o-mini_openrouter", "aime2025"),
    (_config("baseline", {"type": "openai_api", "provider": None, "model_path": "gpt-4o"}),
     "baseline_gpt-4o_openai", "aime2025"),
    (_config("baseline", {"type": "vllm", "model_name": "A/B-7B", "model_path": "C/D"}),
     "baseline_b-7b_vllm", "aime2025"),
    (_config("baseline", {"type": "vllm", "model_short_name": "qwen25_math"}), "baseline_qwen25_math_vllm", "aime2025"),
    (_config("baseline", {"type": "vllm", "model_name": None, "model_path": "/models/Qwen3-8B/"}),
     "baseline_qwen3-8b_vllm", "aime2025"),
    (_config("baseline", {"type": "together_ai", "model_name": "meta/Llama-3.1"}),
     "baseline_llama-3.1_together-ai", "aime2025"),
    (_config("offline_best_of_n", VLLM), "offline-best-of-n_qwen3-8b_vllm", "aime2025"),
    (_config("uncertainty_cot", VLLM), "uncertainty-cot_qwen3-8b_vllm", "aime2025"),
    (_config({"type": "adaptive", "data_name": "gsm8k"}, VLLM, {"data_name": "default"}), "mur_qwen3-8b_vllm", "gsm8k"),
    (_config({"type": "adaptive", "data_name": "math"}, VLLM, {}), "mur_qwen3-8b_vllm", "math500"),
    (_config("baseline", VLLM, {"dataset_path": "openai/gsm8k"}), "baseline_qwen3-8b_vllm", "gsm8k"),
    (_config("baseline", VLLM, {"dataset_path": "test-time-compute/test_MATH"}), "baseline_qwen3-8b_vllm", "math500"),
    (_config("baseline", VLLM, {"dataset_path": "test-time-compute/aime_2025"}), "baseline_qwen3-8b_vllm", "aime2025"),
    (_config({"type": "adaptive", "data_name": "${dataset.data_name}"}, VLLM, {"data_name": "aime24"}),
     "mur_qwen3-8b_vllm", "aime2024"),
    (_config("${which}", VLLM, which="baseline"), "baseline_qwen3-8b_vllm", "aime2025"),
    (_config("baseline", {"type": "vllm", "model_path": "${oc.env:MODEL}", "model_short_name": "q"}),
     "baseline_q_vllm", "aime2025"),
    (_config("baseline", VLLM, {"data_name": "gsm8k", "subset": 1319}), "baseline_qwen3-8b_vllm", "gsm8k"),
    (_config("baseline", VLLM, {"data_name": "gsm8k", "subset": 500}), "baseline_qwen3-8b_vllm_s0-499", "gsm8k"),
    (_config("baseline", VLLM, {"data_name": "math", "offset": None, "subset": 500}),
     "baseline_qwen3-8b_vllm", "math500"),
    (_config("baseline", VLLM, {"data_name": "amc23", "offset": 10, "subset": None}),
     "baseline_qwen3-8b_vllm_s10-39", "amc23"),
    (_config("baseline", VLLM, {"data_name": "new", "offset": 10}), "baseline_qwen3-8b_vllm_s10-end", "new"),
    (_config("baseline", VLLM, {"data_name": "gpqa_diamond", "subset": 999}), "baseline_qwen3-8b_vllm", "gpqa-diamond"),
    (_config("baseline", VLLM, {"data_name": "aime25", "offset": 20, "subset": 30}),
     "baseline_qwen3-8b_vllm_s20-29", "aime2025"),
    (_config("baseline", VLLM, {"data_name": "aime25", "subset": 0}), "baseline_qwen3-8b_vllm", "aime2025"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "name", "dataset"), SHAPES)
def test_differently_shaped_configurations(config: dict[str, Any], name: str, dataset: str) -> None:
    """Every key path with its fall-backs, as the real experiments write them."""
    names = _decide(config)
    assert (names.name, names.project) == (name, f"llm-tts-eval-{dataset}")
    assert names.job_type == "eval"
    assert names.warnings == ()


def test_a_subset_that_the_dataset_did_not_fill_is_no_subset() -> None:
    """The log says that an unknown dataset ended before the subset did."""
    config = _config("baseline", VLLM, {"data_name": "new", "subset": 1000})
    assert _decide(config, sample_range=SampleRange(0, 411, 412)).name == "baseline_qwen3-8b_vllm"
    assert _decide(config, sample_range=SampleRange(0, 999, 1000)).name == "baseline_qwen3-8b_vllm_s0-999"


@pytest.mark.parametrize(
    ("config", "name", "project"),
    [
        ({}, "run_name", "llm-tts-eval"),
        (_config(None, VLLM), "qwen3-8b_vllm", "llm-tts-eval-aime2025"),
        (_config("baseline", None), "baseline", "llm-tts-eval-aime2025"),
        (_config("baseline", VLLM, {}), "baseline_qwen3-8b_vllm", "llm-tts-eval"),
        (
            {"strategy": [1], "model": "x", "dataset": {"data_name": {"a": 1}, "subset": True}},
            "run_name",
            "llm-tts-eval",
        ),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_used(config: dict[str, Any], name: str, project: str) -> None:
    """A configuration without strategy, model or dataset still gives names, with a warning."""
    names = _decide(config)
    assert (names.name, names.project) == (name, project)
    assert [each.rule for each in names.warnings] == ["name-pattern"]


@pytest.mark.parametrize(
    ("below", "more", "artifact"),
    [
        (("2025-12-03", "run_name"), {}, "outputs-2025-12-03-run_name"),
        (("alice", "2025-12-03", "run_name"), {}, "outputs-2025-12-03-run_name"),
        (
            ("2026-11-21", "gsm8k", "gpt4o_mini", "baseline", "entropy", "seed42_19-04-48"),
            {},
            "outputs-2026-11-21-gsm8k-gpt4o_mini-baseline-entropy-seed42_19-04-48",
        ),
        (("run_name",), {"root": "/o/2025-12-03", "root_date": "2025-12-03"}, "outputs-2025-12-03-run_name"),
        (("x",), {"root": "/o/2025-12-03/gsm8k/m", "root_date": "2025-12-03"}, "outputs-2025-12-03-gsm8k-m-x"),
        (("run_name",), {"started_on": "2025-12-04"}, "outputs-2025-12-04-run_name"),
        (("run_name",), {}, "outputs-run_name"),
        (("2025-12-03",), {}, "outputs-2025-12-03"),
    ],
)
def test_artifact_names(below: tuple[str, ...], more: dict[str, Any], artifact: str) -> None:
    """outputs-{date}-{every part below the date}; without a date in the path, the day the experiment began."""
    names = _decide(_config("baseline", VLLM), *below, **more)
    assert (names.artifact, names.artifact_type) == (artifact, "evaluation_results")


def test_long_artifact_names_stay_apart() -> None:
    """Over 128 characters the name is shortened with a hash of the whole, and the plan says so."""
    one = _decide(_config("baseline", VLLM), "2025-12-03", "x" * 200, "a")
    other = _decide(_config("baseline", VLLM), "2025-12-03", "x" * 200, "b")
    assert len(one.artifact) == 128
    assert one.artifact != other.artifact
    assert [each.rule for each in one.warnings] == ["artifact-name-length"]


def test_characters_that_artifacts_may_not_have_are_replaced() -> None:
    """A Hydra folder can be called lr=0.1,seed=1."""
    names = _decide(_config("baseline", VLLM), "2025-12-03", "lr=0.1,seed=ü")
    assert names.artifact == "outputs-2025-12-03-lr-0.1-seed--"
    assert [each.rule for each in names.warnings] == ["artifact-name-characters"]


def test_the_layers_in_their_order() -> None:
    """Command line, then what the folder recorded, then the root, then the convention; each source is said."""
    rules = RootRules(entity="lab", project="of-root", group="g-root", job_type="test", tags=("box1", "vllm"))
    facts = replace(
        _facts(_config("baseline", VLLM)), rules=rules, default_entity="me", config_file=".hydra/config.yaml"
    )
    by_root = decide(facts)
    assert (by_root.entity, by_root.project, by_root.group, by_root.job_type) == ("lab", "of-root", "g-root", "test")
    assert by_root.tags == ("baseline", "qwen3-8b", "vllm", "aime2025", "box1")
    assert by_root.sources["project"] == "root configuration"
    by_folder = decide(replace(facts, recorded_project="of-run", recorded_group="g-run"))
    assert (by_folder.project, by_folder.group) == ("of-run", "g-run")
    assert by_folder.sources["project"] == "wandb_project in .hydra/config.yaml"
    said = Overrides(entity="e", project="p", name="n", group="g", job_type="j", tags=("a", "b", "a"), notes="why")
    by_person = decide(replace(facts, recorded_project="of-run", recorded_group="g-run", overrides=said))
    assert (by_person.entity, by_person.project, by_person.name) == ("e", "p", "n")
    assert (by_person.group, by_person.job_type, by_person.tags, by_person.notes) == ("g", "j", ("a", "b"), "why")
    fields = ("entity", "project", "name", "group", "job_type", "tags", "notes")
    assert {by_person.sources[field] for field in fields} == {"command line"}


def test_the_convention_names_its_keys() -> None:
    """A person can see which key a value came from."""
    sources = _decide(_config("baseline", VLLM)).sources
    assert sources["project"] == "convention llm-tts-eval: dataset.data_name"
    assert sources["name"] == "convention llm-tts-eval: strategy.type, model.model_path, model.type"


def test_the_entity_never_comes_from_run_data() -> None:
    """A configuration can name any entity it likes."""
    config = _config("baseline", VLLM, entity="evil", wandb_entity="evil")
    assert _decide(config).entity is None
    assert _decide(config, default_entity="me").entity == "me"


@pytest.mark.parametrize(
    ("recorded", "project", "rules"),
    [
        ("llm-${dataset.data_name}", "llm-aime25", []),
        ("llm-${oc.env:HOME}", "llm-tts-eval-aime2025", ["unresolved-name"]),
        ("${now:%Y}", "llm-tts-eval-aime2025", ["unresolved-name"]),
        ("${wandb_project}", "llm-tts-eval-aime2025", ["unresolved-name"]),
        ("a/b:c", "a-b-c", ["project-characters"]),
    ],
)
def test_a_recorded_project_is_resolved_only_within_the_configuration(
    recorded: str, project: str, rules: list[str]
) -> None:
    """References to other keys are followed; no resolver ever runs."""
    names = _decide(_config("baseline", VLLM, wandb_project=recorded), recorded_project=recorded)
    assert names.project == project
    assert [each.rule for each in names.warnings] == rules


@pytest.mark.parametrize(
    ("parts", "group"),
    [
        (
            ("2026-11-21", "gsm8k", "gpt4o_mini", "baseline", "entropy", "seed42_19-04-48"),
            "gsm8k-gpt4o_mini-baseline-entropy",
        ),
        (
            ("2026-11-22", "gsm8k", "gpt4o_mini", "baseline", "entropy", "seed43_08-00-00"),
            "gsm8k-gpt4o_mini-baseline-entropy",
        ),
        (("exp", "seed=7"), "exp"),
        (("exp", "Seed-7"), "exp"),
        (("2026-11-21", "seed42_19-04-48"), None),
        (("seed42",), None),
        (("exp", "seedling"), None),
        (("exp", "seed42", "eval"), None),
        (("multirun", "2025-12-03", "10-00-00", "7"), "multirun-2025-12-03-10-00-00"),
    ],
)
def test_seeds_of_one_configuration_are_a_group(parts: tuple[str, ...], group: str | None) -> None:
    """Whatever day they ran on; a name that only begins so, or a folder with nothing above it, is none.

    In the guide's convention a group is what the experiment names, or the sweep.
    """
    plain = RootRules(convention="plain")
    assert _decide({"lr": 1}, *parts, rules=plain).group == group
    assert _decide({"lr": 1}, *parts, rules=plain, recorded_group="g").group == "g"
    assert _decide({"lr": 1}, *parts).group == (group if parts[0] == "multirun" else None)


def test_a_sweep_is_a_group() -> None:
    """The jobs of multirun/DATE/TIME share one group, unless something stronger names one."""
    config = _config("baseline", VLLM)
    assert _decide(config, "multirun", "2025-12-03", "10-00-00", "7").group == "multirun-2025-12-03-10-00-00"
    assert _decide(config, "sweeps", "mine", "lr=1", sweep=True).group == "multirun-sweeps-mine"
    assert _decide(config, "multirun", "2025-12-03", "lr=1", sweep=True).group == "multirun-2025-12-03"
    assert _decide(config, "2025-12-03", "10-00-00").group is None
    assert _decide(config, "2025-12-03", "10-00-00", "7", recorded_group="g").group == "g"


def test_limits_of_names_and_tags() -> None:
    """Names of 128, job types and tags of 64 characters; longer ones get a hash, and the plan says so."""
    said = Overrides(
        name="n" * 200, group="g" * 200, job_type="j" * 100, project="p" * 200, tags=("t" * 100, " ", "\n")
    )
    names = decide(replace(_facts(_config("baseline", VLLM)), overrides=said))
    assert [len(each or "") for each in (names.name, names.group, names.job_type, names.project)] == [128, 128, 64, 128]
    assert [len(tag) for tag in names.tags] == [64]
    assert {each.rule for each in names.warnings} == {
        "name-length", "group-length", "job-type-length", "project-length", "tag-length"
    }  # fmt: skip


def test_other_formats_have_a_plain_convention() -> None:
    """Project by the root, name by the folder, an artifact of type run_outputs."""
    facts = Facts(config={}, below_root=("2025-12-03", "10-00-00"), format="hydra", root="/home/me/outputs")
    names = decide(facts)
    assert (names.convention, names.project, names.name) == ("plain", "wandb-outbox-outputs", "2025-12-03-10-00-00")
    assert (names.artifact, names.artifact_type) == ("outputs-2025-12-03-10-00-00", "run_outputs")
    assert (names.job_type, names.tags) == (None, ())
    assert decide(replace(facts, below_root=("2025-12-03", "exp7"), format="hf-trainer")).job_type == "train"
    assert decide(replace(facts, root=None, parent="here")).project == "wandb-outbox-here"


def test_an_unknown_convention_lists_the_known_ones() -> None:
    """A typing error in the configuration is not taken for something else."""
    with pytest.raises(ConfigurationError) as raised:
        decide(replace(_facts({}), rules=RootRules(convention="lm-tts")))
    assert "llm-tts-eval" in raised.value.hint


@pytest.mark.parametrize(
    ("path", "root", "parts"),
    [
        ("/o/2025-12-03/run", "/o", ("2025-12-03", "run")),
        ("/o/2025-12-03/run", "/o/2025-12-03/", ("run",)),
        ("/x/2025-12-03/a/b", None, ("2025-12-03", "a", "b")),
        ("/x/2025-12-03/a", "/other", ("2025-12-03", "a")),
        ("/x/y/z", None, ("z",)),
        ("/x/y/z", "/x/y/z", ("z",)),
    ],
)
def test_the_parts_of_the_path_that_count(path: str, root: str | None, parts: tuple[str, ...]) -> None:
    """Below the root; without one from the date on, or else the last part."""
    assert parts_below(path, root) == parts
