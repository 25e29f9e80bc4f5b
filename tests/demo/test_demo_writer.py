"""The writer of made-up run folders: what it leaves is what the real script leaves, in the same order."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from wandb_outbox.demo import writer
from wandb_outbox.demo.writer import Experiment, Kind, write_run
from wandb_outbox.detect.writers import find_holders, probe_writers
from wandb_outbox.folder import snapshot
from wandb_outbox.formats import evidence, recognise
from wandb_outbox.model import FormatEvidence, Plan, PlanRequest, Severity, Writers
from wandb_outbox.plan import make_plan

JUDGE = "llm_judge_gpt-4.1-mini"
WHOLE = {
    ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "batch_results.jsonl", "metrics.json",
    "results.json", "run_tts_eval.log", "sample_metrics.jsonl", "stderr.log",
}  # fmt: skip


class Died(Exception):
    """In place of the signal, which would end the test as well."""


def die() -> NoReturn:
    """Die as an experiment that can be watched dying."""
    raise Died


def written(path: Path, experiment: Experiment, **options: Any) -> str:
    """A run folder, written at once."""
    folder = path / "outputs" / "2026-11-21" / "run"
    try:
        write_run(str(folder), experiment, die=die, **options)
    except Died:
        assert experiment.kind is Kind.KILLED
    return str(folder)


def evidence_of(folder: str) -> FormatEvidence:
    """What the folder says of its end."""
    return evidence("llm-tts", folder, snapshot(folder))


def plan_of(folder: str, outcome: str = "ok") -> Plan:
    """What would be sent of the folder."""
    request = PlanRequest(
        path=folder,
        root=os.path.dirname(os.path.dirname(folder)),
        format="llm-tts",
        run_id="r",
        site="s",
        outcome=outcome,
    )
    return make_plan(request, snapshot(folder))


def read_json(folder: str, name: str) -> Any:
    """One of the folder's JSON files."""
    return json.loads(Path(folder, name).read_text("utf-8"))


@contextmanager
def running(path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A writer process and its folder; ended when the test is over."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "wandb_outbox.demo.writer",
        "--into",
        str(path),
        "--run-name",
        "run",
        *arguments,
    ]
    with subprocess.Popen(command) as process:
        try:
            yield process, str(path / "run")
        finally:
            process.kill()


