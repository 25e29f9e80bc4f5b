"""Judge one folder at one moment, because a person asks: nothing is waited for, and nothing is refused but nonsense."""

from __future__ import annotations

from dataclasses import dataclass

from wandb_outbox.detect.rules import LookRules
from wandb_outbox.detect.scan import look
from wandb_outbox.detect.writers import probe_writers
from wandb_outbox.errors import UserError
from wandb_outbox.folder import snapshot
from wandb_outbox.formats import evidence, recognise
from wandb_outbox.model import FormatEvidence, Judgement, Snapshot, Verdict, Writers


@dataclass(frozen=True, slots=True)
class ByHand:
    """The folder's format, what is in it, and what can be said of its end."""

    format: str
    snapshot: Snapshot
    evidence: FormatEvidence
    judgement: Judgement


def judge_by_hand(path: str, rules: LookRules) -> ByHand:
    """What the folder is now. A folder of no known format is ``plain``: the person says that it is a run.

    Raises :class:`UserError` for something that is no directory or holds nothing to upload, and as
    :func:`~wandb_outbox.folder.snapshot` does.
    """
    taken = snapshot(path, rules.selection.selector())
    if not taken.files and not taken.offline:
        left_out = f"; left out: {', '.join(item.path for item in taken.excluded[:5])}" if taken.excluded else ""
        raise UserError([f"{path} holds no file to upload{left_out}"])
    found, _ = look(path, lambda top, names: recognise(top, names, detect=rules.detect))
    kind = (found.format if found else None) or "plain"
    writers = probe_writers(path, taken, leases=rules.leases)
    said = evidence(kind, path, taken, rules.done_when)
    return ByHand(kind, taken, said, _judgement(said, writers.writers, writers.detail))


def _judgement(said: FormatEvidence, writers: Writers, detail: str) -> Judgement:
    busy = f" ({detail})" if writers is Writers.WRITER else ""
    if said.done is not None:
        outcome = "ok" if said.incomplete is None else "incomplete"
        return Judgement(Verdict.COMPLETE, f"{said.incomplete or said.done}{busy}", None, outcome)
    if writers is Writers.WRITER:
        return Judgement(Verdict.WRITING, f"asked for by a person while {detail}", None, "unknown")
    if said.failed is not None:
        return Judgement(Verdict.CRASHED, said.failed, None, "crashed")
    return Judgement(Verdict.COMPLETE, said.incomplete or "asked for by a person; nothing in it says how it ended", None,
                     "incomplete" if said.incomplete else "unknown")  # fmt: skip
