"""Fixtures of the acceptance tests: a plugin, which each of their modules names, because conftest modules collide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_bench import Bench, opened_bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give a machine and a server of the test's own."""
    with opened_bench(tmp_path / "machine") as opened:
        yield opened
