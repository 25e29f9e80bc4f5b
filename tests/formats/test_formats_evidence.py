"""What in a folder says that its experiment is done, failed or incomplete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from format_makers import (
    BEGIN,
    EVALUATE,
    GENERATED,
    HOST,
    RANGE,
    SAMPLE,
    SUCCESS,
    TRACEBACK,
    WHOLE_LOG,
    RunFolder,
    llm_tts,
)

from wandb_outbox.errors import FolderChanged, UserError
from wandb_outbox.folder import snapshot
from wandb_outbox.formats import evidence
from wandb_outbox.model import JsonValue

FILLER = "[2025-12-03 10:10:00,000][httpx][INFO] - HTTP Request: POST http://localhost\n"


def test_whole_metrics_not_older_than_the_results_are_done(tmp_path: Path) -> None:
    """metrics.json is the last thing the script writes."""
    found = llm_tts(tmp_path, log="").put("metrics.json", {"total_samples": 1}).evidence()
    assert found.done == "metrics.json is there and not older than results.json"
    assert found.failed is None


def test_metrics_older_than_the_results_are_not_done(tmp_path: Path) -> None:
    """A stale metrics.json can stand beside a growing results.json."""
    folder = llm_tts(tmp_path, log="").put("metrics.json", {"total_samples": 1}, age=100)
    assert folder.evidence().done is None


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "[" * 1000, b"\xff\xfe\x00", "{}{}"])
def test_metrics_that_are_no_object_are_not_done(tmp_path: Path, content: str | bytes) -> None:
    """Torn, binary and a thousand brackets deep: not done, and no exception."""
    assert llm_tts(tmp_path, log="").put("metrics.json", content).evidence().done is None


def test_metrics_with_nan_are_done(tmp_path: Path) -> None:
    """Python writes NaN as a bare word, and so does the script."""
    assert llm_tts(tmp_path, log="").put("metrics.json", '{"a": NaN, "b": -Infinity}').evidence().done


def test_huge_metrics_are_not_read(tmp_path: Path) -> None:
    """Beyond 4 MB metrics.json is no evidence; the log still is."""
    folder = llm_tts(tmp_path).put("metrics.json", b'{"a": "' + b"x" * 5_000_000 + b'"}')
    assert folder.evidence().done == "run_tts_eval.log says that the evaluation completed successfully"


def test_a_log_that_ends_well_is_done(tmp_path: Path) -> None:
    """The last segment's last phase ended, and no result is newer."""
    found = llm_tts(tmp_path).evidence()
    assert found.done == "run_tts_eval.log says that the evaluation completed successfully"
    assert not found.nothing_to_show


def test_a_log_older_than_the_results_is_not_done(tmp_path: Path) -> None:
    """A later re-evaluation rewrites the results and holds no log."""
    folder = llm_tts(tmp_path).put("results.json", [SAMPLE])
    assert folder.evidence().done is None


def test_only_the_last_segment_speaks(tmp_path: Path) -> None:
    """A success of the session before says nothing of the one that was resumed."""
    found = llm_tts(tmp_path, log=WHOLE_LOG + HOST + BEGIN).evidence()
    assert found.done is None
    assert found.failed is not None
    assert "trajectory generation" in found.failed


def test_metrics_of_the_session_before_are_stale(tmp_path: Path) -> None:
    """A resumed run with a phase begun and not ended is not done by the metrics of its first session."""
    folder = llm_tts(tmp_path, log=WHOLE_LOG + HOST + BEGIN).put("metrics.json", {"total_samples": 1})
    found = folder.evidence()
    assert found.done is None
    assert found.failed is not None


def test_a_resumed_run_that_ended_is_done(tmp_path: Path) -> None:
    """Two segments, the last one whole."""
    assert llm_tts(tmp_path, log=HOST + BEGIN + WHOLE_LOG).put("metrics.json", {}).evidence().done


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (HOST + BEGIN, "trajectory generation"),
        (HOST + BEGIN + GENERATED + EVALUATE, "evaluation phase"),
        (HOST + BEGIN + "[2025-12-03 10:01:00,000][__main__][INFO] - Job interrupted by user\n", "Job interrupted"),
        (HOST + BEGIN + "[2025-12-03 10:01:00,000][__main__][ERROR] - Job failed with exception: x\n", "Job failed"),
        (HOST + "[2025-12-03 10:01:00,000][__main__][ERROR] - Model loading failed: x\n" + TRACEBACK, "CUDA died"),
    ],
)
def test_a_log_that_ends_badly_is_failed(tmp_path: Path, log: str, words: str) -> None:
    """A phase begun and not ended, an interrupted or failed job, and a traceback at the end of the log."""
    found = llm_tts(tmp_path, log=log).evidence()
    assert found.done is None
    assert found.failed is not None
    assert words in found.failed


