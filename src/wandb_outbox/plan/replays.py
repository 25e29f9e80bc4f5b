"""The offline runs of a run folder: which of their logs are replayed into its run, and what they say.

The newest offline run is the folder's own: its id, project and name win, and what the folder holds goes to the same run.
Logs of one id are parts of one run that was resumed; offline, each part counts its steps from 0 again, so the steps of a
later part go on where the part before it ended. Offline runs of other ids (ranks, earlier tries) are runs of their own.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from wandb_outbox.errors import FolderChanged, OutboxError, Rejected
from wandb_outbox.folder import LOG_SUFFIX, OFFLINE_PREFIX, FolderGone, default_selector, is_utf8, open_file
from wandb_outbox.folder import snapshot as snapshot_of
from wandb_outbox.formats.content import Content, Warn, warning
from wandb_outbox.formats.offline_run import OfflineRun, log_in
from wandb_outbox.formats.transaction_log import RecordedRun, merge_into, read_head, read_run
from wandb_outbox.model import FileStat, JsonValue, PlanRequest, PlanWarning, Replay, SavedFile, Severity, Snapshot

FILES = "files"
_OWN = "_wandb"
_WRITTEN_ANEW = frozenset({"config.yaml", "wandb-summary.json"})
"""Run files that the SDK makes from the configuration and the summary of the run that it sends."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the folder's offline run recorded, and the logs that say it."""

    run: RecordedRun
    replays: tuple[Replay, ...]
    others: tuple[str, ...]

    def joined(self, content: Content) -> Content:
        """The folder's content with what the run recorded: the folder's configuration wins, the run's history."""
        run = self.run
        last = max((_seconds(row.get("_runtime")) for row in run.rows), default=0.0)
        started = run.started_at or content.started_at
        return replace(
            content,
            config={**{key: value for key, value in run.config.items() if key != _OWN}, **content.config},
            history=run.rows or content.history,
            started_at=started,
            ended_at=content.ended_at if started is None else started + max(float(run.runtime or 0), last),
        )


def find_recorded(request: PlanRequest, snapshot: Snapshot, warn: Warn) -> Recorded | None:
    """What the offline runs of this folder recorded, or ``None`` when it has none.

    Raises ``Rejected`` when the log of an offline run's own directory cannot be replayed; in a run folder such a log is
    left out with a warning. Raises ``FolderChanged`` when a log goes away underneath.
    """
    alone = request.format == OfflineRun.name
    logs = _own_logs(request.path, snapshot) if alone else [_split(request.path, log) for log in snapshot.offline]
    heads: list[tuple[float, str, str, str]] = []
    for directory, log in logs:
        try:
            head = read_head(directory, log)
        except Rejected as error:
            if alone:
                raise
            warn(warning("offline-run-unreadable", f"{error.message}; it is left out"))
            continue
        heads.append((head.started_at, directory, log, head.run_id))
    if not heads:
        return None
    heads.sort()
    newest = heads[-1][3]
    parts = [(directory, log) for _, directory, log, run_id in heads if run_id == newest]
    others = {run_id: directory for _, directory, _, run_id in heads if run_id != newest}
    runs = [read_run(directory, log) for directory, log in parts]
    for (directory, log), run in zip(parts, runs, strict=True):
        if run.damaged:
            words = f"{log} is damaged or torn in {run.damaged} places; what could be read of it is sent"
            warn(warning("offline-run-damaged", f"{os.path.basename(directory)}/{words}"))
    if len(parts) > 1:
        words = f"{len(parts)} offline runs have the id {newest}: they are sent as one run that was resumed"
        warn(PlanWarning("offline-run-resumed", Severity.NOTE, words))
    return Recorded(
        _joined_runs(runs),
        tuple(
            _replay(request.root or request.path, directory, log, run, warn)
            for (directory, log), run in zip(parts, runs, strict=True)
        ),
        tuple(others.values()),
    )


def without_secrets(replays: Sequence[Replay], search: Callable[[str, tuple[FileStat, ...]], tuple[str, ...]]) -> tuple[
    tuple[Replay, ...], tuple[str, ...]
]:  # fmt: skip
    """The replays without the run files that ``search`` finds a secret in, and those files."""
    kept: list[Replay] = []
    left_out: list[str] = []
    for each in replays:
        names = {*search(os.path.join(each.directory, FILES), each.files)}
        for file in each.saved:
            if search(file.top, (FileStat(file.path, file.size, 0, 0, 0),)):
                names.add(file.name)
        left_out += [f"{os.path.basename(each.directory)}/{FILES}/{name}" for name in sorted(names)]
        files = tuple(file for file in each.files if file.path not in names)
        kept.append(replace(each, files=files, saved=tuple(file for file in each.saved if file.name not in names)))
    return tuple(kept), tuple(left_out)


