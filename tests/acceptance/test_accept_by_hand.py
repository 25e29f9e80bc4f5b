"""A folder that a person names, outside every root: what changes during its upload is sent by itself when it is finished."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from acceptance_bench import Bench, alone_on_a_bench, md5s_on_disk, md5s_on_server, wait_for

from wandb_outbox.sandbox import Fault

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")


def plain_folder(bench: Bench) -> Path:
    """A folder that looks like no run, and lies below no root."""
    folder = bench.top / "elsewhere" / "2025-12-03" / "numbers"
    folder.mkdir(parents=True)
    (folder / "numbers.json").write_text(json.dumps(list(range(100))))
    return folder


def during_upload(bench: Bench, change: Callable[[], object]) -> None:
    """Let this happen while the folder's files are under way, and nothing before it was confirmed."""
    wait_for(lambda: bench.server.requests.of("CreateArtifactFiles"), "its files to be under way")
    change()
    bench.server.clear_faults()


@alone_on_a_bench
def test_a_folder_that_changes_under_upload_is_sent_by_the_same_command(bench: Bench) -> None:
    """``upload`` without a daemon waits for what time alone decides, and sends what the folder holds in the end."""
    folder = plain_folder(bench)
    bench.server.inject(Fault("put", "hang"))
    upload = bench.start("upload", folder, "--project", "p")
    during_upload(bench, lambda: (folder / "more.json").write_text("[1]"))
    done = upload.wait()
    assert done.code == 0, done
    row = bench.row(folder) or {}
    assert (row["state"], row["root"], row["project"]) == ("uploaded", None, "p")
    # What was sent before the change is a version of its own, which nothing was called uploaded by.
    last = max(bench.server.artifacts(), key=lambda each: len(each.files))
    assert {*last.files} == {"numbers.json", "more.json"}
    assert row["artifact"] == f"{last.name}:{last.version}"
    assert len(bench.server.runs()) == 1


@alone_on_a_bench
def test_a_folder_that_changes_under_upload_is_sent_by_the_daemon_and_by_the_next_one(bench: Bench) -> None:
    """Beside a daemon, too; and when that is killed before it is sent, the next daemon, which never heard of it, does."""
    folder = plain_folder(bench)
    daemon = bench.watch()
    bench.server.inject(Fault("put", "hang"))
    upload = bench.start("upload", folder, "--project", "p")
    opened = []

    def write() -> None:
        opened.append((folder / "run.log").open("w"))
        opened[0].write("one more sample\n")
        opened[0].flush()

    during_upload(bench, write)
    assert upload.wait().code == 1  # somebody writes to it by now
    row = bench.wait_state(folder, "writing")
    wait_for(lambda: "run.log" in (bench.row(folder) or row)["reason"], "the reason to name the open file", pause=0.3)
    daemon.signal(signal.SIGKILL)
    daemon.process.wait()
    bench.watch()
    bench.wait_state(folder, "writing")
    opened[0].close()
    bench.wait_state(folder, "uploaded", project="p", root=None)
    last = max(bench.server.artifacts(), key=lambda each: len(each.files))
    assert md5s_on_server(last.files) == md5s_on_disk(folder)
    assert len(bench.server.runs()) == 1


@alone_on_a_bench
def test_a_folder_that_vanishes_under_upload_is_said_to_be_gone(bench: Bench) -> None:
    """It waits for nothing: skipped with the reason; and when it is there again, it can be named again."""
    folder = plain_folder(bench)
    kept = shutil.copytree(folder, bench.top / "kept")
    bench.watch()
    bench.server.inject(Fault("put", "hang"))
    upload = bench.start("upload", folder, "--project", "p")
    during_upload(bench, lambda: shutil.rmtree(folder))
    assert upload.wait().code == 1
    assert "the folder is gone" in bench.wait_state(folder, "skipped")["reason"]
    shutil.copytree(kept, folder)
    assert bench.run("upload", folder, "--project", "p").code == 0


@alone_on_a_bench
def test_a_folder_that_looks_like_no_run_is_sent_again_below_a_root_too(bench: Bench) -> None:
    """A person named it: that it has no format does not make it gone."""
    folder = bench.outputs / "notes"
    folder.mkdir()
    (folder / "numbers.json").write_text("[1, 2]")
    bench.watch()
    bench.server.inject(Fault("put", "hang"))
    upload = bench.start("upload", folder, "--project", "p")
    during_upload(bench, lambda: (folder / "more.json").write_text("[1]"))
    upload.wait()
    row = bench.wait_state(folder, "uploaded", root=str(bench.outputs))
    assert row["files"] == 2


@alone_on_a_bench
def test_a_folder_goes_on_in_the_project_that_was_named_for_it(bench: Bench) -> None:
    """Sent again without a word of it, it is the next version of its run and no second run; `plan` says so, too."""
    folder = plain_folder(bench)
    assert bench.run("upload", folder, "--project", "named", "--tags", "a").code == 0
    (folder / "more.json").write_text("[1]")
    planned = json.loads(bench.run("plan", folder, "--json").out)["plans"][0]
    assert planned["project"] == "named"
    assert bench.run("upload", folder, "--tags", "b").code == 0
    (run,) = bench.server.runs()
    assert (run.project, {*run.tags}) == ("named", {"b"})
    assert {each.version for each in bench.server.artifacts()} == {"v0", "v1"}
    assert bench.run("upload", folder, "--project", "other").code == 0
    assert {each.project for each in bench.server.runs()} == {"named", "other"}
