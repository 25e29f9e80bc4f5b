"""The walk of a run folder: what it takes, what it leaves out and why, and that nothing in a folder can hurt it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from children import public_directory, run_python
from hypothesis import given
from hypothesis import strategies as st
from unhurried import unhurried

from wandb_outbox.errors import FolderChanged, Rejected
from wandb_outbox.folder import (
    MAX_DEPTH,
    FolderGone,
    FolderUnreadable,
    Selection,
    birth_of,
    default_selector,
    open_file,
    read_file,
    read_tail,
    snapshot,
)
from wandb_outbox.model import FileStat, Snapshot, fingerprint

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


def put(folder: Path, name: str, content: str = "x") -> Path:
    """Write a file, with the directories above it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def taken(found: Snapshot) -> list[str]:
    """The paths that would be uploaded."""
    return [file.path for file in found.files]


def left_out(found: Snapshot) -> dict[str, str]:
    """What would not be uploaded, and why."""
    return {item.path: item.reason for item in found.excluded}


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users may look into."""
    with public_directory() as path:
        yield path


# -- what is taken ---------------------------------------------------------------------------------------------------


def test_every_regular_file_is_taken_with_its_size_and_times(tmp_path: Path) -> None:
    """The snapshot holds each file at any depth as stat(2) shows it, sorted by path."""
    put(tmp_path, "b/c/deep.json", "12345")
    info = put(tmp_path, "a.json", "1").stat()
    found = snapshot(str(tmp_path))
    assert taken(found) == ["a.json", "b/c/deep.json"]
    assert found.files[0] == FileStat("a.json", 1, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
    assert found.directories == ("b", "b/c")
    assert found.bytes == 6
    assert found.excluded == ()


def test_an_empty_folder_has_an_empty_snapshot(tmp_path: Path) -> None:
    """No file is no error: what follows from it is for others to say."""
    found = snapshot(str(tmp_path))
    assert (found.files, found.bytes) == ((), 0)
    assert found.newest_ctime_ns == tmp_path.stat().st_ctime_ns


def test_the_newest_ctime_also_counts_what_is_left_out(tmp_path: Path) -> None:
    """Writing into an excluded file is a sign of life, too."""
    put(tmp_path, "a.json")
    secret = put(tmp_path, ".env")
    os.utime(secret, (1, 1))
    assert snapshot(str(tmp_path)).newest_ctime_ns == secret.stat().st_ctime_ns


def test_wandbs_own_directory_is_no_sign_of_life(tmp_path: Path) -> None:
    """What happens below wandb/ neither changes the fingerprint nor makes the folder younger."""
    put(tmp_path, "a.json")
    (tmp_path / "wandb").mkdir()
    before = snapshot(str(tmp_path))
    time.sleep(0.02)
    put(tmp_path, "wandb/run-1/run-1.wandb")
    after = snapshot(str(tmp_path))
    assert after.fingerprint == before.fingerprint
    assert after.newest_ctime_ns == before.newest_ctime_ns


def test_names_with_newlines_and_other_oddities_are_taken(tmp_path: Path) -> None:
    """A valid name is a name, whatever it looks like."""
    names = ["a\nb", "-rf", " ", "$(reboot)", "\u202e", "ünï 🦆", "back\\slash", "*", "\x01"]
    for name in names:
        put(tmp_path, name)
    assert sorted(taken(snapshot(str(tmp_path)))) == sorted(names)


def test_names_that_are_not_utf8_are_left_out_with_the_reason(tmp_path: Path) -> None:
    """W&B cannot hold such a name; the person is told, and the rest is taken."""
    put(tmp_path, "good")
    put(tmp_path, os.fsdecode(b"bad\xff"))
    put(tmp_path, os.fsdecode(b"dir\xfe/file"))
    found = snapshot(str(tmp_path))
    assert taken(found) == ["good"]
    assert left_out(found) == {
        os.fsdecode(b"bad\xff"): "its name is not valid UTF-8",
        os.fsdecode(b"dir\xfe"): "its name is not valid UTF-8",
    }


def test_a_sparse_terabyte_costs_nothing_to_look_at(tmp_path: Path) -> None:
    """Only the size is read, never the content."""
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(2**40)
    began = time.monotonic()
    assert snapshot(str(tmp_path)).bytes == 2**40
    assert time.monotonic() - began < 1


def test_directories_that_are_too_deep_are_left_out_with_the_reason(tmp_path: Path) -> None:
    """A thousand levels neither overflow a stack nor use up the descriptors."""
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1000):
            os.mkdir("d", dir_fd=directory)
            child = os.open("d", os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = child
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
        put(tmp_path, "top.json")
        open_before = len(os.listdir("/proc/self/fd"))
        found = snapshot(str(tmp_path))
        assert len(os.listdir("/proc/self/fd")) == open_before
    finally:
        os.close(directory)
        subprocess.run(["/bin/rm", "-rf", str(tmp_path / "d")], check=True)
    assert taken(found) == ["top.json"]
    assert list(left_out(found).values()) == [f"deeper than {MAX_DEPTH} levels"]


def test_more_files_than_w_and_b_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of countless files is refused with the way out, not walked into the ground."""
    monkeypatch.setattr("wandb_outbox.folder.MAX_FILES", 10)
    for number in range(11):
        put(tmp_path, f"{number}")
    with pytest.raises(Rejected, match="more than 10 files") as told:
        snapshot(str(tmp_path))
    assert "exclude" in told.value.hint


