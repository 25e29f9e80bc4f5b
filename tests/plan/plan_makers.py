"""Makers of small run folders, and of plans for them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wandb_outbox.folder import snapshot
from wandb_outbox.model import Plan, PlanRequest
from wandb_outbox.plan import make_plan

SAMPLE: dict[str, Any] = {
    "index": 0,
    "question": "1+1?",
    "steps": [{"text": "one", "token_ids": [1], "other_data": {"logprobs": [-0.1]}}, "two"],
    "reasoning_steps": 2,
    "validity_scores": [0.25, None, 0.75],
    "completed": True,
    "is_correct": True,
    "eval": {"exact_match": {"is_correct": True}, "llm_judge": {"label": 0, "consensus": 0.5}},
    "token_stats": {"input_tokens": 3, "tflops": None},
}
CONFIG: dict[str, Any] = {
    "model": {"type": "vllm", "model_path": "Qwen/Qwen3-8B"},
    "strategy": {"type": "deepconf"},
    "dataset": {"data_name": "aime25"},
}


class Run:
    """A run folder below a root, and the plan that is made for it."""

    def __init__(self, root: Path, below: str = "2025-12-03/run_name", format: str = "llm-tts") -> None:  # noqa: A002
        self.root = root
        self.path = root / below
        self.request = PlanRequest(str(self.path), str(root), format, "run0id", "site")
        self.put(".hydra/config.yaml", CONFIG)

    def put(self, name: str, content: str | bytes | object) -> Run:
        """Write a file; what is no text becomes JSON, which YAML can read, too."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else _text(content).encode("utf-8", "surrogatepass"))
        os.utime(file, (1_764_756_000, 1_764_756_000))
        return self

    def ask(self, **changes: Any) -> Run:
        """Ask for the plan with other values in the request."""
        self.request = replace(self.request, **changes)
        return self

    def plan(self, own_secrets: Sequence[str] = ()) -> Plan:
        """The plan for the folder as it is now."""
        return make_plan(self.request, snapshot(str(self.path)), own_secrets)


def _text(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content)


def rules(plan: Plan) -> list[str]:
    """The rules that a plan warns of."""
    return [warning.rule for warning in plan.warnings]
