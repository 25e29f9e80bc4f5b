"""Whatever values an experiment leaves, they are on the server as the documents say."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

from arrivals import Way, table_rows
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from wandb_outbox.sandbox import Sandbox

pytest_plugins = ("arrives_fixtures",)

EXAMPLES = 25
REFERENCES = ("used", "version")
# Each example is two deliveries, and one that does not arrive is waited for: making it small would take very long.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**64), 2**64) | st.floats()
    | st.text(st.characters(codec=None), max_size=12)
)  # fmt: skip
KEYS = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(
    ["a/b", "a.b", "steps", "eval", "_type", "x", "-x", "--"]
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)


def documented(value: Any) -> Any:
    """What docs/reference.md says of a value."""
    match value:
        case bool() | None:
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case float():
            return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        case str():
            return value.encode("utf-8", "replace").decode()
        case list():
            return [documented(each) for each in value]
    return {documented(key): documented(each) for key, each in value.items()}


def without_empty(value: Any) -> Any:
    """A configuration without its empty mappings, of which the SDK sends nothing."""
    if not isinstance(value, dict):
        return value
    kept = {key: without_empty(each) for key, each in value.items()}
    return {key: each for key, each in kept.items() if each != {}}


def exactly(one: Any, other: Any) -> bool:
    """Equal, and of the same types but for integers that became floats of the same value."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(exactly(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(exactly, one, other))
    return bool(one == other)


ODD: dict[str, Any] = {
    "n": 2**62 + 1, "m": 2**53 + 1, "f": 1e300, "z": -0.0, "least": 5e-324, "huge": 2**64, "": None, "e": {}, "l": [],
    "a.b": 1, "a": {"b": {}, "c": None}, "nul\0": "\0", "\ud800": "\udfff", "nan": math.nan, "inf": [math.inf, -math.inf],
    "a*b": 1, "*": 2, "_type": "table-file", "outbox/delivered": 4, "outbox": 2, "samples": 3, "_step": 5, "deep": [[[[]]]],
    "--lr": 1, "used": "wandb-artifact://http://elsewhere.test/x", "version": {"_type": "artifactVersion", "in": ["wandb-artifact://y"]},
}  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=UNSHRUNK)
@given(OBJECTS, OBJECTS, st.lists(OBJECTS, max_size=3), st.lists(OBJECTS, max_size=3))
@example(ODD, ODD, [ODD, {}], [ODD, {"n": 1, "later": 2}])
def test_any_value_arrives_as_documented(
    sandbox: Sandbox,
    config: dict[str, Any],
    metrics: dict[str, Any],
    samples: list[dict[str, Any]],
    history: list[dict[str, Any]],
) -> None:
    """Configuration, summary, history, table and metadata are read back equal, NaN and the infinities as words."""
    with tempfile.TemporaryDirectory() as root:
        way = Way(sandbox, Path(root), "plain").put("outbox.yaml", "").put("config.json", config)
        way.put("metrics.json", metrics)
        way.put("sample_metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
        plan = way.plan()
        receipt = way.deliver()
        run, artifact = way.arrived(receipt), way.artifact(receipt)
        results = Way(sandbox, Path(root), "llm-tts", "2025-12-03/other").put("results.json", samples)
        table = results.plan().tables
        table_run = results.arrived(results.deliver())
    assert exactly(without_empty(plan.config), dict(run.config))
    for key, value in without_empty(documented(config)).items():
        if key == key.strip("-") and key not in ("outbox", "outbox_config", "_wandb", *REFERENCES):
            assert exactly(run.config[key], value)
    summary = {
        key: value
        for key, value in documented(metrics).items()
        if value is not None
        and key not in ("_wandb", "_step", "_runtime", "_timestamp")
        and not key.startswith("outbox/")
    }
    own = {"outbox/delivered", "_wandb", "_runtime", "_step", "_timestamp"}
    assert exactly({key: value for key, value in run.summary.items() if key not in own}, summary)
    rows = [
        {key: value for key, value in row.items() if key not in own - {"_step", "outbox/delivered"}}
        for row in run.history
    ]
    assert exactly(rows, plan.history)
    assert exactly(dict(artifact.metadata), plan.artifacts[0].metadata)
    if table:
        columns, cells = table_rows(table_run)
        assert columns == list(table[0].columns)
        assert exactly(cells, table[0].rows)
