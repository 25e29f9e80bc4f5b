"""The checklist of the guides as named rules: each warning says what was found and how to mend it.

The table in docs/conventions.md is made from :data:`RULES`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from wandb_outbox.formats import Declaration
from wandb_outbox.model import JsonValue, PlanWarning, Severity
from wandb_outbox.plan import llm_tts_eval, params_meta
from wandb_outbox.plan.axes import COUNTERS, EPOCH
from wandb_outbox.plan.conventions import Names

_METRIC = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*(?:/[_a-zA-Z0-9]+)*")
_NOT_DASHED = re.compile(r"[_\s]+")
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: how bad it is to break it, what it asks for, and the conventions that it holds for."""

    severity: Severity
    meaning: str
    conventions: str


RULES: Mapping[str, Rule] = {
    "name-pattern": Rule(
        Severity.WARNING,
        "the run's name is of the convention's form, and every value in it is known",
        "llm-tts-eval, params-meta, your own",
    ),
    "tag-category": Rule(
        Severity.NOTE,
        "there are tags for strategy, model, backend and dataset (llm-tts-eval); there are tags at all (params-meta)",
        "llm-tts-eval, params-meta",
    ),
    "job-type": Rule(
        Severity.WARNING, "there is a job type, and it is one of the guide's vocabulary", "params-meta"
    ),
    "missing-group": Rule(Severity.WARNING, "the run belongs to a group", "params-meta"),
    "params-meta": Rule(
        Severity.WARNING, "the experiment itself tells `params` from `meta`", "params-meta, your own with its shape"
    ),
    "metric-name": Rule(
        Severity.NOTE,
        "metrics are letters, digits and `_`, and those of the history stand in namespaces with `/`; none is renamed",
        "params-meta",
    ),
    "dashes": Rule(
        Severity.NOTE,
        "group, tags and the names of declared artifacts have dashes, neither underscores nor blanks; they are kept",
        "params-meta",
    ),
    "artifact-metadata": Rule(
        Severity.NOTE, "a declared artifact says what it is without being downloaded", "params-meta"
    ),
    "input-name": Rule(
        Severity.NOTE, "only an input of another project is named with its project", "params-meta"
    ),
    "artifact-name-length": Rule(
        Severity.WARNING, "an artifact's name has at most 128 characters; a longer one is cut and given a hash", "all"
    ),
}  # fmt: skip
"""Every rule of the checklist. ``artifact-name-length`` is found where the names are made to fit."""


_ESSENTIAL = {
    "dataset": "num_samples, splits, class_distribution, schema, source, preprocessing_applied",
    "model": "base_model, dataset, id2label, label2id, best_metric, framework",
    "predictions": "model, dataset, threshold, num_predictions",
}
"""By the type of an artifact, what the guide calls essential in its metadata."""


def check(
    names: Names,
    config: Mapping[str, JsonValue],
    metrics: Iterable[str],
    curves: Iterable[str],
    declared: Declaration,
) -> tuple[PlanWarning, ...]:
    """What breaks a rule.

    ``config`` is the experiment's own, before it is nested; ``metrics`` are the keys of its summary and its history,
    ``curves`` those of the history.
    """
    found: list[tuple[str, str]] = []
    if names.convention == llm_tts_eval.NAME:
        found += _llm_tts_eval(names)
    if names.convention == params_meta.NAME:
        found += _params_meta(names)
        found += _metric_names(metrics, curves)
        found += _dashes(names, declared)
        found += _artifacts(names, declared)
    if names.proposal.nested and not any(isinstance(config.get(key), Mapping) for key in ("params", "meta")):
        message = "found neither params nor meta in the configuration; all of it is sent as params; "
        found.append(("params-meta", message + "tell them apart there, or give params and meta in outbox.yaml"))
    return tuple(PlanWarning(rule, RULES[rule].severity, message) for rule, message in found)


