"""Talks to a sandbox in another process."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from wandb_outbox.sandbox.faults import Fault
from wandb_outbox.sandbox.views import ArtifactView, RunView, artifact_from_json, run_from_json

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Goes to the sandbox directly, whatever proxies the environment names."""


class SandboxClient:
    """What `Sandbox` offers, over HTTP."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        """Talk to the sandbox at a base URL, waiting `timeout` seconds for an answer at most."""
        self._url = url.rstrip("/")
        self._timeout = timeout

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with _OPENER.open(request, timeout=self._timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"sandbox: {error.code}: {error.read().decode(errors='replace')}") from error

    def wait_ready(self, seconds: float = 10.0) -> None:
        """Wait until the sandbox answers.

        Raises:
            TimeoutError: It did not within so many seconds.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                with _OPENER.open(f"{self._url}/healthz", timeout=self._timeout):
                    return
            except OSError as error:
                if time.monotonic() > end:
                    raise TimeoutError(f"no sandbox at {self._url}") from error
                time.sleep(0.05)

    def state(self, project: str | None = None) -> dict[str, Any]:
        """Return everything, or what belongs to one `entity/project`, as JSON."""
        answer: dict[str, Any] = self._call("GET", _with_project("/sandbox/state", project))
        return answer

    def runs(self, project: str | None = None) -> list[RunView]:
        """Return the runs, all or those of one `entity/project`."""
        return [run_from_json(record) for record in self.state(project)["runs"]]

    def artifacts(self, project: str | None = None) -> list[ArtifactView]:
        """Return the artifact versions, all or those of one `entity/project`."""
        return [artifact_from_json(record) for record in self.state(project)["artifacts"]]

    def requests(self) -> list[Mapping[str, Any]]:
        """Return the requests that were served."""
        answer: list[Mapping[str, Any]] = self._call("GET", "/sandbox/requests")
        return answer

    def clear_requests(self) -> None:
        """Forget the requests that were served."""
        self._call("DELETE", "/sandbox/requests")

    def inject(self, fault: Fault) -> None:
        """Let a fault begin.

        Raises:
            ValueError: The sandbox refuses it: a `refuse` needs `seconds`, for nobody could reach it to end it.
        """
        self._call("POST", "/sandbox/faults", fault.to_json())

    def clear_faults(self) -> None:
        """End all faults."""
        self._call("DELETE", "/sandbox/faults")

    def down(self, seconds: float) -> None:
        """Let the sandbox refuse connections for so many seconds."""
        self._call("POST", "/sandbox/down", {"seconds": seconds})

    def delete_run(self, entity: str, project: str, run_id: str) -> None:
        """Delete a run as a person would in the browser.

        Raises:
            ValueError: There is no such run.
        """
        self._call("POST", "/sandbox/delete_run", {"entity": entity, "project": project, "run": run_id})


def _with_project(path: str, project: str | None) -> str:
    return path if project is None else f"{path}?project={quote(project, safe='')}"