# -- links and things that are no files ------------------------------------------------------------------------------


def test_links_are_left_out_wherever_they_lead(tmp_path: Path) -> None:
    """Dangling, cyclic, out of the folder, to a directory or to a file beside it: no link is followed."""
    outside = put(tmp_path, "outside/secret.txt")
    folder = tmp_path / "run"
    put(folder, "real.json")
    (folder / "sub").mkdir()
    links = {
        "dangling": "nowhere",
        "itself": "itself",
        "up": "..",
        "sub/cycle": "../sub",
        "out": str(outside),
        "outdir": str(outside.parent),
        "beside": "real.json",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    found = snapshot(str(folder))
    assert taken(found) == ["real.json"]
    assert left_out(found) == dict.fromkeys(links, "a symbolic link")


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """The run folder itself must be a directory, not a way to one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(FolderGone):
        snapshot(str(tmp_path / "link"))


def test_a_directory_swapped_for_a_link_in_the_walk_leads_nowhere(tmp_path: Path) -> None:
    """Between the look and the step inside, a directory becomes a link to the outside: nothing from there is taken."""
    put(tmp_path, "outside/secret.txt")
    folder = tmp_path / "run"
    put(folder, "sub/file.txt")

    def swap(path: str, is_directory: bool) -> str | None:
        if is_directory and not (folder / path).is_symlink():
            shutil.rmtree(folder / path)
            (folder / path).symlink_to(tmp_path / "outside")
        return None

    assert taken(snapshot(str(folder), swap)) == []


def test_a_file_swapped_for_a_link_is_not_opened(tmp_path: Path) -> None:
    """What was a file in the snapshot and is a link now is refused, at every level."""
    put(tmp_path, "outside/secret.txt")
    folder = tmp_path / "run"
    put(folder, "sub/secret.txt")
    shutil.rmtree(folder / "sub")
    (folder / "sub").symlink_to(tmp_path / "outside")
    (folder / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    for name in ("sub/secret.txt", "link.txt"):
        with pytest.raises(FolderChanged):
            open_file(str(folder), name)


def test_fifos_sockets_and_devices_are_left_out_without_a_hang(tmp_path: Path) -> None:
    """Only regular files count; a FIFO that nobody writes to blocks nobody."""
    os.mkfifo(tmp_path / "fifo")
    kinds = ["fifo", "socket"]
    directory = os.open(tmp_path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/socket")
    os.close(directory)
    if os.geteuid() == 0:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        kinds.append("null")
    found = snapshot(str(tmp_path))
    assert taken(found) == []
    assert left_out(found) == dict.fromkeys(kinds, "not a regular file")


def test_a_fifo_in_a_files_place_is_refused_at_once(tmp_path: Path) -> None:
    """Opening never waits for a writer."""
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(FolderChanged, match="not a regular file any more"):
        open_file(str(tmp_path), "results.json")


@is_root
def test_another_file_system_below_the_folder_is_left_out(public: Path) -> None:
    """What is mounted into a run folder does not belong to it."""
    (public / "mounted").mkdir()
    put(public, "own.json")
    code = f"""
import ctypes, json
from wandb_outbox.folder import snapshot
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0
assert libc.mount(b"tmpfs", {os.fsencode(public / "mounted")!r}, b"tmpfs", 0, None) == 0
open({str(public / "mounted" / "theirs")!r}, "w").close()
found = snapshot({str(public)!r})
print([file.path for file in found.files], [(item.path, item.reason) for item in found.excluded])
"""
    assert run_python(code).strip() == "['own.json'] [('mounted', 'on another file system')]"


@is_root
def test_layers_of_an_overlay_are_no_other_file_systems(public: Path) -> None:
    """Where they lie on several, its files have other device numbers than their directories; a mounted file still counts."""
    for name in ("lower/run", "layer", "merged"):
        (public / name).mkdir(parents=True)
    put(public, "lower/run/early")
    code = f"""
import ctypes, os
from wandb_outbox.folder import Selection, snapshot
libc = ctypes.CDLL(None, use_errno=True)
os.chdir({str(public)!r})
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0
assert libc.mount(b"tmpfs", b"layer", b"tmpfs", 0, None) == 0
os.mkdir("layer/upper"), os.mkdir("layer/work")
options = b"lowerdir=lower,upperdir=layer/upper,workdir=layer/work,xino=off"
assert libc.mount(b"overlay", b"merged", b"overlay", 0, options) == 0
os.mkdir("merged/run/left")
for name in ("late", "theirs", "left/out"):
    open("merged/run/" + name, "w").close()
assert libc.mount(b"/dev/null", b"merged/run/theirs", None, 0x1000, None) == 0
assert os.stat("merged/run").st_dev not in (os.stat("merged/run/late").st_dev, os.stat("merged/run/early").st_dev)
found = snapshot("merged/run", Selection(exclude=("left/",)).selector())
print(sorted(file.path for file in found.files), sorted(item.path for item in found.excluded), list(found.watched))
"""
    assert run_python(code).strip() == "['early', 'late'] ['left/', 'theirs'] ['left/out']"


# -- what may not be read, and what vanishes -------------------------------------------------------------------------


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    """Gone, and no directory, are told apart from unreadable."""
    with pytest.raises(FolderGone, match="is not there"):
        snapshot(str(tmp_path / "nowhere"))
    put(tmp_path, "file")
    with pytest.raises(FolderGone, match="is not a directory"):
        snapshot(str(tmp_path / "file"))


def _look_as_nobody(folder: Path, what: str) -> str:
    return run_python(
        f"""
from wandb_outbox.folder import snapshot, open_file, FolderUnreadable, FolderGone
become_nobody()
try:
    print({what})
except (FolderUnreadable, FolderGone) as error:
    print(type(error).__name__, error.message, error.hint, sep="|")
""".replace("FOLDER", repr(str(folder)))
    )


def test_a_subfolder_that_may_be_listed_but_not_searched_is_named(public: Path) -> None:
    """Its names are seen and its files are not: that is not the whole folder either."""
    put(public, "run/sub/file")
    (public / "run" / "sub").chmod(0o444)
    told = _look_as_nobody(public / "run", "snapshot(FOLDER)")
    assert told.startswith(f"FolderUnreadable|{public}/run/sub/file may not be read by this user|")


def test_a_trouble_of_the_machine_is_no_proof_that_the_folder_is_gone(tmp_path: Path) -> None:
    """With no descriptor left, or a disk that fails, the folder is unreadable: it is not given up."""
    put(tmp_path, "run/a/b/c/file")
    code = f"""
import os, resource
from wandb_outbox.folder import FolderUnreadable, snapshot
free = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
try:
    print(snapshot({str(tmp_path / "run")!r}))
except FolderUnreadable as error:
    print(error.message)
"""
    assert "cannot be read (Too many open files)" in run_python(code)


@pytest.mark.parametrize("closed", [".", "sub"])
def test_a_folder_or_subfolder_that_may_not_be_read_is_named(public: Path, closed: str) -> None:
    """An upload without that part would not be the whole folder, so there is no snapshot of it."""
    folder = public / "run"
    put(folder, "sub/file")
    (folder / closed).chmod(0o000)
    told = _look_as_nobody(folder, "snapshot(FOLDER)").strip().split("|")
    named = folder if closed == "." else folder / closed
    assert told == [
        "FolderUnreadable",
        f"{named} may not be read by this user",
        "give the daemon's user read and search access to it",
    ]


def test_a_file_that_may_not_be_read_is_in_the_snapshot_and_says_so_when_opened(public: Path) -> None:
    """Its size is known without reading it; reading it names the file and the way out."""
    put(public, "run/closed.json").chmod(0o000)
    folder = public / "run"
    assert _look_as_nobody(folder, "[file.path for file in snapshot(FOLDER).files]").strip() == "['closed.json']"
    told = _look_as_nobody(folder, "open_file(FOLDER, 'closed.json')").strip().split("|")
    assert told[:2] == ["FolderUnreadable", f"{folder}: closed.json may not be read by this user"]
    assert "exclude it" in told[2]


def test_a_folder_below_one_that_may_not_be_searched_is_unreadable(public: Path) -> None:
    """A closed parent is no proof that the folder is gone."""
    put(public, "above/run/file")
    (public / "above").chmod(0o000)
    told = _look_as_nobody(public / "above" / "run", "snapshot(FOLDER)")
    assert told.startswith("FolderUnreadable|")


def test_files_and_folders_that_vanish_in_the_walk_are_passed_over(tmp_path: Path) -> None:
    """Between listing and looking everything else is deleted: what is left is the snapshot."""
    for name in ("a", "b", "c", "d1/x", "d2/x"):
        put(tmp_path, name)
    kept: list[str] = []

    def delete_the_others(path: str, is_directory: bool) -> str | None:
        if is_directory:
            shutil.rmtree(tmp_path / path)
        elif not kept:
            kept.append(path)
            for name in {"a", "b", "c"} - {path}:
                (tmp_path / name).unlink()
        return None

    assert taken(snapshot(str(tmp_path), delete_the_others)) == kept


def test_reading_ends_at_its_limit(tmp_path: Path) -> None:
    """A file that is larger than expected is refused, not read into memory; its tail can be had."""
    put(tmp_path, "big", "0123456789")
    assert read_file(str(tmp_path), "big", 10) == b"0123456789"
    with pytest.raises(Rejected, match="larger than 9 bytes"):
        read_file(str(tmp_path), "big", 9)
    assert read_tail(str(tmp_path), "big", 3) == b"789"
    assert read_tail(str(tmp_path), "big", 30) == b"0123456789"


def test_opening_a_file_leaves_no_descriptor_behind_when_it_fails(tmp_path: Path) -> None:
    """A thousand refused files cost no descriptor."""
    put(tmp_path, "a/b/c")
    os.mkfifo(tmp_path / "a" / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a/b/none", "a/none/c", "none", "a/fifo", "a/b"):
        with pytest.raises(FolderChanged):
            open_file(str(tmp_path), name)
    assert len(os.listdir("/proc/self/fd")) == before


# -- what is left out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "server.pem", "sub/tls.key", "id_rsa", "id_ed25519.pub", ".netrc", "_netrc", ".pgpass",
     "credentials", "credentials.json", "kubeconfig", ".git-credentials", ".pypirc", ".npmrc", "vault.kdbx", "a.p12",
     ".ENV", "server.PEM", "ID_RSA", ".netrc~", "prod.env", "secrets.yaml", "service-account-1.json"],
)  # fmt: skip
def test_what_could_hold_credentials_is_left_out(tmp_path: Path, name: str) -> None:
    """No file that usually holds a secret leaves the machine, and the plan can say so."""
    put(tmp_path, name)
    found = snapshot(str(tmp_path))
    assert taken(found) == []
    assert left_out(found) == {name: "could hold credentials"}


@pytest.mark.parametrize("name", ["a:b", "c:", "\\\\server", "x\\..\\y"])
def test_a_name_that_the_sdk_refuses_is_left_out(tmp_path: Path, name: str) -> None:
    """It would cost the whole folder its upload; a colon or a backslash elsewhere is fine, and an open file still counts."""
    fine = ["cuda:0.log", "log_12:30:45.txt", "sub/a:b", "x\\y"]
    for each in (name, *fine):
        put(tmp_path, each)
    found = snapshot(str(tmp_path))
    assert taken(found) == sorted(fine)
    assert list(left_out(found)) == [name]
    assert found.watched == (name,)


@pytest.mark.parametrize(
    ("directory", "reason"),
    [(".ssh", "could hold credentials"), (".aws", "could hold credentials"), (".kube", "could hold credentials"),
     (".git", "a cache or version control"), ("sub/__pycache__", "a cache or version control"),
     ("wandb", "W&B's own directory")],
)  # fmt: skip
def test_directories_of_secrets_and_junk_are_not_entered(tmp_path: Path, directory: str, reason: str) -> None:
    """Such a directory is left out as one, with its reason."""
    put(tmp_path, f"{directory}/file.json")
    found = snapshot(str(tmp_path))
    assert taken(found) == []
    assert left_out(found) == {directory + "/": reason}


@pytest.mark.parametrize("name", ["a.pyc", ".DS_Store", ".nfs0001", ".outbox-done"])
def test_junk_is_left_out(tmp_path: Path, name: str) -> None:
    """What is no result is not sent."""
    put(tmp_path, name)
    assert left_out(snapshot(str(tmp_path))) == {name: "not a result"}


@pytest.mark.parametrize(
    "name", ["results.json", "wandb.json", "keys.json", "environment.yaml", "sub/wandb/x", "monkey", "id_map.json"]
)
def test_results_with_similar_names_are_taken(tmp_path: Path, name: str) -> None:
    """The rules for secrets do not swallow results."""
    put(tmp_path, name)
    assert taken(snapshot(str(tmp_path))) == [name]


def test_exclude_patterns_are_those_of_gitignore(tmp_path: Path) -> None:
    """Names at any level, anchored paths, whole directories."""
    for name in ("a.bin", "sub/b.bin", "top.txt", "sub/top.txt", "checkpoints/c.pt", "keep.json"):
        put(tmp_path, name)
    found = snapshot(str(tmp_path), Selection(exclude=("*.bin", "/top.txt", "checkpoints/")).selector())
    assert taken(found) == ["keep.json", "sub/top.txt"]
    assert set(left_out(found).values()) == {"excluded by the configuration"}


def test_include_wins_over_exclude_and_over_the_rules_for_secrets(tmp_path: Path) -> None:
    """A person can take a file that only looks like a secret; everything else stays out."""
    for name in ("public.pem", "private.pem", "a.bin", "best.bin"):
        put(tmp_path, name)
    selection = Selection(exclude=("*.bin",), include=("public.pem", "best.bin"))
    assert taken(snapshot(str(tmp_path), selection.selector())) == ["best.bin", "public.pem"]


@pytest.mark.parametrize("directory", ["checkpoints", "checkpoints/deep/er", ".cache", ".git", ".aws", "sub/.cache"])
def test_include_reaches_into_a_directory_that_it_names(tmp_path: Path, directory: str) -> None:
    """One file of a directory that is left out can be taken, whoever leaves it out, and only that file."""
    for name in (f"{directory}/best.pt", f"{directory}/other.pt", "best.pt", "other/best.pt"):
        put(tmp_path, name)
    selection = Selection(exclude=("checkpoints/",), include=(f"{directory}/best.pt",))
    found = snapshot(str(tmp_path), selection.selector())
    assert taken(found) == sorted(["best.pt", f"{directory}/best.pt", "other/best.pt"])
    (excluded,) = found.excluded
    assert f"{directory}/".startswith(excluded.path)


def test_include_without_a_directory_does_not_reach_into_what_is_left_out(tmp_path: Path) -> None:
    """Every `*.json` means those of the results, and not those of some cache."""
    for name in ("a.json", ".cache/b.json", ".git/c.json", "checkpoints/d.json", "wandb/e.json"):
        put(tmp_path, name)
    found = snapshot(str(tmp_path), Selection(exclude=("*.json", "checkpoints/"), include=("a.json",)).selector())
    assert taken(found) == ["a.json"]
    wide = snapshot(str(tmp_path), Selection(exclude=("checkpoints/",), include=("*.json",)).selector())
    assert taken(wide) == ["a.json"]


def test_no_patterns_mean_the_plain_rules() -> None:
    """Without patterns the default is used as it is, and the pattern library is not loaded."""
    assert Selection().selector() is default_selector


# -- logs that are left out still tell of a writer -------------------------------------------------------------------


def test_files_left_out_are_still_watched_for_writers(tmp_path: Path) -> None:
    """A living experiment holds its log open, whether the log is uploaded or not; secrets are not touched."""
    for name in ("run.log", "events.out.tfevents.1", "keep.json", ".env", "wandb/run-1/run-1.wandb", "wandb/x"):
        put(tmp_path, name)
    found = snapshot(str(tmp_path), Selection(exclude=("*.log", "*.tfevents.*")).selector())
    assert taken(found) == ["keep.json"]
    assert sorted(found.watched) == ["events.out.tfevents.1", "run.log", "wandb/run-1/run-1.wandb", "wandb/x"]


def test_directories_that_a_person_leaves_out_are_watched_for_writers(tmp_path: Path) -> None:
    """Who excludes the directory of the event files still does not want half a run; caches and `.git` are nobody's sign."""
    for name in ("tb/deep/events.out.tfevents.1", "tb/.env", "tb/.git/index", ".git/index", ".cache/lock", "keep.json"):
        put(tmp_path, name)
    found = snapshot(str(tmp_path), Selection(exclude=("tb/",)).selector())
    assert (taken(found), found.watched) == (["keep.json"], ("tb/deep/events.out.tfevents.1",))
    assert [(each.path, each.reason) for each in found.excluded if each.path.startswith("tb")] == [
        ("tb/", "excluded by the configuration")
    ]


def test_a_change_in_a_directory_that_is_left_out_is_no_change_of_the_run(tmp_path: Path) -> None:
    """Neither of its content nor of its quiet time: only an open file there counts."""
    put(tmp_path, "keep.json")
    put(tmp_path, "tb/events")
    selector = Selection(exclude=("tb/",)).selector()
    before = snapshot(str(tmp_path), selector)
    (tmp_path / "tb" / "events").write_text("more")
    after = snapshot(str(tmp_path), selector)
    assert (after.fingerprint, after.newest_ctime_ns) == (before.fingerprint, before.newest_ctime_ns)


def test_a_data_set_that_is_left_out_is_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files it holds, a look stays short; what a pattern includes is found in all of it."""
    monkeypatch.setattr("wandb_outbox.folder.MAX_LEFT_OUT", 5)
    for number in range(30):
        put(tmp_path, f"data/{number // 10}/{number}.bin")
    assert len(snapshot(str(tmp_path), Selection(exclude=("data/",)).selector()).watched) == 5
    found = snapshot(str(tmp_path), Selection(exclude=("data/",), include=("data/2/29.bin",)).selector())
    assert taken(found) == ["data/2/29.bin"]


def test_a_directory_that_is_left_out_may_be_unreadable() -> None:
    """Leaving it out is how a person says that it does not matter; not so where something in it is included."""
    with public_directory() as public:
        put(public, "keep.json")
        put(public, "shut/a")
        (public / "shut").chmod(0)
        code = f"""
import pathspec
from wandb_outbox.errors import OutboxError
from wandb_outbox.folder import Selection, snapshot
selectors = [Selection(("shut/",)).selector(), Selection(("shut/",), ("shut/a",)).selector()]
become_nobody()
print([file.path for file in snapshot({str(public)!r}, selectors[0]).files])
try:
    snapshot({str(public)!r}, selectors[1])
except OutboxError as error:
    print(error.message.rpartition("/")[2])
"""
        assert run_python(code).splitlines() == ["['keep.json']", "shut may not be read by this user"]


def test_a_file_whose_name_is_not_utf8_is_watched_for_writers(tmp_path: Path) -> None:
    """It cannot be sent, but who writes it writes the run."""
    name = os.fsdecode(b"log\xff")
    put(tmp_path, name)
    assert snapshot(str(tmp_path)).watched == (name,)


# -- fingerprint and identity ----------------------------------------------------------------------------------------

stats = st.builds(
    FileStat, st.text(min_size=1, max_size=8), st.integers(0, 2**50), st.integers(0, 2**62), st.just(0), st.just(0)
)


@unhurried
@given(st.lists(stats, unique_by=lambda file: file.path), st.randoms(use_true_random=False))
def test_the_fingerprint_does_not_depend_on_the_order(files: list[FileStat], random: Random) -> None:
    """Two walks that list the same files differently see the same content."""
    assert fingerprint(random.sample(files, len(files))) == fingerprint(files)


@unhurried
@given(st.lists(stats, unique_by=lambda file: file.path), st.lists(stats, unique_by=lambda file: file.path))
def test_the_fingerprint_tells_path_size_and_mtime_apart(one: list[FileStat], other: list[FileStat]) -> None:
    """Equal fingerprints mean equal (path, size, mtime) of every file."""
    keys = [sorted((file.path, file.size, file.mtime_ns) for file in files) for files in (one, other)]
    assert (fingerprint(one) == fingerprint(other)) == (keys[0] == keys[1])


def test_the_fingerprint_ignores_ctime_and_inode(tmp_path: Path) -> None:
    """A restored backup of the same files is the same content."""
    original = put(tmp_path, "a/results.json", "content")
    (tmp_path / "b").mkdir()
    shutil.copy2(original, tmp_path / "b" / "results.json")
    first, second = snapshot(str(tmp_path / "a")), snapshot(str(tmp_path / "b"))
    assert first.fingerprint == second.fingerprint
    assert not first.same_bytes_as(second)


def test_size_mtime_and_path_each_change_the_fingerprint(tmp_path: Path) -> None:
    """Any of the three is a change."""
    path = put(tmp_path, "a", "1")
    seen = [snapshot(str(tmp_path)).fingerprint]
    before = path.stat()
    path.write_text("12")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    seen.append(snapshot(str(tmp_path)).fingerprint)
    os.utime(path, ns=(0, before.st_mtime_ns + 1))
    seen.append(snapshot(str(tmp_path)).fingerprint)
    path.rename(tmp_path / "b")
    seen.append(snapshot(str(tmp_path)).fingerprint)
    assert len(set(seen)) == 4


def test_a_write_that_puts_the_mtime_back_is_seen(tmp_path: Path) -> None:
    """The fingerprint cannot see it; the comparison of two snapshots around an upload can, by the ctime."""
    path = put(tmp_path, "a", "1")
    before, first = path.stat(), snapshot(str(tmp_path))
    time.sleep(0.01)
    path.write_text("2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = snapshot(str(tmp_path))
    assert second.fingerprint == first.fingerprint
    assert not second.same_bytes_as(first)


def test_a_file_replaced_by_another_inode_is_seen(tmp_path: Path) -> None:
    """An atomic replacement with the same size and mtime is a change under an upload."""
    path = put(tmp_path, "a", "1")
    first = snapshot(str(tmp_path))
    shutil.copy2(put(tmp_path, "b", "1"), tmp_path / "c")
    os.utime(tmp_path / "c", ns=(0, path.stat().st_mtime_ns))
    (tmp_path / "b").unlink()
    (tmp_path / "c").replace(path)
    assert not snapshot(str(tmp_path)).same_bytes_as(first)


def test_looking_changes_nothing_in_the_folder(tmp_path: Path) -> None:
    """Times, modes and links of every file and directory are as they were after a look and a read."""
    put(tmp_path, "sub/a", "1")

    def state() -> list[tuple[int, ...]]:
        paths = [tmp_path, tmp_path / "sub", tmp_path / "sub/a"]
        return [(s.st_mtime_ns, s.st_ctime_ns, s.st_mode, s.st_nlink, s.st_size) for s in map(os.lstat, paths)]

    before = state()
    snapshot(str(tmp_path))
    read_file(str(tmp_path), "sub/a", 10)
    assert state() == before


def test_birth_tells_a_remade_folder_from_a_changed_one(tmp_path: Path) -> None:
    """Writing into the folder leaves its birth alone; deleting and making it anew does not."""
    folder = tmp_path / "run"
    folder.mkdir()
    born = birth_of(str(folder))
    put(folder, "sub/file")
    os.utime(folder, (1, 1))
    assert birth_of(str(folder)) == born
    assert born.split(":")[0] == str(folder.stat().st_ino)
    folder.rename(tmp_path / "elsewhere")
    assert birth_of(str(tmp_path / "elsewhere")) == born
    time.sleep(0.01)
    folder.mkdir()
    assert birth_of(str(folder)) != born


def test_birth_times_agree_with_the_clock(tmp_path: Path) -> None:
    """The birth time is a real time in ns, where the file system keeps one."""
    folder = tmp_path / "run"
    folder.mkdir()
    born = int(birth_of(str(folder)).split(":")[1])
    if born == 0:
        pytest.skip("this file system keeps no birth times")
    assert abs(born / 1e9 - folder.stat().st_ctime) < 1


def test_birth_of_nothing_says_that_it_is_gone(tmp_path: Path) -> None:
    """No folder, no birth."""
    with pytest.raises(FolderGone):
        birth_of(str(tmp_path / "nowhere"))


def test_unreadable_is_rejected_and_gone_is_changed() -> None:
    """The two errors lead to different next moves: a person, or another look."""
    assert issubclass(FolderUnreadable, Rejected)
    assert issubclass(FolderGone, FolderChanged)
