"""One pass and out: ``flush`` and ``upload``, with the lock in our hands or beside a running daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from wandb_outbox.errors import OutboxError, UserError
from wandb_outbox.model import Overrides, Run, State
from wandb_outbox.outbox.store import Store
from wandb_outbox.service.executor import Executor

FOLLOW_POLL = 0.1
SHOW_EVERY = 0.2
"""Seconds between two states of the progress bar."""
Show = Callable[[Store, Sequence[Run]], None]
"""Shows progress: given the outbox, and the rows that are followed."""


def flush(executor: Executor, *, timeout: float | None, show: Show, stopped: Callable[[], bool]) -> None:
    """Find what is finished and deliver all of it; returns when nothing is left to wait for, or time is up."""
    deadline = None if timeout is None else time.monotonic() + timeout
    executor.intake.look_everywhere()
    while not stopped() and (deadline is None or time.monotonic() < deadline):
        due = executor.work()
        show(executor.store, ())
        if executor.intake.caught_up() and not executor.worth_waiting():
            return
        executor.wait(due if deadline is None else min(due, deadline - time.monotonic()))


def upload(
    executor: Executor, paths: Sequence[str], overrides: Overrides, *, show: Show, stopped: Callable[[], bool]
) -> tuple[list[int], list[str]]:
    """Deliver these folders now; returns the keys of their rows, and the problems of those that could not be accepted."""
    executor.deliverer.expect()
    keys: list[int] = []
    problems: list[str] = []
    for path in paths:
        try:
            keys.append(executor.accept_upload(path, overrides).key)
        except OutboxError as error:
            problems.append(told(error))
    executor.deliverer.only = keys
    while keys and not stopped():
        due = executor.work()
        rows = _rows(executor.store, keys)
        show(executor.store, rows)
        # One that changed while it was uploaded is looked at again, and sent as soon as it is finished.
        open_rows = [
            run
            for run in rows
            if run.state in (State.QUEUED, State.UPLOADING)
            or (run.state is State.WRITING and executor.intake.settling(run.path))
        ]
        if (
            not open_rows
            or executor.deliverer.paused
            or (executor.deliverer.closed and not executor.deliverer.under_way)
        ):
            break
        executor.wait(min(due, SHOW_EVERY))
    return keys, problems


def upload_beside(
    store: Store,
    paths: Sequence[str],
    overrides: Overrides,
    *,
    show: Show,
    stopped: Callable[[], bool],
    alive: Callable[[], bool],
) -> tuple[list[int], list[str]]:
    """The same beside a running daemon: leave a request, and follow what becomes of it."""
    request = store.ask("upload", {"paths": list(paths), "overrides": asdict(overrides)}, now=time.time())
    answer = _await_answer(store, request, stopped=stopped, alive=alive)
    keys = [int(key) for key in answer.get("keys", ())]
    while keys and not stopped() and alive():
        rows = _rows(store, keys)
        show(store, rows)
        if not any(run.state in (State.QUEUED, State.UPLOADING) for run in rows):
            break
        server = store.fact("server") or {}
        if server.get("state") not in ("online", "unknown", None) and not any(
            run.state is State.UPLOADING for run in rows
        ):
            break
        time.sleep(FOLLOW_POLL)
    return keys, [str(problem) for problem in answer.get("problems", ())]


def flush_beside(
    store: Store, *, timeout: float | None, show: Show, stopped: Callable[[], bool], alive: Callable[[], bool]
) -> None:
    """``flush`` beside a running daemon: ask it to look everywhere at once, and wait for what it finds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    request = store.ask("flush", {}, now=time.time())
    _await_answer(store, request, stopped=stopped, alive=alive, deadline=deadline)
    while not stopped() and alive() and (deadline is None or time.monotonic() < deadline):
        show(store, ())
        counts = store.counts()
        waiting = counts[State.QUEUED] + counts[State.UPLOADING]
        server = (store.fact("server") or {}).get("state")
        if not store.settling() and (
            not waiting or (server not in ("online", "unknown", None) and not counts[State.UPLOADING])
        ):
            return
        time.sleep(FOLLOW_POLL)


def told(error: OutboxError) -> str:
    """An error and what to do about it, in one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def _await_answer(
    store: Store,
    request: int,
    *,
    stopped: Callable[[], bool],
    alive: Callable[[], bool],
    deadline: float | None = None,
) -> dict[str, Any]:
    while (answer := store.answer_to(request)) is None:
        if stopped():
            return {}
        if not alive():
            raise UserError(
                ["the daemon ended before it answered"],
                hint="the request is kept: the next daemon takes it up; or ask again",
            )
        if deadline is not None and time.monotonic() > deadline:
            raise OutboxError(
                "the daemon did not answer in time",
                hint="the request is kept; `wandb-outbox status` names the daemon's process: is it stopped, or without a disk?",
            )
        time.sleep(FOLLOW_POLL)
    return answer


def _rows(store: Store, keys: Sequence[int]) -> list[Run]:
    return [run for run in (store.get(key) for key in keys) if run is not None]
