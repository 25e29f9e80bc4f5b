"""The log: what cannot be written is lost and counted, and stops nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_outbox.service.logs import PATIENCE, Lines

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading and its writing end."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(writing)
    os.close(reading)


def read(descriptor: int) -> list[str]:
    """The lines that are there now."""
    os.set_blocking(descriptor, False)
    text = b""
    while piece := os.read(descriptor, 1 << 16):
        text += piece
        if len(piece) < 1 << 16:
            break
    return text.decode().splitlines()


def events(lines: list[str]) -> list[dict[str, Any]]:
    """Those that are whole."""
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_lines_arrive_whole_and_at_once(pipe: tuple[int, int]) -> None:
    """Longer ones than a pipe takes in one piece, too, and whatever characters a name has."""
    lines = Lines(pipe[1])
    for text in ("one\n", "y" * 20_000 + "\n", "caf\u00e9 \udcff\n"):
        lines.write(text)
    assert read(pipe[0]) == ["one", "y" * 20_000, "café \\udcff"]


def test_a_full_disk_stops_nobody() -> None:
    """Every line is lost, and none raises."""
    full = os.open("/dev/full", os.O_WRONLY)
    lines = Lines(full)
    for _ in range(3):
        assert lines.write(LINE) == len(LINE)
    os.close(full)


def test_a_reader_that_has_gone_stops_nobody() -> None:
    """As that of ``watch 2>&1 | head``."""
    reading, writing = os.pipe()
    lines = Lines(writing)
    lines.write(LINE)
    os.close(reading)
    lines.write(LINE)
    os.close(writing)


def test_a_reader_that_sleeps_costs_one_pause_and_is_told_what_it_missed(pipe: tuple[int, int]) -> None:
    """And no line runs into the torn end of another."""
    lines = Lines(pipe[1])
    begun = time.monotonic()
    long = "z" * 3000 + "\n"
    for _ in range(100):
        lines.write(long)
    assert time.monotonic() - begun < PATIENCE + 1
    there = len(read(pipe[0]))
    lines.write('{"event": "later"}\n')
    told = events(read(pipe[0]))
    assert [each["event"] for each in told] == ["log-lost", "later"]
    assert 100 - there <= told[0]["lines"] <= 101 - there


def test_a_command_may_be_started_without_standard_streams(tmp_path: Path) -> None:
    """No file of its own takes their place, and it does its work."""
    (tmp_path / "outputs").mkdir()
    command = (
        f"exec {sys.executable} -m wandb_outbox flush --state-dir {tmp_path}/state {tmp_path}/outputs <&- >&- 2>&-"
    )
    environ = {"HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:1", "WANDB_API_KEY": "k" * 40}
    assert subprocess.run(["bash", "-c", command], env=environ, timeout=60, check=False).returncode == 0
    assert (tmp_path / "state" / "outbox.db").read_bytes().startswith(b"SQLite format 3")
