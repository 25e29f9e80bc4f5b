"""The convention ``params-meta``: experiments with a number, data steps with their dataset, a configuration in two parts.

Experiments and evaluations are called ``exp-{00X}-{job_type}-{timestamp}`` and grouped as ``exp-00X``; data steps
``{job_type}-{more-info}-{dataset}``. The number is the one that the folder or ``outbox.yaml`` gives; none is invented.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from wandb_outbox.formats.content import Warn
from wandb_outbox.model import JsonValue
from wandb_outbox.plan.facts import Facts, Proposal, artifact_name, folder_name, job_type_of_format, project_of_place
from wandb_outbox.plan.lookup import last_part, text_at

NAME = "params-meta"
TRAINING = ("pre-train", "train", "fine-tune")
EVALUATION = ("eval", "test", "inference")
DATA_STEPS = ("ingest", "clean", "encode", "transform", "split")
JOB_TYPES = (*TRAINING, *EVALUATION, *DATA_STEPS)

PARAMS = "params"
META = "meta"

_DASHED = r"[A-Za-z0-9.]+(?:-[A-Za-z0-9.]+)*"
_TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d-\d\d(?:-\d\d)?Z?|\d{8}T\d{4}(?:\d\d)?Z?|\d{9,11}"
EXPERIMENT_NAME = re.compile(rf"exp-\d{{3,}}-{_DASHED}-(?:{_TIMESTAMP})")
DATA_NAME = re.compile(rf"(?:{'|'.join(DATA_STEPS)})(?:-{_DASHED}){{1,}}")

_NUMBER = re.compile(r"(?:^|(?<=[^A-Za-z0-9]))exp(?:eriment)?[-_ ]?(\d{1,5})(?![0-9A-Za-z.]|-\d\d-\d\d)", re.IGNORECASE)
_IN_NAME = re.compile(rf"(?:^|(?<=[-_]))({_TIMESTAMP})$")
_HYDRA_TIME = re.compile(r"(?:^|_)(\d\d-\d\d-\d\d)$")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NOT_DASHED = re.compile(r"[^A-Za-z0-9.]+")
_DATASET_KEYS = (
    "dataset", "dataset_name", "dataset.name", "dataset.data_name", "data_name", "data.name", "hf_dataset_path",
    "dataset_path", "dataset.dataset_path",
)  # fmt: skip


def propose(facts: Facts, warn: Warn) -> Proposal:
    """Names by what the folder and ``outbox.yaml`` say; the layers above may replace each of them."""
    del warn  # the checklist looks at the names that the layers above leave
    number, number_source = _number(facts)
    job_type, job_type_source = _job_type(facts)
    group = f"exp-{number}" if number else None
    if number is not None:
        moment, moment_source = _timestamp(facts)
        known = dict.fromkeys(each for each in (number_source, job_type_source, moment_source) if each)
        parts = (f"exp-{number}", job_type, moment)
        name = ("-".join(part for part in parts if part), _source(", ".join(known)))
    elif job_type is not None and job_type in DATA_STEPS:
        name = _data_name(facts, job_type)
    else:
        name = (dashed(folder_name(facts)), _source("the folder's name"))
    whole, whole_source = artifact_name(facts)
    return Proposal(
        project=(project_of_place(facts), _source("the folder's path")),
        name=name,
        job_type=(job_type, _source(job_type_source)) if job_type else None,
        tags=((), _source("")),
        artifact_type="run_outputs",
        group=(group, _source(number_source)) if group else None,
        artifact=(dashed(whole), whole_source),
        nested=True,
    )


def nested(config: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The configuration as ``{"params": ..., "meta": ...}``.

    What stands beside the two affects behaviour as far as anybody knows: it goes into ``params``, where what was put
    there on purpose wins.
    """
    params, meta = config.get(PARAMS), config.get(META)
    beside = {key: value for key, value in config.items() if key not in (PARAMS, META)}
    if params is not None and not isinstance(params, Mapping):
        params = {PARAMS: params}
    if meta is not None and not isinstance(meta, Mapping):
        meta = {META: meta}
    return {PARAMS: {**beside, **(params or {})}, META: dict(meta or {})}


