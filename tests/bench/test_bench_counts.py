"""What a delivery costs, in what can be counted and is the same on every machine: it must not grow unnoticed.

Each figure is that of one more folder: the difference between a pass over a few folders and one over more of them, so
that what a start costs is in none. Whoever makes a delivery cheaper lowers the limits here.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wandb_outbox.errors import Offline
from wandb_outbox.model import FileStat, Judgement, Kind, Receipt, Snapshot, Verdict
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
from wandb_outbox.outbox.store import Store
from wandb_outbox.sandbox import Sandbox

REAPER = Path(__file__).resolve().parents[2] / "benchmarks" / "reaper.py"
HOOK = Path(__file__).with_name("bench_hook.py")
"""Never imported here: it would count this process, too."""
FEW, MORE = 2, 10
LARGE = 40_000_000
REQUESTS = 41
PROCESSES = 4
STATEMENTS = 110
TRANSACTIONS = 16
"""Of these two, more than half is polling, which depends on how busy the machine is."""
WRITTEN = 320_000
"""Bytes: pages of the outbox's journal, and the SDK's own logs."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one pass took.

    Attributes:
        requests: That the server got, by operation.
        started: Processes that were started, besides the command itself.
        statements: Of the outbox's database, by their first word.
        written: Bytes that all processes wrote to disk.
    """

    requests: Counter[str]
    started: int
    statements: Counter[str]
    written: int


def make(folder: Path, number: int) -> None:
    """A small finished run folder."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/config.yaml").write_text(
        f"strategy:\n  type: baseline\ndataset:\n  data_name: gsm8k\nmodel:\n  model_path: m\nsystem:\n  seed: {number}\n"
    )
    results = [{"index": i, "completed": True, "eval": {"exact_match": {"is_correct": i > number}}} for i in range(5)]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "sample_metrics.jsonl").write_text("".join(json.dumps({"sample_index": i}) + "\n" for i in range(5)))
    (folder / "metrics.json").write_text(json.dumps({"exact_match/accuracy": 0.2 * number}))
    (folder / "run_tts_eval.log").write_text("Evaluation completed successfully\n")


def one_pass(top: Path) -> Counted:
    """``flush`` over ``top/outputs``, counted."""
    hook = top / "hook"
    hook.mkdir()
    shutil.copy(HOOK, hook / "sitecustomize.py")
    with Sandbox() as server:
        environ = {
            "PATH": os.environ["PATH"], "HOME": str(top), "LANG": "C.UTF-8", "PYTHONPATH": str(hook),
            "WANDB_OUTBOX_STATE_DIR": str(top / "state"), "WANDB_OUTBOX_SETTLE": "0.2", **server.environment(),
        }  # fmt: skip
        command = [sys.executable, "-m", "wandb_outbox", "flush", str(top / "outputs")]
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(REAPER), str(top / "cost.json"), *command],
            env=environ, cwd=top, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        cost = json.loads((top / "cost.json").read_text())
        assert cost["code"] == 0, (done.stdout, done.stderr)
        finished = [run for run in server.runs() if run.state == "finished"]
        assert len(finished) == len(list((top / "outputs").iterdir())), done.stdout
        requests = server.requests.count_by_operation()
    counted: Counter[str] = Counter()
    for line in (hook / "counted").read_text().splitlines():
        word, count = line.split()
        counted[word] += int(count)
    started = counted.pop("process")
    return Counted(requests, started, counted, cost["written"])


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes over few folders, over more, and over one with a large file."""

    few: Counted
    more: Counted
    large: Counted


@pytest.fixture(scope="module")
def passes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passes]:
    """All passes, once for the whole module."""
    tops = {name: tmp_path_factory.mktemp(name) for name in ("few", "more", "large")}
    for name, count in (("few", FEW), ("more", MORE), ("large", 1)):
        for number in range(count):
            make(tops[name] / "outputs" / f"run-{number}", number)
    (tops["large"] / "outputs" / "run-0" / "weights.bin").write_bytes(os.urandom(LARGE // 8) * 8)
    yield Passes(one_pass(tops["few"]), one_pass(tops["more"]), one_pass(tops["large"]))
    shutil.rmtree(tops["large"])


def one_more(few: int, more: int) -> float:
    """Of a figure in the first two passes, what one more folder adds."""
    return (more - few) / (MORE - FEW)


def test_requests_a_delivery(passes: Passes) -> None:
    """One more folder costs the server no more requests than it did, read-back included, whatever they are about."""
    added = passes.more.requests - passes.few.requests
    assert one_more(passes.few.requests.total(), passes.more.requests.total()) <= REQUESTS, added
    # Two artifacts: the folder, and the table of its samples.
    assert added["CommitArtifact"] == 2 * (MORE - FEW)


def test_processes_started(passes: Passes) -> None:
    """However many folders: the uploader, the SDK's own process, and what that asks of git and uname when it starts."""
    assert {passes.few.started, passes.more.started, passes.large.started} == {PROCESSES}


