"""Which directories are run folders, and of which format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from format_makers import CONFIG, RunFolder

from wandb_outbox.formats import recognise


def _of(folder: RunFolder, *detect: str) -> str | None:
    return recognise(str(folder.path), [entry.name for entry in folder.path.iterdir()], detect=detect)


def test_strategy_and_dataset_in_the_configuration_make_llm_tts(tmp_path: Path) -> None:
    """A Hydra folder whose configuration has strategy and dataset at its top is llm-tts before any log is there."""
    assert _of(RunFolder(tmp_path / "run").put(".hydra/config.yaml", CONFIG)) == "llm-tts"


def test_the_log_makes_llm_tts(tmp_path: Path) -> None:
    """The script's log is enough beside .hydra, whatever the configuration says."""
    assert _of(RunFolder(tmp_path / "run").put(".hydra/config.yaml", "a: 1").put("run_tts_eval.log", "")) == "llm-tts"


@pytest.mark.parametrize(
    "config",
    [
        "lr: 1e-3\n",
        "model:\n  strategy: x\n  dataset: y\n",
        "strategy: x\n",
        "",
        "\x00\x01",
        "# strategy: x\ndataset: y\n",
    ],
)
def test_any_other_hydra_folder_is_hydra(tmp_path: Path, config: str) -> None:
    """A configuration without both keys at its top is a Hydra folder like any other."""
    assert _of(RunFolder(tmp_path / "run").put(".hydra/config.yaml", config)) == "hydra"


def test_a_hydra_directory_without_configuration_is_hydra(tmp_path: Path) -> None:
    """The directory alone is recognised: its files may still come."""
    (tmp_path / ".hydra").mkdir()
    assert _of(RunFolder(tmp_path)) == "hydra"


def test_a_job_of_a_sweep_is_hydra_and_its_parent_is_nothing(tmp_path: Path) -> None:
    """multirun/DATE/TIME/0 is a run; the folder that holds multirun.yaml is none."""
    job = RunFolder(tmp_path / "multirun/2025-12-03/10-00-00/0").put(".hydra/config.yaml", "a: 1")
    (job.path.parent / "multirun.yaml").write_text("hydra: {}")
    assert _of(job) == "hydra"
    assert _of(RunFolder(job.path.parent)) is None


def test_a_job_of_a_sweep_is_hydra_without_its_configuration(tmp_path: Path) -> None:
    """With ``hydra.output_subdir=null`` the path alone says it; what other formats know, and empty directories, are not it."""
    sweep = tmp_path / "multirun/2025-12-03/10-00-00"
    assert _of(RunFolder(sweep / "0").put("metrics.json", "{}")) == "hydra"
    assert _of(RunFolder(sweep / "1").put("all_results.json", "{}")) == "hf-trainer"
    (sweep / "2").mkdir()
    (sweep / "multirun.yaml").write_text("hydra: {}")
    assert recognise(str(sweep / "2"), []) is None
    assert [_of(RunFolder(path)) for path in (sweep, sweep.parent, sweep.parent.parent)] == [None] * 3
    assert _of(RunFolder(tmp_path / "other/2025-12-03/10-00-00/0").put("metrics.json", "{}")) is None


@pytest.mark.parametrize("other", ["run_tts_eval.log", "metrics.json"])
def test_results_of_older_scripts_are_llm_tts(tmp_path: Path, other: str) -> None:
    """results.json beside the log or beside metrics.json needs no .hydra."""
    assert _of(RunFolder(tmp_path / "run").put("results.json", []).put(other, "{}")) == "llm-tts"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["results.json"], None),
        (["checkpoint-500", "tokenizer.json"], "hf-trainer"),
        (["trainer_state.json"], "hf-trainer"),
        (["all_results.json"], "hf-trainer"),
        (["results_2025-12-03T10-00-00.123456.json"], "lm-eval"),
        (["outbox.yaml"], "plain"),
        ([".outbox-done"], "plain"),
        (["config.yaml", "hydra.yaml", "overrides.yaml"], None),
        ([], None),
    ],
)
def test_names_alone_decide(names: list[str], expected: str | None) -> None:
    """The other formats are recognised by names; a directory of anything else is no run folder."""
    assert recognise("/nowhere/x", names) == expected


def test_a_checkpoint_is_never_a_run() -> None:
    """checkpoint-N holds trainer_state.json too, and belongs to the training above it."""
    assert recognise("/out/run/checkpoint-500", ["trainer_state.json", "outbox.yaml"]) is None


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("summary.csv", True), ("*.csv", True), ("*.txt", False), ("runs/*", True), ("exp-*/", True), ("other/*", False)],
)
def test_patterns_of_the_root_make_plain(tmp_path: Path, pattern: str, found: bool) -> None:
    """Patterns take names of entries, and with a slash the end of the folder's path."""
    folder = RunFolder(tmp_path / "runs" / "exp-1").put("summary.csv", "a,b")
    assert _of(folder, pattern) == ("plain" if found else None)


def test_a_format_wins_over_a_pattern(tmp_path: Path) -> None:
    """A folder that a format knows is never made plain by a pattern."""
    assert _of(RunFolder(tmp_path / "run").put(".hydra/config.yaml", "a: 1"), "*") == "hydra"


def test_recognition_and_evidence_load_nothing_heavy(tmp_path: Path) -> None:
    """The daemon asks this of every directory: no YAML, orjson, ijson or wandb comes in with it."""
    RunFolder(tmp_path).put(".hydra/config.yaml", CONFIG).put("metrics.json", {}).put("results.json", [])
    code = (
        "import sys; from wandb_outbox.formats import recognise, evidence; from wandb_outbox.folder import snapshot\n"
        f"path = {str(tmp_path)!r}\n"
        "assert recognise(path, ['.hydra']) == 'llm-tts'; evidence('llm-tts', path, snapshot(path))\n"
        "print(sorted({'yaml', 'orjson', 'ijson', 'wandb', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
