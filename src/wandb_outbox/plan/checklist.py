"""The checklist of the guides as named rules: each warning says what was found and how to mend it.

The table in docs/conventions.md is made from :data:`RULES`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from wandb_outbox.model import JsonValue, PlanWarning, Severity
from wandb_outbox.plan import llm_tts_eval, params_meta
from wandb_outbox.plan.conventions import Names

_METRIC = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*(?:/[_a-zA-Z0-9]+)*")
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
        Severity.NOTE, "metrics are letters, digits and `_`, in namespaces with `/`; none is renamed", "params-meta"
    ),
    "artifact-name-length": Rule(
        Severity.WARNING, "an artifact's name has at most 128 characters; a longer one is cut and given a hash", "all"
    ),
}  # fmt: skip
"""Every rule of the checklist. ``artifact-name-length`` is found where the names are made to fit."""


def check(names: Names, config: Mapping[str, JsonValue], metrics: Iterable[str]) -> tuple[PlanWarning, ...]:
    """What breaks a rule. ``config`` is the experiment's own, before it is nested; ``metrics`` are its metrics' keys."""
    found: list[tuple[str, str]] = []
    if names.convention == llm_tts_eval.NAME:
        found += _llm_tts_eval(names)
    if names.convention == params_meta.NAME:
        found += _params_meta(names)
        found += _metric_names(metrics)
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


def _metric_names(metrics: Iterable[str]) -> Iterator[tuple[str, str]]:
    odd = [name for name in metrics if not _METRIC.fullmatch(name)]
    if odd:
        fixed = re.sub(r"[^_a-zA-Z0-9/]+", "_", odd[0]).strip("/")
        more = f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        message = f"found the metrics {_list(odd[:_NAMED])}{more}; they are sent as they are; "
        yield "metric-name", message + f"log them as {fixed!r} and the like"


def _list(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in words) or "(none)"
