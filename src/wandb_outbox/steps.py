"""Labelled steps: the places at which a process may die, each by a stable name.

Raised as an audit event of the interpreter (``sys.audit``, PEP 578), which costs nothing when nobody listens. Whoever
wants to follow the program step by step (a tracer, a debugger) adds an audit hook for :data:`EVENT`.
"""

from __future__ import annotations

import sys

EVENT = "wandb_outbox.step"

STEPS = frozenset(
    {
        # the executor
        "executor.locked",
        "executor.leftovers-ended",
        "executor.recovered",
        "intake.row-added",
        "intake.queued",
        "deliver.claimed",
        "deliver.handed-over",
        "deliver.contact-recorded",
        "deliver.receipt-arrived",
        "deliver.uploaded",
        "deliver.put-back",
        # the uploader
        "send.planned",
        "send.identified",
        "send.opened",
        "send.content-sent",
        "send.artifact-committed",
        "send.finished",
        "send.read-back",
        "send.sealed",
    }
)
"""Every name there is."""


def step(name: str) -> None:
    """Say that ``name``, one of :data:`STEPS`, is reached: what comes before it is done, what comes after is not."""
    sys.audit(EVENT, name)
