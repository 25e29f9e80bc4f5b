"""The daemon: the only endless loop, and how it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Self

from wandb_outbox.detect.writers import ignore_lease_breaks
from wandb_outbox.errors import DiskFull, StateUnusable
from wandb_outbox.service.executor import Executor
from wandb_outbox.service.logs import Log
from wandb_outbox.service.notify import Notifier

LONGEST_TURN = 5.0
TROUBLE_PAUSE = 5.0
"""Seconds until the next try when the state directory cannot be written."""


class Stop:
    """Counts SIGTERM and SIGINT: the first asks for an orderly end, the second for one at once."""

    def __init__(self, executor: Executor) -> None:
        self.asked = 0
        self._executor = executor
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked += 1
        self._executor.wake()


class Troubles:
    """Lets the loop go on when the state directory cannot be written for now; says so once, and when it is over.

    Nothing is lost by it: what could not be recorded is looked at, or delivered, again.
    """

    def __init__(self, log: Log) -> None:
        self.now: str | None = None
        self._log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None:
            if self.now is not None:
                self._log("state-usable-again")
            self.now = None
            return False
        if not isinstance(error, (DiskFull, StateUnusable)):
            return False
        if self.now != error.message:
            self._log("state-unusable", reason=error.message, hint=error.hint)
        self.now = error.message
        return True


def watch(executor: Executor, environ: Mapping[str, str], *, stop_timeout: float, sidecar: bool, log: Log) -> None:
    """Watch and deliver until asked to stop; then finish what time alone decides, within ``stop_timeout`` seconds.

    ``sidecar``: being asked to stop means that the main container has ended, and so that nobody writes any more.
    """
    ignore_lease_breaks()
    stop = Stop(executor)
    notifier = Notifier(environ)
    longest = min(LONGEST_TURN, (notifier.watchdog_seconds or LONGEST_TURN * 3) / 3)
    log("started", roots=[root.settings.path for root in executor.intake.roots], site=executor.site)
    notifier.tell("READY=1")
    troubles = Troubles(log)
    while not stop.asked:
        with troubles:
            executor.turn(longest)
        if troubles.now:
            executor.rest(TROUBLE_PAUSE)
        # Only a loop that comes round says so: a hung one is restarted by the service manager.
        notifier.tell("WATCHDOG=1")
    notifier.tell("STOPPING=1")
    if sidecar:
        executor.intake.end_of_main()
    log("stopping", under_way=executor.deliverer.under_way, timeout=stop_timeout)
    deadline = time.monotonic() + stop_timeout
    with troubles:
        while stop.asked == 1 and time.monotonic() < deadline and executor.worth_waiting():
            executor.turn(min(1.0, deadline - time.monotonic()))
            notifier.tell("WATCHDOG=1")
        log("stopped", left=executor.waiting())
