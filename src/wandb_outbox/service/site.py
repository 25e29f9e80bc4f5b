"""Which machine this is: the ``site`` that goes into every run id."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping

from wandb_outbox.errors import DiskFull
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
    if not configured and not _kept(state_dir):
        temporary = f"{state_dir.site}.new"
        with open(temporary, "w", encoding="ascii") as file:
            file.write(site + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, state_dir.site)
        # Durable before any run id is made from it: after a power loss another site would send everything again.
        directory = os.open(state_dir.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    return site


def known_site(state_dir: StateDir, environ: Mapping[str, str], configured: str | None) -> str | None:
    """The same without writing anything; ``None`` where only a random one, not made yet, would do."""
    if configured:
        return configured
    if kept := _kept(state_dir):
        return kept
    machine = None if in_container(environ) else _machine_id()
    return machine and hashlib.blake2b(machine.encode(), key=b"wandb-outbox", digest_size=8).hexdigest()


def _kept(state_dir: StateDir) -> str:
    """What the file says; nothing when it says nothing, is not there, or is not for us. A bad disk is no new site."""
    try:
        with open(state_dir.site, encoding="ascii") as file:
            return file.read().strip()
    except (FileNotFoundError, PermissionError, UnicodeDecodeError):
        return ""
    except OSError as error:
        raise DiskFull(
            f"{state_dir.site} cannot be read ({error.strerror})", hint="look at the disk of the state directory"
        ) from error


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
