"""Delivers run folders through the real SDK to a sandbox, and shows what arrived there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import wandb

from wandb_outbox.deliver.protocol import Job
from wandb_outbox.deliver.sdk import Server
from wandb_outbox.deliver.send import Sender
from wandb_outbox.folder import snapshot
from wandb_outbox.model import Plan, PlanRequest, Receipt, run_id
from wandb_outbox.plan import make_plan
from wandb_outbox.sandbox import ArtifactView, RunView, Sandbox


class Way:
    """The way of one run folder to the server, again and again if need be."""

    def __init__(self, sandbox: Sandbox, root: Path, format: str = "llm-tts", below: str = "2025-12-03/run") -> None:  # noqa: A002
        self.sandbox = sandbox
        self.path = root / below
        self.path.mkdir(parents=True, exist_ok=True)
        self.request = PlanRequest(str(self.path), str(root), format, run_id("site", str(self.path), 0), "site")
        self._root = str(root)
        self._contacted = False
        self.through(sandbox.url)

    def through(self, address: str) -> Way:
        """Deliver to the server at another address from now on."""
        self._sender = Sender(Server(address, self.sandbox.api_key), self._root)
        return self

    def put(self, name: str, content: str | bytes | object) -> Way:
        """Write a file; what is no text becomes JSON."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return self

    def ask(self, **changes: Any) -> Way:
        """Ask for a plan with other values in the request."""
        self.request = replace(self.request, **changes)
        return self

    def plan(self) -> Plan:
        """What would be sent for the folder as it is now."""
        return make_plan(self.request, snapshot(str(self.path)))

    def deliver(self, progress: Callable[[str], None] = lambda _stage: None) -> Receipt:
        """Send the folder as it is now. ``progress`` is told which stage begins."""
        taken = snapshot(str(self.path))
        job = Job(1, self.request, taken.birth, taken.fingerprint, self._contacted)
        self._contacted = True
        return self._sender.deliver(job, lambda _id, _incarnation: None, progress)

    def arrived(self, receipt: Receipt) -> RunView:
        """The run as the server has it."""
        run = self.sandbox.run(receipt.entity, receipt.project, receipt.run_id)
        assert run is not None
        return run

    def artifact(self, receipt: Receipt) -> ArtifactView:
        """The artifact of the whole folder as the server has it."""
        name, _, version = receipt.artifact.partition(":")
        found = self.sandbox.artifacts(receipt.entity, receipt.project)
        return next(each for each in found if (each.name, each.version) == (name, version))


def table_rows(run: RunView, name: str = "samples") -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table, from the very file that the summary points to."""
    there = run.summary[name]
    file = run.files[there["path"]]
    assert file.path is not None
    table = json.loads(file.path.read_bytes())
    assert (there["nrows"], there["ncols"]) == (len(table["data"]), len(table["columns"]))
    return table["columns"], table["data"]


def raw_config(sandbox: Sandbox, run: RunView) -> dict[str, Any]:
    """The configuration as the public API gives it, with the part that the SDK keeps for itself."""
    api = wandb.Api(overrides={"base_url": sandbox.url}, api_key=sandbox.api_key)
    raw: dict[str, Any] = api.run(f"{run.entity}/{run.project}/{run.id}").rawconfig
    return raw
