"""What the executor and its uploader process say to each other: one JSON object a line, both ways.

To the uploader: ``deliver`` (a :class:`Job`), ``go`` (the run id is recorded, contact may begin), ``probe``, ``stop``.
From it: ``ready``, ``contact`` (asks for ``go``), ``progress``, ``receipt``, ``error``, ``answer`` (to a probe).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from wandb_outbox import errors
from wandb_outbox.errors import Held, OutboxError, Throttled
from wandb_outbox.model import Overrides, PlanRequest, Receipt, RootRules

MAX_LINE = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery: what to plan, and what the outbox knows of the run."""

    key: int
    request: PlanRequest
    birth: str
    fingerprint: str
    contacted: bool
    insisted: bool = False
    """A person released it although the run that it logged itself stands in the way."""
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()


def encode(message: dict[str, Any]) -> bytes:
    """One line. ``ensure_ascii`` keeps lone surrogates (file names that are not UTF-8) and newlines in one piece."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object of one line. Raises :class:`ValueError` for anything else."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise TypeError("expected a JSON object")
    return message


def job_to_json(job: Job) -> dict[str, Any]:
    """The ``deliver`` message."""
    return {"do": "deliver", **asdict(job)}


def job_from_json(message: dict[str, Any]) -> Job:
    """The job of a ``deliver`` message."""
    request = dict(message["request"])
    overrides = dict(request["overrides"])
    overrides["tags"] = None if overrides["tags"] is None else tuple(overrides["tags"])
    rules = dict(request["rules"])
    rules["tags"] = tuple(rules["tags"])
    rules["media"] = tuple(rules["media"])
    request |= {"overrides": Overrides(**overrides), "rules": RootRules(**rules)}
    return Job(
        key=message["key"],
        request=PlanRequest(**request),
        birth=message["birth"],
        fingerprint=message["fingerprint"],
        contacted=message["contacted"],
        insisted=message["insisted"],
        exclude=tuple(message["exclude"]),
        include=tuple(message["include"]),
    )


def receipt_from_json(message: dict[str, Any]) -> Receipt:
    """The receipt in a ``receipt`` message."""
    values = {field.name: message[field.name] for field in fields(Receipt)}
    return Receipt(**{**values, "warnings": tuple(values["warnings"])})


def error_to_json(error: OutboxError) -> dict[str, Any]:
    """An error as data: its class by name, its words, its hint."""
    # A subclass from another room travels as the error of errors.py that it is a kind of.
    kind = next(kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return {
        "class": kind,
        "message": error.message,
        "hint": error.hint,
        "retry_after": error.retry_after if isinstance(error, Throttled) else None,
        "look_again_in": error.look_again_in if isinstance(error, Held) else None,
    }


def error_from_json(message: dict[str, Any]) -> OutboxError:
    """The error of an ``error`` message; a class that is not ours counts as a crash of the uploader."""
    kind = getattr(errors, str(message.get("class")), errors.UploaderCrashed)
    text, hint = str(message.get("message")), str(message.get("hint") or "")
    if kind is Throttled:
        return Throttled(text, retry_after=float(message.get("retry_after") or 0), hint=hint)
    if kind is Held:
        return Held(text, hint=hint, look_again_in=message.get("look_again_in"))
    if not (isinstance(kind, type) and issubclass(kind, OutboxError)) or issubclass(kind, errors.UserError):
        return errors.Rejected(text, hint=hint)
    return kind(text, hint=hint)