def test_a_library_that_starts_something_is_no_phase(tmp_path: Path) -> None:
    """Only the main script's phases count."""
    log = HOST + "[2025-12-03 10:00:06,000][vllm.engine][INFO] - Starting server...\n"
    assert llm_tts(tmp_path, log=log).evidence().failed is None


def test_a_traceback_at_the_end_of_stderr_is_failed(tmp_path: Path) -> None:
    """Python's last words stand in stderr.log."""
    found = llm_tts(tmp_path, log=HOST).put("stderr.log", "100%|###| 3/3\n" + TRACEBACK).evidence()
    assert found.failed == "stderr.log ends with a traceback: RuntimeError: CUDA died"


@pytest.mark.parametrize(
    "stderr",
    [
        TRACEBACK + "100%|####| 12/12 [00:03<00:00]\n",
        "Exception ignored in: <function f>\n" + TRACEBACK,
        "warning: x\n",
    ],
)
def test_a_traceback_that_was_survived_is_no_failure(tmp_path: Path, stderr: str) -> None:
    """A progress bar after it, or Python's own remark at shutdown, and the run went on."""
    assert llm_tts(tmp_path, log=HOST).put("stderr.log", stderr).evidence().failed is None


def test_done_wins_over_failed(tmp_path: Path) -> None:
    """A traceback on the way out of a finished run does not make it a crash."""
    found = llm_tts(tmp_path).put("stderr.log", TRACEBACK).evidence()
    assert found.done is not None
    assert found.failed is None


@pytest.mark.parametrize("content", [b"", b" \n", b'[{"index": 0, "ques', b'{"a": 1', b"[1}", b"\x00\x01\x02"])
def test_torn_results_are_failed_whatever_else_is_said(tmp_path: Path, content: bytes) -> None:
    """Neither the log, nor metrics.json, nor the experiment's own marker makes a torn results.json whole."""
    folder = llm_tts(tmp_path, results=content).put("metrics.json", {}).put(".outbox-done", "")
    found = folder.evidence()
    assert found.done is None
    assert found.failed is not None
    assert "results.json" in found.failed


def test_progressive_results_are_failed(tmp_path: Path) -> None:
    """is_correct null with an empty eval was saved between two phases."""
    folder = llm_tts(tmp_path, log=HOST, results=[{**SAMPLE, "is_correct": None, "eval": {}}])
    assert folder.evidence().failed == "results.json holds samples that were saved before they were evaluated"


def test_a_question_about_json_is_not_progressive(tmp_path: Path) -> None:
    """Quoted keys inside a text have a backslash before them."""
    folder = llm_tts(tmp_path, log=HOST, results=[{"question": '"is_correct": null, "eval": {}'}])
    assert folder.evidence().failed is None


def test_older_folders_say_nothing(tmp_path: Path) -> None:
    """The guide's own folders have results and no word of the end: neither done nor failed."""
    found = RunFolder(tmp_path).put("results.json", [SAMPLE]).put("run_tts_eval.log", "hello\n").evidence()
    assert (found.done, found.failed, found.incomplete, found.nothing_to_show) == (None, None, None, False)


def test_a_failed_generation_is_incomplete(tmp_path: Path) -> None:
    """The script exits 0 with metrics.json written when its API died half-way."""
    failed = "[2025-12-03 10:10:00,000][__main__][ERROR] - Chunk 3 generation failed: refused\n"
    log = HOST + BEGIN + failed + GENERATED + EVALUATE + SUCCESS
    found = llm_tts(tmp_path, log=log).put("metrics.json", {"total_samples": 6}).evidence()
    assert found.done is not None
    assert found.incomplete == "run_tts_eval.log says that a generation failed"


