"""What W&B allows in names, and how a name is made to fit.

A name that is too long is cut and given a hash of the whole, so that two long names that begin alike stay two names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import JsonValue

RUN_NAME = 128
GROUP = 128
JOB_TYPE = 64
TAG = 64
PROJECT = 128
ARTIFACT_NAME = 128
METADATA_KEYS = 100
"""At the top of an artifact's metadata."""

_HASH_DIGITS = 8
_NOT_IN_PROJECT = re.compile(r"[/\\#?%:\x00-\x1f]")
_NOT_IN_ARTIFACT = re.compile(r"[^A-Za-z0-9._-]")
_CONTROL = re.compile(r"[\x00-\x1f]+")


def fit_name(text: str, limit: int, what: str, warn: Warn) -> str:
    """A run name, group or job type without control characters and within its limit."""
    clean = _CONTROL.sub(" ", text).strip()
    return _fit(clean, limit, what, warn)


def fit_project(text: str, warn: Warn) -> str:
    r"""A project name: at most 128 characters, none of ``/ \ # ? % :``."""
    clean = _NOT_IN_PROJECT.sub("-", text.strip())
    if clean != text:
        warn(warning("project-characters", f"W&B does not allow the project name {text!r}; it becomes {clean!r}"))
    return _fit(clean, PROJECT, "project", warn)


def fit_artifact(text: str, warn: Warn) -> str:
    """An artifact name: 1 to 128 of ``A-Z a-z 0-9 . _ -``."""
    clean = _NOT_IN_ARTIFACT.sub("-", text)
    if clean != text:
        message = f"W&B does not allow the artifact name {text!r}; it becomes {clean!r}"
        warn(warning("artifact-name-characters", message))
    # The hash is of the name before any character was replaced.
    return _fit(clean, ARTIFACT_NAME, "artifact name", warn, whole=text)


def fit_tags(tags: Iterable[str], warn: Warn) -> tuple[str, ...]:
    """Tags of 1 to 64 characters, each once, in their order; empty ones are left out."""
    clean = (_CONTROL.sub(" ", tag).strip() for tag in tags)
    return tuple(dict.fromkeys(_fit(tag, TAG, "tag", warn) for tag in clean if tag))


def fit_metadata(metadata: dict[str, JsonValue], what: str, warn: Warn) -> dict[str, JsonValue]:
    """Metadata without the last of its keys, if there are too many. ``what`` says of which artifact, in words."""
    kept = list(metadata)[:METADATA_KEYS]
    gone = list(metadata)[METADATA_KEYS:]
    if gone:
        words = f"W&B allows {METADATA_KEYS} keys in metadata; left out: {', '.join(gone[:5])} ({len(gone)} keys)"
        warn(warning("metadata-keys", f"{what}: {words}"))
    return {key: metadata[key] for key in kept}


def _fit(clean: str, limit: int, what: str, warn: Warn, whole: str | None = None) -> str:
    if len(clean) <= limit:
        return clean
    digest = hashlib.blake2b((whole or clean).encode("utf-8", "replace"), digest_size=_HASH_DIGITS // 2).hexdigest()
    short = f"{clean[: limit - _HASH_DIGITS - 1]}-{digest}"
    message = f"the {what} has {len(clean)} characters and W&B allows {limit}; it becomes {short}"
    warn(warning(f"{what.replace(' ', '-')}-length", message))
    return short
