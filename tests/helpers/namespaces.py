"""Namespaces for tests: a mount, a limit or a process table that nobody else on the machine has."""

from __future__ import annotations

import functools
import os
import subprocess

import pytest


def unshare(*kinds: str) -> list[str]:
    """The command that starts another one in namespaces of these kinds (``--mount``, ``--pid``, ``--user``).

    Who is not root becomes it in a user namespace, which these kinds need.
    """
    words = ["unshare", *(kind for kind in kinds if kind != "--user")]
    if "--pid" in kinds:
        words += ["--fork", "--kill-child", "--mount-proc"]
    if "--user" in kinds or os.geteuid() != 0:
        words.append("--map-root-user")
    return words


def need(*kinds: str) -> None:
    """Skip the test, with what the machine says, where it forbids such namespaces."""
    if problem := _problem(kinds):
        pytest.skip(problem)


@functools.cache
def _problem(kinds: tuple[str, ...]) -> str | None:
    try:
        tried = subprocess.run([*unshare(*kinds), "true"], capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return "there is no unshare(1) on this machine"
    if tried.returncode:
        return f"this machine forbids namespaces ({' '.join(kinds)}): {tried.stderr.strip()}"
    return None
