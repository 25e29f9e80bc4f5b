"""How the content of a run folder is read."""

from __future__ import annotations

import json
import math
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from format_makers import CONFIG, HOST, RANGE, SAMPLE, RunFolder, llm_tts
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from wandb_outbox.folder import snapshot
from wandb_outbox.formats import Content, evidence, read
from wandb_outbox.formats.yamlfile import parse
from wandb_outbox.model import PlanWarning
from wandb_outbox.plan.jsonsafe import json_safe


def _read(folder: RunFolder, name: str = "llm-tts") -> Content:
    return read(name, str(folder.path), snapshot(str(folder.path)))


def _rows(folder: RunFolder) -> tuple[list[dict[str, Any]], list[str]]:
    content = _read(folder)
    assert content.samples is not None
    warnings: list[PlanWarning] = []
    return list(content.samples.rows(warnings.append)), [each.rule for each in warnings]


def test_the_configuration_is_read_unresolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpolations stay text: neither the clock nor the environment of the uploader gets in."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    folder = RunFolder(tmp_path).put(".hydra/config.yaml", CONFIG + "key: ${oc.env:WANDB_API_KEY}\nlr: 1e-3\nx: ???\n")
    config = _read(folder).config
    assert config["key"] == "${oc.env:WANDB_API_KEY}"
    assert config["run_name"] == "baseline_seed${system.seed}_${now:%H-%M-%S}"
    assert config["lr"] == 0.001
    assert config["x"] == "???"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: ${broken", {"a": "${broken"}),
        ("a: 1\na: 2\nlr: 1e-3\n", {"a": 2, "lr": 0.001}),
        ("a: 2024-01-01\nb: '${x}'\nb: '${y}'", {"a": "2024-01-01", "b": "${y}"}),
        ("1: x", {1: "x"}),
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
    ],
)
def test_odd_yaml_is_read_with_hydras_idea_of_numbers(text: str, expected: object) -> None:
    """Broken interpolations and doubled keys are read with the same idea of numbers."""
    objects: list[str] = []
    assert parse(text, objects.append) == expected
    assert objects == []


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "a: " + "[" * 1000 + "]" * 1000,
        "a: " + "{b: " * 900 + "1" + "}" * 900,
        "a: &a [*a]",
        "{unclosed",
        "\t\x00: : :",
        "!!python/object/apply:os.system ['true']",
        "x: [" + "1," * 60_000 + "]",
        "#" * 5_000_000,
    ],
)
def test_a_hostile_configuration_is_a_warning(tmp_path: Path, text: str) -> None:
    """Alias bombs, depth, size and tags give an empty configuration in a moment."""
    began = time.monotonic()
    content = _read(RunFolder(tmp_path).put(".hydra/config.yaml", text))
    assert content.config == {}
    assert [each.rule for each in content.warnings] == ["unreadable-config"]
    assert time.monotonic() - began < 5


def test_what_the_experiment_recorded_is_read(tmp_path: Path) -> None:
    """Project, group, overrides, command lines, range of samples and the mode of a sweep."""
    command = "[2025-12-03 10:00:00,200][__main__][INFO] - Command: CUDA=all run.py a=1\n"
    folder = llm_tts(tmp_path, log=HOST + command + RANGE)
    folder.put(".hydra/config.yaml", CONFIG + "wandb_project: p\nwandb_group: g\n")
    folder.put(".hydra/overrides.yaml", "- a=1\n- b=2\n").put(".hydra/hydra.yaml", "hydra:\n  mode: MULTIRUN\n")
    content = _read(folder)
    assert (content.project, content.group, content.sweep) == ("p", "g", True)
    assert content.overrides == ("a=1", "b=2")
    assert content.commands == ("Command: CUDA=all run.py a=1",)
    assert content.sample_range is not None
    assert content.sample_range.count == 12


