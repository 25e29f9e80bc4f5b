"""Rows for the run's history, each with its explicit step under ``"_step"``.

Steps must rise: W&B drops a row whose step is not above the one before, without a word.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import IO

from wandb_outbox.folder import open_file
from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.formats.csvfile import csv_cell
from wandb_outbox.formats.jsonfile import decode, read_object
from wandb_outbox.model import JsonValue, Snapshot

SAMPLE_METRICS = "sample_metrics.jsonl"
SAMPLE_INDEX = "sample_index"
TRAINER_STATE = "trainer_state.json"
CSV_METRICS = "metrics.csv"
HPARAMS = "hparams.yaml"
TRAINER_TOTALS = frozenset(
    {"train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"}
)
"""What the Trainer logs once, at its end: its W&B callback puts these into the summary, under their own names."""

MAX_ROW = 1024 * 1024
"""Bytes. W&B drops larger rows, and a row of 20 MB takes the summary with it."""
MAX_ROWS = 200_000
MAX_STEP = 1_000_000_000
"""Larger numbers count no steps (they are times, or hashes), and who reads the history of such a run asks for every thousand
steps in between."""
_RESERVED = frozenset({"_step", "_runtime", "_timestamp", "_wandb"})
_STEP = "step"
_VERSION = re.compile(r"(?:[^/]+/)*version_(\d+)/metrics\.csv")

Row = dict[str, JsonValue]


def found_history(path: str, snapshot: Snapshot, warn: Warn) -> tuple[Row, ...]:
    """The history of a folder of no certain kind: of the first file of a known kind that has rows."""
    rows = jsonl_history(path, snapshot, SAMPLE_METRICS, SAMPLE_INDEX, warn)
    if not rows:
        state = read_object(path, snapshot, TRAINER_STATE, warn, "unreadable-trainer-state")
        rows = trainer_history(state or {})
    return rows or csv_history(path, snapshot, warn)


def found_totals(path: str, snapshot: Snapshot) -> Row:
    """What a Trainer in such a folder says of its whole training; what is wrong with the file is told of its history."""
    return trainer_totals(read_object(path, snapshot, TRAINER_STATE, lambda _: None, "unreadable-trainer-state") or {})


def csv_history(path: str, snapshot: Snapshot, warn: Warn) -> tuple[Row, ...]:
    """The rows of Lightning's ``CSVLogger``: ``metrics.csv`` at the top, or that of the newest ``version_N``.

    It writes a row for each kind of metric that it logs at a step; here they are one row a step. An empty cell is no
    value. Without a column ``step`` the step is the row's place.
    """
    name = _csv_name(snapshot, warn)
    if name is None:
        return ()
    by_step: dict[int, Row] = {}
    broken = 0
    cut = False
    with open_file(path, name) as file:
        # Excel and PowerShell begin a CSV with a mark that would hide the quote behind it.
        texts = (line.decode("utf-8-sig", "replace") for line, _ in _lines(file) if line is not None)
        first = next(texts, "")
        lines = csv.reader(chain([first], texts), delimiter=_delimiter(first))
        try:
            header = [column.strip() for column in next(lines, [])]
            for place, cells in enumerate(lines):
                row: Row = {
                    column: csv_cell(cell)
                    for column, cell in zip(header, cells, strict=False)
                    if column and cell.strip()
                }
                step = _index(row, _STEP) if _STEP in header else place
                if step is None or len(cells) > len(header):
                    broken += 1
                elif step in by_step or len(by_step) < MAX_ROWS:
                    by_step.setdefault(step, {}).update(_scalars(row))
                else:
                    cut = True
        except csv.Error as error:
            warn(warning("unreadable-history", f"{name} cannot be read to its end as CSV ({error})"))
    if broken:
        message = f"{name} holds {broken} lines without a step or with too many cells; they are left out"
        warn(warning("unreadable-history", message))
    if cut:
        warn(warning("history-cut", f"{name} holds more than {MAX_ROWS:,} steps; the rest is in the artifact only"))
    return _in_order(by_step)


def _delimiter(header: str) -> str:
    """Lightning writes commas; what went through a spreadsheet may have others."""
    return "," if "," in header else next((each for each in ";\t" if each in header), ",")


def _csv_name(snapshot: Snapshot, warn: Warn) -> str | None:
    if snapshot.file(CSV_METRICS) is not None:
        return CSV_METRICS
    versions = sorted((int(found[1]), file.path) for file in snapshot.files if (found := _VERSION.fullmatch(file.path)))
    if not versions:
        return None
    if len(versions) > 1:
        others = ", ".join(name for _, name in versions[:-1][:5])
        message = f"the history is that of {versions[-1][1]}, the newest; in the artifact only: {others}"
        warn(warning("history-of-several", message))
    return versions[-1][1]


def hparams_of(snapshot: Snapshot) -> tuple[str, ...]:
    """Where Lightning keeps the configuration of the history that is taken: beside it."""
    name = _csv_name(snapshot, lambda _: None)
    return () if name is None else (name.replace(CSV_METRICS, HPARAMS),)


def jsonl_history(path: str, snapshot: Snapshot, name: str, index_key: str, warn: Warn) -> tuple[Row, ...]:
    """The rows of a JSON-lines file of metrics, nested values left out.

    A resumed run writes some rows again: the last row of an index wins. The step is the index where that rises over
    the file, and else the row's place in it.
    """
    stat = snapshot.file(name)
    if stat is None or stat.size == 0:
        return ()
    found: list[Row] = []
    broken = oversized = 0
    torn = cut = False
    with open_file(path, name) as file:
        for line, ended in _lines(file):
            if line is None:
                oversized += 1
                continue
            row = _object(line)
            if row is None:
                torn = torn or not ended
                broken += ended
            elif len(found) < MAX_ROWS:
                found.append(row)
            else:
                cut = True
    if torn:
        warn(warning("torn-history", f"{name} ends in the middle of a line; that line is left out"))
    if broken:
        warn(warning("unreadable-history", f"{name} holds {broken} lines that are no JSON object; they are left out"))
    if oversized:
        warn(warning("history-row-too-large", f"{name} holds {oversized} rows over 1 MB; they are left out"))
    if cut:
        warn(warning("history-cut", f"{name} holds more than {MAX_ROWS:,} rows; the rest is in the artifact only"))
    rows = _last_of_each(found, index_key)
    indices = [_index(row, index_key) for row in rows]
    return tuple({**_scalars(row), "_step": step} for row, step in zip(rows, _steps(indices, len(rows)), strict=True))


def trainer_history(state: Row) -> tuple[Row, ...]:
    """The ``log_history`` of a Hugging Face ``trainer_state.json``, one row a step.

    Metrics are named as the Trainer's own W&B callback names them: ``eval_loss`` is ``eval/loss``, ``loss`` is
    ``train/loss``. What was logged twice at one step (training, then evaluation) becomes one row.
    """
    log = state.get("log_history")
    by_step: dict[int, Row] = {}
    for entry in log if isinstance(log, list) else ():
        step = _index(entry, "step") if isinstance(entry, dict) else None
        if step is not None:
            row = by_step.setdefault(step, {"train/global_step": step})
            row.update(
                {
                    _callback_name(key): value
                    for key, value in _scalars(entry).items()
                    if key != "step" and key not in TRAINER_TOTALS
                }
            )
    return _in_order(by_step)[:MAX_ROWS]


def trainer_totals(state: Row) -> Row:
    """What the ``log_history`` says of the whole training, for the summary."""
    log = state.get("log_history")
    entries = [entry for entry in log if isinstance(entry, dict)] if isinstance(log, list) else []
    return {key: value for entry in entries for key, value in _scalars(entry).items() if key in TRAINER_TOTALS}


def _callback_name(key: str) -> str:
    for prefix in ("eval", "test"):
        if key.startswith(prefix + "_"):
            return f"{prefix}/{key[len(prefix) + 1 :]}"
    return f"train/{key}"


def _lines(file: IO[bytes]) -> Iterator[tuple[bytes | None, bool]]:
    """Each line that is not empty, ``None`` for one that is too large, and whether it ended with a newline."""
    while line := file.readline(MAX_ROW + 1):
        if len(line) > MAX_ROW:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_ROW + 1)
            yield None, True
        elif line.strip():
            yield line, line.endswith(b"\n")


def _object(line: bytes) -> Row | None:
    try:
        value = decode(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _last_of_each(rows: list[Row], index_key: str) -> list[Row]:
    last = {index: place for place, row in enumerate(rows) if (index := _index(row, index_key)) is not None}
    return [row for place, row in enumerate(rows) if (index := _index(row, index_key)) is None or last[index] == place]


def _steps(indices: list[int | None], count: int) -> Iterable[int]:
    known = [index for index in indices if index is not None]
    rising = len(known) == count and all(a < b for a, b in pairwise(known))
    return known if rising and (not known or known[-1] <= MAX_STEP) else range(count)


def _in_order(by_step: dict[int, Row]) -> tuple[Row, ...]:
    """The rows by their steps; where those are too large for steps, by their places."""
    steps = sorted(by_step)
    places = range(len(steps)) if steps and steps[-1] > MAX_STEP else steps
    return tuple({**by_step[step], "_step": place} for step, place in zip(steps, places, strict=True))


def _index(row: Row, key: str) -> int | None:
    value = row.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes a column of steps as 0.0, 1.0 once one of them was missing
    # W&B's steps are 64-bit integers that are not negative.
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _scalars(row: Row) -> Row:
    return {key: value for key, value in row.items() if not isinstance(value, dict | list) and key not in _RESERVED}
