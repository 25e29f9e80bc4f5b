"""The server and the place of these tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from runs_makers import Place

from wandb_outbox.sandbox import Sandbox

_FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR", "TMPDIR")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server of its own for each test, with the SDK kept out of the home directory.

    The parameter is after how many seconds of silence the server calls a run crashed.
    """
    patience = getattr(request, "param", 300.0)
    with (
        pytest.MonkeyPatch.context() as patch,
        Sandbox(entities=("sandbox", "team"), seed=1, heartbeat_timeout=patience) as server,
    ):
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name in _FOLDERS:
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("NETRC", str(tmp_path_factory.mktemp("netrc") / "netrc"))
        patch.setenv("WANDB_SILENT", "true")
        yield Place(server, tmp_path)
        wandb.teardown()
        assert server.unknown == []
