"""Outages: nothing is asked more often than the backoff says, no attempt is used up, and in the end all is delivered."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from crash_parallel import side_by_side
from crash_rig import LONG, Rig, opened_rig, patient, report, wait_for

from wandb_outbox.sandbox import DEFAULT_KEY, Fault, Sandbox

FIRST, CAP = 0.2, 2.0
"""The backoff of the probe as the rig sets it."""


only_long = pytest.mark.skipif(not LONG, reason="the long version: make torture")
pytestmark = pytest.mark.timeout(3600 if LONG else 180)


@contextlib.contextmanager
def one_rig(top: Path) -> Iterator[Rig]:
    """A machine that gives up after five attempts, and its server."""
    with Sandbox(seed=1) as server, opened_rig(top / "rig", server, WANDB_OUTBOX_MAX_ATTEMPTS="5") as rig:
        yield rig
        assert server.unknown == []


def resident(pid: int) -> int:
    """Kilobytes of memory that the process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


@side_by_side
def test_long_outage(tmp_path: Path) -> None:
    """Folders arrive while the server is down: at most one probe per backoff step, bounded memory, all delivered after."""
    with one_rig(tmp_path) as rig:
        count = 1000 if LONG else 60
        rig.server.inject(Fault("any", "status", status=503))
        rig.add(5)
        rig.start()
        wait_for(lambda: len(rig.server.requests) >= 3, "the first probes")
        assert rig.daemon is not None
        before = resident(rig.daemon.pid)
        began = time.time()
        while len(rig.folders) < count:
            rig.add(20)
            time.sleep(0.1)
        wait_for(lambda: list(rig.states().values()).count("queued") == len(rig.folders), "all to be queued", 300)
        wait_for(lambda: time.time() - began > 6 * CAP, "some more probes")
        grown = resident(rig.daemon.pid) - before
        asked = list(rig.server.requests)
        assert {each.operation for each in asked} == {"Viewer"}
        for failures, (one, other) in enumerate(pairwise(asked), start=1):
            assert other.time - one.time >= 0.5 * min(FIRST * 2 ** (failures - 1), CAP) - 0.01
        assert grown < 8_000 + 16 * len(rig.folders), f"{grown} kB more for {len(rig.folders)} folders"
        rig.server.clear_faults()
        back = time.monotonic()
        assert rig.finish(seconds=900) == []
        assert {row["attempts"] for row in rig.rows()} == {1}
        report(
            "outage", folders=len(rig.folders), probes=len(asked), more_memory_kb=grown,
            drained_seconds=round(time.monotonic() - back, 1),
        )  # fmt: skip


@side_by_side
def test_storage_down_while_the_api_answers(tmp_path: Path) -> None:
    """Storage that refuses for longer than the SDK's patience uses up no attempt, and the folders go when it is back."""
    with one_rig(tmp_path) as rig:
        rig.orders([patient(ARTIFACT_TIMEOUT=2, FINISH_TIMEOUT=4)])
        rig.server.inject(Fault("put", "reset"))
        rig.add(3)
        rig.start()
        wait_for(lambda: len(rig.events("put-back")) >= 6, "each to be put back twice", 100)
        assert not any(event["attempt_used"] for event in rig.events("put-back"))
        assert {event["error"] for event in rig.events("put-back")} == {"Offline"}
        rig.server.clear_faults()
        assert rig.finish() == []
        assert {row["attempts"] for row in rig.rows()} == {1}


@only_long
@side_by_side
def test_storage_down_until_the_sdk_gives_up(tmp_path: Path) -> None:
    """With its own patience the SDK says only that most uploads have failed: that is an outage, too, and no attempt."""
    with one_rig(tmp_path) as rig:
        rig.server.inject(Fault("put", "status", status=503))
        rig.add(2)
        rig.start()
        wait_for(lambda: len(rig.events("put-back")) >= 2, "two put-backs", 200)
        assert any("have failed, giving up" in event["reason"] for event in rig.events("put-back"))
        assert {(event["error"], event["attempt_used"]) for event in rig.events("put-back")} == {("Offline", False)}
        rig.server.clear_faults()
        assert rig.finish() == []
        assert {row["attempts"] for row in rig.rows()} == {1}


@only_long
@side_by_side
def test_server_goes_down_in_the_middle(tmp_path: Path) -> None:
    """A server that refuses connections while eight uploads are under way takes no attempt from any of them."""
    with one_rig(tmp_path) as rig:
        rig.orders([patient(ARTIFACT_TIMEOUT=2, FINISH_TIMEOUT=4)])
        rig.add(8)
        rig.start()
        wait_for(lambda: rig.server.requests.of("CreateArtifactFiles"), "the first files")
        rig.server.down()
        wait_for(lambda: rig.events("put-back"), "a put-back", 100)
        rig.server.up()
        assert rig.finish() == []
        assert not any(event["attempt_used"] for event in rig.events("put-back"))


@only_long
@side_by_side
def test_retry_after_holds_for_all(tmp_path: Path) -> None:
    """After a 429 nothing at all is asked for as long as Retry-After says, however many folders wait."""
    with one_rig(tmp_path) as rig:
        rig.server.inject(Fault("graphql", "status", status=429, retry_after=3, times=1))
        rig.add(5)
        rig.start()
        assert rig.finish() == []
        throttled, following = list(rig.server.requests)[:2]
        assert throttled.status == 429
        assert following.time - throttled.time >= 2.9
        assert {row["attempts"] for row in rig.rows()} == {1}


@side_by_side
def test_parked_until_the_key_changes(tmp_path: Path) -> None:
    """A wrong key parks everything with one line; when the credential's file is replaced, it goes on by itself."""
    with one_rig(tmp_path) as rig:
        credentials = rig.top / "credentials"
        credentials.mkdir()
        (credentials / "wandb_api_key").write_text("0" * 40)
        del rig.environ["WANDB_API_KEY"]
        rig.environ["CREDENTIALS_DIRECTORY"] = str(credentials)
        rig.add(4)
        rig.start()
        wait_for(lambda: len(rig.server.requests) >= 3, "three questions")
        assert {each.status for each in rig.server.requests} == {401}
        assert {(row["state"], row["attempts"]) for row in rig.rows()} == {("queued", 0)}
        told = [event for event in rig.events("server") if event["state"] == "unauthorized"]
        assert len(told) == 1
        assert "wandb_api_key" in told[0]["detail"]
        assert rig.fact("server")["state"] == "unauthorized"
        (credentials / "new").write_text(DEFAULT_KEY + "\n")
        (credentials / "new").rename(credentials / "wandb_api_key")
        assert rig.finish() == []
        assert {row["attempts"] for row in rig.rows()} == {1}


@side_by_side
def test_server_gone_before_a_new_uploader_has_asked(tmp_path: Path) -> None:
    """A server that goes away between our question and the SDK's own first one uses up no attempt."""
    with one_rig(tmp_path) as rig:
        rig.orders([{"id": "die", "step": "send.identified", "kill": "self"}])
        rig.add()
        rig.start()
        wait_for(rig.carried_out, "the death of the first uploader")
        # The gate is open, and the next uploader finds nobody.
        rig.server.inject(Fault("any", "reset"))
        wait_for(lambda: len(rig.events("put-back")) >= 2, "a put-back by the second", 100)
        wait_for(lambda: rig.fact("server")["state"] == "offline", "the gate to close")
        (died, *others) = rig.events("put-back")
        assert died["attempt_used"]
        assert {(event["error"], event["attempt_used"]) for event in others} == {("Offline", False)}
        rig.server.clear_faults()
        assert rig.finish() == []
