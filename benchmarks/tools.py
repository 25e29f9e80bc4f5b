"""Programs that we are compared with and do not depend on, in a virtual environment of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.world import REPOSITORY

WANTED = ("typer==0.29.2", "watchfiles==1.3.0", "watchdog==7.1.0")
PLACE = REPOSITORY / "build" / "benchmark-tools"


def tool_python() -> Path:
    """The interpreter that has them; installed at the first call, which needs the network."""
    python, ready = PLACE / "bin" / "python", PLACE / ".ready"
    if not ready.exists() or ready.read_text() != "\n".join(WANTED):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PLACE)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WANTED]
        subprocess.run(pip, check=True)
        ready.write_text("\n".join(WANTED))
    return python
