"""Every exception that the real SDK can be brought to raise in a delivery, and what each means; the table is the list.

The server answers our own question all the while, but where that is what fails: what is told apart here is what the SDK
alone knows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import provoking
import pytest

SILENT = "NoneType"
"""The SDK says nothing: that the rows did not arrive is seen by reading back."""
ARTIFACT = ("CreateArtifact", "CreateArtifactFiles", "CommitArtifact")
TABLE: dict[tuple[str, str], tuple[str, str]] = {
    # our own first question, which the SDK asks, too: ours decides
    **{("Viewer", fault): ("AuthenticationError", "Offline") for fault in ("reset", "html", "500")},
    ("Viewer", "401"): ("AuthenticationError", "Unauthorized"),
    ("Viewer", "429"): ("AuthenticationError", "Throttled"),
    # looking the run up
    **{("Run", fault): ("CommError", "Offline") for fault in ("reset", "hang", "html", "429", "500")},
    **{("Run", fault): ("CommError", "NotVerified") for fault in ("400", "401", "403", "404", "409")},
    # opening the run
    **{("UpsertBucket", fault): ("Error", "Offline") for fault in ("reset", "html", "500")},
    ("UpsertBucket", "hang"): ("CommError", "Offline"),
    ("UpsertBucket", "429"): ("Error", "Throttled"),
    ("UpsertBucket", "409"): ("Error", "RunDeleted"),
    **{("UpsertBucket", fault): ("CommError", "NotVerified") for fault in ("400", "401", "403", "404")},
    # its artifact
    **{(where, fault): ("ValueError", "Offline") for where in ARTIFACT for fault in ("reset", "html", "500")},
    **{(where, "hang"): ("WaitTimeoutError", "Offline") for where in ARTIFACT},
    **{(where, "429"): ("ValueError", "Throttled") for where in ARTIFACT},
    **{(where, "403"): ("ValueError", "NotVerified") for where in ARTIFACT},
    # the storage of its files
    **{("put", fault): ("ValueError", "Offline") for fault in ("reset", "403", "429", "500")},
    ("put", "hang"): ("WaitTimeoutError", "Offline"),
    ("put", "html"): ("ValueError", "NotVerified"),
    # its rows and summary
    **{("file_stream", fault): (SILENT, "NotVerified") for fault in ("reset", "html", "403", "429", "500")},
    ("file_stream", "hang"): ("TimeoutError", "Offline"),
    # reading it back
    **{("RunFiles", fault): ("WandbApiFailedError", "Offline") for fault in ("reset", "hang", "html", "429", "500")},
    ("RunFiles", "403"): ("WandbApiFailedError", "NotVerified"),
    ("RunFiles", "404"): (SILENT, "NotVerified"),  # asked again until the time of the reading back is over
}
"""What hits which request, with which exception the SDK answers, and which of our errors, each a next move, that is."""


@pytest.mark.timeout(180)
def test_every_exception_that_can_be_provoked_is_mapped(tmp_path: Path) -> None:
    """Each fault at each request of a delivery raises what the table says, and is what it says."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = (
        "WANDB_DIR",
        "WANDB_CACHE_DIR",
        "WANDB_DATA_DIR",
        "WANDB_CONFIG_DIR",
        "WANDB_ARTIFACT_DIR",
        "TMPDIR",
        "HOME",
    )
    for name in places:
        (tmp_path / name).mkdir()
        environ[name] = str(tmp_path / name)
    longest_first = sorted(TABLE, key=lambda cell: cell[1] != "hang")
    done = subprocess.run(
        [sys.executable, provoking.__file__], input=json.dumps(longest_first), env={**environ, "WANDB_SILENT": "true"},
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {(where, fault): (theirs, ours) for where, fault, theirs, ours in json.loads(done.stdout)} == TABLE
