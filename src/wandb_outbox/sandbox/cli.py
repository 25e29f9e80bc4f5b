"""The command: serve a sandbox until a signal comes."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from wandb_outbox.sandbox.server import DEFAULT_ENTITY, DEFAULT_KEY, Sandbox, write_port_file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wandb-outbox sandbox", description="A W&B server on this machine, to try things out without an account."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port, 0 for any free one (default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="keep runs and artifacts here (default: forget them at the end)")
    parser.add_argument("--port-file", type=Path, help="write the port here once it listens")
    parser.add_argument("--entity", action="append", metavar="NAME", help=f"a further entity besides {DEFAULT_ENTITY}")
    parser.add_argument("--api-key", default=DEFAULT_KEY, help="key that clients must send (default: a well-known one)")
    parser.add_argument("--verbose", action="store_true", help="log every request")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        argv: The arguments; None for those of the process.

    Returns:
        The exit code: 0 at the end, 1 if the port is taken.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.DEBUG if arguments.verbose else logging.WARNING, format="%(message)s")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    entities = list(dict.fromkeys([DEFAULT_ENTITY, *(arguments.entity or [])]))
    try:
        sandbox = Sandbox(arguments.directory, arguments.port, arguments.api_key, entities, host=arguments.host)
    except OSError as error:
        sys.stderr.write(f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror}; try --port 0\n")
        return 1
    with sandbox:
        if arguments.port_file is not None:
            write_port_file(arguments.port_file, sandbox.port)
        exports = "".join(f"    export {name}={value}\n" for name, value in sandbox.environment().items())
        sys.stdout.write(
            f"W&B sandbox at {sandbox.url} (entities: {', '.join(entities)}). Point the SDK at it:\n\n{exports}\n"
            "Ctrl-C ends it.\n"
        )
        sys.stdout.flush()
        ended.wait()
    return 0
