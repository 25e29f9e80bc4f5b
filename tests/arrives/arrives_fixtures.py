"""One server for every test of what arrives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sdk_here import sandbox_for_the_sdk

from wandb_outbox.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A server for the tests of one file."""
    with sandbox_for_the_sdk(tmp_path_factory) as server:
        yield server
