"""A run folder of llm-tts-service's ``run_tts_eval.py``.

The script writes nothing atomically: a killed run can leave a torn ``results.json``, and a resumed one a
``metrics.json`` of the session before beside a growing ``results.json``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import ClassVar

from wandb_outbox.errors import OutboxError, Rejected
from wandb_outbox.folder import read_file, read_tail
from wandb_outbox.formats.common import ended_at, run_files, started_at
from wandb_outbox.formats.content import Content
from wandb_outbox.formats.history import SAMPLE_INDEX, SAMPLE_METRICS, jsonl_history
from wandb_outbox.formats.hydra import CONFIG, METRICS, RUN_FILES, read_hydra_folder
from wandb_outbox.formats.jsonfile import ListFile, decode_plainly, read_object
from wandb_outbox.formats.logfile import STDERR, STDERR_TAIL, LogReading, final_traceback, read_head, read_log
from wandb_outbox.model import FormatEvidence, JsonValue, PlanWarning, Snapshot

RESULTS = "results.json"
LOG = "run_tts_eval.log"
EVALUATION = "evaluation"

_MAX_METRICS = 4 * 1024 * 1024
_RESULTS_END = 64 * 1024
_CONFIG_SCAN = 64 * 1024
_SPACE = b" \t\r\n"
_EMPTY_RESULTS = (b"", b"[]", b"{}", b"null")
_TOP_LEVEL = tuple(re.compile(rb"^%s[ \t]*:" % key, re.MULTILINE) for key in (b"strategy", b"dataset"))
# The quote of a key inside a string has a backslash before it: a question about JSON is no result.
_NOT_JUDGED = re.compile(rb'(?<!\\)"is_correct"\s*:\s*null')
_NOT_EVALUATED = re.compile(rb'(?<!\\)"eval"\s*:\s*\{\s*\}')


class LlmTts:
    """Test-time-scaling evaluations: ``.hydra/config.yaml``, ``results.json``, ``run_tts_eval.log``."""

    name: ClassVar[str] = "llm-tts"

    def recognises(self, path: str, names: Collection[str]) -> bool:
        """By its log, by ``strategy`` and ``dataset`` in the configuration, or, in older folders, by its results."""
        if ".hydra" in names:
            return LOG in names or _config_is_ours(path)
        return RESULTS in names and (LOG in names or METRICS in names)

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """Done beats failed, but nothing beats a torn ``results.json``."""
        log = read_log(path, snapshot, LOG)
        metrics = _metrics(path, snapshot)
        torn = _torn(path, snapshot)
        done = None if torn else marker or _done_by_metrics(snapshot, metrics, log) or _done_by_log(snapshot, log)
        failed = None if done else torn or _failed(path, snapshot, log)
        return FormatEvidence(
            done=done,
            failed=failed,
            incomplete=_incomplete(metrics, log),
            nothing_to_show=not _has_results(path, snapshot),
        )

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """Configuration, metrics, results and metrics per sample."""
        warnings: list[PlanWarning] = []
        folder = read_hydra_folder(path, snapshot, warnings.append)
        log = read_log(path, snapshot, LOG)
        return Content(
            config=folder.config,
            config_file=CONFIG,
            metrics=read_object(path, snapshot, METRICS, warnings.append, "unreadable-metrics"),
            metrics_file=METRICS,
            samples=ListFile(path, RESULTS) if snapshot.file(RESULTS) is not None else None,
            history=jsonl_history(path, snapshot, SAMPLE_METRICS, SAMPLE_INDEX, warnings.append),
            project=folder.project,
            group=folder.group,
            overrides=folder.overrides,
            commands=log.commands if log else (),
            sample_range=log.sample_range if log else None,
            settings=folder.settings,
            sweep=folder.sweep,
            started_at=started_at(path, snapshot, LOG),
            ended_at=ended_at(snapshot),
            run_files=run_files(snapshot, RUN_FILES),
            warnings=tuple(warnings),
        )


def _config_is_ours(path: str) -> bool:
    try:
        config = read_head(path, CONFIG, _CONFIG_SCAN)
    except OutboxError:
        return False
    return all(key.search(config) for key in _TOP_LEVEL)


def _metrics(path: str, snapshot: Snapshot) -> dict[str, JsonValue] | None:
    if snapshot.file(METRICS) is None:
        return None
    try:
        value = decode_plainly(read_file(path, METRICS, _MAX_METRICS))
    except (ValueError, Rejected):
        return None
    return value if isinstance(value, dict) else None


def _results_are_newer(snapshot: Snapshot, mtime_ns: int) -> bool:
    results = snapshot.file(RESULTS)
    return results is not None and results.mtime_ns > mtime_ns


def _done_by_metrics(snapshot: Snapshot, metrics: dict[str, JsonValue] | None, log: LogReading | None) -> str | None:
    stat = snapshot.file(METRICS)
    if metrics is None or stat is None or _results_are_newer(snapshot, stat.mtime_ns):
        return None
    if log is not None and log.open_phases:
        # A resumed run has not come to its metrics yet: these are of the session before. Where the middle of the
        # log was not read, a session may have begun there; then metrics from before the log's end are not its own.
        resumed_unseen = not log.whole and stat.mtime_ns < log.mtime_ns
        if log.segments > 1 or resumed_unseen:
            return None
    if snapshot.file(RESULTS) is None:
        return f"{METRICS} is there and whole"
    return f"{METRICS} is there and not older than {RESULTS}"


def _done_by_log(snapshot: Snapshot, log: LogReading | None) -> str | None:
    if log is None or EVALUATION not in log.closed_phases or log.open_phases:
        return None
    if _results_are_newer(snapshot, log.mtime_ns):
        return None
    return f"{LOG} says that the evaluation completed successfully"


def _failed(path: str, snapshot: Snapshot, log: LogReading | None) -> str | None:
    if log is not None and log.ended_badly:
        return f"{LOG} says: {log.ended_badly}"
    if snapshot.file(STDERR) is not None:
        exception = final_traceback(read_tail(path, STDERR, STDERR_TAIL).decode("utf-8", "replace"))
        if exception:
            return f"{STDERR} ends with a traceback: {exception}"
    if log is not None and log.traceback:
        return f"{LOG} ends with a traceback: {log.traceback}"
    if log is not None and log.open_phases:
        return f"{LOG} says that this began, and not that it ended: {', '.join(log.open_phases)}"
    if _is_progressive(path, snapshot):
        return f"{RESULTS} holds samples that were saved before they were evaluated"
    return None


def _torn(path: str, snapshot: Snapshot) -> str | None:
    """A look at both ends: a tear inside, between two writers, is found only when the file is read."""
    stat = snapshot.file(RESULTS)
    if stat is None:
        return None
    first = read_head(path, RESULTS, 4096).removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)[:1]
    last = read_tail(path, RESULTS, 4096).rstrip(_SPACE)[-1:]
    if not first or not last:
        return f"{RESULTS} is empty"
    if first + last in (b"[]", b"{}"):
        return None
    if first in b"[{":
        return f"{RESULTS} is torn: it ends in the middle ({stat.size:,} bytes)"
    return f"{RESULTS} is not JSON"


def _is_progressive(path: str, snapshot: Snapshot) -> bool:
    """The script saves between its phases with ``is_correct: null`` and ``eval: {}``."""
    if snapshot.file(RESULTS) is None:
        return False
    tail = read_tail(path, RESULTS, _RESULTS_END)
    return bool(_NOT_JUDGED.search(tail) and _NOT_EVALUATED.search(tail))


def _incomplete(metrics: dict[str, JsonValue] | None, log: LogReading | None) -> str | None:
    if log is None:
        return None
    if log.generation_failed:
        return f"{LOG} says that a generation failed"
    total = metrics.get("total_samples") if metrics else None
    if log.sample_range is not None and isinstance(total, int) and total < log.sample_range.count:
        return f"{METRICS} counts {total} samples of the {log.sample_range.count} that {LOG} names"
    return None


def _has_results(path: str, snapshot: Snapshot) -> bool:
    for file in snapshot.files:
        if file.path in ("batch_results.jsonl", SAMPLE_METRICS, "results_partial.json", METRICS) and file.size > 0:
            return True
    results = snapshot.file(RESULTS)
    if results is None:
        return False
    return results.size > 64 or read_head(path, RESULTS, 64).strip(_SPACE) not in _EMPTY_RESULTS