def test_the_times_are_the_experiments(tmp_path: Path) -> None:
    """It began with the first line of its log, in local time, and ended with its newest file."""
    folder = llm_tts(tmp_path)
    content = _read(folder)
    assert content.started_at == time.mktime((2025, 12, 3, 10, 0, 0, 0, 0, -1))
    assert content.ended_at == (tmp_path / "run_tts_eval.log").stat().st_mtime


@pytest.mark.parametrize("below", ["10-00-07", "gsm8k/seed42_10-00-07", "10-00-07/3"])
def test_without_a_log_the_folders_name_tells_the_begin(tmp_path: Path, below: str) -> None:
    """Hydra puts date and time into the path."""
    folder = RunFolder(tmp_path / "2025-12-03" / below).put(".hydra/config.yaml", "a: 1")
    assert _read(folder, "hydra").started_at == time.mktime((2025, 12, 3, 10, 0, 7, 0, 0, -1))


@pytest.mark.parametrize(
    ("name", "began"),
    [
        ("exp-003-train-2025-12-13T07-30-22Z", datetime(2025, 12, 13, 7, 30, 22, tzinfo=UTC).timestamp()),
        ("exp-001-train-20241217T1430Z", datetime(2024, 12, 17, 14, 30, tzinfo=UTC).timestamp()),
        ("2025-12-13T07-30-22", time.mktime((2025, 12, 13, 7, 30, 22, 0, 0, -1))),
        ("exp-003-train-2025-13-13T07-30-22Z", None),
        ("exp-003-2025-12-13T07-30-22Z-again", None),
        ("exp-003-train-2100-12-13T07-30-22Z", None),
    ],
)
def test_a_moment_at_the_end_of_the_folders_name_tells_the_begin(
    tmp_path: Path, name: str, began: float | None
) -> None:
    """As the guide of params-meta writes it into names; one that there is not, or not yet, says nothing."""
    folder = RunFolder(tmp_path / name).put("a.csv", "1")
    written = datetime(2025, 12, 14, tzinfo=UTC).timestamp()
    os.utime(folder.path / "a.csv", (written, written))
    assert _read(folder, "plain").started_at == (began or written)


def test_without_any_hint_the_oldest_file_tells_the_begin(tmp_path: Path) -> None:
    """A plain folder has nothing but its files."""
    folder = RunFolder(tmp_path / "x").put("a.csv", "1").put("b.csv", "2")
    assert _read(folder, "plain").started_at == (folder.path / "a.csv").stat().st_mtime


def test_samples_are_read_with_nan(tmp_path: Path) -> None:
    """A bare NaN, as Python writes it, costs nothing."""
    rows, warnings = _rows(llm_tts(tmp_path, results='[{"a": NaN}, {"a": "x]}\\\\\\"[{"}, {"b": {"c": [1, [2]]}}]'))
    assert str(rows[0]["a"]) == "nan"
    assert rows[1:] == [{"a": 'x]}\\"[{'}, {"b": {"c": [1, [2]]}}]
    assert warnings == []


def test_every_cut_of_a_list_gives_its_whole_elements(tmp_path: Path) -> None:
    """Torn anywhere, the samples before the tear are there, and the tear is said."""
    whole = json.dumps([{**SAMPLE, "index": index, "q": 'a"b\\c]}é'} for index in range(3)])
    ends = [end for end in range(1, len(whole)) if _is_list_of_whole_elements(whole[:end])]
    for cut in range(1, len(whole), 7):
        rows, warnings = _rows(llm_tts(tmp_path, results=whole[:cut]))
        assert len(rows) == sum(end <= cut for end in ends)
        assert warnings == ["torn-results"]


