"""The story of the demo: experiments that run, a network that goes, a daemon that is killed, and W&B that has it all.

Everything happens in one temporary directory, with processes of its own whose environment is made here: no account, no
network but loopback, and nothing of the caller's ``WANDB_*`` or ``WANDB_OUTBOX_*`` counts. Every step waits for an
event and gives up with a clear message when it does not come.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wandb_outbox.deliver.processes import MARK, kill_marked, marked
from wandb_outbox.demo.check import (
    Evidence,
    Folder,
    Problem,
    Stamp,
    digests_of,
    folder_artifacts,
    is_of_folder,
    problems,
    runs_of,
    stamps_of,
)
from wandb_outbox.demo.writer import EXACT_MATCH, Experiment, Kind
from wandb_outbox.detect.mounts import LEASE_TYPES, file_system_type
from wandb_outbox.errors import OutboxError
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store
from wandb_outbox.report import size
from wandb_outbox.sandbox import DEFAULT_KEY, Fault, SandboxClient

PATIENCE = 60.0
"""Seconds that any one step may take; each takes a few."""
POLL = 0.4
"""Seconds between two looks at the outbox."""
ENDING = 10.0
"""Seconds that a process gets to end in order."""
WIDTH = 140
"""Columns for the table where there is no terminal to ask."""

SETTINGS: Mapping[str, str] = {
    "WANDB_OUTBOX_SETTLE": "2",
    "WANDB_OUTBOX_CRASH_GRACE": "3",
    "WANDB_OUTBOX_RESCAN": "5",
}
"""As configured for a demo of half a minute; the defaults are for experiments of hours."""

QUEUED_WHILE_OFFLINE = 3
"""How many folders must be queued before the network comes back."""
SLOW_PUT = 1_500_000
"""Bytes a second, so that an upload has a middle in which the daemon can be killed."""
MIDDLE = 0.2
"""The share of the large folder that must have been sent when the daemon is killed."""

_PASSED_ON = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_WITHOUT_LEASES = (
    "a demo cannot be shown below {path} ({kind}): whether a file is open for writing cannot be seen there. "
    "Set TMPDIR to a directory on ext4, xfs, btrfs, tmpfs or overlay"
)
_FETCH = """\
import json, sys, wandb
api = wandb.Api()
for artifact, directory in json.load(sys.stdin).items():
    api.artifact(artifact).download(root=directory, skip_cache=True)
"""
"""What a person would type to get the artifacts back."""

T = TypeVar("T")


class Failed(Exception):
    """The story cannot go on; the words say why."""


@dataclass(frozen=True, slots=True)
class Role:
    """One experiment of the story: the folder it writes (below the day, without its time), and its pace."""

    folder: str
    experiment: Experiment
    pace: float


LARGE = "beam_search_seed42"
"""The folder that takes long enough to upload for the daemon to be killed in its middle."""

CAST: Sequence[Role] = (
    Role(
        "deepconf_seed42",
        Experiment("deepconf", "Qwen/Qwen3-8B", "vllm", "aime2025", "entropy", samples=30, chunk=10),
        0.07,
    ),
    Role("gsm8k/gpt-4o-mini/baseline/entropy/seed42", Experiment(), 0.2),
    Role(
        "self_consistency_seed43",
        Experiment("self_consistency", "Qwen/Qwen2.5-Math-7B-Instruct", "hf", "math500", "sequence_prob", seed=43),
        0.5,
    ),
    Role(
        LARGE,
        Experiment(
            "beam_search", "Qwen/Qwen3-8B", "vllm", "math500", "prm", samples=8,
            evaluators=(EXACT_MATCH, "llm_judge_gpt-4.1-mini"), extra_bytes=24_000_000,
        ),
        0.15,
    ),
    Role(
        "online_best_of_n_seed42",
        Experiment("online_best_of_n", "Qwen/Qwen3-8B", "vllm", "gsm8k", "prm", kind=Kind.KILLED, torn=True),
        0.25,
    ),
    Role(
        "baseline_seed44",
        Experiment(model="deepseek/deepseek-chat", backend="openrouter", seed=44, kind=Kind.INCOMPLETE),
        0.25,
    ),
)  # fmt: skip


def run_demo(*, keep: bool) -> int:
    """Tell the whole story; returns 0 only if everything that it promises was found to be true."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    directory = os.path.realpath(tempfile.mkdtemp(prefix="wandb-outbox-demo-"))
    kind = file_system_type(directory)
    if kind not in LEASE_TYPES:
        os.rmdir(directory)
        console.print(_WITHOUT_LEASES.format(path=os.path.dirname(directory), kind=kind))
        return 1
    story = Story(directory, console)
    try:
        with _signals(_interrupt):
            found = story.tell()
    except Failed as failure:
        found = [Problem(None, str(failure))]
        story.explain()
    except KeyboardInterrupt:
        console.print("interrupted: ending what was started")
        return 130
    finally:
        with _signals(signal.SIG_IGN):
            story.end()
            if keep:
                _say_where(console, directory)
            else:
                shutil.rmtree(directory, ignore_errors=True)
    for problem in found:
        console.print(f"WRONG  {problem}", markup=False)
    console.print("\nThe demo failed." if found else f"\nAll of it is true. It took {story.seconds:.0f} s.")
    return 1 if found else 0


