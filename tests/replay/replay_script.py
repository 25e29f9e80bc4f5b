"""What lives are made of: the texts of an experiment, and the operations of one session of it.

Everything is a list of operations of ``replay_actor``; nothing here touches a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Operation = list[Any]

LOG = "run_tts_eval.log"
STDERR = "stderr.log"
RESULTS = "results.json"
METRICS = "metrics.json"
BATCHES = "batch_results.jsonl"
SAMPLE_METRICS = "sample_metrics.jsonl"

GENERATES = "Starting trajectory generation..."
GENERATED = "Trajectory generation completed successfully"
EVALUATES = "Starting evaluation phase..."
EVALUATED = "Evaluation completed successfully"

TRACEBACK = (
    'Traceback (most recent call last):\n  File "run_tts_eval.py", line 12, in <module>\n    main()\n'
    "torch.OutOfMemoryError: CUDA out of memory\n"
)


GONE = "gone"
"""The state of a path at which there must be no row: its folder has another one by now."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What must have become of a folder when its life is over. ``path`` is relative to the stage's top."""

    path: str
    state: str = "queued"
    verdict: str = "complete"
    outcomes: tuple[str, ...] = ("ok",)
    revision: int | None = None
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class Life:
    """Operations, and how they must end."""

    operations: Sequence[Operation]
    endings: tuple[Ending, ...]

    @property
    def folders(self) -> tuple[Ending, ...]:
        """The endings of the folders that are still there under their path."""
        return tuple(ending for ending in self.endings if ending.state != GONE)


# -- texts ---------------------------------------------------------------------------------------------------------------


def log_line(text: str, who: str = "__main__") -> str:
    """A line as Hydra's logging writes it."""
    return f"[2026-11-21 19:04:48,792][{who}][INFO] - {text}\n"


def header(samples: int) -> str:
    """What every session logs first."""
    return "".join(
        map(
            log_line,
            (
                "Host: gpu-box (127.0.0.1)",
                "Command: CUDA_VISIBLE_DEVICES=all scripts/run_tts_eval.py --config-name=experiments/baseline",
                f"Dataset: using samples 0 to {samples - 1} ({samples} samples)",
                "Model loaded successfully",
            ),
        )
    )


def config(samples: int, *, padding: int = 0) -> str:
    """``.hydra/config.yaml``."""
    return (
        "model:\n  type: openai_api\n  model_path: gpt-4o-mini\nstrategy:\n  type: baseline\nscorer:\n  type: entropy\n"
        f"dataset:\n  data_name: gsm8k\n  subset: {samples}\nsystem:\n  seed: 42\n" + "#" * padding
    )


def results(count: int, *, judged: bool = True, size: int = 0) -> str:
    """``results.json`` with ``count`` samples, ``size`` bytes at least."""
    samples: list[dict[str, Any]] = [
        {
            "index": index,
            "question": "How many?",
            "gold_answer": str(index),
            "extracted_answer": str(index),
            "completed": True,
            "is_correct": True if judged else None,
            "eval": {"exact_match": {"is_correct": True}} if judged else {},
        }
        for index in range(count)
    ]
    missing = size - len(json.dumps(samples))
    if samples and missing > 0:
        samples[0]["question"] += "?" * missing
    return json.dumps(samples)


def metrics(count: int) -> str:
    """``metrics.json``."""
    return json.dumps({"total_samples": count, "completed": count, "exact_match/accuracy": 1.0})


def json_line(size: int = 326) -> str:
    """A line of one of the ``jsonl`` files, ``size`` bytes long."""
    bare = json.dumps({"sample_index": 0, "text": ""})
    return json.dumps({"sample_index": 0, "text": "x" * max(0, size - len(bare) - 1)}) + "\n"


