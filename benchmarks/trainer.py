"""A stand-in for an experiment that is bound by its processor, or by its files.

    python -I -S trainer.py cpu|io FOLDER

For every line on its input it does one fixed piece of work and prints the seconds by the wall that it took. Imports
nothing of the project.
"""

from __future__ import annotations

import json
import os
import sys
import time

SAMPLE = {"index": 1, "steps": ["a step of it"] * 5, "logprobs": [-0.25] * 50}


def compute() -> int:
    """A piece of arithmetic in a loop."""
    state = 1
    for _ in range(600_000):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
    return state


def write(folder: str, count: int) -> None:
    """What an evaluation writes of forty samples: log lines, appended rows, and its results anew, made durable."""
    samples = []
    with open(f"{folder}/run_tts_eval.log", "w", buffering=1, encoding="ascii") as log:
        for number in range(40):
            for line in range(20):  # noqa: FURB122  one write for each, as logging does
                log.write(f"[2026-11-21 19:04:48,792][__main__][INFO] - piece {count}, sample {number}, line {line}\n")
            samples.append({**SAMPLE, "index": number})
            with open(f"{folder}/sample_metrics.jsonl", "a" if number else "w", encoding="ascii") as file:
                file.write(json.dumps({"sample_index": number, "text": "x" * 300}) + "\n")
            if number % 4 == 3:
                with open(f"{folder}/results.json", "w", encoding="ascii") as file:
                    json.dump(samples, file)
                    file.flush()
                    os.fsync(file.fileno())


def main() -> None:
    """Work on demand."""
    kind, folder = sys.argv[1:]
    for count, _ in enumerate(sys.stdin):
        began = time.perf_counter()
        if kind == "cpu":
            compute()
        else:
            write(folder, count)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
