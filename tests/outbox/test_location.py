"""Where the state lies, without any configuration file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from children import public_directory, run_python

from wandb_outbox.errors import StateUnusable
from wandb_outbox.outbox.location import StateDir, find_state_dir, prepare_state_dir


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
