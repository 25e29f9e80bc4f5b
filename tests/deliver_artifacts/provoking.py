"""Deliveries through the real SDK, each to a server of its own that fails in one way; says what was raised.

As a program, because the SDK keeps threads of its own after a failure: reads ``[[REQUEST, FAULT], ...]`` as JSON on
standard input, and prints ``[[REQUEST, FAULT, EXCEPTION OF THE SDK, OUR ERROR], ...]``. The environment must keep the SDK out of
the home directory.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wandb

from wandb_outbox.deliver import sdk, send
from wandb_outbox.deliver.protocol import Job
from wandb_outbox.deliver.sdk import Server
from wandb_outbox.deliver.send import Sender
from wandb_outbox.errors import OutboxError
from wandb_outbox.folder import snapshot
from wandb_outbox.model import PlanRequest, run_id
from wandb_outbox.sandbox import Fault, Sandbox

FAULTS: dict[str, dict[str, Any]] = {
    "reset": {"action": "reset"},
    "hang": {"action": "hang"},
    "html": {"action": "html", "status": 200},
    **{code: {"action": "status", "status": int(code)} for code in ("400", "401", "403", "404", "409", "500")},
    "429": {"action": "status", "status": 429, "retry_after": 1},
}
FILES = {
    "metrics.json": '{"accuracy": 0.5}',
    "outbox.yaml": "project: p\n",
    "sample_metrics.jsonl": '{"loss": 1.5}\n',
    "results.json": "[]",
    "run_tts_eval.log": "[2025-12-03 11:30:00,123][__main__][INFO] - begun\n",
}
AT_A_TIME = 10
"""They mostly wait."""


def hurry() -> None:
    """Let the SDK give up after a second or two instead of a minute."""
    made = sdk.run_settings

    def run_settings(*arguments: Any) -> wandb.Settings:
        settings = made(*arguments)
        for what in ("graphql", "file_stream", "file_transfer"):
            setattr(settings, f"x_{what}_retry_max", 1)
            setattr(settings, f"x_{what}_retry_wait_max_seconds", 1)
        settings.init_timeout = 6
        return settings

    send.run_settings = run_settings  # type: ignore[attr-defined,assignment]
    send.API_TIMEOUT, send.ARTIFACT_TIMEOUT, send.FINISH_TIMEOUT, send.READ_BACK_FOR = 3, 4, 4, 1.0


def provoke(where: str, fault: str) -> tuple[str, str, str, str]:
    """Deliver a folder through this fault: the SDK's exception, if it was one, and our error."""
    top = Path(tempfile.mkdtemp())
    folder = top / "outputs" / "run"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with Sandbox() as server:
        try:
            if where == "Viewer":
                server.inject(Fault(where, **FAULTS[fault]))
            sender = Sender(Server(server.url, server.api_key), str(top))
            server.inject(Fault(where, **FAULTS[fault]))
            taken = snapshot(str(folder))
            request = PlanRequest(str(folder), str(folder.parent), "llm-tts", run_id("site", str(folder), 0), "site")
            job = Job(1, request, taken.birth, taken.fingerprint, contacted=False)
            sender.deliver(job, lambda _run, _incarnation: None, lambda _stage: None)
        except OutboxError as error:
            return where, fault, type(error.__cause__).__name__, type(error).__name__
    return where, fault, "NoneType", "delivered"


def main() -> None:
    """Provoke what is asked for."""
    hurry()
    cells = json.load(sys.stdin)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = list(pool.map(lambda cell: provoke(*cell), cells))
    print(json.dumps(found), flush=True)  # noqa: T201  the protocol of this program
    os._exit(0)  # without waiting for the SDK's threads


if __name__ == "__main__":
    main()
