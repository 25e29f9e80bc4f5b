"""``outbox.yaml``: what an experiment says of its own run folder.

The keys are those of ``outbox.schema.json``, which is published and which the checker reads. A faulty part is named
with its line and key and left out; the rest counts. Run data never chooses the server, and never the entity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wandb_outbox.errors import FolderChanged, Rejected
from wandb_outbox.folder import FolderUnreadable, read_file
from wandb_outbox.formats.schema import Fault, Path, faults, load_schema
from wandb_outbox.formats.yamlfile import Marked, parse_marked
from wandb_outbox.model import JsonValue, PlanWarning, Severity, Snapshot

DECLARATION = "outbox.yaml"
MISNAMED = "outbox.yml"
SCHEMA = "outbox.schema.json"
MAX_BYTES = 256 * 1024
HOLD = "hold"
NEVER = "never"
RULE = "outbox-yaml"

_LISTS = frozenset({"tags", "inputs", "artifacts", "media"})
_OPTIONAL = frozenset({"description", "metadata", "aliases"})
_UPLOAD_WORDS: Mapping[str | None, str] = {
    HOLD: "the run is held, for this is no consent", NEVER: "it counts as never", None: "it is left out"
}  # fmt: skip
# For a file that is no YAML: what is meant to keep a folder back counts although the rest cannot be read.
_UPLOAD_LINE = re.compile(r"^[\"']?upload[\"']?\s*:\s*[\"']?(hold|never)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class DeclaredArtifact:
    """An artifact besides that of the whole folder. ``files`` are patterns."""

    name: str
    type: str
    files: tuple[str, ...]
    description: str
    metadata: dict[str, JsonValue]
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Declaration:
    """The content of ``outbox.yaml``; all of it empty where there is none. ``upload``: ``"hold"`` or ``"never"``."""

    project: str | None = None
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    params: dict[str, JsonValue] = field(default_factory=dict)
    meta: dict[str, JsonValue] = field(default_factory=dict)
    summary: dict[str, JsonValue] = field(default_factory=dict)
    media: tuple[str, ...] = ()
    upload: str | None = None
    inputs: tuple[str, ...] = ()
    artifacts: tuple[DeclaredArtifact, ...] = ()
    warnings: tuple[PlanWarning, ...] = ()


def read_declaration(path: str, snapshot: Snapshot) -> Declaration:
    """What the folder's ``outbox.yaml`` says. Bad content is a warning in it; raises ``FolderUnreadable``."""
    try:
        text = _text(path, snapshot)
    except FolderUnreadable:
        raise
    except Rejected:
        message = f"{DECLARATION} is larger than {MAX_BYTES:,} bytes and was not read; the run is held"
        return Declaration(upload=HOLD, warnings=(_error(message),))
    if text is None:
        misnamed = snapshot.file(MISNAMED)
        words = f"{MISNAMED} is not read; call it {DECLARATION}"
        return Declaration(warnings=(PlanWarning(RULE, Severity.WARNING, words),) if misnamed is not None else ())
    try:
        marked = parse_marked(text)
    except ValueError as error:
        words = " ".join(str(error).split())[:200]
        message = f"{DECLARATION} is not valid YAML and counts for nothing ({words})"
        return Declaration(upload=_wish_of_broken(text), warnings=(_error(message),))
    return _checked(marked)


def upload_wish(path: str, snapshot: Snapshot) -> str | None:
    """``"hold"``, ``"never"`` or ``None``: whether the folder itself asks to be kept back. Raises ``FolderUnreadable``.

    For the daemon: at most 256 kB are read, and YAML is imported only if the word ``upload`` stands in the file. What
    is neither of the two words counts as ``hold``, for it is no consent.
    """
    try:
        text = _text(path, snapshot)
    except FolderUnreadable:
        raise
    except Rejected:
        return HOLD
    if text is None or "upload" not in text:
        return None
    try:
        value = parse_marked(text).value
    except ValueError:
        return _wish_of_broken(text)
    return _wish(value) if isinstance(value, dict) else None