def until(ready: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def log_of(folder: str) -> str:
    """The log as it is now, empty while there is none."""
    try:
        return Path(folder, writer.LOG).read_text("utf-8")
    except FileNotFoundError:
        return ""


ALL_KINDS = [
    Experiment(),
    Experiment(kind=Kind.KILLED),
    Experiment(kind=Kind.KILLED, torn=True),
    Experiment(kind=Kind.INCOMPLETE),
    Experiment("beam_search", "Qwen/Qwen3-8B", "vllm", "math500", "prm", evaluators=(writer.EXACT_MATCH, JUDGE)),
]


@pytest.mark.parametrize("experiment", ALL_KINDS, ids=str)
def test_every_folder_is_recognised(tmp_path: Path, experiment: Experiment) -> None:
    """However it ended, it is a folder of the evaluation script."""
    folder = written(tmp_path, experiment)
    assert recognise(folder, os.listdir(folder)) == "llm-tts"


def test_a_run_that_ends_well_is_whole_and_done(tmp_path: Path) -> None:
    """All files of the real script and no other; done, not failed, nothing missing."""
    folder = written(tmp_path, Experiment())
    assert {file.path for file in snapshot(folder).files} == WHOLE
    found = evidence_of(folder)
    assert found.done is not None
    assert (found.failed, found.incomplete, found.nothing_to_show) == (None, None, False)
    assert read_json(folder, "metrics.json")["total_samples"] == len(read_json(folder, "results.json")) == 12


def test_a_killed_run_began_what_it_did_not_end(tmp_path: Path) -> None:
    """Whole chunks are in results.json, the lines of the samples are one ahead, and the log ends in a phase."""
    folder = written(tmp_path, Experiment(kind=Kind.KILLED))
    found = evidence_of(folder)
    assert found.done is None
    assert found.failed is not None
    assert "trajectory generation" in found.failed
    assert len(read_json(folder, "results.json")) == 4
    assert len(Path(folder, "sample_metrics.jsonl").read_text().splitlines()) == 5
    assert len(Path(folder, "batch_results.jsonl").read_text().splitlines()) == 8
    assert not Path(folder, "metrics.json").exists()


def test_a_run_killed_while_it_saves_leaves_torn_results(tmp_path: Path) -> None:
    """Half of results.json is on disk: no JSON, and the folder says so."""
    folder = written(tmp_path, Experiment(kind=Kind.KILLED, torn=True))
    with pytest.raises(json.JSONDecodeError):
        read_json(folder, "results.json")
    found = evidence_of(folder)
    assert found.failed is not None
    assert "torn" in found.failed
    assert not found.nothing_to_show


def test_a_run_killed_in_its_first_chunk_has_no_results_yet(tmp_path: Path) -> None:
    """The chunk that breaks can be chosen."""
    folder = written(tmp_path, Experiment(kind=Kind.KILLED, breaks_in=1))
    assert not Path(folder, "results.json").exists()
    assert evidence_of(folder).failed is not None


def test_an_incomplete_run_ends_well_with_fewer_samples(tmp_path: Path) -> None:
    """Its API died: metrics.json is written, the log says that generations failed, and samples are missing."""
    folder = written(tmp_path, Experiment(kind=Kind.INCOMPLETE))
    found = evidence_of(folder)
    assert found.done is not None
    assert found.incomplete == "run_tts_eval.log says that a generation failed"
    assert read_json(folder, "metrics.json")["total_samples"] == 4
    assert plan_of(folder, "incomplete").tags[-1] == "incomplete"


def test_progressive_saves_are_not_judged_where_only_a_judge_judges(tmp_path: Path) -> None:
    """Before the second phase, results.json holds is_correct null and an empty eval."""
    folder = written(tmp_path, Experiment(kind=Kind.KILLED, evaluators=(JUDGE,)))
    assert all(row["is_correct"] is None and row["eval"] == {} for row in read_json(folder, "results.json"))


def test_the_same_experiment_has_the_same_content(tmp_path: Path) -> None:
    """Only the times in the log and the folder's own path differ; another seed gives other answers to the same questions."""
    experiment = Experiment(strategy="adaptive", evaluators=(writer.EXACT_MATCH, JUDGE), extra_bytes=3_000_000)
    one, two = written(tmp_path / "1", experiment), written(tmp_path / "2", experiment)
    for name in (WHOLE | {writer.EXTRA, writer.INCONSISTENCIES}) - {writer.LOG, ".hydra/hydra.yaml"}:
        assert Path(one, name).read_bytes() == Path(two, name).read_bytes(), name
    assert Path(one, writer.EXTRA).stat().st_size == 3_000_000
    other = read_json(written(tmp_path / "3", Experiment(seed=43)), "results.json")
    first = read_json(written(tmp_path / "4", Experiment(seed=42)), "results.json")
    assert [row["question"] for row in other] == [row["question"] for row in first]
    assert [row["validity_scores"] for row in other] != [row["validity_scores"] for row in first]


@pytest.mark.parametrize(
    ("experiment", "name", "tags"),
    [
        (
            Experiment(samples=5),
            "baseline_gpt-4o-mini_openai_s0-4",
            ("baseline", "gpt-4o-mini", "openai", "gsm8k", "temp0.6", "top_k20", "entropy", "seed42"),
        ),
        (
            Experiment("deepconf", "Qwen/Qwen3-8B", "vllm", "aime2025", samples=30),
            "deepconf_qwen3-8b_vllm",
            ("deepconf", "qwen3-8b", "vllm", "aime2025", "temp0.7", "top_k20", "threshold-10", "entropy", "seed42"),
        ),
        (
            Experiment("beam_search", "Qwen/Qwen3-8B", "hf", "math500", "prm", seed=43, samples=4, offset=8),
            "beam-search_qwen3-8b_hf_s8-11",
            ("beam-search", "qwen3-8b", "hf", "math500", "temp0.6", "top_k20", "prm", "mean", "seed43"),
        ),
        (
            Experiment(model="deepseek/deepseek-chat", backend="openrouter", samples=3),
            "baseline_deepseek-chat_openrouter_s0-2",
            ("baseline", "deepseek-chat", "openrouter", "gsm8k", "temp0.6", "top_k20", "entropy", "seed42"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_plan_reads_what_was_meant(
    tmp_path: Path, experiment: Experiment, name: str, tags: tuple[str, ...]
) -> None:
    """Names and tags are those of the experiment, metrics and results agree, and no file is left out.

    The experiment averages validity over all scores at once, and the upload script over the samples: that is a note.
    """
    plan = plan_of(written(tmp_path, experiment))
    assert (plan.project, plan.name, plan.tags) == (f"llm-tts-eval-{experiment.dataset}", name, tags)
    assert {(each.rule, each.severity) for each in plan.warnings} <= {("metrics-counted-otherwise", Severity.NOTE)}
    assert plan.excluded == ()
    assert {file.path for file in plan.artifacts[0].files} == WHOLE
    assert plan.summary["total_samples"] == len(plan.history) == experiment.samples
    assert 0 < plan.summary["exact_match/accuracy"] <= 1


def test_files_come_in_the_order_of_the_real_script(tmp_path: Path) -> None:
    """Seen at every pause: Hydra's files and the logs first, then chunk by chunk, results.json growing, metrics last."""
    folder = tmp_path / "run"
    sights: list[tuple[set[str], int]] = []

    def look(_seconds: float) -> None:
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        results = json.loads((folder / "results.json").read_text()) if "results.json" in there else []
        sights.append((there, len(results)))

    write_run(str(folder), Experiment(samples=6, chunk=2, evaluators=(writer.EXACT_MATCH, JUDGE)), sleep=look)
    begun = {".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", writer.LOG, writer.STDERR}
    assert sights[0] == (begun, 0)
    assert sights[2][0] == begun | {"batch_results.jsonl", "sample_metrics.jsonl", "results.json"}
    assert [count for _, count in sights] == [0, 0, 2, 2, 4, 4, *[6] * 7]
    assert all("metrics.json" not in there for there, _ in sights[:-1])
    assert "metrics.json" in sights[-1][0]


def test_a_judge_rewrites_the_results_after_every_sample(tmp_path: Path) -> None:
    """The second phase saves all of results.json for each sample that it judges."""
    judged: list[int] = []

    def look(_seconds: float) -> None:
        results = tmp_path / "run" / "results.json"
        rows = json.loads(results.read_text()) if results.exists() else []
        judged.append(sum(JUDGE in row["eval"] for row in rows))

    write_run(str(tmp_path / "run"), Experiment(samples=3, chunk=3, evaluators=(writer.EXACT_MATCH, JUDGE)), sleep=look)
    assert judged == [0, 0, 0, 0, 1, 2, 3]
    assert read_json(str(tmp_path / "run"), "metrics.json")[f"{JUDGE}/correct"] >= 0


def test_logging_of_this_process_is_left_alone(tmp_path: Path) -> None:
    """The experiment's loggers are its own: no handler stays with ours, and no file stays open."""
    before = list(logging.getLogger().handlers)
    folder = written(tmp_path, Experiment())
    assert logging.getLogger().handlers == before
    assert not logging.getLogger("__main__").handlers
    assert probe_writers(folder, snapshot(folder)).writers is Writers.FREE


def test_the_log_is_in_the_format_of_hydra(tmp_path: Path) -> None:
    """Time, logger, level, text; the phases are named as the real script names them."""
    lines = log_of(written(tmp_path, Experiment())).splitlines()
    assert lines[0].endswith("][__main__][INFO] - Host: gpu-box (127.0.0.1)")
    texts = [line.partition(" - ")[2] for line in lines]
    milestones = [
        "Starting trajectory generation...",
        "Chunk 1/3 complete: 4/12 samples processed, checkpoint saved",
        "Trajectory generation completed successfully",
        "Starting evaluation phase...",
        "Evaluation completed successfully",
    ]
    assert [text for text in texts if text in milestones] == milestones
    assert texts[-1] == milestones[-1]


def test_log_and_stderr_are_held_open_while_it_runs(tmp_path: Path) -> None:
    """In the silence of a long sample, both logs and nothing else are open for writing."""
    with running(tmp_path, "--pace", "60") as (process, folder):
        until(lambda: "Phase 1" in log_of(folder))
        held = [holder for holder in find_holders(folder) if holder.pid == process.pid]
        assert {holder.file for holder in held} == {writer.LOG, writer.STDERR}


def test_the_log_is_held_open_until_the_process_is_gone(tmp_path: Path) -> None:
    """All evidence says done, and yet somebody writes, until the process has ended."""
    with running(tmp_path, "--pace", "0", "--linger", "60") as (process, folder):
        until(lambda: "Evaluation completed successfully" in log_of(folder))
        assert evidence_of(folder).done is not None
        seen = probe_writers(folder, snapshot(folder))
        assert seen.writers is Writers.WRITER
        assert writer.LOG in seen.detail
        process.terminate()
        process.wait()
        until(lambda: probe_writers(folder, snapshot(folder)).writers is Writers.FREE)


def test_the_kill_is_a_real_one(tmp_path: Path) -> None:
    """A killed experiment ends by SIGKILL, with the last lines of its log on disk."""
    with running(tmp_path, "--pace", "0", "--kind", "killed", "--torn") as (process, folder):
        assert process.wait(30) == -signal.SIGKILL
        assert "Processing chunk 2/3" in log_of(folder)
        assert evidence_of(folder).failed is not None


def test_an_incomplete_experiment_exits_with_0(tmp_path: Path) -> None:
    """Nothing in the exit code tells that half of it is missing."""
    with running(tmp_path, "--pace", "0", "--linger", "0", "--kind", "incomplete") as (process, folder):
        assert process.wait(30) == 0
        assert evidence_of(folder).incomplete is not None
