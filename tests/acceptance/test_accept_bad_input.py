"""Bad input gets a clear answer and loses nothing."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import run_folders
from acceptance_bench import Bench, Done, alone_on_a_bench, artifact_of, md5s_on_disk, md5s_on_server, opened_bench

from wandb_outbox.sandbox import RunView

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")

CONFIG = 78
USAGE = 2


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench for what never comes to an upload: every test sees that no request was made."""
    with opened_bench(tmp_path_factory.mktemp("bad") / "machine") as bench:
        yield bench
        assert list(bench.server.requests) == []


def _refused(done: Done, code: int, *words: str) -> None:
    """It ended with this code, said these words on stderr, and showed no traceback."""
    assert done.code == code, done
    for each in words:
        assert each in done.err, done
    assert "Traceback" not in done.err


# -- roots and configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["watch", "flush"])
def test_no_root(idle: Bench, command: str) -> None:
    """Without a root there is nothing to do: it says where to name one."""
    _refused(idle.run(command), CONFIG, "there is no root to watch", "WANDB_OUTBOX_ROOTS", "[[roots]]")


@pytest.mark.parametrize("command", ["watch", "flush"])
def test_root_that_is_a_file(idle: Bench, command: str) -> None:
    """A root must be a directory."""
    file = idle.top / "a-file"
    file.write_text("")
    _refused(idle.run(command, file), CONFIG, f"root {file} is not a directory")


def test_root_that_is_not_there(idle: Bench) -> None:
    """``flush`` of a root that is not there is a mistake in a cron job, and not "0 uploaded"."""
    _refused(idle.run("flush", idle.top / "missing"), CONFIG, f"root {idle.top}/missing is not there")


def test_configuration_with_three_faults(idle: Bench) -> None:
    """All faults are told at once, each with where it stands, what is wrong and what was given."""
    config = idle.top / "three.toml"
    config.write_text(
        'stalled_after = "soon"\nmax_byte = "1GB"\nlog_level = "loud"\n'
        f'[[roots]]\npath = "{idle.outputs}"\nconvention = "llm-tts"\n'
    )
    done = idle.run("flush", "--config", config)
    _refused(
        done, CONFIG, "stalled_after: ", "'soon'", "max_byte is no setting (did you mean max_bytes?)", "log_level: ", "'loud'",
        "unknown convention 'llm-tts' (known: auto, llm-tts-eval, ",
    )  # fmt: skip
    assert done.err.count(str(config)) >= 3
    assert len(done.err.splitlines()) == 5


def test_unknown_convention(idle: Bench) -> None:
    """A convention that does not exist is told of with those that do."""
    config = idle.top / "convention.toml"
    config.write_text(f'[[roots]]\npath = "{idle.outputs}"\nconvention = "my-own"\n')
    for words in (["watch"], ["flush"], ["upload", idle.outputs], ["plan", idle.outputs]):
        _refused(
            idle.run(*words, "--config", config), CONFIG,
            f"root {idle.outputs}: unknown convention 'my-own' (known: auto, llm-tts-eval, ",
        )  # fmt: skip


def test_configuration_that_is_no_toml_or_not_there(idle: Bench) -> None:
    """A configuration that was asked for must be there, and be one."""
    config = idle.top / "torn.toml"
    config.write_text("settle = = 3\n")
    _refused(idle.run("flush", "--config", config), CONFIG, f"{config}: not valid TOML")
    _refused(idle.run("flush", "--config", idle.top / "no.toml"), CONFIG, f"{idle.top}/no.toml: cannot be read")


def test_environment_that_is_no_value(idle: Bench) -> None:
    """A value in the environment is named by its variable."""
    done = idle.run("flush", idle.outputs, environ={"WANDB_OUTBOX_SETTLE": "-1", "WANDB_BASE_URL": "ftp://x"})
    _refused(done, CONFIG, "WANDB_OUTBOX_SETTLE: settle: ", "'-1'", "WANDB_BASE_URL: ", "'ftp://x'")


# -- what people ask for ---------------------------------------------------------------------------------------------------


def test_upload_of_nothing(idle: Bench) -> None:
    """An empty folder, a missing one, and a file are told apart; with ``USAGE``, because nothing was queued."""
    empty, file = idle.top / "empty", idle.top / "file.json"
    empty.mkdir()
    file.write_text("{}")
    done = idle.run("upload", empty, idle.top / "missing", file)
    _refused(
        done,
        USAGE,
        f"{empty} holds no file to upload",
        f"{idle.top}/missing is not there",
        f"{file} is not a directory",
    )
    assert idle.list() == []


def test_upload_without_a_folder(idle: Bench) -> None:
    """``upload`` alone says what it wants."""
    _refused(idle.run("upload"), USAGE, "usage: wandb-outbox", "required: DIR")