def _is_list_of_whole_elements(text: str) -> bool:
    try:
        return text.endswith("}") and bool(json.loads(text + "]"))
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("content", "count", "rules"),
    [
        (b"", 0, ["torn-results"]),
        (b"[]", 0, []),
        (b'\xef\xbb\xbf [{"a": 1}]', 1, []),
        (b'{"a": 1}', 0, ["results-not-a-list"]),
        (b"\x00\x01", 0, ["results-not-a-list"]),
        (b'[{"a": 1}, 5, "x", {"b": 2}]', 2, ["unreadable-samples"]),
        (b'[{"a": 1}, [1], {"b": bad}, {"c": 3}]', 2, ["unreadable-samples"]),
        (b'[{"a": "\xff\xfe"}]', 1, []),
        (b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b'}, {"b": 1}]', 1, ["unreadable-samples"]),
        (b'[{"a": ' + b"9" * 5000 + b'}, {"b": 1}]', 1, ["unreadable-samples"]),
    ],
)
def test_hostile_results_are_warnings(tmp_path: Path, content: bytes, count: int, rules: list[str]) -> None:
    """One broken sample does not cost the others, and nothing is an exception."""
    rows, warnings = _rows(llm_tts(tmp_path, results=content))
    assert (len(rows), warnings) == (count, rules)


def test_samples_across_the_chunks_of_a_large_file(tmp_path: Path) -> None:
    """Strings, escapes and elements may lie across the pieces in which a file is read."""
    rows = [{"i": index, "t": '\\"' * (index * 37_003 % 400_000) + "é]}"} for index in range(12)]
    got, warnings = _rows(llm_tts(tmp_path, results=rows))
    assert got == rows
    assert warnings == []


def _history(folder: RunFolder, text: str | bytes) -> tuple[list[int], list[Any], list[str]]:
    content = _read(folder.put("sample_metrics.jsonl", text))
    steps = [row["_step"] for row in content.history]
    return steps, [row.get("v") for row in content.history], [each.rule for each in content.warnings]


def _line(index: int, value: object) -> str:
    return json.dumps({"sample_index": index, "v": value, "nested": {"a": 1}, "list": [1]}) + "\n"


LIGHTNING = """\
epoch,step,train_loss,val_loss,note
0,4,0.5,,
0,9,0.25,,warm
0,9,,0.75,
1,14,nan,,
1,19,,0.5,
"""


def _curve(folder: RunFolder, format: str = "plain") -> tuple[list[dict[str, Any]], list[str]]:  # noqa: A002
    content = read(format, str(folder.path), snapshot(str(folder.path)))
    return [dict(row) for row in content.history], [each.rule for each in content.warnings]


@pytest.mark.parametrize("name", ["metrics.csv", "lightning_logs/version_0/metrics.csv", "csv/version_3/metrics.csv"])
@pytest.mark.parametrize("format", ["plain", "hydra"])
def test_the_csv_of_lightning_is_a_history(tmp_path: Path, name: str, format: str) -> None:  # noqa: A002
    """One row a step, with what was logged at it; an empty cell is no value."""
    rows, warnings = _curve(RunFolder(tmp_path).put(name, LIGHTNING), format)
    assert json.dumps(rows) == json.dumps([
        {"epoch": 0, "step": 4, "train_loss": 0.5, "_step": 4},
        {"epoch": 0, "step": 9, "train_loss": 0.25, "note": "warm", "val_loss": 0.75, "_step": 9},
        {"epoch": 1, "step": 14, "train_loss": math.nan, "_step": 14},
        {"epoch": 1, "step": 19, "val_loss": 0.5, "_step": 19},
    ])  # fmt: skip
    assert warnings == []


def test_of_several_versions_the_newest_is_the_history(tmp_path: Path) -> None:
    """A training that was started again; by number, not by letters."""
    folder = RunFolder(tmp_path)
    for version in (2, 10, 9):
        folder.put(f"lightning_logs/version_{version}/metrics.csv", f"step,v\n0,{version}\n")
    assert _curve(folder) == ([{"step": 0, "v": 10, "_step": 0}], ["history-of-several"])


