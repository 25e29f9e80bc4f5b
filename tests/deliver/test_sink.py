"""The real uploader process, from outside: what it is given, what it answers, and that nothing of it survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from children import is_alive, python, until
from deliver_makers import job

from wandb_outbox.deliver.processes import MARK, descendants, kill_marked, marked, written_bytes
from wandb_outbox.deliver.protocol import Job, error_from_json, job_to_json, receipt_from_json
from wandb_outbox.deliver.sink import PASSED_ON, Sink, uploader_environment
from wandb_outbox.errors import DiskFull, FolderChanged, NotVerified
from wandb_outbox.folder import snapshot
from wandb_outbox.model import PlanRequest, run_id
from wandb_outbox.sandbox import Fault, Sandbox

STRAY = {
    "WANDB_MODE": "offline",
    "WANDB_RUN_ID": "stray",
    "WANDB_RESUME": "must",
    "WANDB_SWEEP_ID": "stray",
    "WANDB_SERVICE": "tcp://127.0.0.1:1",
    "WANDB_PROJECT": "stray",
    "WANDB_DIR": "/stray",
    "WANDB_DISABLED": "true",
    "WANDB_CONFIG_PATHS": "/stray.yaml",
    "WANDB_BASE_URL": "http://stray.test",
    "LD_PRELOAD": "/stray.so",
    "PYTHONSTARTUP": "/stray.py",
    "AWS_SECRET_ACCESS_KEY": "stray",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A W&B server."""
    with Sandbox() as server:
        yield server


