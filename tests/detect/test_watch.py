"""Events of a real kernel: what arrives, what is told when events are lost, and that watching survives."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import public_directory, run_python, until

from wandb_outbox.detect.watch import PAUSE, Sighting, Watcher


class Watching:
    """A watcher with everything that it has told so far."""

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.watcher = Watcher(self.woken.set)
        self.seen: list[Sighting] = []

    def wait_for(self, directory: Path, name: str, *, appeared: bool | None = None) -> Sighting:
        """Wait until something is told of this entry."""

        def find() -> Sighting | None:
            self.seen += self.watcher.drain()
            for sighting in self.seen:
                same = (sighting.directory, sighting.name) == (str(directory), name)
                if same and appeared in (None, sighting.appeared):
                    return sighting
            return None

        found = until(find, what=f"a sighting of {directory}/{name}")
        assert found is not None
        return found

    def settle(self, directory: Path) -> list[Sighting]:
        """Everything told up to now: a last event of our own comes after all others."""
        (directory / "last").touch()
        self.wait_for(directory, "last", appeared=False)
        return [sighting for sighting in self.seen if sighting.name != "last"]


@pytest.fixture
def watching() -> Iterator[Watching]:
    """A watcher that is stopped in the end."""
    made = Watching()
    yield made
    made.watcher.stop()


def test_a_file_that_appears_and_is_closed_is_seen(watching: Watching, tmp_path: Path) -> None:
    """Its creation, and the end of its writing, each with directory and name; and the reader is woken."""
    assert watching.watcher.watch(str(tmp_path))
    with (tmp_path / "results.json").open("w") as file:
        assert watching.wait_for(tmp_path, "results.json").appeared
        file.write("[]")
    found = watching.wait_for(tmp_path, "results.json", appeared=False)
    assert found == Sighting(str(tmp_path), "results.json", is_directory=False, appeared=False)
    assert watching.woken.is_set()


def test_writing_without_closing_is_not_told_of(watching: Watching, tmp_path: Path) -> None:
    """A thousand log lines a second cost nothing: single writes are not asked for."""
    with (tmp_path / "run.log").open("w") as file:
        watching.watcher.watch(str(tmp_path))
        for _ in range(100):
            file.write("line\n")
            file.flush()
        assert watching.settle(tmp_path) == []


def test_reading_is_not_told_of(watching: Watching, tmp_path: Path) -> None:
    """Our own snapshots, and everybody's `cat`, make no events."""
    (tmp_path / "results.json").write_text("[]")
    watching.watcher.watch(str(tmp_path))
    (tmp_path / "results.json").read_text()
    os.listdir(tmp_path)
    assert watching.settle(tmp_path) == []


def test_directories_that_come_are_told_of_as_such(watching: Watching, tmp_path: Path) -> None:
    """Made or moved in: the intake has to look inside."""
    (tmp_path / "watched").mkdir()
    (tmp_path / "other").mkdir()
    watching.watcher.watch(str(tmp_path / "watched"))
    (tmp_path / "watched" / "made").mkdir()
    (tmp_path / "other").rename(tmp_path / "watched" / "moved")
    for name in ("made", "moved"):
        found = watching.wait_for(tmp_path / "watched", name)
        assert (found.is_directory, found.appeared) == (True, True)


