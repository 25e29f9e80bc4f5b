"""Run folders below a root: found by what is in them, wherever they lie."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from children import public_directory, run_python

from wandb_outbox.detect.scan import Found, look, scan
from wandb_outbox.folder import MAX_DEPTH


def recognise(path: str, names: Collection[str]) -> str | None:
    """A directory with a file `run` is a run folder."""
    return "test" if "run" in names else None


def make(top: Path, *paths: str) -> None:
    """Make directories; those that end with `/run` are run folders."""
    for path in paths:
        if path.endswith("/run"):
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).touch()
        else:
            (top / path).mkdir(parents=True, exist_ok=True)


def names(found: list[Found], top: Path) -> list[str]:
    """The paths found, with a star for run folders."""
    return [os.path.relpath(each.path, top) + ("*" if each.format else "") for each in found]


def test_parents_come_first_and_names_in_order(tmp_path: Path) -> None:
    """A watch on the way is set before what lies below is looked at."""
    make(tmp_path, "b/1/run", "b/2", "a/deep/er/run")
    assert names(list(scan(str(tmp_path), recognise)), tmp_path) == [
        ".", "a", "a/deep", "a/deep/er*", "b", "b/1*", "b/2",
    ]  # fmt: skip


def test_a_run_folder_is_not_entered(tmp_path: Path) -> None:
    """What is in it belongs to it."""
    make(tmp_path, "a/run", "a/inner/run")
    assert names(list(scan(str(tmp_path), recognise)), tmp_path) == [".", "a*"]


def test_the_top_can_be_a_run_folder(tmp_path: Path) -> None:
    """It is asked like every other directory."""
    make(tmp_path, "a/run")
    assert names(list(scan(str(tmp_path / "a"), recognise)), tmp_path) == ["a*"]


def test_links_files_and_junk_are_not_entered(tmp_path: Path) -> None:
    """Out of the root, in circles, into caches: nowhere."""
    make(tmp_path, "top/a/run", "outside/run", "top/.git/x/run", "top/wandb/x/run", "top/__pycache__/run")
    (tmp_path / "top" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "top" / "circle").symlink_to(".")
    (tmp_path / "top" / "file").touch()
    os.mkfifo(tmp_path / "top" / "fifo")
    top = tmp_path / "top"
    assert names(list(scan(str(top), recognise)), top) == [".", "a*", "wandb"]


def test_only_offline_runs_are_looked_for_in_the_sdks_own_directory(tmp_path: Path) -> None:
    """And only where no run folder is around it: there they belong to the folder."""
    make(
        tmp_path, "bare/wandb/offline-run-1/run", "bare/wandb/run-2/run", "folder/run", "folder/wandb/offline-run-3/run"
    )
    found = names(list(scan(str(tmp_path), recognise)), tmp_path)
    assert found == [".", "bare", "bare/wandb", "bare/wandb/offline-run-1*", "folder*"]


def test_nested_roots_and_known_folders_are_left_out(tmp_path: Path) -> None:
    """Whoever owns or knows them looks at them."""
    make(tmp_path, "a/run", "b/run", "c/run")
    found = list(scan(str(tmp_path), recognise, others={str(tmp_path / "a")}, known={str(tmp_path / "b")}))
    assert names(found, tmp_path) == [".", "c*"]


def test_the_time_is_not_newer_than_the_listing(tmp_path: Path) -> None:
    """What changes after it shows as a newer time at the next look."""
    make(tmp_path, "a/run")
    found, children = look(str(tmp_path), recognise)
    assert found is not None
    assert (found.mtime_ns, children) == (tmp_path.stat().st_mtime_ns, [str(tmp_path / "a")])


def test_what_vanishes_in_the_scan_is_passed_over(tmp_path: Path) -> None:
    """The scan goes on with the rest."""
    make(tmp_path, "a/x/run", "b/x/run")
    found = []
    for each in scan(str(tmp_path), recognise):
        found.append(each)
        if each.path.endswith("/a"):
            shutil.rmtree(tmp_path / "a")
    assert names(found, tmp_path) == [".", "a", "b", "b/x*"]


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    """No directory, a file: no exception."""
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        assert look(str(tmp_path / name), recognise) == (None, [])
        assert list(scan(str(tmp_path / name), recognise)) == []


def test_a_directory_that_may_not_be_read_is_passed_over() -> None:
    """Somebody else's private directory does not hide the rest."""
    with public_directory() as public:
        make(public, "a/run", "b/run", "c/run")
        (public / "b").chmod(0o000)
        code = f"""
from wandb_outbox.detect.scan import scan
become_nobody()
print([found.path for found in scan({str(public)!r}, lambda path, names: "x" if "run" in names else None)])
"""
        assert run_python(code).strip() == str([str(public), str(public / "a"), str(public / "c")])


def test_endless_directories_have_an_end(tmp_path: Path) -> None:
    """A thousand levels are not followed to the bottom."""
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1000):
            os.mkdir("d", dir_fd=directory)
            child = os.open("d", os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = child
        assert len(list(scan(str(tmp_path), recognise))) == MAX_DEPTH + 1
    finally:
        os.close(directory)
        subprocess.run(["/bin/rm", "-rf", str(tmp_path / "d")], check=True)
