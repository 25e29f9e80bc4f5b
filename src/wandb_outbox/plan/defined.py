"""Conventions that users define in the configuration, as ``[conventions.NAME]`` tables.

The keys are those of ``convention.schema.json``. A table is read once into a :class:`Definition`, which finds every
fault; then it proposes names as the built-in conventions do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from wandb_outbox.errors import ConfigurationError
from wandb_outbox.formats.content import Warn
from wandb_outbox.formats.schema import faults, load_schema
from wandb_outbox.model import JsonValue, PlanWarning, Severity
from wandb_outbox.plan.facts import (
    Facts,
    Proposal,
    date_of,
    folder_name,
    job_type_of_format,
    parts_from_date,
    project_of_place,
)
from wandb_outbox.plan.lookup import (
    SAYS_NOTHING,
    lookup,
    number_at,
    subset_of,
    text_at,
    whole_number_at,
    without_references,
)
from wandb_outbox.plan.params_meta import holds, with_dashes
from wandb_outbox.plan.templates import Template, read_template

SCHEMA = "convention.schema.json"
OF_THE_FOLDER = ("folder", "path", "parent", "root", "date", "started", "format")
"""Values that every convention has: see docs/conventions.md."""
OF_SAMPLES = ("first", "last")
"""Values of a convention with a table ``samples``."""

_TEMPLATES = ("project", "name", "group", "job_type", "artifact", "tags")
_SOURCES = ("key", "part", "path", "text", "said")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_LONGEST = 1000
"""Characters of a text from a run folder that a pattern of the configuration is tried on."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place that a value may come from. Exactly one of ``key``, ``part``, ``path``, ``text`` and ``said`` is set."""

    key: str | None = None
    part: int | None = None
    path: re.Pattern[str] | None = None
    text: Template | None = None
    said: str | None = None
    match: re.Pattern[str] | None = None
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """A named value: its sources in their order, and what is done with the text."""

    sources: tuple[Source, ...]
    match: re.Pattern[str] | None = None
    lower: bool = False
    replace: tuple[tuple[str, str], ...] = ()
    dashes: bool = False
    ignore: tuple[str, ...] = ()
    map: Mapping[str, Template] = field(default_factory=dict)
    kind: str = "text"
    digits: int = 0
    not_in: str | None = None
    default: Template | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """Where a run says which part of its dataset it does."""

    count: str
    offset: str | None = None
    of: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition:
    """A convention of a user."""

    name: str
    templates: Mapping[str, tuple[Template, ...]]
    artifact_type: str
    nested: bool
    values: Mapping[str, Value]
    samples: Samples | None

    def propose(self, facts: Facts, warn: Warn) -> Proposal:
        """Names by the templates; what they leave open is as in the convention ``plain``."""
        look = _Look(self, facts)
        project = self._first("project", look) or (project_of_place(facts), self._source())
        name = self._first("name", look)
        if name is None:
            name = (folder_name(facts), self._source("the folder's name"))
            missing = sorted({each for template in self.templates["name"] for each in template.names if not look(each)})
            words = f"the run has no value for {', '.join(missing)}, so no template gives a name; found {name[0]!r}"
            message = f"{words}; add a fall-back or a default in [conventions.{self.name}], or say --name"
            warn(PlanWarning("name-pattern", Severity.WARNING, message))
        job_type = job_type_of_format(facts)
        tags = [text for template in self.templates.get("tags", ()) if (text := template.fill(look)) is not None]
        return Proposal(
            project=project,
            name=name,
            job_type=self._first("job_type", look) or (job_type and (job_type, f"the format {facts.format}")) or None,
            tags=(tuple(tags), self._source()),
            artifact_type=self.artifact_type,
            group=self._first("group", look),
            artifact=self._first("artifact", look),
            nested=self.nested,
        )

    def _first(self, key: str, look: _Look) -> tuple[str, str] | None:
        for template in self.templates.get(key, ()):
            text = template.fill(look)
            if text is not None and text.strip():
                return text, self._source(", ".join(look.keys_of(template)))
        return None

    def _source(self, words: str = "") -> str:
        return f"convention {self.name}: {words}" if words else f"convention {self.name}"


def definition_faults(name: str, table: Mapping[str, JsonValue]) -> list[str]:
    """Everything that is wrong with the table ``[conventions.NAME]``, each fault in words with its place."""
    found = [
        f"{fault.where}: {fault.message}" if fault.where else fault.message
        for fault in faults(_plain(table), load_schema("wandb_outbox.plan", SCHEMA))
    ]
    if not found:
        found = list(_Reader(table).faults())
    if not _NAME.fullmatch(name):
        found.append(f"{name!r} is no name (letters, digits, - and _)")
    return [f"conventions.{name}: {each}" for each in found]


