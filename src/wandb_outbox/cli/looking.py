"""The commands that look: ``status``, ``list``, ``show``, ``why``, ``wait``, ``version``. They need the state only."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence

from wandb_outbox import __version__, report
from wandb_outbox.cli.common import complain, find, named, printable, printable_lines, several, state_dir_of, unknown
from wandb_outbox.errors import UserError
from wandb_outbox.outbox.lock import running_executor
from wandb_outbox.outbox.store import Store
from wandb_outbox.report import Exit
from wandb_outbox.row import Run, State


def status_command(arguments: argparse.Namespace) -> int:
    """How daemon, server and runs are; with ``--watch`` until Ctrl-C, at whatever moment that comes."""
    try:
        return _show_status(arguments)
    except KeyboardInterrupt:
        if not arguments.watch:
            raise
        return Exit.OK


def _show_status(arguments: argparse.Namespace) -> int:
    state_dir = state_dir_of(arguments)
    while True:
        executor = running_executor(state_dir)
        store = Store.read(state_dir)
        status = report.status_json(store, executor, now=time.time())
        backlog = store.backlog() if store is not None else ()
        if store is not None:
            store.close()
        if arguments.json:
            print(json.dumps(status, indent=None if arguments.watch else 2), flush=True)
        else:
            clear = "\x1b[H\x1b[2J" if arguments.watch and sys.stdout.isatty() else ""
            nowhere = state_dir.path if store is None else None
            words = report.status_text(status, backlog, now=time.time(), nowhere=nowhere)
            print(clear + printable(words, keep_lines=True), flush=True)
        if not arguments.watch:
            return Exit.OK if executor is not None else Exit.DOWN
        time.sleep(1.0)


def list_command(arguments: argparse.Namespace) -> int:
    """The runs, one a line."""
    store = Store.read(state_dir_of(arguments))
    states = [State(value) for value in arguments.state]
    if arguments.json:
        for piece in report.list_json(store.objects(states) if store else ()):
            sys.stdout.write(piece)
    else:
        for page in store.lines(states) if store else ():
            sys.stdout.write(printable_lines(page))
    return Exit.OK


def show_command(arguments: argparse.Namespace) -> int:
    """Everything about one run."""
    store, run = _one(arguments)
    attempts = store.attempts(run.key)
    if arguments.json:
        print(json.dumps(report.show_json(run, attempts), indent=2))
    else:
        print(printable(report.show_text(run, attempts), keep_lines=True))
    return Exit.OK


def why_command(arguments: argparse.Namespace) -> int:
    """Where a run stands and why, with the evidence seen now."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # see detect/writers.py: a broken lease would end us
    store, run = _one(arguments)
    running = running_executor(state_dir_of(arguments)) is not None
    watched = [root["path"] for root in store.fact("roots") or ()] if running else None
    server, paused = store.fact("server") or {}, bool(store.fact("paused"))
    words = report.why_text(run, now=time.time(), watched=watched, server=server, paused=paused)
    print(printable(words, keep_lines=True))
    if run.state in (State.WRITING, State.HELD, State.QUEUED):
        from wandb_outbox.detect.evidence import evidence_text

        print(printable(evidence_text(run, store.look_rules(run.root)), keep_lines=True))
    return Exit.OK


def wait_command(arguments: argparse.Namespace) -> int:
    """Wait until runs are delivered, or cannot be."""
    keys: list[int] | None = None
    told: Sequence[str] = ()
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    while True:
        # Opened anew for each look: what a reader of another user sees of a quiet outbox never changes.
        store = Store.read(state_dir_of(arguments))
        if store is None:
            if arguments.run_queries:
                raise unknown(arguments.run_queries[0])
            return Exit.OK
        if keys is None and arguments.run_queries:
            keys = [run.key for run in named(store, arguments)]
        if keys is None:
            runs = store.list([State.WRITING, State.QUEUED, State.UPLOADING])
        else:
            runs = [run for run in map(store.get, keys) if run is not None]
        paused = bool(store.fact("paused"))
        store.close()
        waiting = [
            run
            for run in runs
            if run.state in (State.QUEUED, State.UPLOADING)
            or (run.state is State.WRITING and (keys is not None or run.verdict == "settling"))
        ]
        if not waiting:
            left = [run for run in runs if keys is not None and run.state is not State.UPLOADED]
            for run in left:
                complain(f"{run.path} is {run.state.value}: {run.reason}")
            return Exit.LEFT if left else Exit.OK
        if deadline is not None and time.monotonic() >= deadline:
            for run in waiting[:10]:
                complain(f"{run.path} is still {run.state.value}: {run.reason}")
            return Exit.LEFT
        hindrances = report.hindrances(paused=paused, watched=running_executor(state_dir_of(arguments)) is not None)
        if hindrances != told:
            complain(*hindrances)
            told = hindrances
        time.sleep(0.2)


def version_command(_arguments: argparse.Namespace) -> int:
    """The version."""
    print(f"wandb-outbox {__version__}")
    return Exit.OK


def _one(arguments: argparse.Namespace) -> tuple[Store, Run]:
    store = Store.read(state_dir_of(arguments))
    runs = find(store, arguments.run_query) if store else []
    if store is None or not runs:
        raise UserError(
            [f"no run is known by {arguments.run_query!r}"],
            hint="`wandb-outbox list` shows all; a folder that was never seen is sent with `wandb-outbox upload DIR`",
        )
    if len(runs) > 1:
        raise several(arguments.run_query, runs)
    return store, runs[0]