def test_statements_of_the_database_a_delivery(passes: Passes) -> None:
    """One more folder costs few statements and few transactions, many of which wait for the disk."""
    few, more = passes.few.statements, passes.more.statements
    assert one_more(few.total(), more.total()) <= STATEMENTS, more - few
    assert one_more(few["COMMIT"], more["COMMIT"]) <= TRANSACTIONS, more - few


def test_bytes_written_to_disk(passes: Passes) -> None:
    """One more folder leaves little on the disk of the state directory; a large file leaves nothing: it is not copied."""
    assert one_more(passes.few.written, passes.more.written) <= WRITTEN
    assert passes.large.written <= LARGE / 20


def test_statements_of_a_state_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a folder's way is one guarded statement and what must go with it, in one transaction."""
    said: list[str] = []

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = original(*arguments, **named)
        # For what a trigger does, the statement that set it off is told again.
        connection.set_trace_callback(lambda text: said.append(text) if text not in said[-1:] else None)
        return connection

    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    prepare_state_dir(StateDir(str(tmp_path)))
    store = Store.open(StateDir(str(tmp_path)))
    counts = {}

    def step(name: str, call: Callable[[], object]) -> None:
        said.clear()
        assert call()
        counts[name] = (len(said), sum(text.startswith("BEGIN") for text in said))

    done = Judgement(Verdict.COMPLETE, "metrics.json is there", None, "ok")
    waits = Judgement(Verdict.SETTLING, "it changed a moment ago")
    content = Snapshot((FileStat("results.json", 1, 1, 1, 1),), (), birth="1:1", newest_ctime_ns=1)
    receipt = Receipt("r", "e", "p", "n", "https://example.org", "a:v0", "d", 1, 1, content.fingerprint, 0)
    step(
        "add",
        lambda: store.add(path="/o/a", root="/o", kind=Kind.FOLDER, format="plain", birth="1:1", site="s", now=1.0),
    )
    step("note", lambda: store.note(1, waits, format="plain", root="/o", now=1.0))
    step("enqueue", lambda: store.enqueue(1, done, content, now=1.0))
    step("claim", lambda: store.claim("c", now=2.0, suspects=False))
    step("contact", lambda: store.contact(1, "c", run_id="r", incarnation=0))
    step(
        "put_back",
        lambda: store.put_back(1, "c", Offline("away"), now=2.0, next_attempt_at=None, used=False, suspect=False),
    )
    step("claim again", lambda: store.claim("c", now=2.0, suspects=False))
    step("uploaded", lambda: store.uploaded(1, "c", receipt, now=3.0))
    store.close()
    assert counts == {
        # (statements, transactions among them; a statement alone is its own)
        "add": (5, 1), "note": (1, 0), "enqueue": (4, 1), "claim": (5, 1), "contact": (1, 0), "put_back": (4, 1),
        "claim again": (5, 1), "uploaded": (4, 1),
    }  # fmt: skip