class Outside:
    """A sink, with everything that its uploader has said."""

    def __init__(self, server: Sandbox, directory: Path, environ: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.mark = f"test-{os.getpid()}-{directory.parent.name}:"
        self.woken = threading.Event()
        base = {"HOME": str(directory), "WANDB_API_KEY": server.api_key, "no_proxy": "*"}
        base |= {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        directory.mkdir(exist_ok=True)
        self.sink = Sink(
            {**base, **(environ or {})},
            base_url=server.url,
            directory=str(directory),
            mark=self.mark,
            wake=self.woken.set,
        )
        self.said: list[dict[str, Any]] = []

    def wait_for(self, *kinds: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until it says something of one of these kinds."""

        def find() -> dict[str, Any] | None:
            self.said += self.sink.poll()
            return next((message for message in self.said if message["is"] in kinds), None)

        found = until(find, seconds=seconds, what=f"{kinds} from the uploader; so far {self.said}")
        assert found is not None
        self.said.remove(found)
        return found

    def pid(self) -> int:
        """The process id of the uploader."""
        assert self.sink.pid is not None
        return self.sink.pid

    def environment(self) -> dict[str, str]:
        """The environment of the process as the kernel shows it."""
        entries = Path(f"/proc/{self.pid()}/environ").read_bytes().split(b"\0")
        return dict(os.fsdecode(entry).split("=", 1) for entry in entries if entry)


@pytest.fixture(scope="module")
def shared(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """An uploader that is warm, for the tests that do not kill it."""
    made = Outside(sandbox, tmp_path_factory.mktemp("shared") / "uploader", STRAY)
    made.sink.probe()
    made.wait_for("answer")
    yield made
    made.sink.kill()
    kill_marked(made.mark)


@pytest.fixture
def outside(sandbox: Sandbox, tmp_path: Path) -> Iterator[Outside]:
    """A sink of which nothing is left afterwards."""
    made = Outside(sandbox, tmp_path / "uploader", STRAY)
    yield made
    made.sink.kill()
    kill_marked(made.mark)


def folder_job(path: Path, server: Sandbox, **changes: Any) -> Job:
    """A delivery of a real folder."""
    taken = snapshot(str(path))
    request = PlanRequest(
        str(path), str(path.parent), "plain", run_id("site", str(path), 0), "site", default_entity=server.entity
    )
    return job(request=request, birth=taken.birth, fingerprint=taken.fingerprint, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run folder."""
    path = tmp_path / "outputs" / "exp"
    path.mkdir(parents=True)
    (path / "outbox.yaml").write_text("project: sink\n")
    (path / "results.json").write_text("[1, 2]")
    return path


# -- talking ---------------------------------------------------------------------------------------------------------


def test_nothing_is_started_before_it_is_needed(outside: Outside) -> None:
    """A daemon with nothing to send is one process."""
    assert outside.sink.pid is None
    assert outside.sink.poll() == []
    outside.sink.kill()
    assert os.listdir(outside.directory) == []


def test_the_server_is_asked_with_the_key(shared: Outside, sandbox: Sandbox) -> None:
    """The answer comes through poll, and whoever waits is woken."""
    shared.woken.clear()
    shared.sink.probe()
    answer = shared.wait_for("answer")
    assert (answer["state"], answer["entity"]) == ("online", sandbox.entity)
    assert shared.woken.is_set()


def test_a_wrong_key_is_found_out(sandbox: Sandbox, tmp_path: Path) -> None:
    """Through the process as through the probe itself."""
    wrong = Outside(sandbox, tmp_path / "uploader", {"WANDB_API_KEY": "x" * 40})
    wrong.sink.probe()
    try:
        assert wrong.wait_for("answer")["state"] == "unauthorized"
    finally:
        wrong.sink.kill()


def test_a_key_that_changes_counts_for_the_next_question(sandbox: Sandbox, tmp_path: Path) -> None:
    """A person mends the credential, and nothing has to be restarted."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "wandb_api_key").write_text("x" * 40)
    changing = Outside(sandbox, tmp_path / "uploader", {"WANDB_API_KEY": "", "CREDENTIALS_DIRECTORY": str(credentials)})
    try:
        changing.sink.probe()
        assert changing.wait_for("answer")["state"] == "unauthorized"
        (credentials / "wandb_api_key").write_text(sandbox.api_key)
        changing.sink.probe()
        assert changing.wait_for("answer")["state"] == "online"
    finally:
        changing.sink.kill()


def test_a_delivery_waits_for_its_permit_and_ends_with_a_receipt(
    shared: Outside, folder: Path, sandbox: Sandbox
) -> None:
    """Nothing exists on the server before the run id is recorded; then all of it does."""
    before = len(sandbox.runs())
    sent = folder_job(folder, sandbox)
    shared.sink.send(sent)
    contact = shared.wait_for("contact")
    assert (contact["key"], contact["run_id"]) == (sent.key, sent.request.run_id)
    assert len(sandbox.runs()) == before
    shared.sink.allow(sent.key, recorded=True)
    message = shared.wait_for("receipt", "error")
    receipt = receipt_from_json(message)
    assert (receipt.run_id, receipt.fingerprint, receipt.files) == (contact["run_id"], sent.fingerprint, 2)
    run = sandbox.run(receipt.entity, receipt.project, receipt.run_id)
    assert run is not None
    assert run.state == "finished"
    assert sorted(os.listdir(folder)) == ["outbox.yaml", "results.json"]


def test_a_delivery_without_a_permit_ends(shared: Outside, folder: Path, sandbox: Sandbox) -> None:
    """An id that belongs to another folder is never used."""
    before = len(sandbox.runs())
    (folder / "outbox.yaml").write_text("project: forbidden\n")
    shared.sink.send(folder_job(folder, sandbox))
    contact = shared.wait_for("contact")
    shared.sink.allow(contact["key"], recorded=False)
    assert isinstance(error_from_json(shared.wait_for("error", "receipt")), NotVerified)
    assert len(sandbox.runs()) == before


@pytest.mark.parametrize("how", ["vanished", "changed"])
def test_a_folder_that_vanished_or_changed_is_told_as_such(
    shared: Outside, folder: Path, sandbox: Sandbox, how: str
) -> None:
    """It goes back to detection; that is no crash of the uploader."""
    sent = folder_job(folder, sandbox)
    if how == "vanished":
        shutil.rmtree(folder)
    else:
        (folder / "results.json").write_text("[1, 2, 3]")
    shared.sink.send(sent)
    assert type(error_from_json(shared.wait_for("error", "receipt", "contact"))) is FolderChanged


def test_a_file_name_that_is_not_utf8_gets_through_the_pipe(shared: Outside, tmp_path: Path, sandbox: Sandbox) -> None:
    """The path of the folder is bytes to the kernel, and arrives as such."""
    path = tmp_path / os.fsdecode(b"run\xff")
    path.mkdir()
    (path / "results.json").write_text("[]")
    sent = folder_job(path, sandbox)
    shutil.rmtree(path)
    shared.sink.send(sent)
    error = error_from_json(shared.wait_for("error", "receipt", "contact"))
    assert isinstance(error, FolderChanged)
    assert str(path) in error.message


# -- dying -----------------------------------------------------------------------------------------------------------


def test_after_kill_no_process_is_left_and_nothing_is_heard(outside: Outside, folder: Path, sandbox: Sandbox) -> None:
    """Not the uploader, not the SDK's own process, which has a session of its own; and no word of the dead."""
    sent = folder_job(folder, sandbox)
    outside.sink.send(sent)
    outside.wait_for("contact")
    outside.sink.allow(sent.key, recorded=True)
    until(lambda: len(marked(outside.mark)) > 1, what="the SDK's own process")
    uploader = outside.pid()
    outside.sink.kill()
    assert marked(outside.mark) == []
    assert not is_alive(uploader)
    assert outside.sink.pid is None
    assert [message for message in outside.sink.poll() if message["is"] == "died"] == []


def test_a_death_of_its_own_is_told_once_with_its_last_words(outside: Outside) -> None:
    """Then the next message starts another."""
    outside.sink.probe()
    outside.wait_for("answer")
    first = outside.pid()
    os.kill(first, signal.SIGKILL)
    outside.wait_for("died")
    assert outside.sink.pid is None
    outside.sink.probe()
    outside.wait_for("answer")
    assert outside.pid() != first
    assert [message for message in outside.said if message["is"] == "died"] == []


def test_what_a_crash_printed_is_kept_for_the_error(sandbox: Sandbox, tmp_path: Path) -> None:
    """A broken installation says what is missing."""
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('no such library')\n")
    broken = Outside(sandbox, tmp_path / "uploader", {"PYTHONPATH": str(tmp_path)})
    broken.sink.probe()
    broken.wait_for("died")
    assert broken.sink.last_words().endswith("no such library")


def test_a_message_to_one_that_has_just_died_is_no_error(outside: Outside) -> None:
    """The reader tells of the death; the writer does not stumble over it."""
    outside.sink.probe()
    outside.wait_for("answer")
    os.kill(outside.pid(), signal.SIGKILL)
    until(lambda: not is_alive(outside.pid()), what="its end")
    for _ in range(20):
        outside.sink.probe()
    outside.wait_for("died")


HOLD_A_SINK = """
import json, os, sys, time
from wandb_outbox.deliver.protocol import job_from_json
from wandb_outbox.deliver.sink import Sink
url, directory, mark, job = sys.argv[1:]
sink = Sink(os.environ, base_url=url, directory=directory, mark=mark, wake=lambda: None)
if job:
    sink.send(job_from_json(json.loads(job)))
else:
    sink.probe()
said = ""
while said not in ("contact", "answer"):
    time.sleep(0.01)
    for message in sink.poll():
        said = message["is"]
if job:
    sink.allow(1, recorded=True)
print("ready", flush=True)
print(sink.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("busy", [False, True])
def test_an_uploader_ends_with_its_executor(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """Killing the executor closes the uploader's input, and it goes with all that it started, in the middle of sending."""
    with Sandbox() as server:
        monkeypatch.setenv("WANDB_API_KEY", server.api_key)
        monkeypatch.setenv("no_proxy", "*")
        server.inject(Fault(operation="put", action="hang"))
        (tmp_path / "uploader").mkdir()
        mark = f"test-{os.getpid()}-orphan:"
        sent = json.dumps(job_to_json(folder_job(folder, server))) if busy else ""
        with python(HOLD_A_SINK, server.url, str(tmp_path / "uploader"), mark, sent) as executor:
            uploader = int(executor.line())
            assert is_alive(uploader)
            if busy:
                until(lambda: server.requests.of("CreateArtifact"), what="the middle of sending")
            executor.kill()
            try:
                until(lambda: not is_alive(uploader) and not marked(mark), what="the end of all of it")
            finally:
                kill_marked(mark)


def test_what_a_dead_executor_left_running_is_ended_by_the_next(sandbox: Sandbox, tmp_path: Path) -> None:
    """Found by the mark in its environment, stopped or not; other outboxes' processes are left alone."""
    first, second, other = (Outside(sandbox, tmp_path / name / "uploader") for name in _made(tmp_path, "a", "b", "c"))
    second.sink = Sink({}, base_url=sandbox.url, directory=str(second.directory), mark=first.mark, wake=lambda: None)
    for each in (first, other):
        each.sink.probe()
        each.wait_for("answer")
    os.kill(first.pid(), signal.SIGSTOP)
    try:
        assert second.sink.end_leftovers() == 1
        assert second.sink.end_leftovers() == 0
        assert not is_alive(first.pid())
        assert is_alive(other.pid())
    finally:
        first.sink.kill()
        other.sink.kill()


def _made(tmp_path: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (tmp_path / name).mkdir()
    return names


def test_an_uploader_that_cannot_be_started_is_told_by_name(sandbox: Sandbox, tmp_path: Path) -> None:
    """A file is where its directory should be; a full disk looks the same."""
    outside = Outside(sandbox, tmp_path / "uploader")
    (outside.directory / "cache").write_text("in the way")
    with pytest.raises(DiskFull, match="cannot be started") as told:
        outside.sink.probe()
    assert str(outside.directory) in told.value.hint
    assert outside.sink.pid is None
    (outside.directory / "cache").unlink()
    outside.sink.probe()
    assert outside.wait_for("answer")["state"] == "online"
    outside.sink.kill()


def test_its_descriptors_and_threads_are_given_back(outside: Outside) -> None:
    """A hundred uploaders in a year leave nothing in the executor."""
    outside.sink.probe()
    outside.wait_for("answer")
    outside.sink.kill()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(2):
        outside.sink.probe()
        outside.wait_for("answer")
        outside.sink.kill()
    until(lambda: threading.active_count() <= threads, what="the readers' end")
    assert len(os.listdir("/proc/self/fd")) == descriptors


# -- its surroundings ------------------------------------------------------------------------------------------------


def test_its_environment_is_made_and_not_inherited(shared: Outside, sandbox: Sandbox) -> None:
    """No stray WANDB_MODE or WANDB_RUN_ID steers it, and all of the SDK's directories are ours."""
    found = shared.environment()
    assert found["WANDB_BASE_URL"] == sandbox.url
    assert found["WANDB_API_KEY"] == sandbox.api_key
    for name in ("DIR", "CACHE_DIR", "DATA_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        assert found[f"WANDB_{name}"].startswith(str(shared.directory))
    assert found["TMPDIR"].startswith(str(shared.directory))
    kept = {name for name in STRAY if name in found} - {"WANDB_DIR", "WANDB_BASE_URL"}
    assert kept == set()
    assert "stray" not in " ".join(found.values())


def test_it_runs_in_its_own_directory_and_session(shared: Outside) -> None:
    """Ctrl-C at the terminal, and a deleted working directory of ours, are none of its business."""
    assert os.readlink(f"/proc/{shared.pid()}/cwd") == str(shared.directory)
    assert os.getsid(shared.pid()) == shared.pid()
    os.kill(shared.pid(), signal.SIGINT)
    shared.sink.probe()
    assert shared.wait_for("answer", "died")["is"] == "answer"


def test_a_module_in_its_directory_is_not_imported(outside: Outside) -> None:
    """Whatever lies in its working directory cannot run as its code."""
    (outside.directory / "json.py").write_text("raise SystemExit(1)\n")
    (outside.directory / "wandb_outbox.py").write_text("raise SystemExit(1)\n")
    outside.sink.probe()
    assert outside.wait_for("answer", "died")["is"] == "answer"


def test_only_the_listed_variables_are_passed_on() -> None:
    """The list is all there is; everything else is made."""
    given = {name: f"value of {name}" for name in (*PASSED_ON, *STRAY, "ANYTHING")}
    made = uploader_environment(given, base_url="https://wandb.test", directory="/state/uploader", mark="m:1")
    assert {name for name in made if made[name] == f"value of {name}"} == set(PASSED_ON)
    assert made[MARK] == "m:1"
    assert "ANYTHING" not in made


# -- processes -------------------------------------------------------------------------------------------------------


def test_descendants_are_found_over_sessions_and_generations() -> None:
    """Children and grandchildren, wherever they put themselves."""
    code = "import subprocess, sys, os; c = subprocess.Popen(['/bin/sleep', '60'], start_new_session=True)"
    with python(f"{code}\nprint('ready', flush=True)\nprint(c.pid, flush=True)\nsys.stdin.read()") as child:
        grandchild = int(child.line())
        try:
            assert [pid for pid in descendants(os.getpid()) if pid in (child.pid, grandchild)] == [
                child.pid,
                grandchild,
            ]
            assert descendants(grandchild) == []
        finally:
            os.kill(grandchild, signal.SIGKILL)


def test_the_dead_have_no_descendants_and_wrote_nothing() -> None:
    """A process that is gone is no error."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert descendants(gone.pid) == []
    assert written_bytes(gone.pid) == 0


def test_written_bytes_grow_with_what_is_written() -> None:
    """The sign of life of an upload."""
    code = """
import os, sys
print('ready', flush=True)
sys.stdin.readline()
os.write(os.open(os.devnull, os.O_WRONLY), b'x' * 5000)
print('done', flush=True)
sys.stdin.read()
"""
    with python(code) as child:
        before = written_bytes(child.pid)
        child.say("go")
        assert child.line() == "done"
        assert written_bytes(child.pid) - before >= 5000
