"""What the tests of the sandbox share: plain HTTP requests, and the real SDK with settings that fail fast."""

import json
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb

from wandb_outbox.sandbox import Sandbox

TEAM = "team"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


def call(url: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Make a plain HTTP request; an error status is an answer like any other."""
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return Answer(response.status, response.read(), dict(response.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(), dict(error.headers))


def graphql(sandbox: Sandbox, query: str, variables: Mapping[str, Any] | None = None, key: str | None = None) -> Answer:
    """Send a GraphQL request with the sandbox's key, or with another one; an empty key sends none."""
    key = sandbox.api_key if key is None else key
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    return call(f"{sandbox.url}/graphql", "POST", body, headers)


@dataclass(frozen=True)
class Sdk:
    """The real SDK with settings that fail fast, in a project of its own."""

    sandbox: Sandbox
    project: str
    folder: Path

    @property
    def id(self) -> str:
        """A run id of the test's own: after a failed init, wandb-core keeps an id for its whole life."""
        return f"run-{zlib.crc32(str(self.folder).encode()):08x}"

    def settings(self, **changes: Any) -> wandb.Settings:
        """Return fresh settings: `wandb.init` changes what it is given."""
        values: dict[str, Any] = {
            "base_url": self.sandbox.url,
            "api_key": self.sandbox.api_key,
            "init_timeout": 10,
            "finish_timeout": 10,
            "finish_timeout_raises": True,
            "x_graphql_timeout_seconds": 2,
            "x_graphql_retry_max": 1,
            "x_graphql_retry_wait_min_seconds": 1,
            "x_graphql_retry_wait_max_seconds": 1,
            "x_file_stream_timeout_seconds": 2,
            "x_file_stream_retry_max": 1,
            "x_file_stream_retry_wait_min_seconds": 1,
            "x_file_stream_retry_wait_max_seconds": 1,
            "x_file_transfer_retry_max": 1,
            "x_file_transfer_retry_wait_min_seconds": 1,
            "x_file_transfer_retry_wait_max_seconds": 1,
            "x_file_stream_transmit_interval": 0.05,
            "console": "off",
            "silent": True,
            "disable_git": True,
            "disable_code": True,
            "x_disable_stats": True,
            "x_disable_meta": True,
            "x_save_requirements": False,
            "x_disable_machine_info": True,
        }
        return wandb.Settings(**values | changes)

    def init(self, settings: Mapping[str, Any] | None = None, **arguments: Any) -> wandb.Run:
        """Begin a run."""
        arguments = {"project": self.project, "mode": "online"} | arguments
        return wandb.init(reinit="create_new", settings=self.settings(**settings or {}), dir=self.folder, **arguments)

    def api(self) -> wandb.Api:
        """Return a fresh public API, which has cached nothing."""
        return wandb.Api(
            overrides={"base_url": self.sandbox.url, "entity": self.sandbox.entity}, api_key=self.sandbox.api_key
        )

    def path(self, *parts: str) -> str:
        """Return `entity/project/...`."""
        return "/".join((self.sandbox.entity, self.project, *parts))

    def artifact(self, name: str, contents: Mapping[str, bytes], **arguments: Any) -> wandb.Artifact:
        """Return an unsaved artifact of files, which are not copied."""
        artifact = wandb.Artifact(name, type="dataset", **arguments)
        for path, content in contents.items():
            file = self.folder / "contents" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            artifact.add_file(str(file), name=path, policy="immutable", skip_cache=True)
        return artifact

    def log(self, name: str, contents: Mapping[str, bytes], **arguments: Any) -> wandb.Artifact:
        """Log an artifact in a run of its own, and wait for its commit."""
        with self.init(job_type="log") as run:
            logged = run.log_artifact(self.artifact(name, contents, **arguments))
            logged.wait(timeout=20)
        return logged
