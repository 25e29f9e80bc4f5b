"""The one small question to the server, asked of real sockets."""

from __future__ import annotations

import base64
import email.utils
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from wandb_outbox.deliver.probe import (
    DEFAULT_RETRY_AFTER,
    MAX_RETRY_AFTER,
    Answer,
    ServerState,
    ask_log_lines,
    ask_server,
    read_answer,
    seconds,
)

GOOD = b'{"data": {"viewer": {"id": "1", "entity": "team", "username": "alice"}}}'


class Server:
    """A web server that gives one answer, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = GOOD
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, self.path, dict(self.headers.items()), body))
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            do_GET = do_POST = _serve  # noqa: N815  the names that http.server looks for

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def ask(self) -> Answer:
        """What our question finds out."""
        return ask_server(self.url, "key")

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that nothing in the environment keeps us from."""
    monkeypatch.setenv("no_proxy", "*")
    made = Server()
    yield made
    made.stop()


def test_a_server_that_knows_the_key_is_online(server: Server) -> None:
    """With the entity that runs go to by default."""
    assert server.ask() == Answer(ServerState.ONLINE, "", "team")


def test_the_question_is_the_viewer_query_with_the_key(server: Server) -> None:
    """One POST, as the SDK begins."""
    server.ask()
    ((method, path, headers, body),) = server.asked
    assert (method, path) == ("POST", "/graphql")
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"api:key"
    assert json.loads(body)["operationName"] == "Viewer"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_unauthorized(server: Server, status: int) -> None:
    """Login refused: a person has to change the key."""
    server.status, server.body = status, b'{"error": "user is not logged in"}'
    answer = server.ask()
    assert answer.state is ServerState.UNAUTHORIZED
    assert str(status) in answer.detail


def test_a_server_that_does_not_know_the_key_is_unauthorized(server: Server) -> None:
    """W&B answers 200 with no viewer to a key that it does not know."""
    server.body = b'{"data": {"viewer": null}}'
    assert server.ask().state is ServerState.UNAUTHORIZED


def test_no_key_asks_nobody(server: Server) -> None:
    """Without a key there is nothing to ask."""
    for key in (None, ""):
        assert ask_server(server.url, key) == Answer(ServerState.UNAUTHORIZED, "there is no API key")
    assert server.asked == []


@pytest.mark.parametrize(
    ("header", "expected"), [("7", 7.0), ("0", 0.0), (None, DEFAULT_RETRY_AFTER), ("soon", DEFAULT_RETRY_AFTER)]
)
def test_a_throttling_server_says_how_long(server: Server, header: str | None, expected: float) -> None:
    """429 with Retry-After in seconds, or with nothing usable."""
    server.status = 429
    if header is not None:
        server.headers["Retry-After"] = header
    answer = server.ask()
    assert (answer.state, answer.retry_after) == (ServerState.THROTTLED, expected)


def test_a_throttling_server_may_name_a_date(server: Server) -> None:
    """The other form of Retry-After."""
    server.status = 429
    server.headers["Retry-After"] = email.utils.formatdate(time.time() + 100, usegmt=True)
    wait = server.ask().retry_after
    assert wait is not None
    assert 95 < wait <= 100


@pytest.mark.parametrize("status", [500, 502, 503, 504, 404, 400, 418])
def test_any_other_answer_is_offline(server: Server, status: int) -> None:
    """A server in trouble, or none of W&B's: wait, and use up nothing."""
    server.status, server.body = status, b"<html>trouble</html>"
    answer = server.ask()
    assert answer.state is ServerState.OFFLINE
    assert str(status) in answer.detail


@pytest.mark.parametrize(
    "body",
    [b"<html>Please log in to the hotel's network</html>", b"", b"[]", b"{}", b"null", b'{"data": null}',
     b'{"data": {}}', b'{"data": []}', b"\xff\xfe", b"[" * 100_000],
)  # fmt: skip
def test_a_page_that_is_not_w_and_b_is_offline(server: Server, body: bytes) -> None:
    """A captive portal answers 200 to everything; so may anything else."""
    server.body = body
    answer = server.ask()
    assert answer.state is ServerState.OFFLINE
    assert "proxy or login page" in answer.detail