def test_folder_with_secrets_only(idle: Bench) -> None:
    """A folder of which everything is left out is told of with what was left out."""
    folder = idle.top / "secrets"
    folder.mkdir()
    (folder / ".env").write_text("KEY=1")
    _refused(idle.run("upload", folder), USAGE, "holds no file to upload; left out: .env")


@pytest.mark.parametrize("command", ["show", "why", "retry"])
def test_run_that_is_not_known(idle: Bench, command: str) -> None:
    """A RUN that matches nothing is told of, with what to type instead."""
    run_folders.make(idle.top / "known/2025-12-03/run")
    assert idle.run("flush", idle.top / "known", "--timeout", "0").code in (0, 1)
    _refused(idle.run(command, "nothing"), USAGE, "no run is known by 'nothing'", "wandb-outbox list")


def test_retry_of_nothing(idle: Bench) -> None:
    """``retry`` says which RUN it wants, that none has failed, or that there is no outbox yet."""
    state = ["--state-dir", str(idle.top / "never")]
    _refused(idle.run("retry", "x", *state), USAGE, "there is no outbox yet", "`watch`, `flush` or `upload`")
    _refused(idle.run("retry", "--failed", *state), USAGE, "there is no outbox yet")


@pytest.mark.parametrize(
    "words",
    [["upload", ""], ["plan", ""], ["flush", ""], ["watch", ""], ["skip", ""], ["why", ""], ["status", "--state-dir="]],
)
def test_an_empty_word_names_nothing(idle: Bench, words: list[str]) -> None:
    """An unset variable must not mean the current directory, or the only run."""
    _refused(idle.run(*words, cwd=idle.outputs), USAGE, "it is empty; is a variable unset?")


def test_waiting_for_a_run_where_there_is_none(idle: Bench) -> None:
    """``wait RUN`` says that it is not known, also before there is an outbox; plain ``wait`` has nothing to wait for."""
    state = ["--state-dir", str(idle.top / "never")]
    _refused(idle.run("wait", "x", *state), USAGE, "no run is known by 'x'")
    assert idle.run("wait", *state).code == 0


@pytest.mark.parametrize("words", [["lst"], ["list", "--state", "done"], ["flush", "--timeout", "soon"], []])
def test_words_that_are_no_command(idle: Bench, words: list[str]) -> None:
    """A wrong word is a usage error with the choices."""
    _refused(idle.run(*words), USAGE, "usage: wandb-outbox")


def test_reading_commands_before_there_is_any_state(idle: Bench) -> None:
    """``list`` and ``status`` of an outbox that was never used are empty, and make no state directory."""
    state = idle.top / "never"
    listed = idle.run("list", "--json", "--state-dir", state)
    assert (listed.code, listed.json()) == (0, {"schema": 1, "runs": []})
    status = idle.run("status", "--json", "--state-dir", state)
    assert status.code == 3
    assert set(status.json()["counts"].values()) == {0}
    assert not state.exists()


# -- folders ---------------------------------------------------------------------------------------------------------------


