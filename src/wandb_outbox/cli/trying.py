"""The commands for trying things out: ``plan``, ``sandbox``, ``demo``."""

from __future__ import annotations

import argparse
import json
import os
import signal

from wandb_outbox import formats, report
from wandb_outbox.cli.common import complain, configuration, overrides_of, state_dir_of
from wandb_outbox.errors import OutboxError, UserError
from wandb_outbox.model import Plan
from wandb_outbox.plan import plan_to_json, plan_to_text
from wandb_outbox.report import Exit
from wandb_outbox.service.preview import preview


def plan_command(arguments: argparse.Namespace) -> int:
    """What would be sent."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # see detect/writers.py: a broken lease would end us
    loaded = configuration(arguments, need_roots=False, missing_roots="wait")
    plans: list[Plan] = []
    problems: list[str] = []
    for path in arguments.dirs:
        try:
            plans.append(preview(path, loaded.settings, overrides_of(arguments), state_dir_of(arguments), os.environ))
        except UserError as error:
            problems += error.problems
        except OutboxError as error:
            problems.append(error.message)
    if arguments.json:
        print(json.dumps({"schema": report.SCHEMA, "plans": [plan_to_json(plan) for plan in plans]}, indent=2))
    elif plans:
        print("\n\n".join(plan_to_text(plan) for plan in plans))
    for problem in (*problems, *formats.faults()):
        complain(problem)
    broken = any(warning.severity == "error" for plan in plans for warning in plan.warnings)
    if problems:
        return Exit.USAGE
    return Exit.LEFT if broken and arguments.strict else Exit.OK


def sandbox_command(arguments: argparse.Namespace) -> int:
    """A loopback W&B server."""
    from wandb_outbox import sandbox

    words = ["--port", str(arguments.port)]
    words += ["--directory", arguments.directory] if arguments.directory else []
    words += ["--port-file", arguments.port_file] if arguments.port_file else []
    for entity in arguments.entity:
        words += ["--entity", entity]
    return sandbox.main(words)


def demo_command(arguments: argparse.Namespace) -> int:
    """The whole way, shown."""
    from wandb_outbox.demo.demo import run_demo

    return run_demo(keep=arguments.keep)
