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

BLOCK = 1 << 20
SHARD = 128 * BLOCK
CHECKPOINT = 8 * BLOCK


def compute() -> int:
    """A piece of arithmetic in a loop."""
    state = 1
    for _ in range(600_000):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
    return state


def prepare(folder: str) -> None:
    """A part of a dataset to read from, beside the folder."""
    with open(f"{folder}.shard", "wb") as file:
        file.writelines(os.urandom(BLOCK) for _ in range(SHARD // BLOCK))


def move_bytes(folder: str, count: int) -> None:
    """Read a part of a dataset, say so in the log, add rows, and write a checkpoint that is durable."""
    with open(f"{folder}.shard", "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            last = block
    with open(f"{folder}/run_tts_eval.log", "a", buffering=1, encoding="ascii") as log:
        for line in range(20):  # noqa: FURB122  one write for each, as logging does
            log.write(f"[2026-11-21 19:04:48,792][__main__][INFO] - piece {count}, line {line}\n")
    with open(f"{folder}/sample_metrics.jsonl", "a", encoding="ascii") as file:
        file.write(json.dumps({"sample_index": count, "text": "x" * 300}) + "\n")
    with open(f"{folder}/checkpoint.new", "wb", buffering=0) as file:
        file.writelines(last for _ in range(CHECKPOINT // BLOCK))
        os.fsync(file.fileno())
    os.rename(f"{folder}/checkpoint.new", f"{folder}/checkpoint.bin")


def main() -> None:
    """Work on demand."""
    kind, folder = sys.argv[1:]
    if kind == "io":
        prepare(folder)
    for count, _ in enumerate(sys.stdin):
        began = time.perf_counter()
        if kind == "cpu":
            compute()
        else:
            move_bytes(folder, count)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
