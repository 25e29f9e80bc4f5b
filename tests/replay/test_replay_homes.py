"""The three homes of a daemon: beside people with other uids, beside a container, beside a network file system.

Real users, capabilities, namespaces and mounts. Where a machine forbids them to tests, the skip says what it forbids.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import replay_lives as lives
from children import NOBODY, holding, public_directory
from namespaces import need, unshare
from replay_script import Ending, Life, Session, files_of_a_run, whole_session
from replay_theatre import Theatre, Timing

from wandb_outbox.detect.completion import WEAK_CONFIRM
from wandb_outbox.model import State
from wandb_outbox.sandbox import Sandbox

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

# -- a service of its own user -------------------------------------------------------------------------------------------

AS_SERVICE = """
import codecs, ctypes, importlib, os, pkgutil, struct, sys
import pathspec, wandb_outbox
# All at once: this user may not be allowed to read the sources, nor Python's own.
for room in ("cli", "service", "outbox", "detect", "formats"):
    for module in pkgutil.iter_modules([f"{wandb_outbox.__path__[0]}/{room}"], f"wandb_outbox.{room}."):
        importlib.import_module(module.name)
for name in ("ascii", "latin-1", "idna"):
    codecs.lookup(name)
CAP_LEASE, PR_SET_KEEPCAPS, VERSION_3, CAPSET = 28, 8, 0x20080522, {"x86_64": 126, "aarch64": 91}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
os.setgroups([])
os.setresgid(USER, USER, USER)
os.setresuid(USER, USER, USER)
bits = 1 << CAP_LEASE if sys.argv[1] == "with" else 0
header, data = struct.pack("Ii", VERSION_3, 0), struct.pack("IIIIII", bits, bits, 0, 0, 0, 0)
assert libc.syscall(CAPSET, header, data) == 0, os.strerror(ctypes.get_errno())
sys.argv = ["wandb-outbox", *sys.argv[2:]]
sys.exit(wandb_outbox.cli.main())
"""


def service(capability: str, top: Path) -> Theatre:
    """A daemon under another uid, which may read the outputs, ``with`` or ``without`` CAP_LEASE, and no other right."""
    code = AS_SERVICE.replace("USER", str(NOBODY))
    theatre = Theatre(top, launch=lambda words: [sys.executable, "-c", code, capability, *words])
    (top / "state").mkdir(mode=0o700)
    os.chown(top / "state", NOBODY, NOBODY)
    return theatre


@needs_root
def test_a_service_of_another_user_with_the_lease_capability_sees_every_writer() -> None:
    """It reads others' files and holds CAP_LEASE, nothing more: writing while they are open, then complete or crashed."""
    folder = "outputs/lasting"
    lasting = Session(folder).begin().chunk(1).add(["cue", "looked"]).pause(4.0).chunk(4).evaluate().end_well()
    played = {
        "lasting": Life([lasting.act()], (Ending(folder),)),
        "normal": lives.normal(0.2),
        "killed in silence": lives.killed_in_silence(),
        "lingers": lives.lingers(),
        "child outlives": lives.child_outlives(),
    }
    with public_directory() as top, service("with", top) as theatre:
        theatre.start_daemon()
        assert _status(theatre.daemon_pid, "Uid") == [str(NOBODY)] * 4
        assert int(_status(theatre.daemon_pid, "CapEff")[0], 16) == 1 << 28
        theatre.play(played)
        theatre.wait(lambda: "open for writing" in reason(theatre, folder), "the writer to be seen")
        # Whose it is, is not for this user to see.
        assert theatre.row(folder).reason == "run_tts_eval.log is open for writing"
        theatre.give_cue("looked")
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        assert not [row.reason for row in theatre.rows() if "weak" in row.reason]


@needs_root
def test_a_service_of_another_user_without_the_capability_says_what_it_cannot_see() -> None:
    """Nothing is called finished for being quiet; done evidence counts, weakly, after ninety seconds without a change."""
    folder = "outputs/unseen"
    act = Session(folder).begin().chunk(1).add(["cue", "judged"]).chunk(4).evaluate().end_well()
    with public_directory() as top, service("without", top) as theatre:
        theatre.start_daemon()
        theatre.play({"unseen": Life([act.act()], (Ending(folder),))})
        theatre.wait(lambda: "cannot be seen" in reason(theatre, folder), "the doubt")
        row = theatre.row(folder)
        assert (row.state, row.verdict) == (State.WRITING, "writing")
        assert "it belongs to another user, and we have no CAP_LEASE" in row.reason
        theatre.give_cue("judged")
        theatre.wait(lambda: theatre.journal("unseen").curtain, "its end")
        theatre.wait(lambda: "looking again after 90 s" in reason(theatre, folder), "the weak evidence")
        row = theatre.row(folder)
        assert (row.state, row.verdict) == (State.WRITING, "settling")
        assert row.verdict_since is not None
        assert row.look_at is not None
        assert row.look_at - row.verdict_since <= WEAK_CONFIRM + 5
        assert theatre.decisions() == []


# -- a sidecar -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def namespaces() -> None:
    """Namespaces for processes and mounts, or a skip that says why there are none."""
    need("--mount", "--pid")


@pytest.fixture
def server() -> Iterator[Sandbox]:
    """A server to deliver to."""
    with Sandbox() as opened:
        yield opened


