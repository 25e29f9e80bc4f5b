"""Who has a file of the folder open for writing: asked of real processes."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import NOBODY, Child, holding, public_directory, python, run_python, until
from namespaces import need, unshare

from wandb_outbox.detect.mounts import LEASE_TYPES, file_system_type, find_type, is_remote
from wandb_outbox.detect.writers import (
    find_holders,
    ignore_lease_breaks,
    known_by_inode,
    probe_lease,
    probe_order,
    probe_writers,
)
from wandb_outbox.folder import Selection, snapshot
from wandb_outbox.model import Snapshot, WriterEvidence, Writers

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs files of one user and a look by another: only root can"
)
pytestmark = pytest.mark.skipif(
    file_system_type("/tmp") not in LEASE_TYPES,  # noqa: S108  only asked for its file system
    reason="the temporary directory lies on a file system without leases",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with a log and results."""
    (tmp_path / "run.log").write_text("log\n")
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "part.jsonl").write_text("{}")
    return tmp_path


@pytest.fixture
def public() -> Iterator[Path]:
    """A run folder that every user may read."""
    with public_directory() as path:
        (path / "run.log").write_text("log\n")
        yield path


def probe(folder: Path, *, leases: bool = True, selection: Selection | None = None) -> WriterEvidence:
    """What the two witnesses say now."""
    return probe_writers(str(folder), snapshot(str(folder), (selection or Selection()).selector()), leases=leases)


def probe_until_free(folder: Path) -> WriterEvidence:
    """The same, once the kernel has finished with a file that was closed just now (up to 2 ms)."""
    until(lambda: probe(folder).writers is Writers.FREE, what="the kernel letting go of a closed file")
    return probe(folder)


# -- the lease probe -------------------------------------------------------------------------------------------------


def test_a_folder_that_nobody_writes_to_is_free(folder: Path) -> None:
    """Every file was asked, and nobody has one open."""
    assert probe(folder) == WriterEvidence(Writers.FREE, "none of 3 files is open for writing")


@pytest.mark.parametrize(
    ("name", "flags"),
    [("run.log", os.O_WRONLY | os.O_APPEND), ("results.json", os.O_WRONLY), ("sub/part.jsonl", os.O_RDWR)],
)
def test_an_open_file_is_a_writer_with_name_and_pid(folder: Path, name: str, flags: int) -> None:
    """Append, write, read and write: each is seen while it lasts, at any depth, and no longer."""
    with holding(folder / name, flags) as child:
        found = probe(folder)
        assert found.writers is Writers.WRITER
        assert found.detail.startswith(f"{name} is open for writing by ")
        assert found.detail.endswith(f" (pid {child.pid})")
        child.end()
        assert probe_until_free(folder).writers is Writers.FREE


def test_a_reader_is_no_writer(folder: Path) -> None:
    """A `tail -f` on the log does not keep the folder open."""
    with holding(folder / "run.log", os.O_RDONLY):
        assert probe(folder).writers is Writers.FREE


def test_a_writer_that_was_killed_is_gone(folder: Path) -> None:
    """The kernel closes what a killed process had open."""
    with holding(folder / "run.log", os.O_WRONLY) as child:
        assert probe(folder).writers is Writers.WRITER
        child.kill()
        assert probe_until_free(folder).writers is Writers.FREE


def test_a_child_that_outlives_its_parent_keeps_the_folder_open(folder: Path) -> None:
    """A forked worker that inherited the log counts as long as it lives."""
    pause = "import time\nif os.fork():\n    sys.stdin.read()\nelse:\n    print(os.getpid(), flush=True)\n    time.sleep(60)"
    with holding(folder / "run.log", os.O_WRONLY, pause=pause) as parent:
        worker = int(parent.line())
        try:
            parent.end()
            found = probe(folder)
            assert found.writers is Writers.WRITER
            assert f"(pid {worker})" in found.detail
        finally:
            os.kill(worker, signal.SIGKILL)
    assert probe_until_free(folder).writers is Writers.FREE


def test_a_shared_mapping_keeps_the_file_open_after_its_descriptor_is_closed(folder: Path) -> None:
    """The kernel counts a writable mapping as a writer (overlayfs alone does not see it)."""
    if file_system_type(str(folder)) == "overlay":
        pytest.skip("overlayfs does not see a writer that only has a mapping")
    with (folder / "results.json").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    with mapped:
        found = probe(folder)
        assert found.writers is Writers.WRITER
        assert found.detail == "results.json is open for writing"
    assert probe_until_free(folder).writers is Writers.FREE


