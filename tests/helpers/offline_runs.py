"""Offline runs made by the real SDK, once for all tests: each test copies the one it needs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

STEPS = 200
SCRIPT = """
import sys, wandb
steps, how, run_id, project, name = int(sys.argv[1]), sys.argv[2], sys.argv[3] or None, sys.argv[4] or None, sys.argv[5] or None
run = wandb.init(mode="offline", id=run_id, project=project, name=name, config={"lr": 0.1, "net": {"depth": 3}},
                 tags=["early"], notes="by hand", job_type="train")
run.define_metric("loss", step_metric="epoch")
print("a line of the console")
for step in range(steps):
    run.log({"loss": 1 / (step + 1), "epoch": step, "by": {"rank": 0}})
    if step == steps // 2:
        with open("model.txt", "w") as file:
            file.write("weights of " + run.id)
        artifact = wandb.Artifact("model", "model", metadata={"step": step})
        artifact.add_file("model.txt")
        run.log_artifact(artifact, aliases=["best"])
        run.save("model.txt")
        run.log({"table": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])}, commit=False)
run.config["late"] = 7
run.summary["final"] = 0.5
if how == "chart":
    run.config.update({"net": {"width": 2}}, allow_val_change=True)
    points = wandb.Table(columns=["x", "y"], data=[[1, 2], [3, 4]])
    run.log({"curve": wandb.plot.line(points, "x", "y", title="A curve")})
if how == "large":
    run.summary["large"] = "x" * 5_000_000
run.finish(exit_code=int(how) if how.isdigit() else 0)
"""


@dataclass(frozen=True, slots=True)
class Made:
    """Where an offline run lies: ``home`` is the directory that holds ``wandb/``."""

    home: Path
    directory: Path

    @property
    def run_id(self) -> str:
        """The id that the SDK gave it."""
        return self.directory.name.rpartition("-")[2]

    @property
    def log(self) -> Path:
        """Its transaction log."""
        return next(self.directory.glob("*.wandb"))

    def into(self, folder: Path) -> Path:
        """Copy it below ``folder``, as the SDK would have made it there; returns its own directory."""
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        there = folder / "wandb" / self.directory.name
        shutil.copytree(self.directory, there, symlinks=True)
        saved = there / "files" / "model.txt"
        saved.unlink()
        shutil.copyfile(self.home / "model.txt", folder / "model.txt")
        saved.symlink_to(folder / "model.txt")  # as the SDK's `save` does
        return there


@functools.cache
def _top() -> Path:
    top = tempfile.TemporaryDirectory(prefix="outbox-offline-")
    _KEPT.append(top)
    return Path(top.name)


_MAKING = threading.Lock()
_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def made(
    steps: int = STEPS, how: str = "well", run_id: str = "", project: str = "recorded", name: str = "by-the-run"
) -> Made:
    """An offline run of this shape. ``how``: ``well``, ``large`` (a summary of 5 MB), ``chart``, or its exit code."""
    with _MAKING:  # tests run side by side
        return _made(steps, how, run_id, project, name)


@functools.cache
def _made(steps: int, how: str, run_id: str, project: str, name: str) -> Made:
    home = Path(tempfile.mkdtemp(dir=_top()))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(steps), how, run_id, project, name],
        cwd=home, env={**environ, "HOME": str(home), "WANDB_SILENT": "true"}, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (directory,) = (home / "wandb").glob("offline-run-*")
    return Made(home, directory)