def sidecar(top: Path, server: Sandbox, **environ: str) -> Theatre:
    """A daemon in namespaces of its own, in which the outputs are mounted read-only."""
    outputs = shlex.quote(os.path.realpath(top / "outputs"))

    def launch(words: Sequence[str]) -> list[str]:
        command = shlex.join([sys.executable, "-m", "wandb_outbox", *words])
        mounts = f"mount --bind {outputs} {outputs} && mount -o remount,bind,ro {outputs}"
        return [
            *unshare("--mount", "--pid"),
            "sh",
            "-c",
            f"{mounts} && ! touch {outputs}/x 2>/dev/null && exec {command}",
        ]

    return Theatre(
        top, launch=launch, options=["--sidecar"], server=server.environment(),
        environ={"WANDB_OUTBOX_STOP_TIMEOUT": "20", **environ},
    )  # fmt: skip


@pytest.mark.usefixtures("namespaces")
def test_a_sidecar_sees_writers_that_it_has_no_process_of(tmp_path: Path, server: Sandbox) -> None:
    """Its own PID namespace, a read-only mount: never early while the writer lives, and its end is seen by the lease."""
    folder = "outputs/lasting"
    lasting = Session(folder).begin().chunk(1).add(["cue", "looked"]).pause(4.0).chunk(4).evaluate().end_well()
    ends = {"lasting": Ending(folder, "uploaded"), "killed": lives.killed_in_silence().endings[0]}
    crashed = Ending(ends["killed"].path, "uploaded", "crashed", ("crashed",))
    with sidecar(tmp_path, server) as theatre:
        theatre.start_daemon()
        assert os.readlink(f"/proc/{theatre.daemon_pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
        theatre.play(
            {
                "lasting": Life([lasting.act()], (ends["lasting"],)),
                "killed": Life(lives.killed_in_silence().operations, (crashed,)),
            }
        )
        theatre.wait(lambda: "open for writing" in reason(theatre, folder), "the writer to be seen")
        assert theatre.row(folder).reason == "run_tts_eval.log is open for writing"  # and by whom, nobody can see here
        theatre.give_cue("looked")
        theatre.wait_for_end()
        if report := theatre.report():
            pytest.fail(report)
        assert theatre.stop_daemon() == 0
    assert {run.state for run in server.runs()} == {"finished", "failed"}


@pytest.mark.usefixtures("namespaces")
def test_a_sidecar_that_sees_nobody_takes_its_own_end_for_that_of_the_experiment(
    tmp_path: Path, server: Sandbox
) -> None:
    """Without leases a run that says nothing of its end waits; SIGTERM comes when the main container has ended."""
    with sidecar(tmp_path, server, WANDB_OUTBOX_PROBE="proc") as theatre:
        theatre.start_daemon()
        plain = lives.guide_shaped()
        (ending,) = plain.endings
        theatre.play({"plain": Life(plain.operations, (Ending(ending.path, "uploaded", outcomes=("unknown",)),))})
        theatre.wait(lambda: theatre.journal("plain").curtain, "the experiment to end")
        theatre.wait(lambda: "cannot be seen" in reason(theatre, ending.path), "the doubt")
        assert theatre.row(ending.path).state is State.WRITING
        assert theatre.stop_daemon() == 0
        assert theatre.row(ending.path).state is State.UPLOADED
        if report := theatre.report():
            pytest.fail(report)
    assert [run.state for run in server.runs()] == ["finished"]


@pytest.mark.usefixtures("namespaces")
def test_a_sidecar_does_not_take_its_end_for_that_of_a_writer_that_it_sees(tmp_path: Path, server: Sandbox) -> None:
    """Whoever still has a file open when SIGTERM comes is still writing, whatever was said of the main container."""
    with sidecar(tmp_path, server) as theatre:
        theatre.start_daemon()
        for name, text in files_of_a_run().items():
            path = tmp_path / "outputs" / "run" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        with holding(path, os.O_WRONLY | os.O_APPEND):
            theatre.wait(lambda: "open for writing" in reason(theatre, "outputs/run"), "its writer")
            assert theatre.stop_daemon() == 0
            assert theatre.row("outputs/run").state is State.WRITING
    assert server.runs() == []


# -- a network file system -----------------------------------------------------------------------------------------------


def test_a_root_on_a_network_file_system_is_polled_and_nobody_is_believed_to_be_gone(tmp_path: Path) -> None:
    """No events, no leases: no watch is spent, new folders are found in the rhythm, and ``status`` says how it works."""
    settings = f'probe = "proc"\n[[roots]]\npath = "{tmp_path}/outputs"\npolling = true\n'
    with Theatre(tmp_path, Timing(rescan=1.0), settings=settings) as theatre:
        theatre.start_daemon()
        theatre.play({"plain": lives.guide_shaped(), "whole": Life([whole_session("outputs/whole").act()], ())})
        theatre.wait(lambda: all(theatre.journal(name).curtain for name in ("plain", "whole")), "their ends")
        path = lives.guide_shaped().endings[0].path
        theatre.wait(lambda: "cannot be seen" in reason(theatre, path), "the doubt")
        theatre.wait(lambda: "looking again after 90 s" in reason(theatre, "outputs/whole"), "the weak evidence")
        assert {row.state for row in theatre.rows()} == {State.WRITING}
        (root,) = json.loads(theatre.command("status", "--json"))["roots"]
        assert (root["mode"], root["watched"], root["problem"]) == ("polling", 0, None)
        assert "polling, 0 directories watched" in theatre.command("status")
        assert theatre.decisions() == []


def reason(theatre: Theatre, folder: str) -> str:
    """What the outbox says of a folder by now."""
    return next((row.reason for row in theatre.rows() if row.path == theatre.path(folder)), "")


def _status(pid: int, name: str) -> list[str]:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(line.split()[1:] for line in file if line.startswith(name + ":"))