# -- a session -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """One process of an experiment: it holds its log open from its first moment to its end."""

    folder: str
    samples: int = 4
    operations: list[Operation] = field(default_factory=list)

    def add(self, *operations: Operation) -> Session:
        """Do these as well."""
        self.operations += operations
        return self

    def begin(self) -> Session:
        """The log, the configuration, standard error, and the first phase."""
        return self.add(
            ["mkdir", self.folder],
            ["open", "log", self.path(LOG), "a"],
            ["mkdir", self.path(".hydra")],
            ["put", self.path(".hydra/config.yaml"), config(self.samples)],
            ["put", self.path(".hydra/hydra.yaml"), "hydra:\n  mode: RUN\n"],
            ["put", self.path(".hydra/overrides.yaml"), f"- dataset.subset={self.samples}\n"],
            ["write", "log", header(self.samples)],
            ["open", "stderr", self.path(STDERR), "w"],
        ).say(GENERATES)

    def say(self, *lines: str) -> Session:
        """Log these lines."""
        return self.add(["write", "log", "".join(map(log_line, lines))])

    def pause(self, seconds: float) -> Session:
        """Think."""
        return self.add(["pause", seconds])

    def chunk(self, count: int, *, size: int = 0) -> Session:
        """Save what there is, now ``count`` samples, not judged yet."""
        self.add(
            ["put", self.path(BATCHES), json_line(3000), "a"],
            ["put", self.path(SAMPLE_METRICS), json_line(), "a"],
        )
        return self.save(count, judged=False, size=size)

    def save(self, count: int, *, judged: bool = True, size: int = 0) -> Session:
        """Write ``results.json`` anew, in place."""
        return self.add(["put", self.path(RESULTS), results(count, judged=judged, size=size)])

    def save_half(self, count: int) -> Session:
        """Begin to write ``results.json`` anew, and keep it open with half of it written."""
        text = results(count, judged=False, size=600)
        return self.add(["open", "results", self.path(RESULTS), "w"], ["write", "results", text[: len(text) // 2]])

    def save_rest(self, count: int) -> Session:
        """Write the other half."""
        text = results(count, judged=False, size=600)
        return self.add(["write", "results", text[len(text) // 2 :]], ["close", "results"])

    def evaluate(self, *pauses: float) -> Session:
        """The second phase: ``results.json`` is saved after each sample, with these pauses between."""
        self.say(GENERATED, EVALUATES)
        for pause in pauses or (0.0,):
            self.pause(pause).save(self.samples)
        return self

    def end_well(self, *, linger: float = 0.0) -> Session:
        """``metrics.json``, the last line, standard error closed, and some time later the exit."""
        return (
            self.add(["put", self.path(METRICS), metrics(self.samples)])
            .say(EVALUATED)
            .add(["close", "stderr"])
            .pause(linger)
            .add(["exit", 0])
        )

    def raise_(self) -> Session:
        """An exception that nobody caught."""
        return self.add(["write", "stderr", TRACEBACK], ["exit", 1])

    def kill(self) -> Session:
        """``kill -9``."""
        return self.add(["kill"])

    def act(self) -> Operation:
        """The session as a process of its own."""
        return ["act", self.operations]

    def path(self, name: str) -> str:
        """A path in the folder."""
        return f"{self.folder}/{name}"


def whole_session(folder: str, *, samples: int = 4, pause: float = 0.1) -> Session:
    """A session from its beginning to its good end."""
    session = Session(folder, samples).begin()
    for count in range(1, samples + 1):
        session.pause(pause).chunk(count)
    return session.evaluate(pause).end_well(linger=pause)


def files_of_a_run(samples: int = 4, *, size: int = 20_000) -> dict[str, str]:
    """What a session that ended well leaves, in the order of the last changes: for folders that are copied.

    ``size`` is that of ``results.json``.
    """
    return {
        STDERR: "",
        ".hydra/config.yaml": config(samples),
        ".hydra/overrides.yaml": f"- dataset.subset={samples}\n",
        BATCHES: json_line(min(3000, size)) * samples,
        SAMPLE_METRICS: json_line() * samples,
        RESULTS: results(samples, size=size),
        METRICS: metrics(samples),
        LOG: header(samples) + "".join(map(log_line, (GENERATES, GENERATED, EVALUATES, EVALUATED))),
    }
