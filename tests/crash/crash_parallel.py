"""Tests that mostly wait, run side by side: all that were selected begin with the first, and each reports its own end.

Each gets a directory, and shares nothing with the others but the two cores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from crash_rig import LONG

AT_A_TIME = 4 if LONG else 8
_running: dict[str, Future[None]] = {}
_ours: set[Callable[..., None]] = set()


def side_by_side(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test of ``tmp_path`` (and parameters) in a thread, beside the others that are marked so."""

    def wait(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, **_: Any) -> None:
        if request.node.nodeid not in _running:
            _begin(request.session.items, tmp_path_factory)
        _running[request.node.nodeid].result()

    parameters = [each for name, each in inspect.signature(test).parameters.items() if name != "tmp_path"]
    fixed = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("request", "tmp_path_factory")
    ]
    wait.__signature__ = inspect.Signature([*fixed, *parameters])  # type: ignore[attr-defined]
    wait.__name__, wait.__doc__, wait.__module__ = test.__name__, test.__doc__, test.__module__
    wait.test = test  # type: ignore[attr-defined]
    _ours.add(wait)
    return wait


def _begin(items: list[pytest.Item], tops: pytest.TempPathFactory) -> None:
    # Not a context manager: the tests wait for their own results, and the pool ends with the last.
    pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="side-by-side")
    for item in items:
        if not isinstance(item, pytest.Function) or item.function not in _ours or item.nodeid in _running:
            continue
        if any(True for _ in item.iter_markers("skip")) or any(mark.args[0] for mark in item.iter_markers("skipif")):
            continue
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        test = item.function.test
        _running[item.nodeid] = pool.submit(test, tops.mktemp(item.name, numbered=True), **parameters)
    pool.shutdown(wait=False)
