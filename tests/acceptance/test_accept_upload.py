"""``upload``: it takes the place of the script that people run by hand today."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import run_folders
from acceptance_bench import (
    PATIENCE,
    Bench,
    Done,
    alone_on_a_bench,
    artifact_of,
    assert_delivered_once,
    fingerprint_of,
    md5s_on_disk,
    md5s_on_server,
    opened_bench,
    outputs_of,
)
from run_folders import Recipe

from wandb_outbox.sandbox import ArtifactView, RunView

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")


@dataclass(frozen=True)
class Story:
    """One folder uploaded as the script's guide says, then again, then under another name."""

    bench: Bench
    folder: Path
    first: Done
    run: RunView
    artifact: ArtifactView
    again: Done
    runs_after_again: list[RunView]
    renamed: Done
    before: dict[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """``DIR --project P --name N --tags a b c``, word for word, from the directory above the outputs."""
    with opened_bench(tmp_path_factory.mktemp("upload") / "machine") as bench:
        folder = run_folders.make(bench.outputs / "2025-12-03" / "my_run")
        before = fingerprint_of(bench.outputs)
        words = ["--project", "my-project", "--name", "my name", "--tags", "a", "b", "c"]
        first = bench.run("upload", "outputs/2025-12-03/my_run/", *words)
        (run,) = bench.server.runs()
        (artifact,) = outputs_of(bench.server)
        again = bench.run("upload", "outputs/2025-12-03/my_run", *words)
        runs_after_again = bench.server.runs()
        words[3] = "another name"
        renamed = bench.run("upload", folder, *words)
        yield Story(bench, folder, first, run, artifact, again, runs_after_again, renamed, before)


def test_upload_takes_the_place_of_the_script(story: Story) -> None:
    """``upload DIR --project P --name N --tags a b c`` makes exactly that run, whole, and says where it is."""
    assert story.first.code == 0, story.first
    assert (story.run.project, story.run.display_name, list(story.run.tags)) == (
        "my-project",
        "my name",
        ["a", "b", "c"],
    )
    assert story.run.state == "finished"
    assert md5s_on_server(story.artifact.files) == md5s_on_disk(story.folder)
    assert story.artifact.name == "outputs-2025-12-03-my_run"
    assert f"{story.folder} → {story.bench.server.url}/sandbox/my-project/runs/{story.run.id}" in story.first.out
    assert "outputs-2025-12-03-my_run:v0, 9 files" in story.first.out


def test_upload_without_a_terminal_has_no_bar(story: Story) -> None:
    """In a log file or a pipe there is one line a folder and no control character."""
    assert story.first.out.count("\n") == 1
    assert "\x1b" not in story.first.out + story.first.err


def test_upload_of_the_same_again_makes_nothing_new(story: Story) -> None:
    """The second upload is fine, says the same, and leaves one run and one version."""
    assert (story.again.code, story.again.out) == (0, story.first.out)
    assert [(run.id, list(run.history)) for run in story.runs_after_again] == [(story.run.id, list(story.run.history))]


def test_upload_under_another_name_renames_the_run(story: Story) -> None:
    """The folder keeps its run: the name changes, nothing is doubled."""
    assert story.renamed.code == 0, story.renamed
    run, artifact = assert_delivered_once(story.bench.server, story.folder)
    assert (run.id, run.display_name, artifact.version) == (story.run.id, "another name", "v0")
    assert run.history == story.run.history


def test_upload_leaves_the_folder_untouched(story: Story) -> None:
    """No file more or less, no mtime, no ctime: also not the ``wandb/`` that the script leaves behind."""
    assert fingerprint_of(story.bench.outputs) == story.before


@alone_on_a_bench
def test_the_commands_of_the_guide(bench: Bench) -> None:
    """Both of its examples with our words for its script's: one experiment with a name, and a loop without one.

    What the loop sends again by the convention's name is the run that was there.
    """
    project, tags = "llm-tts-eval-aime2025", ["--tags", "deepconf", "qwen3-8b", "vllm"]
    parts = {"s0-29": (0, 30), "s0-12": (0, 13), "s13-29": (13, 17)}
    for part, (offset, subset) in parts.items():
        dataset = {"data_name": "aime25", "offset": offset, "subset": subset}
        recipe = Recipe(strategy="deepconf", model={"type": "vllm", "model_path": "Qwen/Qwen3-8B"}, dataset=dataset)
        run_folders.make(bench.outputs / f"2025-12-03/aime2025_deepconf_vllm_{part}", recipe)
    single = "outputs/2025-12-03/aime2025_deepconf_vllm_s0-29"
    named = bench.run("upload", single, "--project", project, "--name", "deepconf_qwen3-8b_vllm", *tags)
    assert named.code == 0, named
    (run,) = bench.server.runs()
    assert (run.project, run.display_name, list(run.tags)) == (project, "deepconf_qwen3-8b_vllm", tags[1:])
    for folder in sorted(bench.outputs.glob("2025-12-03/*/")):
        done = bench.run("upload", f"{folder}/", "--project", project, *tags)
        assert done.code == 0, done
    runs = bench.server.runs()
    assert {run.display_name for run in runs} == {
        "deepconf_qwen3-8b_vllm", "deepconf_qwen3-8b_vllm_s0-12", "deepconf_qwen3-8b_vllm_s13-29"
    }  # fmt: skip
    assert {(run.project, tuple(run.tags)) for run in runs} == {(project, tuple(tags[1:]))}
    assert {artifact.name for artifact in outputs_of(bench.server)} == {
        f"outputs-2025-12-03-aime2025_deepconf_vllm_{part}" for part in parts
    }


@alone_on_a_bench
def test_upload_of_a_folder_of_a_root_that_was_given_before(bench: Bench) -> None:
    """What ``flush ROOT`` called by its root stays the same run when the folder is named alone, as ``plan`` says before."""
    folder = bench.outputs / "sweep" / "x"
    folder.mkdir(parents=True)
    (folder / "outbox.yaml").write_text("tags: [a]\n")
    (folder / "metrics.json").write_text('{"acc": 1}')
    assert bench.run("flush", bench.outputs).code == 0
    first, artifact = assert_delivered_once(bench.server, folder)
    (folder / "metrics.json").write_text('{"acc": 2}')
    (plan,) = bench.run("plan", folder, "--json").json()["plans"]
    assert (plan["project"], plan["name"], plan["artifacts"][0]["name"]) == (
        first.project, first.display_name, artifact.name
    )  # fmt: skip
    assert bench.run("upload", folder).code == 0
    (run,) = bench.server.runs()
    assert (run.id, run.project, run.summary["acc"]) == (first.id, first.project, 2)
    assert [each.version for each in outputs_of(bench.server)] == ["v0", "v1"]


@alone_on_a_bench
def test_what_waits_is_delivered_by_the_rules_of_its_root(bench: Bench) -> None:
    """A pass over another root, and one over a part of it: the run goes where its root says, without what that leaves out."""
    config = bench.top / "config.toml"
    config.write_text(f'[[roots]]\npath = "{bench.outputs}"\nproject = "mine"\nexclude = ["*.bin"]\n')
    other = bench.top / "other"
    other.mkdir()
    for name in ("2025-12-03/one", "2025-12-03/two"):
        run_folders.make(bench.outputs / name)
        (bench.outputs / name / "large.bin").write_text("1")
    offline = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    assert bench.run("flush", bench.outputs / "2025-12-03/one", "--config", config, environ=offline).code == 75
    assert bench.run("flush", other, "--config", config).code == 0
    assert bench.run("flush", bench.outputs / "2025-12-03/two", "--config", config).code == 0
    assert {run.project for run in bench.server.runs()} == {"mine"}
    assert {artifact.name for artifact in outputs_of(bench.server)} == {
        "outputs-2025-12-03-one",
        "outputs-2025-12-03-two",
    }
    assert all("large.bin" not in artifact.files for artifact in outputs_of(bench.server))


@alone_on_a_bench
def test_upload_of_several_folders(bench: Bench) -> None:
    """Several DIRs at once: below a root, outside every root, without metrics, and all with the tags of one command."""
    inside = run_folders.make(bench.outputs / "2025-12-03/gsm8k/seed1_10-00-00", Recipe(seed=1))
    outside = run_folders.make(bench.top / "elsewhere/2025-12-04/seed2_10-00-00", Recipe(seed=2))
    guide = run_folders.make(bench.top / "elsewhere/2025-12-05/no_metrics", Recipe(seed=3))
    (guide / "metrics.json").unlink()
    plain = bench.top / "elsewhere" / "notes"
    plain.mkdir()
    (plain / "table.csv").write_text("a,b\n1,2\n")
    done = bench.run(
        "upload", f"{inside}/", outside, f"{guide}//", plain, "--tags", "x,y", "--tags", "z",
        environ={"WANDB_OUTBOX_ROOTS": str(bench.outputs)},
    )  # fmt: skip
    assert done.code == 0, done
    assert len(done.out.splitlines()) == 4
    rows = {row["path"]: row for row in bench.list()}
    assert {path: row["root"] for path, row in rows.items()} == {
        str(inside): str(bench.outputs), str(outside): None, str(guide): None, str(plain): None,
    }  # fmt: skip
    runs = {run.id: run for run in bench.server.runs()}
    for folder in (inside, outside, guide, plain):
        run = runs[rows[str(folder)]["id"]]
        assert list(run.tags) == ["x", "y", "z"]
        assert md5s_on_server(artifact_of(bench.server, run).files) == md5s_on_disk(folder)
    names = {artifact.name for artifact in outputs_of(bench.server)}
    assert {"outputs-2025-12-03-gsm8k-seed1_10-00-00", "outputs-2025-12-04-seed2_10-00-00"} < names
    summary = runs[rows[str(guide)]["id"]].summary
    assert (summary["total_samples"], summary["exact_match/correct"]) == (4, 2)


@alone_on_a_bench
def test_tags_that_swallow_a_folder_are_told_of(bench: Bench) -> None:
    """``upload --tags a b DIR`` would take DIR for a tag, and upload nothing or the rest: it says what to type."""
    one = run_folders.make(bench.outputs / "2025-12-03" / "one")
    two = run_folders.make(bench.outputs / "2025-12-03" / "two")
    alone = bench.run("upload", "--tags", "a", "b", one)
    assert alone.code == 2
    assert f"--tags took the folder {one} for a tag" in alone.err
    assert f"wandb-outbox upload {one} --tags" in alone.err
    beside = bench.run("upload", one, "--tags", "a", two)
    assert beside.code == 2
    assert f"wandb-outbox upload {one} {two} --tags" in beside.err
    assert bench.list() == []
    assert list(bench.server.requests) == []


@alone_on_a_bench
def test_a_folder_after_another_option_is_a_folder(bench: Bench) -> None:
    """DIR may stand last, after ``--name N``; and a tag stays a tag when a folder here is called so, too."""
    folder = run_folders.make(bench.outputs / "2025-12-03" / "my_run")
    (bench.top / "gsm8k").mkdir()
    (plan,) = bench.run("plan", "--json", "--tags", "a", "gsm8k", "--name", "n", folder).json()["plans"]
    assert (plan["path"], plan["name"], plan["tags"]) == (str(folder), "n", ["a", "gsm8k"])


@alone_on_a_bench
def test_a_terminal_shows_a_progress_bar(bench: Bench) -> None:
    """On a tty ``upload`` draws a bar with the folder's name, its size, and how it ended."""
    folder = run_folders.make(bench.outputs / "2025-12-03" / "my_run", Recipe(padding=50_000))
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "wandb_outbox", "upload", str(folder)],
        env={**bench.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
        stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    shown = _read_terminal(master, process)
    os.close(master)
    assert process.returncode == 0, shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "━" in plain
    assert re.search(r"my_run +━+ .*(kB|MB).* uploaded", plain), plain
    assert f"{folder} → {bench.server.url}" in plain.replace("\r\n", "")


def _read_terminal(master: int, process: subprocess.Popen[bytes]) -> str:
    """All that is written to a terminal until the process has ended."""
    shown = b""
    try:
        while select.select([master], [], [], PATIENCE)[0]:
            shown += os.read(master, 65536)
    except OSError:
        pass  # the last process has closed the terminal
    process.wait(timeout=PATIENCE)
    return shown.decode(errors="replace")