def recorded_panels(run: RecordedRun) -> dict[str, JsonValue]:
    """The charts that the run made with ``wandb.plot``; the SDK keeps them in the part of the configuration that is its own."""
    own = run.config.get(_OWN)
    panels = own.get("visualize") if isinstance(own, dict) else None
    return panels if isinstance(panels, dict) else {}


def recorded_summary(run: RecordedRun) -> Mapping[str, JsonValue]:
    """The summary as the run recorded it, without what the SDK keeps there for itself."""
    return {key: value for key, value in run.summary.items() if not key.startswith("_")}


def _own_logs(path: str, snapshot: Snapshot) -> list[tuple[str, str]]:
    """The log of an offline run's own directory, and those of the earlier parts of the same run beside it."""
    own = log_in(snapshot)
    if own is None:
        raise FolderChanged(f"{path}: its transaction log is gone")
    above, name = os.path.split(path)
    run_id = own.removeprefix("run-").removesuffix(LOG_SUFFIX)
    found = [(path, own)]
    try:
        names = os.listdir(above)
    except OSError:
        names = []
    # The names hold time and id, so that the earlier parts are found without reading every log.
    for other in sorted(names):
        if other.startswith(OFFLINE_PREFIX) and other.endswith(f"-{run_id}") and other < name:
            directory = os.path.join(above, other)
            if os.path.isfile(os.path.join(directory, own)):
                found.append((directory, own))
    return found


def _split(folder: str, log: FileStat) -> tuple[str, str]:
    directory, name = os.path.split(os.path.join(folder, log.path))
    return directory, name


def _joined_runs(runs: Sequence[RecordedRun]) -> RecordedRun:
    """The parts of one run as one: what is said later wins, and the steps go on."""
    joined = runs[0]
    for part in runs[1:]:
        shift = _shift(joined.rows, part.rows)
        rows = (*joined.rows, *({**row, "_step": int(row["_step"]) + shift} for row in part.rows))
        joined = replace(
            part,
            started_at=joined.started_at,
            config=_merged(joined.config, part.config),
            summary={**joined.summary, **part.summary},
            rows=rows,
            runtime=(joined.runtime or 0) + (part.runtime or 0),
        )
    return joined


def _merged(before: dict[str, JsonValue], after: dict[str, JsonValue]) -> dict[str, JsonValue]:
    both = copy.deepcopy(before)
    merge_into(both, after)
    return both


def _shift(before: Sequence[Mapping[str, JsonValue]], after: Sequence[Mapping[str, JsonValue]]) -> int:
    if not before or not after:
        return 0
    last, first = int(before[-1]["_step"]), int(after[0]["_step"])
    return last + 1 - first if first <= last else 0


def _replay(top: str, directory: str, log: str, run: RecordedRun, warn: Warn) -> Replay:
    try:
        taken = snapshot_of(os.path.join(directory, FILES))
    except FolderGone:
        taken = None
    links = [] if taken is None else [left.path for left in taken.excluded]
    saved = [file for name in links if (file := _saved(top, os.path.join(directory, FILES), name)) is not None]
    left_out = sorted({*links} - {file.name for file in saved})
    if left_out:
        words = f"{os.path.basename(directory)}: run files left out: {', '.join(left_out[:5])}"
        warn(warning("offline-run-file-left-out", f"{words}; they are no files below {os.path.basename(top)}"))
    files = () if taken is None else tuple(file for file in taken.files if file.path not in _WRITTEN_ANEW)
    return Replay(directory, log, run.run_id, len(run.rows), run.artifacts, files, tuple(saved), run.exit_code)


def _saved(top: str, files: str, name: str) -> SavedFile | None:
    """What ``run.save`` made a link to, as far as it is a file below ``top`` that could be sent by itself."""
    target = os.path.relpath(os.path.realpath(os.path.join(files, name)), top)
    parts = target.split("/")
    above = ["/".join(parts[: length + 1]) for length in range(len(parts) - 1)]
    if parts[0] == ".." or not is_utf8(target) or default_selector(target, False):
        return None
    if any(default_selector(directory, True) for directory in above):
        return None
    try:
        with open_file(top, target) as file:
            return SavedFile(name, top, target, os.fstat(file.fileno()).st_size)
    except OutboxError:
        return None


def _seconds(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
