"""Tell the service manager how we are: sd_notify(3), which is a datagram to a socket."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Does nothing where there is no service manager."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the NUL of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        self.watchdog_seconds = int(microseconds) / 1e6 if mine and microseconds.isdigit() else None

    def tell(self, *lines: str) -> None:
        """Send e.g. ``READY=1`` or ``STATUS=...``. A manager that does not listen is no error of ours."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto("\n".join(lines).encode(), self._address)
