"""Experiments that log to W&B themselves while they run, with the real SDK, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from wandb_outbox.sandbox import Sandbox

STEPS = 20
LIVE = """
import os, signal, sys, time, wandb
how, entity, name = sys.argv[1], sys.argv[2] or None, sys.argv[3] or None
run = wandb.init(project="live", entity=entity, name=name, config={"lr": 0.1}, tags=["by-the-run"], group="g", job_type="fit",
                 settings=wandb.Settings(x_transaction_log_flush_interval=1))
for step in range(20):
    run.log({"loss": 1 / (step + 1)})
run.summary["final"] = 0.5
while how in ("stay", "vanish") and os.path.getsize(run.settings.sync_file) < 1000:
    time.sleep(0.05)  # the SDK writes its log with some delay
if how == "stay":
    print(run.id, flush=True)
    sys.stdin.read()
elif how == "vanish":
    os.killpg(os.getpgid(0), signal.SIGKILL)
else:
    run.finish(exit_code=int(how))
"""
SCRIPT = """
import json, sys
from pathlib import Path
import wandb
given, project, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
results = json.loads((given / "results.json").read_text())
run = wandb.init(project=project, name=name, tags=["by-hand"], dir=sys.argv[4],
                 config={"retroactive_logging": True, "original_output_dir": str(given)})
run.summary["total_samples"] = len(results)
artifact = wandb.Artifact(f"results-{given.parent.name}-{given.name}", type="evaluation_results")
artifact.add_file(str(given / "results.json"))
run.log_artifact(artifact)
run.finish()
"""
"""Like the upload script of the guide: results only, under a name of a person's choice, with no stable id."""


def environment(server: Sandbox, home: Path) -> dict[str, str]:
    """The environment of such a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {**kept, **server.environment(), "HOME": str(home), "WANDB_SILENT": "true"}


def log_live(server: Sandbox, folder: Path, how: str = "0", *, entity: str = "", name: str = "") -> str:
    """Log a run from within ``folder``; ``how`` is its exit code, or ``vanish`` for SIGKILL. Returns the run's id."""
    folder.mkdir(parents=True, exist_ok=True)
    before = {run.id for run in server.runs()}
    done = subprocess.run(
        [sys.executable, "-c", LIVE, how, entity, name],
        cwd=folder, env=environment(server, folder.parent), capture_output=True, timeout=60, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert done.returncode == (-9 if how == "vanish" else int(how) and 0), done.stderr.decode()
    (made,) = {run.id for run in server.runs()} - before
    return made


def stay_live(server: Sandbox, folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Log a run from within ``folder`` that ends when its input is closed; returns the process and the run's id."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE, "stay", "", ""],
        cwd=folder, env=environment(server, folder.parent), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def upload_by_script(server: Sandbox, cwd: Path, given: str, *, project: str, name: str) -> str:
    """Upload a folder as the guide's script does, called from ``cwd`` with the folder's name as ``given``."""
    before = {run.id for run in server.runs()}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, given, project, name, str(cwd)],
        cwd=cwd, env=environment(server, cwd), check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (made,) = {run.id for run in server.runs()} - before
    return made
