"""From real folders to rows: what becomes of a run folder in every turn of its life."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from children import NOBODY, holding, public_directory, run_python
from intake_world import GRACE, SETTLE, TRACEBACK, World
from namespaces import need, unshare
from outbox_makers import MINE, NOW
from watchdog.observers.inotify_c import InotifyFD

from wandb_outbox.errors import FolderChanged, UploaderCrashed
from wandb_outbox.folder import snapshot
from wandb_outbox.model import State, run_id
from wandb_outbox.outbox.intake import LOOK_GAP, QUIET, WAITING_IN_SIGHT
from wandb_outbox.report import show_text, status_json, status_text, why_text
from wandb_outbox.settings import RootSettings

DAY = 86_400.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A root with nothing in it."""
    made = World(tmp_path)
    yield made
    made.close()


# -- the usual way ---------------------------------------------------------------------------------------------------


def test_a_folder_is_writing_while_somebody_writes_and_queued_after_that(world: World) -> None:
    """However long the experiment is silent; then settle, two looks, and it is queued with its content."""
    world.start()
    path = world.folder("2025-12-03/run", log="started\n")
    with holding(path / "run.log", os.O_WRONLY | os.O_APPEND) as experiment:
        world.settle(30)
        world.step(7200)
        run = world.run(path)
        assert (run.state, run.verdict) == (State.WRITING, "writing")
        assert f"pid {experiment.pid}" in run.reason
    world.settle(90)
    run = world.run(path)
    assert (run.state, run.verdict, run.files) == (State.QUEUED, "complete", 3)
    assert (run.root, run.format) == (str(world.top), "hydra")


def test_a_writer_that_lingers_is_told_of_by_status(world: World) -> None:
    """Half an hour after the folder said that it is done: which one, who holds it, and what a person can do."""
    world.start()
    path = world.folder("run", log="x")
    (path / ".outbox-done").touch()
    with holding(path / "run.log", os.O_WRONLY) as experiment:
        world.settle(30)
        assert status_json(world.store, None, now=NOW)["writer_lingers"] == []
        world.step(1800)
        world.settle(35)
        status = status_json(world.store, None, now=NOW)
        (told,) = status["writer_lingers"]
        assert (told["id"], told["path"]) == (world.run(path).run_id, str(path))
        assert f"(pid {experiment.pid})" in told["reason"]
        assert f"lingers  {path}: run.log is open for writing by " in status_text(status, (), now=NOW)
        assert "End that process, or `upload` the folder by hand" in status_text(status, (), now=NOW)
    world.settle(60)
    assert status_json(world.store, None, now=NOW)["writer_lingers"] == []


def test_what_dies_a_moment_after_the_log_is_not_waited_for_half_a_minute(world: World) -> None:
    """The SDK's process outlives a killed experiment by an instant, and no event tells of its files."""
    path = world.crashed("run")
    own = path / "wandb" / "run-20261121_190448-a" / "files" / "output.log"
    own.parent.mkdir(parents=True)
    own.touch()
    world.start(watch=True)
    with holding(path / "run.log", os.O_WRONLY) as experiment, holding(own, os.O_WRONLY) as sdk:
        world.settle(100)
        experiment.end()
        world.sighted()
        assert f"(pid {sdk.pid})" in world.run(path).reason
        sdk.end()
        world.settle(5)
        assert "crashed, unless it is resumed within" in world.run(path).reason


def test_a_folder_that_takes_long_to_look_at_is_looked_at_more_seldom(world: World) -> None:
    """However many events come, looks at one folder take a bounded share of a core, and others have their turn."""
    path = world.folder("run", log="x")
    world.start(watch=True)
    with holding(path / "run.log", os.O_WRONLY):
        world.settle(100)
        world.lag = 0.5  # each time that it asks for the time
        world.step(60)
        world.lag = 0.0
        tracked = world.intake._tracked[str(path)]
        looked, gap = tracked.looked, tracked.gap
        assert gap >= 5.0
        for name in ("a", "b"):
            (path / name).touch()
            world.sighted()
        assert tracked.looked == looked
        world.step(gap)
        assert tracked.looked > looked
        assert tracked.gap == LOOK_GAP


@pytest.mark.parametrize("crashed", [True, False])
def test_why_a_run_was_taken_for_what_it_is_can_be_asked_after_its_upload(world: World, crashed: bool) -> None:
    """The server has it, and a person asks what it was crashed, or finished, by."""
    world.start()
    path = world.crashed("run") if crashed else world.delivered("run")
    if crashed:
        world.settle(100)
        world.deliver(path)
    words = "It was found crashed: run.log ends with a traceback: RuntimeError: CUDA died, and nobody writes to it."
    if not crashed:
        words = "It was found complete: nobody writes to it, and nothing in it says how it ended."
    run = world.run(path)
    assert words in why_text(run, now=NOW, watched=(), server={}, paused=False)
    assert run.judged in show_text(run, ())


def test_a_new_folder_waits_for_settle(world: World) -> None:
    """A pause in the writing is not enough."""
    world.start()
    path = world.folder("run")
    world.step()
    assert world.run(path).verdict == "settling"
    world.step(SETTLE - 1)
    assert world.run(path).state is State.WRITING
    world.step(2)
    assert world.run(path).state is State.QUEUED


def test_a_quiet_folder_is_queued_after_two_looks(world: World) -> None:
    """What was finished long ago does not wait for settle again; but one lucky look is not enough."""
    path = world.folder("run")
    world.tick += 1000
    world.start()
    world.step()
    assert world.state(path) == "writing"
    world.step(1.1)
    assert world.state(path) == "queued"


def test_a_change_between_the_looks_begins_the_wait_anew(world: World) -> None:
    """The content that is queued was seen twice."""
    path = world.folder("run")
    world.tick += 1000
    world.start()
    world.step()
    (path / "results.json").write_text("[1, 2]")
    world.step(1.1)
    assert world.state(path) == "writing"
    world.settle(15)
    assert world.state(path) == "queued"


def test_a_decision_is_logged_once(world: World) -> None:
    """With path, state, verdict and reason."""
    path = world.folder("run")
    world.start().settle(90)
    decided = [fields for event, fields in world.events if event == "decided"]
    assert [(each["path"], each["state"], each["verdict"]) for each in decided] == [(str(path), "queued", "complete")]


def test_folders_are_found_at_any_depth(world: World) -> None:
    """Eight levels down, and beside directories that are none."""
    world.start()
    deep = world.folder("2025-12-03/aime2025/qwen3-8b/deepconf/window/scorer/agg/seed42_19-04-48")
    flat = world.folder("flat")
    (world.top / "2025-12-03" / "notes").mkdir()
    world.settle(30)
    assert world.known() == sorted(os.path.relpath(path, world.top) for path in (deep, flat))


