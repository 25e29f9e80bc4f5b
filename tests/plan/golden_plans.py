"""Plans as they were last looked at and found good: one for each format and convention, in ``golden/``.

After a change that is meant: ``python tests/plan/golden_plans.py`` writes them anew, and the difference shows what the
change does to the plans of people.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wandb_outbox import __version__
from wandb_outbox.folder import snapshot
from wandb_outbox.model import PlanRequest, RootRules
from wandb_outbox.plan import make_plan, plan_to_json
from wandb_outbox.plan.jsonsafe import json_safe

GOLDEN = Path(__file__).parent / "golden"
CONVENTIONS = ("llm-tts-eval", "params-meta", "plain")
WRITTEN = 1_764_756_000
"""When every file was last written: 2025-12-03 10:00 UTC."""

HYDRA = """\
strategy: {type: deepconf, temperature: 0.6, confidence_threshold: -10}
model: {type: vllm, model_path: Qwen/Qwen3-8B}
dataset: {data_name: aime25, offset: 0, subset: 13}
system: {seed: 42}
git_commit: 0123abc
"""
LOG = """\
[2025-12-03 09:00:00,100][__main__][INFO] - Host: box (10.0.0.1)
[2025-12-03 09:00:05,000][__main__][INFO] - Starting trajectory generation...
[2025-12-03 09:20:00,000][__main__][INFO] - Trajectory generation completed successfully
[2025-12-03 09:20:01,000][__main__][INFO] - Starting evaluation phase...
[2025-12-03 09:30:00,000][__main__][INFO] - Evaluation completed successfully
"""
SAMPLES: list[dict[str, Any]] = [
    {
        "index": index,
        "question": f"{index}+1?",
        "steps": [{"text": "one", "token_ids": [1], "other_data": {"logprobs": [-0.1]}}, "two"],
        "reasoning_steps": 2,
        "validity_scores": [0.25, None, 0.75],
        "completed": True,
        "eval": {"exact_match": {"is_correct": index != 1}, "llm_judge": {"label": 1, "response": "fine"}},
        "token_stats": {"input_tokens": 3, "tflops": float("nan")},
    }
    for index in range(3)
]
OUTBOX = """\
job_type: train
group: exp-003
tags: [nlp, baseline]
notes: A note.
params: {lr: 1.0e-4, hf_dataset_path: David-Egea/phishing-texts}
meta: {task: binary phishing detection, labels: [ham, phishing]}
summary: {eval/f1: 0.94}
inputs: ["phishing-texts-encoded:v3"]
artifacts:
  - {name: phishing-classifier, type: model, files: model/**, metadata: {framework: transformers}, aliases: [candidate]}
media: [plots/*.gif]
"""
EVALUATION = {
    "results": {"gsm8k": {"exact_match,strict-match": 0.7, "exact_match_stderr,strict-match": 0.01, "alias": "gsm8k"}},
    "config": {"model": "hf", "model_args": "pretrained=Qwen/Qwen3-8B"},
    "date": 1764756000.0,
}
STATE = {
    "global_step": 20,
    "max_steps": 20,
    "num_train_epochs": 2,
    "log_history": [
        {"loss": 0.5, "epoch": 1.0, "step": 10},
        {"eval_loss": 0.4, "epoch": 1.0, "step": 10},
        {"loss": 0.25, "epoch": 2.0, "step": 20},
    ],
}
STAMP = "2025-12-03T10-00-00.123456"
FOLDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llm-tts": (
        "2025-12-03/aime2025_deepconf_vllm_s0-12",
        {
            ".hydra/config.yaml": HYDRA,
            ".hydra/overrides.yaml": ["strategy=deepconf", "model.api_key=sk-abcdefghijklmnopqrstuv"],
            "results.json": SAMPLES,
            "metrics.json": {"total_samples": 3, "compute/total_tokens": 700, "exact_match/accuracy": 0.5},
            "sample_metrics.jsonl": '{"sample_index": 0, "confidence": 0.5}\n{"sample_index": 2, "confidence": NaN}\n',
            "run_tts_eval.log": LOG,
            ".env": "KEY=1",
        },
    ),
    "hydra": (
        "multirun/2025-12-13/07-30-22/3",
        {
            ".hydra/config.yaml": "lr: 1e-3\nmodel: {name: resnet}\nrun: ${now:%H}\n",
            ".hydra/hydra.yaml": "hydra: {mode: MULTIRUN}\n",
            "train.log": LOG,
            "metrics.json": {"val/acc": 0.5},
            "csv/version_0/metrics.csv": "epoch,step,train/loss,val/loss\n0,9,0.5,\n0,9,,0.75\n1,19,0.25,\n1,19,,0.5\n",
        },
    ),
    "hf-trainer": (
        "exp-003-fine-tune-20241217T1430Z",
        {
            "trainer_state.json": STATE,
            "all_results.json": {"eval_loss": 0.4, "epoch": 2.0},
            "config.json": {"model_type": "distilbert", "id2label": {"0": "ham", "1": "phishing"}},
            "model.safetensors": "weights",
            "checkpoint-10/model.safetensors": "older",
            "training_args.bin": "no pickle",
        },
    ),
    "lm-eval": (
        "evals/Qwen__Qwen3-8B",
        {
            f"results_{STAMP}.json": EVALUATION,
            f"samples_gsm8k_{STAMP}.jsonl": '{"doc_id": 0, "target": "1", "exact_match": 1.0}\n',
        },
    ),
    "plain": (
        "exp-003-train-2025-12-13T07-30-22Z",
        {
            "outbox.yaml": OUTBOX,
            "model/weights.bin": "weights",
            "plots/x.gif": b"GIF89a\x01\x00\x01\x00",
            "metrics.csv": "epoch,step,train/loss\n0,1,0.5\n1,2,0.25\n",
        },
    ),
}


@contextmanager
def in_utc() -> Iterator[None]:
    """Days in names are local days."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


def plan_of(kind: str, convention: str, top: Path) -> dict[str, Any]:
    """The plan of a folder of this format as JSON, without what is of this machine and this version only."""
    root = top / "outputs"
    below, files = FOLDERS[kind]
    folder = root / below
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        data = (
            content
            if isinstance(content, bytes)
            else (content if isinstance(content, str) else json.dumps(content)).encode()
        )
        file.write_bytes(data)
        os.utime(file, (WRITTEN, WRITTEN))
    taken = snapshot(str(folder))
    rules = RootRules(convention=convention, tags=("gpu-box-3",))
    request = PlanRequest(
        str(folder), str(root), kind, "run0id", "site", outcome="ok", reason="it ended well", rules=rules
    )
    with in_utc():
        plan = make_plan(request, taken)
    shown = plan_to_json(plan) | {
        "history": json_safe(plan.history),
        "axes": plan.axes,
        "log": plan.log,
        "table_rows": json_safe([table.rows for table in plan.tables]),
        "files": [[file.path for file in each.files] for each in plan.artifacts],
        "aliases": [list(each.aliases) for each in plan.artifacts],
        "started_at": plan.started_at,
        "ended_at": plan.ended_at,
        "exit_code": plan.exit_code,
    }
    text = json.dumps(shown, indent=1, ensure_ascii=False)
    for volatile, stable in (
        (str(top), "/TOP"),
        (taken.birth, "BIRTH"),
        (plan.run_id, "RUN"),
        (f'"{__version__}"', '"VERSION"'),
    ):
        text = text.replace(volatile, stable)
    made: dict[str, Any] = json.loads(text)
    return made


def golden_file(kind: str, convention: str) -> Path:
    """Where the plan is kept."""
    return GOLDEN / f"{kind}.{convention}.json"


def main() -> None:
    """Write all of them anew."""
    for kind in FOLDERS:
        for convention in CONVENTIONS:
            with tempfile.TemporaryDirectory() as top:
                text = json.dumps(plan_of(kind, convention, Path(top)), indent=1, ensure_ascii=False)
            golden_file(kind, convention).write_text(text + "\n", "utf-8")
            sys.stdout.write(f"{golden_file(kind, convention)}\n")


if __name__ == "__main__":
    main()