def test_wandbs_own_log_counts_as_a_writer(folder: Path) -> None:
    """A live W&B run inside the folder is a living experiment, although wandb/ is never uploaded."""
    log = folder / "wandb" / "offline-run-1" / "run-1.wandb"
    log.parent.mkdir(parents=True)
    log.touch()
    with holding(log, os.O_WRONLY):
        found = probe(folder)
    assert found.writers is Writers.WRITER
    assert found.detail.startswith("wandb/offline-run-1/run-1.wandb is open for writing")


@pytest.mark.parametrize(
    "name", ["run-20261121_190448-a/files/output.log", "run-20261121_190448-a/logs/debug.log", "x"]
)
@pytest.mark.parametrize("exclude", [(), ("wandb/",)])
def test_any_open_file_of_wandbs_own_directory_counts_as_a_writer(
    folder: Path, name: str, exclude: tuple[str, ...]
) -> None:
    """The SDK's process writes console and media there, with the transaction log open or not."""
    file = folder / "wandb" / name
    file.parent.mkdir(parents=True)
    file.touch()
    with holding(file, os.O_WRONLY):
        found = probe(folder, selection=Selection(exclude=exclude))
    assert found.writers is Writers.WRITER
    assert found.detail.startswith(f"wandb/{name} is open for writing by ")


@pytest.mark.parametrize("name", ["run.log", "events.out.tfevents.1", os.fsdecode(b"log\xff")])
def test_a_file_that_is_left_out_counts_as_a_writer(folder: Path, name: str) -> None:
    """Whoever excludes the logs still does not want half a run uploaded."""
    (folder / name).touch()
    with holding(folder / name, os.O_WRONLY):
        assert probe(folder, selection=Selection(exclude=("*.log", "*.tfevents.*"))).writers is Writers.WRITER


def test_a_file_in_a_directory_that_is_left_out_counts_as_a_writer(folder: Path) -> None:
    """The event files of a living experiment, in a directory that nobody wants to upload."""
    (folder / "tb" / "deep").mkdir(parents=True)
    with holding(folder / "tb" / "deep" / "events", os.O_WRONLY | os.O_CREAT):
        found = probe(folder, selection=Selection(exclude=("tb/",)))
    assert found.writers is Writers.WRITER
    assert found.detail.startswith("tb/deep/events is open for writing by ")