def test_what_is_no_run_folder_of_this_root_is_left_alone(world: World, tmp_path: Path) -> None:
    """Links out of the root, W&B's own directory, caches, version control."""
    elsewhere = world.folder("../elsewhere")
    (world.top / "link").symlink_to(elsewhere)
    for name in (".git", "__pycache__", "wandb", ".ssh"):
        world.folder(f"{name}/run")
    world.start().settle(30)
    assert world.known() == []
    assert tmp_path.exists()


def test_a_folder_inside_a_run_folder_is_part_of_it(world: World) -> None:
    """A run folder is not divided."""
    path = world.folder("run")
    world.folder("run/inner")
    world.start().settle(30)
    assert world.known() == ["run"]
    assert world.run(path).files == 4


def test_plain_folders_are_found_by_the_roots_own_patterns(world: World) -> None:
    """And only below the root that says so; the root itself is never one."""
    (world.top / "exp-1").mkdir()
    (world.top / "exp-1" / "summary.csv").touch()
    (world.top / "summary.csv").touch()
    world.start(RootSettings(path=str(world.top), detect=("summary.csv",))).settle(30)
    assert world.known() == ["exp-1"]
    assert world.run(world.top / "exp-1").format == "plain"


def test_a_name_that_is_not_utf8_is_a_folder_like_any_other(world: World) -> None:
    """Queued, delivered, renamed: its path is bytes."""
    world.start()
    path = world.delivered(os.fsdecode(b"run\xff"))
    renamed = path.rename(world.top / os.fsdecode(b"run\xfe"))
    world.start().settle(30)
    assert world.state(renamed) == "uploaded"


# -- roots -----------------------------------------------------------------------------------------------------------


def test_the_innermost_root_owns_a_folder(world: World) -> None:
    """Each folder once, with the rules of the root that is nearest."""
    inner = world.top / "inner"
    one, two = world.folder("one"), world.folder("inner/two")
    world.start(world.top, RootSettings(path=str(inner), hold=True), world.top).settle(30)
    assert world.known() == ["inner/two", "one"]
    assert (world.run(one).root, world.state(one)) == (str(world.top), "queued")
    assert (world.run(two).root, world.state(two)) == (str(inner), "held")


def test_a_root_that_is_away_says_nothing_of_its_folders(world: World) -> None:
    """Unmounted, renamed: what is waiting waits, what is delivered stays, and all goes on when it is back."""
    world.start()
    delivered, queued = world.delivered("delivered"), world.folder("queued")
    world.settle()
    writing = world.folder("writing")
    world.intake.track(str(writing))
    world.step()
    world.top.rename(world.top.with_name("unmounted"))
    world.settle(200)
    assert [world.state(path) for path in (delivered, queued, writing)] == ["uploaded", "queued", "writing"]
    assert not any(world.run(path).gone for path in (delivered, queued, writing))
    assert "not there" in (world.intake.roots[0].problem or "")
    world.top.with_name("unmounted").rename(world.top)
    later = world.folder("later")
    world.settle(200)
    assert world.intake.roots[0].problem is None
    assert [world.state(path) for path in (delivered, queued, writing, later)] == ["uploaded", *["queued"] * 3]


UNMOUNTED = """
import os, subprocess, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from typing import Any
from intake_world import World
disk = Path(sys.argv[1]) / "disk"
disk.mkdir()
world = World(Path(sys.argv[1]))
def mount(*words):
    subprocess.run(["mount", *words], check=True)
mount("-t", "tmpfs", "outbox-test", str(disk))
mount("--bind", str(disk), str(world.top))
world.start(watch=True)
delivered, queued = world.delivered("delivered"), world.folder("queued")
world.settle(90)
writing = world.folder("writing")
world.intake.track(str(writing))
world.step(1)
def tell():
    runs = [world.run(path) for path in (delivered, queued, writing)]
    print([(run.state.value, run.gone) for run in runs], world.intake.roots[0].problem, sep="|")
tell()
subprocess.run(["umount", str(world.top)], check=True)
world.settle(200)
tell()
world.start(watch=True).settle(200)  # not even a restart takes the empty directory for the truth
tell()
mount("--bind", str(disk), str(world.top))
world.settle(200)
tell()
world.close()
"""


