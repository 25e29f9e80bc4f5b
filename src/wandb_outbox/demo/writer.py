"""Writes a run folder as llm-tts-service's ``run_tts_eval.py`` leaves it: same files, same order, same habits.

Nothing is written atomically. The log is open from the first moment until the process ends; ``results.json`` is
written anew, in place, after every chunk; the files with one line a sample are opened, appended to and closed. The
content is made up, and the same experiment always makes the same content; only the times in the log are the clock's.

As a process it writes in real time: ``python -m wandb_outbox.demo.writer --into DIR --run-name NAME ...``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import random
import signal
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn, Self

import yaml

LOG = "run_tts_eval.log"
STDERR = "stderr.log"
RESULTS = "results.json"
BATCHES = "batch_results.jsonl"
SAMPLE_METRICS = "sample_metrics.jsonl"
METRICS = "metrics.json"
INCONSISTENCIES = "eval_inconsistencies.json"
EXTRA = "hidden_states.bin"
"""Holds ``extra_bytes`` of noise, for a folder of some size."""

EXACT_MATCH = "exact_match"
"""The evaluator that judges each sample as soon as it is generated; all others come in the second phase."""

_MAIN = "__main__"
_API = "llm_tts.generators.api"
_RULE = "=" * 60
_THIN_RULE = "-" * 60
_PARTS = 1 << 20


class Kind(StrEnum):
    """How an experiment ends."""

    NORMAL = "normal"
    """All samples, ``metrics.json``, exit code 0."""
    KILLED = "killed"
    """``SIGKILL`` in the middle of a chunk."""
    INCOMPLETE = "incomplete"
    """The model's API dies half-way: fewer samples than configured, and yet ``metrics.json`` and exit code 0."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is evaluated, and how it ends.

    ``backend`` is ``vllm``, ``hf``, ``openai``, or the name of another provider behind OpenAI's API. ``breaks_in`` is
    the chunk (from 1) in which a run that does not end well breaks; ``None`` is the one in the middle. ``torn``: the
    kill comes while ``results.json`` is being written.
    """

    strategy: str = "baseline"
    model: str = "gpt-4o-mini"
    backend: str = "openai"
    dataset: str = "gsm8k"
    scorer: str = "entropy"
    seed: int = 42
    samples: int = 12
    offset: int = 0
    chunk: int = 4
    temperature: float = 0.6
    top_k: int = 20
    evaluators: tuple[str, ...] = (EXACT_MATCH,)
    kind: Kind = Kind.NORMAL
    breaks_in: int | None = None
    torn: bool = False
    extra_bytes: int = 0

    @property
    def short_model(self) -> str:
        """The model's name as it stands in paths and run names."""
        return self.model.rpartition("/")[2].lower().replace("-", "_").replace(".", "_")

    @property
    def name(self) -> str:
        """Strategy, model and dataset."""
        return f"{self.strategy}_{self.short_model}_{self.dataset}"


# -- what is in the files ------------------------------------------------------------------------------------------------


def chunks(experiment: Experiment) -> list[range]:
    """The indices of the samples, chunk by chunk."""
    size = max(1, experiment.chunk)
    return [range(at, min(at + size, experiment.samples)) for at in range(0, experiment.samples, size)]


def breaking_chunk(experiment: Experiment) -> int | None:
    """The chunk (from 1) in which the run breaks; ``None`` for one that ends well."""
    if experiment.kind is Kind.NORMAL:
        return None
    return experiment.breaks_in or len(chunks(experiment)) // 2 + 1


