"""Lives all the way into W&B: what arrives is what is on disk, and what changes later arrives as the next version."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import replay_lives as lives
from children import holding
from replay_script import Ending, Life, Session, whole_session
from replay_theatre import Theatre, Timing

from wandb_outbox.model import State
from wandb_outbox.sandbox import ArtifactView, RunView, Sandbox


def uploaded(folder: str, *, revision: int = 0, incarnation: int = 0) -> Ending:
    """A folder that is on the server."""
    return Ending(folder, state="uploaded", revision=revision, incarnation=incarnation)


def reevaluated_later() -> Life:
    """Uploaded, and then re-evaluated with long pauses by a script that holds no log."""
    folder = "outputs/reevaluated_later"
    return Life(
        [whole_session(folder).act(), ["cue", "uploaded"], lives.reevaluation(folder, pause=3.0)],
        (uploaded(folder, revision=1),),
    )


def reevaluation_killed() -> Life:
    """Uploaded, and then re-evaluated by a script that is killed half-way: it stays ``writing``, with its receipt."""
    folder = "outputs/reevaluation_killed"
    return Life(
        [whole_session(folder).act(), ["cue", "uploaded"], lives.reevaluation(folder, finish=False)],
        (Ending(folder, state="writing", verdict="writing", outcomes=("ok", "unknown")),),
    )


def file_added() -> Life:
    """Uploaded, and then a person adds a file."""
    folder = "outputs/file_added"
    return Life(
        [whole_session(folder).act(), ["cue", "uploaded"], ["put", f"{folder}/notes.md", "it went well\n"]],
        (uploaded(folder, revision=1),),
    )


def resumed_later() -> Life:
    """Uploaded as crashed, then resumed, and ended well."""
    folder = "outputs/resumed_later"
    return Life(
        [
            Session(folder).begin().chunk(2).kill().act(),
            ["cue", "uploaded"],
            whole_session(folder, pause=0.2).act(),
        ],
        (uploaded(folder, revision=1),),
    )


def remade_later() -> Life:
    """Uploaded, deleted, and made anew: another experiment under the same name."""
    folder = "outputs/remade_later"
    return Life(
        [whole_session(folder).act(), ["cue", "uploaded"], ["remove", folder], whole_session(folder, samples=2).act()],
        (uploaded(folder, incarnation=1),),
    )


def renamed_later() -> Life:
    """Uploaded, and then renamed: nothing is sent again."""
    folder = "outputs/renamed_later"
    return Life(
        [whole_session(folder).act(), ["cue", "uploaded"], ["rename", folder, f"{folder}-new"]],
        (Ending(folder, state="gone"), uploaded(f"{folder}-new")),
    )


LIVES = {
    "normal": Life(lives.normal(0.2).operations, (uploaded(lives.normal(0.2).endings[0].path),)),
    "killed": Life(
        lives.killed(0.2).operations,
        (Ending(lives.killed(0.2).endings[0].path, state="uploaded", verdict="crashed", outcomes=("crashed",)),),
    ),
    **{
        each.__name__: each()
        for each in (
            reevaluated_later,
            reevaluation_killed,
            file_added,
            resumed_later,
            remade_later,
            renamed_later,
        )
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    """A server for this module."""
    with Sandbox() as opened:
        yield opened


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory, server: Sandbox) -> Iterator[Theatre]:
    """All these lives, played at the same time, and delivered."""
    with Theatre(tmp_path_factory.mktemp("delivered"), Timing(rescan=1.0), server=server.environment()) as opened:
        opened.start_daemon()
        opened.play(LIVES)
        opened.wait_for_end(seconds=60)
        yield opened


def run_of(server: Sandbox, theatre: Theatre, path: str) -> RunView:
    """The W&B run of a folder."""
    row = theatre.row(path)
    (found,) = [run for run in server.runs() if run.id == row.run_id]
    return found


def artifacts_of(server: Sandbox, run: RunView) -> list[ArtifactView]:
    """The versions of the whole folder that a run logged, oldest first."""
    named = {f"{each.name}:{each.version}": each for each in server.artifacts() if each.name.startswith("outputs-")}
    return [named[name] for name in run.logged_artifacts if name in named]


@pytest.mark.parametrize("name", LIVES)
def test_a_life_arrives_once_and_not_before_it_is_finished(theatre: Theatre, name: str) -> None:
    """A recorded life ends on the server as it must, and was never taken for finished before."""
    if report := theatre.report(name):
        pytest.fail(report)


@pytest.mark.parametrize("name", [name for name in LIVES if name != "reevaluation_killed"])
def test_the_bytes_on_the_server_are_those_on_disk(theatre: Theatre, server: Sandbox, name: str) -> None:
    """The newest artifact of a run holds exactly the files of its folder, byte for byte."""
    (ending,) = LIVES[name].folders
    folder = Path(theatre.path(ending.path))
    artifact = artifacts_of(server, run_of(server, theatre, ending.path))[-1]
    assert artifact.state == "COMMITTED"
    assert {path: _digest(view.path) for path, view in artifact.files.items()} == {
        str(file.relative_to(folder)): _digest(file) for file in folder.rglob("*") if file.is_file()
    }


def test_there_is_one_run_for_each_experiment_and_no_other(theatre: Theatre, server: Sandbox) -> None:
    """One W&B run a folder, and a second one only for the folder that was deleted and made anew."""
    ids = [run.id for run in server.runs()]
    assert len(ids) == len(set(ids)) == len(LIVES) + 1
    assert {row.run_id for row in theatre.rows()} < set(ids)


@pytest.mark.parametrize("name", ["reevaluated_later", "reevaluation_killed"])
def test_a_later_reevaluation_never_looks_like_a_crash(theatre: Theatre, name: str) -> None:
    """While an uploaded folder is re-evaluated without a log, it is writing, with its old receipt, and never crashed."""
    (ending,) = LIVES[name].folders
    scenes = theatre.scenes[theatre.path(ending.path)]
    first = next(index for index, scene in enumerate(scenes) if scene.state is State.UPLOADED)
    assert scenes[first + 1].state is State.WRITING
    assert all(scene.url for scene in scenes[first:])
    assert not [scene for scene in scenes if scene.verdict == "crashed"]
    assert not [each for each in theatre.decisions(theatre.path(ending.path)) if each.verdict == "crashed"]


def test_each_content_of_an_experiment_is_a_version_of_its_own(theatre: Theatre, server: Sandbox) -> None:
    """A re-evaluation, a resumed run and an added file each make the second version, in the same run."""
    for name in ("reevaluated_later", "resumed_later", "file_added"):
        (ending,) = LIVES[name].folders
        assert [each.version for each in artifacts_of(server, run_of(server, theatre, ending.path))] == ["v0", "v1"]


def test_a_crashed_run_fails_and_a_resumed_one_is_finished(theatre: Theatre, server: Sandbox) -> None:
    """W&B says ``failed`` of a run that was killed, and ``finished`` once it was resumed and has ended well."""
    assert run_of(server, theatre, LIVES["killed"].folders[0].path).state == "failed"
    assert run_of(server, theatre, LIVES["resumed_later"].folders[0].path).state == "finished"


def _digest(file: Path | None) -> str:
    assert file is not None
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_run_that_is_taken_up_again_while_it_waits_is_sent_after_its_new_end(tmp_path: Path) -> None:
    """Its log is open again, and nothing was written yet: no event tells of it, and nothing in the folder is new."""
    with Sandbox() as own, Theatre(tmp_path, server=own.environment()) as theatre:
        theatre.start_daemon()
        theatre.command("pause")
        theatre.play({"run": Life([whole_session("outputs/run").act()], (Ending("outputs/run"),))})
        theatre.wait(lambda: State.QUEUED in {row.state for row in theatre.rows()}, "its first end")
        with holding(Path(theatre.path("outputs/run")) / "run_tts_eval.log", os.O_WRONLY | os.O_APPEND):
            theatre.command("resume")
            theatre.wait(lambda: theatre.row("outputs/run").state is State.WRITING, "the look before sending")
            assert "run_tts_eval.log is open for writing" in theatre.row("outputs/run").reason
            assert own.runs() == []
        theatre.wait(lambda: theatre.row("outputs/run").state is State.UPLOADED, "its new end")
