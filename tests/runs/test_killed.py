"""``kill -9`` while a folder is attached or adopted, twice in a row: one run, untouched but for what is ours, one version."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import runs_child
from children import until
from live_runs import environment, log_live, upload_by_script
from runs_makers import llm_tts_folder

from wandb_outbox.sandbox import Fault, RunView, Sandbox

OWN = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR", "TMPDIR")
KEPT = (
    "id",
    "display_name",
    "history",
    "state",
    "exit_code",
    "created_at",
    "heartbeat_at",
    "group",
    "job_type",
    "notes",
)


class Deliveries:
    """Deliveries of one folder in processes of their own, with a memory that outlives them."""

    def __init__(self, server: Sandbox, top: Path, folder: Path) -> None:
        self._server = server
        self._top = top
        self._folder = folder

    def start(self, memory: str = "memory") -> subprocess.Popen[str]:
        """Begin one."""
        environ = environment(self._server, self._top)
        for name in OWN:
            environ[name] = str(self._top / "sdk" / name)
            Path(environ[name]).mkdir(parents=True, exist_ok=True)
        environ["PYTHONPATH"] = os.pathsep.join(str(Path(__file__).parents[1] / name) for name in ("runs", "helpers"))
        words = [self._server.url, self._server.api_key, self._top, self._folder, self._top / memory]
        return subprocess.Popen(
            [sys.executable, runs_child.__file__, *map(str, words)], env=environ, stdout=subprocess.PIPE, text=True
        )

    def killed_at(self, operation: str, number: int) -> None:
        """Begin one, and end it with everything it started when this request of it is under way."""
        if number > 1:
            self._server.inject(Fault(operation, "slow", times=number - 1))
        self._server.inject(Fault(operation, "lost-reply", times=1))
        asked = len(self._server.requests)
        process = self.start()
        until(lambda: any(each.fault == "lost-reply" for each in self._server.requests[asked:]), seconds=30)
        self.end(process)
        self._server.clear_faults()

    def end(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL for it and for the SDK's process, which has a session of its own."""
        process.kill()
        process.communicate()
        mark = f"WANDB_DIR={self._top / 'sdk' / 'WANDB_DIR'}".encode()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                ours = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if ours:
                os.kill(int(pid), signal.SIGKILL)

    def whole(self, memory: str = "memory") -> list[str]:
        """One to its end: the run's id, and the folder's artifact."""
        process = self.start(memory)
        out, _ = process.communicate(timeout=60)
        self.end(process)
        assert process.returncode == 0
        found: list[str] = json.loads(out)
        return found


def _live(server: Sandbox, top: Path, folder: Path) -> str:
    return log_live(server, folder)


def _script(server: Sandbox, top: Path, folder: Path) -> str:
    made = upload_by_script(server, top, "outputs/x", project="llm-tts-eval-gsm8k", name="by-hand")
    shutil.rmtree(top / "wandb")
    return made


@pytest.mark.parametrize("make", [_live, _script])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("UpsertBucket", 1), ("UpsertBucket", 2)),
        (("CreateRunFiles", 2), ("CommitArtifact", 1)),
        (("CommitArtifact", 2), ("UpsertBucket", 3)),
        (("UpsertBucket", 4), ("Run", 1)),
    ],
)
def test_killed_twice_while_it_is_attached(
    tmp_path: Path,
    make: Callable[[Sandbox, Path, Path], str],
    first: tuple[str, int],
    second: tuple[str, int],
) -> None:
    """The request was carried out, and nobody heard of it: the next one goes on, and the one after has nothing to do."""
    with Sandbox() as server:
        folder = llm_tts_folder(tmp_path / "outputs" / "x")
        there = make(server, tmp_path, folder)
        deliveries = Deliveries(server, tmp_path, folder)
        (before,) = server.runs()
        for operation, number in (first, second):
            deliveries.killed_at(operation, number)
            (between,) = server.runs()
            assert _kept(between) == _kept(before)
        identifier, artifact = deliveries.whole()
        (after,) = server.runs()
        assert (identifier, artifact.rpartition(":")[2]) == (there, "v0")
        assert _kept(after) == _kept(before)
        assert {key: value for key, value in after.config.items() if key != "outbox"} == before.config
        assert {key: after.summary[key] for key in before.summary} == before.summary
        assert (after.summary["samples"]["nrows"], after.summary["total_samples"]) == (3, 3)
        versions = [each for each in server.artifacts() if each.version and each.logged_by == there]
        assert len({each.name for each in versions}) == len(versions)
        sent = len(server.requests.of("CreateArtifact"))
        assert deliveries.whole("lost") == [identifier, artifact]
        assert len(server.requests.of("CreateArtifact")) == sent
        assert server.unknown == []


def _kept(run: RunView) -> list[object]:
    return [getattr(run, name) for name in KEPT]