def config_for(experiment: Experiment) -> dict[str, Any]:
    """``.hydra/config.yaml``: composed by Hydra, its interpolations not resolved."""
    return {
        "run_name": f"{experiment.name}_seed${{system.seed}}_${{now:%H-%M-%S}}",
        "wandb_project": f"llm-tts-eval-{experiment.dataset}",
        "wandb_group": experiment.name,
        "model": _model_config(experiment),
        "generation": {
            "temperature": experiment.temperature,
            "max_new_tokens": 512,
            "max_length": 8196,
            "batch_size": 1,
            "sequential_generation": False,
            "top_p": 0.95,
            "top_k": experiment.top_k,
            "presence_penalty": 0.0,
            "checkpoint_batch_size": experiment.chunk,
        },
        "system": {
            "device": "cpu" if _is_api(experiment) else "cuda",
            "seed": experiment.seed,
            "hf_cache": ".cache/huggingface",
            "torch_dtype": "bfloat16",
        },
        "strategy": _strategy_config(experiment),
        "scorer": {"type": experiment.scorer, "batch_size": 1},
        "evaluation": {"evaluators": list(experiment.evaluators)},
        "verbose": True,
        "report_to": None,
        "dataset": {
            "data_name": experiment.dataset,
            "dataset_path": "json",
            "data_files": f"data/{experiment.dataset}.json",
            "dataset_config": None,
            "dataset_split": "train",
            "subset": experiment.samples,
            "offset": experiment.offset,
            "question_field": "question",
            "answer_field": "answer",
            "answer_format": "numeric",
            "system_prompt": r"Please reason step by step, and put your final answer within \boxed{}.",
            "prompt_template": "{question}",
            "prompt_file": None,
        },
    }


def overrides_for(experiment: Experiment) -> list[str]:
    """``.hydra/overrides.yaml``: what was given on the command line."""
    return [f"dataset.subset={experiment.samples}", f"system.seed={experiment.seed}"]


def hydra_for(experiment: Experiment, folder: str) -> dict[str, Any]:
    """``.hydra/hydra.yaml``: how Hydra itself was set up for this run."""
    return {
        "hydra": {
            "run": {
                "dir": "outputs/${now:%Y-%m-%d}/${dataset.data_name}/${model.model_short_name}/${strategy.type}/"
                "${scorer.type}/seed${system.seed}_${now:%H-%M-%S}"
            },
            "sweep": {"dir": "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}", "subdir": "${hydra.job.num}"},
            "job_logging": {
                "version": 1,
                "formatters": {"simple": {"format": "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"}},
            },
            "mode": "RUN",
            "output_subdir": ".hydra",
            "overrides": {"hydra": ["hydra.mode=RUN"], "task": overrides_for(experiment)},
            "job": {
                "name": "run_tts_eval",
                "chdir": False,
                "override_dirname": ",".join(overrides_for(experiment)),
                "id": "???",
                "num": "???",
                "config_name": f"experiments/{experiment.name}",
            },
            "runtime": {"version": "1.3.8", "version_base": "1.3", "output_dir": folder},
            "verbose": False,
        }
    }


def sample(experiment: Experiment, index: int) -> dict[str, Any]:
    """One entry of ``results.json`` as it is saved while samples are generated.

    ``is_correct`` is ``None`` and ``eval`` empty unless ``exact_match`` judges as soon as a sample is there.
    """
    chance = _chance(experiment, index)
    question, gold, working = _problem(_dataset_chance(experiment, index))
    found = gold if chance.random() < 0.75 else gold + chance.choice((-1, 1, 10))
    texts = _steps(chance, experiment, working, found)
    steps = [_step(chance, text) for text in texts]
    scores = [step["other_data"]["validity_score"] for step in steps]
    produced = sum(len(step["token_ids"]) for step in steps)
    given = len(question) // 4 + 20
    judged = EXACT_MATCH in experiment.evaluators
    return {
        "index": index,
        "question": question,
        "gold_answer": str(gold),
        "generated_trajectory": "\n\n".join(texts),
        "extracted_answer": str(found),
        "answer_step": None,
        "steps": steps,
        "reasoning_steps": len(steps),
        "validity_scores": scores,
        "completed": True,
        "is_correct": found == gold if judged else None,
        "eval": {EXACT_MATCH: {"is_correct": found == gold}} if judged else {},
        "instance_data": {"question": question, "answer": f"{working}\n#### {gold}"},
        "token_stats": {
            "input_tokens": given,
            "output_tokens": produced,
            "total_tokens_this_sample": given + produced,
            "generation_count": len(steps),
            "tflops": None if _is_api(experiment) else round(produced * 0.016, 3),
        },
        "context_limit_hit": False,
        "max_steps_hit": False,
    }


