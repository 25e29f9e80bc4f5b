"""The convention ``llm-tts-eval``: runs of llm-tts-service, named by strategy, model, backend and dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping

from wandb_outbox.formats.content import Warn
from wandb_outbox.model import JsonValue, PlanWarning, Severity
from wandb_outbox.plan.facts import Facts, Proposal, folder_name
from wandb_outbox.plan.lookup import last_part, number_at, subset_of, text_at, whole_number_at

NAME = "llm-tts-eval"
NAME_PATTERN = re.compile(r"[^_\s]+_[^_\s]+_[^_\s]+(?:_\S+)?")
"""``{strategy}_{model}_{backend}[_suffix]``: within each part there are dashes."""
CATEGORIES = ("strategy", "model", "backend", "dataset")

# How the experiments write a dataset, a strategy, and a backend, and what W&B is to show.
_DATASETS = {
    "aime25": "aime2025", "aime-25": "aime2025", "aime-2025": "aime2025",
    "aime24": "aime2024", "aime-24": "aime2024", "aime-2024": "aime2024",
    "math": "math500", "math-500": "math500",
}  # fmt: skip
_STRATEGIES = {
    "adaptive": "mur", "deep-think-confidence": "deepconf", "tree-of-thought": "tot", "tree-of-thoughts": "tot",
}  # fmt: skip
_FULL_SIZE = {
    "gsm8k": 1319, "math500": 500, "aime2024": 30, "aime2025": 30, "amc23": 40, "gpqa-diamond": 198,
    "minerva-math": 272, "human-eval-plus": 164, "mbpp-plus": 378, "gaokao2023en": 385, "olympiadbench": 675,
}  # fmt: skip


def propose(facts: Facts, warn: Warn) -> Proposal:
    """Names by the key paths of the guide, each with its fall-backs."""
    config = facts.config
    dataset, dataset_key = _dataset(config)
    strategy, strategy_key = _strategy(config)
    model, model_key = _model(config)
    backend, backend_key = _backend(config)
    said = {"strategy.type": strategy, "the model": model, "model.type": backend, "the dataset": dataset}
    missing = [key for key, value in said.items() if value is None]
    if missing:
        message = f"the configuration does not say {', '.join(missing)}: names are put together from the rest; "
        message += "say it there, or in outbox.yaml, or with --name and --project"
        warn(PlanWarning("name-pattern", Severity.WARNING, message))
    project = f"llm-tts-eval-{dataset}" if dataset else "llm-tts-eval"
    if strategy is None and model is None:
        name, name_key = folder_name(facts), "the folder's name"
    else:
        name = "_".join(part for part in (strategy, model, backend) if part) + _suffix(facts, dataset)
        name_key = ", ".join(key for key in (strategy_key, model_key, backend_key) if key)
    tags = tuple(
        tag for tag in (strategy, model, backend, dataset, *_config_tags(config, strategy), *_more_tags(config)) if tag
    )
    return Proposal(
        project=(project, _source(dataset_key)),
        name=(name, _source(name_key)),
        job_type=("eval", _source(None)),
        tags=(tags, _source(None)),
        artifact_type="evaluation_results",
        tag_categories=tuple(
            (category, tag)
            for category, tag in zip(CATEGORIES, (strategy, model, backend, dataset), strict=True)
            if tag is not None
        ),
    )


def _source(key: str | None) -> str:
    return f"convention {NAME}: {key}" if key else f"convention {NAME}"


def _dataset(config: Mapping[str, JsonValue]) -> tuple[str | None, str | None]:
    for key in ("dataset.data_name", "strategy.data_name", "dataset.dataset_path"):
        text = text_at(config, key)
        if text is None or text == "default":
            continue
        name = last_part(text).lower().replace("_", "-")
        if key == "dataset.dataset_path":
            # The experiments' own copies on the hub are called test_gsm8k, test_MATH, ...
            name = name.removeprefix("test-")
        if name:
            return _DATASETS.get(name, name), key
    return None, None


def _strategy(config: Mapping[str, JsonValue]) -> tuple[str | None, str | None]:
    text = text_at(config, "strategy.type")
    if text is None:
        return None, None
    name = text.lower().replace("_", "-")
    return _STRATEGIES.get(name, name), "strategy.type"


def _model(config: Mapping[str, JsonValue]) -> tuple[str | None, str | None]:
    for key in ("model.model_name", "model.model_path", "model.model_short_name"):
        text = text_at(config, key)
        name = last_part(text).lower() if text else ""
        if name:
            return name, key
    return None, None


def _backend(config: Mapping[str, JsonValue]) -> tuple[str | None, str | None]:
    kind = text_at(config, "model.type")
    if kind is None:
        return None, None
    if kind == "local":
        return "hf", "model.type"
    if kind == "openai_api":
        provider = text_at(config, "model.provider")
        return (provider.lower(), "model.provider") if provider else ("openai", "model.type")
    return kind.lower().replace("_", "-"), "model.type"


def _suffix(facts: Facts, dataset: str | None) -> str:
    """``_s{first}-{last}``, both included, when the run was meant to do a part of its dataset only."""
    offset = whole_number_at(facts.config, "dataset.offset") or 0
    count = whole_number_at(facts.config, "dataset.subset") or None  # the script takes 0 for no subset
    part = subset_of(offset, count, _FULL_SIZE.get(dataset or ""), facts.sample_range)
    return f"_s{part[0]}-{part[1]}" if part else ""


def _config_tags(config: Mapping[str, JsonValue], strategy: str | None) -> tuple[str | None, ...]:
    temperature = number_at(config, "strategy.temperature") if strategy == "deepconf" else None
    if temperature is None:
        temperature = number_at(config, "generation.temperature")
    top_k = number_at(config, "generation.top_k")
    threshold = number_at(config, "strategy.confidence_threshold")
    if threshold is None:
        threshold = number_at(config, "strategy.uncertainty_threshold")
    return (
        None if temperature is None else f"temp{temperature}",
        None if top_k is None else f"top_k{top_k}",
        # The guide's "threshold-10" reads as 10 with a dash and as -10 without one; both become that tag.
        None if threshold is None else f"threshold-{threshold.removeprefix('-')}",
    )


def _more_tags(config: Mapping[str, JsonValue]) -> tuple[str | None, ...]:
    scorer = text_at(config, "scorer.type")
    aggregation = text_at(config, "strategy.aggregation") or text_at(config, "strategy.score_aggregation")
    seed = whole_number_at(config, "system.seed")
    return (
        scorer.replace("_", "-") if scorer else None,
        aggregation.replace("_", "-") if aggregation else None,
        None if seed is None else f"seed{seed}",
    )
