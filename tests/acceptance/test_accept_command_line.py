"""What a person meets at the prompt besides results: wrong words, Ctrl-C, a full disk behind ``>``, and who is waited for."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import run_folders
from acceptance_bench import PATIENCE, Bench, Done, alone_on_a_bench, opened_bench, wait_for

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench on which nothing is ever delivered."""
    with opened_bench(tmp_path_factory.mktemp("words") / "machine") as bench:
        yield bench
        assert list(bench.server.requests) == []


def in_a_shell(bench: Bench, words: str, redirection: str) -> Done:
    """A command as a shell starts it, with this redirection."""
    line = f"{shlex.quote(sys.executable)} -m wandb_outbox {words} {redirection}"
    process = subprocess.run(
        ["sh", "-c", line], env=bench.environ, cwd=bench.top, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    return Done(process.returncode, process.stdout, process.stderr)


@pytest.mark.parametrize(
    ("words", "usage", "fault"),
    [
        (["upload"], "wandb-outbox upload", "the following arguments are required: DIR"),
        (["show", "a", "b"], "wandb-outbox show", "unrecognized arguments: b"),
        (["status", "--josn"], "wandb-outbox status", "unrecognized arguments: --josn"),
        (["flush", "--timeout", "1h"], "wandb-outbox flush", "'1h' is no number of seconds"),
        (["wait", "--timeout", "-5"], "wandb-outbox wait", "'-5' is no number of seconds"),
        (["wait", "--timeout", "inf"], "wandb-outbox wait", "'inf' is no number of seconds"),
        (["upload", "a-folder", "--project", ""], "wandb-outbox upload", "it is empty; is a variable unset?"),
        (["sandbox", "--port", "99999"], "wandb-outbox sandbox", "'99999' is no port: 0 to 65535"),
    ],
)
def test_a_wrong_word_is_answered_with_the_usage_of_its_command(
    idle: Bench, words: list[str], usage: str, fault: str
) -> None:
    """Not with that of the whole program, which says nothing of the command's own arguments."""
    done = idle.run(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"usage: {usage} ")
    assert done.err.endswith(f"{fault}\n")


def test_a_plan_of_nothing_prints_nothing(idle: Bench) -> None:
    """What is piped on gets no empty line where there is no plan."""
    done = idle.run("plan", "nowhere")
    assert (done.code, done.out, done.err) == (2, "", f"wandb-outbox: {idle.top}/nowhere is not there\n")


@pytest.mark.parametrize("words", ["version", "list --json", "status", "--help"])
def test_output_that_cannot_be_written(idle: Bench, words: str) -> None:
    """A full disk behind ``>`` is told of in a line, and the exit code says that the output is not whole."""
    done = in_a_shell(idle, words, "> /dev/full")
    assert (done.code, done.err) == (1, "wandb-outbox: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("words", ["version", "list", "list --json", "show nothing"])
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_were_closed(idle: Bench, words: str, redirection: str) -> None:
    """A command whose output nobody wants does its work all the same, and what was for stderr does not go to stdout."""
    done = in_a_shell(idle, words, redirection)
    assert done.code == (2 if words == "show nothing" else 0)
    assert "Traceback" not in done.err
    assert "no run is known" not in done.out


def test_status_says_where_it_found_no_outbox(idle: Bench) -> None:
    """A daemon may well run, with a state directory of its own: `status` says where it looked, and how to say where."""
    done = idle.run("status")
    assert done.code == 3
    assert f"outbox   none in {idle.state}: " in done.out
    assert "--state-dir or WANDB_OUTBOX_STATE_DIR" in done.out


def test_watching_the_status_ends_in_order(idle: Bench) -> None:
    """Ctrl-C is how a person ends it, so it is no failure."""
    shown = idle.start("status", "--watch", python=("-u",))
    wait_for(lambda: "runs     none yet" in shown.out, "a status")
    shown.signal(signal.SIGINT)
    ended = shown.wait()
    assert (ended.code, ended.err) == (0, "")


@alone_on_a_bench
def test_what_is_queued_says_what_it_waits_for(bench: Bench) -> None:
    """``why`` names the server, a pause and a daemon that does not run; so does ``wait``, which Ctrl-C ends in silence."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    bench.server.down()
    assert bench.run("flush", bench.outputs).code == 75
    assert bench.run("pause").code == 0
    why = bench.run("why", folder).out
    assert "Waited for: the server, which is offline: " in why
    paused = "Uploads are paused: nothing new is uploaded until `wandb-outbox resume`."
    nobody = "No daemon runs: it is delivered by the next `wandb-outbox watch` or `wandb-outbox flush`."
    assert {paused, nobody} <= set(why.splitlines())
    assert "next     in" not in bench.run("status").out
    waiting = bench.start("wait")
    told = f"wandb-outbox: {paused}\nwandb-outbox: {nobody}\n"
    wait_for(lambda: waiting.err == told, "what is waited for")
    waiting.signal(signal.SIGINT)
    ended = waiting.wait()
    assert (ended.code, ended.err) == (-signal.SIGINT, told)
    assert bench.run("resume").code == 0
    bench.server.up()
    bench.watch()
    assert bench.run("wait", folder, "--timeout", "30").code == 0
    assert not {paused, nobody} & set(bench.run("why", folder).out.splitlines())


@alone_on_a_bench
def test_a_hold_on_what_is_delivered_is_about_what_comes_next(bench: Bench) -> None:
    """``hold`` says so, and ``show`` and ``why`` of an uploaded run remember it."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    assert bench.run("flush", bench.outputs).code == 0
    assert "hold  " not in bench.run("show", folder).out
    assert bench.run("hold", folder).out == f"{folder}: its next content is held until it is released\n"
    assert "hold      every later content waits until it is released" in bench.run("show", folder).out
    assert "its next content waits for `wandb-outbox release`" in bench.run("why", folder).out


@alone_on_a_bench
def test_a_change_says_of_which_runs_there_are_none(bench: Bench) -> None:
    """No RUN at all is another mistake than no run in the states that the command is for."""
    run_folders.make(bench.outputs / "2025-12-03/run")
    assert bench.run("flush", bench.outputs).code == 0
    for command, states in (("hold", "queued or writing"), ("release", "held"), ("skip", "held or queued or failed")):
        done = bench.run(command)
        assert (done.code, f"say which RUN to {command}, or --all" in done.err) == (2, True)
        done = bench.run(command, "--root", bench.outputs)
        assert (done.code, f"no such run to {command}: none below {bench.outputs} is {states}\n" in done.err) == (
            2,
            True,
        )


@alone_on_a_bench
def test_a_prefix_of_several_ids_changes_nothing(bench: Bench) -> None:
    """Whoever mistypes an id must not skip half of the outbox; a folder above is meant as all that lies below it."""
    bench.server.down()
    for number in range(34):  # more than there are first characters of an id
        run_folders.make(bench.outputs / f"2025-12-03/run{number}")
    assert bench.run("flush", bench.outputs).code == 75
    ids = [run["id"] for run in bench.list("--state", "queued")]
    letter = next(letter for letter in {each[0] for each in ids} if sum(each.startswith(letter) for each in ids) > 1)
    done = bench.run("skip", letter)
    assert (done.code, done.out) == (2, "")
    assert f"'{letter}' could be " in done.err
    assert done.err.endswith("wandb-outbox: say more of the id, or the path\n")
    assert len(bench.list("--state", "queued")) == 34
    assert bench.run("skip", bench.outputs).code == 0
    assert len(bench.list("--state", "skipped")) == 34


@alone_on_a_bench
def test_what_is_left_is_told_with_what_sends_it(bench: Bench) -> None:
    """``upload`` without a network names the folder once, the server's trouble, and the commands that go on."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    bench.server.down()
    done = bench.run("upload", folder)
    assert done.code == 75
    first, server, sends = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert first.startswith(f"wandb-outbox: {folder} is queued: ")
    assert "the server is offline: " in server
    assert "`wandb-outbox flush ROOT`" in sends
    bench.server.up()
    assert bench.run("flush", bench.home).code == 0
    bench.wait_state(folder, "uploaded")


@alone_on_a_bench
def test_a_refused_folder_is_named_once_in_a_line(bench: Bench) -> None:
    """Messages of errors begin with the folder, and so does the line that tells of it."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    done = bench.run("upload", folder, "--entity", "nobody", environ={"WANDB_OUTBOX_MAX_ATTEMPTS": "1"})
    assert done.code == 1
    told = [done.err, bench.run("status").out, bench.run("why", folder).out, bench.run("flush", bench.outputs).err]
    for words in told:
        (line,) = [line for line in words.splitlines() if "nobody not found" in line and not line.startswith("{")]
        assert line.count(str(folder)) == 1, words


@alone_on_a_bench
def test_a_pause_is_told_by_whoever_delivers_nothing_for_it(bench: Bench) -> None:
    """``upload`` and ``flush`` of a paused outbox say why they sent nothing, and what ends that."""
    folder = run_folders.make(bench.outputs / "2025-12-03/run")
    assert bench.run("flush", bench.home).code == 0
    assert bench.run("pause").code == 0
    for done in (bench.run("upload", folder), bench.run("flush", bench.outputs)):
        assert (done.code, "nothing new is uploaded until `wandb-outbox resume`" in done.err) == (1, True)
    assert bench.run("resume").code == 0
    assert bench.run("flush", bench.outputs) == Done(0, "1 uploaded\n", "")


@alone_on_a_bench
def test_a_folder_of_run_folders_is_named_as_such(bench: Bench) -> None:
    """``upload`` sends what it is told, as one run; it and ``plan`` say that others lie in it, and what makes runs of them."""
    for name in ("one", "two"):
        run_folders.make(bench.outputs / f"2025-12-03/{name}")
    day = bench.outputs / "2025-12-03"
    words = (
        f"2 run folders lie in it, such as one; as one run it has the files of all: `wandb-outbox flush {day}` makes"
    )
    (plan,) = bench.run("plan", "--json", day).json()["plans"]
    (warning,) = [each for each in plan["warnings"] if each["rule"] == "runs-inside"]
    assert (warning["severity"], warning["message"].startswith(words)) == ("warning", True)
    done = bench.run("upload", day)
    assert (done.code, done.err.startswith(f"wandb-outbox: {day}: {words}")) == (0, True)
    assert bench.run("plan", day / "one").out.count("runs-inside") == 0
    assert bench.run("upload", day / "one").err == ""