def test_what_goes_is_told_of(watching: Watching, tmp_path: Path) -> None:
    """Deleted or moved away, file or directory."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "away").touch()
    watching.watcher.watch(str(tmp_path))
    (tmp_path / "sub").rmdir()
    (tmp_path / "file").unlink()
    (tmp_path / "away").rename(tmp_path.parent / f"{tmp_path.name}-away")
    assert watching.wait_for(tmp_path, "sub") == Sighting(str(tmp_path), "sub", is_directory=True, appeared=False)
    assert not watching.wait_for(tmp_path, "file").appeared
    assert not watching.wait_for(tmp_path, "away").appeared


def test_a_name_that_is_not_utf8_arrives_as_the_path_it_is(watching: Watching, tmp_path: Path) -> None:
    """The name of the event opens the file."""
    name = os.fsdecode(b"bad\xff")
    watching.watcher.watch(str(tmp_path))
    (tmp_path / name).touch()
    assert os.path.exists(os.path.join(str(tmp_path), watching.wait_for(tmp_path, name).name))


def test_the_same_event_many_times_is_one_sighting(watching: Watching, tmp_path: Path) -> None:
    """A file that is rewritten in a loop takes no memory while nobody drains."""
    watching.watcher.watch(str(tmp_path))
    for _ in range(200):  # two files, for the kernel itself merges equal events that follow each other
        (tmp_path / "results.json").write_text("[]")
        (tmp_path / "metrics.json").write_text("{}")
    seen = watching.settle(tmp_path)
    assert len(set(seen)) == 4
    assert len(seen) < 40


def test_watching_is_not_recursive(watching: Watching, tmp_path: Path) -> None:
    """Only the directory itself costs a watch; what is below is for others to ask for."""
    (tmp_path / "sub").mkdir()
    watching.watcher.watch(str(tmp_path))
    (tmp_path / "sub" / "file").touch()
    assert watching.settle(tmp_path) == []
    assert watching.watcher.watched == 1


def test_watching_twice_is_watching_once(watching: Watching, tmp_path: Path) -> None:
    """Asking again costs nothing."""
    assert watching.watcher.watch(str(tmp_path))
    assert watching.watcher.watch(str(tmp_path))
    assert watching.watcher.watched == 1


def test_unwatching_ends_the_events_of_a_directory_and_all_below_it(watching: Watching, tmp_path: Path) -> None:
    """An uploaded folder costs nothing any more; its neighbour with a longer name is left alone."""
    for name in ("run/sub", "run-2"):
        (tmp_path / name).mkdir(parents=True)
    for directory in (tmp_path, tmp_path / "run", tmp_path / "run" / "sub", tmp_path / "run-2"):
        watching.watcher.watch(str(directory))
    assert watching.watcher.watched_below(str(tmp_path / "run")) == 2
    watching.watcher.unwatch(str(tmp_path / "run"))
    assert watching.watcher.watched == 2
    (tmp_path / "run" / "file").touch()
    (tmp_path / "run" / "sub" / "file").touch()
    (tmp_path / "run-2" / "file").touch()
    seen = watching.settle(tmp_path)
    assert {sighting.directory for sighting in seen} == {str(tmp_path / "run-2")}


def test_a_directory_can_be_watched_again(watching: Watching, tmp_path: Path) -> None:
    """Unwatched and watched again, events arrive as before."""
    watching.watcher.watch(str(tmp_path))
    watching.watcher.unwatch(str(tmp_path))
    assert watching.watcher.watch(str(tmp_path))
    (tmp_path / "file").touch()
    watching.wait_for(tmp_path, "file")


def test_a_watched_directory_that_is_deleted_says_so(watching: Watching, tmp_path: Path) -> None:
    """It is told of without a name, it is not counted any more, and a new one in its place can be watched."""
    folder = tmp_path / "run"
    folder.mkdir()
    watching.watcher.watch(str(folder))
    folder.rmdir()
    assert not watching.wait_for(folder, "").appeared
    until(lambda: watching.watcher.watched == 0, what="the watch going")
    folder.mkdir()
    assert watching.watcher.watch(str(folder))
    (folder / "file").touch()
    watching.wait_for(folder, "file")


def test_a_moved_directory_says_so_and_is_watched_under_its_new_name(watching: Watching, tmp_path: Path) -> None:
    """The kernel's watch moves along with it: from the next watch on, events carry the new path."""
    folder, moved = tmp_path / "run", tmp_path / "renamed"
    folder.mkdir()
    watching.watcher.watch(str(folder))
    folder.rename(moved)
    watching.wait_for(folder, "")
    assert watching.watcher.watch(str(moved))
    assert watching.watcher.watched == 1
    (moved / "file").touch()
    watching.wait_for(moved, "file")
    assert not [sighting for sighting in watching.seen if sighting.name == "file" and sighting.directory == str(folder)]


def test_what_cannot_be_watched_is_refused_quietly(watching: Watching, tmp_path: Path) -> None:
    """No directory, a file, a link: `False`, and nothing is counted."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("nowhere", "file", "link"):
        assert not watching.watcher.watch(str(tmp_path / name))
    assert (watching.watcher.watched, watching.watcher.refused) == (0, 0)


def test_an_unreadable_directory_is_refused_quietly() -> None:
    """The kernel itself watches nothing there without a word."""
    with public_directory() as public:
        (public / "closed").mkdir(mode=0o000)
        code = f"""
