"""Makes run folders of the llm-tts evaluation script: its layout, its formats and its order of writing.

As a program (``python run_folders.py FOLDER``) it is one experiment: it writes the same folder stage by stage, says
each stage's name on standard output when it is done, goes on when it is given a line, and holds its log open until it
ends. So a test decides when the experiment goes on, and no time has to pass.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

LOG = "run_tts_eval.log"
FILES = (
    ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "batch_results.jsonl", "metrics.json",
    "results.json", LOG, "sample_metrics.jsonl", "stderr.log",
)  # fmt: skip
"""What a run that ended well leaves, sorted as bytes are."""
STAGES = ("begun", "generated", "saved", "measured", "evaluated")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an experiment does; everything else in its folder follows from it.

    Attributes:
        strategy: The value of ``strategy.type``; ``strategy_more`` are further keys of that group.
        model: The group ``model``.
        dataset: The group ``dataset``.
        generation: The group ``generation``.
        samples: How many samples it does.
        seed: The value of ``system.seed``; it also decides what is answered right.
        more: Further keys of the configuration.
        overrides: What was given on the experiment's command line.
        padding: Bytes of text in each trajectory, to make a folder large.
    """

    strategy: str = "baseline"
    strategy_more: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=lambda: {"type": "openai_api", "model_path": "gpt-4o-mini"})
    dataset: dict[str, Any] = field(default_factory=lambda: {"data_name": "gsm8k"})
    generation: dict[str, Any] = field(default_factory=lambda: {"temperature": 0.6, "top_k": 20})
    samples: int = 4
    seed: int = 42
    more: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    padding: int = 0

    @property
    def config(self) -> dict[str, Any]:
        """The whole Hydra configuration, unresolved as Hydra stores it."""
        return {
            "run_name": f"{self.strategy}_seed${{system.seed}}_${{now:%H-%M-%S}}",
            "model": {"api_key": None, "max_concurrent_requests": 2, **self.model},
            "generation": {"max_new_tokens": 512, "batch_size": 1, **self.generation},
            "system": {"device": "cpu", "seed": self.seed},
            "strategy": {
                "type": self.strategy,
                "use_thinking": False,
                "stop_token_ids": [151645],
                **self.strategy_more,
            },
            "scorer": {"type": "entropy", "batch_size": 1},
            "evaluation": {"evaluators": ["exact_match"]},
            "report_to": None,
            "dataset": {"dataset_path": "json", "subset": None, "offset": 0, **self.dataset},
            **self.more,
        }

    def result(self, index: int, *, evaluated: bool) -> dict[str, Any]:
        """One entry of ``results.json``; before the evaluation nothing is said of its correctness."""
        text = f"Step 1: {index} groups of 7, so ${index} \\times 7 = {index * 7}$. ✓" + "x" * self.padding
        right = self._is_right(index)
        return {
            "index": index,
            "question": f"Zoë reads {index} chapters of 7 pages each. How many pages did she read?",
            "gold_answer": str(index * 7),
            "generated_trajectory": text,
            "extracted_answer": str(index * 7 if right else index),
            "answer_step": None,
            "steps": [{"text": text, "token_ids": [468884278, index], "other_data": {"logprobs": [-0.25, -0.5]}}],
            "reasoning_steps": 1,
            "validity_scores": [0.5 + index / 1000],
            "completed": True,
            "is_correct": right if evaluated else None,
            "eval": {"exact_match": {"is_correct": right}} if evaluated else {},
            "token_stats": {"input_tokens": 43, "output_tokens": 38, "total_tokens_this_sample": 81, "tflops": None},
        }

    def sample_metrics(self, index: int) -> dict[str, Any]:
        """One line of ``sample_metrics.jsonl``."""
        return {"sample_index": index, "reasoning_steps": 1, "total_tokens_this_sample": 81, "confidence": index / 8}

    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        correct = sum(self._is_right(index) for index in range(self.samples))
        return {
            "avg_validity_score": sum(0.5 + index / 1000 for index in range(self.samples)) / self.samples,
            "completed": self.samples,
            "completed_pct": 1.0,
            "compute/avg_tokens_per_sample": 81.0,
            "compute/total_tflops": 0.0,
            "compute/total_tokens": 81 * self.samples,
            "errors": 0,
            "errors_pct": 0.0,
            "exact_match/accuracy": correct / self.samples,
            "exact_match/correct": correct,
            "exact_match/incorrect": self.samples - correct,
            "no_answer_rate": 0.0,
            "total_samples": self.samples,
        }

    def _is_right(self, index: int) -> bool:
        return (index + self.seed) % 3 != 0


BASELINE = Recipe()


def make(path: Path, recipe: Recipe = BASELINE) -> Path:
    """A folder whose run ended well; returns its path."""
    for _ in stages(path, recipe):
        pass
    return path


def make_unfinished(path: Path, until: str, recipe: Recipe = BASELINE) -> Path:
    """A folder whose run was killed after a stage (see ``STAGES``); returns its path."""
    writing = stages(path, recipe)
    for stage in writing:
        if stage == until:
            break
    writing.close()
    return path


def stages(path: Path, recipe: Recipe) -> Generator[str]:
    """Write the folder in the script's own order, and name each stage after it; the log is open all the time."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOG).open("a", encoding="utf-8", errors="surrogateescape") as log, (path / "stderr.log").open("w"):

        def say(text: str) -> None:
            log.write(f"[2025-12-03 10:00:00,123][__main__][INFO] - {text}\n")
            log.flush()

        _write_hydra(path, recipe)
        say("Host: box (127.0.0.1)")
        say(f"Command: CUDA_VISIBLE_DEVICES=0 scripts/run_tts_eval.py {' '.join(recipe.overrides)}")
        say(f"Dataset: using samples 0 to {recipe.samples - 1} ({recipe.samples} samples)")
        say("Starting trajectory generation...")
        yield "begun"
        _write_lines(path / "batch_results.jsonl", ({"index": i} for i in range(recipe.samples)))
        _write_lines(path / "sample_metrics.jsonl", (recipe.sample_metrics(i) for i in range(recipe.samples)))
        _write_json(path / "results.json", [recipe.result(i, evaluated=False) for i in range(recipe.samples)])
        yield "generated"
        say("Trajectory generation completed successfully")
        say("Starting evaluation phase...")
        _write_json(path / "results.json", [recipe.result(i, evaluated=True) for i in range(recipe.samples)])
        yield "saved"
        _write_json(path / "metrics.json", recipe.metrics())
        say(f"Saved metrics to {path}/metrics.json")
        yield "measured"
        say("Evaluation completed successfully")
        yield "evaluated"


def _write_hydra(path: Path, recipe: Recipe) -> None:
    hydra = {"hydra": {"mode": "RUN", "overrides": {"task": list(recipe.overrides)}, "job": {"name": "run_tts_eval"}}}
    (path / ".hydra").mkdir(exist_ok=True)
    for name, content in (("config", recipe.config), ("hydra", hydra), ("overrides", list(recipe.overrides))):
        (path / ".hydra" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _write_lines(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def _write_json(file: Path, value: object) -> None:
    with file.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False)


def main() -> None:
    """One experiment, driven line by line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for stage in stages(parser.parse_args().folder, BASELINE):
        print(stage, flush=True)  # noqa: T201  the protocol of this program
        if not sys.stdin.readline():
            sys.exit(1)


if __name__ == "__main__":
    main()
