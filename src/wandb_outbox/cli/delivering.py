"""The commands that deliver: ``watch``, ``flush``, ``upload``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from wandb_outbox import report
from wandb_outbox.cli.common import (
    complain,
    configuration,
    configure_log,
    on_interrupt,
    overrides_of,
    printable,
    quietly,
    refuse_foreign,
    state_dir_of,
)
from wandb_outbox.errors import ExecutorRunning
from wandb_outbox.model import State
from wandb_outbox.outbox.lock import running_executor
from wandb_outbox.outbox.store import Store
from wandb_outbox.report import Exit
from wandb_outbox.service import daemon, once
from wandb_outbox.service.executor import Executor
from wandb_outbox.service.preview import runs_inside
from wandb_outbox.settings import Loaded


def watch_command(arguments: argparse.Namespace) -> int:
    """The daemon, in the foreground."""
    loaded = configuration(arguments, need_roots=True, missing_roots="wait")
    log = configure_log(loaded)
    with _executor(arguments, loaded, log, watch=True, backlog=True) as executor:
        daemon.watch(
            executor, os.environ, stop_timeout=loaded.settings.stop_timeout, sidecar=arguments.sidecar, log=log
        )
    return Exit.OK


def flush_command(arguments: argparse.Namespace) -> int:
    """One pass over the roots; with the lock in our hands, or through the running daemon."""
    loaded = configuration(arguments, need_roots=True, missing_roots="refuse")
    state_dir = state_dir_of(arguments)
    refuse_foreign(state_dir, also_own=False)
    stopped = on_interrupt()
    log = configure_log(loaded, default="warning")
    began = time.time()
    try:
        with _executor(arguments, loaded, log, watch=False, backlog=False) as executor:
            once.flush(executor, timeout=arguments.timeout, show=quietly, stopped=stopped)
            return _tell_flush(executor.store, began)
    except ExecutorRunning:
        store = Store.open(state_dir)
        once.flush_beside(
            store,
            timeout=arguments.timeout,
            show=quietly,
            stopped=stopped,
            alive=lambda: running_executor(state_dir) is not None,
        )
        return _tell_flush(store, began)


def _tell_flush(store: Store, began: float) -> int:
    after = store.counts()
    server = store.fact("server") or {}
    state, detail = server.get("state", "unknown"), server.get("detail", "")
    print(report.flush_text(store.uploaded_since(began), after, state, detail))
    if after[State.QUEUED]:
        complain(*report.hindrances(paused=bool(store.fact("paused")), watched=True))
    for run in store.list([State.FAILED]):
        words = report.without_path(run.path, run.error_message or run.reason)
        complain(f"failed: {run.path}: {words}", run.error_hint or "")
    return report.finished_exit(after[State.QUEUED] + after[State.UPLOADING], after[State.FAILED], state)


def upload_command(arguments: argparse.Namespace) -> int:
    """Deliver the named folders; with the lock in our hands, or through the running daemon."""
    loaded = configuration(arguments, need_roots=False, missing_roots="wait")
    state_dir = state_dir_of(arguments)
    refuse_foreign(state_dir, also_own=False)
    overrides = overrides_of(arguments)
    # A path is the caller's, and a daemon that takes the request has another working directory.
    paths = [os.path.abspath(path) for path in arguments.dirs]
    for path in paths:
        inside = runs_inside(path, loaded.settings)
        if inside is not None:
            complain(f"{path}: {inside}")
    stopped = on_interrupt()
    log = configure_log(loaded, default="error")
    with _progress() as show:
        try:
            with _executor(arguments, loaded, log, watch=False, backlog=False, scan=False) as executor:
                keys, problems = once.upload(executor, paths, overrides, show=show, stopped=stopped)
        except ExecutorRunning:
            beside = Store.open(state_dir)
            keys, problems = once.upload_beside(
                beside,
                paths,
                overrides,
                show=show,
                stopped=stopped,
                alive=lambda: running_executor(state_dir) is not None,
            )
            beside.close()
    store = Store.open(state_dir)
    return _tell_upload(store, keys, problems)


def _tell_upload(store: Store, keys: Sequence[int], problems: Sequence[str]) -> int:
    for problem in problems:
        complain(problem)
    left = failed = 0
    for key in keys:
        run = store.get(key)
        if run is None:
            continue
        if run.state is State.UPLOADED:
            what = f"{run.artifact}, " if run.artifact else ""
            print(f"{printable(run.path)} → {run.url}  ({what}{run.files} files, {report.size(run.bytes)})")
            for warning in run.warnings:
                complain(f"{run.path}: {warning}")
        else:
            left += run.state in (State.QUEUED, State.UPLOADING, State.WRITING)
            failed += run.state not in (State.QUEUED, State.UPLOADING, State.WRITING)
            words = report.without_path(run.path, run.reason)
            complain(f"{run.path} is {run.state.value}: {words}", run.error_hint or "")
    server = store.fact("server") or {}
    if left and server.get("state") != "online":
        complain(
            f"the server is {server.get('state', 'unknown')}: {server.get('detail', '')}; what is queued is kept",
            "the next `wandb-outbox watch`, `wandb-outbox flush ROOT` or `wandb-outbox upload` sends it",
        )
    if left:
        complain(*report.hindrances(paused=bool(store.fact("paused")), watched=True))
    code = report.finished_exit(left, failed, server.get("state", "unknown"))
    return Exit.USAGE if problems and not keys else code or (Exit.LEFT if problems else Exit.OK)


def _executor(
    arguments: argparse.Namespace, loaded: Loaded, log: Any, *, watch: bool, backlog: bool, scan: bool = True
) -> Executor:
    return Executor(
        state_dir_of(arguments), loaded.settings, os.environ,
        command=arguments.command, watch=watch, backlog=backlog, scan=scan, log=log,
    )  # fmt: skip


def _progress() -> Any:
    """A progress bar on a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        from wandb_outbox.progress import Bars

        return Bars()
    return contextlib.nullcontext(quietly)
