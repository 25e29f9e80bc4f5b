"""What a plan holds: configuration, summary, history, table, artifact."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from plan_makers import CONFIG, SAMPLE, Run, rules

from wandb_outbox import __version__
from wandb_outbox.errors import ConfigurationError
from wandb_outbox.folder import snapshot
from wandb_outbox.model import PlanWarning, RootRules, Severity
from wandb_outbox.plan import plan_to_json
from wandb_outbox.plan.jsonsafe import json_safe
from wandb_outbox.plan.summary import within_limit
from wandb_outbox.plan.table import CUT, TableBuilder

KEYS = [
    "path", "format", "kind", "verdict", "reason", "entity", "project", "name", "group", "job_type", "tags",
    "notes", "id", "config", "summary", "history_steps", "tables", "media", "artifacts",
    "inputs", "run_files", "excluded",
    "sources", "warnings",
]  # fmt: skip


def test_the_json_of_a_plan_has_exactly_the_contracts_keys(tmp_path: Path) -> None:
    """The keys of docs/reference.md."""
    plan = plan_to_json(Run(tmp_path).put("results.json", [SAMPLE]).plan())
    assert list(plan) == KEYS
    assert list(plan["tables"][0]) == ["name", "rows", "columns"]
    assert list(plan["artifacts"][0]) == ["name", "type", "metadata", "files", "bytes"]
    json.dumps(plan, allow_nan=False)


def test_the_configuration_says_whose_run_it_is(tmp_path: Path) -> None:
    """The experiment's own keys stand at the top; ours are under outbox, the host only when it is asked for."""
    run = Run(tmp_path, "2025-12-03/a b/run")
    plan = run.ask(incarnation=2, revision=3).plan()
    taken = snapshot(str(run.path))
    assert plan.config["strategy"] == {"type": "deepconf"}
    assert plan.config["outbox"] == {
        "site": "site", "birth": taken.birth, "fingerprint": taken.fingerprint, "path": "2025-12-03/a b/run",
        "format": "llm-tts", "incarnation": 2, "revision": 3, "version": __version__, "root": tmp_path.name,
    }  # fmt: skip
    assert run.ask(host="box").plan().config["outbox"]["host"] == "box"
    assert (plan.run_id, plan.fingerprint) == ("run0id", taken.fingerprint)


def test_configuration_keys_are_strings_and_ours_are_free(tmp_path: Path) -> None:
    """The SDK raises on a key that is a number, and keeps _wandb for itself."""
    plan = (
        Run(tmp_path).put(".hydra/config.yaml", "7: a\n2.5: b\ntrue: c\noutbox: mine\n_wandb: {a: 1}\nx: .nan\n").plan()
    )
    assert {key: value for key, value in plan.config.items() if key != "outbox"} == {
        "7": "a", "2.5": "b", "true": "c", "x": "NaN", "outbox_config": "mine"
    }  # fmt: skip
    assert {"config-key-taken", "reserved-key"} <= set(rules(plan))


def test_the_sdk_neither_changes_nor_follows_what_the_configuration_says(tmp_path: Path) -> None:
    """Dashes at the ends of keys are dropped here, where it is said; a reference to an artifact is a plain text."""
    said = '{"--lr": 1, "seed": 2, "-seed": 3, "a-b": 4, "data": {"of": ["wandb-artifact://http://elsewhere.test/x"]}}'
    plan = Run(tmp_path).put(".hydra/config.yaml", said).plan()
    assert {key: value for key, value in plan.config.items() if key != "outbox"} == {
        "lr": 1, "seed": 2, "a-b": 4, "data": {"of": ["wandb-artifact: http://elsewhere.test/x"]}
    }  # fmt: skip
    assert {"config-key-taken", "config-artifact"} <= set(rules(plan))


