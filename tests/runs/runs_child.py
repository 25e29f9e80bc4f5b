"""One delivery in a process of its own, which a test may end with SIGKILL: ``runs_child.py URL KEY TOP FOLDER MEMORY``.

``MEMORY`` is a file that stands for the outbox: the recorded run id, if there is one, is in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from runs_makers import Memory, Sending


def main() -> None:
    """Deliver, and print the run's id."""
    url, key, top, folder, file = sys.argv[1:]
    memory = Memory(file=Path(file))
    memory.load()
    receipt = Sending(url, key, Path(top)).deliver(Path(folder), memory)
    sys.stdout.write(json.dumps([receipt.run_id, receipt.artifact]))


if __name__ == "__main__":
    main()
