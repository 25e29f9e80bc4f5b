"""What wandb-outbox costs and how fast it is, each figure beside its baseline in the same run: ``python -m benchmarks``."""

import sys
from pathlib import Path

for _helpers in ("acceptance", "replay"):
    # The makers of run folders, and of what is in them, are the tests' own.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / _helpers))
