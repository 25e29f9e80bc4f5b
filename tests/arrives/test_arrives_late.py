"""A server may show later what it has accepted: nothing is sent twice for it, and no delivery fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from arrivals import Way
from between import Alter, lying
from live_runs import log_live

from wandb_outbox.deliver import send
from wandb_outbox.errors import NotVerified
from wandb_outbox.sandbox import Fault, Sandbox

pytest_plugins = ("arrives_fixtures",)
LOOKS = 2
"""How many answers are still of before."""


def with_rows(way: Way, rows: int) -> Way:
    """A folder with so many rows of history, and as many lines of a log."""
    way.put("results.json", []).put("sample_metrics.jsonl", '{"loss": 1.5}\n' * rows)
    return way.put("run_tts_eval.log", "one line\n" * rows)


def at_first(times: int, alter: Callable[[Any], None]) -> Alter:
    """Alter the first answers only."""
    left = [times]

    def lie(answer: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            alter(answer["data"])
        return answer

    return lie


def pending(data: Any) -> None:
    """The artifact before its commit is seen."""
    data["artifact"] |= {"state": "PENDING", "fileCount": 0, "size": 0}


def uncounted(data: Any) -> None:
    """The artifact before its files are counted."""
    data["artifact"] |= {"fileCount": 0, "size": 0}


@pytest.mark.parametrize("of_before", [pending, uncounted])
def test_an_artifact_that_is_committed_late_is_waited_for(
    sandbox: Sandbox, tmp_path: Path, of_before: Callable[[Any], None]
) -> None:
    """The answer to the commit does not say that it is seen everywhere."""
    way = with_rows(Way(sandbox, tmp_path), 2)
    with lying(sandbox, {"ArtifactByID": at_first(LOOKS, of_before)}) as address:
        receipt = way.through(address).deliver()
    assert (receipt.artifact[-2:], receipt.files) == ("v0", len(way.artifact(receipt).files))


def no_rows(data: Any) -> None:
    """A history of which nothing is shown."""
    data["project"]["run"]["history"] = []


def test_rows_that_are_counted_and_shown_late_are_not_sent_again(sandbox: Sandbox, tmp_path: Path) -> None:
    """They are waited for."""
    way = with_rows(Way(sandbox, tmp_path), 2)
    way.deliver()
    with lying(sandbox, {"HistoryPage": at_first(LOOKS, no_rows)}) as address:
        receipt = with_rows(way, 3).through(address).deliver()
    assert len(way.arrived(receipt).history) == 3


def test_rows_that_are_counted_and_never_shown_are_not_sent_again(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery fails, and the next one finds them."""
    monkeypatch.setattr(send, "ROWS_FOR", 0.3)
    way = with_rows(Way(sandbox, tmp_path), 2)
    way.deliver()
    with_rows(way, 3)
    with (
        lying(sandbox, {"HistoryPage": at_first(99, no_rows)}) as address,
        pytest.raises(NotVerified, match="of its history of 2 rows the server shows 0"),
    ):
        way.through(address).deliver()
    assert len(way.arrived(way.through(sandbox.url).deliver()).history) == 3


def test_a_log_that_the_server_counts_otherwise_is_a_warning(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines travel before the run's end, which was read back."""
    monkeypatch.setattr(send, "LOG_FOR", 0.3)

    def one_more(data: Any) -> None:
        data["project"]["run"]["logLineCount"] += 1

    way = with_rows(Way(sandbox, tmp_path), 2)
    with lying(sandbox, {"RunLogLines": at_first(99, one_more)}) as address:
        receipt = way.through(address).deliver()
    assert [note for note in receipt.warnings if note.startswith("log-")] == [
        "log-unverified: the log has 3 lines, not 2, although all else of the run is there"
    ]
    assert len(way.arrived(receipt).log) == 2


def test_one_lost_answer_while_reading_back_is_asked_for_again(sandbox: Sandbox, tmp_path: Path) -> None:
    """Everything is sent by then: it is no reason to open the run once more."""
    way = with_rows(Way(sandbox, tmp_path), 2)
    before = len(sandbox.requests)
    sandbox.inject(Fault("RunFiles", "status", status=400, times=1))
    receipt = way.deliver()
    assert len(way.arrived(receipt).history) == 2
    asked = [request.operation for request in sandbox.requests[before:]]
    assert (asked.count("RunFiles"), asked.count("RunResumeStatus")) == (2, 1)


def test_a_run_without_a_summary_is_taken_up_again(sandbox: Sandbox, tmp_path: Path) -> None:
    """Its process was killed right after it had opened it: of no summary a server says null, and that the SDK resumes not."""
    way = with_rows(Way(sandbox, tmp_path), 2)
    first = way.deliver()
    api = wandb.Api(overrides={"base_url": sandbox.url}, api_key=sandbox.api_key)
    remote: Any = api.run(f"{first.entity}/{first.project}/{first.run_id}")
    remote.summary._json_dict.clear()
    remote.summary.update({})
    assert way.arrived(first).summary == {}
    receipt = with_rows(way, 3).deliver()
    assert (receipt.run_id, len(way.arrived(receipt).history)) == (first.run_id, 3)


def test_files_of_a_live_run_that_are_listed_late_are_read_back(sandbox: Sandbox, tmp_path: Path) -> None:
    """The SDK looks each one up as soon as it is sent."""
    way = with_rows(Way(sandbox, tmp_path), 2)
    live = log_live(sandbox, way.path)

    def unlisted(data: Any) -> None:
        files = data["project"]["run"]["files"]
        if len(files["edges"]) == 1:
            files["edges"] = []

    with lying(sandbox, {"RunFiles": at_first(99, unlisted)}) as address:
        receipt = way.through(address).deliver()
    assert receipt.run_id == live
    assert {"results.json", "run_tts_eval.log"} <= way.arrived(receipt).files.keys()
