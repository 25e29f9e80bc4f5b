"""A folder that says of itself what it is, and says it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from arrivals import Way

from wandb_outbox.errors import Rejected
from wandb_outbox.model import RootRules
from wandb_outbox.sandbox import Sandbox

pytest_plugins = ("arrives_fixtures",)

FAULTY = "name: fine\ntags: [a]\njob_type: 7\ngruop: x\nsummary: {acc: 0.5}\n"


def test_a_fault_is_named_and_the_rest_is_sent(sandbox: Sandbox, tmp_path: Path) -> None:
    """With its line and its key, and what was meant."""
    receipt = Way(sandbox, tmp_path, "plain").put("outbox.yaml", FAULTY).deliver()
    run = sandbox.run(receipt.entity, receipt.project, receipt.run_id)
    assert run is not None
    assert (run.display_name, set(run.tags), run.job_type, run.summary["acc"]) == ("fine", {"a"}, None, 0.5)
    said = [warning for warning in receipt.warnings if warning.startswith("outbox-yaml")]
    assert said[0].startswith("outbox-yaml: outbox.yaml line 3: job_type: expected a text")
    assert said[1].startswith("outbox-yaml: outbox.yaml line 4: gruop: unknown key (did you mean group?)")


def test_a_strict_root_sends_no_run_with_a_fault(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is refused before the server hears of it, in the words of the plan; an unknown key alone is none."""
    way = Way(sandbox, tmp_path, "plain").put("outbox.yaml", FAULTY).ask(rules=RootRules(strict=True))
    known = len(sandbox.runs())
    with pytest.raises(Rejected, match="line 3: job_type: expected a text") as caught:
        way.deliver()
    assert "mend it" in caught.value.hint
    assert len(sandbox.runs()) == known
    assert way.put("outbox.yaml", "name: fine\ngruop: x\n").deliver().name == "fine"