@pytest.mark.parametrize("leases", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_a_log_that_lies_elsewhere_and_is_linked_counts_as_a_writer(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, *, leases: bool, relative: bool
) -> None:
    """An experiment may keep its log on another disk; whoever holds it open is the experiment."""
    log = tmp_path_factory.mktemp("scratch") / "experiment.log"
    log.touch()
    (folder / "sub" / "linked.log").symlink_to(os.path.relpath(log, folder / "sub") if relative else log)
    with holding(log, os.O_WRONLY) as holder:
        found = probe(folder, leases=leases)
        assert found == WriterEvidence(
            Writers.WRITER, f"sub/linked.log, a link to {log}, is open for writing by python (pid {holder.pid})"
        )
    if leases:
        probe_until_free(folder)


def test_other_links_are_nobodys(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What everybody writes to, a device, a FIFO, a loop and nothing: none of them makes a folder wait, or us."""
    shared = tmp_path_factory.mktemp("shared") / "all.jsonl"
    shared.touch()
    os.mkfifo(shared.with_name("fifo.log"))
    (folder / "all.jsonl").symlink_to(shared)
    for name, target in (("a", "/dev/null"), ("b", "b.log"), ("c", "/nowhere/x.log"), ("d", "run.log"), ("e", str(folder)),
                         ("f", str(shared.with_name("fifo.log")))):  # fmt: skip
        (folder / f"{name}.log").symlink_to(target)
    with holding(shared, os.O_WRONLY):
        assert probe(folder) == WriterEvidence(Writers.FREE, "none of 3 files is open for writing")


def test_files_that_vanished_or_were_replaced_are_nobodys(folder: Path) -> None:
    """A name that is gone since the snapshot is no writer; the next snapshot sees the change."""
    taken = snapshot(str(folder))
    (folder / "run.log").unlink()
    (folder / "results.json").unlink()
    (folder / "results.json").symlink_to("nowhere")
    shutil.rmtree(folder / "sub")
    assert probe_writers(str(folder), taken).writers is Writers.FREE


def test_a_fifo_in_a_files_place_is_not_trusted(folder: Path) -> None:
    """What is no file any more cannot say that nobody writes; and nobody waits for it."""
    taken = snapshot(str(folder))
    (folder / "run.log").unlink()
    os.mkfifo(folder / "run.log")
    assert probe_writers(str(folder), taken).writers is Writers.UNKNOWN


def test_logs_are_asked_first() -> None:
    """What a living experiment holds open is found with the first questions."""
    paths = ["a.json", "z.log", "wandb/run-1/run-1.wandb", "events.out.tfevents.7", "b.json"]
    assert probe_order(paths) == ["events.out.tfevents.7", "wandb/run-1/run-1.wandb", "z.log", "a.json", "b.json"]


def test_the_lease_is_given_back_at_once(folder: Path) -> None:
    """After a probe a writer opens the file without waiting, and without breaking any lease."""
    assert probe_lease(str(folder), "run.log") is Writers.FREE
    descriptor = os.open(folder / "run.log", os.O_WRONLY | os.O_NONBLOCK)
    assert fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    os.close(descriptor)


def test_probing_changes_nothing(folder: Path) -> None:
    """Neither times nor content of the experiment's files change by being asked about."""
    before = snapshot(str(folder))
    probe(folder)
    assert snapshot(str(folder)) == before


# -- SIGIO -----------------------------------------------------------------------------------------------------------

HOLD_A_LEASE = """
import fcntl, os, signal, sys
from wandb_outbox.detect.writers import ignore_lease_breaks
signal.signal(signal.SIGIO, signal.SIG_DFL)
if sys.argv[2] == "ignore":
    ignore_lease_breaks()
f = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("how", "code"), [("ignore", 0), ("die", -signal.SIGIO)])
def test_a_lease_break_does_not_kill_a_prober_that_ignores_it(folder: Path, how: str, code: int) -> None:
    """A writer that comes while the lease is held sends SIGIO, whose default action ends the process."""
    with python(HOLD_A_LEASE, str(folder / "run.log"), how) as prober:
        with pytest.raises(BlockingIOError):
            os.open(folder / "run.log", os.O_WRONLY | os.O_NONBLOCK)
        assert prober.end() == code


def test_ignoring_lease_breaks_is_what_it_says() -> None:
    """The handler is the kernel's own "ignore", which costs nothing and survives threads."""
    before = signal.getsignal(signal.SIGIO)
    try:
        ignore_lease_breaks()
        assert signal.getsignal(signal.SIGIO) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGIO, before)


# -- without leases --------------------------------------------------------------------------------------------------


def test_without_leases_nobody_in_sight_is_unknown(folder: Path) -> None:
    """/proc can say yes, never no."""
    assert probe(folder, leases=False) == WriterEvidence(Writers.UNKNOWN, "the lease probe is turned off")


def test_without_leases_a_writer_in_sight_is_a_writer(folder: Path) -> None:
    """/proc names file and process."""
    with holding(folder / "sub" / "part.jsonl", os.O_RDWR) as child:
        found = probe(folder, leases=False)
        assert found.writers is Writers.WRITER
        assert found.detail.startswith("sub/part.jsonl is open for writing by ")
        assert f"(pid {child.pid})" in found.detail


def test_without_leases_a_reader_is_no_writer(folder: Path) -> None:
    """The access mode of a descriptor is told by its link in /proc."""
    with holding(folder / "run.log", os.O_RDONLY):
        assert probe(folder, leases=False).writers is Writers.UNKNOWN


def test_holders_are_found_for_one_file_or_all_and_never_for_a_folder_with_a_longer_name(tmp_path: Path) -> None:
    """`run-1` is not `run-10`."""
    for name in ("run-1", "run-10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.log").touch()
        (tmp_path / name / "b.log").touch()
    with holding(tmp_path / "run-1" / "a.log", os.O_WRONLY) as child:
        assert [(h.pid, h.file) for h in find_holders(str(tmp_path / "run-1"))] == [(child.pid, "a.log")]
        assert list(find_holders(str(tmp_path / "run-1"), only="b.log")) == []
        assert list(find_holders(str(tmp_path / "run-10"))) == []


@pytest.mark.parametrize("leases", [True, False])
def test_who_has_another_path_for_the_file_is_found_by_its_inode(folder: Path, tmp_path: Path, leases: bool) -> None:
    """A hard link, as a bind mount into a container, gives the writer's path another name."""
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere.log")
    os.link(folder / "run.log", elsewhere)
    with holding(elsewhere, os.O_WRONLY) as child:
        found = probe(folder, leases=leases)
    assert found.writers is Writers.WRITER
    assert found.detail.startswith("run.log is open for writing by ")
    assert found.detail.endswith(f" (pid {child.pid})")


def test_a_container_that_has_the_folder_mounted_is_named(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its process is in sight of the host, under paths of its own mount namespace."""
    need("--mount")
    inside = tmp_path_factory.mktemp("container")
    hold = f"mount --bind {folder} {inside} && exec 3>>{inside}/run.log && echo ready && read line"
    with Child([*unshare("--mount"), "/bin/sh", "-c", hold]):
        found = probe(folder)
        holders = [holder.file for holder in find_holders(str(folder), files=known_by_inode(snapshot(str(folder))))]
    assert found.detail.startswith("run.log is open for writing by sh (pid ")
    assert holders == ["run.log"]


def test_our_own_open_files_are_not_named_as_holders(folder: Path) -> None:
    """The daemon does not point at itself."""
    with (folder / "run.log").open("a"):
        assert list(find_holders(str(folder))) == []


def test_a_file_system_without_leases_is_unknown() -> None:
    """Where a lease may lie, its answer is not asked for."""
    nothing = Snapshot((), (), "1:1", 0)
    found = probe_writers("/proc/self/task", nothing)
    assert found.writers is Writers.UNKNOWN
    assert "the file system (proc) does not keep leases" in found.detail


# -- as another user -------------------------------------------------------------------------------------------------

PROBE_AS_NOBODY = """
import sys
from wandb_outbox.detect.writers import probe_writers
from wandb_outbox.folder import Selection, snapshot
selector = Selection(exclude=tuple(sys.argv[2:])).selector()
become_nobody()
taken = snapshot(sys.argv[1], selector)
found = probe_writers(sys.argv[1], taken)
print(found.writers.value, found.detail, sep="|")
"""


@needs_root
def test_another_users_files_are_unknown_without_the_capability(public: Path) -> None:
    """Without CAP_LEASE the kernel refuses the lease, and the reason names the file."""
    assert run_python(PROBE_AS_NOBODY, str(public)).strip() == (
        "unknown|no lease on run.log: it belongs to another user, and we have no CAP_LEASE"
    )


@needs_root
def test_our_own_files_need_no_capability(public: Path) -> None:
    """The owner may ask, whoever else is on the box."""
    os.chown(public / "run.log", NOBODY, NOBODY)
    assert run_python(PROBE_AS_NOBODY, str(public)).startswith("free|")


@needs_root
def test_a_writer_of_our_own_is_found_among_another_users_files(public: Path) -> None:
    """Where leases are refused, /proc still shows the processes of our own user."""
    (public / "run.log").chmod(0o666)
    hold = f"exec 3>>{public}/run.log; echo ready; read line"
    with Child(["/bin/sh", "-c", hold], user=NOBODY) as child:
        told = run_python(PROBE_AS_NOBODY, str(public)).strip()
    assert told == f"writer|run.log is open for writing by sh (pid {child.pid})"


@needs_root
def test_excluding_a_file_ends_the_doubt_about_it(public: Path) -> None:
    """A file of another user that is left out does not make the whole folder unknown."""
    os.chown(public / "run.log", NOBODY, NOBODY)
    (public / "foreign.log").write_text("x")
    assert run_python(PROBE_AS_NOBODY, str(public)).startswith("unknown|no lease on foreign.log")
    assert run_python(PROBE_AS_NOBODY, str(public), "foreign.log").startswith("free|")


@needs_root
def test_a_file_that_may_not_be_read_is_named_as_such(public: Path) -> None:
    """Nobody is sent after a capability that would not help."""
    (public / "private.log").touch(mode=0o600)
    assert run_python(PROBE_AS_NOBODY, str(public)).startswith("unknown|no lease on private.log: it may not be read")


@needs_root
def test_root_sees_a_writer_of_any_user(public: Path) -> None:
    """The service with CAP_LEASE needs no rights on the files but to read them."""
    (public / "run.log").chmod(0o666)
    with Child(["/bin/sh", "-c", f"exec 3>>{public}/run.log; echo ready; read line"], user=NOBODY) as child:
        found = probe(public)
    assert found == WriterEvidence(Writers.WRITER, f"run.log is open for writing by sh (pid {child.pid})")


# -- file systems ----------------------------------------------------------------------------------------------------


def test_the_file_system_is_that_of_the_nearest_parent_that_is_there(tmp_path: Path) -> None:
    """A state directory that is not made yet lies where its parent lies."""
    assert file_system_type(str(tmp_path / "not" / "yet")) == file_system_type(str(tmp_path))


@pytest.mark.parametrize(("path", "kind"), [("/proc/self/fd", "proc"), ("/sys/kernel", "sysfs")])
def test_mounts_are_told_apart(path: str, kind: str) -> None:
    """The type comes from the mount that the path lies on."""
    assert file_system_type(path) == kind


def test_the_file_system_agrees_with_stat1(tmp_path: Path) -> None:
    """The kernel's own tool names the same type."""
    said = subprocess.run(
        ["/usr/bin/stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True
    )
    name = said.stdout.strip()
    names = {"ext2/ext3": {"ext2", "ext3", "ext4"}, "overlayfs": {"overlay"}}
    assert file_system_type(str(tmp_path)) in names.get(name, {name})


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:27 / /data rw,relatime shared:9 - btrfs /dev/vdb rw,subvolid=5,subvol=/
40 22 0:52 / /home rw,relatime shared:20 - nfs4 server:/export/home rw,vers=4.2,hard,proto=tcp
41 40 0:53 / /home/alice/cloud rw,nosuid,nodev shared:21 - fuse.sshfs alice@box:/cloud rw,user_id=1000
42 22 0:54 / /mnt/with\\040blank rw - 9p host rw,trans=virtio
43 22 254:0 /srv/outputs /outputs ro,relatime - ext4 /dev/vda rw
44 22 0:55 / /scratch rw - lustre 10.0.0.1@tcp:/scratch rw,flock
45 22 0:56 / /gpfs rw - gpfs fs0 rw
46 22 0:57 / /merged rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c
47 22 0:58 / /shared rw - virtiofs shared rw
""".splitlines(keepends=True)


@pytest.mark.parametrize(
    ("path", "device", "kind", "remote", "leases"),
    [
        ("/srv/outputs/run", "254:0", "ext4", False, True),
        ("/outputs/run", "254:0", "ext4", False, True),  # a read-only bind mount of the same
        ("/data/sub/volume/run", "0:99", "btrfs", False, True),  # a subvolume: its device stands in no line
        ("/merged/run", "0:57", "overlay", False, True),
        ("/home/bob/outputs", "0:52", "nfs4", True, False),
        ("/home/alice/cloud/outputs", "0:53", "fuse.sshfs", True, False),
        ("/mnt/with blank/outputs", "0:54", "9p", True, False),
        ("/mnt/with blank/outputs", "0:99", "9p", True, False),
        ("/scratch/alice/outputs", "0:55", "lustre", True, False),
        ("/gpfs/outputs", "0:56", "gpfs", True, False),
        ("/shared/outputs", "0:58", "virtiofs", True, False),
    ],
)
def test_what_a_mount_allows_follows_from_its_type(
    path: str, device: str, kind: str, remote: bool, leases: bool
) -> None:
    """Network file systems are polled, and no lease is asked for there; bind mounts and subvolumes are what they lie on."""
    found = find_type(MOUNTS, device, path)
    assert (found, is_remote(found), found in LEASE_TYPES) == (kind, remote, leases)


def test_no_type_is_polled_and_trusted_with_leases() -> None:
    """Where other machines write, a lease that is granted proves nothing."""
    assert not [kind for kind in LEASE_TYPES if is_remote(kind)]


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "lustre", "fuse", "fuse.sshfs", "fuse.s3fs", "virtiofs", "9p"])
def test_network_file_systems_are_remote(kind: str) -> None:
    """Other machines can write there unseen."""
    assert is_remote(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fusectl", "unknown"])
def test_local_file_systems_are_not_remote(kind: str) -> None:
    """Events and locks can be trusted there."""
    assert not is_remote(kind)