def test_the_summary_is_counted_from_the_results(tmp_path: Path) -> None:
    """As the upload script counts: completed is what has no error, and each sample's validity counts once."""
    wrong = {**SAMPLE, "error": "x", "eval": {"exact_match": {"is_correct": False}}, "validity_scores": [1.0]}
    cut = {**SAMPLE, "completed": False, "eval": {}, "validity_scores": [], "reasoning_steps": 5}
    plan = Run(tmp_path).put("results.json", [SAMPLE, wrong, cut, {"index": 3}]).plan()
    assert plan.summary == {
        "total_samples": 4, "completed": 3, "completed_pct": 0.75, "errors": 1, "errors_pct": 0.25,
        "exact_match/correct": 1, "exact_match/correct_pct": 0.25, "exact_match/incorrect": 1,
        "exact_match/incorrect_pct": 0.25, "exact_match/accuracy": 0.25,
        "llm_judge/correct": 0, "llm_judge/correct_pct": 0.0, "llm_judge/incorrect": 1,
        "llm_judge/incorrect_pct": 0.25, "llm_judge/accuracy": 0.0,
        "avg_steps_per_trajectory": 3.0, "avg_validity_score": 0.75,
    }  # fmt: skip


def test_what_the_experiment_counts_in_its_own_way_is_no_disagreement(tmp_path: Path) -> None:
    """Its metrics.json counts the flag ``completed``, and averages all scores at once; another number is a warning."""
    results = [SAMPLE, {**SAMPLE, "completed": False, "validity_scores": [1.0]}]
    own = {"completed": 1, "completed_pct": 0.5, "avg_validity_score": 2 / 3}
    run = Run(tmp_path).put("results.json", results).put("metrics.json", {**own, "no_answer_count": 1})
    plan = run.plan()
    assert {key: plan.summary[key] for key in own} == {"completed": 2, "completed_pct": 1.0, "avg_validity_score": 0.75}
    assert plan.summary["no_answer_count"] == 1
    ((rule, severity),) = [(each.rule, each.severity) for each in plan.warnings]
    assert (rule, severity) == ("metrics-counted-otherwise", Severity.NOTE)
    assert rules(run.put("metrics.json", {**own, "completed": 0}).plan()) == [
        "metrics-counted-otherwise", "metrics-disagree"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "average"),
    [
        ([[0.5, math.nan], [0.5]], "NaN"),
        ([[math.inf], [0.5]], "Infinity"),
        ([[math.inf], [-math.inf]], "NaN"),
        ([[1e308, 1e308], [1e308]], "Infinity"),
        ([[None], [0.5, None]], 0.5),
        ([["no", True, {}], [1]], 1.0),
        ([[10**400], [3]], 3.0),
    ],
)
def test_odd_scores_are_averaged_as_floats_are(tmp_path: Path, scores: list[Any], average: object) -> None:
    """NaN and the infinities are not hidden; what is no number does not count."""
    results = json.dumps([{"validity_scores": each} for each in scores])
    assert Run(tmp_path).put("results.json", results).plan().summary["avg_validity_score"] == average


@pytest.mark.parametrize(
    ("results", "counted"), [("[]", True), (" [ ]\n", True), ("", False), ("{}", False), ("[", False)]
)
def test_no_samples_are_counted_where_it_is_known_that_there_are_none(
    tmp_path: Path, results: str, counted: bool
) -> None:
    """An empty list is no samples; a file that cannot be read says nothing."""
    plan = Run(tmp_path).put("results.json", results).plan()
    zeros = {"total_samples": 0, "completed": 0, "completed_pct": 0.0, "errors": 0, "errors_pct": 0.0}
    assert plan.summary == (zeros if counted else {})


def test_older_results_are_counted_by_their_own_fields(tmp_path: Path) -> None:
    """Before is_correct and completed there were label, error and metadata."""
    old: list[dict[str, Any]] = [
        {"eval": {"judge": {"label": 1}}, "metadata": {"steps": 4, "avg_validity_score": 0.5}},
        {"eval": {"judge": {"label": "Correct"}}, "metadata": {"steps": 2}},
        {"eval": {"judge": {"label": "Incorrect"}}, "error": "boom"},
    ]
    summary = Run(tmp_path).put("results.json", old).plan().summary
    assert (summary["completed"], summary["errors"], summary["judge/correct"]) == (2, 1, 2)
    assert (summary["avg_steps_per_trajectory"], summary["avg_validity_score"]) == (3.0, 0.5)


