"""The whole demo, as ``make demo`` runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wandb_outbox.demo.demo import CAST, writer_arguments
from wandb_outbox.demo.writer import Experiment, main

MISLEADING = {
    "WANDB_MODE": "offline",
    "WANDB_API_KEY": "not-a-key",
    "WANDB_BASE_URL": "http://127.0.0.1:9",
    "WANDB_RUN_ID": "stray",
    "WANDB_OUTBOX_HOLD": "true",
    "WANDB_OUTBOX_SETTLE": "no number",
    "WANDB_OUTBOX_STATE_DIR": "/nowhere",
}
"""What a caller may have set, and what must not count."""


def start(place: Path) -> subprocess.Popen[str]:
    """Start the demo with its temporary files below ``place``, an empty home and misleading settings."""
    for name in ("tmp", "home"):
        (place / name).mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), **MISLEADING}
    return subprocess.Popen(
        [sys.executable, "-m", "wandb_outbox", "demo"],
        env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
    )  # fmt: skip


def processes_of(place: Path) -> list[int]:
    """Every process that was started with its home below ``place``."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and f"={place}/".encode() in Path("/proc", name, "environ").read_bytes():
                found.append(int(name))
        except OSError:
            continue
    return found


def assert_nothing_is_left(place: Path) -> None:
    """No process and no file of the demo is there any more."""
    assert processes_of(place) == []
    assert list((place / "tmp").iterdir()) == []
    assert list((place / "home").iterdir()) == []


def test_the_demo_shows_the_whole_way(tmp_path: Path) -> None:
    """Network cut, daemon killed in the middle of an upload: each folder is in W&B once, byte by byte, and nothing is left."""
    with start(tmp_path) as demo:
        text, _ = demo.communicate()
    assert demo.returncode == 0, text
    for words in (
        "network cut",
        "the daemon knows that it is offline",
        "network back",
        "daemon killed -9 during the upload of",
        "daemon started again",
        "6 folders, 6 runs, 6 artifact versions: nothing twice",
        "byte by byte what is on disk",
        "All of it is true.",
    ):
        assert words in text, text
    table = text[text.index("What became of every folder") :]
    assert table.count("uploaded") == len(CAST)
    assert table.count("same bytes") == len(CAST)
    assert table.count("crashed") >= 1
    assert "incomplete" in table
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in the middle: exit code 130, and neither a process nor a file stays."""
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "network cut" in line:
                break
        demo.send_signal(number)
        text = demo.stdout.read()
    assert demo.returncode == 130
    assert "interrupted" in text
    assert_nothing_is_left(tmp_path)


def test_the_writer_is_told_all_of_an_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every role of the story goes through the command line unchanged."""
    told: list[Experiment] = []
    monkeypatch.setattr("wandb_outbox.demo.writer.write_run", lambda _folder, experiment, **_: told.append(experiment))
    for role in CAST:
        assert main(writer_arguments(role, str(tmp_path), "run")) == 0
    assert told == [role.experiment for role in CAST]
