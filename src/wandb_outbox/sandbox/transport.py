"""Sockets and HTTP: connections, bodies, and the faults that need the raw socket.

What a request means is decided elsewhere: the transport hands it to a handler and sends what comes back.
"""

import contextlib
import gzip
import json
import logging
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

from wandb_outbox.sandbox.blobs import CHUNK, Reader
from wandb_outbox.sandbox.faults import ActiveFault, Fault, FaultBox
from wandb_outbox.sandbox.names import ApiError

_log = logging.getLogger(__name__)

MAX_BODY = 256 << 20
"""Bytes of a request body that is read into memory at most."""

_HANG_POLL = 0.05
_IDLE_TIMEOUT = 600.0


@dataclass(slots=True)
class Request:
    """A request, its body read unless it is a put.

    Attributes:
        method: As sent.
        path: Without the query.
        query: What follows the `?`.
        headers: By lower-case name.
        body: Bytes, unpacked if they were sent with gzip.
        length: Bytes of the body on the wire.
        unread: How many of them nobody has read yet.
        read: Reads the body of a put.
        operation: Name for faults and records.
        family: The group that the operation belongs to.
        document: What the handler has already made of the body.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    length: int = 0
    unread: int = 0
    read: Reader | None = None
    operation: str = ""
    family: str = ""
    document: Any = None

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ApiError: 400; it is none.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ApiError(400, f"not JSON: {error}") from error


@dataclass(slots=True)
class Response:
    """An answer; its body is bytes, or a part of a file."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    offset: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """A record of a request.

    Attributes:
        operation: GraphQL operation name, or `file_stream`, `put`, `get`, `page`, `healthz`, ...
        method: HTTP method.
        path: Without the query; signatures are left out.
        status: Of the answer; 0 if none was sent.
        fault: The action of the fault that hit it, or None.
        request_bytes: Length of the body.
        seconds: How long it took.
        time: When it came, in seconds since the epoch.
    """

    operation: str
    method: str
    path: str
    status: int
    fault: str | None
    request_bytes: int
    seconds: float
    time: float


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the transport needs from the rest.

    Attributes:
        classify: Names the operation of a request; the body is there unless it is a put.
        handle: Carries it out.
        refusal: Makes the answer of a `status` or `html` fault.
        record: Keeps a record.
    """

    classify: Callable[[Request], None]
    handle: Callable[[Request], Response]
    refusal: Callable[[Request, Fault], Response]
    record: Callable[[Served], None]


class _AbortError(Exception):
    """The connection is to be reset without another byte."""


