"""A server that says yes and does something else: it stands before a sandbox and hands on what it does not lie about."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from wandb_outbox.sandbox import Sandbox

Alter = Callable[[Any], Any]
"""What becomes of an answer's JSON on its way back."""
_OPERATION = re.compile(rb'"operationName"\s*:\s*"(\w+)"|\b(?:query|mutation)\s+(\w+)')
_OF_ONE_HOP = {"connection", "transfer-encoding", "content-length", "expect", "accept-encoding"}


@contextmanager
def lying(sandbox: Sandbox, lies: dict[str, Alter]) -> Iterator[str]:
    """The address of a server that alters the answers to these GraphQL operations."""
    behind = sandbox.url.rpartition("/")[2]

    class Between(BaseHTTPRequestHandler):
        def _hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            named = _OPERATION.search(body) if self.path.startswith("/graphql") else None
            operation = (named[1] or named[2]).decode() if named else ""
            there = http.client.HTTPConnection(behind, timeout=30)
            # With the name of this server, so that signed addresses lead here, too.
            there.request(self.command, self.path, body, _of_both_ends(self.headers.items()))
            answer = there.getresponse()
            content = answer.read()
            there.close()
            if operation in lies:
                content = json.dumps(lies[operation](json.loads(content))).encode()
            self.send_response(answer.status)
            for name, value in _of_both_ends(answer.getheaders()).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _hand_on  # noqa: N815  names of the standard library

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _of_both_ends(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _OF_ONE_HOP}