def test_an_unmounted_root_says_nothing_of_its_folders(tmp_path: Path) -> None:
    """An empty directory in its place is no proof that all was deleted; when it is mounted again all goes on."""
    need("--mount")
    helpers = [os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..", "helpers")]
    done = subprocess.run(
        [*unshare("--mount"), sys.executable, "-c", UNMOUNTED, str(tmp_path), *helpers],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, away, restarted, back = done.stdout.splitlines()
    rows = "[('uploaded', False), ('queued', False), ('writing', False)]"
    assert before == f"{rows}|None"
    problem = "nothing is mounted there any more; it is looked for again at every rescan"
    assert (away, restarted) == (f"{rows}|{problem}",) * 2
    assert back == "[('uploaded', False), ('queued', False), ('queued', False)]|None"


def test_a_root_that_was_emptied_is_believed(world: World) -> None:
    """Where nothing was mounted, an empty root means that its folders are gone."""
    world.start()
    path = world.folder("run")
    world.settle(20)
    shutil.rmtree(path)
    world.settle(90)
    assert world.run(path).gone


def test_a_root_that_is_not_there_yet_is_waited_for(world: World) -> None:
    """The daemon may be started before the first experiment."""
    world.top.rmdir()
    world.start().settle(5)
    assert ("root-unusable", str(world.top)) in [(event, fields.get("root")) for event, fields in world.events]
    path = world.folder("run")
    world.settle(90)
    assert world.state(path) == "queued"


def test_a_root_that_is_a_file_says_so(world: World) -> None:
    """And the other roots go on."""
    (world.top / "file").touch()
    world.start(world.top / "file", world.top)
    path = world.folder("run")
    world.settle(30)
    assert world.state(path) == "queued"
    assert "not a directory" in str([root.problem for root in world.intake.roots])


@pytest.mark.parametrize("watch", [False, True])
def test_a_root_that_was_replaced_is_watched_like_a_new_one(world: World, watch: bool) -> None:
    """Deleted and restored between two looks, with an old directory in it: new folders are found all the same."""
    old = world.top / "old"

    def make() -> None:
        old.mkdir(parents=True)
        os.utime(old, (1, 1))

    make()
    world.start(watch=watch).settle(70)
    shutil.rmtree(world.top)
    make()
    if watch:
        world.sighted()
    world.settle(70)
    path = world.folder("new")
    world.settle(130)
    assert world.state(path) == "queued"


# -- folders that change ---------------------------------------------------------------------------------------------


def test_a_delivered_folder_that_changes_is_writing_again_and_keeps_its_receipt(world: World) -> None:
    """Without fresh done evidence it stays so for ever: never crashed, never sent by itself."""
    world.start()
    path = world.delivered("run")
    before = world.run(path)
    (path / "run.log").write_text(TRACEBACK)
    world.settle(90)
    world.step(10 * DAY)
    run = world.settle(5).run(path)
    assert (run.state, run.url, run.artifact, run.revision) == (State.WRITING, before.url, before.artifact, 0)
    assert ".outbox-done" in run.reason


def test_a_changed_folder_that_says_done_is_the_next_revision_once(world: World) -> None:
    """The same run, another version; the marker may be newer than everything else at any time."""
    world.start()
    path = world.delivered("run")
    first = world.run(path)
    for version in (2, 3):
        (path / "results.json").write_text(f"[{version}]")
        world.settle(90)
        time.sleep(0.02)
        (path / ".outbox-done").touch()
        world.settle(90)
        run = world.run(path)
        assert (run.state, run.revision, run.run_id) == (State.QUEUED, version - 1, first.run_id)
        world.deliver(path)
    assert world.state(path) == "uploaded"


def test_a_folder_that_was_only_touched_is_uploaded_again_without_sending(world: World) -> None:
    """The same bytes with the same times: the server has them."""
    world.start()
    path = world.delivered("run")
    before, info = world.run(path), (path / "results.json").stat()
    (path / "results.json").write_text("[9]")
    (path / ".outbox-done").touch()
    world.settle(90)
    assert world.state(path) in ("writing", "queued")
    (path / "results.json").write_text("[1]")
    os.utime(path / "results.json", ns=(info.st_atime_ns, info.st_mtime_ns))
    world.settle(150)
    run = world.run(path)
    assert (run.state, run.fingerprint, run.revision) == (State.UPLOADED, before.fingerprint, 0)
    writes = len(world.events)
    world.settle(200)
    assert len(world.events) == writes


def test_a_queued_folder_that_changes_is_looked_at_again(world: World) -> None:
    """What is sent is what is there."""
    world.start(watch=True)
    path = world.folder("run")
    world.settle(20)
    (path / "results.json").write_text("[1, 2, 3]")
    world.sighted()
    assert world.state(path) == "writing"
    world.settle(20)
    assert (world.state(path), world.run(path).revision) == ("queued", 0)
    assert world.run(path).bytes == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_what_waits_for_its_turn_is_kept_in_sight_without_events(world: World) -> None:
    """A month offline on a network file system, with a restart in between: what changes is looked at again."""
    world.start()
    path = world.folder("run")
    world.settle()
    world.start().settle(5)
    with (path / "results.json").open("r+") as file:
        file.write("[2]")
    world.settle(200)
    assert world.run(path).fingerprint == snapshot(str(path)).fingerprint
    assert world.state(path) == "queued"


def test_an_in_place_rewrite_is_found_without_any_event(world: World) -> None:
    """It changes no directory's time: only the full pass can see it."""
    world.start()
    path = world.delivered("run")
    world.settle(10)
    with (path / "results.json").open("r+") as file:
        file.write("[2]")
    world.settle(180)
    assert world.state(path) == "writing"


def test_a_failed_folder_that_changes_gets_fresh_attempts_by_itself(world: World) -> None:
    """And one that does not change waits for a person."""
    world.start()
    path = world.folder("run")
    world.settle(20)
    run = world.store.claim(MINE, now=2 * NOW, suspects=False)
    assert run is not None
    world.store.fail(run.key, MINE, UploaderCrashed("boom"), now=NOW)
    world.settle(200)
    assert world.state(path) == "failed"
    (path / "extra.json").touch()
    world.settle(200)
    assert (world.state(path), world.run(path).attempts) == ("queued", 0)


def test_a_folder_in_the_uploaders_hands_is_left_alone_until_it_is_back(world: World) -> None:
    """Its change is found by the uploader, and looked at then."""
    world.start()
    path = world.folder("run")
    world.settle(20)
    run = world.store.claim(MINE, now=2 * NOW, suspects=False)
    assert run is not None
    (path / "results.json").write_text("[1, 2]")
    world.settle(100)
    assert world.state(path) == "uploading"
    world.store.changed(run.key, MINE, FolderChanged("it changed"), now=NOW)
    world.intake.track(str(path))
    world.settle(30)
    assert world.state(path) == "queued"


def test_a_folder_skipped_by_a_person_stays_skipped(world: World) -> None:
    """Whatever is written into it."""
    world.start()
    path = world.folder("run")
    world.settle(20)
    assert world.store.skip_by_person(world.run(path).key)
    (path / "more.json").touch()
    world.settle(200)
    assert world.state(path) == "skipped"


# -- folders that go and come ----------------------------------------------------------------------------------------


def test_a_folder_deleted_before_its_upload_is_skipped_and_can_come_back(world: World, tmp_path: Path) -> None:
    """Moved away and back: it is queued as if nothing had been."""
    world.start(watch=True)
    path = world.folder("run")
    world.settle(20)
    run = world.run(path)
    path.rename(tmp_path / "away")
    world.sighted().settle(90)
    gone = world.run(path)
    assert (gone.state, gone.gone) == (State.SKIPPED, True)
    assert "gone" in gone.reason
    (tmp_path / "away").rename(path)
    world.sighted().settle(90)
    assert (world.state(path), world.run(path).run_id, world.run(path).gone) == ("queued", run.run_id, False)


def test_a_delivered_folder_that_is_deleted_stays_uploaded(world: World) -> None:
    """People make room."""
    world.start()
    path = world.delivered("run")
    shutil.rmtree(path)
    world.settle(90)
    assert (world.state(path), world.run(path).gone) == ("uploaded", True)


def test_a_folder_that_vanished_in_the_uploaders_hands_is_skipped(world: World) -> None:
    """The uploader says so, and nothing waits for it for ever."""
    world.start()
    path = world.folder("run")
    world.settle(20)
    run = world.store.claim(MINE, now=2 * NOW, suspects=False)
    assert run is not None
    shutil.rmtree(path)
    world.settle(100)
    world.store.changed(run.key, MINE, FolderChanged("it is not there"), now=NOW)
    world.intake.track(str(path))
    world.settle(5)
    assert (world.state(path), world.run(path).gone) == ("skipped", True)


@pytest.mark.parametrize("state", ["writing", "queued", "uploaded"])
def test_a_folder_that_was_deleted_while_nobody_watched_is_found_gone(world: World, state: str) -> None:
    """After a restart no row waits for a folder that is not there."""
    world.start()
    path = world.folder("run")
    world.step() if state == "writing" else world.settle(20)
    if state == "uploaded":
        world.deliver(path)
    assert world.state(path) == state
    shutil.rmtree(path)
    world.start().settle(5)
    assert world.run(path).gone
    assert world.state(path) == ("uploaded" if state == "uploaded" else "skipped")


def test_a_folder_made_anew_is_another_run(world: World) -> None:
    """The same name, another experiment: the first run on the server is not touched."""
    world.start()
    path = world.delivered("run")
    first = world.run(path)
    shutil.rmtree(path)
    time.sleep(0.01)
    world.folder("run", results="[2]")
    world.settle(150)
    run = world.run(path)
    assert (run.state, run.incarnation, run.run_id) == (State.QUEUED, 1, run_id("site", str(path), 1))
    assert run.key == first.key
    assert (run.url, run.revision) == (None, 0)
    assert "folder-remade" in [event for event, _ in world.events]


def test_a_restored_backup_is_the_same_folder(world: World, tmp_path: Path) -> None:
    """The same content under another inode: not sent again."""
    world.start()
    path = world.delivered("run")
    shutil.copytree(path, tmp_path / "backup")
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "backup", path)
    world.settle(150)
    run = world.run(path)
    assert (run.state, run.incarnation) == (State.UPLOADED, 0)


@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize("state", ["writing", "held", "queued", "uploaded", "failed"])
def test_a_renamed_folder_keeps_its_row_and_its_id(world: World, state: str, watch: bool) -> None:
    """In every state, whether the old name is seen gone first or the new one found first."""
    world.start(RootSettings(path=str(world.top), hold=state == "held"), watch=watch)
    path = world.folder("date/run")
    world.step() if state == "writing" else world.settle(20)
    if state == "uploaded":
        world.deliver(path)
    if state == "failed":
        run = world.store.claim(MINE, now=2 * NOW, suspects=False)
        assert run is not None
        world.store.fail(run.key, MINE, UploaderCrashed("boom"), now=NOW)
    before = world.run(path)
    assert before.state.value == state
    renamed = path.rename(world.top / "better-name")
    world.settle(150)
    run = world.run(renamed)
    assert (run.key, run.run_id, run.gone) == (before.key, before.run_id, False)
    after = {"writing": {"queued"}, "failed": {"failed", "queued"}}.get(state, {state})
    assert run.state.value in after
    assert len(world.store.list()) == 1


def test_a_renamed_directory_between_carries_all_its_folders(world: World) -> None:
    """A whole date is filed away: every row follows."""
    world.start(watch=True)
    paths = [world.folder(f"2025-12-03/run-{number}") for number in range(4)]
    world.settle(20)
    for path in paths[:2]:
        world.deliver(path)
    ids = {path.name: world.run(path).run_id for path in paths}
    (world.top / "archive").mkdir()
    (world.top / "2025-12-03").rename(world.top / "archive" / "2025-12-03")
    world.settle(150)
    moved = {path.name: world.run(world.top / "archive" / "2025-12-03" / path.name) for path in paths}
    assert {name: run.run_id for name, run in moved.items()} == ids
    assert sorted(run.state.value for run in moved.values()) == ["queued", "queued", "uploaded", "uploaded"]
    assert len(world.store.list()) == 4


def test_a_new_folder_under_the_name_of_a_renamed_one_is_a_run_of_its_own(world: World) -> None:
    """`mv run run-old`, and the next experiment writes to `run`."""
    world.start()
    path = world.delivered("run")
    old = world.run(path)
    renamed = path.rename(world.top / "run-old")
    world.settle(90)
    world.folder("run", results="[2]")
    world.settle(150)
    assert (world.run(renamed).run_id, world.state(renamed)) == (old.run_id, "uploaded")
    assert world.state(path) == "queued"
    assert world.run(path).run_id != old.run_id


def test_folders_that_change_names_with_each_other_stay_two_runs(world: World) -> None:
    """Neither row is lost, and no id is given twice."""
    world.start()
    one, two = world.delivered("one"), world.delivered("two")
    delivered = {world.run(one).run_id, world.run(two).run_id}
    one.rename(world.top / "three")
    two.rename(one)
    (world.top / "three").rename(two)
    world.settle(200)
    rows = world.store.list()
    assert len({run.run_id for run in rows}) == len(rows) == 2
    uploaded = {run.run_id for run in rows if run.state is State.UPLOADED}
    assert uploaded <= delivered


def test_without_birth_times_an_inode_alone_makes_no_rename(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old network file system hands out the inode of a deleted folder again: two experiments, never one run."""
    monkeypatch.setattr("wandb_outbox.folder._birth_time", lambda _path: 0)
    world.start()
    path = world.delivered("first")
    old = world.run(path)
    inode = path.stat().st_ino
    shutil.rmtree(path)
    other = world.folder("second", results="[2]")
    if other.stat().st_ino != inode:
        pytest.skip("this file system does not hand out the inode again")
    world.settle(150)
    assert world.run(other).run_id != old.run_id
    assert world.state(other) == "queued"


def test_without_birth_times_a_rename_is_known_by_the_content(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inode and content together are enough."""
    monkeypatch.setattr("wandb_outbox.folder._birth_time", lambda _path: 0)
    world.start()
    path = world.delivered("run")
    old = world.run(path)
    renamed = path.rename(world.top / "renamed")
    world.settle(150)
    assert (world.run(renamed).key, world.state(renamed)) == (old.key, "uploaded")


# -- crashed, held, skipped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_crash", "state"), [("upload", "queued"), ("hold", "held"), ("skip", "skipped")])
def test_a_crashed_run_goes_where_its_root_says(world: World, on_crash: str, state: str) -> None:
    """After the grace, with the evidence in the reason."""
    world.start(RootSettings.model_validate({"path": str(world.top), "on_crash": on_crash}))
    path = world.crashed("run")
    world.settle(GRACE - 5)
    assert world.state(path) == "writing"
    world.settle(20)
    run = world.run(path)
    assert (run.state.value, run.verdict, run.outcome) == (state, "crashed", "crashed")
    assert "CUDA died" in run.reason


@pytest.mark.parametrize(("log_model", "state"), [("none", "queued"), ("best", "held"), ("end", "held")])
def test_weights_that_are_not_sent_do_not_make_a_folder_too_large(world: World, log_model: str, state: str) -> None:
    """``max_bytes`` is about what would leave the machine."""
    world.start(RootSettings.model_validate({"path": str(world.top), "log_model": log_model}), max_bytes=1000)
    path = world.top / "trained"
    (path / "checkpoint-5").mkdir(parents=True)
    (path / "checkpoint-5" / "model.safetensors").write_bytes(b"w" * 2000)
    (path / "trainer_state.json").write_text('{"global_step": 5, "max_steps": 5}')
    world.settle()
    assert world.state(path) == state


@pytest.mark.parametrize(("live_runs", "state"), [("attach", "queued"), ("hold", "held"), ("skip", "skipped")])
def test_a_folder_that_logged_itself_goes_where_its_root_says(world: World, live_runs: str, state: str) -> None:
    """With the name of the run in the reason; only the uploader can know whether it may be attached."""
    world.start(RootSettings.model_validate({"path": str(world.top), "live_runs": live_runs}))
    path = world.folder("run")
    log = path / "wandb" / "run-20251203_100000-abc" / "run-abc.wandb"
    log.parent.mkdir(parents=True)
    log.touch()
    world.settle()
    run = world.run(path)
    assert run.state.value == state
    assert ("(run-20251203_100000-abc), and live_runs =" in run.reason) is (state != "queued")
    world.settle(70)
    log.write_bytes(b"more")
    world.settle(200)
    assert world.run(path) == run


@pytest.mark.parametrize("on_crash", ["upload", "hold"])
def test_a_crashed_run_without_any_result_is_skipped(world: World, on_crash: str) -> None:
    """There is nothing to show; if something comes, it is looked at again."""
    world.start(RootSettings.model_validate({"path": str(world.top), "on_crash": on_crash}))
    path = world.crashed("run", results="")
    world.settle(90)
    assert world.state(path) == "skipped"
    assert "nothing to show" in world.run(path).reason
    (path / "results.json").write_text("[1]")
    world.settle(200)
    assert world.state(path) == {"upload": "queued", "hold": "held"}[on_crash]


def test_a_run_that_is_resumed_within_the_grace_is_not_crashed(world: World) -> None:
    """The writer is back: it is writing."""
    world.start()
    path = world.crashed("run")
    world.settle(GRACE - 20)
    with holding(path / "run.log", os.O_WRONLY | os.O_APPEND):
        world.settle(90)
        assert world.run(path).verdict == "writing"


def test_a_writer_seen_before_a_restart_gets_its_grace_from_the_first_look_after_it(world: World) -> None:
    """It was silent for an hour and died while no daemon was there: nobody knows how long ago."""
    world.start()
    path = world.crashed("run")
    with holding(path / "run.log", os.O_WRONLY | os.O_APPEND):
        world.settle(5)
        world.step(3600)
        assert world.run(path).verdict == "writing"
    world.start().settle(GRACE - 5)
    assert world.run(path).verdict == "settling"
    world.settle(20)
    assert world.run(path).verdict == "crashed"


def test_a_restart_within_the_grace_goes_on_counting_it(world: World) -> None:
    """Short passes one after the other bring a crashed run in, and none of them gives it less than its grace."""
    world.start()
    path = world.crashed("run")
    with holding(path / "run.log", os.O_WRONLY | os.O_APPEND):
        world.step(3600)
        assert world.run(path).verdict == "writing"
    for _ in range(3):
        world.start().settle(GRACE / 4)
        assert world.run(path).verdict == "settling"
    world.start().settle(GRACE / 4 + 10)
    assert world.run(path).verdict == "crashed"


def test_a_run_that_is_renamed_after_it_died_gets_its_whole_grace(world: World) -> None:
    """Who saw the writer knew the folder under another name."""
    world.start(watch=True)
    path = world.crashed("run")
    with holding(path / "run.log", os.O_WRONLY | os.O_APPEND):
        world.step(3600)
        assert world.run(path).verdict == "writing"
    renamed = path.rename(world.top / "renamed")
    world.until_event(renamed, State.WRITING)
    world.settle(GRACE - 20)
    assert world.run(renamed).verdict == "settling"
    world.settle(40)
    assert world.run(renamed).verdict == "crashed"


def test_a_crash_that_was_over_before_anybody_looked_waits_for_nothing(world: World) -> None:
    """A daemon that is started a day later takes it at the second look."""
    path = world.crashed("run")
    world.tick += DAY
    world.start().settle(3)
    assert world.run(path).verdict == "crashed"


def test_under_a_scheduler_that_requeues_the_grace_is_longer(world: World) -> None:
    """What Slurm leaves in the folder tells."""
    world.start()
    path = world.crashed("run")
    (path / "slurm-123.out").touch()
    world.settle(300)
    assert world.state(path) == "writing"
    world.step(1800)
    world.settle(5)
    assert world.state(path) == "queued"


@pytest.mark.parametrize("beside", ["sweep/.submitit", "sweep/dataset/.submitit"])
def test_a_job_of_hydras_launcher_for_slurm_has_the_longer_grace(world: World, beside: str) -> None:
    """The launcher keeps its own files in the sweep's directory, not in the job's."""
    world.start()
    (world.top / beside).mkdir(parents=True)
    path, other = world.crashed("sweep/dataset/0"), world.crashed("other")
    world.settle(300)
    assert (world.state(path), world.state(other)) == ("writing", "queued")
    world.step(1800)
    world.settle(5)
    assert world.state(path) == "queued"


@pytest.mark.parametrize(("everywhere", "here", "state"), [(True, None, "held"), (True, False, "queued"),
                                                          (False, True, "held"), (False, None, "queued")])  # fmt: skip
def test_hold_is_for_all_roots_or_for_one(world: World, everywhere: bool, here: bool | None, state: str) -> None:
    """The root's own word counts more."""
    path = world.folder("run")
    world.start(RootSettings(path=str(world.top), hold=here), hold=everywhere).settle(20)
    assert world.state(path) == state


def test_a_folder_that_is_too_large_is_held_with_its_size(world: World) -> None:
    """Nobody fills the server by accident."""
    path = world.folder("run", results="x" * 2000)
    world.start(max_bytes=1000).settle(20)
    assert world.state(path) == "held"
    assert "more than max_bytes (1,000)" in world.run(path).reason


def test_an_empty_folder_is_held(world: World) -> None:
    """A run without any file is no run; it is queued when there is one."""
    (world.top / "run" / ".hydra").mkdir(parents=True)
    world.start().settle(20)
    assert world.state(world.top / "run") == "held"
    assert "no file" in world.run(world.top / "run").reason
    (world.top / "run" / "results.json").write_text("[]")
    world.settle(200)
    assert world.state(world.top / "run") == "queued"


def test_old_folders_are_held_when_a_root_is_seen_for_the_first_time(world: World) -> None:
    """Thousands of old runs are not sent because somebody starts a daemon."""
    old = world.folder("old")
    world.tick += 8 * DAY
    world.start(backlog_after=7 * DAY).settle(20)
    assert world.state(old) == "held"
    assert "older than the watch over its root: quiet for 8 days" in world.run(old).reason


def test_a_root_has_timers_of_its_own(world: World) -> None:
    """A slow shared disk and a fast local one are waited for differently, by one daemon."""
    (world.top / "slow").mkdir()
    (world.top / "far").mkdir()
    slow = RootSettings(path=str(world.top / "slow"), settle=200.0, crash_grace=400.0)
    far = RootSettings(path=str(world.top / "far"), probe="proc", stalled_after=DAY)
    world.start(world.top, slow, far)
    names = ("run", "slow/run", "far/run")
    finished, crashed = [world.folder(name) for name in names], [world.crashed(f"{name}-crashed") for name in names]
    world.settle(100)
    assert [world.run(path).verdict for path in finished] == ["complete", "settling", "writing"]
    assert [world.run(path).verdict for path in crashed] == ["crashed", "settling", "writing"]
    assert "the lease probe is turned off" in world.run(finished[2]).reason
    world.settle(200)
    assert [world.run(path).verdict for path in (finished[1], crashed[1])] == ["complete", "settling"]
    world.settle(200)
    assert world.run(crashed[1]).verdict == "crashed"
    world.step(7 * 3600)
    assert world.run(finished[2]).verdict == "writing"
    world.step(DAY)
    assert world.run(finished[2]).verdict == "stalled"


def test_a_root_has_a_backlog_of_its_own(world: World) -> None:
    """What is old for one root is not for another; and flush, which knows no backlog, sends both."""
    (world.top / "patient").mkdir()
    patient = RootSettings(path=str(world.top / "patient"), backlog_after=30 * DAY)
    here, there = world.folder("old"), world.folder("patient/old")
    world.tick += 8 * DAY
    world.start(world.top, patient, backlog_after=7 * DAY).settle(20)
    assert [world.state(path) for path in (here, there)] == ["held", "queued"]
    hasty = world.top / "hasty"
    path = world.folder("hasty/run")
    world.start(RootSettings(path=str(hasty), backlog_after=DAY), backlog_after=None).settle(20)
    assert world.state(path) == "queued"


def test_flush_sends_old_folders_too(world: World) -> None:
    """A person said so."""
    old = world.folder("old")
    world.tick += 8 * DAY
    world.start(backlog_after=None).settle(20)
    assert world.state(old) == "queued"


def test_a_daemon_that_was_away_makes_no_backlog(world: World) -> None:
    """The root was seen before: what was finished while nobody watched is sent, however long ago."""
    world.start(backlog_after=7 * DAY).settle(5)
    path = world.folder("run")
    world.tick += 20 * DAY
    world.start(backlog_after=7 * DAY).settle(20)
    assert world.state(path) == "queued"


# -- a wall clock that leaps -----------------------------------------------------------------------------------------

LEAPS = pytest.mark.parametrize("leap", [DAY, 3650 * DAY])


@LEAPS
@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_leaps_makes_nothing_stalled(world: World, leap: float, restarted: bool) -> None:
    """Set forward, or suspended: nobody lived through that time, so it is no quiet; not after a restart either."""
    world.start(leases=False)
    path = world.folder("run")
    world.settle(20)
    world.born += leap
    world.settle(5)
    if restarted:
        world.start(leases=False)
    world.step(5 * 3600)
    world.settle(200)
    assert world.state(path) == "writing"
    world.step(3600)
    world.settle(5)
    assert world.run(path).verdict == "stalled"


@LEAPS
@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_leaps_shortens_no_crash_grace(world: World, leap: float, restarted: bool) -> None:
    """Also where no writer was ever seen, so that only the file times tell; and after a restart."""
    world.start()
    path = world.crashed("run")
    world.settle(20)
    world.born += leap
    world.step(1.0)
    if restarted:
        world.start()
    world.settle(30)
    assert world.run(path).verdict == "settling"
    world.settle(40)
    assert world.run(path).verdict == "crashed"


@LEAPS
def test_a_clock_that_leaps_makes_no_backlog(world: World, leap: float) -> None:
    """A root that is first seen after the leap: what ended just before it is not old."""
    world.start(leases=False).settle(5)
    path = world.folder("run", log="done")
    world.born += 30 * leap
    world.settle(5)
    world.start(backlog_after=7 * DAY).settle(20)
    assert world.state(path) == "queued"


def test_a_leap_that_is_taken_back_is_forgotten(world: World) -> None:
    """Set ten years forward by mistake and back again: time counts as before, also for what is older than both."""
    world.start(leases=False)
    path = world.folder("run")
    world.settle(20)
    for by in (3650 * DAY, -3650 * DAY):
        world.born += by
        world.settle(5)
    assert world.store.fact("leaps") == []
    world.start(leases=False)
    world.step(6 * 3600)
    world.settle(5)
    assert world.run(path).verdict == "stalled"


# -- where open files cannot be seen ---------------------------------------------------------------------------------


def test_a_folder_without_done_evidence_stalls_where_nobody_can_be_seen(world: World) -> None:
    """Held for a person, with the ways out; and the marker is one of them."""
    world.start(leases=False)
    path = world.folder("run")
    world.settle(200)
    assert world.state(path) == "writing"
    world.step(6 * 3600)
    world.settle(5)
    assert (world.state(path), world.run(path).verdict) == ("held", "stalled")
    (path / ".outbox-done").touch()
    world.settle(200)
    assert (world.state(path), world.run(path).verdict) == ("queued", "complete")


def test_done_evidence_is_enough_after_ninety_seconds(world: World) -> None:
    """And the reason says how weak it is."""
    world.start(leases=False)
    path = world.folder("run")
    (path / ".outbox-done").touch()
    world.settle(80)
    assert world.state(path) == "writing"
    world.settle(60)
    assert world.state(path) == "queued"
    assert "weak evidence" in world.run(path).reason


def test_when_the_main_container_has_ended_nobody_writes_any_more(world: World) -> None:
    """A sidecar sees no processes of the other container, but it is told of its end."""
    world.start(leases=False)
    path = world.folder("run")
    world.settle(30)
    assert world.state(path) == "writing"
    assert not world.intake.settling()
    world.intake.end_of_main()
    assert world.intake.settling()  # whoever is about to stop has to wait for what is said now
    world.settle(5)
    assert world.state(path) == "queued"


def test_the_end_of_the_main_container_finds_what_nobody_has_seen_yet(world: World) -> None:
    """A folder made since the last rescan, and one that had stalled: both are brought in before the pod is gone."""
    world.start(leases=False)
    stalled = world.folder("stalled")
    world.settle(30)
    world.step(6 * 3600)
    world.settle(5)
    assert world.run(stalled).verdict == "stalled"
    new = world.folder("new")
    world.intake.end_of_main()
    world.settle(15)
    assert [world.state(path) for path in (stalled, new)] == ["queued", "queued"]


def test_a_rule_of_the_root_can_say_when_it_is_done(world: World) -> None:
    """`done_when` is evidence like any other."""
    world.start(RootSettings(path=str(world.top), done_when=("summary.csv",)), leases=False)
    path = world.folder("run")
    world.settle(150)
    assert world.state(path) == "writing"
    (path / "summary.csv").touch()
    world.settle(250)
    assert world.state(path) == "queued"


# -- events ----------------------------------------------------------------------------------------------------------


def test_events_alone_bring_a_folder_in(world: World) -> None:
    """Found, seen to change and seen to end, with no rescan in between."""
    world.start(watch=True, rescan=1e9)
    world.step()
    path = world.folder("date/run", log="x")
    world.until_event(path, State.WRITING)
    with holding(path / "run.log", os.O_WRONLY):
        world.settle(15)
        assert world.run(path).verdict == "writing"
    world.until_event(path, State.QUEUED)


def test_the_end_of_the_writer_is_an_event(world: World) -> None:
    """Nobody waits for the half-minute poll."""
    world.start(watch=True)
    path = world.folder("run", log="x")
    with holding(path / "run.log", os.O_WRONLY):
        world.settle(60)
        world.woken.clear()
    assert world.woken.wait(10)
    world.step(1)
    assert world.run(path).verdict == "settling"


def test_lost_events_are_made_good_by_a_rescan(world: World) -> None:
    """The kernel dropped some: what they would have told is found without them."""
    world.start(watch=True, rescan=1e9)
    world.step()
    assert world.watcher is not None
    path = world.folder("date/run")
    assert world.woken.wait(10)
    time.sleep(0.05)
    assert world.watcher.drain() != []  # and so nobody hears of it
    world.watcher.on_queue_overflow()
    world.settle(30)
    assert world.state(path) == "queued"
    assert "events-lost" in [event for event, _ in world.events]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_handler_that_raises_costs_a_rescan_and_no_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that reads events dies of it: it is replaced, everything is listed anew, and events arrive again."""
    world.start(watch=True, rescan=1e9)
    world.step()
    watcher = world.watcher
    assert watcher is not None
    thread = next(each for each in threading.enumerate() if isinstance(each, InotifyFD))
    with monkeypatch.context() as broken:
        broken.setattr(watcher, "on_event", None)
        first = world.folder("date/first")
        thread.join(10)
        assert not thread.is_alive()
    second = world.folder("date/second")  # and nobody hears of it
    world.settle(30)
    assert [world.state(path) for path in (first, second)] == ["queued", "queued"]
    assert "events-lost" in [event for event, _ in world.events]
    third = world.folder("date/third")
    world.until_event(third, State.WRITING)


def test_folders_made_while_we_look_are_all_found(world: World) -> None:
    """`mkdir -p` races with every listing and every watch: hundreds of directories, not one is missed."""
    world.start(watch=True, rescan=5.0)
    world.step()
    made: list[str] = []

    def make() -> None:
        for number in range(120):
            path = world.top / f"date-{number % 7}" / f"model-{number}" / "deep" / "run"
            os.makedirs(path / ".hydra")
            (path / "results.json").write_text("[]")
            made.append(os.path.relpath(path, world.top))

    maker = threading.Thread(target=make)
    maker.start()
    while maker.is_alive():
        world.step(0.01)
    maker.join()
    for _ in range(30):
        world.step(1.0)
    assert world.known() == sorted(made)


def test_a_thousand_levels_inside_a_folder_do_no_harm(world: World) -> None:
    """Watching stops where the walk stops, and the other folders go on."""
    path, other = world.folder("deep"), world.folder("other")
    directory = os.open(path, os.O_RDONLY)
    try:
        for _ in range(1000):
            os.mkdir("d", dir_fd=directory)
            child = os.open("d", os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = child
        world.start(watch=True).settle(20)
        assert [world.state(path), world.state(other)] == ["queued", "queued"]
        assert world.watcher is not None
        assert world.watcher.watched < 100
    finally:
        os.close(directory)
        subprocess.run(["/bin/rm", "-rf", str(path / "d")], check=True)  # shutil cannot go so deep


def test_a_delivered_folder_is_not_watched_any_more(world: World) -> None:
    """Fifty thousand finished runs cost no watches."""
    world.start(watch=True)
    path = world.folder("run")
    (path / "sub").mkdir()
    world.settle(20)
    assert world.watcher is not None
    assert world.watcher.watched_below(str(path)) > 0
    world.deliver(path)
    assert world.watcher.watched_below(str(path)) == 0


def test_a_polling_root_needs_no_watcher(world: World) -> None:
    """Where events tell nothing, the rescan finds everything, and no watch is spent."""
    world.start(RootSettings(path=str(world.top), polling=True), watch=True)
    path = world.folder("date/run")
    world.settle(90)
    assert world.state(path) == "queued"
    assert world.watcher is not None
    assert world.watcher.watched == 0
    world.deliver(path)
    (path / "more.json").touch()
    world.settle(150)
    assert world.state(path) == "writing"


# -- restarts and loops ----------------------------------------------------------------------------------------------


def test_a_restart_looks_at_nothing_that_rests_unchanged(world: World) -> None:
    """Finished rows are neither reopened nor written to."""
    world.start()
    path = world.delivered("run")
    before, events = world.run(path), len(world.events)
    version = world.store.data_version()
    world.start().settle(200)
    assert world.run(path) == before
    assert len(world.events) == events
    assert world.store.data_version() == version


def test_of_a_long_backlog_only_the_newest_are_watched(world: World) -> None:
    """What waits for a month of network costs no watch, no memory to speak of, and is judged the newest first."""
    paths = [world.folder(f"run-{number:03}") for number in range(WAITING_IN_SIGHT + 20)]
    for number, path in enumerate(paths):
        os.utime(path, (1e9 + number, 1e9 + number))
    world.start(watch=True).settle(60)
    assert world.watcher is not None
    assert world.store.counts()[State.QUEUED] == len(paths)
    in_sight = [path for path in paths if world.watcher.watched_below(str(path))]
    assert len(in_sight) == WAITING_IN_SIGHT
    completed = [world.run(path).completed_at for path in paths]
    assert completed == sorted(completed, key=lambda at: -float(at or 0))
    # One that is out of sight is looked at like what is at rest.
    (unseen, *_) = [path for path in paths if path not in in_sight]
    (unseen / "more.txt").write_text("x")
    assert world.settle(200).run(unseen).files == 3


def test_a_folder_that_is_quiet_for_long_is_judged_unwatched_unless_somebody_writes(world: World) -> None:
    """A tree of old folders costs no watches at all; one in it that is written to is watched as every other."""
    old, alive = world.folder("old"), world.folder("alive")
    world.tick += QUIET + 10.0
    world.start(watch=True)
    assert world.watcher is not None
    with open(alive / "run.log", "a"):
        world.settle(30)
        assert world.watcher.watched_below(str(alive)) == 2
    assert world.watcher.watched_below(str(old)) == 0
    assert world.state(old) == "queued"
    assert world.until_event(alive, State.QUEUED)


def test_directories_above_are_let_go_with_the_last_active_folder(world: World) -> None:
    """The day's directory is watched while something in it is, or is new; not for ever."""
    path = world.folder("day/run")
    world.tick += 2 * 86_400.0
    world.start(watch=True)
    assert world.watcher is not None
    with open(path / "run.log", "a"):
        world.settle(30)
        assert world.watcher.is_watched(str(path.parent))
    world.settle(100)
    world.deliver(path)
    world.settle(100)
    assert (world.watcher.watched, world.watcher.is_watched(str(world.top))) == (1, True)


def test_a_change_while_nobody_watched_is_found_after_the_restart(world: World) -> None:
    """In place, with no trace in any directory's time."""
    world.start()
    path = world.delivered("run")
    with (path / "results.json").open("r+") as file:
        file.write("[7]")
    world.start().settle(200)
    assert world.state(path) == "writing"


def test_a_flush_looks_at_everything_at_once(world: World) -> None:
    """No pace, no pause: after it everything that can be known is known."""
    world.start()
    path = world.delivered("run")
    with (path / "results.json").open("r+") as file:
        file.write("[7]")
    other = world.folder("other")
    world.intake.look_everywhere()
    while not world.intake.caught_up():
        world.step()
    assert (world.state(path), world.run(other).verdict) == ("writing", "settling")
    assert world.intake.settling()
    world.settle(20)
    assert world.state(other) == "queued"


def test_naming_folders_scans_nothing(world: World) -> None:
    """`upload DIR` does not take in the rest of the root."""
    path, _ = world.folder("named"), world.folder("other")
    world.start()
    world.intake.scan_nothing()
    world.settle(90)
    assert world.known() == []
    world.intake.track(str(path))
    world.settle(20)
    assert world.known() == ["named"]


def test_the_next_step_is_due_when_something_is(world: World) -> None:
    """Neither busy waiting nor oversleeping: the wait that is told leads to the decision."""
    world.start()
    path = world.folder("run")
    for _ in range(12):
        wait = world.step()
        assert 0 <= wait <= 60.0
        if world.store.by_path(str(path)) is not None and world.state(path) == "queued":
            break
        world.tick += max(wait, 0.01)
    assert world.state(path) == "queued"


def test_clocks_that_jump_lose_nothing(world: World) -> None:
    """Ten years back and forth between two steps."""
    world.start()
    first = world.folder("first")
    world.step()
    world.born -= 3652 * DAY
    world.settle(90)
    assert world.state(first) == "queued"
    second = world.folder("second")
    world.settle(90)
    world.born += 2 * 3652 * DAY
    world.settle(90)
    assert world.state(second) == "queued"


# -- a bad disk ------------------------------------------------------------------------------------------------------


def test_a_folder_on_a_bad_disk_waits_and_stops_nobody_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it fails with EIO: it is never taken for finished, nor for gone; and it goes on when the disk does."""
    bad, good = world.folder("bad"), world.folder("good")
    (bad / "shard").mkdir()
    (bad / "shard" / "file").write_text("x")
    real, failing = os.open, [True]

    def open_(path: Any, *arguments: Any, **options: Any) -> int:
        if failing[0] and os.fspath(path).endswith("shard"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_)
    world.start().settle(60)
    assert (world.state(bad), world.state(good)) == ("writing", "queued")
    assert "cannot be read (Input/output error); look at its disk" in world.run(bad).reason
    failing[0] = False
    world.settle(90)
    assert world.state(bad) == "queued"


# -- what may not be read --------------------------------------------------------------------------------------------

AS_NOBODY = """
import os, sys
sys.path[:0] = sys.argv[2:]
import pathspec
from pathlib import Path
from typing import Any
from intake_world import World
become_nobody()
world = World(Path(sys.argv[1]))
good = world.folder("good")
bad = world.folder("bad")
(bad / "sub").mkdir(mode=0)
odd = world.folder(os.fsdecode(b"odd\\xff"))
(odd / "sub").mkdir()
(odd / "sub" / "file").touch()
(odd / "sub").chmod(0o444)
shut = world.folder("shut/run")
world.start()
world.intake.track(str(shut))
os.chmod(world.top / "shut", 0)
world.settle(90)
for path in (good, bad, odd):
    run = world.run(path)
    print(run.state.value, run.reason, sep="|")
for path in (bad / "sub", odd / "sub", world.top / "shut"):
    os.chmod(path, 0o755)
world.settle(200)
print([world.state(path) for path in (good, bad, odd, shut)])
for path in (good, shut.parent):
    os.chmod(path, 0)
world.settle(200)
print([(world.state(path), world.run(path).gone) for path in (good, shut)])
for path in (good, shut.parent):
    os.chmod(path, 0o755)
world.settle(200)
print(world.state(good), world.state(shut))
world.close()
"""


SHUT_ROOT = """
import os, sys
sys.path[:0] = sys.argv[2:]
import pathspec
from pathlib import Path
from typing import Any
from intake_world import World
become_nobody()
world = World(Path(sys.argv[1]))
world.start(watch=True)
path = world.folder("run")
world.settle(20)
for mode in (0, 0o755):
    os.chmod(world.top, mode)
    world.settle(200)
    print(world.state(path), world.run(path).gone, world.intake.roots[0].problem, sep="|")
new = world.folder("new")
world.settle(90)
print(world.state(new))
world.close()
"""


SHUT_FOLDER = """
import os, sys, time
sys.path[:0] = sys.argv[2:]
import pathspec
from pathlib import Path
from intake_world import World
become_nobody()
world = World(Path(sys.argv[1]))
path = world.folder("day/run")
for each in (path.parent, world.top):
    os.utime(each, (1e9, 1e9))
os.chmod(path, 0)
world.start(watch=True)
world.settle(200)
print(world.store.by_path(str(path)), world.intake.roots[0].unreadable_words, sep="|")
print([event for event, _ in world.events].count("directory-unreadable"))
os.chmod(path, 0o755)
world.settle(90)
print(world.state(path), world.intake.roots[0].unreadable_words, sep="|")
world.close()
"""


def test_a_folder_that_nobody_could_read_yet_is_told_of_and_found_when_it_may() -> None:
    """Its permissions change, and nothing else: no event, no time of a directory above."""
    helpers = [os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..", "helpers")]
    with public_directory() as public:
        if os.geteuid() == 0:
            os.chown(public, NOBODY, NOBODY)
        shut, told, opened = run_python(SHUT_FOLDER, str(public), *helpers).splitlines()
    assert shut == f"None|{public}/outputs/day/run may not be read by this user: a run in there is not seen"
    assert told == "1"
    assert opened == "queued|None"


def test_a_root_that_may_not_be_read_says_so_and_is_taken_up_when_it_may() -> None:
    """The kernel watches nothing there without a word: the problem is told, and nothing is taken for gone."""
    helpers = [os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..", "helpers")]
    with public_directory() as public:
        if os.geteuid() == 0:
            os.chown(public, NOBODY, NOBODY)
        shut, opened, new = run_python(SHUT_ROOT, str(public), *helpers).splitlines()
    assert shut == "queued|False|it may not be read by this user"
    assert opened == "queued|False|None"
    assert new == "queued"


def test_a_folder_that_may_not_be_read_says_so_and_stops_nobody() -> None:
    """It waits with the reason, whatever its name, and goes on by itself when it may be read."""
    helpers = [os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..", "helpers")]
    with public_directory() as public:
        if os.geteuid() == 0:
            os.chown(public, NOBODY, NOBODY)
        lines = run_python(AS_NOBODY, str(public), *helpers).splitlines()
    assert lines[0].startswith("queued|")
    assert lines[1].startswith("writing|")
    assert "bad/sub may not be read by this user; give the daemon's user read and search access to it" in lines[1]
    assert lines[2].startswith("writing|")
    assert "odd?/sub/file may not be read by this user" in lines[2]
    assert lines[3] == "['queued', 'queued', 'queued', 'queued']"
    assert lines[4] == "[('queued', False), ('queued', False)]"
    assert lines[5] == "queued queued"