def test_fewer_samples_than_wanted_is_incomplete(tmp_path: Path) -> None:
    """total_samples is held against the log's own count."""
    log = HOST + RANGE + BEGIN + GENERATED + EVALUATE + SUCCESS
    found = llm_tts(tmp_path, log=log).put("metrics.json", {"total_samples": 6}).evidence()
    assert found.incomplete == "metrics.json counts 6 samples of the 12 that run_tts_eval.log names"
    assert llm_tts(tmp_path, log=log).put("metrics.json", {"total_samples": 12}).evidence().incomplete is None


def test_a_long_log_is_read_at_both_ends(tmp_path: Path) -> None:
    """A phase that began in the head of a long log, and of which its tail says nothing, is open."""
    killed = llm_tts(tmp_path / "killed", log=HOST + BEGIN + FILLER * 20_000).evidence()
    assert killed.failed is not None
    assert "trajectory generation" in killed.failed
    ended = llm_tts(tmp_path / "ended", log=HOST + BEGIN + FILLER * 20_000 + SUCCESS).evidence()
    assert ended.done is not None


def test_a_resume_hidden_in_a_long_log_makes_metrics_stale(tmp_path: Path) -> None:
    """When the middle was not read, metrics older than the log's end are not trusted against an open phase."""
    folder = RunFolder(tmp_path).put("results.json", [SAMPLE]).put("metrics.json", {})
    folder.put("run_tts_eval.log", HOST + BEGIN + FILLER * 20_000)
    assert folder.evidence().done is None


def test_evidence_reads_a_bounded_part(tmp_path: Path) -> None:
    """Sparse files of a terabyte are looked at from both ends."""
    folder = llm_tts(tmp_path)
    for name in ("results.json", "run_tts_eval.log", "stderr.log", "metrics.json"):
        with (tmp_path / name).open("ab") as file:
            file.truncate(10**12)
    assert folder.evidence().failed is not None


@pytest.mark.parametrize(
    ("files", "nothing"),
    [
        ({}, True),
        ({"results.json": "[]"}, True),
        ({"results.json": "  \n"}, True),
        ({"batch_results.jsonl": ""}, True),
        ({"batch_results.jsonl": "{}\n"}, False),
        ({"sample_metrics.jsonl": "{}\n"}, False),
        ({"metrics.json": "{}"}, False),
        ({"results.json": "[{}]"}, False),
    ],
)
def test_nothing_to_show_means_no_result_at_all(tmp_path: Path, files: dict[str, str], nothing: bool) -> None:
    """Logs and a configuration are no results."""
    folder = RunFolder(tmp_path).put(".hydra/config.yaml", "a: 1").put("run_tts_eval.log", HOST)
    for name, content in files.items():
        folder.put(name, content)
    assert folder.evidence().nothing_to_show is nothing


@pytest.mark.parametrize("name", ["llm-tts", "hydra", "plain", "hf-trainer", "lm-eval"])
def test_the_marker_is_done_for_every_format(tmp_path: Path, name: str) -> None:
    """.outbox-done counts while no other file is newer."""
    folder = RunFolder(tmp_path).put("out.csv", "x").put(".outbox-done", "")
    assert folder.evidence(name).done == ".outbox-done is there and no file in the folder is newer"
    assert folder.put("out.csv", "y").evidence(name).done is None


def test_a_marker_that_is_a_link_is_none(tmp_path: Path) -> None:
    """Links are not followed."""
    folder = RunFolder(tmp_path).put("out.csv", "x")
    os.symlink("out.csv", tmp_path / ".outbox-done")
    assert folder.evidence("plain").done is None


def test_a_hydra_folder_fails_by_a_traceback_in_its_log(tmp_path: Path) -> None:
    """Of its end a Hydra application says nothing else."""
    folder = RunFolder(tmp_path).put(".hydra/config.yaml", "a: 1").put("train.log", "started\n")
    assert folder.evidence("hydra") == type(folder.evidence("hydra"))(nothing_to_show=True)
    assert folder.put("train.log", TRACEBACK).evidence("hydra").failed is not None
    assert folder.put("model.pt", "x").evidence("hydra").nothing_to_show is False


def test_a_training_is_done_at_its_last_step(tmp_path: Path) -> None:
    """trainer_state.json counts steps; all_results.json counts while no checkpoint is newer."""
    folder = RunFolder(tmp_path).put("trainer_state.json", {"global_step": 10, "max_steps": 10})
    assert folder.evidence("hf-trainer").done == "trainer_state.json says step 10 of 10"
    folder.put("trainer_state.json", {"global_step": 5, "max_steps": 10})
    assert folder.evidence("hf-trainer").done is None
    folder.put("all_results.json", {"train_loss": 1.0})
    assert folder.evidence("hf-trainer").done is not None
    folder.put("checkpoint-7/trainer_state.json", {})
    assert folder.evidence("hf-trainer").done is None


