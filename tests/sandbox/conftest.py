"""A sandbox for a file of tests, and the real SDK pointed at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_sdk import TEAM, Sdk
from sdk_here import sdk_here

from wandb_outbox.sandbox import Sandbox


@pytest.fixture(scope="module", autouse=True)
def _folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the SDK out of the home directory, and let it begin before any test counts requests."""
    with sdk_here(tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """Serve all tests that leave the server as it was."""
    with Sandbox(entities=("sandbox", TEAM), seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: Sandbox) -> Iterator[Sandbox]:
    """Give the shared sandbox without faults and records, and see that it modelled all that was asked."""
    before = len(shared.unknown)
    shared.requests.clear()
    yield shared
    shared.clear_faults()
    assert [each for each in shared.requests if each.status >= 500 and each.fault is None] == []
    assert shared.unknown[before:] == []


@pytest.fixture
def sdk(sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Sdk:
    """Point the SDK at the sandbox, in a project named after the test."""
    return Sdk(sandbox, request.node.name.translate(str.maketrans("[]", "--"))[:128], tmp_path)
