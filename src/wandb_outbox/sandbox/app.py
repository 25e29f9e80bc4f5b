"""What each HTTP path of the sandbox does."""

import base64
import hmac
import json
import logging
import mimetypes
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import parse_qs, unquote

from wandb_outbox.sandbox import pages, urls
from wandb_outbox.sandbox.blobs import hex_to_base64
from wandb_outbox.sandbox.faults import Fault
from wandb_outbox.sandbox.graph import Graph, Prepared
from wandb_outbox.sandbox.names import ApiError
from wandb_outbox.sandbox.operations import Context, Mutation, Query
from wandb_outbox.sandbox.store import Store
from wandb_outbox.sandbox.transport import Request, Response
from wandb_outbox.sandbox.urls import Signer

_log = logging.getLogger(__name__)

_OPEN_FIELDS = frozenset({"viewer", "serverInfo", "__typename", "__schema", "__type"})
"""Root fields that a request without a key may ask for: the real server answers with an empty viewer."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_HOST = re.compile(r"[\w.\-\[\]:]+")


CONTROL_PATHS = frozenset(f"/sandbox/{name}" for name in ("state", "requests", "faults", "down", "delete_run"))
"""The sandbox's own interface. All else under `/sandbox/` are the pages of the entity of that name."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A request that the sandbox does not model.

    Attributes:
        operation: GraphQL operation name, or the HTTP method.
        path: The path.
        message: What is missing.
    """

    operation: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class _GraphRequest:
    prepared: Prepared
    variables: Any
    operation: str | None


Control = Callable[[Request], Any]
"""Answers a request to the sandbox's own interface with a JSON value."""


