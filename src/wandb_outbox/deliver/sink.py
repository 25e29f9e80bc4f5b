"""The uploader process seen from outside: start it, talk to it, kill it with everything it started.

The contract, which a stand-in must keep, too: :meth:`Sink.send` starts the process if needed and never blocks on the
network; everything that comes back comes through :meth:`Sink.poll`; after a death of its own ``poll`` gives one ``died``
message, after :meth:`Sink.kill` none, and nothing more of that process either way. :meth:`Sink.send`,
:meth:`Sink.warm` and :meth:`Sink.probe` raise :class:`DiskFull` when the process cannot be started.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from wandb_outbox.deliver.processes import MARK, kill_marked
from wandb_outbox.deliver.protocol import Job, decode, encode, job_to_json
from wandb_outbox.errors import DiskFull

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "NETRC", "CREDENTIALS_DIRECTORY",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE",
    "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "WANDB_API_KEY", "WANDB_USERNAME",
)  # fmt: skip
"""All that the uploader's environment takes over from ours; everything else is made.

With the interpreter of a cluster's module, which finds its own libraries by them only, it would not even start otherwise.
"""

LOG_NAME = "uploader.log"


def uploader_environment(environ: Mapping[str, str], *, base_url: str, directory: str, mark: str) -> dict[str, str]:
    """The environment of an uploader: made, not inherited, so that no stray WANDB_MODE or WANDB_RUN_ID can steer it.

    The SDK writes to six places; all of them are below ``directory``.
    """
    made = {name: environ[name] for name in PASSED_ON if name in environ}
    made |= {
        MARK: mark,
        "WANDB_BASE_URL": base_url,
        "WANDB_DIR": directory,
        "WANDB_CACHE_DIR": os.path.join(directory, "cache"),
        "WANDB_DATA_DIR": os.path.join(directory, "data"),
        "WANDB_CONFIG_DIR": os.path.join(directory, "config"),
        "WANDB_ARTIFACT_DIR": os.path.join(directory, "artifacts"),
        "TMPDIR": os.path.join(directory, "tmp"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        "PYTHONUNBUFFERED": "1",
    }
    return made


class Sink:
    """At most one uploader process at a time."""

    def __init__(
        self, environ: Mapping[str, str], *, base_url: str, directory: str, mark: str, wake: Callable[[], None]
    ) -> None:
        """``mark`` is what every uploader of this outbox carries; ``wake`` is called when there is something to poll."""
        self._environ = environ
        self._base_url = base_url
        self._directory = directory
        self._mark = mark
        self._wake = wake
        self._messages: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._generation = 0
        self._warmed = -1
        self._current_mark = ""

    @property
    def pid(self) -> int | None:
        """The running uploader's process id."""
        return self._process.pid if self._process is not None else None

    def end_leftovers(self) -> int:
        """End what an earlier executor of this outbox left running; returns how many processes that were."""
        return kill_marked(self._mark)

    def send(self, job: Job) -> None:
        """Hand over one delivery."""
        self._write(job_to_json(job))

    def allow(self, key: int, *, recorded: bool) -> None:
        """Whether the run id of this delivery is recorded: then contact may begin, else the delivery ends."""
        self._write({"do": "go", "key": key, "recorded": recorded})

    def probe(self) -> None:
        """Ask the server whether it is there; the answer comes through :meth:`poll`."""
        self._write({"do": "probe"})

    def warm(self) -> None:
        """Have an uploader ready, with all that it needs loaded, for a delivery that is about to come."""
        if self._process is None or self._warmed != self._generation:
            self._write({"do": "warm"})
            self._warmed = self._generation

    def poll(self) -> list[dict[str, Any]]:
        """Everything that the uploader has said since the last call."""
        found: list[dict[str, Any]] = []
        while True:
            try:
                generation, message = self._messages.get_nowait()
            except queue.Empty:
                return found
            if generation != self._generation:
                continue  # the last words of one that was killed
            if message["is"] == "died":
                self._reap()
            found.append(message)

    def kill(self) -> None:
        """End the uploader and everything it started, at once; :meth:`poll` gives no ``died`` for it."""
        if self._process is None:
            return
        self._generation += 1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """End an idle uploader."""
        self.kill()

    def _write(self, message: dict[str, Any]) -> None:
        if self._process is None:
            self._start()
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(encode(message))
            process.stdin.flush()
        except OSError:
            pass  # it has died; the reader tells of it

    def _start(self) -> None:
        try:
            self._launch()
        except OSError as error:
            raise DiskFull(
                f"the uploader cannot be started: {error}",
                hint=f"make room on the disk of {self._directory}, and see that this user may write there",
            ) from error

    def _launch(self) -> None:
        self._clear()
        for name in ("cache", "data", "config", "artifacts", "tmp"):
            os.makedirs(os.path.join(self._directory, name), mode=0o700, exist_ok=True)
        self._generation += 1
        self._current_mark = f"{self._mark}{secrets.token_hex(4)}"
        with open(os.path.join(self._directory, LOG_NAME), "wb") as log:
            self._process = subprocess.Popen(
                # -P keeps the working directory, which holds run data's temporary files, off the module path.
                [sys.executable, "-P", "-m", "wandb_outbox.deliver.uploader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._directory,
                env=uploader_environment(
                    self._environ, base_url=self._base_url, directory=self._directory, mark=self._current_mark
                ),
                start_new_session=True,
            )
        stdout = self._process.stdout
        if stdout is not None:
            threading.Thread(target=self._read, args=(stdout, self._generation), daemon=True, name="uploader").start()

    def _read(self, stream: IO[bytes], generation: int) -> None:
        try:
            for line in stream:
                try:
                    self._messages.put((generation, decode(line)))
                except (ValueError, TypeError, json.JSONDecodeError):
                    continue
                self._wake()
        except (OSError, ValueError):
            pass
        self._messages.put((generation, {"is": "died"}))
        self._wake()

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # Its SDK process has a session of its own and may outlive it for many minutes: found by the mark it carries.
        kill_marked(self._current_mark)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        self._clear()

    def _clear(self) -> None:
        """What an uploader leaves of its runs is worth nothing: only the server's answers count."""
        for name in ("wandb", "cache", "data", "artifacts", "tmp"):
            shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)

    def last_words(self) -> str:
        """The end of what the uploader printed, for the error of a crash."""
        try:
            with open(os.path.join(self._directory, LOG_NAME), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""