@pytest.mark.parametrize(
    ("text", "steps", "rules"),
    [
        ("", [], []),
        ("step,v\n", [], []),
        ("v\n1\n2\n", [0, 1], []),
        ("step,v\n5,1\n3,2\n", [3, 5], []),
        ("step,v\n,1\n-1,2\n1.5,3\n2,4,5\n7,8\n", [7], ["unreadable-history"]),
        ("step,v\n1,\xff\n", [1], []),
        ("step,v\n1,1\n1000000000,2\n", [1, 1_000_000_000], []),
        ("step,v\n1733000000000,1\n1733000060000,2\n", [0, 1], []),
        (f"step,v\n1,{'x' * 200_000}\n2,3\n", [], ["unreadable-history"]),
        ('step,v\n1,"torn', [1], []),
        ("\0\n\0", [0], []),
    ],
)
def test_hostile_csv_is_a_warning(tmp_path: Path, text: str, steps: list[int], rules: list[str]) -> None:
    """What is no row of metrics is left out, and said."""
    rows, warnings = _curve(RunFolder(tmp_path).put("metrics.csv", text.encode("latin-1")))
    assert ([row["_step"] for row in rows], warnings) == (steps, rules)


def test_history_steps_are_the_indices_where_they_rise(tmp_path: Path) -> None:
    """Nested values are left out."""
    folder = llm_tts(tmp_path)
    assert _history(folder, _line(2, "a") + _line(5, "b")) == ([2, 5], ["a", "b"], [])
    assert "nested" not in _read(folder).history[0]


def test_history_steps_are_places_where_indices_do_not_rise(tmp_path: Path) -> None:
    """W&B drops a lower step without a word."""
    assert _history(llm_tts(tmp_path), _line(5, "a") + _line(2, "b")) == ([0, 1], ["a", "b"], [])
    assert _history(llm_tts(tmp_path), '{"v": 1}\n{"v": 2}\n')[0] == [0, 1]


def test_history_steps_are_places_where_indices_count_nothing(tmp_path: Path) -> None:
    """Of a hash for an index nobody could read the history: the SDK asks for every thousand steps in between."""
    assert _history(llm_tts(tmp_path), _line(5, "a") + _line(9 * 10**18, "b")) == ([0, 1], ["a", "b"], [])
    log = [{"step": 5, "loss": 1.0}, {"step": 10**15, "loss": 0.5}]
    folder = RunFolder(tmp_path / "trained").put("trainer_state.json", {"log_history": log})
    assert [row["_step"] for row in _read(folder, "hf-trainer").history] == [0, 1]


def test_the_last_row_of_an_index_wins_after_a_resume(tmp_path: Path) -> None:
    """A resumed run writes some samples again."""
    text = _line(0, "a") + _line(1, "old") + _line(1, "new") + _line(2, "c")
    assert _history(llm_tts(tmp_path), text) == ([0, 1, 2], ["a", "new", "c"], [])


@pytest.mark.parametrize(
    ("tail", "rules"),
    [
        ('{"sample_index": 1, "v"', ["torn-history"]),
        ("[1]\nnot json\n", ["unreadable-history"]),
        (json.dumps({"sample_index": 1, "v": "x" * 1_100_000}) + "\n", ["history-row-too-large"]),
        ("\n\n", []),
    ],
)
def test_bad_history_lines_are_left_out_and_said(tmp_path: Path, tail: str, rules: list[str]) -> None:
    """A torn last line, lines that are no object, and rows over 1 MB."""
    assert _history(llm_tts(tmp_path), _line(0, "a") + tail) == ([0], ["a"], rules)


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 1000])
def test_metrics_that_are_no_object_are_a_warning(tmp_path: Path, content: str) -> None:
    """They are ignored, and said."""
    read_content = _read(llm_tts(tmp_path).put("metrics.json", content))
    assert read_content.metrics is None
    assert [each.rule for each in read_content.warnings] == ["unreadable-metrics"]


