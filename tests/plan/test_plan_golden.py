"""What a change does to the plans of people is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden_plans import CONVENTIONS, FOLDERS, GOLDEN, golden_file, plan_of

from wandb_outbox.errors import UserError
from wandb_outbox.folder import snapshot
from wandb_outbox.formats import read


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", FOLDERS)
def test_a_plan_is_as_it_was_last_found_good(tmp_path: Path, kind: str, convention: str) -> None:
    """Everything in it; when the change is meant, ``python tests/plan/golden_plans.py`` writes it anew."""
    assert plan_of(kind, convention, tmp_path) == json.loads(golden_file(kind, convention).read_text("utf-8"))


def test_there_is_one_for_each_format_and_convention(tmp_path: Path) -> None:
    """All but the offline runs, whose logs the SDK itself writes, with its own times: they have tests of their own."""
    with pytest.raises(UserError) as caught:
        read("unknown", str(tmp_path), snapshot(str(tmp_path)))
    assert {*FOLDERS, "offline-run"} == set(caught.value.hint.removeprefix("known formats: ").split(", "))
    wanted = {golden_file(kind, convention).name for kind in FOLDERS for convention in CONVENTIONS}
    assert {file.name for file in GOLDEN.iterdir()} == wanted