def judgement(experiment: Experiment, result: Mapping[str, Any], evaluator: str) -> dict[str, Any]:
    """What an evaluator of the second phase says of one sample; a judge is not always right."""
    right = result["extracted_answer"] == result["gold_answer"]
    if _chance(experiment, int(result["index"]), evaluator).random() < 0.05:
        right = not right
    word = "Correct" if right else "Incorrect"
    return {"label": int(right), "is_correct": right, "consensus": 1.0, "response": f"<Grade>: {word}", "error": None}


def batch_record(result: Mapping[str, Any]) -> dict[str, Any]:
    """The line of one sample in ``batch_results.jsonl``, saved before anything is judged."""
    return {
        "index": result["index"],
        "question": result["question"],
        "gold_answer": result["gold_answer"],
        "trajectory": result["generated_trajectory"],
        "extracted_answer": result["extracted_answer"],
        "steps": [step["text"] for step in result["steps"]],
        "answer_step": None,
        "validity_scores": result["validity_scores"],
        "all_step_scores": [],
        "all_scores": [],
        "best_idx": None,
    }


def metrics_row(result: Mapping[str, Any]) -> dict[str, Any]:
    """The line of one sample in ``sample_metrics.jsonl``."""
    tokens = result["token_stats"]
    return {
        "sample_index": result["index"],
        "reasoning_steps": result["reasoning_steps"],
        "total_tokens_this_sample": tokens["total_tokens_this_sample"],
        "input_tokens_this_sample": tokens["input_tokens"],
        "output_tokens_this_sample": tokens["output_tokens"],
        "generations_this_sample": tokens["generation_count"],
        "tflops_this_sample": tokens["tflops"] or 0.0,
        "prm_tokens_this_sample": 0,
        "prm_tflops_this_sample": 0.0,
        "completion_reason": "eos_pattern",
        "confidence": _mean(result["validity_scores"]),
    }


