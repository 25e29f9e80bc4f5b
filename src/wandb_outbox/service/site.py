"""Which machine this is: the ``site`` that goes into every run id."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping

from wandb_outbox.outbox.location import StateDir


def find_site(state_dir: StateDir, environ: Mapping[str, str], configured: str | None) -> str:
    """The configured site; else the kept one; else, on a host, one made from the machine id; else a random one.

    Pods share machine ids and all mount ``/outputs``, so in a container the machine id would merge them. The machine id
    itself never leaves the machine: it is hashed, as machine-id(5) asks. It is kept in a file beside the database, so
    that a damaged database does not change who we are.
    """
    site = known_site(state_dir, environ, configured)
    if site is None:
        site = secrets.token_hex(8)
    if not configured and not os.path.exists(state_dir.site):
        temporary = f"{state_dir.site}.new"
        with open(temporary, "w", encoding="ascii") as file:
            file.write(site + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, state_dir.site)
    return site


def known_site(state_dir: StateDir, environ: Mapping[str, str], configured: str | None) -> str | None:
    """The same without writing anything; ``None`` where only a random one, not made yet, would do."""
    if configured:
        return configured
    try:
        with open(state_dir.site, encoding="ascii") as file:
            kept = file.read().strip()
    except (OSError, UnicodeDecodeError):
        kept = ""
    if kept:
        return kept
    machine = None if in_container(environ) else _machine_id()
    return machine and hashlib.blake2b(machine.encode(), key=b"wandb-outbox", digest_size=8).hexdigest()


def in_container(environ: Mapping[str, str]) -> bool:
    """Whether this process runs in a container, as far as the usual marks tell."""
    if environ.get("KUBERNETES_SERVICE_HOST") or environ.get("container"):
        return True
    if os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv"):
        return True
    try:
        with open("/proc/1/environ", "rb") as file:
            return any(entry.startswith(b"container=") for entry in file.read().split(b"\0"))
    except OSError:
        return False


def _machine_id() -> str | None:
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None
