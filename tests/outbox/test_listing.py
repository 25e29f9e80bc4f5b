"""``list`` as people and programs see it: SQLite writes most of it, and no name of a folder may make a difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from outbox_makers import COMPLETE, MINE, add, content, receipt, state_dir

from wandb_outbox.cli.common import printable
from wandb_outbox.errors import Offline, Rejected
from wandb_outbox.model import Judgement, Kind, Run, State, Verdict
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import PAGE, Store
from wandb_outbox.report import run_json

ODD = (
    b"plain", b"ends with a blank ", b"new\nline", b"tab\there", b"bell\x07", b"del\x7f", b"\x1b[31mred", b"caf\xc3\xa9",
    b"\xf0\x9f\x98\x80", b"latin-\xe9", b"cut off \xc3", b'quote"s', b"back\\slash", b"'", b"%s%d", b"\xe2\x80\xae", b"\xc2\xa0",
)  # fmt: skip
FINE = 1_764_756_000.123_456_7
"""A time that needs all the digits that there are."""


@pytest.fixture
def where(tmp_path: Path) -> StateDir:
    """A state directory."""
    return state_dir(tmp_path)


@pytest.fixture
def store(where: StateDir) -> Iterator[Store]:
    """Every odd name in every kind of row, on more than one page."""
    made = Store.open(where)
    for number in range(PAGE):
        add(made, f"/outputs/{number:05}")
    for name in ODD:
        path = os.fsdecode(b"/outputs/odd/" + name)
        run = made.add(
            path=path + "/by-hand", root=None, kind=Kind.OFFLINE_RUN, format="plain", birth="1:1", site="s", now=FINE
        )
        assert made.note(run.key, Judgement(Verdict.WRITING, f"{path} is open"), format="plain", root=path, now=FINE)
        made.skip(add(made, path + "/skipped").key, f"{path}: nothing to show", COMPLETE, content())
        run = claimed(made, path + "/uploaded")
        assert made.uploaded(run.key, MINE, receipt(run), now=FINE)
        run = claimed(made, path + "/failed")
        assert made.fail(run.key, MINE, Rejected(f"{path}: refused", hint=f"mend {path}"), now=FINE)
        run, error = claimed(made, path + "/queued"), Offline(f"no way to {path}")
        assert made.put_back(run.key, MINE, error, now=FINE, next_attempt_at=FINE + 9, used=False, suspect=False)
    yield made
    made.close()


def claimed(store: Store, path: str) -> Run:
    """A finished folder that is being delivered."""
    run = add(store, path)
    assert store.enqueue(run.key, COMPLETE, content(), now=FINE)
    taken = store.claim(MINE, now=FINE, suspects=False, only=[run.key])
    assert taken is not None
    return taken


def listed(where: StateDir, *words: str, **environ: str) -> str:
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb_outbox", "list", "--state-dir", where.path, *words],
        capture_output=True, check=True, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environ},
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout.decode()


def line_of(run: Run) -> str:
    """What a person sees of a row."""
    words = run.url if run.state is State.UPLOADED else run.reason
    return printable(f"{run.state.value:<9}  {run.run_id[:8]}  {run.path}  {words}".rstrip())


def test_the_lines_are_those_of_the_rows(store: Store, where: StateDir) -> None:
    """Each row is one line, with no control character in it, whatever its folder is called and its reason says."""
    lines = [line_of(run) for run in store.list()]
    assert listed(where) == "".join(f"{line}\n" for line in lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("state", [State.FAILED, State.UPLOADED, State.QUEUED])
def test_the_lines_of_some_states_are_those_of_their_rows(store: Store, where: StateDir, state: State) -> None:
    """The same of a part of them, in the same order."""
    lines = [line_of(run) for run in store.list([state, State.WRITING])]
    assert len(lines) > PAGE
    assert listed(where, "--state", state.value, "writing") == "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_the_json_is_that_of_the_rows(store: Store, where: StateDir, encoding: str) -> None:
    """``list --json`` says of each row what ``show --json`` says of it, to the last digit, in any encoding of the output."""
    runs = store.list()
    text = listed(where, "--json", PYTHONIOENCODING=encoding)
    assert json.loads(text) == {"schema": 1, "runs": [run_json(run) for run in runs]}
    assert len(text.splitlines()) == len(runs) + 2
    some = json.loads(listed(where, "--json", "--state", "failed"))["runs"]
    assert some == [run_json(run) for run in store.list([State.FAILED])]
    assert len(some) == len(ODD)
    assert json.loads(listed(where, "--json", "--state", "held")) == {"schema": 1, "runs": []}


def test_json_escapes_what_no_text_should_hold(store: Store, where: StateDir) -> None:
    """A NUL in the words of a server is JSON like any other character."""
    store.fail(claimed(store, "/outputs/nul").key, MINE, Rejected("refused: \0 is no number"), now=FINE)
    assert json.loads(listed(where, "--json"))["runs"][-1]["error"]["message"] == "refused: \0 is no number"


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["status"], ["version"], ["--help"]])
@pytest.mark.usefixtures("store")
def test_a_reader_that_has_seen_enough_is_no_error(where: StateDir, words: list[str]) -> None:
    """As in ``list | head``: the command ends quietly, be it in the middle of its output or with its last words."""
    reader, writer = os.pipe()
    os.close(reader)
    options = [] if words == ["--help"] else ["--state-dir", where.path]
    done = subprocess.run(
        [sys.executable, "-m", "wandb_outbox", *words, *options], stdout=writer, stderr=subprocess.PIPE, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
