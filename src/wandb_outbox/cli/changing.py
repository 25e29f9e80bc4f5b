"""The commands that change where runs stand: ``retry``, ``hold``, ``release``, ``skip``, ``pause``, ``resume``.

Each change is one guarded statement, so it may be made beside a running daemon.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from wandb_outbox.cli.common import complain, named, printable, refuse_foreign, state_dir_of
from wandb_outbox.errors import UserError
from wandb_outbox.outbox.store import Store
from wandb_outbox.report import Exit
from wandb_outbox.row import Run, State, is_at_or_below

_ON_ITS_WAY = (State.WRITING, State.HELD, State.QUEUED)


def retry_command(arguments: argparse.Namespace) -> int:
    """Fresh attempts for failed runs."""
    with _changing(arguments) as store:
        chosen = list(store.list([State.FAILED])) if arguments.failed else []
        chosen += named(store, arguments)
        if not chosen:
            raise UserError(["no failed run to retry" if arguments.failed else "say which RUN to retry, or --failed"])
        code = _change_each(store, chosen, store.retry, "queued with fresh attempts")
        # A running daemon asks the server again now, whatever its backoff says.
        store.ask("recheck", {}, now=time.time())
        return code


def hold_command(arguments: argparse.Namespace) -> int:
    """Keep runs back until they are released."""
    with _changing(arguments) as store:
        chosen = _chosen(store, arguments, [State.QUEUED, State.WRITING])
        return _change_each(
            store,
            chosen,
            store.hold,
            "held until it is released",
            later="its next content is held until it is released",
        )


def release_command(arguments: argparse.Namespace) -> int:
    """Approve what is held, as it is now."""
    with _changing(arguments) as store:
        chosen = _chosen(store, arguments, [State.HELD])
        prints = {run.key: run.fingerprint for run in chosen}
        unskipped = [run for run in chosen if store.unskip(run.key)]
        for run in unskipped:
            print(f"{printable(run.path)}: sent as soon as it is finished")
        if unskipped:
            # A running daemon had laid it aside.
            store.ask("look", {"paths": [run.path for run in unskipped]}, now=time.time())
        others = [run for run in chosen if run not in unskipped]
        return _change_each(store, others, lambda key: store.release(key, prints[key]), "queued")


def skip_command(arguments: argparse.Namespace) -> int:
    """Leave runs alone for good."""
    with _changing(arguments) as store:
        chosen = _chosen(store, arguments, [State.HELD, State.QUEUED, State.FAILED])
        return _change_each(store, chosen, store.skip_by_person, "skipped")


def pause_command(arguments: argparse.Namespace) -> int:
    """Start no new upload."""
    with _changing(arguments) as store:
        store.set_fact("paused", True)
    print("paused: nothing new is uploaded until `wandb-outbox resume`")
    return Exit.OK


def resume_command(arguments: argparse.Namespace) -> int:
    """Go on after a pause."""
    with _changing(arguments) as store:
        store.set_fact("paused", False)
    print("resumed")
    return Exit.OK


def _chosen(store: Store, arguments: argparse.Namespace, states: Sequence[State]) -> list[Run]:
    """The runs a command is about: those named, or with --all (or --root) those in ``states``; then the filters."""
    everything = arguments.all or (arguments.root is not None and not arguments.run_queries)
    if not everything and not arguments.run_queries:
        raise UserError([f"say which RUN to {arguments.command}, or --all"], hint="`wandb-outbox list` shows all")
    chosen = list(store.list(states)) if everything else []
    chosen += named(store, arguments)
    top = os.path.realpath(os.path.expanduser(arguments.root or ""))
    if arguments.root is not None:
        chosen = [run for run in chosen if is_at_or_below(run.path, top)]
    since = getattr(arguments, "since", None)
    if since is not None:
        try:
            first = time.mktime(time.strptime(since, "%Y-%m-%d"))
        except ValueError as error:
            raise UserError([f"--since {since!r} is no day such as 2026-01-31"]) from error
        chosen = [run for run in chosen if _changed_at(run.path) >= first]
    if not chosen:
        where = f" below {top}" if arguments.root is not None else ""
        when = f", changed since {since}" if since is not None else ""
        what = (
            f"none{where} is {' or '.join(state.value for state in states)}{when}"
            if everything
            else f"none{where}{when}"
        )
        raise UserError([f"there is no such run to {arguments.command}: {what}"], hint="`wandb-outbox list` shows all")
    return chosen


def _changed_at(path: str) -> float:
    """When a file directly in the folder was changed last."""
    try:
        with os.scandir(path) as entries:
            return max((entry.stat(follow_symlinks=False).st_mtime for entry in entries), default=0.0)
    except OSError:
        return 0.0


def _change_each(
    store: Store, chosen: Sequence[Run], change: Callable[[int], bool], words: str, *, later: str | None = None
) -> int:
    """Make one change to each and tell of it; ``later``: the words for a run that is not on its way now."""
    left = 0
    for run in chosen:
        if change(run.key):
            print(f"{printable(run.path)}: {later if later and run.state not in _ON_ITS_WAY else words}")
        else:
            left += 1
            after = store.get(run.key) or run
            complain(f"{run.path}: left as it is: {after.state.value}, {after.reason}")
    return Exit.LEFT if left else Exit.OK


@contextlib.contextmanager
def _changing(arguments: argparse.Namespace) -> Iterator[Store]:
    """The outbox for changing. Every change is a guarded statement, so it may be made beside a running daemon."""
    state_dir = state_dir_of(arguments)
    refuse_foreign(state_dir, also_own=True)
    if not os.path.exists(state_dir.database):
        raise UserError(["there is no outbox yet"], hint="it is made by the first `watch`, `flush` or `upload`")
    store = Store.open(state_dir)
    try:
        yield store
    finally:
        store.close()
