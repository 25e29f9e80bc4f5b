"""How the SDK is set in the uploader process: for all runs at once, and for each of them.

Only rooms of that process import wandb: this one, ``existing`` and ``send``.
"""

from __future__ import annotations

from dataclasses import dataclass

import wandb

PROCESS_SETTINGS = wandb.Settings(
    mode="online",
    silent=True,
    console="off",
    save_code=False,
    disable_git=True,
    disable_code=True,
    disable_job_creation=True,
    label_disable=True,
    init_timeout=30,
    finish_timeout_raises=True,
    summary_timeout=60,
    x_disable_stats=True,
    x_disable_meta=True,
    x_disable_machine_info=True,
    x_save_requirements=False,
    # Whole seconds only: a fraction silently means the default (20 retries of 2 to 60 s and more).
    x_graphql_timeout_seconds=20,
    x_graphql_retry_max=4,
    x_graphql_retry_wait_min_seconds=1,
    x_graphql_retry_wait_max_seconds=10,
    x_file_stream_timeout_seconds=20,
    x_file_stream_retry_max=5,
    x_file_stream_retry_wait_min_seconds=1,
    x_file_stream_retry_wait_max_seconds=10,
    x_file_transfer_retry_max=5,
    x_file_transfer_retry_wait_min_seconds=1,
    x_file_transfer_retry_wait_max_seconds=10,
    x_transaction_log_flush_interval=1,
)
"""For all runs of this process, said once: the SDK checks all of its settings anew for each one that a run sets."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to send to, and with which key."""

    base_url: str
    key: str | None


def start_sdk() -> None:
    """Tell the SDK what holds for all runs of this process, and start its own process."""
    wandb.setup(PROCESS_SETTINGS)


def run_settings(server: Server, directory: str, started_at: float | None) -> wandb.Settings:
    """What differs between runs, beside :data:`PROCESS_SETTINGS`; made afresh each time: ``wandb.init`` changes it."""
    return wandb.Settings(
        base_url=server.base_url,
        api_key=server.key,
        root_dir=directory,
        x_start_time=started_at,
    )
