"""Hydra's YAML, read as it stands: nothing in it is resolved, and nothing in it can hang us.

An interpolation is never resolved: ``${oc.env:WANDB_API_KEY}`` would put the uploader's own key into a run, and
``${now:...}`` would give the time of the upload. So it is read by a YAML parser that knows none, with the notion of
numbers that OmegaConf has, which wrote the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from wandb_outbox.errors import Rejected
from wandb_outbox.folder import read_file
from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import JsonValue, Snapshot

MAX_BYTES = 4 * 1024 * 1024
MAX_NODES = 50_000
"""With aliases expanded: a bomb of nine lines of ten aliases each would be 10^9."""
MAX_DEPTH = 64

_NAMED = 5
_YAML = "tag:yaml.org,2002:"
_NUMPY_SCALAR = "multiarray.scalar"
_NUMPY_ARRAY = "multiarray._reconstruct"
_NOT_OF_NUMPY = (ValueError, TypeError, KeyError, AttributeError, IndexError, struct.error)
_NUMPY_CODES = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f2": "e",
    "f4": "f", "f8": "d",
}  # fmt: skip

# YAML 1.1 takes 1e-3 for a string; Hydra, which wrote the file, means a number. As OmegaConf's loader has it.
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+
    |\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_PATHS = ("pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath")


class _RefusedError(ValueError):
    """The YAML is valid, and too large or too deep to be a configuration."""


@dataclass(frozen=True, slots=True)
class Marked:
    """The value of a YAML text, and on which line each part of it begins."""

    value: JsonValue
    lines: dict[tuple[str | int, ...], int]
    duplicates: tuple[str, ...]
    """Keys that are said twice in one mapping, each in words with its line."""

    def line(self, path: tuple[str | int, ...]) -> int:
        """The line on which the part begins, or else what holds it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_yaml(path: str, snapshot: Snapshot, name: str, warn: Warn) -> JsonValue:
    """The content of a YAML file, unresolved; ``None`` when it is not there, or, with a warning, cannot be read."""
    if snapshot.file(name) is None:
        return None
    try:
        text = read_file(path, name, MAX_BYTES).decode("utf-8-sig", "replace")
    except Rejected:
        warn(warning("unreadable-config", f"{name} is larger than {MAX_BYTES:,} bytes and was not read"))
        return None
    tags: list[str] = []
    try:
        value = parse(text, tags.append)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        warn(warning("unreadable-config", f"{name} cannot be read as YAML and was left out ({reason})"))
        return None
    if tags and not isinstance(value, dict):
        warn(
            warning("unreadable-config", f"{name} holds one object ({tags[-1]}) and no configuration; it was left out")
        )
        return None
    if tags:
        named = ", ".join(dict.fromkeys(tags[:_NAMED])) + (" and more" if len(tags) > _NAMED else "")
        warn(warning("config-objects", f"{name} holds objects, of which only the plain parts are taken: {named}"))
    return value


def parse(text: str, foreign: Callable[[str], object]) -> JsonValue:
    """The value of a YAML text, unresolved. Raises ``ValueError``, also for a bomb or a text too deep or too large.

    No object of a program is made: where one is asked for, its tag goes to ``foreign``, and its plain parts stand there.
    """
    import yaml

    try:
        _refuse_bombs(text)
        return yaml.load(text, Loader=cast(Any, _plain_loader(foreign)))  # noqa: S506  a SafeLoader of ours
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (RecursionError, TypeError, AttributeError) as error:
        # PyYAML's own constructors trip over odd but valid YAML, such as a list that is a key.
        raise ValueError(f"it cannot be read ({type(error).__name__})") from error


def parse_marked(text: str) -> Marked:
    """The value of a YAML text that a person wrote for us: YAML only, interpolations are plain text, keys are text.

    Raises ``ValueError`` as :func:`parse`.
    """
    import yaml

    try:
        _refuse_bombs(text)
        loader = cast(Any, _safe_loader())
        value = _with_text_keys(yaml.load(text, Loader=loader))  # noqa: S506  a SafeLoader of ours
        root = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (RecursionError, TypeError, AttributeError) as error:
        # PyYAML's own constructors trip over odd but valid YAML, such as a list that is a key.
        raise ValueError(f"it cannot be read ({type(error).__name__})") from error
    lines: dict[tuple[str | int, ...], int] = {}
    duplicates: list[str] = []
    if root is not None:
        _mark(root, (), lines, duplicates)
    return Marked(value, lines, tuple(duplicates))


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text_key(key): _with_text_keys(each) for key, each in value.items()}
    return [_with_text_keys(each) for each in value] if isinstance(value, list) else value