def _state(step: int, *, stop: bool = False) -> dict[str, JsonValue]:
    control = {"TrainerControl": {"args": {"should_training_stop": stop}}}
    return {"global_step": step, "max_steps": 10, "stateful_callbacks": control}


def test_a_training_that_was_killed_says_so_by_its_last_checkpoint(tmp_path: Path) -> None:
    """Unless it stopped early, or its script came to its end and saved model or state."""
    folder = RunFolder(tmp_path).put("checkpoint-5/trainer_state.json", _state(5))
    said = folder.evidence("hf-trainer")
    assert said.done is None
    assert said.failed == "checkpoint-5/trainer_state.json says step 5 of 10, and nothing was saved after it"
    folder.put("checkpoint-7/trainer_state.json", _state(7, stop=True))
    assert folder.evidence("hf-trainer").failed is None
    folder.put("checkpoint-7/trainer_state.json", _state(7))
    assert folder.evidence("hf-trainer").failed is not None
    folder.put("model.safetensors", "x")
    assert folder.evidence("hf-trainer").failed is None


def test_a_training_that_goes_on_is_not_done_by_its_earlier_end(tmp_path: Path) -> None:
    """The state at the top is of the session before; the newest checkpoint is of this one."""
    folder = RunFolder(tmp_path).put("trainer_state.json", _state(10))
    assert folder.evidence("hf-trainer").done == "trainer_state.json says step 10 of 10"
    folder.put("checkpoint-15/trainer_state.json", {"global_step": 15, "max_steps": 20})
    said = folder.evidence("hf-trainer")
    assert said.done is None
    assert said.failed == "checkpoint-15/trainer_state.json says step 15 of 20, and nothing was saved after it"
    folder.put("trainer_state.json", {"global_step": 20, "max_steps": 20})
    assert folder.evidence("hf-trainer").done == "trainer_state.json says step 20 of 20"


def test_a_harness_that_was_killed_between_two_tasks_has_failed(tmp_path: Path) -> None:
    """Without any samples it was not asked for them: that says nothing."""
    stamp = "2025-12-03T11-00-00.1"
    folder = RunFolder(tmp_path).put(f"results_{stamp}.json", {"configs": {"gsm8k": {}, "arc": {}}, "results": {}})
    assert folder.evidence("lm-eval").failed is None
    folder.put(f"samples_gsm8k_{stamp}.jsonl", "{}")
    said = folder.evidence("lm-eval")
    assert (said.done, said.failed) == (
        None, f"results_{stamp}.json is there, and the samples of these tasks are not: arc"
    )  # fmt: skip
    folder.put(f"samples_arc_{stamp}.jsonl", "{}")
    assert folder.evidence("lm-eval").done is not None


def test_a_harness_run_is_done_when_its_samples_are_there(tmp_path: Path) -> None:
    """Results come before samples, and of several timestamps the newest speaks."""
    old, new = "2025-12-03T10-00-00.1", "2025-12-03T11-00-00.1"
    folder = RunFolder(tmp_path).put(f"results_{old}.json", {"results": {"gsm8k": {}}})
    folder.put(f"samples_gsm8k_{old}.jsonl", "{}\n")
    assert folder.evidence("lm-eval").done is not None
    folder.put(f"results_{new}.json", {"results": {"gsm8k": {}}})
    assert folder.evidence("lm-eval").done is None


def test_a_file_that_vanishes_is_a_changed_folder(tmp_path: Path) -> None:
    """A folder that changes underneath is told by the error that sends it back to writing."""
    folder = llm_tts(tmp_path)
    before = snapshot(str(folder.path))
    (tmp_path / "results.json").unlink()
    with pytest.raises(FolderChanged):
        evidence("llm-tts", str(tmp_path), before)


def test_an_unknown_format_is_a_users_error(tmp_path: Path) -> None:
    """The error lists what is known."""
    with pytest.raises(UserError, match="unknown format"):
        evidence("nope", str(tmp_path), snapshot(str(tmp_path)))