def test_run_files_are_what_people_fetch(tmp_path: Path) -> None:
    """Results, metrics, candidates, the logs at the top and .hydra; nothing over 100 MB."""
    folder = llm_tts(tmp_path).put("candidates.json", "[]").put("deep/other.log", "x").put("model.pt", "x")
    with (tmp_path / "run_tts_eval.log").open("ab") as file:
        file.truncate(200_000_000)
    assert _read(folder).run_files == (".hydra/config.yaml", "candidates.json", "results.json", "stderr.log")


def test_a_trainings_history_has_its_steps(tmp_path: Path) -> None:
    """Logs of one step become one row, named as the Trainer's own callback names them."""
    log = [{"step": 5, "loss": 1.0, "epoch": 0.5}, {"step": 5, "eval_loss": 2.0}, {"step": 10, "loss": 0.5}, "x"]
    state = {"global_step": 10, "max_steps": 10, "log_history": log}
    folder = RunFolder(tmp_path).put("trainer_state.json", state).put("eval_results.json", {"eval_loss": 2.0})
    content = _read(folder, "hf-trainer")
    assert content.history[0] == {
        "train/global_step": 5, "train/loss": 1.0, "train/epoch": 0.5, "eval/loss": 2.0, "_step": 5
    }  # fmt: skip
    assert content.metrics == {"eval_loss": 2.0}
    assert content.config["max_steps"] == 10


def test_the_newest_results_of_the_harness_are_read(tmp_path: Path) -> None:
    """One metric per task and filter."""
    found = {"results": {"gsm8k": {"acc,none": 0.5, "alias": "gsm8k"}}, "config": {"model": "hf"}}
    folder = RunFolder(tmp_path).put("results_2025-12-03T10-00-00.json", {})
    content = _read(folder.put("results_2025-12-03T11-00-00.json", found), "lm-eval")
    assert content.metrics == {"gsm8k/acc": 0.5}
    assert content.config == {"model": "hf"}


def test_the_harness_says_how_its_numbers_came_about(tmp_path: Path) -> None:
    """Its version, its shots, its samples; what it prints as blank, and the tasks' names, are no metrics."""
    tasks = {
        "gsm8k": {
            "exact_match,strict-match": 0.5,
            "alias": " - gsm8k",
            " ": " ",
            "exact_match_stderr,strict-match": "N/A",
        }
    }
    found = {"results": tasks, "config": {"model": "hf"}, "git_hash": "0123abc", "n-shot": {"gsm8k": 5}, "date": 9}
    content = _read(RunFolder(tmp_path).put("results_2025-12-03T10-00-00.json", found), "lm-eval")
    assert content.metrics == {"gsm8k/exact_match,strict-match": 0.5}
    assert content.config == {"git_hash": "0123abc", "n-shot": {"gsm8k": 5}, "model": "hf"}


def _state(step: int, **more: Any) -> dict[str, Any]:
    log = [{"step": each, "loss": 1 / each} for each in range(10, step + 1, 10)]
    return {"global_step": step, "max_steps": 110, "log_history": [*log, *more.pop("log", [])], **more}


def test_a_training_that_saved_no_state_at_the_top_is_read_from_its_newest_checkpoint(tmp_path: Path) -> None:
    """By number, not by letters; the state at the top goes before."""
    folder = RunFolder(tmp_path)
    for step in (20, 110, 100):
        folder.put(f"checkpoint-{step}/trainer_state.json", _state(step)).put(
            f"checkpoint-{step}/config.json", {"n": step}
        )
    content = _read(folder, "hf-trainer")
    assert [row["_step"] for row in content.history] == list(range(10, 111, 10))
    assert (content.config["max_steps"], content.config["model_config"]) == (110, {"n": 110})
    assert content.run_files == ("checkpoint-110/trainer_state.json",)
    said = evidence("hf-trainer", str(folder.path), snapshot(str(folder.path)))
    assert said.done == "checkpoint-110/trainer_state.json says step 110 of 110"
    assert len(_read(folder.put("trainer_state.json", _state(30)), "hf-trainer").history) == 3
    padded = RunFolder(tmp_path / "padded").put("checkpoint-00010/trainer_state.json", _state(10))
    assert len(_read(padded, "hf-trainer").history) == 1