def test_metrics_fill_the_gaps_and_the_results_win(tmp_path: Path) -> None:
    """Every key of metrics.json is in the summary; a disagreement is said."""
    metrics = {"total_samples": 5, "compute/total_tokens": 7, "nested": {"a": [1]}, "samples": 9, "completed_pct": 1.0}
    plan = Run(tmp_path).put("results.json", [SAMPLE]).put("metrics.json", metrics).plan()
    assert plan.summary["total_samples"] == 1
    assert plan.summary["compute/total_tokens"] == 7
    assert plan.summary["nested"] == {"a": [1]}
    assert plan.summary["metrics/samples"] == 9
    assert "samples" not in plan.summary
    assert rules(plan) == ["metrics-disagree", "summary-key-taken"]


def test_metrics_alone_are_a_summary(tmp_path: Path) -> None:
    """A folder without results counts nothing, and so disagrees with nothing."""
    plan = Run(tmp_path, format="hydra").put("metrics.json", '{"acc": NaN, "loss": -Infinity, "n": 3, "f": 1.0}').plan()
    assert plan.summary == {"acc": "NaN", "loss": "-Infinity", "n": 3, "f": 1.0}


@pytest.mark.parametrize(("outcome", "exit_code"), [("crashed", 1), ("incomplete", 0), ("ok", 0), ("unknown", 0)])
def test_how_it_ended_is_shown(tmp_path: Path, outcome: str, exit_code: int) -> None:
    """A tag, a summary key with the reason, and the exit code that makes W&B show failed."""
    plan = Run(tmp_path).ask(outcome=outcome, reason="stderr.log ends with a traceback").plan()
    shown = outcome in ("crashed", "incomplete")
    assert plan.exit_code == exit_code
    assert (outcome in plan.tags) is shown
    expected = f"{outcome}: stderr.log ends with a traceback" if shown else None
    assert plan.summary.get("outbox/outcome") == expected


def test_a_summary_that_would_vanish_loses_its_largest_values(tmp_path: Path) -> None:
    """W&B drops a summary of 12 MB whole; ours loses what is largest, and says what."""
    plan = Run(tmp_path).put("metrics.json", {"big": "x" * 4_000_000, "bigger": "x" * 4_500_000, "acc": 0.5}).plan()
    assert set(plan.summary) == {"big", "acc"}
    assert "summary-too-large" in rules(plan)
    warnings: list[PlanWarning] = []
    assert within_limit({"a": 1}, warnings.append) == {"a": 1}
    assert warnings == []


def test_a_configuration_that_would_not_be_taken_loses_its_largest_values(tmp_path: Path) -> None:
    """The run is opened with the rest of it, and the plan says what is in the artifact only."""
    run = Run(tmp_path, format="plain").put("config.json", {"prompts": "x" * 6_000_000, "lr": 1})
    plan = run.plan()
    assert {key: value for key, value in plan.config.items() if key != "outbox"} == {"lr": 1}
    assert rules(plan) == ["config-too-large"]
    assert "config.json" in [file.path for file in plan.artifacts[0].files]


def test_the_table_of_samples(tmp_path: Path) -> None:
    """Mappings flattened, steps as text, the rest as JSON, and no list of one number a token."""
    second = {"index": 1, "scores": [[1, None]], "late": "x", "eval": {"exact_match": "odd"}, "deep": {"a": {"b": 1}}}
    table = Run(tmp_path).put("results.json", [SAMPLE, second]).plan().tables[0]
    assert table.name == "samples"
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert rows[0]["steps"] == "one\n\ntwo"
    assert rows[0]["eval/exact_match/is_correct"] is True
    assert rows[0]["eval/llm_judge/consensus"] == 0.5
    assert rows[0]["token_stats/input_tokens"] == 3
    assert rows[0]["validity_scores"] == "[0.25, null, 0.75]"
    assert (rows[0]["late"], rows[1]["late"], rows[1]["scores"]) == (None, "x", "[[1, null]]")
    assert (rows[1]["eval/exact_match"], rows[1]["deep/a"]) == ("odd", '{"b": 1}')
    assert table.columns[:3] == ("index", "question", "steps")


def _build(table: TableBuilder) -> tuple[Any, list[str]]:
    warnings: list[PlanWarning] = []
    return table.build(warnings.append), [each.rule for each in warnings]


