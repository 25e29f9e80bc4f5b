"""Any directory that somebody declared to be a run folder: by ``outbox.yaml``, ``.outbox-done``, or ``detect``."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from wandb_outbox.formats.common import ended_at, run_files, started_at
from wandb_outbox.formats.content import Content
from wandb_outbox.formats.declaration import DECLARATION
from wandb_outbox.formats.history import found_history, found_totals, hparams_of
from wandb_outbox.formats.hydra import METRICS, RUN_FILES
from wandb_outbox.formats.jsonfile import read_object
from wandb_outbox.formats.logfile import logged_traceback, top_level_logs
from wandb_outbox.formats.marker import DONE_MARKER
from wandb_outbox.formats.yamlfile import read_yaml
from wandb_outbox.model import FormatEvidence, JsonValue, PlanWarning, Snapshot

_CONFIGS = ("config.yaml", "config.json", "hparams.yaml")


class Plain:
    """Knows nothing of the experiment but that its folder is one."""

    name: ClassVar[str] = "plain"

    def recognises(self, path: str, names: Collection[str]) -> bool:  # noqa: ARG002  names say it all
        """By the two files that an experiment can put there itself."""
        return DECLARATION in names or DONE_MARKER in names

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """Done only by the marker; failed by a traceback at the end of a log."""
        failed = None if marker else logged_traceback(path, snapshot)
        besides = {DECLARATION, DONE_MARKER, *top_level_logs(snapshot)}
        shown = any(file.path not in besides for file in snapshot.files)
        return FormatEvidence(done=marker, failed=failed, nothing_to_show=not shown)

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """A configuration, metrics, and metrics over time, where files of the usual names are there."""
        warnings: list[PlanWarning] = []
        config_file, config = _config(path, snapshot, warnings)
        metrics = read_object(path, snapshot, METRICS, warnings.append, "unreadable-metrics")
        logs = top_level_logs(snapshot)
        return Content(
            config=config,
            config_file=config_file,
            metrics={**found_totals(path, snapshot), **(metrics or {})} or None,
            metrics_file=METRICS,
            history=found_history(path, snapshot, warnings.append),
            started_at=started_at(path, snapshot, logs[0] if logs else None),
            ended_at=ended_at(snapshot),
            run_files=run_files(snapshot, RUN_FILES),
            warnings=tuple(warnings),
        )


def _config(path: str, snapshot: Snapshot, warnings: list[PlanWarning]) -> tuple[str | None, dict[str, JsonValue]]:
    for name in (*_CONFIGS, *hparams_of(snapshot)):
        if snapshot.file(name) is None:
            continue
        if name.endswith(".json"):
            value: JsonValue = read_object(path, snapshot, name, warnings.append, "unreadable-config")
        else:
            value = read_yaml(path, snapshot, name, warnings.append)
        if isinstance(value, dict):
            return name, value
    return None, {}
