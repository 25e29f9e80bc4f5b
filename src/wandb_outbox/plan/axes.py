"""What the metrics of a history are drawn over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wandb_outbox.model import JsonValue

EPOCH = "epoch"
SAMPLES = "sample_index"
COUNTERS = (SAMPLES, "train/global_step", "trainer/global_step", "step")
"""Columns that count what was done, the most telling first: as the experiments' own script, Hugging Face's and Lightning's
W&B integrations name them."""


def axes_of(rows: Sequence[Mapping[str, JsonValue]]) -> dict[str, str]:
    """By metric, the column that it is drawn over.

    That is ``epoch`` for what has one value an epoch at most, and else the first of :data:`COUNTERS` that is there.
    """
    columns = dict.fromkeys(key for row in rows for key in row if key != "_step")
    counter = next((name for name in COUNTERS if name in columns), None)
    found: dict[str, str] = {}
    for metric in columns:
        if metric == EPOCH or metric in COUNTERS:
            continue
        if EPOCH in columns and _once_an_epoch(rows, metric):
            found[metric] = EPOCH
        elif counter is not None:
            found[metric] = counter
    return found


def last_values(rows: Sequence[Mapping[str, JsonValue]], axes: Mapping[str, str]) -> dict[str, JsonValue]:
    """The last value of every curve of a training: what W&B itself would show in a run's summary.

    Metrics of single samples are no curve; the last sample says nothing of the run.
    """
    last = {key: value for row in rows for key, value in row.items()}
    return {metric: last[metric] for metric, axis in axes.items() if axis != SAMPLES}


def _once_an_epoch(rows: Sequence[Mapping[str, JsonValue]], metric: str) -> bool:
    last: float | None = None
    for row in rows:
        if metric not in row:
            continue
        epoch = row.get(EPOCH)
        if not isinstance(epoch, int | float) or (last is not None and epoch <= last):
            return False
        last = epoch
    return last is not None
