"""The commands that people type all day, with many runs in the outbox, beside the import of a popular CLI library."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.filled import finished_outbox
from benchmarks.result import Row, Target, at_most
from benchmarks.tools import tool_python
from benchmarks.world import REPOSITORY, measure, outbox, outbox_environment, plain_environment, scratch

DOWN = 3
"""``status`` exits so when no daemon runs."""


def run(*, quick: bool) -> list[Row]:
    """Each command in turn with the import, several times."""
    count, rounds = (2000, 3) if quick else (100_000, 15)
    typer = [str(tool_python()), "-c", "import typer"]
    with scratch() as top:
        state = finished_outbox(top / "state", count).path
        ours = {
            "status": (outbox("status", "--state-dir", state), DOWN),
            "status --json": (outbox("status", "--json", "--state-dir", state), DOWN),
            "list --state failed": (outbox("list", "--state", "failed", "--state-dir", state), 0),
            "list": (outbox("list", "--state-dir", state), 0),
            "list --json": (outbox("list", "--json", "--state-dir", state), 0),
        }
        environ = outbox_environment(top)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ours}
        wandb_status: list[tuple[float, float]] = []
        wandb = [str(Path(sys.executable).with_name("wandb")), "status"]
        for _ in range(rounds):
            base = measure(typer, {"PATH": "/usr/bin:/bin"}, REPOSITORY).wall
            for name, (command, code) in ours.items():
                found[name].append((measure(command, environ, top, expect=code).wall, base))
            wandb_status.append((measure(wandb, plain_environment(top), top).wall, base))

    def row(what: str, pairs: list[tuple[float, float]], target: Target | None) -> Row:
        return Row(
            "commands", what, "s", [wall for wall, _ in pairs], '`python -c "import typer"`', [base for _, base in pairs],
            "of", [wall / base for wall, base in pairs], target,
        )  # fmt: skip

    limit = at_most(2.5)
    return [
        *(
            row(f"`{name}` with {count:,} runs", pairs, None if "json" in name else limit)
            for name, pairs in found.items()
        ),
        row("`wandb status`", wandb_status, None),
    ]
