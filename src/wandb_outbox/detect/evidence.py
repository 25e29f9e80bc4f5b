"""What can be seen of a folder right now, in words: the evidence behind ``why``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from wandb_outbox.detect.rules import LookRules
from wandb_outbox.detect.writers import find_holders, known_by_inode, probe_writers
from wandb_outbox.errors import OutboxError
from wandb_outbox.folder import snapshot
from wandb_outbox.formats import evidence
from wandb_outbox.model import Run


def evidence_text(run: Run, kept: Mapping[str, Any] | None) -> str:
    """A look at the folder of ``run``: its files, who writes, and what in it says how it ended. Never raises.

    ``kept``: the rules of its root, as the last executor left them in the outbox; ``None`` when it left none.
    """
    rules = LookRules() if kept is None else LookRules.from_json(kept)
    try:
        taken = snapshot(run.path, rules.selection.selector())
        writers = probe_writers(run.path, taken, leases=rules.leases)
        said = evidence(run.format, run.path, taken, rules.done_when)
    except OutboxError as error:
        return f"A look at it now: {error.message}"
    quiet = max(0.0, time.time() - taken.newest_ctime_ns / 1e9)
    holders = find_holders(run.path, files=known_by_inode(taken))
    lines = [
        f"A look at it now: {len(taken.files)} files, {taken.bytes:,} bytes, last change {quiet:.0f} s ago, format {run.format}.",
        f"  writers  {writers.writers.value}: {writers.detail}",
        *(f"           {h.command} (pid {h.pid}) has {h.file} open for writing" for h in holders),
        f"  done     {said.done or 'nothing says so'}",
        f"  failed   {said.failed or 'nothing says so'}",
    ]
    if said.incomplete:
        lines.append(f"  missing  {said.incomplete}")
    return "\n".join(lines)