def dashed(text: str) -> str:
    """``text`` with dashes between its words: ``head_tail`` becomes ``head-tail``. Other characters become dashes."""
    return with_dashes(text) or "run"


def with_dashes(text: str) -> str:
    """The same; of a text without letters and digits nothing is left."""
    return _NOT_DASHED.sub("-", text).strip("-")


def follows_pattern(name: str) -> bool:
    """Whether a run's name is of one of the two forms, with a timestamp of any of the guide's kinds."""
    return bool(EXPERIMENT_NAME.fullmatch(name) or DATA_NAME.fullmatch(name))


def _source(words: str | None) -> str:
    return f"convention {NAME}: {words}" if words else f"convention {NAME}"


def _number(facts: Facts) -> tuple[str | None, str | None]:
    """The number as it is written, with zeros before it up to three digits."""
    declared = facts.declared
    root = last_part(facts.root) if facts.root else facts.parent
    places: tuple[tuple[Iterable[str | None], str], ...] = (
        ((facts.overrides.group, facts.overrides.name), "command line"),
        ((declared.group, declared.name), "outbox.yaml"),
        ((*reversed(facts.below_root), root), "the folder's path"),
    )
    for texts, source in places:
        for text in texts:
            found = _NUMBER.search(text) if text else None
            if found:
                return found[1].zfill(3), source
    return None, None


def _job_type(facts: Facts) -> tuple[str | None, str | None]:
    layers = (
        (facts.overrides.job_type, "command line"),
        (facts.declared.job_type, "outbox.yaml"),
        (facts.rules.job_type, "root configuration"),
        (_job_type_in(facts.declared.name), "outbox.yaml"),
        (_job_type_in(*reversed(facts.below_root)), "the folder's path"),
        (job_type_of_format(facts), f"the format {facts.format}"),
    )
    return next(((dashed(text), source) for text, source in layers if text), (None, None))


def _job_type_in(*texts: str | None) -> str | None:
    """A job type of the vocabulary at the begin of a name, or behind the experiment's number."""
    for text in texts:
        words = dashed(_NUMBER.sub("", text or "", count=1)).lower()
        for job_type in JOB_TYPES:
            if words == job_type or words.startswith(f"{job_type}-"):
                return job_type
    return None


def _timestamp(facts: Facts) -> tuple[str | None, str | None]:
    """The guide's forms as they stand in the folder's name; Hydra's date and time; else when the experiment began."""
    name = facts.below_root[-1] if facts.below_root else ""
    found = _IN_NAME.search(name)
    if found:
        return found[1], "the folder's path"
    dates = [part for part in facts.below_root if _DATE.fullmatch(part)]
    times = [time[1] for part in reversed(facts.below_root) if (time := _HYDRA_TIME.search(part))]
    if dates and times:
        return f"{dates[-1]}T{times[0]}", "the folder's path"
    if facts.started_at is not None:
        return facts.started_at, "the time the experiment began"
    return None, None


def _data_name(facts: Facts, job_type: str) -> tuple[str, str]:
    """``{job_type}-{more-info}-{dataset}``; what the folder's name says already is not said twice."""
    info = dashed(folder_name(facts))
    info = info.removeprefix(job_type).strip("-")
    dataset = _dataset(facts.config)
    parts = [job_type, info, dataset if dataset and not holds(info, dataset) else None]
    words = "the folder's name" + (" and the dataset in its configuration" if parts[2] else "")
    return "-".join(part for part in parts if part), _source(words)


def _dataset(config: Mapping[str, JsonValue]) -> str | None:
    for prefix in (f"{PARAMS}.", f"{META}.", ""):
        for key in _DATASET_KEYS:
            text = text_at(config, prefix + key)
            if text:
                return dashed(last_part(text).partition(":")[0])
    return None


def holds(info: str, dataset: str) -> bool:
    """Whether a text with dashes says the other already, as whole words."""
    return f"-{dataset}-".lower() in f"-{info}-".lower()