def read_definition(name: str, table: Mapping[str, JsonValue]) -> Definition:
    """The convention of a table. Raises ``ConfigurationError`` with everything that is wrong with it."""
    found = definition_faults(name, table)
    if found:
        raise ConfigurationError(found)
    return _Reader(table).read(name)


class _Look:
    """The values of one run, each found when it is asked for, and the keys that they came from."""

    def __init__(self, definition: Definition, facts: Facts) -> None:
        self._definition = definition
        self._facts = facts
        self._found: dict[str, str | None] = {}
        self._keys: dict[str, str] = {}
        self._part: tuple[str, str] | None = None
        self._part_known = False

    def __call__(self, name: str) -> str | None:
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def keys_of(self, template: Template) -> tuple[str, ...]:
        """Where the values in a template came from, each once."""
        return tuple(dict.fromkeys(self._keys[name] for name in template.names if name in self._keys))

    def _find(self, name: str) -> str | None:
        if name in self._definition.values:
            return self._value(name, self._definition.values[name])
        if name in OF_SAMPLES and self._definition.samples is not None:
            part = self._subset(self._definition.samples)
            return part[OF_SAMPLES.index(name)] if part else None
        if name in OF_THE_FOLDER:
            return self._of_folder(name) or None
        self._keys[name] = name
        return _config_text(self._facts.config, name)

    def _value(self, name: str, value: Value) -> str | None:
        for source in value.sources:
            if not all((self(other) or "") in wanted for other, wanted in source.when):
                continue
            text = self._source(source, value.kind)
            for pattern in (source.match, value.match):
                text = _matched(pattern, text)
            text = self._changed(value, text)
            if text is not None:
                if source.text is None:
                    said = "what was said before the convention"
                    self._keys[name] = source.key or (said if source.said else "the folder's path")
                return text
        return value.default.fill(self) if value.default is not None else None

    def _source(self, source: Source, kind: str) -> str | None:
        facts = self._facts
        if source.key is not None:
            return number_at(facts.config, source.key) if kind != "text" else _config_text(facts.config, source.key)
        if source.path is not None:
            return _matched(source.path, "/".join(facts.below_root))
        if source.text is not None:
            return source.text.fill(self)
        if source.said is not None:
            return _said(facts, source.said)
        place = source.part or 0
        inside = -len(facts.below_root) <= place < len(facts.below_root)
        return facts.below_root[place] if inside else None

    def _changed(self, value: Value, text: str | None) -> str | None:
        if text is None or text in value.ignore:
            return None
        if value.lower:
            text = text.lower()
        for old, new in value.replace:
            text = text.replace(old, new)
        if value.dashes:
            text = with_dashes(text)
        if text in value.map:
            text = value.map[text].fill(self)
        if text is None or text in value.ignore or not text.strip():
            return None
        if value.kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", text):
            return None
        if value.kind == "integer" and not re.fullmatch(r"-?\d+", text):
            return None
        if value.not_in is not None and holds(self(value.not_in) or "", text):
            return None
        return text.zfill(value.digits)

    def _subset(self, samples: Samples) -> tuple[str, str] | None:
        if not self._part_known:
            config = self._facts.config
            offset = (whole_number_at(config, samples.offset) or 0) if samples.offset else 0
            count = whole_number_at(config, samples.count) or None
            size = samples.sizes.get(self(samples.of) or "") if samples.of else None
            self._part = subset_of(offset, count, size, self._facts.sample_range)
            self._part_known = True
        return self._part

    def _of_folder(self, name: str) -> str | None:
        facts = self._facts
        match name:
            case "folder":
                return folder_name(facts)
            case "path":
                return "-".join(parts_from_date(facts))
            case "parent":
                return facts.below_root[-2] if len(facts.below_root) > 1 else facts.parent
            case "root":
                return facts.root.rstrip("/").rpartition("/")[2] if facts.root else None
            case "date":
                return date_of(facts)
            case "started":
                return facts.started_at
            case _:
                return facts.format


