"""Signed storage URLs, the sandbox's stand-in for those of an object store.

Who has the URL may use it; nobody can guess one.
"""

import base64
import hmac
from dataclasses import dataclass
from urllib.parse import quote

PREFIX = "/storage/"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signed URL allows.

    Attributes:
        action: `put` or `get`.
        key: The key of the bytes.
        md5: For a put, the base64 MD5 that the request must announce in `Content-MD5`; empty if any will do.
    """

    action: str
    key: str
    md5: str


class Signer:
    """Makes and checks storage paths with one secret."""

    def __init__(self, secret: str) -> None:
        """Use a secret."""
        self._secret = secret.encode()

    def put_path(self, key: str, md5: str = "") -> str:
        """Return the path to which the bytes of a key may be sent."""
        return self._path("put", key, md5, "data")

    def get_path(self, key: str, name: str) -> str:
        """Return the path from which the bytes of a key may be read; it ends in the file's name."""
        return self._path("get", key, "", name.rpartition("/")[2] or "data")

    def _path(self, action: str, key: str, md5: str, name: str) -> str:
        subject = base64.urlsafe_b64encode(f"{md5}\n{key}".encode()).decode()
        return f"{PREFIX}{action}/{subject}/{self._sign(action, subject)}/{quote(name)}"

    def _sign(self, action: str, subject: str) -> str:
        return hmac.new(self._secret, f"{action}\n{subject}".encode(), "sha256").hexdigest()[:40]

    def check(self, path: str) -> Grant | None:
        """Return what a path allows, or None if its signature is not ours."""
        parts = path.removeprefix(PREFIX).split("/")
        if len(parts) != 4:
            return None
        action, subject, signature, _ = parts
        if not hmac.compare_digest(signature.encode(), self._sign(action, subject).encode()):
            return None
        md5, _, key = base64.urlsafe_b64decode(subject).decode().partition("\n")
        return Grant(action, key, md5)
