"""``watch``: one daemon for a whole module, and the commands that people type beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import run_folders
from acceptance_bench import (
    Bench,
    Running,
    alone_on_a_bench,
    artifact_of,
    fingerprint_of,
    md5s_on_disk,
    md5s_on_server,
    opened_bench,
    wait_for,
)
from run_folders import Recipe

from wandb_outbox.sandbox import Fault, RunView

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")

RSS_LIMIT = 60 * 1024
"""Kilobytes of memory that the daemon may take without an upload."""


@dataclass(frozen=True)
class Live:
    """A bench with a running daemon."""

    bench: Bench
    daemon: Running

    def run_of(self, folder: Path) -> RunView:
        """What the server has of a folder that is uploaded."""
        row = self.bench.wait_state(folder, "uploaded")
        return next(run for run in self.bench.server.runs() if run.id == row["id"])


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A daemon that tells of every module it imports, and watches a root that is not there yet, too."""
    with opened_bench(tmp_path_factory.mktemp("daemon") / "machine") as bench:
        yield Live(bench, bench.watch(bench.outputs, bench.top / "later", python=("-X", "importtime")))


def test_folder_is_not_sent_while_its_log_is_open(live: Live) -> None:
    """However finished it looks, a folder is ``writing`` while its experiment lives, and is sent when that has ended."""
    bench, folder = live.bench, live.bench.outputs / "2025-12-03/alive/seed42_10-00-00"
    experiment = bench.experiment(folder)
    experiment.go_to("evaluated")
    # This one comes later, and is settled, confirmed and delivered while the first one does nothing at all.
    other = run_folders.make(bench.outputs / "2025-12-03/alive/seed43_10-00-00", Recipe(seed=43))
    bench.wait_state(other, "uploaded")
    row = bench.row(folder)
    assert row is not None
    assert (row["state"], row["verdict"], row["url"]) == ("writing", "writing", None)
    assert re.search(rf"run_tts_eval.log is open for writing by \S+ \(pid {experiment.process.pid}\)", row["reason"])
    why = bench.run("why", folder)
    assert why.code == 0
    assert f"pid {experiment.process.pid}" in why.out
    experiment.end()
    run = live.run_of(folder)
    assert (run.state, run.exit_code) == ("finished", 0)
    assert md5s_on_server(artifact_of(bench.server, run).files) == md5s_on_disk(folder)


def test_root_that_appears_later(live: Live) -> None:
    """A root that is not there is waited for; what is in it is found by its content, at any depth."""
    folder = run_folders.make(live.bench.top / "later/2025-12-03/a/b/c/d/e/seed42_10-00-00")
    assert live.run_of(folder).config["outbox"]["path"] == "2025-12-03/a/b/c/d/e/seed42_10-00-00"


def test_crashed_run_is_delivered_as_failed(live: Live) -> None:
    """An experiment that was killed is delivered with exit code 1, state failed, the tag crashed, and the reason."""
    folder = live.bench.outputs / "2025-12-03/killed/seed42_10-00-00"
    experiment = live.bench.experiment(folder)
    experiment.go_to("generated")
    experiment.kill()
    run = live.run_of(folder)
    assert (run.state, run.exit_code) == ("failed", 1)
    assert "crashed" in run.tags
    assert run.summary["outbox/outcome"].startswith("crashed: ")
    row = live.bench.row(folder)
    assert row is not None
    assert row["verdict"] == "crashed"
    assert md5s_on_server(artifact_of(live.bench.server, run).files) == md5s_on_disk(folder)


def test_flush_beside_a_daemon(live: Live) -> None:
    """``flush`` asks the running daemon to look at once, follows it, and tells what became of it."""
    folder = run_folders.make(live.bench.outputs / "2025-12-03/flush_beside")
    done = live.bench.run("flush", live.bench.outputs)
    assert done.code == 0, done
    row = live.bench.row(folder)
    assert row is not None
    assert row["state"] == "uploaded"
    assert "flush" in [event["verb"] for event in live.daemon.events("asked")]


def test_flush_beside_a_daemon_that_is_stopped_ends_in_time(live: Live) -> None:
    """It says so, and what it asked for is done when the daemon goes on."""
    os.kill(live.daemon.pid, signal.SIGSTOP)
    try:
        folder = run_folders.make(live.bench.outputs / "2025-12-03/flush_beside_stopped")
        done = live.bench.run("flush", live.bench.outputs, "--timeout", "1")
    finally:
        os.kill(live.daemon.pid, signal.SIGCONT)
    assert done.code == 1, done
    assert "the daemon did not answer in time" in done.err
    assert live.run_of(folder).state == "finished"


def test_upload_beside_a_daemon(live: Live) -> None:
    """``upload`` beside a daemon: by a relative path, with its own names, and with the problems of each DIR."""
    folder = run_folders.make(live.bench.top / "elsewhere/2025-12-03/upload_beside")
    done = live.bench.run(
        "upload", "2025-12-03/upload_beside/", "missing", "--project", "p", "--name", "n", "--tags", "a", "b",
        cwd=live.bench.top / "elsewhere",
    )  # fmt: skip
    assert done.code == 1, done
    assert f"{live.bench.top}/elsewhere/missing is not there" in done.err
    run = live.run_of(folder)
    assert (run.project, run.display_name, list(run.tags)) == ("p", "n", ["a", "b"])
    assert f"{folder} → {live.bench.server.url}/sandbox/p/runs/{run.id}" in done.out
    assert "upload" in [event["verb"] for event in live.daemon.events("asked")]


