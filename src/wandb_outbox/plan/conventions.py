"""The rules that turn what is known of a run into names. Pure: no file is read and nothing is remembered.

The layers, strongest first: the command line, the folder's own ``wandb_project`` and ``wandb_group``, the root's
configuration, the convention. The root's tags are added to the convention's; tags of the command line replace both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wandb_outbox.errors import ConfigurationError
from wandb_outbox.formats.content import SampleRange, Warn, warning
from wandb_outbox.model import JsonValue, Overrides, PlanWarning, RootRules, Severity
from wandb_outbox.plan import limits

AUTO = "auto"
LLM_TTS_EVAL = "llm-tts-eval"
PLAIN = "plain"
CONVENTIONS = frozenset({AUTO, LLM_TTS_EVAL, PLAIN})
"""Every name that a root may give for its convention."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d\d-\d\d-\d\d")
_ONLY_A_TIME_OR_NUMBER = re.compile(r"\d+|\d{4}-\d\d-\d\d|\d\d-\d\d-\d\d|\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")

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
_JOB_TYPES = {"hf-trainer": "train", "lm-eval": "eval"}


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a convention may look at. ``below_root`` are the parts of the path below the root."""

    config: Mapping[str, JsonValue]
    below_root: tuple[str, ...]
    format: str
    root: str | None = None
    root_date: str | None = None
    """The date in the path of the root, for a root such as ``outputs/2025-12-03``."""
    parent: str | None = None
    config_file: str | None = None
    recorded_project: str | None = None
    recorded_group: str | None = None
    sample_range: SampleRange | None = None
    sweep: bool = False
    started_on: str | None = None
    """The day the experiment began, ``YYYY-MM-DD``."""
    rules: RootRules = field(default_factory=RootRules)
    overrides: Overrides = field(default_factory=Overrides)
    default_entity: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What a run and its artifact are called, and for each the words that say where it came from."""

    convention: str
    entity: str | None
    project: str
    name: str
    group: str | None
    job_type: str | None
    tags: tuple[str, ...]
    notes: str | None
    artifact: str
    artifact_type: str
    sources: dict[str, str]
    warnings: tuple[PlanWarning, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a convention alone would say; each text comes with its source."""

    project: tuple[str, str]
    name: tuple[str, str]
    job_type: tuple[str, str] | None
    tags: tuple[tuple[str, ...], str]
    artifact_type: str


def decide(facts: Facts) -> Names:
    """Apply the layers. Raises ``ConfigurationError`` for a convention that does not exist."""
    warnings: list[PlanWarning] = []
    warn = warnings.append
    convention, propose = _convention(facts)
    proposal = propose(facts, warn)
    overrides, rules = facts.overrides, facts.rules
    sources: dict[str, str] = {}

    def first(field_name: str, *layers: tuple[str | None, str] | None) -> str | None:
        for layer in layers:
            if layer is not None and layer[0] is not None and layer[0].strip():
                sources[field_name] = layer[1]
                return layer[0]
        return None

    recorded_in = facts.config_file or "the folder"
    entity = first(
        "entity",
        (overrides.entity, "command line"),
        (rules.entity, "root configuration"),
        (facts.default_entity, "default entity"),
    )
    project = first(
        "project",
        (overrides.project, "command line"),
        (_recorded(facts, "wandb_project", facts.recorded_project, warn), f"wandb_project in {recorded_in}"),
        (rules.project, "root configuration"),
        proposal.project,
    )
    name = first("name", (overrides.name, "command line"), proposal.name)
    group = first(
        "group",
        (overrides.group, "command line"),
        (_recorded(facts, "wandb_group", facts.recorded_group, warn), f"wandb_group in {recorded_in}"),
        (rules.group, "root configuration"),
        _sweep(facts),
    )
    job_type = first(
        "job_type", (overrides.job_type, "command line"), (rules.job_type, "root configuration"), proposal.job_type
    )
    notes = first("notes", (overrides.notes, "command line"))
    tags = _tags(facts, proposal, sources)
    artifact, sources["artifact"] = artifact_name(facts)
    return Names(
        convention=convention,
        entity=entity,
        project=limits.fit_project(project or PLAIN, warn),
        name=limits.fit_name(name or PLAIN, limits.RUN_NAME, "name", warn),
        group=limits.fit_name(group, limits.GROUP, "group", warn) if group else None,
        job_type=limits.fit_name(job_type, limits.JOB_TYPE, "job type", warn) if job_type else None,
        tags=limits.fit_tags(tags, warn),
        notes=notes,
        artifact=limits.fit_artifact(artifact, warn),
        artifact_type=proposal.artifact_type,
        sources=sources,
        warnings=tuple(warnings),
    )


def artifact_name(facts: Facts) -> tuple[str, str]:
    """``outputs-{YYYY-MM-DD}-{run_name}``, not yet fitted, and its source.

    ``run_name`` is every part of the path below the date: the last part alone (``seed42_19-04-48``) stands under many
    strategies on one day, and would mix their versions.
    """
    parts = facts.below_root
    dates = [place for place, part in enumerate(parts) if _DATE.fullmatch(part)]
    if dates:
        return "-".join(("outputs", *parts[dates[-1] :])), "the folder's path, from its date"
    if facts.root_date is not None:
        return "-".join(("outputs", facts.root_date, *parts)), "the folder's path, with the date in its root"
    if facts.started_on is not None:
        return "-".join(("outputs", facts.started_on, *parts)), "the folder's path, with the day the experiment began"
    return "-".join(("outputs", *parts)), "the folder's path"


def date_in(path: str) -> str | None:
    """The last part of a path that is a date."""
    return next((part for part in reversed(path.split("/")) if _DATE.fullmatch(part)), None)


def parts_below(path: str, root: str | None) -> tuple[str, ...]:
    """The parts of the path below its root; without a root from its date on, or else its last part."""
    parts = [part for part in path.split("/") if part]
    if root is not None:
        above = [part for part in root.split("/") if part]
        if parts[: len(above)] == above and len(parts) > len(above):
            return tuple(parts[len(above) :])
    dates = [place for place, part in enumerate(parts) if _DATE.fullmatch(part)]
    return tuple(parts[dates[-1] :] if dates else parts[-1:])


def _convention(facts: Facts) -> tuple[str, Callable[[Facts, Warn], Proposal]]:
    known = {LLM_TTS_EVAL: _llm_tts_eval, PLAIN: _plain}
    wanted = facts.rules.convention
    if wanted == AUTO:
        wanted = LLM_TTS_EVAL if facts.format == "llm-tts" else PLAIN
    if wanted not in known:
        raise ConfigurationError(
            [f"there is no convention {wanted!r}"], hint=f"known conventions: {', '.join((AUTO, *known))}"
        )
    return wanted, known[wanted]


def _llm_tts_eval(facts: Facts, warn: Warn) -> Proposal:
    config = facts.config
    dataset, dataset_key = _dataset(config)
    strategy, strategy_key = _strategy(config)
    model, model_key = _model(config)
    backend, backend_key = _backend(config)
    said = {"strategy.type": strategy, "the model": model, "model.type": backend, "the dataset": dataset}
    missing = [key for key, value in said.items() if value is None]
    if missing:
        message = f"the configuration does not say {', '.join(missing)}: names are put together from the rest"
        warn(PlanWarning("name-pattern", Severity.WARNING, message))
    project = f"llm-tts-eval-{dataset}" if dataset else "llm-tts-eval"
    if strategy is None and model is None:
        name, name_key = _folder_name(facts), "the folder's name"
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
    )


def _plain(facts: Facts, warn: Warn) -> Proposal:
    del warn  # every run folder has a name
    place = os.path.basename(facts.root.rstrip("/")) if facts.root else facts.parent
    job_type = _JOB_TYPES.get(facts.format)
    source = f"convention {PLAIN}: the folder's path"
    return Proposal(
        project=(f"wandb-outbox-{place or 'runs'}", source),
        name=(_folder_name(facts), source),
        job_type=(job_type, f"convention {PLAIN}: the format {facts.format}") if job_type else None,
        tags=((), source),
        artifact_type="run_outputs",
    )


def _source(key: str | None) -> str:
    return f"convention {LLM_TTS_EVAL}: {key}" if key else f"convention {LLM_TTS_EVAL}"


def _folder_name(facts: Facts) -> str:
    """The last part of the path, with those above it as long as it is no more than a number or a time."""
    parts = list(facts.below_root)
    name = [parts.pop()] if parts else [PLAIN]
    while parts and _ONLY_A_TIME_OR_NUMBER.fullmatch(name[0]):
        name.insert(0, parts.pop())
    return "-".join(name)


def _tags(facts: Facts, proposal: Proposal, sources: dict[str, str]) -> tuple[str, ...]:
    if facts.overrides.tags is not None:
        sources["tags"] = "command line"
        return facts.overrides.tags
    words = [*(["root configuration"] if facts.rules.tags else []), *([proposal.tags[1]] if proposal.tags[0] else [])]
    if words:
        sources["tags"] = ", ".join(words)
    return (*proposal.tags[0], *facts.rules.tags)


def _sweep(facts: Facts) -> tuple[str, str] | None:
    """Hydra's ``multirun/DATE/TIME/N``, or any job that says it is one of a sweep: its siblings are its group."""
    above = facts.below_root[:-1]
    job = facts.below_root[-1] if facts.below_root else ""
    if len(above) >= 2 and job.isdigit() and _DATE.fullmatch(above[-2]) and _TIME.fullmatch(above[-1]):
        return f"multirun-{above[-2]}-{above[-1]}", "the sweep"
    if facts.sweep and (above or facts.parent):
        return f"multirun-{'-'.join(above) or facts.parent}", "the sweep"
    return None


def _recorded(facts: Facts, key: str, value: str | None, warn: Warn) -> str | None:
    if value is None:
        return None
    plain = _without_references(facts.config, value)
    if plain is None:
        warn(warning("unresolved-name", f"{key} holds an interpolation that is not resolved; it is not used"))
    return plain


def _dataset(config: Mapping[str, JsonValue]) -> tuple[str | None, str | None]:
    for key in ("dataset.data_name", "strategy.data_name", "dataset.dataset_path"):
        text = _text(config, key)
        if text is None or text == "default":
            continue
        name = _last_part(text).lower().replace("_", "-")
        if key == "dataset.dataset_path":
            # The experiments' own copies on the hub are called test_gsm8k, test_MATH, ...
            name = name.removeprefix("test-")
        if name:
            return _DATASETS.get(name, name), key
    return None, None


def _strategy(config: Mapping[str, JsonValue]) -> tuple[str | None, str | None]:
    text = _text(config, "strategy.type")
    if text is None:
        return None, None
    name = text.lower().replace("_", "-")
    return _STRATEGIES.get(name, name), "strategy.type"


def _model(config: Mapping[str, JsonValue]) -> tuple[str | None, str | None]:
    for key in ("model.model_name", "model.model_path", "model.model_short_name"):
        text = _text(config, key)
        name = _last_part(text).lower() if text else ""
        if name:
            return name, key
    return None, None


def _backend(config: Mapping[str, JsonValue]) -> tuple[str | None, str | None]:
    kind = _text(config, "model.type")
    if kind is None:
        return None, None
    if kind == "local":
        return "hf", "model.type"
    if kind == "openai_api":
        provider = _text(config, "model.provider")
        return (provider.lower(), "model.provider") if provider else ("openai", "model.type")
    return kind.lower().replace("_", "-"), "model.type"


def _suffix(facts: Facts, dataset: str | None) -> str:
    """``_s{first}-{last}``, both included, when the run was meant to do a part of its dataset only.

    Many configurations give the full size of the dataset as ``subset``. It is no part either when the log says that
    the dataset ended before the subset did.
    """
    offset = _whole_number(facts.config, "dataset.offset") or 0
    subset = _whole_number(facts.config, "dataset.subset") or None  # the script takes 0 for no subset
    done = facts.sample_range
    size = _FULL_SIZE.get(dataset or "")
    if size is None and done is not None and (subset is None or done.count < subset):
        size = done.last + 1
    if subset is None and offset == 0:
        return ""
    last = None if subset is None else offset + subset - 1
    if size is not None:
        last = size - 1 if last is None else min(last, max(size - 1, offset))
        if offset == 0 and last == size - 1:
            return ""
    return f"_s{offset}-{'end' if last is None else last}"


def _config_tags(config: Mapping[str, JsonValue], strategy: str | None) -> tuple[str | None, ...]:
    temperature = _number(config, "strategy.temperature") if strategy == "deepconf" else None
    if temperature is None:
        temperature = _number(config, "generation.temperature")
    top_k = _number(config, "generation.top_k")
    threshold = _number(config, "strategy.confidence_threshold")
    if threshold is None:
        threshold = _number(config, "strategy.uncertainty_threshold")
    return (
        None if temperature is None else f"temp{temperature}",
        None if top_k is None else f"top_k{top_k}",
        # The guide's "threshold-10" reads as 10 with a dash and as -10 without one; both become that tag.
        None if threshold is None else f"threshold-{threshold.removeprefix('-')}",
    )


def _more_tags(config: Mapping[str, JsonValue]) -> tuple[str | None, ...]:
    scorer = _text(config, "scorer.type")
    aggregation = _text(config, "strategy.aggregation") or _text(config, "strategy.score_aggregation")
    seed = _whole_number(config, "system.seed")
    return (
        scorer.replace("_", "-") if scorer else None,
        aggregation.replace("_", "-") if aggregation else None,
        None if seed is None else f"seed{seed}",
    )


def _lookup(config: Mapping[str, JsonValue], key: str) -> JsonValue:
    value: JsonValue = config
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _text(config: Mapping[str, JsonValue], key: str) -> str | None:
    """The text at a dotted key, references to other keys followed; ``None`` if there is none that says something."""
    value = _lookup(config, key)
    if not isinstance(value, str):
        return None
    plain = (_without_references(config, value) or "").strip()
    return None if plain.lower() in ("", "null", "none", "???") else plain


def _without_references(config: Mapping[str, JsonValue], text: str) -> str | None:
    """``text`` with ``${other.key}`` replaced; ``None`` where something is left that only Hydra could resolve.

    No resolver runs: ``${oc.env:...}`` would read the uploader's environment, ``${now:...}`` its clock.
    """
    for _ in range(8):
        if "${" not in text:
            return text
        replaced = _REFERENCE.sub(lambda found: _as_text(_lookup(config, found[1]), found[0]), text)
        if replaced == text or len(replaced) > 10_000:
            return None
        text = replaced
    return None


def _as_text(value: JsonValue, otherwise: str) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else otherwise


def _whole_number(config: Mapping[str, JsonValue], key: str) -> int | None:
    text = _number(config, key)
    if text is None or not re.fullmatch(r"\d{1,18}", text):
        return None
    return int(text)


def _number(config: Mapping[str, JsonValue], key: str) -> str | None:
    """A number as a tag shows it: ``0.6``, ``16``; ``1.0`` is ``1``."""
    value = _lookup(config, key)
    if isinstance(value, str):
        plain = _without_references(config, value)
        try:
            value = float(plain) if plain else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return f"{float(value):.12g}" if abs(value) < 1e15 else None
    except OverflowError:
        return None


def _last_part(text: str) -> str:
    return text.rstrip("/").rpartition("/")[2]
