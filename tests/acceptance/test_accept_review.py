"""Results that a person wants to see before they leave: hold, release, skip, pause, resume, wait, and old backlogs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import run_folders
from acceptance_bench import ASK, Bench, alone_on_a_bench, wait_for

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")


def states(bench: Bench) -> dict[str, str]:
    """The states of all runs by the names of their folders."""
    return {Path(row["path"]).name: row["state"] for row in bench.list()}


def make_old(folder: Path, days: float) -> Path:
    """Give a folder and all in it the modification time of so many days ago."""
    then = time.time() - days * 86_400
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then))
    return folder


@alone_on_a_bench
def test_a_root_whose_results_are_reviewed(bench: Bench) -> None:
    """``hold = true``: nothing leaves until it is released; a content that follows waits again, and skip is for good."""
    reviewed, other = bench.outputs / "reviewed", bench.outputs / "other"
    first, second = (run_folders.make(reviewed / f"2025-12-03/{name}") for name in ("first", "second"))
    run_folders.make(other / "2025-12-03/free")
    config = bench.top / "config.toml"
    config.write_text(f'[[roots]]\npath = "{reviewed}"\nhold = true\n[[roots]]\npath = "{other}"\n')
    daemon = bench.start("watch", "--config", config)
    daemon.wait_event("started")
    wait_for(
        lambda: states(bench) == {"first": "held", "second": "held", "free": "uploaded"},
        "the two to be held",
        pause=ASK,
    )
    assert "hold = true for this root" in bench.run("why", first).out
    assert [run.config["outbox"]["path"] for run in bench.server.runs()] == ["2025-12-03/free"]
    assert bench.run("release", first).out == f"{first}: queued\n"
    assert bench.run("wait", first, "--timeout", "30").code == 0
    assert states(bench)["first"] == "uploaded"
    (first / "results.json").rename(first / "results.old")
    (first / "results.json").write_text((first / "results.old").read_text())
    (first / "metrics.json").write_text((first / "metrics.json").read_text() + " ")
    wait_for(lambda: states(bench)["first"] == "held", "its next content to be held", pause=ASK)
    assert bench.run("skip", second).out == f"{second}: skipped\n"
    (second / "metrics.json").write_text((second / "metrics.json").read_text() + " ")
    assert bench.run("flush", "--config", config).code == 0
    assert states(bench) == {"first": "held", "second": "skipped", "free": "uploaded"}
    # What was skipped by mistake can be released, too.
    assert bench.run("release", "--all", "--root", reviewed).code == 0
    assert bench.run("upload", second, "--config", config).code == 0
    assert bench.run("wait", "--timeout", "30").code == 0
    assert set(states(bench).values()) == {"uploaded"}
    assert len(bench.server.runs()) == 3


@alone_on_a_bench
def test_a_run_that_a_person_holds_and_a_pause(bench: Bench) -> None:
    """Beside a running daemon: hold keeps one back, pause keeps all back, resume lets them go; status and why say so."""
    daemon = bench.watch()
    assert bench.run("pause").out == "paused: nothing new is uploaded until `wandb-outbox resume`\n"
    daemon.wait_event("paused")
    kept, free = (run_folders.make(bench.outputs / f"2025-12-03/{name}") for name in ("kept", "free"))
    for folder in (kept, free):
        bench.wait_state(folder, "queued")
    assert bench.status()["paused"] is True
    assert "paused   nothing new is uploaded" in bench.run("status").out
    assert bench.run("hold", kept).out == f"{kept}: held until it is released\n"
    assert list(bench.server.runs()) == []
    late = bench.run("wait", free, "--timeout", "0.3")
    assert (late.code, "is still queued" in late.err) == (1, True)
    assert bench.run("resume").out == "resumed\n"
    assert bench.run("wait", free, "--timeout", "30").code == 0
    assert states(bench) == {"kept": "held", "free": "uploaded"}
    held = bench.run("wait", kept, "--timeout", "30")
    assert (held.code, "is held: held by a person" in held.err) == (1, True)
    assert bench.run("release", "--all").code == 0
    assert bench.run("wait", kept, "--timeout", "30").code == 0
    none = bench.run("release", "--all")
    assert (none.code, "there is no such run to release" in none.err) == (2, True)


@alone_on_a_bench
def test_what_is_decided_while_no_daemon_runs_counts_for_the_next(bench: Bench) -> None:
    """Holds, skips and a pause are kept in the outbox, not in a process; so is what is offline until then."""
    bench.server.down()
    folders = {name: run_folders.make(bench.outputs / f"2025-12-03/{name}") for name in ("kept", "dropped", "free")}
    assert bench.run("flush", bench.outputs).code == 75
    assert bench.run("hold", folders["kept"]).code == 0
    assert bench.run("skip", folders["dropped"]).code == 0
    assert bench.run("pause").code == 0
    bench.server.up()
    bench.watch()
    wait_for(lambda: bench.status()["roots"], "the daemon to tell of its roots", pause=ASK)
    assert states(bench) == {"kept": "held", "dropped": "skipped", "free": "queued"}
    assert bench.run("resume").code == 0
    assert bench.run("wait", folders["free"], "--timeout", "30").code == 0
    assert states(bench) == {"kept": "held", "dropped": "skipped", "free": "uploaded"}


@alone_on_a_bench
def test_an_old_backlog_is_told_with_the_line_to_type(bench: Bench) -> None:
    """``status`` says how many folders, how large, and how to let them go; ``--since`` takes the newer ones of them."""
    old = [make_old(run_folders.make(bench.outputs / f"2025-12-03/old-{days}"), days) for days in (40, 20, 2)]
    bench.watch(environ={"WANDB_OUTBOX_BACKLOG_AFTER": "0"})
    for folder in old:
        bench.wait_state(folder, "held")
    size = sum(row["bytes"] for row in bench.list())
    told = bench.run("status").out
    assert (
        f"backlog  3 older folders, {size / 1000:.1f} kB, held: `wandb-outbox release --root {bench.outputs}`" in told
    )
    assert "`--since YYYY-MM-DD`" in told
    since = time.strftime("%Y-%m-%d", time.localtime(time.time() - 30 * 86_400))
    assert bench.run("release", "--root", bench.outputs, "--since", since).code == 0
    for folder in old[1:]:
        bench.wait_state(folder, "uploaded")
    assert states(bench)["old-40"] == "held"
    assert "backlog  1 older folder, " in bench.run("status").out
    faulty = bench.run("release", "--root", bench.outputs, "--since", "yesterday")
    assert (faulty.code, "is no day such as 2026-01-31" in faulty.err) == (2, True)
    assert bench.run("release", "--root", bench.outputs).code == 0
    bench.wait_state(old[0], "uploaded")
    assert "older folder" not in bench.run("status").out
