"""kill -9 at every labelled step and at random moments, while folders keep coming: nothing lost, doubled or left over."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crash_parallel import side_by_side
from crash_rig import LONG, Order, Rig, kill, opened_rig, report

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


def in_parallel(work: dict[str, Callable[[], list[str]]], *, at_a_time: int = 4) -> list[str]:
    """Run these at the same time; their complaints, each with its name."""
    with ThreadPoolExecutor(at_a_time) as pool:
        running = {name: pool.submit(each) for name, each in work.items()}
    return [f"{name}: {complaint}" for name, each in running.items() for complaint in each.result()]


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
        if {order["step"] for order in orders if order["id"] in left} == {"deliver.put-back"} and not rig.all_uploaded():
            # Nothing fails by itself here, so nothing is put back: let an uploader die.
            rig.kills += kill(rig.pids(), "uploader")
            time.sleep(0.5)
        time.sleep(0.02)
    rig.kills += len(orders)


def attack_at_random(rig: Rig, kills: int, chance: random.Random, *, longest: float) -> None:
    """So many kills, each after a random while, of a random choice of the processes, while folders come."""
    deadline = time.monotonic() + 30 + kills * (longest + 3.0)
    while rig.kills < kills:
        assert time.monotonic() < deadline, f"only {rig.kills} kills\n{rig.log()}"
        rig.keep_up()
        if chance.random() < 0.5 or rig.all_uploaded():
            rig.add(chance.randint(1, 3))
        time.sleep(chance.uniform(0.0, longest))
        pids = rig.pids()
        victim = chance.choice(VICTIMS)
        if victim in ("uploader", "core") and victim not in pids:
            # It has not come so far: let it, or only the daemon's start would ever be tried.
            time.sleep(chance.uniform(0.0, 1.0))
            pids = rig.pids()
        names = {"both": ("daemon", "uploader"), "all": ("core", "daemon", "uploader")}.get(victim, (victim,))
        rig.kills += bool(kill(pids, *names))
        if "daemon" in names and rig.daemon is not None:
            rig.daemon.wait(10)


def test_killed_at_every_step(tmp_path: Path, server: Sandbox) -> None:
    """A SIGKILL at each labelled step, of the process itself, its parent or both: after restarts all is there, once."""
    plans: dict[str, list[Order]] = {
        "self": kill_orders(IN_DAEMON, "self") + kill_orders(IN_UPLOADER, "self"),
        "other": kill_orders(["deliver.handed-over", "deliver.receipt-arrived", "deliver.uploaded"], "uploader")
        + kill_orders(IN_UPLOADER, "daemon"),
        "both": kill_orders(["send.content-sent", "send.sealed"], "all")
        + kill_orders(["send.opened", "send.artifact-committed"], "core")
        + kill_orders(["send.finished"], "both"),
    }
    if LONG:
        plans = {
            f"{victim}-{nth}": kill_orders(IN_DAEMON + IN_UPLOADER, victim, nth)
            for victim in ("self", "daemon", "uploader", "core", "both", "all")
            for nth in (1, 2, 3)
        }
        # These are passed once in a process's life, and before it has any uploader.
        once = ("executor.locked", "executor.leftovers-ended", "executor.recovered")
        plans = {
            name: [
                order
                for order in orders
                if order["step"] not in once or (order["nth"] == 1 and order["kill"] in ("self", "daemon"))
            ]
            for name, orders in plans.items()
        }
    killed = dict.fromkeys(plans, 0)

    def attack(name: str) -> list[str]:
        with opened_rig(tmp_path / name, server) as rig:
            attack_at_steps(rig, plans[name], seconds=600 if LONG else 90, coming=3 if LONG else 1)
            killed[name] = rig.kills
            return rig.finish()

    began = time.monotonic()
    assert in_parallel({name: lambda name=name: attack(name) for name in plans}) == []  # type: ignore[misc]
    report(
        "kill -9 at labelled steps", kills=sum(killed.values()), folders=len(server.runs()),
        seconds=round(time.monotonic() - began),
    )  # fmt: skip


@pytest.mark.timeout(3600 if LONG else 180)
def test_killed_at_random_moments(tmp_path: Path, server: Sandbox) -> None:
    """SIGKILLs of daemon, uploader, wandb-core and both at random moments, while folders keep coming."""
    seed = random.SystemRandom().getrandbits(32)
    rigs, kills = (8, 130) if LONG else (2, 12)
    folders: list[int] = []

    def attack(number: int) -> list[str]:
        with opened_rig(tmp_path / f"random{number}", server) as rig:
            attack_at_random(rig, kills, random.Random(seed + number), longest=2.0)
            folders.append(len(rig.folders))
            return rig.finish(seconds=300)

    began = time.monotonic()
    names = {f"seed {seed + number}": lambda number=number: attack(number) for number in range(rigs)}  # type: ignore[misc]
    assert in_parallel(names) == []
    report(
        "kill -9 at random moments", kills=rigs * kills, folders=sum(folders), seconds=round(time.monotonic() - began)
    )


def test_uploader_outlives_nobody(tmp_path: Path, server: Sandbox) -> None:
    """When daemon and uploader die together in the middle of a run, wandb-core does not stay behind for long."""
    with opened_rig(tmp_path / "orphan", server) as rig:
        rig.orders(kill_orders(["send.content-sent"], "both"))
        rig.add()
        rig.start()
        assert rig.daemon is not None
        rig.daemon.wait(30)
        rig.orders([])
        assert rig.finish() == []