from wandb_outbox.detect.watch import Watcher
become_nobody()
watcher = Watcher(lambda: None)
print(watcher.watch({str(public / "closed")!r}), watcher.watch({str(public)!r}), watcher.watched)
watcher.stop()
"""
        assert run_python(code).strip() == "False True 1"


# -- lost events -----------------------------------------------------------------------------------------------------


def test_a_lost_event_is_told_once(watching: Watching) -> None:
    """What the kernel's thread reports asks for one rescan, wakes the loop, and is counted for `status`."""
    assert not watching.watcher.take_overflow()
    watching.watcher.on_queue_overflow()
    assert watching.woken.is_set()
    assert watching.watcher.take_overflow()
    assert not watching.watcher.take_overflow()
    assert watching.watcher.overflows == 1


def _queue_limit() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text("ascii"))


@pytest.mark.skipif(_queue_limit() > 70_000, reason="this kernel's queue is too long to fill it in a test")
def test_a_real_overflow_is_noticed_and_watching_goes_on(tmp_path: Path) -> None:
    """While the reader is held up the kernel's queue runs over: that is told, and later events arrive again."""
    held_up, go_on = threading.Event(), threading.Event()

    def stall() -> None:
        held_up.set()
        go_on.wait(30)

    watcher = Watcher(stall)
    try:
        watcher.watch(str(tmp_path))
        (tmp_path / "first").touch()
        assert held_up.wait(10)
        for _ in range(_queue_limit() // 4 + 1100):  # four events each, and what the reader has already taken
            os.rename(tmp_path / "first", tmp_path / "second")
            os.rename(tmp_path / "second", tmp_path / "first")
        go_on.set()
        until(watcher.take_overflow, what="the overflow")
        assert watcher.overflows == 1
        watcher.drain()
        (tmp_path / "later").touch()
        until(lambda: any(sighting.name == "later" for sighting in watcher.drain()), what="a later event")
    finally:
        go_on.set()
        watcher.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_reader_is_replaced_and_all_its_watches_are_taken_up_again(tmp_path: Path) -> None:
    """When the thread dies, the next look tells to rescan, and events of every watched directory arrive again."""
    (tmp_path / "sub").mkdir()
    broken = threading.Event()

    def fail() -> None:
        if not broken.is_set():
            broken.set()
            raise RuntimeError("a broken handler")

    threads = threading.active_count()
    descriptors = len(os.listdir("/proc/self/fd"))
    watcher = Watcher(fail)
    try:
        watcher.watch(str(tmp_path))
        watcher.watch(str(tmp_path / "sub"))
        (tmp_path / "file").touch()
        until(lambda: broken.is_set() and threading.active_count() == threads, what="the end of the thread")
        assert watcher.take_overflow()
        assert not watcher.take_overflow()
        assert watcher.watched == 2
        watcher.drain()
        (tmp_path / "sub" / "file").touch()
        until(lambda: any(s.directory == str(tmp_path / "sub") for s in watcher.drain()), what="an event")
    finally:
        watcher.stop()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_stopping_ends_the_thread_and_gives_back_its_descriptors(tmp_path: Path) -> None:
    """Nothing of it is left."""
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    watcher = Watcher(lambda: None)
    watcher.watch(str(tmp_path))
    assert threading.active_count() == threads + 1
    watcher.stop()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_burst_wakes_the_thread_seldom(tmp_path: Path) -> None:
    """Thousands of closed files a second are read together: each waking of ours would be on the writer's time."""
    before = set(threading.enumerate())
    watcher = Watcher(lambda: None)
    watcher.watch(str(tmp_path))
    (thread,) = set(threading.enumerate()) - before
    began, switches = time.monotonic(), _waits(thread.native_id)
    run_python(
        "import sys, time\nfor number in range(2000):\n"
        "    open(f'{sys.argv[1]}/{number % 7}', 'w').close()\n    time.sleep(0.0002)\n"
        "open(sys.argv[1] + '/last', 'w').close()",
        str(tmp_path),
    )
    until(lambda: any(sighting.name == "last" for sighting in watcher.drain()), what="the last event")
    reads = (time.monotonic() - began) / PAUSE
    # Each read is a wait for the kernel and a pause; some more waits are for locks.
    assert _waits(thread.native_id) - switches <= 4 * reads + 20
    watcher.stop()


def _waits(thread: int | None) -> int:
    """How often a thread of ours has gone to sleep."""
    with open(f"/proc/self/task/{thread}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))
