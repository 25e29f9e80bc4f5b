"""Every command with its options, as argparse knows them.

argparse, and not typer: ``--tags a b c`` takes several values (as the script does that ``upload`` takes the place of),
which click's options cannot, and it costs no start-up time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import NoReturn

from wandb_outbox.report import Exit
from wandb_outbox.row import State

HIGHEST_PORT = 65_535


class _Parser(argparse.ArgumentParser):
    """Errors exit with our own code for usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    shared = _Parser(add_help=False)
    shared.add_argument(
        "--state-dir", type=_said, metavar="DIR", default=argparse.SUPPRESS, help="where the outbox is kept"
    )
    shared.add_argument(
        "--config", type=_said, metavar="FILE", default=argparse.SUPPRESS, help="the configuration file"
    )

    parser = _Parser(
        prog="wandb-outbox", parents=[shared],
        description="Delivers finished experiment folders to Weights & Biases: once, verified, offline-first.",
        epilog="RUN is a prefix of the run id, or a path. Exit codes: 0 fine, 1 something is left or failed, 2 usage, "
        "3 daemon down, 75 offline (try later), 78 bad configuration.",
    )  # fmt: skip
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, words: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, parents=[shared], help=words, description=words[0].upper() + words[1:] + "."
        )
        command.set_defaults(command=name, parser=command)
        return command

    watch = add("watch", "watch the roots and deliver what is finished, in the foreground")
    watch.add_argument(
        "roots", nargs="*", type=_said, metavar="ROOT", help="directories to watch instead of the configured ones"
    )

    watch.add_argument(
        "--sidecar", action="store_true", help="SIGTERM means that the main container has ended: nobody writes any more"
    )

    flush = add("flush", "one pass: find what is finished, deliver all of it, and exit")
    flush.add_argument(
        "roots", nargs="*", type=_said, metavar="ROOT", help="directories to look at instead of the configured ones"
    )
    flush.add_argument("--timeout", type=_seconds, metavar="S", help="give up waiting after this many seconds")

    upload = add("upload", "deliver these folders now")
    upload.add_argument("dirs", nargs="*", type=_said, metavar="DIR")
    _add_overrides(upload)

    plan = add("plan", "show what would be sent, and what breaks a convention; sends nothing")
    plan.add_argument("dirs", nargs="*", type=_said, metavar="DIR")
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.add_argument("--strict", action="store_true", help="exit with 1 when a rule of severity error is broken")
    _add_overrides(plan)

    status = add("status", "tell how daemon, server and runs are")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument("--watch", action="store_true", help="show it again every second, until Ctrl-C")

    listing = add("list", "list the runs")
    listing.add_argument(
        "--state", action="extend", nargs="+", choices=[state.value for state in State], default=[], metavar="S",
        help="only runs in these states",
    )  # fmt: skip
    listing.add_argument("--json", action="store_true", help="print JSON")

    show = add("show", "show all that is known of a run")
    show.add_argument("run_query", type=_said, metavar="RUN")
    show.add_argument("--json", action="store_true", help="print JSON")

    why = add("why", "explain where a run stands, why, and what is waited for")
    why.add_argument("run_query", type=_said, metavar="RUN")

    retry = add("retry", "give failed runs fresh attempts")
    retry.add_argument("run_queries", nargs="*", type=_said, metavar="RUN")
    retry.add_argument("--failed", action="store_true", help="all that have failed")

    hold = add("hold", "keep runs back until they are released, this content and every later one")
    release = add("release", "send what is held or was skipped, as it is now")
    skip = add("skip", "leave runs alone, whatever happens to their folders")
    for command, what in ((hold, "queued or still being written"), (release, "held"), (skip, "held, queued or failed")):
        command.add_argument("run_queries", nargs="*", type=_said, metavar="RUN")
        command.add_argument("--all", action="store_true", help=f"all that are {what}")
        command.add_argument("--root", type=_said, metavar="DIR", help="of those, only what lies below this directory")
    release.add_argument(
        "--since", metavar="DATE", help="of those, only what changed on or after this day (YYYY-MM-DD)"
    )

    add("pause", "start no new upload until `resume`")
    add("resume", "go on after `pause`")

    wait = add("wait", "wait until runs are delivered, or cannot be")
    wait.add_argument(
        "run_queries", nargs="*", type=_said, metavar="RUN", help="default: everything that is queued or about to be"
    )
    wait.add_argument("--timeout", type=_seconds, metavar="S", help="give up after this many seconds")

    sandbox = add("sandbox", "run a loopback W&B server, to try a setup without an account")
    sandbox.add_argument("--port", type=_port, default=0, metavar="P", help="the port (default: a free one)")
    sandbox.add_argument(
        "--directory", metavar="DIR", help="keep what it receives here (default: a temporary directory)"
    )
    sandbox.add_argument("--port-file", metavar="FILE", help="write the port here once it listens")
    sandbox.add_argument(
        "--entity", action="append", default=[], metavar="E", help="an entity that exists (repeatable)"
    )

    demo = add("demo", "show the whole way on made-up experiments, against a loopback server")
    demo.add_argument("--keep", action="store_true", help="keep the folders and the state for looking at")

    add("version", "print the version")
    return parser


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument("--entity", type=_said, metavar="E")
    command.add_argument("--project", type=_said, metavar="P")
    command.add_argument("--name", type=_said, metavar="N")
    command.add_argument("--group", type=_said, metavar="G")
    command.add_argument("--job-type", type=_said, metavar="J")
    command.add_argument(
        "--tags", nargs="+", action="extend", metavar="T", help="as in `--tags a b c`; also repeated or with commas"
    )
    command.add_argument("--notes", metavar="TEXT")


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse, and let DIR arguments stand after options, too, which argparse's subcommands do not."""
    arguments, rest = build_parser().parse_known_args(argv)
    stray = [word for word in rest if word.startswith("-") and word != "-"]
    if stray or (rest and not hasattr(arguments, "dirs")):
        arguments.parser.error(f"unrecognized arguments: {' '.join(stray or rest)}")
    if hasattr(arguments, "dirs"):
        arguments.dirs += rest
        # A bare name can be meant as a tag although a folder is called so, too: only with no DIR left is that a mistake.
        swallowed = [
            tag for tag in arguments.tags or () if os.path.isdir(tag) and (os.sep in tag or not arguments.dirs)
        ]
        if swallowed:
            folders = " ".join([*arguments.dirs, *swallowed])
            arguments.parser.error(
                f"--tags took the folder {', '.join(swallowed)} for a tag: put the folders first, as in "
                f"`wandb-outbox {arguments.command} {folders} --tags ...`"
            )
        if not arguments.dirs:
            arguments.parser.error("the following arguments are required: DIR")
    return arguments


def _said(text: str) -> str:
    """A folder, a run or a name: an empty word is an unset variable, and must not mean this directory, every run, or none."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; is a variable unset?")
    return text


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) <= HIGHEST_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to {HIGHEST_PORT}")