class _Reader:
    """Reads a table whose shape the schema has found right."""

    def __init__(self, table: Mapping[str, JsonValue]) -> None:
        self._table = table
        self._values: Mapping[str, Any] = table.get("values", {})
        self._problems: list[str] = []

    def faults(self) -> Iterator[str]:
        """What a schema cannot say: templates and patterns that cannot be read, names that nobody has, circles."""
        definition = self.read("")
        yield from self._problems
        used = dict(_used(definition))
        names = {*self._values, *OF_THE_FOLDER, *(OF_SAMPLES if "samples" in self._table else ())}
        for place, needed in used.items():
            for name in needed:
                if "." not in name and name not in names:
                    words = (
                        f"known: {', '.join(sorted(names))}; a key at the top of the config needs a value of its own"
                    )
                    yield f"{place}: there is no value {name!r} ({words})"
        for name in self._values:
            if not _NAME.fullmatch(name):
                yield f"values.{name}: {name!r} is no name (letters, digits, - and _)"
            elif name in (*OF_THE_FOLDER, *OF_SAMPLES):
                yield f"values.{name}: {name} has a meaning of its own already"
        needs = {place.removeprefix("values."): set(needed) for place, needed in used.items()}
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            yield f"values: these need each other: {' → '.join(error.args[1])}"

    def read(self, name: str) -> Definition:
        """The definition; what cannot be read is empty in it, and among the problems."""
        samples: Mapping[str, Any] | None = self._table.get("samples")
        return Definition(
            name=name,
            templates={
                key: tuple(self._template(key, text) for text in _many(self._table[key]))
                for key in _TEMPLATES
                if key in self._table
            },
            artifact_type=self._table.get("artifact_type", "run_outputs"),
            nested=self._table.get("config") == "params-meta",
            values={name: self._value(f"values.{name}", value) for name, value in self._values.items()},
            samples=Samples(**samples) if samples is not None else None,
        )

    def _value(self, place: str, value: Any) -> Value:
        table: Mapping[str, Any] = value if isinstance(value, Mapping) else {"from": value}
        sources = table["from"] if isinstance(table["from"], Sequence) else [table["from"]]
        sources = [sources] if isinstance(sources, str) else sources
        return Value(
            sources=tuple(self._source(place, source) for source in sources),
            match=self._pattern(place, table.get("match")),
            lower=table.get("lower", False),
            replace=tuple(table.get("replace", {}).items()),
            dashes=table.get("dashes", False),
            ignore=_many(table.get("ignore", ())),
            map={key: self._template(f"{place}.map.{key}", text) for key, text in table.get("map", {}).items()},
            kind=table.get("as", "text"),
            digits=table.get("digits", 0),
            not_in=table.get("not_in"),
            default=self._template(f"{place}.default", table["default"]) if "default" in table else None,
        )

    def _source(self, place: str, source: Any) -> Source:
        if isinstance(source, str):
            return Source(key=source)
        if sum(key in source for key in _SOURCES) != 1:
            self._problems.append(f"{place}: a source has exactly one of {', '.join(_SOURCES)}; found {dict(source)}")
        return Source(
            key=source.get("key"),
            part=source.get("part"),
            path=self._pattern(place, source.get("path")),
            text=self._template(place, source["text"]) if "text" in source else None,
            said=source.get("said"),
            match=self._pattern(place, source.get("match")),
            when=tuple((name, _many(wanted)) for name, wanted in source.get("when", {}).items()),
        )

    def _template(self, place: str, text: str) -> Template:
        try:
            return read_template(text)
        except ValueError as error:
            self._problems.append(f"{place}: {text!r}: {error}")
            return Template(())

    def _pattern(self, place: str, pattern: str | None) -> re.Pattern[str] | None:
        if pattern is None:
            return None
        try:
            return re.compile(pattern)
        except re.error as error:
            self._problems.append(f"{place}: {pattern!r} is no regular expression ({error})")
            return None


def _used(definition: Definition) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The names that each part of the table needs."""
    for key, templates in definition.templates.items():
        yield f"template {key}", tuple(name for template in templates for name in template.names)
    for name, value in definition.values.items():
        yield f"values.{name}", tuple(_uses(value))
    if definition.samples is not None and definition.samples.of is not None:
        yield from ((name, (definition.samples.of,)) for name in OF_SAMPLES)


def _uses(value: Value) -> Iterator[str]:
    for source in value.sources:
        yield from (name for name, _ in source.when)
        if source.text is not None:
            yield from source.text.names
    if value.not_in is not None:
        yield value.not_in
    for template in (*value.map.values(), *([value.default] if value.default else [])):
        yield from template.names


def _said(facts: Facts, what: str) -> str | None:
    """What the layers above the convention say of a name, the strongest first."""
    recorded = {"project": facts.recorded_project, "group": facts.recorded_group}.get(what)
    layers = (
        getattr(facts.overrides, what),
        getattr(facts.declared, what),
        getattr(facts.offline_run, what, None),
        recorded and without_references(facts.config, recorded),
        getattr(facts.rules, what, None),
    )
    return next((text for text in layers if text and text.strip()), None)


def _config_text(config: Mapping[str, JsonValue], key: str) -> str | None:
    """The text at a key: also a number, or true and false, in words."""
    value = lookup(config, key)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_at(config, key)
    return text_at(config, key)


def _matched(pattern: re.Pattern[str] | None, text: str | None) -> str | None:
    """The first group of the match, or all of it; ``None`` where there is none. Without a pattern the text itself."""
    if pattern is None or text is None:
        return text
    found = pattern.search(text[:_LONGEST])
    if found is None:
        return None
    matched = found[1] if pattern.groups else found[0]
    return None if matched is None or matched.lower() in SAYS_NOTHING else matched


def _many(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _plain(value: Any) -> JsonValue:
    """TOML's values as JSON has them; a date stays what it is, and no schema of ours takes it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
