"""What the server only says it has is not called delivered: table, its artifact, and what an artifact holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wandb
from arrivals import Way, table_rows
from between import Alter, lying

from wandb_outbox.deliver import send
from wandb_outbox.errors import NotVerified
from wandb_outbox.sandbox import Sandbox

pytest_plugins = ("arrives_fixtures",)


def without_tables(answer: Any) -> Any:
    """The files of a run, but for those of its tables."""
    files = answer["data"]["project"]["run"]["files"]
    files["edges"] = [edge for edge in files["edges"] if "media/table" not in edge["node"]["name"]]
    return answer


def pending_table(answer: Any) -> Any:
    """An artifact that, when it is one of a table, is not committed."""
    artifact = answer["data"]["artifact"]
    if artifact["artifactType"]["name"] == "run_table":
        artifact["state"] = "PENDING"
    return answer


def something_else(answer: Any) -> Any:
    """An artifact of another content."""
    answer["data"]["artifact"]["digest"] = "0" * 32
    return answer


@pytest.mark.parametrize(
    ("operation", "lie", "words"),
    [
        ("RunFiles", without_tables, "the file of table samples is not there"),
        ("ArtifactByID", pending_table, "samples is PENDING"),
        ("ArtifactByID", something_else, "with the digest 0{32}, not [0-9a-f]{32}"),
    ],
    ids=["file of a table", "artifact of a table", "another digest"],
)
def test_what_is_not_there_is_not_verified(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, lie: Alter, words: str
) -> None:
    """And goes again to an honest server, into the same run and the same version."""
    opened: list[wandb.Run] = []
    init = wandb.init

    def remembered(**settings: Any) -> wandb.Run:
        opened.append(init(**settings))
        return opened[-1]

    monkeypatch.setattr(wandb, "init", remembered)
    monkeypatch.setattr(send, "READ_BACK_FOR", 0.5)
    way = Way(sandbox, tmp_path).put("results.json", [{"index": 0, "is_correct": True}])
    with lying(sandbox, {operation: lie}) as address:
        with pytest.raises(NotVerified, match=words):
            way.through(address).deliver()
        # In life the uploader's process ends here, and the open run with it.
        opened[-1].finish()
    receipt = way.through(sandbox.url).deliver()
    assert receipt.artifact.endswith(":v0")
    assert table_rows(way.arrived(receipt)) == (["index", "is_correct"], [[0, True]])