def _llm_tts_eval(names: Names) -> Iterator[tuple[str, str]]:
    if not names.sources.get("name", "").startswith("convention") and not llm_tts_eval.NAME_PATTERN.fullmatch(
        names.name
    ):
        words = f"found the name {names.name!r}, which is not {{strategy}}_{{model}}_{{backend}}[_suffix]"
        yield "name-pattern", f"{words}; the convention would say {names.proposal.name[0]!r}"
    missing = [(category, tag) for category, tag in names.proposal.tag_categories if tag not in names.tags]
    if missing:
        words = ", ".join(f"{tag} ({category})" for category, tag in missing)
        yield "tag-category", f"found the tags {_list(names.tags)}; add {words}"


def _params_meta(names: Names) -> Iterator[tuple[str, str]]:
    if not params_meta.follows_pattern(names.name):
        forms = "exp-{00X}-{job_type}-{timestamp} nor {job_type}-{more-info}-{dataset}"
        mend = "call the folder so, or say name, or group: exp-003 and job_type, in outbox.yaml"
        yield "name-pattern", f"found the name {names.name!r}, which is neither {forms}; {mend}"
    if names.job_type not in params_meta.JOB_TYPES:
        close = difflib.get_close_matches(names.job_type or "", params_meta.JOB_TYPES, n=1)
        mend = f"did you mean {close[0]}?" if close else f"say one of {', '.join(params_meta.JOB_TYPES)}"
        yield "job-type", f"found {f'the job type {names.job_type!r}' if names.job_type else 'no job type'}; {mend}"
    if names.group is None:
        yield "missing-group", "found no group; say group: exp-003 in outbox.yaml, or group for the root"
    if not names.tags:
        yield (
            "tag-category",
            "found no tags; say in outbox.yaml what, how, status, where or why: nlp, baseline, ablation",
        )


def _metric_names(metrics: Iterable[str], curves: Iterable[str]) -> Iterator[tuple[str, str]]:
    odd = [name for name in metrics if not _METRIC.fullmatch(name)]
    if odd:
        fixed = re.sub(r"[^_a-zA-Z0-9/]+", "_", odd[0]).strip("/")
        more = f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        message = f"found the metrics {_list(odd[:_NAMED])}{more}; they are sent as they are; "
        yield "metric-name", message + f"log them as {fixed!r} and the like"
    bare = [name for name in curves if "/" not in name and name not in (EPOCH, *COUNTERS)]
    if bare:
        more = f" and {len(bare) - _NAMED} more" if len(bare) > _NAMED else ""
        message = f"found the metrics {_list(bare[:_NAMED])}{more} without a namespace; they are sent as they are; "
        yield "metric-name", message + f"log them as 'train/{bare[0]}', 'eval/{bare[0]}' and the like"


def _dashes(names: Names, declared: Declaration) -> Iterator[tuple[str, str]]:
    said = {"group": [names.group or ""], "tag": names.tags, "artifact": [each.name for each in declared.artifacts]}
    odd = [(kind, text) for kind, texts in said.items() for text in texts if _NOT_DASHED.search(text)]
    if odd:
        words = ", ".join(f"the {kind} {text!r}" for kind, text in odd[:_NAMED])
        more = f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        mended = ", ".join(repr(_NOT_DASHED.sub("-", text)) for _, text in odd[:_NAMED])
        yield "dashes", f"found {words}{more}; they are kept; with dashes: {mended}"


def _artifacts(names: Names, declared: Declaration) -> Iterator[tuple[str, str]]:
    for each in declared.artifacts:
        if not each.metadata:
            wanted = _ESSENTIAL.get(each.type, "what it was made of, how, and how to load it")
            yield "artifact-metadata", f"found the {each.type} {each.name} without metadata of its own; say {wanted}"
    own = [name for name in declared.inputs if name.split("/")[:-1][-1:] == [names.project]]
    own = [name for name in own if name.count("/") == 1 or names.entity in (None, name.split("/")[0])]
    if own:
        short = ", ".join(repr(name.rpartition("/")[2]) for name in own[:_NAMED])
        yield "input-name", f"found {_list(own[:_NAMED])}, which is in this project; {short} is enough"


def _list(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in words) or "(none)"
