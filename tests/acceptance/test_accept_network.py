"""Servers that are down, slow, throttling, or not W&B at all; keys that are wrong or missing: nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import run_folders
from acceptance_bench import (
    Bench,
    Done,
    alone_on_a_bench,
    artifact_of,
    assert_delivered_once,
    md5s_on_disk,
    md5s_on_server,
    opened_bench,
    wait_for,
)
from run_folders import Recipe

from wandb_outbox.sandbox import Fault

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")

OFFLINE = 75


@dataclass(frozen=True)
class Try:
    """One ``flush`` against a server in trouble: how it ended, what was in the outbox, and what ``status`` said."""

    done: Done
    rows: list[dict[str, Any]]
    status: dict[str, Any]


def _flush(bench: Bench, environ: Mapping[str, str | None] | None = None) -> Try:
    done = bench.run("flush", bench.outputs, environ=environ)
    return Try(done, bench.list(), bench.status())


@pytest.fixture(scope="module")
def tries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Try]]:
    """Three folders, and one ``flush`` in every weather; the last one is sunny."""
    with opened_bench(tmp_path_factory.mktemp("network") / "machine") as bench:
        for seed in (1, 2, 3):
            run_folders.make(bench.outputs / f"2025-12-03/run_{seed}", Recipe(seed=seed))
        found = {}
        bench.server.down()
        found["down"] = _flush(bench)
        bench.server.up()
        for name, fault in {
            "throttled": Fault("graphql", "status", status=429, retry_after=120),
            "broken": Fault("graphql", "status", status=500),
            "login page": Fault("any", "html", status=200),
            "cut": Fault("any", "reset"),
        }.items():
            bench.server.inject(fault)
            found[name] = _flush(bench)
            bench.server.clear_faults()
        found["wrong key"] = _flush(bench, {"WANDB_API_KEY": "0" * 40})
        found["no key"] = _flush(bench, {"WANDB_API_KEY": None})
        assert bench.server.runs() == []
        found["sunny"] = _flush(bench)
        for folder in bench.outputs.glob("*/*"):
            row = next(row for row in found["sunny"].rows if row["path"] == str(folder))
            run = next(run for run in bench.server.runs() if run.id == row["id"])
            assert md5s_on_server(artifact_of(bench.server, run).files) == md5s_on_disk(folder)
        yield found


@pytest.mark.parametrize(
    ("weather", "code", "state", "words"),
    [
        ("down", OFFLINE, "offline", "cannot be reached"),
        ("throttled", OFFLINE, "throttled", "slow down (HTTP 429)"),
        ("broken", OFFLINE, "offline", "HTTP 500"),
        ("login page", OFFLINE, "offline", "something else than W&B answers at this address"),
        ("cut", OFFLINE, "offline", "cannot be reached"),
        ("wrong key", 1, "unauthorized", "does not accept the API key (HTTP 401)"),
        ("no key", 1, "unauthorized", "there is no API key"),
    ],
)
def test_trouble_keeps_everything_queued(
    tries: dict[str, Try], weather: str, code: int, state: str, words: str
) -> None:
    """``flush`` ends at once and says what is wrong; all folders stay queued, and no attempt is used up."""
    tried = tries[weather]
    assert tried.done.code == code, tried.done
    assert tried.done.out.startswith("0 uploaded, 3 still queued")
    assert words in tried.done.out
    assert [(row["state"], row["attempts"]) for row in tried.rows] == [("queued", 0)] * 3
    assert tried.status["server"]["state"] == state
    assert words in tried.status["server"]["detail"]
    assert tried.status["counts"]["queued"] == 3


def test_missing_or_wrong_key_says_how_to_set_it(tries: dict[str, Try]) -> None:
    """Who has no key, or a wrong one, reads where to put the right one."""
    for weather in ("wrong key", "no key"):
        said = tries[weather].done
        assert "WANDB_API_KEY" in said.out + said.err, said


def test_next_flush_delivers_everything(tries: dict[str, Try]) -> None:
    """When the server is back, the next ``flush`` delivers all of it, in one attempt each."""
    assert (tries["sunny"].done.code, tries["sunny"].done.out) == (0, "3 uploaded\n")
    assert [(row["state"], row["attempts"]) for row in tries["sunny"].rows] == [("uploaded", 1)] * 3
    assert tries["sunny"].status["server"]["state"] == "online"


@alone_on_a_bench
def test_retry_after_is_waited_for(bench: Bench) -> None:
    """The daemon asks no sooner than ``Retry-After`` says, and then delivers."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    bench.server.inject(Fault("graphql", "status", status=429, retry_after=3, times=1))
    bench.watch()
    assert bench.wait_state(folder, "uploaded")["attempts"] == 1
    throttled, following = list(bench.server.requests)[:2]
    assert throttled.status == 429
    assert following.time - throttled.time >= 2.9


@alone_on_a_bench
def test_outage_in_the_middle_of_an_upload(bench: Bench) -> None:
    """A server that goes away while files are sent and comes back later has one run and one version, byte by byte."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run", Recipe(samples=8, padding=40_000))
    bench.server.inject(Fault("put", "slow", bytes_per_second=200_000))
    bench.watch()
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "the artifact's upload")
    bench.server.down()
    bench.server.clear_faults()
    bench.server.down()
    time.sleep(1.5)  # the length of the outage is what this test is about
    bench.server.up()
    row = bench.wait_state(folder, "uploaded")
    run, _ = assert_delivered_once(bench.server, folder)
    assert row["id"] == run.id


@alone_on_a_bench
def test_upload_by_hand_of_an_offline_machine(bench: Bench) -> None:
    """``upload`` without a server ends with 75, says that it is kept; the next ``flush`` sends it under the given name."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    bench.server.down()
    done = bench.run("upload", folder, "--name", "by hand")
    assert done.code == OFFLINE, done
    assert f"{folder} is queued" in done.err
    assert "cannot be reached" in done.err
    assert "is kept" in done.err
    bench.server.up()
    assert bench.run("flush", bench.outputs).code == 0
    run, _ = assert_delivered_once(bench.server, folder)
    assert run.display_name == "by hand"


@alone_on_a_bench
def test_a_lost_reply_makes_no_duplicate(bench: Bench) -> None:
    """Replies that are lost after the server has done the work make neither a second run nor a second version."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    for operation in ("UpsertBucket", "CreateArtifact", "CommitArtifact"):
        bench.server.inject(Fault(operation, "lost-reply", times=1))
    assert bench.run("flush", bench.outputs).code == 0
    assert_delivered_once(bench.server, folder)
