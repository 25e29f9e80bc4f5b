"""An output folder of EleutherAI's lm-evaluation-harness.

The unit is the timestamp in the names: ``results_<ts>.json``, and then ``samples_<task>_<ts>.jsonl``, which come after it.
One folder (``OUTPUT/model__name``) holds as many units as there were evaluations of the model, each a run of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import ClassVar

from wandb_outbox.errors import Rejected
from wandb_outbox.folder import read_file
from wandb_outbox.formats.common import ended_at, run_files, started_at
from wandb_outbox.formats.content import Content, SamplesTable
from wandb_outbox.formats.jsonfile import LinesFile, decode_plainly, read_object
from wandb_outbox.formats.logfile import logged_traceback
from wandb_outbox.model import Excluded, FileStat, FormatEvidence, JsonValue, PlanWarning, Snapshot

_TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
_RESULTS = re.compile(rf"results_({_TIMESTAMP})\.json")
_SAMPLES = re.compile(rf"samples_(.+)_({_TIMESTAMP})\.jsonl")
_MAX_READ = 4 * 1024 * 1024
_FACTS = (
    "model_name", "git_hash", "lm_eval_version", "transformers_version", "versions", "n-shot", "n-samples", "chat_template_sha",
    "system_instruction_sha", "max_length",
)  # fmt: skip
"""What the harness says beside its own configuration of how the numbers came about."""
_NO_METRIC = ("alias", "name", "sample_len")
_NOTHING = "N/A"


class LmEval:
    """``results_<ts>.json`` at the top; of several timestamps the newest speaks."""

    name: ClassVar[str] = "lm-eval"

    def recognises(self, path: str, names: Collection[str]) -> bool:  # noqa: ARG002  names say it all
        """By the name of its results."""
        return bool(_timestamps(names))

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """Done when every task in the newest results has its file of samples; failed when only some have."""
        without = _without_samples(path, snapshot)
        done = marker or _done(snapshot, without)
        failed = None if done else logged_traceback(path, snapshot) or _unfinished(snapshot, without)
        return FormatEvidence(done=done, failed=failed, nothing_to_show=not timestamps(snapshot))

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """The newest results: the harness's configuration, one metric per task and filter, one table per task."""
        warnings: list[PlanWarning] = []
        timestamp = max(timestamps(snapshot), default="")
        name = f"results_{timestamp}.json"
        found = read_object(path, snapshot, name, warnings.append, "unreadable-metrics") or {}
        config = found.get("config")
        began = found.get("date")
        return Content(
            config={
                **{key: found[key] for key in _FACTS if found.get(key) is not None},
                **(config if isinstance(config, dict) else {}),
            },
            config_file=name,
            metrics=_metrics(found.get("results")),
            metrics_file=name,
            tables=tuple(
                SamplesTable(f"samples_{samples[1]}", LinesFile(path, file.path))
                for file in snapshot.files
                if (samples := _SAMPLES.fullmatch(file.path)) is not None and samples[2] == timestamp
            ),
            started_at=float(began) if isinstance(began, int | float) else started_at(path, snapshot, None),
            ended_at=ended_at(snapshot),
            run_files=run_files(snapshot, (name,)),
            warnings=tuple(warnings),
        )


def timestamps(snapshot: Snapshot) -> tuple[str, ...]:
    """The evaluations in the folder, oldest first."""
    return _timestamps(file.path for file in snapshot.files)


def of_timestamp(snapshot: Snapshot, timestamp: str) -> Snapshot:
    """The folder with the files of this evaluation only; those of none (a log) belong to the newest."""
    known = timestamps(snapshot)
    newest = known[-1:] == (timestamp,)
    files: list[FileStat] = []
    others: list[FileStat] = []
    for file in snapshot.files:
        named = _RESULTS.fullmatch(file.path) or _SAMPLES.fullmatch(file.path)
        own = named[named.re.groups] if named is not None and named[named.re.groups] in known else None
        (files if own == timestamp or (own is None and newest) else others).append(file)
    reason = "of another evaluation in this folder, which is a run of its own"
    return replace(
        snapshot,
        files=tuple(files),
        excluded=(*snapshot.excluded, *(Excluded(file.path, reason) for file in others)),
        logs=snapshot.logs if newest else (),
    )


def _timestamps(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({found[1] for name in names if (found := _RESULTS.fullmatch(name))}))


def _without_samples(path: str, snapshot: Snapshot) -> list[str] | None:
    """The tasks in the newest results that have no file of samples; ``None`` where nothing can be said of the tasks."""
    known = timestamps(snapshot)
    if not known:
        return None
    try:
        value = decode_plainly(read_file(path, f"results_{known[-1]}.json", _MAX_READ))
    except (ValueError, Rejected):
        return None
    tasks = _tasks(value)
    if not tasks:
        return None
    return [task for task in tasks if snapshot.file(f"samples_{task}_{known[-1]}.jsonl") is None]


def _done(snapshot: Snapshot, without: list[str] | None) -> str | None:
    if without != []:
        return None
    return f"results_{timestamps(snapshot)[-1]}.json is there, and the samples of each of its tasks"


def _unfinished(snapshot: Snapshot, without: list[str] | None) -> str | None:
    """It writes the samples task by task, or, when it is not asked to, none at all."""
    newest = max(timestamps(snapshot), default=None)
    begun = any((found := _SAMPLES.fullmatch(file.path)) and found[2] == newest for file in snapshot.files)
    if not without or not begun:
        return None
    return f"results_{newest}.json is there, and the samples of these tasks are not: {', '.join(without[:5])}"


def _tasks(value: JsonValue) -> Collection[str]:
    """The tasks that have samples. ``results`` holds groups of tasks, too, which have none; ``configs`` does not."""
    if isinstance(value, dict):
        for key in ("configs", "results"):
            tasks = value.get(key)
            if isinstance(tasks, dict) and tasks:
                return tasks
    return ()


def _metrics(results: JsonValue) -> dict[str, JsonValue] | None:
    """``{"gsm8k": {"exact_match,strict-match": 0.7}}`` as ``gsm8k/exact_match,strict-match``; ``,none`` left out.

    Beside its metrics a task has its name, and blanks where the harness prints none.
    """
    if not isinstance(results, dict):
        return None
    return {
        f"{task}/{metric.removesuffix(',none')}": value
        for task, metrics in results.items()
        if isinstance(metrics, dict)
        for metric, value in metrics.items()
        if metric.strip() and metric not in _NO_METRIC and value != _NOTHING
    }
