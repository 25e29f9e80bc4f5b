"""Twenty finished folders dropped at once: one ``flush`` brings all of them to the server, whole and well named."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import run_folders
import yaml
from acceptance_bench import (
    Bench,
    Done,
    artifact_of,
    fingerprint_of,
    md5s_on_disk,
    md5s_on_server,
    opened_bench,
    outputs_of,
)
from run_folders import Recipe

from wandb_outbox.sandbox import ArtifactView, RunView

LIST_KEYS = {
    "id", "path", "root", "format", "kind", "state", "reason", "verdict", "revision", "incarnation", "attempts",
    "next_attempt_at", "entity", "project", "name", "url", "artifact", "digest", "files", "bytes", "fingerprint",
    "error", "first_seen", "completed_at", "uploaded_at",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A folder, and what the convention calls it."""

    below: str
    recipe: Recipe
    project: str
    name: str
    tags: set[str]


def _kind(
    below: str, project: str, name: str, tags: set[str], *, offset: int = 0, subset: int | None = None, **recipe: Any
) -> list[Case]:
    """Four seeds of one experiment."""
    dataset = {**recipe.pop("dataset"), "offset": offset, "subset": subset}
    return [
        Case(
            below.format(seed=seed),
            Recipe(dataset=dataset, seed=seed, samples=3 + seed % 4, **recipe),
            project,
            name,
            tags | {f"seed{seed}", "entropy"},
        )
        for seed in (42, 43, 44, 45)
    ]


CASES = [
    *_kind(
        "2025-12-03/aime25/qwen3_8b/deepconf/entropy/seed{seed}_19-04-48",
        "llm-tts-eval-aime2025", "deepconf_qwen3-8b_vllm",
        {"deepconf", "qwen3-8b", "vllm", "aime2025", "temp0.6", "top_k16", "threshold-10"},
        strategy="deepconf", strategy_more={"temperature": 0.6, "confidence_threshold": -10},
        model={"type": "vllm", "model_path": "Qwen/Qwen3-8B"}, dataset={"data_name": "aime25"},
        generation={"temperature": 1.0, "top_k": 16},
    ),
    *_kind(
        "2025-12-03/gsm8k/gpt4o/baseline/entropy/seed{seed}_08-00-00",
        "llm-tts-eval-gsm8k", "baseline_gpt-4o_openai_s0-12",
        {"baseline", "gpt-4o", "openai", "gsm8k", "temp0.7"},
        model={"type": "openai_api", "model_path": "gpt-4o"}, dataset={"data_name": "gsm8k"}, subset=13,
        generation={"temperature": 0.7},
    ),
    *_kind(
        "2025-12-04/self_consistency_seed{seed}",
        "llm-tts-eval-math500", "self-consistency_qwen2.5-7b-instruct_hf",
        {"self-consistency", "qwen2.5-7b-instruct", "hf", "math500", "temp0.7", "top_k20"},
        strategy="self_consistency", model={"type": "local", "model_path": "Qwen/Qwen2.5-7B-Instruct"},
        dataset={"data_name": "default", "dataset_path": "HuggingFaceH4/MATH-500"}, subset=500,
        generation={"temperature": 0.7, "top_k": 20},
    ),
    *_kind(
        "2025-12-04/1{seed}/12-00-00",
        "llm-tts-eval-gpqa-diamond", "mur_gpt-4o-mini_openrouter_s20-29",
        {"mur", "gpt-4o-mini", "openrouter", "gpqa-diamond", "temp0"},
        strategy="adaptive", offset=20, subset=10, dataset={"data_name": "gpqa_diamond"},
        model={"type": "openai_api", "model_name": "openai/gpt-4o-mini", "provider": "openrouter"},
        generation={"temperature": 0.0},
    ),
    *_kind(
        "2025-12-05/own/seed{seed}_01-02-03",
        "my-project", "baseline_gpt-4o-mini_openai",
        {"baseline", "gpt-4o-mini", "openai", "gsm8k", "temp0.6", "top_k20"},
        dataset={"data_name": "gsm8k"}, more={"wandb_project": "my-project", "wandb_group": "my-group"},
    ),
]  # fmt: skip


STEERING = {
    "WANDB_MODE": "offline", "WANDB_DISABLED": "true", "WANDB_RUN_ID": "steered", "WANDB_PROJECT": "steered",
    "WANDB_NAME": "steered", "WANDB_TAGS": "steered", "WANDB_RUN_GROUP": "steered", "WANDB_JOB_TYPE": "steered",
    "WANDB_NOTES": "steered", "WANDB_RESUME": "must", "WANDB_SWEEP_ID": "steered", "WANDB_DIR": "/nowhere",
    "WANDB_SERVICE": "2-1-tcp-localhost-1",
}  # fmt: skip
"""What a shell may hold of an experiment that used wandb itself."""


