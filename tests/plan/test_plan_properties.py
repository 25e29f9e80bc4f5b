"""Whatever a run folder holds, its plan can be made, told as JSON, and made again."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_makers import SAMPLE, Run
from upload_script import numbers, numbers_before

from wandb_outbox.model import RootRules
from wandb_outbox.plan import plan_to_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(
        ["${x}", "${model.type}", "${oc.env:HOME}", "sk-abcdefghijklmnopqrstuv", "gsm8k", "default", "1e-3"]
    )
)
KEYS = st.text(max_size=8) | st.sampled_from(
    ["strategy", "dataset", "model", "type", "data_name", "subset", "offset", "model_path", "api_key", "eval", "steps",
     "text", "metadata", "validity_scores", "is_correct", "sample_index", "completed", "outbox", "wandb_project",
     "params", "meta", "inputs", "artifacts", "files", "name", "tags", "upload", "summary", "metadata", "aliases"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
FILES = st.sampled_from(
    [".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml", "results.json", "metrics.json",
     "sample_metrics.jsonl", "run_tts_eval.log", "stderr.log", "trainer_state.json", "all_results.json",
     "results_2025-12-03T10-00-00.json", "config.json", "outbox.yaml", "outbox.yaml"]
)  # fmt: skip
CONVENTIONS = st.sampled_from(["auto", "params-meta", "plain"])
FORMATS = st.sampled_from(["llm-tts", "hydra", "plain", "hf-trainer", "lm-eval"])


def _content(value: object, cut: int) -> bytes:
    text = json.dumps(value).encode()
    return text if cut < 0 else text[:cut]


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(FILES, st.tuples(VALUES, st.just(-1) | st.integers(0, 200)), max_size=5), FORMATS, CONVENTIONS)
def test_any_content_gives_a_plan(files: dict[str, tuple[Any, int]], kind: str, convention: str) -> None:
    """A plan never raises, is JSON without NaN, and is the same when made again."""
    with tempfile.TemporaryDirectory() as root:
        run = Run(Path(root), format=kind).ask(rules=RootRules(convention=convention))
        for name, (value, cut) in files.items():
            run.put(name, _content(value, cut))
        plan = run.plan()
        text = json.dumps([plan_to_json(plan), plan.history, [table.rows for table in plan.tables]], allow_nan=False)
        text.encode()
        again = run.plan()
        assert again == plan
        json.dumps([plan.name, plan.project, plan.group, plan.tags, plan.notes], ensure_ascii=False).encode()
        assert all(key.isascii() or key for key in plan.summary)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=6), max_size=4))
def test_every_cell_of_a_table_is_a_scalar(samples: list[dict[str, Any]]) -> None:
    """Rows are as wide as there are columns, and no cell needs more than JSON's scalars."""
    with tempfile.TemporaryDirectory() as root:
        plan = Run(Path(root)).put("results.json", [SAMPLE, *samples]).plan()
        table = plan.tables[0]
        assert table.total_rows == len(samples) + 1
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert all(cell is None or isinstance(cell, str | int | float) for cell in row)


def _optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


SCORES = st.none() | st.floats(0, 1)
JUDGED = st.dictionaries(
    st.sampled_from(["exact_match", "llm_judge_a/b"]),
    _optional(is_correct=st.none() | st.booleans(), label=st.sampled_from([0, 1, None])),
)
TODAY = _optional(
    error=st.just("x"), completed=st.booleans(), reasoning_steps=st.integers(0, 9), steps=st.just(["x"] * 3),
    validity_scores=st.none() | st.lists(SCORES, max_size=4),
    eval=JUDGED.map(lambda said: {name: {"is_correct": None, **each} for name, each in said.items()}),
)  # fmt: skip
BEFORE = _optional(
    error=st.just("x"), metadata=_optional(steps=st.integers(0, 9), avg_validity_score=st.floats(0, 1)),
    eval=st.dictionaries(st.sampled_from(["judge"]), _optional(label=st.sampled_from([0, 1, None, "Correct", "Wrong"]))),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.tuples(st.just(numbers), st.lists(TODAY, max_size=6)) | st.tuples(st.just(numbers_before), st.lists(BEFORE)))
def test_the_summary_is_what_the_upload_script_counts(counted: tuple[Any, list[dict[str, Any]]]) -> None:
    """The same keys with the same values, for results of today and for those of the guide's days."""
    script, results = counted
    with tempfile.TemporaryDirectory() as root:
        summary = Run(Path(root)).put("results.json", results).plan().summary
    expected = script(results)
    assert summary.keys() == expected.keys()
    assert summary == pytest.approx(expected)
