"""The digests of a folder's files, as the server will compare them."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from pathlib import Path

import pytest

from wandb_outbox.deliver.digests import BLOCK, LARGE, Digests
from wandb_outbox.errors import FolderChanged
from wandb_outbox.folder import snapshot


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def test_large_and_small_files_have_their_md5(tmp_path: Path) -> None:
    """The digest is that of the bytes on disk, whether it was begun ahead or not, and an empty file has one, too."""
    contents = {"empty": b"", "small": b"x", "deep/large": os.urandom(LARGE + 5), "just": bytes(LARGE)}
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    files = snapshot(str(tmp_path)).files
    read: list[str] = []
    digests = Digests(str(tmp_path), lambda: read.append(threading.current_thread().name))
    digests.begin(files[:3])
    assert {file.path: digests.of(file) for file in files} == {name: _md5(data) for name, data in contents.items()}
    assert any(name.startswith("digest") for name in read)


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_file_that_is_gone_is_a_change_of_the_folder(tmp_path: Path, size: int) -> None:
    """Also when it was to be hashed ahead."""
    (tmp_path / "file").write_bytes(bytes(size))
    (file,) = snapshot(str(tmp_path)).files
    (tmp_path / "file").unlink()
    digests = Digests(str(tmp_path), lambda: None)
    digests.begin([file])
    with pytest.raises(FolderChanged, match="file is gone"):
        digests.of(file)


def test_a_file_that_is_cut_meanwhile_ends_nothing(tmp_path: Path) -> None:
    """It has some digest, and the process lives: it is found to be another at the end of the delivery."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(LARGE * 8))
    (file,) = snapshot(str(tmp_path)).files
    digests = Digests(str(tmp_path), lambda: os.truncate(path, BLOCK))
    digests.begin([file])
    assert digests.of(file) == _md5(path.read_bytes())


def test_a_delivery_that_ended_reads_no_further(tmp_path: Path) -> None:
    """What is under way stops at its next block."""
    (tmp_path / "file").write_bytes(bytes(LARGE * 64))
    (file,) = snapshot(str(tmp_path)).files
    blocks, begun = 0, threading.Event()

    def count() -> None:
        nonlocal blocks
        blocks += 1
        begun.set()
        stopped.wait()

    stopped = threading.Event()
    digests = Digests(str(tmp_path), count)
    digests.begin([file])
    assert begun.wait(10)
    digests.stop()
    stopped.set()
    digests.of(file)
    assert blocks == 1
