"""Where the state lies, without any configuration file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import public_directory, run_python

from wandb_outbox.errors import StateUnusable
from wandb_outbox.outbox.location import StateDir, find_state_dir, prepare_state_dir, share_state
from wandb_outbox.outbox.lock import ExecutorLock
from wandb_outbox.outbox.store import Store


@pytest.mark.parametrize(
    ("environ", "option", "expected"),
    [
        ({"WANDB_OUTBOX_STATE_DIR": "/e", "STATE_DIRECTORY": "/s", "HOME": "/h"}, "/o", "/o"),
        ({"WANDB_OUTBOX_STATE_DIR": "/e", "STATE_DIRECTORY": "/s", "HOME": "/h"}, None, "/e"),
        ({"STATE_DIRECTORY": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}, None, "/s"),
        ({"STATE_DIRECTORY": "/s1:/s2", "HOME": "/h"}, None, "/s1"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, None, "/x/wandb-outbox"),
        ({"HOME": "/h"}, None, "/h/.local/state/wandb-outbox"),
        ({"WANDB_OUTBOX_STATE_DIR": "", "STATE_DIRECTORY": "", "HOME": "/h"}, "", "/h/.local/state/wandb-outbox"),
        ({}, None, "/.local/state/wandb-outbox"),
    ],
)
def test_option_beats_environment_beats_service_beats_home(
    environ: dict[str, str], option: str | None, expected: str
) -> None:
    """An empty variable counts as none."""
    assert find_state_dir(environ, option).path == expected


def test_the_path_is_the_real_one(tmp_path: Path) -> None:
    """Through a link or not, two commands find the same lock."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert find_state_dir({}, str(tmp_path / "link")) == find_state_dir({}, str(tmp_path / "real"))


def test_the_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    """With its parents, mode 0700, and again without complaint."""
    where = StateDir(str(tmp_path / "a" / "b"))
    prepare_state_dir(where)
    prepare_state_dir(where)
    for path in (where.path, where.uploader):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_everything_lies_inside(tmp_path: Path) -> None:
    """Database, lock and the uploader's directory."""
    where = StateDir(str(tmp_path))
    assert {os.path.dirname(path) for path in (where.database, where.lock, where.uploader)} == {str(tmp_path)}


def test_a_directory_that_cannot_be_made_is_told_with_the_way_out(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(StateUnusable, match="cannot be made") as told:
        prepare_state_dir(StateDir(str(tmp_path / "file" / "state")))
    assert "--state-dir" in told.value.hint


def test_a_directory_of_somebody_else_is_told_with_the_way_out() -> None:
    """It is there, and we may not write to it."""
    with public_directory() as public:
        prepare_state_dir(StateDir(str(public)))
        public.chmod(0o555)
        code = f"""
from wandb_outbox.errors import StateUnusable
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
become_nobody()
try:
    prepare_state_dir(StateDir({str(public)!r}))
except StateUnusable as error:
    print(error.message, error.hint, sep="|")
"""
        assert "may not be written by this user|run the command as its owner" in run_python(code)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs procfs")
def test_a_network_file_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks may lie there; procfs stands for one, as none can be mounted here."""
    monkeypatch.setattr("wandb_outbox.detect.mounts.REMOTE_TYPES", frozenset({"proc"}))
    with pytest.raises(StateUnusable, match="network file system") as told:
        prepare_state_dir(StateDir("/proc/self/state"))
    assert "local disk" in told.value.hint


# -- state_group -------------------------------------------------------------------------------------------------------


def modes(where: StateDir) -> dict[str, str]:
    """The permissions of the directory and of all in it."""
    names = [where.path, *(os.path.join(where.path, name) for name in sorted(os.listdir(where.path)))]
    return {os.path.relpath(name, where.path): f"{stat.S_IMODE(os.stat(name).st_mode):o}" for name in names}


PRIVATE = {
    ".": "700",
    "lock": "600",
    "outbox.db": "600",
    "outbox.db-shm": "600",
    "outbox.db-wal": "600",
    "uploader": "700",
}
SHARED = {
    ".": "750",
    "lock": "640",
    "outbox.db": "640",
    "outbox.db-shm": "640",
    "outbox.db-wal": "640",
    "uploader": "700",
}


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[StateDir]:
    """Give a state directory with everything that an executor makes in it."""
    where = StateDir(str(tmp_path / "state"))
    prepare_state_dir(where)
    lock = ExecutorLock(where, now=1.0, command="watch")
    store = Store.open(where)
    yield where
    store.close()
    lock.release()


def test_the_state_is_shared_with_a_group_and_taken_back(at_work: StateDir) -> None:
    """With ``state_group`` its people may read all but what the uploader keeps; without it nobody may again."""
    assert modes(at_work) == PRIVATE
    for group in (str(os.getgid()), None, str(os.getgid())):
        for _ in range(2):
            share_state(at_work, group)
            assert modes(at_work) == (PRIVATE if group is None else SHARED)


@pytest.mark.parametrize("done", [("outbox.db",), ("outbox.db", "outbox.db-wal", "outbox.db-shm", "lock")])
@pytest.mark.parametrize("group", [str(os.getgid()), None])
def test_sharing_that_was_interrupted_is_brought_to_its_end(
    at_work: StateDir, done: tuple[str, ...], group: str | None
) -> None:
    """Whether it died while it opened the state or while it closed it: the next start does all of it."""
    for name in done:
        os.chmod(os.path.join(at_work.path, name), 0o640)
    share_state(at_work, group)
    assert modes(at_work) == (PRIVATE if group is None else SHARED)


def test_a_directory_that_was_never_shared_keeps_its_mode(at_work: StateDir) -> None:
    """A state directory that somebody made for us, open or not, is theirs to decide on."""
    Path(at_work.path).chmod(0o755)
    share_state(at_work, None)
    assert modes(at_work) == PRIVATE | {".": "755"}


def test_what_sqlite_makes_later_is_shared_too(tmp_path: Path) -> None:
    """The journal goes when the last connection closes; the one that the next makes is open to the group again."""
    where = StateDir(str(tmp_path / "state"))
    prepare_state_dir(where)
    Store.open(where).close()
    Path(where.lock).touch()
    share_state(where, str(os.getgid()))
    assert not os.path.exists(where.database + "-wal")
    store = Store.open(where)
    assert modes(where) == SHARED | {"lock": "640"}
    store.close()


def test_a_group_that_does_not_exist_is_told(at_work: StateDir) -> None:
    """By its name, and with the way out; nothing was opened."""
    with pytest.raises(StateUnusable, match="there is no group 'no-such-people'") as told:
        share_state(at_work, "no-such-people")
    assert "leave the setting out" in told.value.hint
    assert modes(at_work) == PRIVATE