@pytest.mark.parametrize("format", ["hf-trainer", "plain", "hydra"])
def test_what_a_training_logs_at_its_end_is_no_curve(tmp_path: Path, format: str) -> None:  # noqa: A002
    """Its run time and the like are metrics under their own names, as the Trainer's callback has it; results win."""
    end = {"step": 10, "train_runtime": 2.5, "train_loss": 0.5, "total_flos": 7, "epoch": 1.0}
    folder = RunFolder(tmp_path).put("trainer_state.json", _state(10, log=[end]))
    content = _read(
        folder.put("all_results.json", {"train_loss": 0.25}).put("metrics.json", {"train_loss": 0.25}), format
    )
    assert content.history == (
        {"train/global_step": 10, "train/loss": 0.1, "train/epoch": 1.0, "_step": 10},
    )  # fmt: skip
    assert content.metrics == {"train_runtime": 2.5, "train_loss": 0.25, "total_flos": 7}


OBJECTS = {
    "!!python/tuple [1, 2]": [1, 2],
    "!!python/name:torch.optim.Adam ''": "torch.optim.Adam",
    "!!python/object:argparse.Namespace {lr: 1e-3}": {"lr": 0.001},
    "!!python/complex 1+2j": "1+2j",
    "!!python/object/apply:pathlib.PosixPath [data, x]": "data/x",
    "!mine 0.5": 0.5,
    "!mine '0.5'": "0.5",
    "!!python/object/apply:numpy.core.multiarray.scalar [!!python/object/apply:numpy.dtype "
    "{args: [f8, false, true], state: !!python/tuple [3, <, null]}, !!binary AAAAAAAA4D8=]": 0.5,
    "!!python/object/apply:numpy._core.multiarray.scalar [!!python/object/apply:numpy.dtype "
    "{args: [i4, false, true], state: !!python/tuple [3, '>', null]}, !!binary AAAABw==]": 7,
    "!!python/object/apply:numpy._core.multiarray._reconstruct {args: [!!python/name:numpy.ndarray '', [0], b], "
    "state: [1, [2, 1], !!python/object/apply:numpy.dtype {args: [i2, false, true], state: [3, <]}, false, !!binary AQACAA==]}": [
        [1],
        [2],
    ],
    "!!python/object/apply:numpy._core.multiarray._reconstruct {state: [1, [], "
    "!!python/object/apply:numpy.dtype {args: [u1]}, false, !!binary Bw==]}": 7,
    "!!python/object/apply:numpy._core.multiarray._reconstruct {state: [odd]}": {"state": ["odd"]},
    "!!python/object/apply:numpy.core.multiarray.scalar [a, dtype, here]": ["a", "dtype", "here"],
}


@pytest.mark.parametrize("text", OBJECTS)
def test_objects_in_a_configuration_are_their_plain_parts(tmp_path: Path, text: str) -> None:
    """No object is made of them, the rest of the configuration is not lost, and it is said."""
    folder = RunFolder(tmp_path).put("hparams.yaml", f"lr: 1e-3\nodd: {text}\n")
    content = _read(folder, "plain")
    assert json_safe(content.config) == {"lr": 0.001, "odd": OBJECTS[text]}
    told = [each.rule for each in content.warnings]
    # OmegaConf itself reads paths.
    assert told == ([] if "/tuple [1" in text or "pathlib" in text else ["config-objects"])


