"""An output folder of EleutherAI's lm-evaluation-harness.

The unit is the timestamp in the names; ``results_<ts>.json`` is written before its ``samples_<task>_<ts>.jsonl``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import ClassVar

from wandb_outbox.errors import Rejected
from wandb_outbox.folder import read_file
from wandb_outbox.formats.common import ended_at, run_files, started_at
from wandb_outbox.formats.content import Content
from wandb_outbox.formats.jsonfile import decode_plainly, read_object
from wandb_outbox.formats.logfile import logged_traceback
from wandb_outbox.model import FormatEvidence, JsonValue, PlanWarning, Snapshot

_RESULTS = re.compile(r"results_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json")
_MAX_READ = 4 * 1024 * 1024


class LmEval:
    """``results_<ts>.json`` at the top; of several timestamps the newest speaks."""

    name: ClassVar[str] = "lm-eval"

    def recognises(self, path: str, names: Collection[str]) -> bool:  # noqa: ARG002  names say it all
        """By the name of its results."""
        return _newest(names) is not None

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """Done when every task in the newest results has its file of samples."""
        done = marker or _done(path, snapshot)
        failed = None if done else logged_traceback(path, snapshot)
        return FormatEvidence(
            done=done, failed=failed, nothing_to_show=_newest(file.path for file in snapshot.files) is None
        )

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """The newest results: the harness's configuration, and one metric per task and filter."""
        warnings: list[PlanWarning] = []
        timestamp = _newest(file.path for file in snapshot.files)
        name = f"results_{timestamp}.json"
        found = read_object(path, snapshot, name, warnings.append, "unreadable-metrics") or {}
        config = found.get("config")
        return Content(
            config=dict(config) if isinstance(config, dict) else {},
            config_file=name,
            metrics=_metrics(found.get("results")),
            metrics_file=name,
            started_at=started_at(path, snapshot, None),
            ended_at=ended_at(snapshot),
            run_files=run_files(snapshot, (name,)),
            warnings=tuple(warnings),
        )


def _newest(names: Iterable[str]) -> str | None:
    return max((found[1] for name in names if (found := _RESULTS.fullmatch(name))), default=None)


def _done(path: str, snapshot: Snapshot) -> str | None:
    timestamp = _newest(file.path for file in snapshot.files)
    if timestamp is None:
        return None
    name = f"results_{timestamp}.json"
    try:
        value = decode_plainly(read_file(path, name, _MAX_READ))
    except (ValueError, Rejected):
        return None
    tasks = value.get("results") if isinstance(value, dict) else None
    if not isinstance(tasks, dict) or not tasks:
        return None
    if all(snapshot.file(f"samples_{task}_{timestamp}.jsonl") is not None for task in tasks):
        return f"{name} is there, and the samples of each of its tasks"
    return None


def _metrics(results: JsonValue) -> dict[str, JsonValue] | None:
    """``{"gsm8k": {"exact_match,strict-match": 0.7}}`` as ``gsm8k/exact_match,strict-match``; ``,none`` left out."""
    if not isinstance(results, dict):
        return None
    return {
        f"{task}/{metric.removesuffix(',none')}": value
        for task, metrics in results.items()
        if isinstance(metrics, dict)
        for metric, value in metrics.items()
    }