def _text_key(key: Any) -> str:
    """As JSON writes it: ``null`` and ``true``."""
    return "null" if key is None else str(key).lower() if isinstance(key, bool) else str(key)


def _mark(
    node: Any, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], duplicates: list[str]
) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if node.id == "mapping":
        for key, each in node.value:
            inner = (*path, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                where = ".".join(str(part) for part in inner)
                duplicates.append(f"line {line}: {where} is said twice; the last one counts")
            lines[inner] = line
            _mark(each, inner, lines, duplicates)
    elif node.id == "sequence":
        for place, each in enumerate(node.value):
            _mark(each, (*path, place), lines, duplicates)


@cache
def _safe_loader() -> type:
    """YAML's safe loader with the floats that Hydra writes, paths as their text, and dates left as text."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]  # one of two, as the system has it
        yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML reads it from the class
            first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
            for first, pairs in base.yaml_implicit_resolvers.items()
        }

    def path(loader: Any, node: Any) -> str:
        return "/".join(str(part) for part in loader.construct_sequence(node))

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    for name in _PATHS:
        for module in (name, name.replace("pathlib.", "pathlib._local.")):  # as Python 3.13 and newer call it
            Loader.add_constructor(f"tag:yaml.org,2002:python/object/apply:{module}", path)
    return Loader


def _plain_loader(foreign: Callable[[str], object]) -> type:
    """The same, with the plain parts of objects: a tuple is a list, a class its name, numpy's number that number."""
    import yaml

    def plain(loader: Any, node: Any) -> Any:
        foreign(node.tag.removeprefix(_YAML))
        if node.id == "mapping":
            parts = loader.construct_mapping(node, deep=True)
            return _numpy_array(parts) if node.tag.endswith(_NUMPY_ARRAY) else parts
        if node.id == "sequence":
            parts = loader.construct_sequence(node, deep=True)
            return _numpy_scalar(parts) if node.tag.endswith(_NUMPY_SCALAR) else parts
        if not node.value:
            return node.tag.rpartition(":")[2]
        tag = loader.resolve(yaml.ScalarNode, node.value, (not node.style, bool(node.style)))
        return loader.construct_object(yaml.ScalarNode(tag, node.value, node.start_mark, node.end_mark, node.style))

    loader = type("Loader", (_safe_loader(),), {})
    cast(Any, loader).add_constructor(None, plain)
    cast(Any, loader).add_constructor(
        f"{_YAML}python/tuple", lambda made, node: made.construct_sequence(node, deep=True)
    )
    return loader


def _numpy_scalar(parts: Any) -> Any:
    """The number that PyYAML wrote for one of numpy's: its type (``f8``) with the order of its bytes, and the bytes."""
    try:
        kind, data = parts
        (value,) = struct.unpack(_numpy_code(kind), data)
    except _NOT_OF_NUMPY:
        return parts
    return value


def _numpy_array(parts: Any) -> Any:
    """The numbers of an array, in lists as it is shaped; parts of another shape, or of no numbers, stay as they are."""
    try:
        _, shape, kind, by_column, data = parts["state"]
        values: list[Any] = [value for (value,) in struct.iter_unpack(_numpy_code(kind), data)]
        for length in reversed(shape[1:]):
            values = [values[place : place + length] for place in range(0, len(values), length)]
    except _NOT_OF_NUMPY:
        return parts
    return parts if by_column and len(shape) > 1 else values if shape else values[0]


def _numpy_code(kind: Mapping[str, Any]) -> str:
    order = next((order for order in "<>" if order in kind.get("state", ())), "=")
    return order + _NUMPY_CODES[kind["args"][0]]


def _refuse_bombs(text: str) -> None:
    """Count nodes and depth from the stream of events, before any alias is expanded."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the count at its begin
    nodes = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _RefusedError("an alias that holds itself")
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, nodes))
            nodes += 1
            if len(open_nodes) > MAX_DEPTH:
                raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = nodes - before
        if nodes > MAX_NODES:
            raise _RefusedError(f"more than {MAX_NODES:,} values once its aliases are expanded")
