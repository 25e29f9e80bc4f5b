"""The cost of one plan in a fresh process: ``planner.py FIRST FOLDER``. Prints JSON.

``FIRST`` is a small folder of the same kind that is planned before, so that imports and first uses count for nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time

from wandb_outbox.folder import snapshot
from wandb_outbox.model import Plan, PlanRequest
from wandb_outbox.plan import make_plan


def plan(folder: str) -> Plan:
    """The plan of a folder of the evaluation script."""
    request = PlanRequest(folder, os.path.dirname(folder), "llm-tts", "run0id", "bench")
    return make_plan(request, snapshot(folder))


def most_memory() -> int:
    """The most resident bytes of this process so far."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def main(first: str, folder: str) -> None:
    """Plan both and tell what the second one cost."""
    plan(first)
    before, began = most_memory(), time.process_time()
    made = plan(folder)
    seconds, after = time.process_time() - began, most_memory()
    samples = made.summary["total_samples"]
    print(
        json.dumps({"seconds": seconds, "bytes": after - before, "samples": samples, "rows": len(made.tables[0].rows)})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