def metrics_for(experiment: Experiment, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``metrics.json``: flat, with slashes in the names."""
    total = len(results)
    completed = sum(bool(result["completed"]) for result in results)
    tokens = [result["token_stats"] for result in results]
    scores = [score for result in results for score in result["validity_scores"]]
    tflops = math.fsum(each["tflops"] or 0.0 for each in tokens)
    found: dict[str, Any] = {
        "total_samples": total,
        "completed": completed,
        "completed_pct": _share(completed, total),
        "errors": 0,
        "errors_pct": 0.0,
        "no_answer_count": 0,
        "no_answer_rate": 0.0,
        "eval/symbolic_equal_timeouts": 0,
        "compute/total_tokens": sum(each["total_tokens_this_sample"] for each in tokens),
        "compute/total_input_tokens": sum(each["input_tokens"] for each in tokens),
        "compute/total_output_tokens": sum(each["output_tokens"] for each in tokens),
        "compute/total_generations": sum(each["generation_count"] for each in tokens),
        "compute/total_tflops": tflops,
        "compute/avg_tokens_per_sample": _share(sum(each["total_tokens_this_sample"] for each in tokens), total),
        "compute/avg_output_tokens_per_sample": _share(sum(each["output_tokens"] for each in tokens), total),
        "compute/avg_tflops_per_sample": _share(tflops, total),
    }
    for evaluator in experiment.evaluators:
        correct = sum(bool(result["eval"].get(evaluator, {}).get("is_correct")) for result in results)
        found[f"{evaluator}/correct"] = correct
        found[f"{evaluator}/correct_pct"] = _share(correct, total)
        found[f"{evaluator}/incorrect"] = total - correct
        found[f"{evaluator}/incorrect_pct"] = _share(total - correct, total)
        found[f"{evaluator}/accuracy"] = _share(correct, total)
    if scores:
        found["avg_validity_score"] = _mean(scores)
        found["avg_reasoning_steps_per_trajectory"] = _mean([result["reasoning_steps"] for result in results])
    return found


def inconsistencies(results: Sequence[Mapping[str, Any]], judges: Sequence[str]) -> list[dict[str, Any]]:
    """``eval_inconsistencies.json``: the samples on which a judge and ``exact_match`` do not agree."""
    return [
        {"index": result["index"], "judge": judge, EXACT_MATCH: result["is_correct"], "llm_judge": said["is_correct"]}
        for judge in judges
        for result in results
        if (said := result["eval"][judge])["is_correct"] != result["is_correct"]
    ]


# -- writing it ----------------------------------------------------------------------------------------------------------


def kill_self() -> NoReturn:
    """End this process as ``kill -9`` and the out-of-memory killer do: nothing is flushed, nothing tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable: SIGKILL cannot be caught")


def write_run(
    folder: str,
    experiment: Experiment,
    *,
    pace: float = 0.0,
    linger: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
    die: Callable[[], NoReturn] = kill_self,
) -> None:
    """Write the whole folder: ``pace`` seconds a sample, and ``linger`` seconds after the last line of the log.

    A killed experiment calls ``die`` in the middle of its breaking chunk and never returns.
    """
    os.makedirs(folder, exist_ok=True)
    with _Log(os.path.join(folder, LOG)) as log:
        _write_hydra(folder, experiment)
        _write_header(log, folder, experiment)
        with open(os.path.join(folder, STDERR), "w", encoding="utf-8", buffering=1):
            run = _Run(folder, experiment, log, lambda: sleep(pace), die)
            run.generate()
            run.evaluate()
        sleep(linger)


class _Log:
    """The experiment's log: one file, open for appending until the end, and loggers of several names that share it.

    The loggers are in a hierarchy of their own, so that importing and using this module leaves logging as it is.
    """

    def __init__(self, path: str) -> None:
        self._handler = logging.FileHandler(path, mode="a", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
        top = logging.RootLogger(logging.INFO)
        top.addHandler(self._handler)
        self._loggers = logging.Manager(top)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handler.close()

    def say(self, *lines: str, who: str = _MAIN, level: int = logging.INFO) -> None:
        """Log each line."""
        logger = self._loggers.getLogger(who)
        for line in lines:
            logger.log(level, "%s", line)

    def heading(self, text: str) -> None:
        """Log a line between two rules."""
        self.say("\n" + _RULE, text, _RULE)


class _Run:
    """One experiment under way."""

    def __init__(
        self, folder: str, experiment: Experiment, log: _Log, pause: Callable[[], None], die: Callable[[], NoReturn]
    ) -> None:
        self._folder = folder
        self._experiment = experiment
        self._log = log
        self._pause = pause
        self._die = die
        self._results: list[dict[str, Any]] = []

    def generate(self) -> None:
        """The first phase: chunk by chunk, each saved before the next begins."""
        experiment, log = self._experiment, self._log
        parts = chunks(experiment)
        breaking = breaking_chunk(experiment)
        log.say("Starting trajectory generation...")
        log.heading("Phase 1: Generating trajectories")
        log.say(f"Phase 1 evaluators: {[name for name in experiment.evaluators if name == EXACT_MATCH]}")
        log.say(f"Batch generating {experiment.samples} samples with checkpoint_batch_size={experiment.chunk}...")
        for number, part in enumerate(parts, 1):
            log.say(f"Processing chunk {number}/{len(parts)}: samples {part[0]}-{part[-1]} ({len(part)} samples)")
            if experiment.kind is Kind.INCOMPLETE and breaking is not None and number >= breaking:
                self._fail(part)
                continue
            self._generate_chunk(part, killed=experiment.kind is Kind.KILLED and number == breaking)
            done = len(self._results)
            log.say(
                f"Chunk {number}/{len(parts)} complete: {done}/{experiment.samples} samples processed, checkpoint saved"
            )
        self._save()
        log.say(f"Final save: {len(self._results)} results to {self._path(RESULTS)}")
        log.say("Trajectory generation completed successfully")

    def evaluate(self) -> None:
        """The second phase: what is not judged yet is judged sample by sample, and all is saved after each."""
        experiment, log = self._experiment, self._log
        if experiment.extra_bytes:
            _write_noise(self._path(EXTRA), experiment)
        log.say("Starting evaluation phase...")
        log.heading("Phase 2: Checking correctness")
        log.say(f"Using evaluators: {list(experiment.evaluators)}")
        for evaluator in experiment.evaluators:
            log.say(f"\n--- Evaluator: {evaluator} ---")
            for result in self._results:
                if evaluator in result["eval"]:
                    log.say(f"Skipping sample {result['index']} (already evaluated by {evaluator})")
                    continue
                log.say(f"Evaluating sample {result['index']} with {evaluator}...")
                self._pause()
                said = judgement(experiment, result, evaluator)
                result["eval"][evaluator] = said
                log.say(f"Sample {result['index']} [{evaluator}]: {'Correct' if said['is_correct'] else 'Incorrect'}")
                self._save()
        metrics = metrics_for(experiment, self._results)
        log.say("Summary:", f"Total samples: {metrics['total_samples']}", f"Completed: {metrics['completed']}")
        _write_json(self._path(METRICS), metrics, sort_keys=True)
        log.say(f"Saved metrics to {self._path(METRICS)}")
        judges = [evaluator for evaluator in experiment.evaluators if evaluator.startswith("llm_judge")]
        if judges:
            _write_json(self._path(INCONSISTENCIES), inconsistencies(self._results, judges))
        else:
            log.say("No LLM judge evaluator found, skipping inconsistency logging")
        log.say("Evaluation completed successfully")

    def _generate_chunk(self, part: range, *, killed: bool) -> None:
        entries = []
        for place, index in enumerate(part, 1):
            self._log.say(f"[CALL START] [#{index + 1} sample={place - 1} cand=0] n=1, timeout=300s", who=_API)
            self._pause()
            entries.append(sample(self._experiment, index))
            self._log.say(f"[{place}/{len(part)}] Sample {place - 1} generated 1 candidate(s)", who=_API)
        # The first chunk begins the file, the others append to it.
        mode = "w" if not self._results else "a"
        _write_lines(self._path(BATCHES), map(batch_record, entries), mode)
        self._log.say(f"Saved {len(entries)} batch results to {self._path(BATCHES)}")
        for entry in entries:
            self._results.append(entry)
            self._tell(entry)
            _write_lines(self._path(SAMPLE_METRICS), [metrics_row(entry)], "a")
            if killed and not self._experiment.torn:
                self._die()
        if killed:
            self._save_half()
            self._die()
        self._save()

    def _fail(self, part: range) -> None:
        for index in part:
            self._pause()
            self._log.say(
                f"Sample {index} generation failed: Connection error.", who=_API, level=logging.ERROR
            )  # fmt: skip

    def _tell(self, entry: Mapping[str, Any]) -> None:
        log = self._log
        log.say("\n" + _RULE, f"Sample {entry['index'] + 1}/{self._experiment.samples}")
        log.say(f"Question: {entry['question'][:200]}...", f"Gold answer: {entry['gold_answer']}")
        log.say("\n" + _THIN_RULE, "GENERATED STEPS:", _THIN_RULE)
        for number, (step, score) in enumerate(zip(entry["steps"], entry["validity_scores"], strict=True), 1):
            log.say(f"\nStep {number} (confidence: {score:.3f}):", step["text"])
        log.say(f"\nFull trajectory:\n{entry['generated_trajectory']}")
        log.say("\n" + _RULE, f"FINAL ANSWER: {entry['extracted_answer']}", f"Gold answer:  {entry['gold_answer']}")
        for evaluator, said in entry["eval"].items():
            log.say(f"[{evaluator}]: {'✓ YES' if said['is_correct'] else '✗ NO'}")
        log.say(_THIN_RULE, f"Num steps: {len(entry['steps'])}", _RULE)

    def _save(self) -> None:
        _write_json(self._path(RESULTS), self._results)

    def _save_half(self) -> None:
        """``results.json`` as it is on disk when the writer dies in its middle."""
        whole = json.dumps(self._results, indent=2, ensure_ascii=False).encode()
        with open(self._path(RESULTS), "wb") as file:
            file.write(whole[: len(whole) // 2])

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _write_hydra(folder: str, experiment: Experiment) -> None:
    os.makedirs(os.path.join(folder, ".hydra"), exist_ok=True)
    for name, value in (
        ("config", config_for(experiment)),
        ("hydra", hydra_for(experiment, folder)),
        ("overrides", overrides_for(experiment)),
    ):
        with open(os.path.join(folder, ".hydra", f"{name}.yaml"), "w", encoding="utf-8") as file:
            yaml.safe_dump(value, file, sort_keys=False, allow_unicode=True, width=1000)


def _write_header(log: _Log, folder: str, experiment: Experiment) -> None:
    last = experiment.offset + experiment.samples - 1
    log.say(
        "Host: gpu-box (127.0.0.1)",
        f"Command: CUDA_VISIBLE_DEVICES=all scripts/run_tts_eval.py --config-path=../config "
        f"--config-name=experiments/{experiment.name} {' '.join(overrides_for(experiment))}",
        f"Output directory: {folder}",
        f"Stderr redirected to: {os.path.join(folder, STDERR)}",
        f"Set random seed to {experiment.seed}",
        "Loading dataset: json (train)",
        f"Dataset: using samples {experiment.offset} to {last} ({experiment.samples} samples)",
        f"Loading model: {experiment.model}",
        "Model loaded successfully",
    )


def _write_json(path: str, value: object, *, sort_keys: bool = False) -> None:
    """Write in place, in the pieces in which Python's buffer empties: a reader can see half of it."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False, sort_keys=sort_keys)


def _write_lines(path: str, rows: Iterable[Mapping[str, Any]], mode: str) -> None:
    with open(path, mode, encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_noise(path: str, experiment: Experiment) -> None:
    chance = _chance(experiment, -1)
    left = experiment.extra_bytes
    with open(path, "wb") as file:
        while left > 0:
            left -= file.write(chance.randbytes(min(left, _PARTS)))


# -- making it up --------------------------------------------------------------------------------------------------------


def _chance(experiment: Experiment, index: int, purpose: str = "") -> random.Random:
    """The source of what is made up about one sample: the same for ever for the same experiment."""
    words = (experiment.strategy, experiment.model, experiment.backend, experiment.seed, purpose)
    return _dataset_chance(experiment, index, *words)


def _dataset_chance(experiment: Experiment, index: int, *words: object) -> random.Random:
    # A string seeds by its hash over all of it, the same in every process.
    return random.Random(repr((experiment.dataset, experiment.offset + index, *words)))  # noqa: S311  a made-up story


def _problem(chance: random.Random) -> tuple[str, int, str]:
    """A question, its answer, and how to get there."""
    groups, each, more = chance.randint(3, 24), chance.randint(6, 40), chance.randint(3, 30)
    question = chance.choice((
        f"A baker packs {groups} trays with {each} rolls each and has {more} rolls left over. How many rolls are there?",
        f"Zoë reads {groups} chapters of {each} pages each and then {more} more pages. How many pages did she read?",
        f"A train has {groups} carriages with {each} seats each, plus {more} folding seats. How many seats are there?",
        f"Each of {groups} crates weighs {each} kg and the pallet weighs {more} kg. What is the total weight in kg?",
    ))  # fmt: skip
    product = groups * each
    return question, product + more, f"{groups}*{each}={product}, plus {more} is <<{product}+{more}={product + more}>>"


def _steps(chance: random.Random, experiment: Experiment, working: str, found: int) -> list[str]:
    """The answer's steps: one for strategies that generate it whole, several for those that search step by step."""
    product = working.partition(",")[0].replace("*", r" \times ")
    first = f"Let us solve this step by step.\n\nStep 1: ${product}$."
    doubt = "Wait, let me double-check the first product — yes, it is correct ✓."
    last = f"Step 2: Adding the rest gives {found}.\n\nTherefore, the final answer is $\\boxed{{{found}}}$."
    texts = [first, doubt, last] if chance.random() < 0.3 else [first, last]
    return texts if experiment.strategy in _STEPWISE else ["\n\n".join(texts)]


def _step(chance: random.Random, text: str) -> dict[str, Any]:
    words = text.split()
    log_probabilities = [-chance.expovariate(4.0) for _ in words]
    score = 0.5 + 0.02 * chance.random()
    return {
        "text": text,
        "token_ids": [zlib.crc32(word.encode()) for word in words],
        "is_complete": True,
        "is_trajectory_complete": "boxed" in text,
        "generation_scores": None,
        "raw_text": text,
        "other_data": {
            "uncertainty_score": 1 / score - 1,
            "validity_score": score,
            "logprobs": log_probabilities,
            "original_token_count": len(words),
            "completion_reason": "eos_pattern",
        },
    }


def _is_api(experiment: Experiment) -> bool:
    return experiment.backend not in ("vllm", "hf")


def _model_config(experiment: Experiment) -> dict[str, Any]:
    names = {"model_path": experiment.model, "model_short_name": experiment.short_model}
    if experiment.backend == "vllm":
        return {
            "type": "vllm", **names, "gpu_memory_utilization": 0.9, "tensor_parallel_size": 1,
            "enable_prefix_caching": True, "max_context_budget": 32768, "disable_thinking_mode": None,
        }  # fmt: skip
    if experiment.backend == "hf":
        return {"type": "local", **names, "device_map": "auto", "disable_thinking_mode": None}
    provider = {} if experiment.backend == "openai" else {"provider": experiment.backend}
    return {
        "type": "openai_api", **provider, **names, "supports_logprobs": True, "api_key": None, "prefill_mode": False,
        "max_context_budget": 128000, "max_concurrent_requests": 2,
    }  # fmt: skip


_STEPWISE = frozenset({"beam_search", "online_best_of_n", "adaptive"})
_STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "baseline": {"min_step_tokens": 0, "max_step_tokens": 512, "detector_answer_patterns": []},
    "self_consistency": {"min_step_tokens": 50, "num_paths": 8, "max_new_tokens": 512, "n_threads": 8},
    "deepconf": {
        "min_step_tokens": 50, "budget": 8, "window_size": 2048, "temperature": 0.7, "filter_method": "threshold",
        "confidence_threshold": -10,
    },
    "beam_search": {"aggregation": "mean", "beam_size": 4, "candidates_per_beam": 4, "max_step_tokens": 1024},
    "online_best_of_n": {"candidates_per_step": 8, "min_step_tokens": 50, "max_step_tokens": 1024},
    "adaptive": {"candidates_per_step": 4, "scaling_rate": 0.9, "momentum_rate": 0.9, "max_step_tokens": 1024},
}  # fmt: skip


def _strategy_config(experiment: Experiment) -> dict[str, Any]:
    return {"type": experiment.strategy, **_STRATEGIES.get(experiment.strategy, {})}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _share(part: float, total: int) -> float:
    return part / total if total else 0.0


# -- the process ---------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Write one run folder in real time; the exit code is that of the experiment."""
    defaults = Experiment()
    parser = argparse.ArgumentParser(
        prog="python -m wandb_outbox.demo.writer",
        description="Writes a made-up run folder as run_tts_eval.py does.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--into", required=True, metavar="DIR", help="the directory that gets the run folder")
    parser.add_argument("--run-name", required=True, metavar="NAME", help="path of the run folder below DIR")
    parser.add_argument("--kind", choices=[kind.value for kind in Kind], default=defaults.kind.value)
    parser.add_argument("--pace", type=float, default=0.5, metavar="SECONDS", help="time a sample takes")
    parser.add_argument("--linger", type=float, default=2.0, metavar="SECONDS", help="time between last line and exit")
    for name in ("strategy", "model", "backend", "dataset", "scorer"):
        parser.add_argument(f"--{name}", default=getattr(defaults, name))
    for name in ("seed", "samples", "offset", "chunk", "extra-bytes"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name.replace("-", "_")))
    parser.add_argument("--evaluators", default=",".join(defaults.evaluators), help="names, with commas")
    parser.add_argument("--breaks-in", type=int, metavar="CHUNK", help="the chunk that is not finished (from 1)")
    parser.add_argument("--torn", action="store_true", help="killed while results.json is written")
    said = parser.parse_args(argv)
    experiment = Experiment(
        strategy=said.strategy, model=said.model, backend=said.backend, dataset=said.dataset, scorer=said.scorer,
        seed=said.seed, samples=said.samples, offset=said.offset, chunk=said.chunk,
        evaluators=tuple(said.evaluators.split(",")), kind=Kind(said.kind), breaks_in=said.breaks_in, torn=said.torn,
        extra_bytes=said.extra_bytes,
    )  # fmt: skip
    write_run(os.path.join(os.path.abspath(said.into), said.run_name), experiment, pace=said.pace, linger=said.linger)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
