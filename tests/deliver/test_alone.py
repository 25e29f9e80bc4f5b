"""One executor of a machine delivers a folder at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wandb_outbox.deliver.alone import lock_folder
from wandb_outbox.errors import Elsewhere

HOLD = "import sys; from wandb_outbox.deliver.alone import lock_folder; lock_folder(sys.argv[1]); print(); sys.stdin.read()"


def test_whoever_comes_second_is_told_and_gets_it_afterwards(tmp_path: Path) -> None:
    """Nothing is written, and nothing is left behind."""
    first = lock_folder(str(tmp_path))
    assert first is not None
    with pytest.raises(Elsewhere, match="another wandb-outbox of this machine"):
        lock_folder(str(tmp_path))
    os.close(first)
    second = lock_folder(str(tmp_path))
    assert second is not None
    os.close(second)
    assert list(tmp_path.iterdir()) == []


def test_a_death_lets_go(tmp_path: Path) -> None:
    """However it came."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Elsewhere):
            lock_folder(str(tmp_path))
        holder.kill()
    descriptor = lock_folder(str(tmp_path))
    assert descriptor is not None
    os.close(descriptor)


def test_a_folder_that_is_gone_is_no_trouble_of_the_lock(tmp_path: Path) -> None:
    """Its delivery tells."""
    assert lock_folder(str(tmp_path / "gone")) is None
