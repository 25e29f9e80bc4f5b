"""Several people on one box: who belongs to ``state_group`` may ask the service, and nobody else may."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import run_folders
from acceptance_bench import PATIENCE, Done, wait_for
from children import public_directory

from wandb_outbox.sandbox import Sandbox

GROUP = 52_000
CONFIG = 78
FILES = ("outbox.db", "outbox.db-wal", "outbox.db-shm", "lock", "site")


AS_SOMEBODY = """
import encodings.ascii, importlib, os, sys
from wandb_outbox import cli
# Other users may not be allowed to read interpreter and sources: all that the commands load when they need it, before.
for name in (*cli.COMMANDS.values(), "wandb_outbox.detect.evidence", "wandb_outbox.settings", "yaml", "pydantic_settings"):
    importlib.import_module(name)
uid, groups, *words = sys.argv[1:]
os.setgroups([int(group) for group in groups.split(",") if group])
os.setresgid(int(uid), int(uid), int(uid))
os.setresuid(int(uid), int(uid), int(uid))
sys.argv = ["wandb-outbox", *words]
sys.exit(cli.main())
"""
"""The real command as another user, who has none of root's rights."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the box; none needs an entry in its list of users."""

    uid: int
    groups: tuple[int, ...] = ()


OWNER, MEMBER, STRANGER = Person(52_001, (GROUP,)), Person(52_002, (GROUP,)), Person(52_003)
ROOT = Person(0)


class Box:
    """A machine on which the service of one user delivers, and others are logged in."""

    def __init__(self, top: Path, server: Sandbox) -> None:
        self.outputs, self.state, self._log = top / "outputs", top / "state", top / "daemon.log"
        home = top / "home"
        for directory in (self.outputs, home):
            directory.mkdir()
        self.folder = run_folders.make(self.outputs / "2025-12-03/run")
        self.environ = {
            "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "WANDB_OUTBOX_SETTLE": "0.2",
            "WANDB_OUTBOX_STATE_DIR": str(self.state), "WANDB_OUTBOX_STATE_GROUP": str(GROUP), **server.environment(),
        }  # fmt: skip
        self.daemon: subprocess.Popen[bytes] | None = None

    def run(self, person: Person, *words: str | Path, **changes: str) -> Done:
        """Run a command to its end."""
        environ = {name: value for name, value in (self.environ | changes).items() if value}
        command = ["-m", "wandb_outbox", *map(str, words)]
        if person is not ROOT:
            command = ["-c", AS_SOMEBODY, str(person.uid), ",".join(map(str, person.groups)), *map(str, words)]
        process = subprocess.run(
            [sys.executable, *command], env=environ, cwd="/", text=True, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        return Done(process.returncode, process.stdout, process.stderr)

    def watch(self) -> None:
        """Start the daemon."""
        with self._log.open("a") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "wandb_outbox", "watch", str(self.outputs)], env=self.environ, cwd="/",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def end(self, number: int) -> None:
        """End it by this signal."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        self.daemon.wait(PATIENCE)

    def states_for(self, person: Person) -> list[str]:
        """What ``list`` tells this person."""
        done = self.run(person, "list", "--json")
        return [run["state"] for run in done.json()["runs"]] if done.code == 0 else [done.err]

    def access(self) -> dict[str, tuple[int, str]]:
        """Group and permissions of what is in the state directory, and of itself."""
        found = {}
        for name in (".", "uploader", *FILES):
            with contextlib.suppress(FileNotFoundError):
                info = (self.state / name).stat()
                found[name] = (info.st_gid, f"{stat.S_IMODE(info.st_mode):o}")
        return found


@pytest.fixture
def box() -> Iterator[Box]:
    """Give a machine with other users, on which no daemon runs yet."""
    if os.geteuid() != 0:
        pytest.skip("only root can act for several users")
    with public_directory() as top, Sandbox() as server:
        made = Box(top, server)
        try:
            yield made
        finally:
            if made.daemon is not None and made.daemon.poll() is None:
                made.end(signal.SIGKILL)


def assert_may_look(box: Box, *, alive: bool) -> None:
    """Every reading command works for somebody of the group."""
    assert box.run(MEMBER, "status").code == (0 if alive else 3)
    assert box.states_for(MEMBER) == ["uploaded"]
    for words in (("list",), ("show", box.folder), ("why", box.folder), ("wait", box.folder)):
        done = box.run(MEMBER, *words)
        assert done.code == 0, (words, done)
    told = box.run(STRANGER, "status")
    assert told.code == CONFIG
    assert "run the command as the owner of the state directory, or let the owner set `state_group`" in told.err


@pytest.mark.timeout(180)
def test_the_group_may_look_and_only_the_owner_may_change(box: Box) -> None:
    """With the daemon alive, killed and ended in order; what the uploader keeps, and the rest of the world, stay shut out."""
    box.watch()
    wait_for(
        lambda: box.states_for(MEMBER) == ["uploaded"], "its delivery, as somebody of the group sees it", pause=0.3
    )
    assert box.access() == {".": (GROUP, "750"), "uploader": (0, "700")} | dict.fromkeys(FILES, (GROUP, "640"))
    assert_may_look(box, alive=True)
    for words in (
        ("retry", "--failed"), ("hold", str(box.folder)), ("release", "--all"), ("skip", "--all"), ("pause",), ("resume",),
        ("upload", str(box.folder)), ("flush", str(box.outputs)),
    ):  # fmt: skip
        done = box.run(MEMBER, *words)
        assert done.code == 2, done
        line = f"type: sudo -u root wandb-outbox {' '.join(words)} --state-dir {box.state}"
        assert line in done.err, done

    box.end(signal.SIGKILL)
    assert (box.state / "outbox.db-wal").exists()  # what was committed last stands there alone
    assert_may_look(box, alive=False)

    box.watch()
    wait_for(lambda: box.run(MEMBER, "status").code == 0, "the next daemon", pause=0.3)
    box.end(signal.SIGTERM)
    assert not (box.state / "outbox.db-wal").exists()
    assert_may_look(box, alive=False)

    # The owner's commands, too, leave nothing that the group may not read.
    for words in (("list",), ("pause",), ("resume",), ("status",)):
        box.run(ROOT, *words)
        assert box.states_for(MEMBER) == ["uploaded"], words

    # Taken back: the state is the owner's alone again.
    assert box.run(ROOT, "flush", box.outputs, WANDB_OUTBOX_STATE_GROUP="").code == 0
    assert box.run(MEMBER, "list").code == CONFIG
    assert {mode for _, mode in box.access().values()} == {"700", "600"}


def test_an_owner_without_roots_rights_may_share_with_his_own_groups_only(box: Box) -> None:
    """Files cannot be given away to strangers: bad configuration, with what to do about it; to his own group they can."""
    box.state.mkdir()
    os.chown(box.state, OWNER.uid, OWNER.uid)
    done = box.run(OWNER, "flush", box.outputs, WANDB_OUTBOX_STATE_GROUP=str(STRANGER.uid))
    assert done.code == CONFIG
    assert f"cannot be opened to the group {STRANGER.uid}" in done.err
    assert "usermod -aG" in done.err
    box.run(OWNER, "flush", box.outputs, "--timeout", "0")
    assert box.run(MEMBER, "list").code == 0
    assert box.run(STRANGER, "list").code == CONFIG
    assert {group for group, _ in box.access().values()} == {GROUP, OWNER.uid}
    told = box.run(MEMBER, "pause")
    assert f"type: sudo -u '#{OWNER.uid}' wandb-outbox pause" in told.err
