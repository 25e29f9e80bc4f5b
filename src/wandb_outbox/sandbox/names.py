"""What the W&B server accepts as a name, and the error it gives for anything else.

The limits are the ones that the public documentation, the SDK's own validators and refused uploads show. A rule that
only the SDK enforces (reserved artifact types, for one) is not repeated here: the server takes what the SDK sends.
"""

import re
from collections.abc import Iterable

_PROJECT_FORBIDDEN = re.compile(r"[/\\#?%:]")
_RUN_ID_FORBIDDEN = re.compile(r"[:;,#?/']")
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ARTIFACT_TYPE = re.compile(r"[-\w]+( *[-.\w]+)*")
_ARTIFACT_TAG = re.compile(r"[-\w]+( +[-\w]+)*")
_ALIAS_FORBIDDEN = re.compile(r"[/:]")
_VERSION = re.compile(r"v\d+")

MAX_METADATA_KEYS = 100


class ApiError(Exception):
    """A refusal by the server.

    Attributes:
        status: The HTTP status of the answer.
        message: The words in its body.
        code: The `extensions.code` of the GraphQL error.
    """

    def __init__(self, status: int, message: str, code: str = "ERROR") -> None:
        """Make a refusal with an HTTP status, a message and a machine-readable code."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


def invalid(message: str) -> ApiError:
    """Return the refusal of a malformed value: HTTP 400."""
    return ApiError(400, message, "BAD_USER_INPUT")


def not_found(message: str) -> ApiError:
    """Return the refusal for something that does not exist: HTTP 404."""
    return ApiError(404, message, "NOT_FOUND")


def check_project(name: str) -> None:
    r"""Refuse a project name that is empty, longer than 128 characters or holds one of `/ \ # ? % :`."""
    if not 1 <= len(name) <= 128:
        raise invalid("invalid project name: must be between 1 and 128 characters")
    if _PROJECT_FORBIDDEN.search(name):
        raise invalid(f"invalid project name {name!r}: cannot contain characters /, \\, #, ?, %, :")


def check_run_id(name: str) -> None:
    """Refuse a run id that is empty, longer than 128 characters or holds one of `: ; , # ? / '`."""
    if not 1 <= len(name) <= 128:
        raise invalid("invalid run id: must be between 1 and 128 characters")
    if _RUN_ID_FORBIDDEN.search(name):
        raise invalid(f"invalid run id {name!r}: cannot contain characters :, ;, comma, #, ?, /, '")


def check_length(what: str, value: str, limit: int) -> None:
    """Refuse a text of more than `limit` characters."""
    if len(value) > limit:
        raise invalid(f"invalid {what}: must be at most {limit} characters, got {len(value)}")


def check_run_tags(tags: Iterable[str]) -> None:
    """Refuse run tags that are empty or longer than 64 characters."""
    for tag in tags:
        if not 1 <= len(tag) <= 64:
            raise invalid(f"invalid tag {tag!r}: must be between 1 and 64 characters")


def check_artifact_name(name: str) -> None:
    """Refuse an artifact name that is not 1 to 128 letters, digits, dots, underscores or dashes."""
    if not _ARTIFACT_NAME.fullmatch(name):
        raise invalid(
            f"invalid artifact name {name!r}: may only contain alphanumeric characters, dashes, underscores and dots,"
            " at most 128"
        )


def check_artifact_type(name: str) -> None:
    """Refuse an artifact type that is empty, longer than 128 characters or holds unusual characters."""
    if len(name) > 128 or not _ARTIFACT_TYPE.fullmatch(name):
        raise invalid(f"invalid artifact type {name!r}")


def check_artifact_tag(name: str) -> None:
    """Refuse an artifact tag that is not 1 to 128 word characters, dashes or inner spaces."""
    if len(name) > 128 or not _ARTIFACT_TAG.fullmatch(name):
        raise invalid(f"invalid tag {name!r}")


def check_alias(alias: str) -> None:
    """Refuse an alias that is empty, longer than 128 characters, or holds `/` or `:`."""
    if not 1 <= len(alias) <= 128 or _ALIAS_FORBIDDEN.search(alias):
        raise invalid(f"invalid alias {alias!r}: must be 1 to 128 characters without / and :")


def is_version(alias: str) -> bool:
    """Return whether the alias is one that the server gives by itself: `v0`, `v1`, ..."""
    return _VERSION.fullmatch(alias) is not None