@dataclass(frozen=True)
class Story:
    """What was there after each step."""

    bench: Bench
    first: Done
    rows: dict[str, dict[str, Any]]
    listed: dict[str, Any]
    runs: dict[str, RunView]
    artifacts: list[ArtifactView]
    folders_before: dict[str, tuple[int, ...]]
    folders_after: dict[str, tuple[int, ...]]
    kept_bytes: int
    second: Done
    second_requests: int
    state_lost: Done
    rows_after_loss: dict[str, dict[str, Any]]

    def folder(self, case: Case) -> Path:
        """Where the case's folder is."""
        return self.bench.outputs / case.below

    def row(self, case: Case) -> dict[str, Any]:
        """What ``list --json`` said of it."""
        return self.rows[str(self.folder(case))]

    def run(self, case: Case) -> RunView:
        """What the server had of it after the first ``flush``."""
        return self.runs[self.row(case)["id"]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Drop twenty folders, flush in a shell full of W&B's variables, flush again, lose the state, flush once more."""
    with opened_bench(tmp_path_factory.mktemp("twenty") / "machine") as bench:
        for case in CASES:
            run_folders.make(bench.outputs / case.below, case.recipe)
        folders_before = fingerprint_of(bench.outputs)
        first = bench.run("flush", bench.outputs, environ=STEERING)
        listed = bench.run("list", "--json").json()
        runs, artifacts = {run.id: run for run in bench.server.runs()}, bench.server.artifacts()
        kept_bytes = sum(file.stat().st_size for file in bench.state.rglob("*") if file.is_file())
        requests = len(bench.server.requests)
        second = bench.run("flush", bench.outputs)
        second_requests = len(bench.server.requests) - requests
        shutil.rmtree(bench.state)
        state_lost = bench.run("flush", bench.outputs)
        yield Story(
            bench=bench,
            first=first,
            rows={row["path"]: row for row in listed["runs"]},
            listed=listed,
            runs=runs,
            artifacts=artifacts,
            folders_before=folders_before,
            folders_after=fingerprint_of(bench.outputs),
            kept_bytes=kept_bytes,
            second=second,
            second_requests=second_requests,
            state_lost=state_lost,
            rows_after_loss={row["path"]: row for row in bench.list()},
        )


def test_flush_says_that_twenty_were_uploaded(story: Story) -> None:
    """``flush`` ends with 0 and one line that counts what it delivered."""
    assert (story.first.code, story.first.out, story.first.err) == (0, "20 uploaded\n", "")


def test_twenty_folders_are_twenty_runs(story: Story) -> None:
    """Every folder is a run of its own, although five names are shared by four folders each."""
    assert len(CASES) == len(story.runs) == 20
    assert len({run.display_name for run in story.runs.values()}) == 5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.below)
def test_names_follow_the_convention(story: Story, case: Case) -> None:
    """Project, run name, job type and tags are those of the convention."""
    run = story.run(case)
    assert (run.project, run.display_name, run.job_type) == (case.project, case.name, "eval")
    assert set(run.tags) == case.tags
    assert run.state == "finished"
    assert run.exit_code == 0


def test_groups_come_from_the_experiment(story: Story) -> None:
    """A run is in the group that its experiment names, and in none when it names none."""
    groups = {case.below: story.run(case).group for case in CASES}
    assert all(group == ("my-group" if "/own/" in below else None) for below, group in groups.items())


def test_config_is_at_top_level(story: Story) -> None:
    """The run's config is the Hydra config as it is, at top level, with ``outbox`` beside it."""
    for case in CASES:
        config = dict(story.run(case).config)
        stored = yaml.safe_load((story.folder(case) / ".hydra/config.yaml").read_text())
        assert config.pop("outbox")["path"] == case.below
        config.pop("_wandb", None)
        assert config == stored


def test_summary_has_every_value_of_the_metrics(story: Story) -> None:
    """Every value of ``metrics.json`` is in the summary under its own name."""
    for case in CASES:
        metrics = json.loads((story.folder(case) / "metrics.json").read_text())
        summary = story.run(case).summary
        assert {key: summary.get(key) for key in metrics} == pytest.approx(metrics)


def test_history_has_every_sample(story: Story) -> None:
    """The metrics per sample are the run's history, each at its own step."""
    for case in CASES:
        rows = [row for row in story.run(case).history if "confidence" in row]
        assert [row["_step"] for row in rows] == list(range(case.recipe.samples))
        assert [row["confidence"] for row in rows] == [index / 8 for index in range(case.recipe.samples)]


def test_samples_are_a_table(story: Story) -> None:
    """The summary's ``samples`` is a table with one row for each sample, with the answers in it."""
    for case in CASES:
        run = story.run(case)
        stored = run.summary["samples"]
        assert (stored["_type"], stored["nrows"]) == ("table-file", case.recipe.samples)
        file = run.files[stored["path"]]
        assert file.path is not None
        table = json.loads(file.path.read_text())
        answers = [row[table["columns"].index("gold_answer")] for row in table["data"]]
        assert answers == [str(index * 7) for index in range(case.recipe.samples)]
        assert {"question", "extracted_answer", "is_correct", "eval/exact_match/is_correct"} <= set(table["columns"])


