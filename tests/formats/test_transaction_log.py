"""The transaction logs of the real SDK, whole, torn and strange."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from offline_runs import STEPS, made

from wandb_outbox.errors import Rejected
from wandb_outbox.folder import snapshot
from wandb_outbox.formats import evidence, kind_of, recognise
from wandb_outbox.formats.transaction_log import BLOCK, UnknownLog, read_end, read_head, read_run
from wandb_outbox.model import Kind


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A copy of the log of a whole offline run."""
    return Path(shutil.copy(made().log, tmp_path))


def test_whole_log_is_read(log: Path) -> None:
    """Names, configuration with its later changes, every row under its step, summary, artifacts and end are there."""
    run = read_run(str(log.parent), log.name)
    assert (run.run_id, run.project, run.name, run.job_type) == (made().run_id, "recorded", "by-the-run", "train")
    assert (run.tags, run.notes, run.entity, run.group) == (("early",), "by hand", None, None)
    assert run.config == {"_wandb": {}, "lr": 0.1, "net": {"depth": 3}, "late": 7}
    assert [row["_step"] for row in run.rows] == list(range(STEPS))
    assert run.rows[3]["loss"] == 0.25
    assert run.rows[3]["by"] == {"rank": 0}
    assert run.summary["final"] == 0.5
    assert run.summary["table"]["nrows"] == 2
    assert run.artifacts == ("model", f"run-{run.run_id}-table")
    assert (run.exit_code, run.damaged) == (0, 0)
    assert read_end(str(log.parent), log.name).exit_code == 0
    assert read_head(str(log.parent), log.name).run_id == run.run_id


def test_log_cut_anywhere_gives_what_stands_before(log: Path) -> None:
    """However little of the log is left, its rows are a beginning of the whole ones, and it has no end."""
    whole = read_run(str(log.parent), log.name).rows
    size = log.stat().st_size
    assert size > BLOCK
    lengths = []
    for left in range(size - 30, 400, -1777):
        os.truncate(log, left)
        run = read_run(str(log.parent), log.name)
        assert run.rows == whole[: len(run.rows)]
        assert run.exit_code is None
        assert read_end(str(log.parent), log.name).exit_code is None
        lengths.append(len(run.rows))
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == STEPS


def test_damaged_place_costs_its_block_only(log: Path) -> None:
    """A flipped byte is found by its checksum; reading goes on with the next block."""
    data = bytearray(log.read_bytes())
    data[BLOCK // 2] ^= 0xFF
    log.write_bytes(data)
    run = read_run(str(log.parent), log.name)
    assert run.damaged > 0
    assert 0 < len(run.rows) < STEPS
    assert run.rows[-1]["_step"] == STEPS - 1
    assert run.exit_code == 0


def test_log_that_is_none_or_of_another_version_is_refused(log: Path) -> None:
    """Neither is guessed at: the words say what it is, and what a person can do."""
    data = log.read_bytes()
    log.write_bytes(data[:6] + b"\x07" + data[7:])
    with pytest.raises(UnknownLog, match="version 7"):
        read_run(str(log.parent), log.name)
    log.write_bytes(b"PK\x03\x04 no log")
    with pytest.raises(UnknownLog, match="no transaction log"):
        read_end(str(log.parent), log.name)
    log.write_bytes(data[:20])
    with pytest.raises(Rejected, match="names no run"):
        read_run(str(log.parent), log.name)


def test_end_is_found_behind_a_large_summary() -> None:
    """A summary of 5 MB before the end does not hide it."""
    large = made(3, "large")
    assert read_end(str(large.directory), large.log.name).exit_code == 0
    assert len(read_run(str(large.directory), large.log.name).summary["large"]) == 5_000_000


def test_offline_run_directory_is_recognised_and_judged(tmp_path: Path) -> None:
    """Its log's end is the evidence: an orderly one is done, an exit code or none at all is failed."""
    directory = made().into(tmp_path)
    assert recognise(str(directory), os.listdir(directory)) == "offline-run"
    assert kind_of("offline-run") is Kind.OFFLINE_RUN
    assert recognise(str(tmp_path / "wandb"), os.listdir(tmp_path / "wandb")) is None
    said = evidence("offline-run", str(directory), snapshot(str(directory)))
    assert said.done is not None
    os.truncate(directory / made().log.name, 3000)
    said = evidence("offline-run", str(directory), snapshot(str(directory)))
    assert (said.done, said.failed) == (
        None,
        f"{made().log.name} has no record of the run's end: its process was killed",
    )
    failed = made(3, "3").into(tmp_path / "other")
    said = evidence("offline-run", str(failed), snapshot(str(failed)))
    assert said.failed is not None
    assert "exit code 3" in said.failed