def test_a_long_table_shows_its_first_rows(tmp_path: Path) -> None:
    """10,000 rows, and the rest said so."""
    plan = Run(tmp_path).put("results.json", [{"index": index} for index in range(10_001)]).plan()
    assert (len(plan.tables[0].rows), plan.tables[0].total_rows) == (10_000, 10_001)
    assert plan.summary["total_samples"] == 10_001
    assert rules(plan) == ["table-cut"]


@pytest.mark.parametrize("letter", ["x", "é"])
def test_only_a_table_that_is_too_large_has_its_texts_cut(letter: str) -> None:
    """The longest are cut, all to one length, and short ones stay whole, whatever the order."""
    whole = TableBuilder("t", "f", max_text=1000)
    whole.add({"a": letter * 400})
    assert _build(whole) == (whole.build(lambda _: None), [])
    cut = TableBuilder("t", "f", max_text=1000)
    for size in (20, 900, 300, 900):
        cut.add({"a": letter * size, "n": size})
    table, found = _build(cut)
    texts = [row[0] for row in table.rows]
    assert texts[0] == letter * 20
    assert texts[1] == texts[3]
    assert texts[1].endswith(CUT)
    assert sum(len(text) * (1 if text.isascii() else 2) for text in texts) <= 1000
    assert [row[1] for row in table.rows] == [20, 900, 300, 900]
    assert found == ["table-cut"]


def test_a_table_has_so_many_columns_at_most() -> None:
    """Samples that all have other keys do not make a table of a million columns."""
    table = TableBuilder("t", "f")
    for index in range(400):
        table.add({f"k{index}": index})
    built, found = _build(table)
    assert len(built.columns) == 256
    assert found == ["table-cut"]


def test_history_is_safe_and_keeps_its_steps(tmp_path: Path) -> None:
    """NaN is a word, as in the summary."""
    plan = Run(tmp_path).put("sample_metrics.jsonl", '{"sample_index": 3, "confidence": NaN}\n').plan()
    assert plan.history == ({"sample_index": 3, "confidence": "NaN", "_step": 3},)
    assert plan_to_json(plan)["history_steps"] == 1


def test_the_artifact_holds_the_whole_folder(tmp_path: Path) -> None:
    """Every file of the snapshot, described without being downloaded, with few keys at the top of its metadata."""
    run = Run(tmp_path).put("results.json", [SAMPLE]).put("deep/er/x.bin", b"\0").put(".env", "KEY=1")
    run.put(".hydra/config.yaml", {**CONFIG, "git_commit": "abc123"})
    plan = run.ask(outcome="ok", reason="fine").plan()
    artifact = plan.artifacts[0]
    assert (artifact.name, artifact.type, artifact.aliases) == ("outputs-2025-12-03-run_name", "evaluation_results", ())
    assert [file.path for file in artifact.files] == [".hydra/config.yaml", "deep/er/x.bin", "results.json"]
    assert [each.path for each in plan.excluded] == [".env"]
    assert artifact.metadata["config"]["strategy"] == {"type": "deepconf"}
    assert artifact.metadata["summary"]["total_samples"] == 1
    assert artifact.metadata["counts"] == {"files": 3, "bytes": artifact.bytes, "samples": 1}
    provenance = artifact.metadata["provenance"]
    assert (provenance["path"], provenance["git_commit"]) == ("2025-12-03/run_name", "abc123")
    assert (provenance["format"], provenance["outcome"]) == ("llm-tts", "ok")
    assert provenance["started_at"] == "2025-12-03T10:00:00+00:00"
    assert len(artifact.metadata) <= 100


def test_huge_metadata_loses_its_largest_parts(tmp_path: Path) -> None:
    """The artifact's description is no place for megabytes; the run's own configuration stays whole."""
    plan = Run(tmp_path).put(".hydra/config.yaml", {**CONFIG, "prompt": "x" * 1_500_000}).plan()
    assert "prompt" not in plan.artifacts[0].metadata["config"]
    assert "prompt" in plan.config
    assert rules(plan) == ["metadata-config-too-large"]


