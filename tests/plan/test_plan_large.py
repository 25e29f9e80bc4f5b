"""A large ``results.json`` costs time, and not memory."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from children import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_makers import SAMPLE, Run

from wandb_outbox.folder import snapshot
from wandb_outbox.formats import read

MEMORY = """
import os, sys
from wandb_outbox.folder import snapshot
from wandb_outbox.model import PlanRequest
from wandb_outbox.plan import make_plan

def most():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

def plan(folder):
    return make_plan(PlanRequest(folder, os.path.dirname(folder), "llm-tts", "id", "site"), snapshot(folder))

plan(sys.argv[1])
before = most()
made = plan(sys.argv[2])
print(most() - before, made.summary["total_samples"], len(made.tables[0].rows))
"""


def test_memory_does_not_follow_the_size_of_the_results(tmp_path: Path) -> None:
    """40 MB of samples are planned with 16 MB more than a small folder needs."""
    steps = [{"text": "so", "token_ids": list(range(5000)), "other_data": {"logprobs": [-0.125] * 5000}}]
    sample = json.dumps({**SAMPLE, "steps": steps}, indent=2)
    count = 40_000_000 // len(sample)
    Run(tmp_path, "small").put("results.json", f"[{sample}]")
    Run(tmp_path, "large").put("results.json", "[" + ",".join([sample] * count) + "]")
    kilobytes, samples, rows = map(int, run_python(MEMORY, str(tmp_path / "small"), str(tmp_path / "large")).split())
    assert (samples, rows) == (count, count)
    assert kilobytes < 16_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.sampled_from('ab"\\[]{},:é\n'), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
_PIECE = 1024 * 1024


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=4), _JSON, max_size=4), max_size=5),
    st.randoms(use_true_random=False),
    st.sampled_from([None, 1]),
)
def test_samples_are_the_same_wherever_the_pieces_of_the_file_end(
    samples: list[dict[str, object]], chance: random.Random, indent: int | None
) -> None:
    """A file is read in pieces of 1 MB, and every byte of it can be the last of one."""
    text = json.dumps(samples, indent=indent).encode()
    before = b"[" + b" " * (_PIECE - 1 - chance.randint(0, len(text)))
    warnings: list[object] = []
    with tempfile.TemporaryDirectory() as root:
        run = Run(Path(root)).put("results.json", before + text[1:])
        found = read("llm-tts", str(run.path), snapshot(str(run.path))).samples
        assert found is not None
        assert list(found.rows(warnings.append)) == samples
    assert warnings == []