@pytest.mark.parametrize("entity", ["null", '""', "7", "[]"])
def test_a_viewer_without_an_entity_is_online_without_one(server: Server, entity: str) -> None:
    """The key is known; where runs go has to be configured."""
    server.body = b'{"data": {"viewer": {"entity": %s}}}' % entity.encode()
    assert server.ask() == Answer(ServerState.ONLINE, "", None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_is_never_carried_to_where_a_redirect_leads(server: Server, status: int) -> None:
    """A portal that redirects gets no key at its own address."""
    elsewhere = Server()
    try:
        server.status, server.headers = status, {"Location": f"{elsewhere.url}/login"}
        answer = server.ask()
        assert elsewhere.asked == []
    finally:
        elsewhere.stop()
    assert answer.state is ServerState.OFFLINE
    assert HTTPStatus(status).name
    assert str(status) in answer.detail


def test_a_refused_connection_is_offline() -> None:
    """Nobody listens; the address is named."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    answer = ask_server(url, "key")
    assert answer.state is ServerState.OFFLINE
    assert answer.detail.startswith(f"{url} cannot be reached (")


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", b"HTTP/1.1 abc\r\n\r\n"]
)
def test_a_connection_that_breaks_or_speaks_nonsense_is_offline(said: bytes) -> None:
    """Closed without a word, another protocol, a body cut short."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        answer = ask_server(f"http://127.0.0.1:{listener.getsockname()[1]}", "key")
        thread.join()
    assert answer.state is ServerState.OFFLINE
    assert answer.detail


@pytest.mark.parametrize("url", ["http://nowhere.invalid", "http://[::1", "http://host name", "http://127.0.0.1:99999"])
def test_an_address_that_leads_nowhere_is_offline(url: str) -> None:
    """No name, no sense: an answer, not an exception."""
    assert ask_server(url, "key").state is ServerState.OFFLINE


def test_a_server_that_does_not_answer_is_offline_after_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection that is taken and left hanging ends by our own clock."""
    monkeypatch.setattr("wandb_outbox.deliver.probe.TIMEOUT", 0.1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        answer = ask_server(f"http://127.0.0.1:{listener.getsockname()[1]}", "key")
    assert answer.state is ServerState.OFFLINE
    assert "timed out" in answer.detail


def test_the_key_is_in_no_answer(server: Server) -> None:
    """Whatever happens, the words that go to logs and status do not hold it."""
    for status in (200, 302, 401, 429, 500):
        server.status = status
        assert "key" not in repr(ask_server(server.url, "sekrit")).replace("API key", "")
        assert "sekrit" not in repr(ask_server(server.url, "sekrit"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 12 ", 12.0),
        ("999999999999", MAX_RETRY_AFTER),
        ("9" * 500, MAX_RETRY_AFTER),
        ("-5", DEFAULT_RETRY_AFTER),
        ("1.5", DEFAULT_RETRY_AFTER),
        ("\xb2", DEFAULT_RETRY_AFTER),
        ("٣", DEFAULT_RETRY_AFTER),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("Mon, 01 Jan 99999 00:00:00 GMT", DEFAULT_RETRY_AFTER),
        ("Mon, 99 Foo 2026", DEFAULT_RETRY_AFTER),
        (None, DEFAULT_RETRY_AFTER),
        ("", DEFAULT_RETRY_AFTER),
    ],
)
def test_retry_after_is_read_and_bounded(text: str | None, expected: float) -> None:
    """Neither a hostile nor a broken header stops us for longer than an hour, or with an exception."""
    assert seconds(text) == expected


def test_an_answer_needs_no_retry_after_to_be_read() -> None:
    """Pure reading, as the probe uses it."""
    assert read_answer(200, GOOD, None).state is ServerState.ONLINE
    assert read_answer(503, b"", "7").retry_after is None


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b'{"data": {"project": {"run": {"logLineCount": 12}}}}', 12),
        (b'{"data": {"project": {"run": {"logLineCount": null}}}}', 0),
        (b'{"data": {"project": {"run": null}}}', 0),
        (b'{"data": {"project": null}}', 0),
        (b'{"errors": [{"message": "Cannot query field \\"logLineCount\\" on type \\"Run\\"."}], "data": null}', None),
    ],
)
def test_how_long_a_log_is_may_be_unknown(server: Server, body: bytes, lines: int | None) -> None:
    """A server that knows the SDK's questions only does not tell; that stops no delivery."""
    server.body = body
    assert ask_log_lines(server.url, "key", "team", "project", "run") == lines
    if lines is None:
        server.status = 400
        assert ask_log_lines(server.url, "key", "team", "project", "run") is None


@pytest.mark.parametrize(("status", "body"), [(500, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b"{}"), (404, b"{}")])
def test_no_answer_is_not_taken_for_an_unknown_length(server: Server, status: int, body: bytes) -> None:
    """Then the question is asked again later, with the delivery."""
    server.status, server.body = status, body
    with pytest.raises(OSError, match=r"."):
        ask_log_lines(server.url, "key", "team", "project", "run")


def test_what_is_no_web_server_is_quoted_in_one_line() -> None:
    """Whatever it says: words of strangers are no commands to a terminal, and no pages in ``status``."""
    with socket.create_server(("127.0.0.1", 0)) as there:

        def greet() -> None:
            connection, _ = there.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"SSH-2.0-\x1b[2Jhello\r\n" + b"x" * 5000)

        greeting = threading.Thread(target=greet)
        greeting.start()
        url = f"http://127.0.0.1:{there.getsockname()[1]}"
        answer = ask_server(url, "k")
        greeting.join()
    assert (answer.state, answer.detail) == (ServerState.OFFLINE, f"{url} cannot be reached (SSH-2.0- [2Jhello)")