def test_torn_results_give_what_is_whole(tmp_path: Path) -> None:
    """A crashed run shows the samples that it has."""
    text = json.dumps([SAMPLE, SAMPLE, SAMPLE])
    plan = Run(tmp_path).put("results.json", text[: len(text) // 2]).plan()
    assert (len(plan.tables[0].rows), plan.summary["total_samples"]) == (1, 1)
    assert rules(plan) == ["torn-results"]


def test_a_folder_outside_every_root(tmp_path: Path) -> None:
    """By hand, without a root: the path from its date on."""
    plan = Run(tmp_path, "2025-12-03/gsm8k/run").ask(root=None).plan()
    assert plan.artifacts[0].name == "outputs-2025-12-03-gsm8k-run"
    assert plan.config["outbox"]["path"] == "2025-12-03/gsm8k/run"
    assert "root" not in plan.config["outbox"]


def test_a_folder_without_a_date_is_named_by_the_day_it_began(tmp_path: Path) -> None:
    """From its log."""
    run = Run(tmp_path, "run").put("run_tts_eval.log", "[2025-11-30 10:00:00,1][__main__][INFO] - Host: x\n")
    assert run.plan().artifacts[0].name == "outputs-2025-11-30-run"


def test_an_unknown_convention_is_a_configuration_error(tmp_path: Path) -> None:
    """It is the root that is wrong, not the run."""
    with pytest.raises(ConfigurationError):
        Run(tmp_path).ask(rules=RootRules(convention="nope")).plan()


class _Colour(enum.Enum):
    RED = math.inf


class _Array:
    def tolist(self) -> list[float]:
        return [1.0, math.nan]


@dataclasses.dataclass
class _Kind:
    kind: str


class _LongFloat:
    """As ``numpy.longdouble``: Python has no float that is as long, so that ``tolist`` gives itself."""

    dtype = _Kind("f")

    def tolist(self) -> _LongFloat:
        return self

    def __float__(self) -> float:
        return 1.5


class _LongComplex(_LongFloat):
    dtype = _Kind("c")

    def __str__(self) -> str:
        return "(1+2j)"


class _Date:
    """As ``numpy.datetime64`` of nanoseconds: ``tolist`` gives a number, and only the text the date."""

    dtype = _Kind("M")

    def tolist(self) -> int:
        return 1_764_756_000_123_456_789

    def astype(self, kind: type) -> _Text:
        assert kind is str
        return _Text()


class _Text:
    def tolist(self) -> str:
        return "2025-12-03T10:00:00.123456789"


@dataclasses.dataclass
class _Settings:
    rate: object = dataclasses.field(default_factory=_LongFloat)


class _Angry:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (2**63, "9223372036854775808"),
        (b"abc", "abc"),
        (b"\xff", "base64:/w=="),
        (PurePosixPath("/a/b"), "/a/b"),
        (dt.datetime(2025, 12, 3, tzinfo=dt.UTC), "2025-12-03T00:00:00+00:00"),
        (dt.timedelta(seconds=90), 90.0),
        (decimal.Decimal("0.5"), 0.5),
        (decimal.Decimal("sNaN"), "NaN"),
        ({7: {2: 3}, None: 4, True: 5}, {"7": {"2": 3}, "null": 4, "true": 5}),
        ({"b", "a"}, ["a", "b"]),
        (_Colour.RED, "Infinity"),
        (_Array(), [1.0, "NaN"]),
        (_Array, f"<class '{__name__}._Array'>"),
        (_LongFloat(), 1.5),
        (_LongComplex(), "(1+2j)"),
        (_Date(), "2025-12-03T10:00:00.123456789"),
        (_Settings(), {"rate": 1.5}),
        (collections.deque([1, (2,)]), [1, [2]]),
        ({1: 2}.values(), [2]),
        (1 + 2j, "(1+2j)"),
        (object(), "<object object>"),
        (_Angry(), "(_Angry)"),
        ("a\ud800b", "a?b"),
    ],
)
def test_anything_becomes_json(value: object, safe: object) -> None:
    """Metadata may hold what Python, numpy and torch programs put into it."""
    assert json_safe(value) == safe
    json.dumps(json_safe(value), allow_nan=False).encode()


def test_an_integer_that_python_will_not_print() -> None:
    """Beyond 4,300 digits it is told in hexadecimal."""
    assert json_safe(10**5000) == hex(10**5000)


def test_what_holds_itself_ends() -> None:
    """A list in itself is cut at a depth."""
    loop: list[object] = []
    loop.append(loop)
    assert "nested too deeply" in json.dumps(json_safe(loop))
