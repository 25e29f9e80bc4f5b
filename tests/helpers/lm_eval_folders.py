"""What EleutherAI's lm-evaluation-harness leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

FIRST, SECOND, THIRD = (
    "2024-05-01T10-00-00.123456", "2024-05-02T11-30-00.654321", "2024-06-01T09-15-00.000001"
)  # fmt: skip


def evaluate(folder: Path, timestamp: str, accuracy: float, *, samples: int = 2) -> Path:
    """What the harness leaves for two tasks, one of them in a group that has results of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "results": {"gsm8k": {"alias": "gsm8k", "exact_match,strict-match": accuracy}, "mmlu": {"acc,none": accuracy},
                    "mmlu_anatomy": {"acc,none": accuracy}},
        "groups": {"mmlu": {"acc,none": accuracy}},
        "configs": {"gsm8k": {"task": "gsm8k"}, "mmlu_anatomy": {"task": "mmlu_anatomy"}},
        "config": {"model": "hf", "model_args": "pretrained=gpt2"},
        "date": 1714557600.0,
    }  # fmt: skip
    (folder / f"results_{timestamp}.json").write_text(json.dumps(results))
    for task in ("gsm8k", "mmlu_anatomy"):
        rows = [
            {"doc_id": i, "doc": {"question": f"q{i}"}, "target": "4", "resps": [["4"]], "acc": accuracy}
            for i in range(samples)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"samples_{task}_{timestamp}.jsonl").write_text(lines)
    return folder
