"""The uploader process: reads jobs from its standard input, delivers them with the SDK, answers on standard output.

It is a process of its own so that the executor stays small, a hung SDK can be killed, a crash costs one attempt, and
the API key lives nowhere else. It ends when its standard input closes, taking everything it started with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

from wandb_outbox.deliver.alone import lock_folder
from wandb_outbox.deliver.digests import Digests
from wandb_outbox.deliver.outcome import Stage
from wandb_outbox.deliver.probe import ask_server
from wandb_outbox.deliver.processes import descendants, written_bytes
from wandb_outbox.deliver.protocol import MAX_LINE, decode, encode, error_to_json, job_from_json
from wandb_outbox.errors import DiskFull, FolderChanged, NotVerified, OutboxError, UploaderCrashed
from wandb_outbox.folder import Selection, snapshot
from wandb_outbox.settings import find_api_key

if TYPE_CHECKING:
    from wandb_outbox.deliver.send import Sender

MAX_THREADS = 64
PULSE = 0.5
"""Seconds between two looks at how many bytes the SDK's own process has written, and between two equal words."""


class Permit:
    """The executor's word on one delivery: whether its run id is recorded."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.recorded = False

    def check(self, otherwise: str) -> None:
        """Raise :class:`NotVerified` with these words unless it is recorded."""
        if not self.recorded:
            raise NotVerified(otherwise)


class Uploader:
    """The loop of the process; one instance, several delivering threads."""

    def __init__(self, environ: Mapping[str, str], answers: IO[bytes], directory: str) -> None:
        self._environ = environ
        self._base_url = environ["WANDB_BASE_URL"]
        self._answers = answers
        self._directory = directory
        self._writing = threading.Lock()
        self._permits: dict[int, Permit] = {}
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="delivery")
        self._senders: dict[str, Sender] = {}
        self._starting = threading.Lock()
        self._began: dict[int, float] = {}

    def serve(self, jobs: IO[bytes]) -> None:
        """Handle messages until the input ends."""
        threading.Thread(target=self._pulse, daemon=True, name="pulse").start()
        self._say({"is": "ready", "pid": os.getpid()})
        while line := jobs.readline(MAX_LINE):
            message = decode(line)
            match message["do"]:
                case "deliver":
                    self._permits[message["key"]] = Permit()
                    self._pool.submit(self._deliver, message)
                case "go":
                    permit = self._permits[message["key"]]
                    permit.recorded = message["recorded"]
                    permit.asked.set()
                case "warm":
                    self._pool.submit(self._warm)
                case "probe":
                    self._pool.submit(self._probe)
                case "stop":
                    return

    def _deliver(self, message: dict[str, Any]) -> None:
        key = int(message["key"])
        self._began[key] = time.time()
        folder: int | None = None
        digests: Digests | None = None
        spent = False
        try:
            job = job_from_json(message)
            folder = lock_folder(job.request.path)
            permit = self._permits[key]

            def contact(run_id: str, incarnation: int) -> None:
                self._say({"is": "contact", "key": key, "run_id": run_id, "incarnation": incarnation})
                permit.asked.wait()
                permit.check(f"{job.request.path}: its run {run_id} belongs to another folder of this outbox")

            said = (Stage.PLAN.value, 0.0)

            def progress(stage: str) -> None:
                nonlocal said
                if stage == said[0] and time.monotonic() - said[1] < PULSE:
                    return  # each word wakes the executor; an artifact of thousands of files would say it for each
                said = (stage, time.monotonic())
                self._say({"is": "progress", "key": key, "stage": stage})

            if not self._senders and not job.contacted:
                # A large file takes longer than the SDK to load, and W&B wants to know all digests before the first byte.
                digests = Digests(job.request.path, lambda: progress(said[0]))
                digests.begin(snapshot(job.request.path, Selection(job.exclude, job.include).selector()).files)
            receipt = self._sender().deliver(job, contact, progress, digests)
            fields = {name: getattr(receipt, name) for name in receipt.__dataclass_fields__}
            self._say({"is": "receipt", "key": key, **fields})
        except OutboxError as error:
            # After a failed init, or with a run that was not ended, the SDK's process keeps the run id as "in use" for as
            # long as it lives.
            ours = isinstance(error.__cause__, OSError) and not isinstance(error, (FolderChanged, DiskFull))
            spent = isinstance(error.__cause__, Exception) and not ours
            self._say({"is": "error", "key": key, "spent": spent, **error_to_json(error)})
        except OSError as error:
            spent = True
            full = DiskFull(f"{self._directory}: {error.strerror}", hint="make room on the disk of the state directory")
            crash = UploaderCrashed(f"the uploader could not work: {error}")
            self._say(
                {"is": "error", "key": key, "spent": spent, **error_to_json(full if error.errno == 28 else crash)}
            )
        except Exception as error:  # noqa: BLE001  whatever a hostile folder provokes costs this delivery only
            spent = True
            crash = UploaderCrashed(f"the uploader could not handle this folder: {type(error).__name__}: {error}")
            self._say({"is": "error", "key": key, "spent": spent, **error_to_json(crash)})
        finally:
            if digests is not None:
                digests.stop()
            if folder is not None and not spent:
                os.close(folder)  # else the SDK may still be sending: the folder is let go with this process
            self._began.pop(key, None)
            self._permits.pop(key, None)
            self._sweep()

    def _sweep(self) -> None:
        """Remove what deliveries that have ended left on disk: the SDK keeps three copies of every table it sends.

        What is older than every delivery under way belongs to none of them. Before there is a sender the SDK may be starting:
        the file in which its process is to leave its address belongs to no delivery, and is waited for.
        """
        if not self._senders:
            return
        oldest = min([time.time(), *list(self._began.values())])
        for name in ("tmp", "data/artifacts/staging", "cache/artifacts"):
            for directory, _, files in os.walk(os.path.join(self._directory, name)):
                for file in files:
                    with contextlib.suppress(OSError):
                        if os.stat(os.path.join(directory, file)).st_mtime < oldest:
                            os.unlink(os.path.join(directory, file))

    def _sender(self) -> Sender:
        """The sender for today's key: it is read anew for each delivery, so that a new key counts at once."""
        key = find_api_key(self._environ, self._base_url)
        with self._starting:
            # wandb takes 0.7 s to import and starts nothing before the first delivery: a probe never pays for it.
            from wandb_outbox.deliver.sdk import Server
            from wandb_outbox.deliver.send import Sender

            if (key or "") not in self._senders:
                self._senders = {key or "": Sender(Server(self._base_url, key), self._directory)}
            return self._senders[key or ""]

    def _warm(self) -> None:
        """Load all that a delivery needs, and start the SDK's process, before the first one comes."""
        with contextlib.suppress(Exception):  # whatever is wrong, the delivery finds it again and tells of it
            from wandb_outbox.deliver.send import Sender

            Sender.warm()

    def _probe(self) -> None:
        answer = ask_server(self._base_url, find_api_key(self._environ, self._base_url))
        self._say({
            "is": "answer", "state": answer.state.value, "detail": answer.detail, "entity": answer.entity,
            "retry_after": answer.retry_after,
        })  # fmt: skip

    def _pulse(self) -> None:
        """Tell how many bytes have left us: the SDK itself tells nothing while it sends an artifact."""
        last = 0
        idle = threading.Event()
        while not idle.wait(PULSE):
            if not self._began:
                continue
            total = sum(written_bytes(pid) for pid in descendants(os.getpid()))
            if total != last:
                last = total
                self._say({"is": "progress", "key": None, "bytes": total})

    def _say(self, message: dict[str, Any]) -> None:
        with self._writing:
            self._answers.write(encode(message))
            self._answers.flush()


def main() -> None:
    """Entry point of the process. Its working directory is the SDK's, made by the executor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the executor, which ends us in order
    # The protocol gets a descriptor of its own: nothing that prints may write into it.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.disable()  # the SDK keeps a log of each run, which nobody reads before it is deleted
    try:
        Uploader(os.environ, answers, os.getcwd()).serve(sys.stdin.buffer)
    finally:
        end_now()


def end_now() -> None:
    """End this process and everything it started, at once.

    An orderly exit would run the SDK's ``atexit``, which waits for unfinished runs and, when the process dies in that
    wait, leaves wandb-core behind for many minutes. wandb-core has a session of its own, so no group reaches it.
    """
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
