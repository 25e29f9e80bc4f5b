"""The command line. Each command is loaded when it is asked for, so that ``status`` and its kin stay light."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from wandb_outbox.cli.common import complain
from wandb_outbox.cli.parser import parse
from wandb_outbox.errors import ConfigurationError, ExecutorRunning, OutboxError, StateUnusable, UserError
from wandb_outbox.outbox.location import DISK_TROUBLE
from wandb_outbox.report import Exit

COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("watch", "flush", "upload"), "wandb_outbox.cli.delivering"),
    **dict.fromkeys(("status", "list", "show", "why", "wait", "version"), "wandb_outbox.cli.looking"),
    **dict.fromkeys(("retry", "hold", "release", "skip", "pause", "resume"), "wandb_outbox.cli.changing"),
    **dict.fromkeys(("plan", "sandbox", "demo"), "wandb_outbox.cli.trying"),
}
"""Where each command is: the module with a function of its name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Every error is told to a person in a line or two, on stderr."""
    _fill_standard_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show some character must not make a traceback of an upload that went well.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()  # else the interpreter does it at exit, where nobody can catch what comes next
    except BrokenPipeError:
        # The reader of a pipe has seen enough; say nothing, and do not let the interpreter say it at exit either.
        _silence()
        return Exit.OK
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        _silence()
        complain(f"{error.filename or 'the output'} cannot be written: {error.strerror}")
        return Exit.LEFT
    except KeyboardInterrupt:
        # Ended by the signal, and not by an exit code: else a shell would go on with a loop around us.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
        raise


def _silence() -> None:
    """Let what is left in the buffer of the output go nowhere, when the interpreter writes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fill_standard_descriptors() -> None:
    """Let nothing else become 0, 1 or 2, where they were closed: whatever a library prints would be written into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest that is free
    # The interpreter has no streams for what was closed when it started.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _run(argv: list[str]) -> int:
    arguments = parse(argv)
    room = importlib.import_module(COMMANDS[arguments.command])
    try:
        return int(getattr(room, f"{arguments.command}_command")(arguments))
    except ConfigurationError as error:
        for problem in error.problems:
            complain(problem)
        complain(error.hint)
        return Exit.CONFIG
    except StateUnusable as error:
        complain(error.message, error.hint)
        return Exit.CONFIG
    except UserError as error:
        for problem in error.problems:
            complain(problem)
        complain(error.hint)
        return Exit.USAGE
    except ExecutorRunning as error:
        complain(error.message, error.hint)
        return Exit.LEFT
    except OutboxError as error:
        complain(error.message, error.hint)
        return Exit.LEFT