@alone_on_a_bench
def test_damaged_folders_are_delivered_as_they_are(bench: Bench) -> None:
    """Torn results, metrics that are no object, unreadable config: delivered byte by byte, with words; others go on."""
    made = {name: run_folders.make(bench.outputs / "2025-12-03" / name) for name in ("torn", "metrics", "yaml", "good")}
    results = (made["torn"] / "results.json").read_bytes()
    (made["torn"] / "results.json").write_bytes(results[: len(results) // 2])
    (made["metrics"] / "metrics.json").write_text("[1, 2]")
    (made["yaml"] / ".hydra/config.yaml").write_text("strategy: [\ndataset: {")
    (bench.outputs / "2025-12-03/empty").mkdir()
    done = bench.run("flush", bench.outputs)
    assert (done.code, done.out) == (0, "4 uploaded\n"), done
    runs: dict[str, RunView] = {}
    shown: dict[str, str] = {}
    for name, folder in made.items():
        row = bench.row(folder)
        assert row is not None
        runs[name] = next(run for run in bench.server.runs() if run.id == row["id"])
        shown[name] = bench.run("show", folder).out
        assert md5s_on_server(artifact_of(bench.server, runs[name]).files) == md5s_on_disk(folder), name
    assert {name: run.state for name, run in runs.items()} == {
        "torn": "failed", "metrics": "finished", "yaml": "finished", "good": "finished",
    }  # fmt: skip
    assert "results.json is torn: it ends in the middle" in runs["torn"].summary["outbox/outcome"]
    assert "crashed" in runs["torn"].tags
    assert runs["torn"].summary["total_samples"] >= 1
    assert "warning   unreadable-metrics: " in shown["metrics"]
    assert runs["metrics"].summary["total_samples"] == 4
    assert ".hydra/config.yaml" in shown["yaml"]
    assert "unreadable-" not in shown["good"]


@alone_on_a_bench
def test_folder_that_vanishes_before_its_upload(bench: Bench) -> None:
    """A folder that is deleted while it is queued is skipped with the reason; the others are delivered."""
    gone, stays = (run_folders.make(bench.outputs / f"2025-12-03/{name}") for name in ("gone", "stays"))
    bench.server.down()
    assert bench.run("flush", bench.outputs).code == 75
    shutil.rmtree(gone)
    bench.server.up()
    assert bench.run("flush", bench.outputs).code == 0
    rows = {Path(row["path"]).name: row for row in bench.list()}
    assert (rows["stays"]["state"], rows["gone"]["state"]) == ("uploaded", "skipped")
    assert "the folder is gone" in rows["gone"]["reason"]
    why = bench.run("why", gone).out
    assert "the folder is gone" in why
    assert "Next: " not in why
    assert [run.id for run in bench.server.runs()] == [rows["stays"]["id"]]
    assert stays.exists()


@alone_on_a_bench
def test_run_that_could_be_several(bench: Bench) -> None:
    """A RUN that matches several is told of with all of them, and nothing is done."""
    for name in ("one", "two"):
        run_folders.make(bench.outputs / "2025-12-03" / name)
    bench.server.down()
    bench.run("flush", bench.outputs)
    done = bench.run("show", bench.outputs)
    _refused(done, USAGE, "could be 2 runs", "2025-12-03/one", "2025-12-03/two")


# -- permissions -----------------------------------------------------------------------------------------------------------


def _need_permissions(bench: Bench) -> None:
    """Skip where this user may read and write everything and that cannot be taken away."""
    (bench.home / "closed").mkdir(mode=0)
    if bench.run("list", "--state-dir", bench.home / "closed", powers=False).code == 0:
        pytest.skip("this user reads everything, and that cannot be taken away here")


@alone_on_a_bench
def test_root_that_may_not_be_read(bench: Bench) -> None:
    """A root without read permission is a fault of the configuration."""
    _need_permissions(bench)
    bench.outputs.chmod(0)
    done = bench.run("flush", bench.outputs, powers=False)
    bench.outputs.chmod(0o755)
    _refused(done, CONFIG, f"root {bench.outputs} may not be read by this user")


@alone_on_a_bench
def test_folder_that_may_not_be_read(bench: Bench) -> None:
    """An unreadable file or folder makes one run wait with the reason; it stops neither the others nor the command."""
    _need_permissions(bench)
    names = ("file", "folder", "good")
    made = {name: run_folders.make(bench.outputs / "2025-12-03" / name) for name in names}
    (made["file"] / "results.json").chmod(0)
    (made["folder"] / ".hydra").chmod(0)
    done = bench.run("flush", bench.outputs, powers=False)
    (made["folder"] / ".hydra").chmod(0o755)
    (made["file"] / "results.json").chmod(0o644)
    rows = {Path(row["path"]).name: row for row in bench.list()}
    assert rows["good"]["state"] == "uploaded", done
    assert len(bench.server.runs()) == 1
    assert "results.json may not be read by this user" in rows["file"]["reason"]
    assert "folder/.hydra may not be read by this user" in rows["folder"]["reason"]
    assert bench.run("flush", bench.outputs).code == 0
    assert {row["state"] for row in bench.list()} == {"uploaded"}


@alone_on_a_bench
def test_state_directory_that_may_not_be_written(bench: Bench) -> None:
    """Commands that need to write say so with 78, or with 2 and the line to type; reading ones still read."""
    _need_permissions(bench)
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    bench.server.down()
    assert bench.run("flush", bench.outputs).code == 75
    bench.state.chmod(0o555)
    (bench.state / "outbox.db").chmod(0o444)
    for command, path in (("flush", bench.outputs), ("upload", folder), ("watch", bench.outputs)):
        done = bench.run(command, path, powers=False)
        _refused(done, CONFIG, f"the state directory {bench.state} may not be written by this user")
    owner = pwd.getpwuid(os.getuid()).pw_name
    retry = bench.run("retry", folder, powers=False)
    _refused(retry, USAGE, "may not be changed by this user", f"type: sudo -u {owner} wandb-outbox retry")
    assert [row["state"] for row in bench.list()] == ["queued"]
    assert bench.run("list", powers=False).code == 0
    bench.state.chmod(0)
    done = bench.run("list", powers=False)
    bench.state.chmod(0o700)
    _refused(done, CONFIG, str(bench.state))


def test_state_directory_that_is_a_file(idle: Bench) -> None:
    """A state directory that cannot be made is told of, with what to choose instead."""
    file = idle.top / "state-file"
    file.write_text("")
    _refused(idle.run("flush", idle.outputs, "--state-dir", file), CONFIG, f"{file} cannot be made", "--state-dir")