class Story:
    """The demo under way: its processes, and what has been seen of the outbox so far."""

    def __init__(self, directory: str, console: Console) -> None:
        self._directory = directory
        self._console = console
        self._began = time.monotonic()
        self._mark = f"demo-{secrets.token_hex(8)}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._seen: dict[str, str] = {}
        self._roles: dict[str, Role] = {}
        self._left: dict[str, Mapping[str, Stamp]] = {}
        self._wrong: list[Problem] = []
        self._url = ""
        self._cut_at = 0.0
        for name in ("home", "tmp", "outputs", "downloads"):
            os.mkdir(self._path(name))

    @property
    def seconds(self) -> float:
        """How long the story has taken so far."""
        return time.monotonic() - self._began

    # -- the chapters ------------------------------------------------------------------------------------------------

    def tell(self) -> list[Problem]:
        """All of it, up to the table; returns what is wrong."""
        self._start_server()
        self._start_daemon("started")
        self._start_experiments()
        self._cut_the_network()
        self._wait_for_a_queue()
        self._bring_the_network_back()
        self._kill_the_daemon_during_an_upload()
        self._start_daemon("started again")
        self._wait_for_all()
        self._stop_daemon()
        evidence = self._gather()
        found = [*self._wrong, *problems(evidence)]
        self._console.print()
        self._console.print(table_of(evidence, found), soft_wrap=False)
        self._console.print()
        if not found:
            for line in facts_of(evidence):
                self._console.print(f"ok  {line}", markup=False)
        return found

    def _start_server(self) -> None:
        port_file = self._path("port")
        words = ["sandbox", "--port-file", port_file, "--directory", self._path("server")]
        self._start("server", "-m", "wandb_outbox", *words)
        self._until("the sandbox to listen", lambda: os.path.exists(port_file))
        self._url = f"http://127.0.0.1:{Path(port_file).read_text('ascii').strip()}"
        self._server.wait_ready()
        self._say(f"a W&B server on this machine: {self._url} (no account, nothing leaves this machine)")

    def _start_daemon(self, words: str) -> None:
        began = self._log_lines("started")
        arguments = ["watch", self._path("outputs"), "--state-dir", self._path("state"), "--config", os.devnull]
        process = self._start("daemon", "-m", "wandb_outbox", *arguments)
        self._until("the daemon to start", lambda: self._log_lines("started") > began)
        self._say(f"daemon {words} (pid {process.pid}): wandb-outbox watch outputs/")

    def _start_experiments(self) -> None:
        day, moment = time.strftime("%Y-%m-%d"), time.strftime("%H-%M-%S")
        for role in CAST:
            folder = f"{day}/{role.folder}_{moment}"
            self._roles[folder] = role
            self._start(
                folder, "-m", "wandb_outbox.demo.writer", *writer_arguments(role, self._path("outputs"), folder)
            )
        self._say(f"{len(CAST)} experiments started, writing into outputs/{day}/")

    def _cut_the_network(self) -> None:
        self._server.inject(Fault("any", "reset"))
        self._cut_at = self.seconds
        self._say("network cut: every connection to the server is reset")

    def _wait_for_a_queue(self) -> None:
        def queued() -> dict[str, Any] | None:
            status = self._status()
            enough = status["counts"]["queued"] >= QUEUED_WHILE_OFFLINE
            return status if enough and status["server"]["state"] == "offline" else None

        status = self._until(f"{QUEUED_WHILE_OFFLINE} folders to be queued while the server is offline", queued)
        counts = ", ".join(f"{number} {state}" for state, number in status["counts"].items() if number)
        self._say(f"the daemon knows that it is offline, and goes on collecting: {counts}")

    def _bring_the_network_back(self) -> None:
        self._server.clear_faults()
        self._server.inject(Fault("put", "slow", bytes_per_second=SLOW_PUT))
        self._say(f"network back after {self.seconds - self._cut_at:.1f} s, but slow ({size(SLOW_PUT)}/s)")

    def _kill_the_daemon_during_an_upload(self) -> None:
        folder = next(folder for folder, role in self._roles.items() if role.folder == LARGE)
        path = self._path("outputs", folder)

        def in_the_middle() -> dict[str, Any] | None:
            uploads: list[dict[str, Any]] = self._status()["uploads"]
            if self._seen.get(path) == "uploaded":
                raise Failed(f"{folder} was uploaded before the daemon could be killed in its middle")
            under_way = [each for each in uploads if each["path"] == path]
            return next((each for each in under_way if each["bytes_sent"] > MIDDLE * each["bytes_total"]), None)

        upload = self._until(f"{folder} to be uploading", in_the_middle)
        if not self._leftover():
            raise Failed(f"{folder} is being uploaded, and no process of the daemon's was found that does it")
        daemon = self._processes.pop("daemon")
        daemon.kill()
        daemon.wait()
        sent = f"{size(upload['bytes_sent'])} of {size(upload['bytes_total'])}"
        self._say(f"daemon killed -9 during the upload of {folder} ({sent} sent)")
        self._until("the uploader of the killed daemon to end", lambda: not self._leftover())
        self._server.clear_faults()
        states = [
            each.state for each in self._server.artifacts() if each.logged_by == upload["id"] and is_of_folder(each)
        ]
        if states != ["PENDING"]:
            raise Failed(f"the kill did not come in the middle of the upload: the artifact is {states or 'not there'}")
        self._say("its uploader ended with it; the server has half an upload, and an artifact that is pending")

    def _wait_for_all(self) -> None:
        def done() -> bool:
            rows = self._rows()
            return len(rows) == len(self._roles) and all(row["state"] in _AT_REST for row in rows)

        self._until("all folders to be delivered", done)

    def _stop_daemon(self) -> None:
        code = self._stop("daemon")
        if code != 0:
            self._wrong.append(Problem(None, f"the daemon ended with exit code {code} when it was asked to stop"))
        with contextlib.suppress(Failed):
            self._until("the daemon's processes to end", lambda: not self._leftover(), seconds=ENDING)
        self._say("daemon stopped")

    # -- the evidence ------------------------------------------------------------------------------------------------

    def _gather(self) -> Evidence:
        rows = {os.path.relpath(row["path"], self._path("outputs")): row for row in self._rows()}
        artifacts = self._server.artifacts()
        downloaded = self._fetch(
            [f"{each.entity}/{each.project}/{each.name}:{each.version}" for each in folder_artifacts(artifacts)]
        )
        folders = []
        for folder, role in self._roles.items():
            path = self._path("outputs", folder)
            digests, now = digests_of(path), stamps_of(path)
            folders.append(Folder(folder, role.experiment.kind, self._left[folder], now, digests, rows.get(folder)))
        return Evidence(folders, self._server.runs(), artifacts, downloaded, self._leftover())

    def _fetch(self, artifacts: Sequence[str]) -> dict[str, dict[str, str]]:
        """Download every artifact as a person would, in a process of its own; returns the digests of its files."""
        self._say("every artifact is downloaded again with wandb.Api, and compared byte by byte")
        targets = {name: self._path("downloads", str(number)) for number, name in enumerate(artifacts)}
        process = self._start("fetch", "-c", _FETCH, stdin=subprocess.PIPE, mark=self._mark)
        try:
            process.communicate(json.dumps(targets).encode(), timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the download with wandb.Api did not end within {PATIENCE:.0f} s") from error
        if process.returncode != 0:
            raise Failed(f"the download with wandb.Api failed:\n{self._tail('fetch')}")
        return {name.rpartition("/")[2]: digests_of(target) for name, target in targets.items()}

    @property
    def _server(self) -> SandboxClient:
        return SandboxClient(self._url)

    def _leftover(self) -> list[int]:
        """The processes that the daemon started and that are still there: they carry the mark of its outbox."""
        store = Store.read(StateDir(self._path("state")))
        if store is None:
            return []
        mark = store.fact("mark")
        store.close()
        return marked(f"{mark}:") if isinstance(mark, str) else []

    # -- looking -----------------------------------------------------------------------------------------------------

    def _until(self, what: str, ready: Callable[[], T | None], seconds: float = PATIENCE) -> T:
        """Wait for an event, and tell meanwhile what happens to the folders; returns what ``ready`` gives."""
        deadline = time.monotonic() + seconds
        while not (value := ready()):
            self._watch_experiments()
            for name in ("server", "daemon"):
                process = self._processes.get(name)
                if process is not None and process.poll() is not None:
                    raise Failed(f"the {name} ended with exit code {process.returncode}:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                raise Failed(f"waited {seconds:.0f} s in vain for {what}")
            time.sleep(POLL)
        return value

    def _watch_experiments(self) -> None:
        """Tell which experiments are over, and note how they left their folders."""
        for folder, role in self._roles.items():
            process = self._processes.get(folder)
            if process is None or process.poll() is None:
                continue
            del self._processes[folder]
            self._left[folder] = stamps_of(self._path("outputs", folder))
            wanted = -signal.SIGKILL if role.experiment.kind is Kind.KILLED else 0
            if process.returncode != wanted:
                self._wrong.append(Problem(folder, f"its experiment ended with exit code {process.returncode}"))
            self._say(f"experiment {_ENDINGS[role.experiment.kind]}: {folder}")

    def _rows(self) -> list[dict[str, Any]]:
        """``list --json``, and a line for each folder whose state has changed."""
        self._watch_experiments()
        rows: list[dict[str, Any]] = self._ask("list")["runs"]
        for row in rows:
            state = row["state"]
            if self._seen.get(row["path"]) != state:
                self._seen[row["path"]] = state
                if state in _WORTH_A_LINE:
                    self._say(f"{state:<8} {os.path.relpath(row['path'], self._path('outputs'))}")
        return rows

    def _status(self) -> dict[str, Any]:
        self._rows()
        return self._ask("status")

    def _ask(self, command: str) -> dict[str, Any]:
        """What one of the reading commands says as JSON."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "wandb_outbox", command, "--json", "--state-dir", self._path("state")],
            env=self._environment(), cwd=self._directory, capture_output=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise Failed(f"`{command} --json` gave no JSON: {done.stderr.decode(errors='replace')}") from error
        return answer

    def explain(self) -> None:
        """Where everything stands, for the reader of a failure."""
        with contextlib.suppress(Failed, OSError, subprocess.TimeoutExpired):
            for row in self._rows():
                self._console.print(f"  {row['state']:<9} {row['path']}  {row['reason']}", markup=False)
        self._console.print(self._tail("daemon"), markup=False)

    # -- processes ---------------------------------------------------------------------------------------------------

    def _start(
        self, name: str, *words: str, stdin: int = subprocess.DEVNULL, mark: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one of our own processes; what it prints goes to a file in the directory.

        ``mark`` is for one that uses the SDK itself: the SDK's own process could outlive it, and is found by that.
        """
        with open(self._log_file(name), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", *words],
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=self._environment() | ({MARK: mark} if mark else {}),
                # Ctrl-C is for us: we end the others in order.
                start_new_session=True,
            )
        self._processes[name] = process
        return process

    def _environment(self) -> dict[str, str]:
        """Made, not inherited: the caller's W&B account, settings and home have no part in this."""
        made = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        made |= {
            "HOME": self._path("home"),
            "TMPDIR": self._path("tmp"),
            "PYTHONUNBUFFERED": "1",
            "WANDB_BASE_URL": self._url,
            "WANDB_API_KEY": DEFAULT_KEY,
            "WANDB_SILENT": "true",
            "WANDB_ERROR_REPORTING": "false",
        }
        return {**made, **SETTINGS}

    def _stop(self, name: str) -> int | None:
        """Ask one of our processes to end, insist after a while; returns its exit code."""
        process = self._processes.pop(name, None)
        if process is None:
            return None
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    def end(self) -> None:
        """End every process that is still there, by its id; whatever they left behind carries a mark of ours."""
        for name in [*self._roles, "fetch", "daemon", "server"]:
            self._stop(name)
        with contextlib.suppress(OutboxError):
            for pid in self._leftover():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        kill_marked(self._mark)

    # -- small things ------------------------------------------------------------------------------------------------

    def _path(self, *parts: str) -> str:
        return os.path.join(self._directory, *parts)

    def _log_file(self, name: str) -> str:
        return self._path(f"{name.replace('/', '-')}.log")

    def _log_lines(self, event: str) -> int:
        """How many lines with this event the daemon has logged."""
        try:
            with open(self._log_file("daemon"), encoding="utf-8", errors="replace") as file:
                return sum(f'"event": "{event}"' in line for line in file)
        except FileNotFoundError:
            return 0

    def _tail(self, name: str, lines: int = 12) -> str:
        try:
            with open(self._log_file(name), encoding="utf-8", errors="replace") as file:
                return "".join(file.readlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _say(self, words: str) -> None:
        self._console.print(f"{self.seconds:5.1f} s  {words}", markup=False)


# -- what is shown -------------------------------------------------------------------------------------------------------


def table_of(evidence: Evidence, found: Sequence[Problem]) -> Table:
    """Every folder: how its experiment ended, where the outbox has it, what W&B has of it, and whether all is true."""
    day = os.path.commonpath([folder.path for folder in evidence.folders])
    table = Table(title=f"What became of every folder in outputs/{day}/", title_justify="left", show_lines=True)
    for column in ("folder", "experiment", "outbox", "W&B run, and its tags", "in W&B", "artifact", "check"):
        table.add_column(column, overflow="fold")
    for folder in evidence.folders:
        row = folder.row or {}
        runs = runs_of(folder.path, evidence.runs)
        version = (row.get("artifact") or "").rpartition(":")[2]
        wrong = [each.words for each in found if each.folder == folder.path]
        cells = (
            os.path.relpath(folder.path, day),
            _ENDINGS[folder.kind],
            row.get("state", "unknown"),
            "\n".join(f"{run.display_name}\n{' '.join(run.tags)}" for run in runs),
            ", ".join(run.state for run in runs),
            f"{version}: {row['files']} files, {size(row['bytes'])}" if version else "",
            "; ".join(wrong) or "same bytes",
        )
        table.add_row(*map(Text, cells))
    return table


def facts_of(evidence: Evidence) -> Iterator[str]:
    """What was found to be true, in sentences, when nothing is wrong."""
    versions = folder_artifacts(evidence.artifacts)
    files = [digest for folder in evidence.folders for digest in folder.digests.values()]
    total = sum(stamp.size for folder in evidence.folders for stamp in folder.now.values())
    yield f"{len(evidence.folders)} folders, {len(evidence.runs)} runs, {len(versions)} artifact versions: nothing twice"
    yield f"{len(files)} files, {size(total)}: what W&B gives back is byte by byte what is on disk"
    yield "the killed experiment is a failed run with the tag crashed, the incomplete one has the tag incomplete"
    yield "no file of any folder was touched, and no process is left over"


def _say_where(console: Console, directory: str) -> None:
    """How to look around in what was kept."""
    command = f"{shlex.quote(sys.executable)} -m wandb_outbox"
    state = shlex.quote(os.path.join(directory, "state"))
    console.print(f"\nEverything is kept in {directory}. To look around:", markup=False)
    for words in ("status", "list", "show RUN", "why RUN"):
        console.print(f"  {command} {words} --state-dir {state}", markup=False)
    console.print(f"  {command} sandbox --directory {shlex.quote(os.path.join(directory, 'server'))}", markup=False)


# -- small things --------------------------------------------------------------------------------------------------------


def writer_arguments(role: Role, into: str, folder: str) -> list[str]:
    """The writer's command line for one experiment."""
    experiment = role.experiment
    fields = ("strategy", "model", "backend", "dataset", "scorer", "seed", "samples", "chunk", "kind", "extra_bytes")
    words = ["--into", into, "--run-name", folder, "--pace", str(role.pace), "--linger", "0.5"]
    for name in fields:
        words += [f"--{name.replace('_', '-')}", str(getattr(experiment, name))]
    words += ["--evaluators", ",".join(experiment.evaluators)]
    return [*words, "--torn"] if experiment.torn else words


_ENDINGS: Mapping[Kind, str] = {
    Kind.NORMAL: "ended well",
    Kind.INCOMPLETE: "ended, but its API had died",
    Kind.KILLED: "killed -9 half-way",
}
_WORTH_A_LINE = frozenset({"queued", "uploaded", "held", "failed", "skipped"})
_AT_REST = frozenset({"uploaded", "held", "failed", "skipped"})
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _signals(handler: Callable[[int, Any], None] | signal.Handlers) -> Iterator[None]:
    """Handle all that asks us to end in one way, and put the old ways back afterwards."""
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