def test_artifacts_equal_the_folders(story: Story) -> None:
    """One committed artifact for each folder, named after its date and place, with every file byte by byte."""
    by_run = {artifact.logged_by: artifact for artifact in story.artifacts if artifact.name.startswith("outputs-")}
    assert len(by_run) == len([each for each in story.artifacts if each.name.startswith("outputs-")]) == 20
    for case in CASES:
        artifact = by_run[story.run(case).id]
        assert artifact.name == "outputs-" + case.below.replace("/", "-")
        assert (artifact.type, artifact.version, artifact.state) == ("evaluation_results", "v0", "COMMITTED")
        on_disk = md5s_on_disk(story.folder(case))
        assert tuple(sorted(on_disk)) == run_folders.FILES
        assert md5s_on_server(artifact.files) == on_disk
        samples = len(json.loads((story.folder(case) / "results.json").read_bytes()))
        assert artifact.metadata["counts"] == {"files": len(on_disk), "bytes": artifact.size, "samples": samples}


def test_run_files_are_there_to_be_fetched(story: Story) -> None:
    """Results, metrics, logs and Hydra's files lie at the run's root under their own names, byte by byte."""
    for case in CASES:
        on_disk = md5s_on_disk(story.folder(case))
        on_server = md5s_on_server(story.run(case).files)
        wanted = set(on_disk) - {"batch_results.jsonl", "sample_metrics.jsonl"}
        assert {name: on_server.get(name) for name in wanted} == {name: on_disk[name] for name in wanted}


def test_list_tells_what_the_server_confirmed(story: Story) -> None:
    """``list --json`` has its schema, and says ``uploaded`` with URL, version, digest, files and bytes."""
    assert set(story.listed) == {"schema", "runs"}
    assert story.listed["schema"] == 1
    for case in CASES:
        row, run = story.row(case), story.run(case)
        artifact = artifact_of(story.bench.server, run)
        assert set(row) == LIST_KEYS
        assert row["state"] == "uploaded"
        assert row["error"] is None
        assert (row["entity"], row["project"], row["name"]) == (run.entity, run.project, run.display_name)
        assert row["url"] == f"{story.bench.server.url}/{run.entity}/{run.project}/runs/{run.id}"
        assert row["artifact"] == f"{artifact.name}:v0"
        assert row["digest"] == artifact.digest
        assert (row["files"], row["bytes"]) == (len(run_folders.FILES), artifact.size)
        assert (row["attempts"], row["revision"], row["incarnation"]) == (1, 0, 0)
        assert row["root"] == str(story.bench.outputs)
        assert row["format"] == "llm-tts"
        assert row["kind"] == "folder"


def test_delivered_is_written_last(story: Story) -> None:
    """The summary says which content was delivered: the fingerprint and the artifact that ``list`` shows."""
    for case in CASES:
        row, delivered = story.row(case), story.run(case).summary["outbox/delivered"]
        assert delivered["fingerprint"] == row["fingerprint"]
        assert (delivered["artifact"], delivered["digest"]) == (row["artifact"], row["digest"])


def test_a_second_flush_sends_nothing(story: Story) -> None:
    """When all is delivered, ``flush`` makes no request at all."""
    assert (story.second.code, story.second.out, story.second.err) == (0, "0 uploaded\n", "")
    assert story.second_requests == 0


def test_a_lost_state_directory_makes_no_duplicates(story: Story) -> None:
    """Without its state, ``flush`` finds every run on the server again: no new run, no new version."""
    assert story.state_lost.code == 0, story.state_lost
    assert {run.id for run in story.bench.server.runs()} == set(story.runs)
    before = {(each.name, each.version, each.digest) for each in story.artifacts if each.name.startswith("outputs-")}
    assert {(each.name, each.version, each.digest) for each in outputs_of(story.bench.server)} == before
    kept = ("id", "url", "artifact", "digest", "state", "fingerprint")
    assert {path: [row[key] for key in kept] for path, row in story.rows_after_loss.items()} == {
        path: [row[key] for key in kept] for path, row in story.rows.items()
    }


def test_the_folders_are_untouched(story: Story) -> None:
    """Nothing below the root is written: no file more or less, no mtime, no ctime."""
    assert story.folders_after == story.folders_before


def test_everything_of_ours_is_in_the_state_directory(story: Story) -> None:
    """The home directory stays empty, and nobody else may look into the state directory."""
    assert list(story.bench.home.iterdir()) == []
    assert stat.S_IMODE(story.bench.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((story.bench.state / "outbox.db").stat().st_mode) == 0o600


def test_deliveries_leave_nothing_on_the_disk(story: Story) -> None:
    """After the deliveries the state directory holds the outbox and a few lines of log: no copy of any table or file."""
    assert story.kept_bytes < 200_000
    left = [file for file in (story.bench.state / "uploader").rglob("*") if file.is_file()]
    assert [file.name for file in left] == ["uploader.log"]
