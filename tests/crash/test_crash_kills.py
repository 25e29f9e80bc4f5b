"""kill -9 at every labelled step and at random moments, while folders keep coming: nothing lost, doubled or left over."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_check import processes_of
from crash_parallel import side_by_side
from crash_rig import LONG, Order, Rig, kill, opened_rig, report, wait_for

from wandb_outbox.sandbox import Sandbox
from wandb_outbox.steps import STEPS

IN_UPLOADER = sorted(step for step in STEPS if step.startswith("send."))
IN_DAEMON = sorted(STEPS - set(IN_UPLOADER))
VICTIMS = ("daemon", "uploader", "core", "both", "all")
"""Who is killed at random. ``both`` leaves wandb-core behind, ``all`` does not."""


pytestmark = pytest.mark.timeout(3600 if LONG else 180)


@contextlib.contextmanager
def one_server() -> Iterator[Sandbox]:
    """One server for all rigs of a test."""
    with Sandbox() as sandbox:
        yield sandbox
        assert sandbox.unknown == []
        assert [each for each in sandbox.requests if each.status >= 500 and each.fault is None] == []


def kill_orders(steps: list[str], victim: str, nth: int = 1) -> list[Order]:
    """An order to kill at each of these steps, once."""
    return [{"id": f"{step}-{victim}-{nth}", "step": step, "kill": victim, "nth": nth} for step in steps]


def attack_at_steps(rig: Rig, orders: list[Order], *, seconds: float, coming: int = 1) -> None:
    """Let folders come until every order was carried out, restarting the daemon each time."""
    rig.orders(orders)
    wanted = {order["id"] for order in orders}
    rig.add(coming)
    fresh = time.monotonic()
    deadline = fresh + seconds
    while left := wanted - rig.carried_out():
        assert time.monotonic() < deadline, f"never reached: {sorted(left)}\n{rig.log()}"
        if rig.keep_up() or (rig.all_uploaded() and time.monotonic() - fresh > 0.5):
            rig.add(coming)
            fresh = time.monotonic()
        only_put_back = {order["step"] for order in orders if order["id"] in left} == {"deliver.put-back"}
        if only_put_back and "uploading" in rig.states().values():
            # Nothing fails by itself here, so nothing is put back: let an uploader die.
            rig.kills += kill(rig.pids(), "uploader")
            time.sleep(0.5)
        time.sleep(0.05)
    rig.kills += len(orders)


def _is_uploading(rig: Rig) -> bool:
    rig.keep_up()
    # What a killed daemon left in that state is none.
    return "core" in rig.pids() and "uploading" in rig.states().values()


def attack_at_random(rig: Rig, kills: int, chance: random.Random, *, longest: float) -> None:
    """So many kills, each after a random while, of a random choice of the processes, while folders come."""
    deadline = time.monotonic() + 60 + kills * (longest + 10.0)
    while rig.kills < kills:
        assert time.monotonic() < deadline, f"only {rig.kills} kills\n{rig.log()}"
        rig.keep_up()
        if chance.random() < 0.5 or rig.all_uploaded():
            rig.add(chance.randint(1, 3))
        if chance.random() < 0.6:
            # Where most happens: or a slow machine would only ever try the daemon's start.
            with contextlib.suppress(AssertionError):
                wait_for(lambda: _is_uploading(rig), "an upload", 15)
            time.sleep(chance.uniform(0.0, longest / 3))
        else:
            time.sleep(chance.uniform(0.0, longest))
        pids = rig.pids()
        victim = chance.choice(VICTIMS)
        names = {"both": ("daemon", "uploader"), "all": ("core", "daemon", "uploader")}.get(victim, (victim,))
        rig.kills += bool(kill(pids, *names))
        if "daemon" in names and rig.daemon is not None:
            rig.daemon.wait(10)


def plans() -> dict[str, list[Order]]:
    """Who is killed where; each list is one machine's life."""
    if not LONG:
        return {
            # An uploader that dies is what makes the daemon put something back.
            "self-daemon": [*kill_orders(IN_DAEMON, "self"), *kill_orders(["send.identified"], "self")],
            "self-uploader": kill_orders([step for step in IN_UPLOADER if step != "send.identified"], "self"),
            "other-uploader": kill_orders(["deliver.handed-over", "deliver.receipt-arrived"], "uploader")
            + kill_orders(["send.opened"], "core"),
            "other-daemon": kill_orders(["send.identified", "send.artifact-committed", "send.sealed"], "daemon"),
            "both": kill_orders(["send.content-sent"], "all") + kill_orders(["send.finished"], "both"),
        }
    # These are passed once in a process's life, and before it has any uploader.
    once = ("executor.locked", "executor.leftovers-ended", "executor.recovered")
    return {
        f"{victim}-{nth}": [
            order
            for order in kill_orders(IN_DAEMON + IN_UPLOADER, victim, nth)
            if order["step"] not in once or (nth == 1 and victim in ("self", "daemon"))
        ]
        for victim in ("self", "daemon", "uploader", "core", "both", "all")
        for nth in (1, 2, 3)
    }


@pytest.mark.parametrize("plan", sorted(plans()))
@side_by_side
def test_killed_at_every_step(tmp_path: Path, plan: str) -> None:
    """A SIGKILL at each labelled step, of the process itself, its parent or both: after restarts all is there, once."""
    began = time.monotonic()
    with one_server() as server, opened_rig(tmp_path / plan, server) as rig:
        attack_at_steps(rig, plans()[plan], seconds=1800 if LONG else 160, coming=3 if LONG else 1)
        assert rig.finish() == []
        report(
            "kill -9 at labelled steps", kills=rig.kills, folders=len(rig.folders),
            seconds=round(time.monotonic() - began),
        )  # fmt: skip


@pytest.mark.parametrize("number", range(8 if LONG else 2))
@side_by_side
def test_killed_at_random_moments(tmp_path: Path, number: int) -> None:
    """SIGKILLs of daemon, uploader, wandb-core and both at random moments, while folders keep coming."""
    seed = random.SystemRandom().getrandbits(32)
    began = time.monotonic()
    with one_server() as server, opened_rig(tmp_path / f"random{number}", server) as rig:
        attack_at_random(rig, 130 if LONG else 9, random.Random(seed), longest=2.0 if LONG else 1.5)
        assert rig.finish(seconds=300) == [], f"seed {seed}"
        report(
            "kill -9 at random moments", kills=rig.kills, folders=len(rig.folders),
            seconds=round(time.monotonic() - began),
        )  # fmt: skip


@pytest.mark.skipif(not LONG, reason="the long version: make torture")
@side_by_side
def test_uploader_outlives_nobody(tmp_path: Path) -> None:
    """When daemon and uploader die together in the middle of a run, wandb-core does not stay behind for long."""
    with one_server() as server, opened_rig(tmp_path / "orphan", server) as rig:
        rig.orders(kill_orders(["send.content-sent"], "both"))
        rig.add()
        rig.start()
        assert rig.daemon is not None
        rig.daemon.wait(30)
        wait_for(lambda: not processes_of(rig.state), "the end of wandb-core", 10)
        rig.orders([])
        assert rig.finish() == []