def test_second_daemon_says_who_has_the_lock(live: Live) -> None:
    """A second ``watch`` on the same state directory ends with 1 and names the first one's process."""
    done = live.bench.run("watch", live.bench.outputs)
    assert done.code == 1
    assert f"pid {live.daemon.pid}, `wandb-outbox watch` is already delivering from {live.bench.state}" in done.err
    assert "wandb-outbox status" in done.err


def test_status_of_a_running_daemon(live: Live) -> None:
    """``status`` ends with 0 and tells of the daemon, the server, the counts and the roots, as its schema says."""
    run_folders.make(live.bench.outputs / "2025-12-03/status")
    live.run_of(live.bench.outputs / "2025-12-03/status")
    done = live.bench.run("status", "--json")
    assert done.code == 0
    status = done.json()
    assert set(status) == {
        "schema", "daemon", "server", "paused", "counts", "oldest_waiting_seconds", "next_attempt_at", "uploads",
        "last_uploaded", "last_error", "writer_lingers", "roots",
    }  # fmt: skip
    assert status["schema"] == 1
    assert (status["daemon"]["alive"], status["daemon"]["pid"]) == (True, live.daemon.pid)
    assert set(status["daemon"]) == {"alive", "pid", "since", "version"}
    assert set(status["server"]) == {"state", "since", "detail"}
    assert status["server"]["state"] == "online"
    assert set(status["counts"]) == {"writing", "held", "queued", "uploading", "uploaded", "failed", "skipped"}
    assert status["counts"]["uploaded"] >= 1
    roots = {root["path"]: root for root in status["roots"]}
    assert set(roots) == {str(live.bench.outputs), str(live.bench.top / "later")}
    root = roots[str(live.bench.outputs)]
    assert {"path", "mode", "watched", "overflows", "full_pass_seconds"} <= set(root)
    assert root["mode"] == "events"
    text = live.bench.run("status")
    assert text.code == 0
    assert f"running (pid {live.daemon.pid}" in text.out
    assert "server   online" in text.out


def test_list_and_show_tell_of_a_run(live: Live) -> None:
    """A run is found by a prefix of its id and by its path; ``list`` shows it to people, ``show`` all of it."""
    folder = run_folders.make(live.bench.outputs / "2025-12-03/shown")
    run = live.run_of(folder)
    listed = live.bench.run("list", "--state", "uploaded")
    assert re.search(rf"^uploaded +{run.id[:8]} +{folder} +{live.bench.server.url}/\S+$", listed.out, re.MULTILINE)
    for query in (run.id[:6], str(folder), f"{folder}/"):
        shown = live.bench.run("show", query)
        assert shown.code == 0, shown
        assert f"run id    {run.id}" in shown.out
        assert (
            f"artifact  outputs-2025-12-03-shown:v0 (digest {artifact_of(live.bench.server, run).digest})" in shown.out
        )
    record = live.bench.run("show", run.id, "--json").json()
    assert record["schema"] == 1
    assert [attempt["outcome"] for attempt in record["run"]["attempt_history"]] == ["uploaded"]
    why = live.bench.run("why", run.id)
    assert why.code == 0, why
    assert why.out.startswith(f"{folder} is uploaded: the server has it.\nIt was found complete: metrics.json is there")


def test_failed_run_waits_for_retry(live: Live) -> None:
    """What the server refuses is ``failed`` with its words and a hint, others go on, and ``retry`` sends it again."""
    folder = run_folders.make(live.bench.top / "elsewhere/2025-12-03/refused")
    fault = Fault("UpsertBucket", "status", status=400, message="run name is invalid", times=20)
    live.bench.server.inject(fault)
    refused = live.bench.run("upload", folder)
    assert refused.code == 1, refused
    row = live.bench.wait_state(folder, "failed")
    assert "run name is invalid" in row["error"]["message"]
    assert "wandb-outbox plan" in row["error"]["hint"]
    live.bench.server.clear_faults()
    good = run_folders.make(live.bench.outputs / "2025-12-03/beside_failed")
    live.run_of(good)
    status = live.bench.status()
    assert (status["counts"]["failed"], status["last_error"]["path"]) == (1, str(folder))
    why = live.bench.run("why", folder)
    assert "run name is invalid" in why.out
    assert "What you can do: " in why.out
    again = live.bench.run("retry", "--failed")
    assert (again.code, again.out) == (0, f"{folder}: queued with fresh attempts\n")
    assert live.run_of(folder).state == "finished"


