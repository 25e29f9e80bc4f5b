"""The real SDK in this process: kept out of the home directory, and ended when the tests are over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import wandb

from wandb_outbox.sandbox import Sandbox

_FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR", "TMPDIR")


@contextmanager
def sdk_here(factory: pytest.TempPathFactory) -> Iterator[None]:
    """An environment without any word for the SDK, but for directories of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name in _FOLDERS:
            patch.setenv(name, str(factory.mktemp(name.lower())))
        patch.setenv("HOME", str(factory.mktemp("home")))
        patch.setenv("NETRC", str(factory.mktemp("netrc") / "netrc"))
        patch.setenv("WANDB_SILENT", "true")
        yield
        wandb.teardown()


@contextmanager
def sandbox_for_the_sdk(
    factory: pytest.TempPathFactory, entities: Iterable[str] = ("sandbox",), *, heartbeat_timeout: float = 300.0
) -> Iterator[Sandbox]:
    """A server for the SDK in this process. It must know every question that it is asked."""
    with Sandbox(entities=entities, seed=1, heartbeat_timeout=heartbeat_timeout) as server:
        with sdk_here(factory):
            yield server
        assert server.unknown == []
