"""What the server only says it has is not called delivered: table, its artifact, and what an artifact holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from arrivals import Way, table_rows
from between import Alter, lying

from wandb_outbox.deliver import send
from wandb_outbox.errors import NotVerified
from wandb_outbox.sandbox import Fault, Sandbox

pytest_plugins = ("arrives_fixtures",)


def without_tables(answer: Any) -> Any:
    """The files of a run, but for those of its tables."""
    files = answer["data"]["project"]["run"]["files"]
    files["edges"] = [edge for edge in files["edges"] if "media/table" not in edge["node"]["name"]]
    return answer


def pending_table(answer: Any) -> Any:
    """An artifact that, when it is one of a table, is not committed."""
    artifact = answer["data"]["artifact"]
    if artifact["artifactType"]["name"] == "run_table":
        artifact["state"] = "PENDING"
    return answer


def something_else(answer: Any) -> Any:
    """An artifact of another content."""
    answer["data"]["artifact"]["digest"] = "0" * 32
    return answer


@pytest.mark.parametrize(
    ("operation", "lie", "words"),
    [
        ("RunFiles", without_tables, "the file of table samples is not there"),
        ("ArtifactByID", pending_table, "samples is PENDING"),
        ("ArtifactByID", something_else, "with the digest 0{32}, not [0-9a-f]{32}"),
    ],
    ids=["file of a table", "artifact of a table", "another digest"],
)
def test_what_is_not_there_is_not_verified(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, lie: Alter, words: str
) -> None:
    """And goes again to an honest server, into the same run and the same version."""
    monkeypatch.setattr(send, "READ_BACK_FOR", 0.5)
    way = Way(sandbox, tmp_path).put("results.json", [{"index": 0, "is_correct": True}])
    with lying(sandbox, {operation: lie}) as address, pytest.raises(NotVerified, match=words):
        way.through(address).deliver()
    receipt = way.through(sandbox.url).deliver()
    assert receipt.artifact.endswith(":v0")
    assert table_rows(way.arrived(receipt)) == (["index", "is_correct"], [[0, True]])


def hidden(answer: Any) -> Any:
    """No run of this id."""
    answer["data"]["project"]["run"] = None
    return answer


def _with_history(way: Way, rows: int) -> Way:
    return way.put("results.json", []).put("sample_metrics.jsonl", '{"loss": 1.5}\n' * rows)


def test_a_run_that_is_not_shown_and_then_resumed_gets_no_row_twice(sandbox: Sandbox, tmp_path: Path) -> None:
    """A copy of the server that lags behind may miss a run that is there; the SDK, which opens it, tells."""
    way = _with_history(Way(sandbox, tmp_path), 2)
    way.deliver()
    _with_history(way, 3)
    with (
        lying(sandbox, {"Run": hidden}) as address,
        pytest.raises(NotVerified, match=r"did not show its run .* and then opened it"),
    ):
        way.through(address).deliver()
    assert len(way.arrived(way.through(sandbox.url).deliver()).history) == 3


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("operation", ["Run", "RunFiles", "RunLogLines"])
def test_not_found_for_a_question_is_no_word_about_the_run(
    sandbox: Sandbox, tmp_path: Path, operation: str, times: int
) -> None:
    """A 404 passes: the question is asked again, nothing is sent a second time, and the delivery does not fail for it."""
    way = _with_history(Way(sandbox, tmp_path), 2).put("run_tts_eval.log", "begun\n")
    way.deliver()
    _with_history(way, 3)
    sandbox.inject(Fault(operation, "status", status=404, times=times))
    before = len(sandbox.requests)
    assert len(way.arrived(way.deliver()).history) == 3
    assert sum(request.fault is not None for request in sandbox.requests[before:]) == times