def test_lightning_keeps_its_configuration_beside_its_history(tmp_path: Path) -> None:
    """That of the version whose history is taken."""
    folder = RunFolder(tmp_path)
    for version in (2, 10):
        folder.put(f"lightning_logs/version_{version}/metrics.csv", "step,v\n0,1\n")
        folder.put(f"lightning_logs/version_{version}/hparams.yaml", f"version: {version}\n")
    content = _read(folder, "plain")
    assert (content.config, content.config_file) == ({"version": 10}, "lightning_logs/version_10/hparams.yaml")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_without_commas_is_a_history(tmp_path: Path, delimiter: str) -> None:
    """As spreadsheets of some countries, and pandas on demand, write it."""
    text = delimiter.join(("step", "loss")) + "\n" + delimiter.join(("3", "0.5")) + "\n"
    rows, warnings = _curve(RunFolder(tmp_path).put("metrics.csv", text))
    assert (rows, warnings) == ([{"step": 3, "loss": 0.5, "_step": 3}], [])


def test_the_csv_of_spreadsheets_and_pandas_is_a_history(tmp_path: Path) -> None:
    """With a byte order mark before the quote, and with steps that became floats."""
    text = '\ufeff"step","a, b"\n0.0,"1"\n1.0,"x, y"\n'
    rows, warnings = _curve(RunFolder(tmp_path).put("metrics.csv", text))
    assert [(row["_step"], row["a, b"]) for row in rows] == [(0, 1), (1, "x, y")]
    assert warnings == []


def test_a_plain_folder_brings_the_usual_files(tmp_path: Path) -> None:
    """A configuration and metrics of the usual names."""
    folder = RunFolder(tmp_path).put("config.yaml", "lr: 1e-3").put("metrics.json", {"acc": 1})
    content = _read(folder, "plain")
    assert (content.config, content.metrics) == ({"lr": 0.001}, {"acc": 1})


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
    st.from_regex(r"[-+]?[0-9_]{0,4}\.?[0-9_]{0,4}([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["???", "${model.name}", "${oc.env:HOME}", "on", "~", "0x1F", "1:30", "1:30.5", "2024-01-01", ".inf"]),
    st.sampled_from([Path("/data/x"), Path("a/b")]),
)  # fmt: skip
_KEYS = st.one_of(st.text(min_size=1), st.integers(), st.booleans())
_CONFIGS = st.dictionaries(
    _KEYS,
    st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4)),
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(_CONFIGS)
def test_what_omegaconf_writes_is_read_as_omegaconf_reads_it(config: dict[Any, Any]) -> None:
    """Values, types and keys are those of Hydra's own reader, unresolved; only a path comes as its text."""
    try:
        text = OmegaConf.to_yaml(OmegaConf.create(config))
        theirs = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (OmegaConfBaseException, YAMLError, ValueError, AssertionError):
        reject()  # it cannot read back what it wrote, or refuses it at once: no such file comes from Hydra
    assert repr(parse(text, _unexpected)) == repr(_paths_as_text(theirs))


@pytest.mark.parametrize(
    "text", ["a: 1e3", "b: 1_000.5", "c: .5", "d: +1E-2", "e: 1.", "f: 190:20:30.15", "g: 0o17", "h: 'yes'", "i: yes",
             "j: !!str 1", "k: !!float 1", "l: null", "m: {<<: {x: 1}, y: 2}", "? n\n: o", "p: |\n  two\n  lines\n"],
)  # fmt: skip
def test_yaml_by_hand_is_read_as_omegaconf_reads_it(text: str) -> None:
    """The same for what a person writes into a configuration."""
    assert repr(parse(text, _unexpected)) == repr(OmegaConf.to_container(OmegaConf.create(text), resolve=False))


def _unexpected(tag: str) -> None:
    raise AssertionError(f"{tag} was taken for an object")


def _paths_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _paths_as_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_paths_as_text(each) for each in value]
    return str(value) if isinstance(value, Path) else value
