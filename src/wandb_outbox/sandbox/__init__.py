"""A loopback W&B server: a small, honest model of the server that the wandb SDK talks to.

It serves the demo, the tests, the benchmarks, and whoever wants to try a setup without an account. What it does not
model is an error, never a silent empty answer, and is listed in `Sandbox.unknown`.
"""

import logging

from wandb_outbox.sandbox.cli import main
from wandb_outbox.sandbox.client import SandboxClient
from wandb_outbox.sandbox.faults import Fault
from wandb_outbox.sandbox.names import ApiError
from wandb_outbox.sandbox.server import DEFAULT_KEY, RequestLog, Sandbox
from wandb_outbox.sandbox.transport import Served
from wandb_outbox.sandbox.views import ArtifactView, FileView, RunView

__all__ = [
    "DEFAULT_KEY",
    "ApiError",
    "ArtifactView",
    "Fault",
    "FileView",
    "RequestLog",
    "RunView",
    "Sandbox",
    "SandboxClient",
    "Served",
    "main",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