def _text(path: str, snapshot: Snapshot) -> str | None:
    """The text of the file, which counts also where it is not uploaded; ``None`` where there is none.

    Raises as :func:`wandb_outbox.folder.read_file`.
    """
    stat = snapshot.file(DECLARATION)
    if stat is None and all(excluded.path != DECLARATION for excluded in snapshot.excluded):
        return None
    try:
        return read_file(path, DECLARATION, MAX_BYTES).decode("utf-8-sig", "replace")
    except FolderChanged:
        if stat is None:
            return None  # a link or a FIFO of that name says nothing
        raise


def _wish(value: Mapping[str, JsonValue]) -> str | None:
    said = value.get("upload")
    if said is None:
        return None
    return NEVER if said in (NEVER, False) else HOLD


def _wish_of_broken(text: str) -> str | None:
    found = _UPLOAD_LINE.search(text)
    return found[1] if found else None


def _checked(marked: Marked) -> Declaration:
    value = {} if marked.value is None else marked.value
    if not isinstance(value, dict):
        return Declaration(warnings=(_error(f"{DECLARATION} line 1: expected a mapping; it counts for nothing"),))
    schema = load_schema("wandb_outbox.formats", SCHEMA)
    found = list(faults(value, schema))
    warnings = [_error(f"{DECLARATION} {words}") for words in marked.duplicates]
    warnings += [_warning_of(fault, marked) for fault in found]
    sound = _without(value, {_faulty_part(fault) for fault in found})
    return Declaration(
        project=sound.get("project"),
        name=sound.get("name"),
        group=sound.get("group"),
        job_type=sound.get("job_type"),
        tags=_tags(sound.get("tags")),
        notes=sound.get("notes"),
        params=sound.get("params", {}),
        meta=sound.get("meta", {}),
        summary=sound.get("summary", {}),
        media=_many(sound.get("media")),
        upload=_wish(value),
        inputs=tuple(dict.fromkeys(_many(sound.get("inputs")))),
        artifacts=tuple(_artifact(each) for each in sound.get("artifacts", ())),
        warnings=tuple(warnings),
    )


def _artifact(value: Mapping[str, Any]) -> DeclaredArtifact:
    return DeclaredArtifact(
        name=value["name"],
        type=value["type"],
        files=_many(value["files"]),
        description=value.get("description", ""),
        metadata=value.get("metadata", {}),
        aliases=_many(value.get("aliases")),
    )


def _tags(value: JsonValue) -> tuple[str, ...]:
    """A list, or a text with commas as on the command line."""
    many = value.split(",") if isinstance(value, str) else _many(value)
    return tuple(str(tag) for tag in many)


def _many(value: JsonValue) -> tuple[Any, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _warning_of(fault: Fault, marked: Marked) -> PlanWarning:
    place = f"{DECLARATION} line {marked.line(fault.path)}: {fault.where}: "
    if fault.path == ("entity",):
        words = f"{place}run data never chooses the entity; set it for the root, or say --entity"
        return PlanWarning(RULE, Severity.WARNING, words)
    if fault.path == ("upload",):
        return _error(f"{place}{fault.message}; {_UPLOAD_WORDS[_wish(marked.value)]}")
    if fault.unknown_key:
        return PlanWarning(RULE, Severity.WARNING, f"{place}{fault.message}; it is left out")
    return _error(f"{place}{fault.message}; it is left out")


def _faulty_part(fault: Fault) -> Path:
    """What is left out because of a fault: an unknown key, one element of a list, or else the whole key.

    An artifact is only left out for what it cannot be without.
    """
    if fault.unknown_key:
        return fault.path
    if len(fault.path) > 2 and fault.path[0] == "artifacts" and fault.path[2] in _OPTIONAL:
        return fault.path[:4] if fault.path[2] == "aliases" else fault.path[:3]
    return fault.path[:2] if fault.path and fault.path[0] in _LISTS else fault.path[:1]


def _without(value: Any, left_out: set[Path], path: Path = ()) -> Any:
    if isinstance(value, dict):
        return {
            key: _without(each, left_out, (*path, key)) for key, each in value.items() if (*path, key) not in left_out
        }
    if isinstance(value, list):
        return [
            _without(each, left_out, (*path, place))
            for place, each in enumerate(value)
            if (*path, place) not in left_out
        ]
    return value


def _error(message: str) -> PlanWarning:
    return PlanWarning(RULE, Severity.ERROR, message)
