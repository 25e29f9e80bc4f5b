"""What several commands share: where the state is, what the configuration says, how a person is told."""

from __future__ import annotations

import argparse
import os
import pwd
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from wandb_outbox.errors import ConfigurationError, UserError
from wandb_outbox.outbox.location import StateDir, find_state_dir
from wandb_outbox.outbox.store import Store
from wandb_outbox.row import Overrides, Run

if TYPE_CHECKING:
    from wandb_outbox.settings import Loaded

_ENDED = bytes([ord("\n"), *[0] * 31, *range(32, 127), 0, *range(128, 256)])
"""What becomes of each byte: a NUL ends a line, and any other control character of ASCII is a NUL instead."""


def state_dir_of(arguments: argparse.Namespace) -> StateDir:
    """The state directory that this call is about."""
    return find_state_dir(os.environ, getattr(arguments, "state_dir", None))


def refuse_foreign(state_dir: StateDir, *, also_own: bool) -> None:
    """Raise :class:`UserError` with the line to type, when there is an outbox that this user may not change.

    ``also_own``: even if it is this user's; else that is left to whoever prepares the state directory.
    """
    try:
        found = os.stat(state_dir.database)
    except PermissionError:
        found = None
    except OSError:
        return  # there is none yet
    if found is not None and os.access(state_dir.path, os.W_OK) and os.access(state_dir.database, os.W_OK):
        return
    try:
        uid = (found or os.stat(state_dir.path)).st_uid
    except OSError:
        whom = "OWNER"  # not even that may be seen
    else:
        if uid == os.geteuid() and not also_own:
            return
        try:
            whom = pwd.getpwuid(uid).pw_name
        except KeyError:
            whom = f"#{uid}"
    words = list(sys.argv[1:])
    if not any(word == "--state-dir" or word.startswith("--state-dir=") for word in words):
        words += ["--state-dir", state_dir.path]
    raise UserError(
        [f"the outbox in {state_dir.path} may not be changed by this user"],
        hint=f"type: {shlex.join(['sudo', '-u', whom, 'wandb-outbox', *words])}",
    )


def configuration(arguments: argparse.Namespace, *, need_roots: bool, missing_roots: str) -> Loaded:
    """The checked configuration. ``missing_roots``: "refuse" a root that is not there, or "wait" for it."""
    from wandb_outbox.plan import CONVENTIONS, definition_faults
    from wandb_outbox.settings import load

    roots = tuple(getattr(arguments, "roots", ()))
    loaded = load(
        os.environ,
        config=getattr(arguments, "config", None),
        roots=roots,
        conventions=CONVENTIONS,
        convention_faults=definition_faults,
    )
    problems = []
    if need_roots:
        if not loaded.settings.roots:
            problems.append("there is no root to watch")
        for root in loaded.settings.roots:
            if not os.path.lexists(root.path):
                if missing_roots == "refuse":
                    problems.append(f"root {root.path} is not there")
            elif not os.path.isdir(root.path):
                problems.append(f"root {root.path} is not a directory")
            elif not os.access(root.path, os.R_OK | os.X_OK):
                problems.append(f"root {root.path} may not be read by this user")
    if problems:
        raise ConfigurationError(
            problems,
            hint="name the roots as arguments, in WANDB_OUTBOX_ROOTS, or as [[roots]] in the configuration file",
        )
    return loaded


def configure_log(loaded: Loaded, default: str | None = None) -> Any:
    """The log function; one-pass commands speak up only when something is wrong, unless a level was asked for."""
    from wandb_outbox.service.logs import configure

    asked = "log_level" in loaded.settings.model_fields_set
    log = configure(loaded.settings.log_level if asked or default is None else default, os.environ)
    for note in loaded.notes:
        log("setting-unknown", note=note)
    return log


def overrides_of(arguments: argparse.Namespace) -> Overrides:
    """What the options say about the run; tags may be given apart, repeated, or with commas."""
    tags = None
    if arguments.tags is not None:
        tags = tuple(tag for word in arguments.tags for tag in word.split(",") if tag)
    return Overrides(
        entity=arguments.entity, project=arguments.project, name=arguments.name, group=arguments.group,
        job_type=arguments.job_type, tags=tags, notes=arguments.notes,
    )  # fmt: skip


def on_interrupt() -> Callable[[], bool]:
    """Whether Ctrl-C or SIGTERM came: what is under way is put back in order; a second Ctrl-C ends at once."""
    seen: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # see detect/writers.py: a broken lease would end us
    return lambda: bool(seen)


def find(store: Store, query: str) -> list[Run]:
    """The runs that a person may mean by ``query``; an exact path or id wins over what merely begins so."""
    runs = list(store.find(query))
    exact = [run for run in runs if run.path == os.path.realpath(query) or run.run_id == query]
    return exact or runs


def quietly(_store: Store, _runs: Sequence[Run]) -> None:
    """Show no progress."""


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Names of folders come from anywhere: control characters must not reach the terminal, nor lone surrogates stop us."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() or (keep_lines and c == "\n") else repr(c)[1:-1] for c in text)


def printable_lines(lines: bytes) -> str:
    """The same for many lines with a NUL between two: nearly all are plain ASCII, which is soon seen for all at once."""
    text = lines.translate(_ENDED)
    if text.isascii() and b"\0" not in text:
        return text.decode() + "\n"
    return "".join([printable(line.decode(errors="replace").rstrip()) + "\n" for line in lines.split(b"\0")])


def complain(*words: str) -> None:
    """Tell a person, on stderr."""
    for line in words:
        if line:
            print(f"wandb-outbox: {printable(line)}", file=sys.stderr)


def unknown(query: str) -> UserError:
    """The error for a RUN that matches nothing."""
    return UserError([f"no run is known by {query!r}"], hint="`wandb-outbox list` shows all")


def several(query: str, runs: Sequence[Run]) -> UserError:
    """The error for a RUN that matches more than one."""
    return UserError(
        [f"{query!r} could be {len(runs)} runs", *(f"  {run.run_id}  {run.path}" for run in runs[:10])],
        hint="say more of the id, or the path",
    )


def named(store: Store, arguments: argparse.Namespace) -> list[Run]:
    """The runs that the RUN arguments name, each once: a folder above names all below it, a prefix of ids must be of one."""
    found: dict[int, Run] = {}
    for query in arguments.run_queries:
        runs = find(store, query)
        if not runs:
            raise unknown(query)
        by_id = [run for run in runs if run.run_id.startswith(query)]
        if len(by_id) > 1:
            raise several(query, by_id)
        found.update((run.key, run) for run in runs)
    return list(found.values())
