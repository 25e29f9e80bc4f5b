"""Bytes of uploaded files: streamed to disk, hashed on the way, found again by a key."""

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20
"""Bytes held in memory for one transfer."""

Reader = Callable[[memoryview], int]
"""Fills a buffer from its start and returns the number of bytes written to it, 0 at the end."""


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that have arrived in full and wait for a key.

    Attributes:
        path: Where they are for now.
        size: How many.
        md5: Their MD5 in hexadecimal.
    """

    path: Path
    size: int
    md5: str


class BlobStore:
    """A directory of blobs; the name of a blob's file is a hash of its key, so a key may hold any characters."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, which is made when it is missing."""
        self._directory = directory
        self._incoming = directory / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Return where the blob with this key is, or would be."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._directory / name[:2] / name

    def receive(self, read: Reader, length: int) -> Received:
        """Stream `length` bytes to disk.

        Raises:
            ConnectionError: The source ended early; nothing is kept.
        """
        handle, name = tempfile.mkstemp(dir=self._incoming)
        try:
            with open(handle, "wb", buffering=0) as file:
                md5 = _copy(read, file.fileno(), length)
        except BaseException:
            Path(name).unlink()
            raise
        return Received(Path(name), length, md5)

    def keep(self, received: Received, key: str) -> Path:
        """Give received bytes their key, replacing what had it before."""
        path = self.path(key)
        try:
            received.path.replace(path)
        except FileNotFoundError:
            path.parent.mkdir(exist_ok=True)
            received.path.replace(path)
        return path

    def drop(self, received: Received) -> None:
        """Forget received bytes that were refused."""
        received.path.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Delete the blob with this key, if there is one."""
        self.path(key).unlink(missing_ok=True)

    def join(self, keys: Sequence[str]) -> Received:
        """Return the concatenation of blobs, which stay where they are."""
        handle, name = tempfile.mkstemp(dir=self._incoming)
        digest = hashlib.md5(usedforsecurity=False)
        buffer = memoryview(bytearray(CHUNK))
        size = 0
        with open(handle, "wb", buffering=0) as target:
            for key in keys:
                with self.path(key).open("rb", buffering=0) as source:
                    while count := source.readinto(buffer):
                        digest.update(buffer[:count])
                        _write_all(target.fileno(), buffer[:count])
                        size += count
        return Received(Path(name), size, digest.hexdigest())

    def close(self) -> None:
        """Delete transfers that never ended."""
        shutil.rmtree(self._incoming, ignore_errors=True)


def _copy(read: Reader, descriptor: int, length: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    buffer = memoryview(bytearray(min(CHUNK, max(length, 1))))
    left = length
    while left:
        count = read(buffer[: min(left, len(buffer))])
        if not count:
            raise ConnectionError(f"the request ended {left} bytes early")
        digest.update(buffer[:count])
        _write_all(descriptor, buffer[:count])
        left -= count
    return digest.hexdigest()


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def hex_to_base64(digest: str) -> str:
    """Return a hexadecimal digest in base64, the form of `Content-MD5` and of the artifact manifest."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def base64_to_hex(digest: str) -> str:
    """Return a base64 digest in hexadecimal.

    Raises:
        ValueError: It is not base64.
    """
    return base64.b64decode(digest, validate=True).hex()