class App:
    """Routes requests, and answers them from the store."""

    def __init__(
        self, store: Store, graph: Graph, *, api_key: str, default_url: Callable[[], str], control: Control
    ) -> None:
        """Put the pieces together.

        Args:
            store: The state.
            graph: Runs GraphQL.
            api_key: The only key that is let in.
            default_url: Gives the base URL for a client that sends no `Host`.
            control: Answers `/sandbox/...`.
        """
        self._store = store
        self._graph = graph
        self._api_key = api_key
        self._default_url = default_url
        self._control = control
        self._signer = Signer(store.secret)
        self._lock = threading.Lock()
        self._unknown: list[Unknown] = []

    @property
    def unknown(self) -> list[Unknown]:
        """The requests so far that are not modelled."""
        with self._lock:
            return list(self._unknown)

    def _note_unknown(self, operation: str, path: str, message: str) -> None:
        _log.warning("sandbox: not modelled: %s %s: %s", operation, path, message)
        with self._lock:
            self._unknown.append(Unknown(operation, path, message))

    # Naming

    def classify(self, request: Request) -> None:
        """Name the operation of a request, and read a GraphQL body for it."""
        path = request.path
        if path == "/graphql":
            request.family = "graphql"
            request.operation = self._read_graphql(request)
        elif path.startswith("/files/") and path.endswith("/file_stream"):
            request.operation = request.family = "file_stream"
        elif path.startswith(urls.PREFIX):
            request.operation = request.family = "put" if request.method == "PUT" else "get"
        elif path.startswith(("/artifacts/", "/artifactsV2/")):
            request.operation = request.family = "get"
        elif path in CONTROL_PATHS:
            request.operation = "sandbox"
        elif path.startswith("/sdk/otel/"):
            request.operation = request.family = "telemetry"
        elif path == "/healthz":
            request.operation = request.family = "healthz"
        else:
            request.operation = request.family = "page"

    def _read_graphql(self, request: Request) -> str:
        try:
            document = json.loads(request.body)
            query = document["query"]
            operation = document.get("operationName") or None
        except (KeyError, TypeError, ValueError):
            return "malformed"
        if not isinstance(query, str):
            return "malformed"
        prepared = self._graph.prepare(query)
        request.document = _GraphRequest(prepared, document.get("variables"), operation)
        return prepared.name(operation)

    # Answering

    def handle(self, request: Request) -> Response:
        """Carry a request out."""
        try:
            match request.operation if not request.family else request.family:
                case "graphql":
                    return self._graphql(request)
                case "file_stream":
                    return self._file_stream(request)
                case "put":
                    return self._put(request)
                case "get":
                    return self._get(request)
                case "sandbox":
                    return self._sandbox(request)
                case "telemetry":
                    return _json(200, {})
                case "healthz":
                    return Response(200, b"ok\n", {"Content-Type": "text/plain"})
                case _:
                    return self._page(request)
        except ApiError as error:
            return _json(error.status, {"error": error.message, "errors": [{"message": error.message}]})

    def refusal(self, request: Request, fault: Fault) -> Response:
        """Return the answer of a `status` or `html` fault, in the form that the path's real server gives."""
        words = fault.words()
        if fault.action == "html":
            page = f"<!doctype html><html><head><title>{fault.status}</title></head><body>{escape(words)}</body></html>"
            response = Response(fault.status, page.encode(), {"Content-Type": "text/html; charset=utf-8"})
        elif request.family in {"put", "get"}:
            response = _storage_error(fault.status, "InjectedFault", words)
        else:
            response = _json(fault.status, {"error": words, "errors": [{"message": words}]})
        if fault.retry_after is not None:
            response.headers["Retry-After"] = str(fault.retry_after)
        return response

    def _signed_in(self, request: Request) -> bool:
        """Return whether the request has the key.

        Raises:
            ApiError: 401; it has another one.
        """
        header = request.headers.get("authorization")
        if not header:
            return False
        scheme, _, value = header.partition(" ")
        key = value.strip()
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key).decode().partition(":")[2]
            except ValueError:
                key = ""
        if not hmac.compare_digest(key.encode(), self._api_key.encode()):
            raise ApiError(401, "user is not logged in", "PERMISSION_ERROR")
        return True

    def _require_key(self, request: Request) -> None:
        if not self._signed_in(request):
            raise ApiError(401, "user is not logged in", "PERMISSION_ERROR")

    def _context(self, request: Request) -> Context:
        host = request.headers.get("host", "")
        return Context(self._store, self._signer, f"http://{host}" if _HOST.fullmatch(host) else self._default_url())

    def _graphql(self, request: Request) -> Response:
        signed_in = self._signed_in(request)
        asked = request.document
        if request.method != "POST" or not isinstance(asked, _GraphRequest):
            return _json(400, {"errors": [{"message": "not a GraphQL request"}]})
        valid = not asked.prepared.errors
        if valid and not signed_in and not asked.prepared.root_fields(asked.operation) <= _OPEN_FIELDS:
            self._require_key(request)
        context = self._context(request)
        with self._store.transaction():
            roots = {"query": Query(context, signed_in=signed_in), "mutation": Mutation(context)}
            status, body, invalid = self._graph.execute(asked.prepared, roots, asked.variables, asked.operation)
        if invalid:
            self._note_unknown(request.operation, request.path, invalid)
        return _json(status, body)

    def _file_stream(self, request: Request) -> Response:
        self._require_key(request)
        parts = [unquote(part) for part in request.path.split("/")[2:-1]]
        if len(parts) != 3 or request.method != "POST":
            raise ApiError(404, "not found")
        try:
            data = json.loads(request.body or b"{}")
        except ValueError as error:
            raise ApiError(400, f"file_stream: not JSON: {error}") from error
        with self._store.transaction() as store:
            return _json(200, store.file_stream(store.require_run(*parts), data))

    def _put(self, request: Request) -> Response:
        grant = self._signer.check(request.path)
        if grant is None or grant.action != "put" or request.method != "PUT" or request.read is None:
            return _storage_error(403, "SignatureDoesNotMatch", "the signature of the URL is not ours", close=True)
        announced = request.headers.get("content-md5", "")
        if grant.md5 and announced != grant.md5:
            return _storage_error(
                403, "SignatureDoesNotMatch", "Content-MD5 is not the one that was signed", close=True
            )
        received = self._store.blobs.receive(request.read, request.length)
        if announced and announced != hex_to_base64(received.md5):
            self._store.blobs.drop(received)
            return _storage_error(400, "BadDigest", "the Content-MD5 you specified did not match what we received")
        with self._store.transaction() as store:
            store.take_blob(grant.key, received)
        return Response(200, b"", {"ETag": f'"{received.md5}"'})

    def _get(self, request: Request) -> Response:
        if request.path.startswith(urls.PREFIX):
            grant = self._signer.check(request.path)
            if grant is None or grant.action != "get":
                return _storage_error(403, "SignatureDoesNotMatch", "the signature of the URL is not ours")
            key = grant.key
        else:
            self._require_key(request)
            key = self._artifact_key(request.path)
        with self._store.transaction() as store:
            blob = store.blob(key)
        if blob is None:
            return _storage_error(404, "NoSuchKey", "there are no such bytes")
        path = self._store.blobs.path(key)
        size = blob.size
        headers = {
            "Content-Type": mimetypes.guess_type(request.path)[0] or "application/octet-stream",
            "ETag": f'"{blob.md5}"',
            "Accept-Ranges": "bytes",
        }
        span = _span(request.headers.get("range"), size)
        if span is None:
            return Response(200, headers=headers, file=path, length=size)
        first, last = span
        if first >= size or first > last:
            return Response(416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return Response(206, headers=headers, file=path, offset=first, length=last - first + 1)

    def _artifact_key(self, path: str) -> str:
        parts = [unquote(part) for part in path.split("/")]
        if path.startswith("/artifactsV2/") and len(parts) >= 8:
            with self._store.transaction() as store:
                collection = store.collection(parts[3], parts[4], parts[5])
            if collection is not None:
                return f"artifact/{collection.number}/{parts[-2]}"
        raise ApiError(404, "artifact file not found")

    def _sandbox(self, request: Request) -> Response:
        if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise ApiError(415, "send application/json")
        return _json(200, self._control(request))

    def _page(self, request: Request) -> Response:
        parts = [unquote(part) for part in request.path.split("/") if part]
        html = None
        if request.method in {"GET", "HEAD"}:
            with self._store.transaction() as store:
                match parts:
                    case []:
                        html = pages.index(store)
                    case [entity, project] | [entity, project, "runs" | "artifacts" | "workspace"]:
                        html = pages.project(store, entity, project)
                    case [entity, project, "runs", run, *_]:
                        html = pages.run(store, entity, project, run)
                    case [entity, project, "artifacts", _, name, version, *_]:
                        html = pages.artifact(store, entity, project, name, version)
                    case _:
                        html = None
        if html is None:
            self._note_unknown(request.method, request.path, "no such page")
            return _json(404, {"error": "not found"})
        return Response(
            200, html.encode(), {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _CSP}
        )


_CSP = "default-src 'none'; style-src 'unsafe-inline'"


def _json(status: int, value: Any) -> Response:
    return Response(status, json.dumps(value, separators=(",", ":")).encode(), {"Content-Type": "application/json"})


def _storage_error(status: int, code: str, message: str, *, close: bool = False) -> Response:
    body = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    headers = {"Content-Type": "application/xml"}
    if close:
        headers["Connection"] = "close"
    return Response(status, body.encode(), headers)


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    found = _RANGE.fullmatch(header or "")
    if found is None or found.group() == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


def query_parameters(request: Request) -> Mapping[str, str]:
    """Return the parameters in a request's query, the last of each name."""
    return {name: values[-1] for name, values in parse_qs(request.query).items()}
