"""The server and the place of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runs_makers import Place
from sdk_here import sandbox_for_the_sdk


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server of its own for each test, with the SDK kept out of the home directory.

    The parameter is after how many seconds of silence the server calls a run crashed.
    """
    patience = getattr(request, "param", 300.0)
    with sandbox_for_the_sdk(tmp_path_factory, ("sandbox", "team"), heartbeat_timeout=patience) as server:
        yield Place(server, tmp_path)
