"""What a test orders at the labelled steps of a real process: kill, wait, set a constant, take notes.

A rig copies this file as ``sitecustomize.py`` into a directory on the ``PYTHONPATH`` of the daemon, which passes it on
to the uploader; ``orders.json`` beside it holds the orders. It imports nothing of the project, which knows nothing of
it: the steps are audit events of the interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

EVENT = "wandb_outbox.step"
UPLOADER = "wandb_outbox.deliver.uploader"
MARK = b"WANDB_OUTBOX_UPLOADER="
HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 60.0


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += [int(word) for word in file.read().split()]
    return found


def _uploader() -> int | None:
    """The uploader: this process, or the one that this daemon has started."""
    if UPLOADER in sys.orig_argv:
        return os.getpid()
    for pid in children(os.getpid()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if MARK in file.read():
                return pid
    return None


def _victims(target: str) -> list[int]:
    """Who dies, the one that carries it out last."""
    me, uploader = os.getpid(), _uploader()
    daemon = os.getppid() if uploader == me else me
    core = children(uploader) if uploader is not None else []
    whom: dict[str, list[int | None]] = {
        "self": [me],
        "daemon": [daemon],
        "uploader": [uploader],
        "core": [*core],
        "both": [daemon, uploader],
        "all": [*core, daemon, uploader],
    }
    return sorted((pid for pid in whom[target] if pid is not None), key=lambda pid: pid == me)


def _folder() -> str | None:
    """The run folder that the step which is being raised is about, from the variables of its callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        for name, attribute in (("job", "request"), ("flight", "run")):
            path = getattr(getattr(frame.f_locals.get(name), attribute, None), "path", None)
            if isinstance(path, str):
                return path
        owner = frame.f_locals.get("self")
        path = getattr(getattr(getattr(owner, "_job", None), "request", None), "path", None)
        if isinstance(path, str):
            return path
        frame = frame.f_back
    return None


class Hook:
    """The orders of this process, and how often each step was reached."""

    def __init__(self) -> None:
        with open(os.path.join(HERE, "orders.json"), encoding="utf-8") as file:
            self._orders: list[dict[str, Any]] = json.load(file)
        self._seen: dict[str, int] = {}

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Carry out what is ordered at this step."""
        if event != EVENT:
            return
        step = args[0]
        for order in self._orders:
            if order["step"] == step and self._applies(order):
                self._carry_out(order)

    def _applies(self, order: dict[str, Any]) -> bool:
        if order.get("path") is not None and order["path"] not in (_folder() or ""):
            return False
        self._seen[order["id"]] = count = self._seen.get(order["id"], 0) + 1
        if order.get("always"):
            return True
        if count != order.get("nth", 1):
            return False
        try:
            # Once in all, not once a process: the restart goes through.
            os.close(os.open(os.path.join(HERE, f"done-{order['id']}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def _carry_out(self, order: dict[str, Any]) -> None:
        if "set" in order:
            for name, value in order["set"].items():
                module, constant = name.split(":")
                if module in sys.modules:
                    setattr(sys.modules[module], constant, value)
        if "pause" in order:
            self._pause(order["pause"])
        if "kill" in order:
            for pid in _victims(order["kill"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _pause(self, directory: str) -> None:
        """Say who waits here, and wait until the test lets us go on."""
        name = os.path.join(directory, f"{os.getpid()}-{time.monotonic_ns()}")
        with open(name + ".new", "w", encoding="utf-8") as file:
            json.dump({"pid": os.getpid(), "folder": _folder()}, file)
        os.rename(name + ".new", name + ".held")
        deadline = time.monotonic() + PATIENCE
        while os.path.exists(name + ".held") and time.monotonic() < deadline:
            time.sleep(0.005)


if __name__ == "sitecustomize" and os.path.exists(os.path.join(HERE, "orders.json")):
    sys.addaudithook(Hook())
