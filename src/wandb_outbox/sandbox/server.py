"""The sandbox as one object: `with Sandbox() as sandbox:` serves in threads of this process."""

import os
import shutil
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

from wandb_outbox.sandbox.app import App, Unknown, query_parameters
from wandb_outbox.sandbox.blobs import BlobStore
from wandb_outbox.sandbox.faults import Fault, FaultBox
from wandb_outbox.sandbox.graph import Graph, load_schema
from wandb_outbox.sandbox.journal import Journal
from wandb_outbox.sandbox.names import ApiError
from wandb_outbox.sandbox.operations import VIEWS, type_name
from wandb_outbox.sandbox.store import HEARTBEAT_TIMEOUT, Store
from wandb_outbox.sandbox.transport import Handlers, Request, Served, Server
from wandb_outbox.sandbox.views import ArtifactView, RunView, artifact_views, run_view, to_json

DEFAULT_KEY = "sandbox0" * 5
"""The key of a sandbox that is given none. It is no secret; it has the 40 characters that the SDK asks for."""

DEFAULT_ENTITY = "sandbox"


@cache
def _graph() -> Graph:
    """Return the executable schema; it holds no state, so all sandboxes of a process share it."""
    return Graph(load_schema(VIEWS, type_name))


class RequestLog(Sequence[Served]):
    """The requests that were served, oldest first; safe to read while more come in. Old ones go after 100,000."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._records: deque[Served] = deque(maxlen=100_000)

    def append(self, record: Served) -> None:
        """Add a record."""
        with self._lock:
            self._records.append(record)

    def _copy(self) -> list[Served]:
        with self._lock:
            return list(self._records)

    @overload
    def __getitem__(self, index: int) -> Served: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Served]: ...

    def __getitem__(self, index: int | slice) -> Served | Sequence[Served]:
        """Return a record, or several."""
        return self._copy()[index]

    def __len__(self) -> int:
        """Return how many there are."""
        with self._lock:
            return len(self._records)

    def __iter__(self) -> Iterator[Served]:
        """Iterate over those that are there now."""
        return iter(self._copy())

    def count_by_operation(self) -> Counter[str]:
        """Return how many requests each operation had."""
        return Counter(record.operation for record in self._copy())

    def of(self, operation: str) -> list[Served]:
        """Return the requests of one operation."""
        return [record for record in self._copy() if record.operation == operation]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._records.clear()


class Sandbox:
    """A loopback W&B server.

    Attributes:
        url: The base URL, without a trailing slash: `WANDB_BASE_URL`.
        api_key: The key: `WANDB_API_KEY`.
        entity: The entity of the only user.
        directory: Where the bytes, and with a directory of one's own also the state, are kept.
        requests: What was served.
    """

    def __init__(
        self,
        directory: Path | None = None,
        port: int = 0,
        api_key: str = DEFAULT_KEY,
        entities: Iterable[str] = (DEFAULT_ENTITY,),
        *,
        host: str = "127.0.0.1",
        seed: int = 0,
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a sandbox; it serves between `start()` and `stop()`, or as a context manager.

        Args:
            directory: Keeps the state over restarts; without one, everything is gone at the end.
            port: The port; 0 for any free one.
            api_key: The key that clients must send.
            entities: The user's own entity, then teams.
            host: The address to bind.
            seed: Decides which requests a fault with a rate below 1 hits.
            heartbeat_timeout: Seconds of silence after which a running run counts as crashed.
            clock: Gives seconds since the epoch.

        Raises:
            ValueError: No entity was given.
            OSError: The port is taken.
        """
        names = list(entities)
        if not names:
            raise ValueError("a sandbox needs an entity")
        self._own_directory = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix="wandb-sandbox-")) if directory is None else directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.api_key = api_key
        self.entity = names[0]
        self.requests = RequestLog()
        self._faults = FaultBox(seed)
        self._store = Store(
            user=names[0],
            entities=names[1:],
            blobs=BlobStore(self.directory / "blobs"),
            journal=None if self._own_directory else Journal(self.directory / "state.sqlite3"),
            clock=clock,
            heartbeat_timeout=heartbeat_timeout,
        )
        self._app = App(
            self._store,
            _graph(),
            api_key=api_key,
            default_url=lambda: self.url,
            control=self._control,
        )
        handlers = Handlers(self._app.classify, self._app.handle, self._app.refusal, self.requests.append)
        self._server = Server(host, port, handlers, self._faults)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.port}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()

    def stop(self) -> None:
        """End serving; requests that hang are let go. A directory of the sandbox's own making is deleted."""
        self._server.stop()
        with self._store.transaction():
            self._store.close()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        """Begin to serve."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End serving."""
        self.stop()

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point the SDK at the sandbox."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.api_key}

    # Failing

    def inject(self, fault: Fault) -> None:
        """Let a fault begin."""
        if fault.action == "refuse":
            self.down(fault.seconds)
        else:
            self._faults.inject(fault)

    def clear_faults(self) -> None:
        """End all faults, `refuse` too."""
        self._faults.clear()
        self._server.up()

    def down(self, seconds: float | None = None) -> None:
        """Refuse connections, for some seconds or until `up()`; what is in flight is cut."""
        self._server.down(seconds)

    def up(self) -> None:
        """Listen again."""
        self._server.up()

    # Looking

    @property
    def unknown(self) -> list[Unknown]:
        """Requests that the sandbox does not model; a test that drives the SDK wants none."""
        return self._app.unknown

    def runs(self, entity: str | None = None, project: str | None = None) -> list[RunView]:
        """Return the runs of a project, of an entity, or all, oldest first."""
        with self._store.transaction() as store:
            return [run_view(store, run) for run in store.runs(entity, project)]

    def run(self, entity: str, project: str, run_id: str) -> RunView | None:
        """Return a run, or None."""
        with self._store.transaction() as store:
            run = store.run(entity, project, run_id)
            return run_view(store, run) if run else None

    def artifacts(self, entity: str | None = None, project: str | None = None) -> list[ArtifactView]:
        """Return the artifact versions of a project, of an entity, or all, oldest first; pending and deleted too."""
        with self._store.transaction() as store:
            return artifact_views(store, entity, project)

    def delete_run(self, entity: str, project: str, run_id: str) -> None:
        """Delete a run as a person would in the browser.

        Raises:
            ApiError: There is no such run.
        """
        with self._store.transaction() as store:
            store.delete_run(store.require_run(entity, project, run_id))

    # The same over HTTP

    def _control(self, request: Request) -> Any:
        match request.method, request.path:
            case "GET", "/sandbox/state":
                return self._state(query_parameters(request).get("project"))
            case "GET", "/sandbox/requests":
                return [asdict(record) for record in self.requests]
            case "DELETE", "/sandbox/requests":
                self.requests.clear()
                return {}
            case "GET", "/sandbox/faults":
                return [fault.to_json() for fault in self._faults.list()]
            case "POST", "/sandbox/faults":
                return self._inject_json(request.json())
            case "DELETE", "/sandbox/faults":
                self.clear_faults()
                return {}
            case "POST", "/sandbox/down":
                return self._down_json(request.json())
            case "POST", "/sandbox/delete_run":
                record = request.json()
                self.delete_run(record["entity"], record["project"], record["run"])
                return {}
            case _:
                raise ApiError(404, "no such sandbox request")

    def _state(self, project: str | None) -> dict[str, Any]:
        entity, _, name = (project or "").partition("/")
        scope = (entity or None, name or None)
        return {
            "url": self.url,
            "entity": self.entity,
            "runs": [to_json(run) for run in self.runs(*scope)],
            "artifacts": [to_json(artifact) for artifact in self.artifacts(*scope)],
            "unknown": [asdict(each) for each in self.unknown],
            "requests": dict(self.requests.count_by_operation()),
        }

    def _inject_json(self, record: Any) -> dict[str, Any]:
        try:
            fault = Fault.from_json(record)
        except (TypeError, ValueError) as error:
            raise ApiError(400, str(error)) from error
        if fault.action == "refuse" and fault.seconds is None:
            raise ApiError(400, "refuse needs seconds here: nobody could end it")
        self.inject(fault)
        return fault.to_json()

    def _down_json(self, record: Any) -> dict[str, Any]:
        seconds = record.get("seconds") if isinstance(record, dict) else None
        if not isinstance(seconds, int | float) or seconds <= 0:
            raise ApiError(400, "down needs seconds above 0: nobody could end it")
        # The answer must get out before the connections are cut.
        threading.Timer(0.05, self.down, [seconds]).start()
        return {"seconds": seconds}


def write_port_file(path: Path, port: int) -> None:
    """Write the port to a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(f"{port}\n", "ascii")
    temporary.replace(path)