def test_daemon_is_small_and_never_imports_wandb(live: Live) -> None:
    """After deliveries the daemon holds at most 60 MB, and has never imported wandb: only its uploader has."""
    folders = [run_folders.make(live.bench.outputs / f"2025-12-03/small_{n}") for n in range(3)]
    before = fingerprint_of(live.bench.outputs)
    for folder in folders:
        live.run_of(folder)
    status = Path(f"/proc/{live.daemon.pid}/status").read_text()
    rss = int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])
    assert rss <= RSS_LIMIT, f"{rss} kB"
    imported = set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", live.daemon.err, re.MULTILINE))
    assert {"sqlite3", "watchdog", "wandb_outbox.service.daemon"} <= imported
    assert {name for name in imported if name.partition(".")[0] == "wandb"} == set()
    assert fingerprint_of(live.bench.outputs) == before


def test_reading_commands_import_little(live: Live) -> None:
    """What people type all day imports neither wandb, watchdog nor pydantic-settings."""
    folder = run_folders.make(live.bench.outputs / "2025-12-03/light")
    live.run_of(folder)
    for words in (["status"], ["list"], ["show", folder], ["why", folder], ["version"]):
        done = live.bench.start(*words, python=("-X", "importtime")).wait()
        assert done.code == 0, done
        imported = {
            name.partition(".")[0] for name in re.findall(r"^import time: .* \| +(\S+)$", done.err, re.MULTILINE)
        }
        assert "argparse" in imported
        heavy = {"wandb", "watchdog", "pydantic_settings", "pydantic", "rich", "structlog"}
        assert imported & heavy == set(), words


# -- daemons of their own --------------------------------------------------------------------------------------------------


@alone_on_a_bench
def test_sigterm_finishes_what_is_under_way(bench: Bench) -> None:
    """SIGTERM in the middle of an upload: it is finished and recorded, then the daemon ends with 0, and nothing is left."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run", Recipe(padding=40_000))
    bench.server.inject(Fault("put", "slow", bytes_per_second=300_000))
    daemon = bench.watch()
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "the artifact's upload")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait().code == 0
    row = bench.row(folder)
    assert row is not None
    assert row["state"] == "uploaded"
    assert [event["left"] for event in daemon.events("stopped")] == [0]
    assert bench.uploaders() == {}


@alone_on_a_bench
def test_sigterm_ends_in_time(bench: Bench) -> None:
    """When an upload hangs, the daemon ends within ``stop_timeout``, puts it back, and commands work without a daemon."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    bench.server.inject(Fault("put", "hang"))
    daemon = bench.watch(environ={"WANDB_OUTBOX_STOP_TIMEOUT": "1"})
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "the artifact's upload")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(8).code == 0
    assert bench.uploaders() == {}
    row = bench.row(folder)
    assert row is not None
    assert (row["state"], row["attempts"]) == ("queued", 0)
    status = bench.run("status", "--json")
    assert status.code == 3
    assert status.json()["daemon"] == {"alive": False, "pid": None, "since": None, "version": None}
    assert status.json()["counts"]["queued"] == 1
    assert status.json()["uploads"] == []
    assert "not running" in bench.run("status").out
    for words in (["list"], ["show", row["id"]], ["why", row["id"]]):
        assert bench.run(*words).code == 0
    assert bench.run("retry", row["id"]).out == f"{folder}: queued with fresh attempts\n"


@alone_on_a_bench
def test_a_second_sigterm_ends_at_once(bench: Bench) -> None:
    """Whoever asks twice does not wait for ``stop_timeout``: the upload is put back, with no attempt used, and sent next time."""
    bench.server.inject(Fault("put", "hang"))
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    daemon = bench.watch()
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "its files to be under way")
    daemon.signal(signal.SIGTERM)
    daemon.wait_event("stopping")
    began = time.monotonic()
    daemon.signal(signal.SIGINT)
    assert daemon.wait(30).code == 0
    assert time.monotonic() - began < 15
    assert bench.uploaders() == {}
    row = bench.row(folder) or {}
    assert (row["state"], row["attempts"]) == ("queued", 0)
    bench.server.clear_faults()
    assert bench.run("flush", bench.outputs).out == "1 uploaded\n"
    assert len(bench.server.runs()) == 1


@alone_on_a_bench
def test_old_folders_wait_for_a_person(bench: Bench) -> None:
    """What was quiet for longer than ``backlog_after`` when the daemon came is held, with the reason, and not sent."""
    folder = run_folders.make(bench.outputs / "2025-12-03/old")
    bench.watch(environ={"WANDB_OUTBOX_BACKLOG_AFTER": "0"})
    row = bench.wait_state(folder, "held")
    assert "older than the watch over its root" in row["reason"]
    assert "older than the watch" in bench.run("why", folder).out
    assert list(bench.server.requests) == []


def test_logs_are_json_lines(live: Live) -> None:
    """Off a terminal each log line is JSON with time, level and event, and none holds the key."""
    live.run_of(run_folders.make(live.bench.outputs / "2025-12-03/logged"))
    lines = [line for line in live.daemon.err.splitlines() if not line.startswith("import time:")]
    assert all({"event", "level", "timestamp"} <= set(json.loads(line)) for line in lines)
    assert live.bench.server.api_key not in live.daemon.err
