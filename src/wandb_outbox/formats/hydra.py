"""A run folder of any Hydra application: ``.hydra/config.yaml``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from wandb_outbox.formats.common import as_config, ended_at, run_files, started_at, text_or_none
from wandb_outbox.formats.content import Content, Warn
from wandb_outbox.formats.hf_trainer import HfTrainer, holds_state
from wandb_outbox.formats.history import found_history, found_totals
from wandb_outbox.formats.jsonfile import read_object
from wandb_outbox.formats.logfile import logged_traceback, top_level_logs
from wandb_outbox.formats.yamlfile import read_yaml
from wandb_outbox.model import FormatEvidence, JsonValue, PlanWarning, Snapshot

CONFIG = ".hydra/config.yaml"
SETTINGS = ".hydra/hydra.yaml"
OVERRIDES = ".hydra/overrides.yaml"
METRICS = "metrics.json"
RUN_FILES = ("results.json", METRICS, "candidates.json")


@dataclass(frozen=True, slots=True)
class HydraFolder:
    """What ``.hydra/`` says of a run: its configuration, the overrides, and whether it is a job of a sweep."""

    config: dict[str, JsonValue]
    overrides: tuple[str, ...]
    settings: dict[str, JsonValue]
    sweep: bool

    @property
    def project(self) -> str | None:
        """The W&B project that the experiment names."""
        return text_or_none(self.config.get("wandb_project"))

    @property
    def group(self) -> str | None:
        """The W&B group that the experiment names."""
        return text_or_none(self.config.get("wandb_group"))


class Hydra:
    """Any folder with ``.hydra``. It says nothing of its end, but a traceback at the end of a log does."""

    name: ClassVar[str] = "hydra"

    def recognises(self, path: str, names: Collection[str]) -> bool:  # noqa: ARG002  names say it all
        """By the directory ``.hydra``."""
        return ".hydra" in names

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """Failed by a traceback at the end of a log; nothing to show when there are only logs and ``.hydra/``."""
        failed = None if marker else logged_traceback(path, snapshot)
        logs = set(top_level_logs(snapshot))
        shown = any(not file.path.startswith(".hydra/") and file.path not in logs for file in snapshot.files)
        return FormatEvidence(done=marker, failed=failed, nothing_to_show=not shown)

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """The Hydra configuration, ``metrics.json``, and metrics over time where there are any.

        Of an application that trains with the Trainer also what that says of the training.
        """
        warnings: list[PlanWarning] = []
        folder = read_hydra_folder(path, snapshot, warnings.append)
        metrics = read_object(path, snapshot, METRICS, warnings.append, "unreadable-metrics")
        trained = HfTrainer().read(path, snapshot) if holds_state(snapshot.files) else Content()
        warnings += trained.warnings
        logs = top_level_logs(snapshot)
        return Content(
            config=folder.config,
            config_file=CONFIG,
            metrics={**found_totals(path, snapshot), **(trained.metrics or {}), **(metrics or {})} or None,
            metrics_file=METRICS,
            history=trained.history or found_history(path, snapshot, warnings.append),
            project=folder.project,
            group=folder.group,
            overrides=folder.overrides,
            settings=folder.settings,
            sweep=folder.sweep,
            started_at=started_at(path, snapshot, logs[0] if logs else None),
            ended_at=ended_at(snapshot),
            run_files=tuple(dict.fromkeys((*run_files(snapshot, RUN_FILES), *trained.run_files))),
            warnings=tuple(warnings),
        )


def read_hydra_folder(path: str, snapshot: Snapshot, warn: Warn) -> HydraFolder:
    """Read ``.hydra/``, unresolved."""
    config = as_config(read_yaml(path, snapshot, CONFIG, warn))
    overrides = read_yaml(path, snapshot, OVERRIDES, warn)
    settings = as_config(read_yaml(path, snapshot, SETTINGS, warn))
    hydra = settings.get("hydra")
    mode = hydra.get("mode") if isinstance(hydra, dict) else None
    return HydraFolder(
        config=config,
        overrides=tuple(str(each) for each in overrides) if isinstance(overrides, list) else (),
        settings=settings,
        sweep=str(mode).rpartition(".")[2] == "MULTIRUN",
    )