class _Threads:
    """Threads that take up one connection after another: clients open them faster than threads can be made."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def run(self, work: Callable[[], None]) -> None:
        """Do the work at once, in a thread that is idle or else in a new one."""
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._serve, name="sandbox-connection", daemon=True).start()
            self._count += 1
        self._work.put(work)

    def stop(self) -> None:
        """Let each of them end with what it does now; from here on there is no work."""
        for _ in range(self._count):
            self._work.put(None)

    def _serve(self) -> None:
        while work := self._work.get():
            work()
            del work  # not to be held until the next one comes
            self._idle.release()


class Server:
    """A listening socket, a thread for it, and one for each connection."""

    def __init__(self, host: str, port: int, handlers: Handlers, faults: FaultBox) -> None:
        """Bind and listen, without accepting yet.

        Args:
            host: The address to bind.
            port: The port; 0 for any free one.
            handlers: What to do with requests.
            faults: Faults at work.

        Raises:
            OSError: The address is not free.
        """
        self.handlers = handlers
        self.faults = faults
        self.stopping = threading.Event()
        self._up = threading.Event()
        self._lock = threading.Lock()
        self._threads = _Threads()
        self._connections: set[socket.socket] = set()
        self._none_left = threading.Condition(self._lock)
        self._timer: threading.Timer | None = None
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="sandbox-accept", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self.up()
        self._thread.start()

    def up(self) -> None:
        """Listen on the port again."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._up.is_set() and not self.stopping.is_set():
                self._socket.listen(128)
                self._up.set()

    def down(self, seconds: float | None = None) -> None:
        """Stop listening and cut all connections; the port stays ours, clients are refused.

        Args:
            seconds: Come back after so long; None for not by itself.
        """
        with self._lock:
            if self._up.is_set():
                self._up.clear()
                # On Linux this ends listening and keeps the port; close() would give the port away.
                self._socket.shutdown(socket.SHUT_RDWR)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if seconds is not None:
                self._timer = threading.Timer(seconds, self.up)
                self._timer.daemon = True
                self._timer.start()
        self._cut_connections()

    def _cut_connections(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End the server and wait for its threads."""
        self.stopping.set()
        self.faults.clear()
        self.down()
        self._up.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        with self._none_left:
            self._none_left.wait_for(lambda: not self._connections, timeout=5)
        self._threads.stop()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            self._up.wait()
            try:
                connection, address = self._socket.accept()
            except OSError:
                continue
            with self._lock:
                self._connections.add(connection)
                refused = not self._up.is_set()
            self._threads.run(partial(self._converse, connection, address))
            if refused:
                self._cut_connections()

    def _converse(self, connection: socket.socket, address: Any) -> None:
        try:
            _Connection(connection, address, cast("Any", self))
        except (OSError, ValueError) as error:
            _log.debug("sandbox: connection ended: %s", error)
        finally:
            with contextlib.suppress(OSError):
                connection.close()
            with self._none_left:
                self._connections.discard(connection)
                self._none_left.notify_all()


def _bind(host: str, port: int) -> socket.socket:
    if port == 0:
        # A port that the kernel chose at bind time is lost when listening ends, one that was asked for is not.
        with _bind_once(host, 0) as probe:
            return _bind_once(host, probe.getsockname()[1])
    return _bind_once(host, port)


def _bind_once(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


class _Connection(BaseHTTPRequestHandler):
    """One connection: reads requests until the client leaves."""

    protocol_version = "HTTP/1.1"
    server_version = "wandb-outbox-sandbox"
    sys_version = ""
    disable_nagle_algorithm = True
    rbufsize = 1 << 16
    timeout = _IDLE_TIMEOUT

    server: Server  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the standard handler off stderr."""
        _log.debug(format, *args)

    def __getattr__(self, name: str) -> Any:
        """Serve every method in the same way."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        began, clock = time.time(), time.perf_counter()
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers)
        status, active = 0, None
        try:
            if self._read_body(request):
                self.server.handlers.classify(request)
                active = self.server.faults.match(request.operation, request.family) if request.family else None
                status = self._answer(request, active)
        except (_AbortError, ConnectionError, TimeoutError):
            self._reset()
        finally:
            shown = "/storage/" + request.operation if path.startswith("/storage/") else path
            fault = active.fault.action if active else None
            seconds = time.perf_counter() - clock
            self.server.handlers.record(
                Served(request.operation, self.command, shown, status, fault, request.length, seconds, began)
            )

    def _read_body(self, request: Request) -> bool:
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not length.isdecimal():
            self._send(Response(HTTPStatus.LENGTH_REQUIRED))
            self.close_connection = True
            return False
        request.length = int(length)
        if request.method == "PUT":
            request.unread = request.length
            request.read = self._body_reader(request, None)
            return True
        if request.length > MAX_BODY:
            self._send(Response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
            self.close_connection = True
            return False
        body = self.rfile.read(request.length) if request.length else b""
        if len(body) < request.length:
            raise ConnectionError("the request ended early")
        request.body = gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body
        return True

    def _body_reader(self, request: Request, bytes_per_second: int | None) -> Reader:
        source = cast("Any", self.rfile)

        def read(buffer: memoryview) -> int:
            if bytes_per_second:
                buffer = buffer[: max(bytes_per_second // 10, 1)]
                self._pause(len(buffer) / bytes_per_second)
            count = int(source.readinto1(buffer[: request.unread]))
            request.unread -= count
            return count

        return read

    def _pause(self, seconds: float) -> None:
        if self.server.stopping.wait(seconds):
            raise _AbortError

    def _answer(self, request: Request, active: ActiveFault | None) -> int:
        if active is None:
            return self._send(self._carry_out(request))
        fault = active.fault
        match fault.action:
            case "hang":
                self._hang(active)
            case "slow":
                if fault.delay and not active.wait(0):
                    active.wait(fault.delay)
                request.read = self._body_reader(request, fault.bytes_per_second)
                return self._send(self._carry_out(request), fault.bytes_per_second)
            case "status" | "html":
                self._drain(request)
                return self._send(self.server.handlers.refusal(request, fault))
            case "lost-reply":
                self._carry_out(request)
            case "cut" if request.method == "PUT":
                self._drain(request, fault.after_bytes)
            case "cut":
                return self._send(self._carry_out(request), cut=fault.after_bytes)
        raise _AbortError

    def _carry_out(self, request: Request) -> Response:
        try:
            response = self.server.handlers.handle(request)
            # An answer to a put that was refused before it was read: a client that is still sending would be reset, and
            # what it sends would be taken for its next request.
            self._drain(request)
        except (ConnectionError, _AbortError):
            raise
        except Exception:  # noqa: BLE001  (the client gets an answer, whatever went wrong)
            _log.exception("sandbox: internal error in %s %s", request.method, request.path)
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, b'{"error":"internal server error"}')
        return response

    def _drain(self, request: Request, limit: int | None = None) -> None:
        if request.read is None:
            return
        left = request.unread if limit is None else min(limit, request.unread)
        buffer = memoryview(bytearray(min(CHUNK, max(left, 1))))
        while left:
            count = request.read(buffer[: min(left, len(buffer))])
            if not count:
                raise ConnectionError("the request ended early")
            left -= count

    def _hang(self, active: ActiveFault) -> None:
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while not self.server.faults.released(active) and not self.server.stopping.is_set():
            if poll.poll(_HANG_POLL * 1000):
                return

    def _send(self, response: Response, bytes_per_second: int | None = None, cut: int | None = None) -> int:
        status = int(response.status)
        length = response.length if response.file is not None else len(response.body)
        headers = {"Content-Length": str(length), **response.headers}
        if self.close_connection:
            headers["Connection"] = "close"
        head = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{name}: {value}" for name, value in headers.items())]
        prefix = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1", "replace")
        has_body = self.command != "HEAD"
        if response.file is None and bytes_per_second is None and cut is None:
            self.connection.sendall(prefix + (response.body if has_body else b""))
            return status
        self.connection.sendall(prefix)
        if has_body:
            self._send_body(response, length if cut is None else min(cut, length), bytes_per_second)
        if cut is not None:
            raise _AbortError
        return status

    def _send_body(self, response: Response, length: int, bytes_per_second: int | None) -> None:
        step = length if bytes_per_second is None else max(bytes_per_second // 10, 1)
        sent = 0
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(response.file.open("rb")) if response.file is not None else None
            while sent < length:
                count = min(step, length - sent)
                if source is None:
                    self.connection.sendall(response.body[sent : sent + count])
                else:
                    # A timeout makes the socket non-blocking underneath, which a bare os.sendfile does not wait for.
                    self.connection.sendfile(source, response.offset + sent, count)
                sent += count
                if bytes_per_second is not None:
                    self._pause(count / bytes_per_second)

    def _reset(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
