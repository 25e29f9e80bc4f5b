"""The plan of a folder with a large ``results.json``: processor time and memory, beside ``json.load`` of the same file."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.result import Row, at_most
from benchmarks.world import HERE, measure, scratch
from wandb_outbox.demo.writer import Experiment, judgement, sample

CONFIG = """\
model: {type: vllm, model_path: Qwen/Qwen3-8B}
strategy: {type: deepconf}
dataset: {data_name: aime25}
"""
LATEX = '$\\frac{\\alpha_{%d}}{\\beta} \\cdot \\sqrt{x^2}$ \\\\ \\begin{align} é “quoted” "x" 数学 \\end{align} '
LOAD = "import json, sys; json.load(open(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of samples a file holds."""

    words: str
    sample: Callable[[int], dict[str, Any]]
    indent: int | None


def of_the_script(index: int) -> dict[str, Any]:
    """A sample as the script leaves it: a few steps with their tokens."""
    experiment = Experiment()
    made = sample(experiment, index)
    return {**made, "eval": {**made["eval"], "llm_judge": judgement(experiment, made, "llm_judge")}}


def with_long_thoughts(index: int) -> dict[str, Any]:
    """A sample of a model that thinks long: a hundred times the steps."""
    made = of_the_script(index)
    return {
        **made, "steps": made["steps"] * 100, "generated_trajectory": made["generated_trajectory"] * 100
    }  # fmt: skip


def with_escapes(index: int) -> dict[str, Any]:
    """A sample of formulas and of many small mappings: nothing but quotes, backslashes and brackets."""
    chance = random.Random(index)  # noqa: S311  no cryptography
    steps = [
        {
            "text": LATEX % step * 8,
            "other_data": {"top": [{str(n): -chance.random() for n in range(5)} for _ in range(60)]},
        }
        for step in range(5)
    ]
    return {**of_the_script(index), "steps": steps, "generated_trajectory": LATEX % index * 40}


SHAPES = (
    Shape("short samples", of_the_script, 2),
    Shape("long samples", with_long_thoughts, 2),
    Shape("formulas and token alternatives", with_escapes, None),
)


def make_folder(folder: Path, shape: Shape, size: int) -> Path:
    """A run folder whose ``results.json`` has at least so many bytes."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(CONFIG)
    with (folder / "results.json").open("w") as file:
        for piece in _pieces(shape):
            file.write(piece)
            if file.tell() >= size:
                break
        file.write("\n]\n")
    return folder


def _pieces(shape: Shape) -> Iterator[str]:
    # Forty different samples are enough; making each anew would take longer than all that is measured.
    texts = [json.dumps(shape.sample(index), indent=shape.indent) for index in range(40)]
    for index, text in enumerate(itertools.cycle(texts)):
        yield (",\n" if index else "[\n") + text


def measured(shape: Shape, size: int, rounds: int) -> list[Row]:
    """The rows of one shape."""
    seconds, more, loads = [], [], []
    with scratch("/dev/shm" if os.path.isdir("/dev/shm") else None) as top:
        first, folder = make_folder(top / "first", shape, 100_000), make_folder(top / "run", shape, size)
        share = (folder / "results.json").stat().st_size / 1e8
        environ = {"PATH": os.environ["PATH"], "HOME": str(top), "LANG": "C.UTF-8"}
        for _ in range(rounds):
            cost = json.loads(
                measure([sys.executable, str(HERE / "planner.py"), str(first), str(folder)], environ, top).out
            )
            seconds.append(cost["seconds"] / share)
            more.append(cost["bytes"] / 1e6)
            load = [sys.executable, "-c", LOAD, str(folder / "results.json")]
            loads.append(measure(load, environ, top, watched=[str(top)]))
    words = f"{size // 10**6} MB of {shape.words}"
    return [
        Row("planning", f"{words}: processor time for each 100 MB", "s", seconds, "`json.load` alone",
            [load.cpu / share for load in loads], "of",
            [ours / (load.cpu / share) for ours, load in zip(seconds, loads, strict=True)], at_most(4, "value")),
        Row("planning", f"{words}: additional memory, at most", "MB", more, "`json.load` alone",
            [load.anonymous / 1e6 for load in loads], target=at_most(100, "value")),
    ]  # fmt: skip


def run(*, quick: bool) -> list[Row]:
    """Three kinds of samples."""
    size, rounds = (10_000_000, 1) if quick else (200_000_000, 3)
    return [row for shape in SHAPES for row in measured(shape, size, rounds)]
