"""Ask the server small questions of our own: whether it is there, whether it knows us, how long a run's log is.

The SDK's exceptions cannot tell (429, 401 and "no network" look alike through it), so after every failure this answer
decides. It is the ``Viewer`` query that the SDK itself begins with, sent with the standard library. The SDK's own process
asks for the length of the log, too, when it resumes a run, but tells nobody.
"""

from __future__ import annotations

import base64
import email.utils
import http
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from enum import StrEnum

TIMEOUT = 10.0
DEFAULT_RETRY_AFTER = 30.0
MAX_RETRY_AFTER = 3600.0
_QUERY = json.dumps(
    {"operationName": "Viewer", "query": "query Viewer { viewer { id entity username } }", "variables": {}}
)


_LOG_QUERY = """query RunLogLines($entity: String!, $project: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { logLineCount } }
}"""


class ServerState(StrEnum):
    """What the server is to us now."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNAUTHORIZED = "unauthorized"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. ``entity`` is where runs go by default; ``retry_after`` is in seconds."""

    state: ServerState
    detail: str
    entity: str | None = None
    retry_after: float | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for this server alone: a redirect is an answer, and not followed with the key in hand."""

    def redirect_request(self, *_: object) -> None:
        return None


def ask_server(base_url: str, key: str | None) -> Answer:
    """The server's answer; never raises. Proxies of the environment are used, as the SDK does."""
    if not key:
        return Answer(ServerState.UNAUTHORIZED, "there is no API key")
    try:
        status, body = _ask(base_url, key, _QUERY)
        return read_answer(status, body, None)
    except urllib.error.HTTPError as error:
        with error:
            try:
                body = error.read(1 << 16)
            except (OSError, http.client.HTTPException):
                body = b""
            return read_answer(error.code, body, error.headers.get("Retry-After"))
    except urllib.error.URLError as error:
        return Answer(ServerState.OFFLINE, f"{base_url} cannot be reached ({_line(error.reason)})")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(ServerState.OFFLINE, f"{base_url} cannot be reached ({_line(error)})")


def _line(reason: object) -> str:
    """A reason in one line that may be printed: it may quote what stands at this address, and that need not be W&B."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(reason))
    return " ".join(text.split())[:200] or type(reason).__name__


def ask_log_lines(base_url: str, key: str | None, entity: str, project: str, run: str) -> int | None:
    """How many lines of its log the server has of a run: 0 when it has no such run, ``None`` when it does not tell.

    A server that stands for W&B may know the SDK's own questions only. Raises ``OSError``.
    """
    variables = {"entity": entity, "project": project, "run": run}
    question = json.dumps({"operationName": "RunLogLines", "query": _LOG_QUERY, "variables": variables})
    try:
        _, body = _ask(base_url, key or "", question)
        return read_log_lines(body)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.BAD_REQUEST:
            raise
        with error:
            return read_log_lines(error.read(1 << 16))
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"the server does not say how long the log of {run} is ({type(error).__name__})") from error


def read_log_lines(body: bytes) -> int | None:
    """What an answer to that question means. Raises ``ValueError`` for one that is no answer of a GraphQL server."""
    try:
        answer = json.loads(body)
        if answer.get("errors"):
            return None
        run = (answer["data"]["project"] or {}).get("run") or {}
        return int(run["logLineCount"] or 0) if run else 0
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("this is no answer to the question") from error


def _ask(base_url: str, key: str, question: str) -> tuple[int, bytes]:
    token = base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310  the settings allow http and https only
        base_url + "/graphql",
        data=question.encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Basic {token}",
            "User-Agent": "wandb-outbox",
        },
    )
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT) as response:
        return response.status, response.read(1 << 20)


def read_answer(status: int, body: bytes, retry_after: str | None) -> Answer:
    """What an HTTP answer to the viewer query means."""
    if status in (401, 403):
        return Answer(ServerState.UNAUTHORIZED, f"the server does not accept the API key (HTTP {status})")
    if status == 429:
        return Answer(
            ServerState.THROTTLED, "the server asks us to slow down (HTTP 429)", retry_after=seconds(retry_after)
        )
    if status != 200:
        return Answer(ServerState.OFFLINE, f"the server answers HTTP {status}")
    try:
        viewer = json.loads(body)["data"]["viewer"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return Answer(ServerState.OFFLINE, "something else than W&B answers at this address (a proxy or login page?)")
    if not isinstance(viewer, dict):
        return Answer(ServerState.UNAUTHORIZED, "the server does not know the API key")
    entity = viewer.get("entity")
    return Answer(ServerState.ONLINE, "", entity=entity if isinstance(entity, str) and entity else None)


def seconds(retry_after: str | None) -> float:
    """``Retry-After`` in either of its forms (RFC 9110, 10.2.3), bounded; a default when it says nothing usable."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    when = email.utils.parsedate_tz(text) if text else None
    try:
        wait = DEFAULT_RETRY_AFTER if when is None else email.utils.mktime_tz(when) - time.time()
    except (ValueError, OverflowError):
        wait = DEFAULT_RETRY_AFTER
    return min(max(wait, 0.0), MAX_RETRY_AFTER)
