"""What executor and uploader say to each other arrives as it went."""

from __future__ import annotations

import json
import os

import pytest
from deliver_makers import job
from hypothesis import given
from hypothesis import strategies as st
from unhurried import unhurried

from wandb_outbox import errors
from wandb_outbox.deliver.protocol import (
    decode,
    encode,
    error_from_json,
    error_to_json,
    job_from_json,
    job_to_json,
    receipt_from_json,
)
from wandb_outbox.errors import (
    ConfigurationError,
    DiskFull,
    FolderChanged,
    Held,
    NotVerified,
    Offline,
    OutboxError,
    Rejected,
    RunDeleted,
    Throttled,
    Unauthorized,
    UploaderCrashed,
    UserError,
)
from wandb_outbox.folder import FolderGone, FolderUnreadable
from wandb_outbox.model import Overrides, PlanRequest, Receipt, RootRules

paths = st.binary(min_size=1, max_size=20).map(os.fsdecode)
texts = st.text(max_size=10)


@unhurried
@given(st.dictionaries(texts, paths | st.integers() | st.none()))
def test_a_message_is_one_line_of_ascii(message: dict[str, object]) -> None:
    """Newlines and names that are not UTF-8 inside do not break it."""
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()
    assert decode(line) == message


@pytest.mark.parametrize("line", [b"", b"\n", b"{", b"nonsense", b"\xff", b"[1]", b"7", b"null", b'"is"'])
def test_what_is_no_message_is_refused(line: bytes) -> None:
    """A library that prints into the pipe is not taken for the uploader."""
    with pytest.raises((ValueError, TypeError)):
        decode(line)


@unhurried
@given(
    path=paths,
    root=st.none() | paths,
    tags=st.none() | st.lists(texts).map(tuple),
    rules=st.lists(texts).map(tuple),
    exclude=st.lists(texts).map(tuple),
    contacted=st.booleans(),
    revision=st.integers(0, 9),
)
def test_a_delivery_arrives_as_it_was_handed_over(
    path: str,
    root: str | None,
    tags: tuple[str, ...] | None,
    rules: tuple[str, ...],
    exclude: tuple[str, ...],
    contacted: bool,
    revision: int,
) -> None:
    """Every field, with its types: tuples stay tuples, bytes in names stay."""
    request = PlanRequest(
        path, root, "llm-tts", "id", "site", revision=revision, overrides=Overrides(name="n", tags=tags),
        rules=RootRules(project="p", tags=rules), host="box",
    )  # fmt: skip
    sent = job(request=request, contacted=contacted, exclude=exclude, include=("a",))
    message = decode(encode(job_to_json(sent)))
    assert message["do"] == "deliver"
    assert job_from_json(message) == sent


@unhurried
@given(texts, st.lists(texts).map(tuple), st.integers(0, 2**60))
def test_a_receipt_arrives_as_it_was_confirmed(name: str, warnings: tuple[str, ...], count: int) -> None:
    """With what else stands in the message left aside."""
    sent = Receipt("id", "team", "p", name, "https://x", "a:v0", "d", count, count, "f", 2, warnings)
    fields = {field: getattr(sent, field) for field in Receipt.__dataclass_fields__}
    assert receipt_from_json(decode(encode({"is": "receipt", "key": 1, **fields}))) == sent


@pytest.mark.parametrize(
    "error",
    [
        Offline("no route", hint="wait"),
        Throttled("slow down", retry_after=12.5),
        Unauthorized("who are you", hint="set the key"),
        Rejected("no"),
        FolderChanged("it changed"),
        RunDeleted("409"),
        NotVerified("differs"),
        UploaderCrashed("boom"),
        DiskFull("no room"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_the_same_next_move(error: OutboxError) -> None:
    """Class, words, hint, and the wait."""
    arrived = error_from_json(decode(encode(error_to_json(error))))
    assert type(arrived) is type(error)
    assert (arrived.message, arrived.hint) == (error.message, error.hint)
    if isinstance(error, Throttled):
        assert isinstance(arrived, Throttled)
        assert arrived.retry_after == error.retry_after


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FolderGone("/a is not there"), FolderChanged),
        (FolderUnreadable("/a may not be read", hint="chmod"), Rejected),
        (UserError(["one", "two"]), Rejected),
        (ConfigurationError(["one"]), Rejected),
    ],
    ids=lambda value: getattr(type(value), "__name__", str(value)),
)
def test_a_more_particular_error_arrives_as_what_it_is_a_kind_of(error: OutboxError, kind: type[OutboxError]) -> None:
    """A folder that vanished goes back to writing; it is no crash of the uploader."""
    arrived = error_from_json(decode(encode(error_to_json(error))))
    assert type(arrived) is kind
    assert (arrived.message, arrived.hint) == (error.message, error.hint)


@pytest.mark.parametrize(
    "name", ["KeyError", "Sequence", "annotations", "", None, 7, "__doc__", "OutboxError.__class__"]
)
def test_an_error_that_is_not_ours_never_gets_through_as_something_else(name: object) -> None:
    """Nothing in a message can name a class that is no error of ours."""
    arrived = error_from_json(json.loads(json.dumps({"class": name, "message": "m"})))
    assert isinstance(arrived, OutboxError)
    assert arrived.message == "m"
    assert type(arrived) in (UploaderCrashed, Rejected)


def test_when_to_look_again_is_not_lost_on_the_way() -> None:
    """A held folder is asked about again after the seconds that the uploader said, or not at all."""
    for seconds in (300.0, None):
        error = Held("m", hint="h", look_again_in=seconds)
        arrived = error_from_json(decode(encode(error_to_json(error))))
        assert isinstance(arrived, Held)
        assert (arrived.message, arrived.hint, arrived.look_again_in) == ("m", "h", seconds)


def test_every_error_has_its_next_move() -> None:
    """No class of errors.py is lost on the way; what only people can mend arrives as a rejection."""
    for kind in vars(errors).values():
        if not (isinstance(kind, type) and issubclass(kind, OutboxError)) or kind is Throttled:
            continue
        error = kind(["m"]) if issubclass(kind, UserError) else kind("m")
        arrived = error_from_json(decode(encode(error_to_json(error))))
        assert type(arrived) is (Rejected if issubclass(kind, UserError) else kind)
