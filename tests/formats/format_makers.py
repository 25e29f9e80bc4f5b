"""Makers of small run folders, as the experiments leave them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from wandb_outbox.folder import snapshot
from wandb_outbox.formats import evidence
from wandb_outbox.model import FormatEvidence

CONFIG = """\
run_name: baseline_seed${system.seed}_${now:%H-%M-%S}
model: {type: vllm, model_path: Qwen/Qwen3-8B}
strategy:
  type: deepconf
dataset:
  data_name: aime25
"""
HOST = "[2025-12-03 10:00:00,100][__main__][INFO] - Host: box (10.0.0.1)\n"
BEGIN = "[2025-12-03 10:00:05,000][__main__][INFO] - Starting trajectory generation...\n"
GENERATED = "[2025-12-03 10:20:00,000][__main__][INFO] - Trajectory generation completed successfully\n"
EVALUATE = "[2025-12-03 10:20:01,000][__main__][INFO] - Starting evaluation phase...\n"
SUCCESS = "[2025-12-03 10:30:00,000][__main__][INFO] - Evaluation completed successfully\n"
WHOLE_LOG = HOST + BEGIN + GENERATED + EVALUATE + SUCCESS
RANGE = "[2025-12-03 10:00:01,000][__main__][INFO] - Dataset: using samples 0 to 11 (12 samples)\n"
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n    f()\nRuntimeError: CUDA died\n'
SAMPLE: dict[str, Any] = {
    "index": 0,
    "question": "1+1?",
    "steps": [{"text": "two", "token_ids": [1], "other_data": {"logprobs": [-0.1]}}],
    "reasoning_steps": 1,
    "validity_scores": [0.5],
    "completed": True,
    "is_correct": True,
    "eval": {"exact_match": {"is_correct": True}},
}


class RunFolder:
    """A directory that files are put into, each a second younger than the one before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clock = 1_764_756_000
        path.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, content: str | bytes | object, *, age: int = 0) -> RunFolder:
        """Write a file; what is no text becomes JSON. ``age`` makes it older, by that many seconds."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        self._clock += 1
        os.utime(file, (self._clock - age, self._clock - age))
        return self

    def evidence(self, name: str = "llm-tts") -> FormatEvidence:
        """What the format says of the folder as it is now."""
        return evidence(name, str(self.path), snapshot(str(self.path)))


def llm_tts(path: Path, *, log: str = WHOLE_LOG, results: str | bytes | object = (SAMPLE,)) -> RunFolder:
    """A folder of the evaluation script, without ``metrics.json``."""
    made = RunFolder(path).put(".hydra/config.yaml", CONFIG).put("stderr.log", "")
    return made.put("results.json", list(results) if isinstance(results, tuple) else results).put(
        "run_tts_eval.log", log
    )
