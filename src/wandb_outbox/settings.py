"""The configuration: the only reader of the environment and of configuration files.

Order: command line > environment (``WANDB_OUTBOX_...``) > file > default. Everything is checked when it is loaded,
every fault is reported at once, and the result is frozen. Of W&B's own variables only ``WANDB_API_KEY``,
``WANDB_BASE_URL``, ``WANDB_ENTITY`` and ``WANDB_USERNAME`` count.
"""

from __future__ import annotations

import difflib
import netrc
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from wandb_outbox.errors import ConfigurationError
from wandb_outbox.folder import Selection, is_pattern
from wandb_outbox.model import RootRules

DEFAULT_BASE_URL = "https://api.wandb.ai"
CONFIG_NAME = "wandb-outbox.toml"
PREFIX = "WANDB_OUTBOX_"
_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
               "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
OUTSIDE_SETTINGS = frozenset({"STATE_DIR"})
"""Names of the environment that are ours but no field: found before, or beside, the settings."""


def parse_size(value: object) -> object:
    """``"20GB"`` to bytes; W&B and storage vendors count in powers of ten, ``GiB`` is there for the others."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", value)
    if found is None or found[2].upper() not in _SIZE_UNITS:
        raise ValueError('expected a size such as "500MB", "20GB" or a number of bytes')
    return int(float(found[1]) * _SIZE_UNITS[found[2].upper()])


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Words = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]
OnCrash = Literal["upload", "hold", "skip"]
Probe = Literal["lease", "proc"]
OnDeleted = Literal["new", "skip"]
LiveRuns = Literal["attach", "hold", "skip"]
LogModel = Literal["none", "best", "end"]


def problem_with_rule(rule: str) -> str | None:
    """What is wrong with a rule, or ``None``: ``"FILE"`` (a pattern) or ``"FILE: REGEX"``."""
    _, separator, pattern = rule.partition(": ")
    try:
        re.compile(pattern if separator else "")
    except re.error as error:
        return f"done_when {rule!r}: not a regular expression ({error})"
    return None if rule.strip() else "done_when: an empty rule"


class RootSettings(BaseModel):
    """One watched directory and the rules of everything below it; ``None``: what :class:`Settings` says for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    convention: str = "auto"
    on_crash: OnCrash = "upload"
    on_deleted: OnDeleted = "new"
    live_runs: LiveRuns = "attach"
    log_model: LogModel = "none"
    hold: bool | None = None
    entity: str | None = None
    project: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: Words = ()
    detect: Words = ()
    done_when: Words = ()
    polling: bool | None = None
    probe: Probe | None = None
    settle: Seconds | None = None
    crash_grace: Seconds | None = None
    stalled_after: Seconds | None = None
    backlog_after: Seconds | None = None
    exclude: Words = ()
    include: Words = ()
    media: Words = ()
    strict: bool = False
    _definition: dict[str, Any] | None = PrivateAttr(None)
    """The table of its convention, when the configuration defines it: given by the settings that the root is in."""

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value:
            raise ValueError("an empty path")
        return os.path.realpath(os.path.expanduser(value))

    @field_validator("exclude", "include")
    @classmethod
    def _readable_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        problems = [f"{pattern!r} is no gitignore pattern" for pattern in value if not is_pattern(pattern)]
        if problems:
            raise ValueError("; ".join(problems))
        return value

    @field_validator("done_when")
    @classmethod
    def _readable_rules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        problems = [problem for rule in value if (problem := problem_with_rule(rule)) is not None]
        if problems:
            raise ValueError("; ".join(problems))
        return value

    @property
    def rules(self) -> RootRules:
        """What a plan needs to know of this root."""
        return RootRules(
            self.convention, self.entity, self.project, self.group, self.job_type, self.tags, self._definition,
            self.log_model, self.media, self.strict,
        )  # fmt: skip

    @property
    def selection(self) -> Selection:
        """What is left out below this root."""
        return Selection(self.exclude, self.include)


class Settings(BaseSettings):
    """Everything the daemon can be told. Durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, populate_by_name=True
    )

    roots: Annotated[tuple[RootSettings, ...], NoDecode] = ()
    settle: Seconds = 10.0
    crash_grace: Seconds = 60.0
    crash_grace_slurm: Seconds = 30 * 60.0
    stalled_after: Seconds = 6 * 3600.0
    rescan: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    backlog_after: Seconds = 7 * 86400.0
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    max_attempts: Annotated[int, Field(ge=1)] = 5
    max_bytes: Size = 20 * 10**9
    stop_timeout: Seconds = 90.0
    hold: bool = False
    probe: Probe = "lease"
    site: Annotated[str, Field(min_length=1)] | None = None
    record_host: bool = False
    state_group: Annotated[str, Field(min_length=1)] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    conventions: dict[str, dict[str, Any]] = {}
    """The user's own conventions by their names; what may stand in one is checked by whoever reads it."""
    base_url: str = Field(
        DEFAULT_BASE_URL, validation_alias=AliasChoices("base_url", PREFIX + "BASE_URL", "WANDB_BASE_URL")
    )
    entity: str | None = Field(None, validation_alias=AliasChoices("entity", PREFIX + "ENTITY", "WANDB_ENTITY"))
    _configured: tuple[RootSettings, ...] = PrivateAttr(())
    """The roots that ROOT arguments took the place of."""

    @field_validator("roots", mode="before")
    @classmethod
    def _roots(cls, value: object) -> object:
        if isinstance(value, str):
            value = [part for part in value.split(os.pathsep) if part]
        if isinstance(value, (list, tuple)):
            return [{"path": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected a URL such as {DEFAULT_BASE_URL}")
        return value.rstrip("/")

    def model_post_init(self, context: Any, /) -> None:
        """Give each root the convention that it names (pydantic's hook for what follows validation)."""
        super().model_post_init(context)
        for root in self.roots:
            root._definition = self.conventions.get(root.convention)  # noqa: SLF001  the room's own

    def replacing(self, configured: tuple[RootSettings, ...]) -> None:
        """Know the configured roots that ROOT arguments take the place of; for :func:`load`."""
        self._configured = configured
        for root in configured:
            root._definition = self.conventions.get(root.convention)  # noqa: SLF001  the room's own

    def leases(self, root: RootSettings | None) -> bool:
        """Whether the lease probe may be used below this root, or outside every root."""
        return ((root and root.probe) or self.probe) == "lease"

    def root_of(self, path: str) -> RootSettings | None:
        """The innermost root that ``path`` is, or lies below.

        Of the configured ones first, also where ROOT arguments stand in their place: where a command looks does not decide
        what a folder is called, or what of it is sent.
        """
        return _innermost(path, self._configured) or _innermost(path, self.roots)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, the file they came from, and what is worth a line but no stop."""

    settings: Settings
    file: str | None
    notes: tuple[str, ...]


def _innermost(path: str, roots: Iterable[RootSettings]) -> RootSettings | None:
    above = [root for root in roots if _is_below(path, root.path)]
    return max(above, key=lambda root: len(root.path), default=None)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def load(
    environ: Mapping[str, str],
    *,
    config: str | None = None,
    roots: tuple[str, ...] = (),
    conventions: frozenset[str],
    convention_faults: Callable[[str, Mapping[str, Any]], Sequence[str]] | None = None,
) -> Loaded:
    """Read and check the whole configuration.

    ``config`` and ``roots`` are from the command line, and ROOT arguments replace the configured roots but keep the
    rules of the configured root that they are, or lie below; configured roots below them stay. ``conventions`` are the
    names that come built in, and ``convention_faults`` says what is wrong with a table ``[conventions.NAME]``. Raises
    :class:`ConfigurationError` with every fault at once.
    """
    file = config or find_file(environ)
    problems: list[str] = []
    in_file: dict[str, Any] = {}
    if file is not None:
        try:
            with open(file, "rb") as stream:
                in_file = tomllib.load(stream)
        except OSError as error:
            problems.append(f"{file}: cannot be read ({error.strerror})")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            problems.append(f"{file}: not valid TOML ({error})")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=None if problems else file)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Command line, then environment, then file (pydantic-settings' hook for the order of its sources)."""
            environment = EnvSettingsSource(settings_cls)
            # Names with our prefix, or W&B's, and no others: the aliases alone would also take a stray BASE_URL.
            environment.env_vars = {
                name.lower(): value for name, value in environ.items() if value and name.startswith("WANDB_")
            }
            return (init_settings, environment, TomlConfigSettingsSource(settings_cls))

    given: dict[str, Any] = {}
    configured = environ.get(PREFIX + "ROOTS") or in_file.get("roots")
    if roots:
        given["roots"] = _merge_roots(roots, configured)
    settings: Settings | None = None
    try:
        settings = FromFile(**given)
        if roots:
            settings.replacing(_well_formed_roots(configured))
    except ValidationError as error:
        problems += [
            _fault(fault["loc"], fault["msg"], fault.get("input"), environ, file)
            for fault in error.errors(include_url=False)
        ]
    defined = settings.conventions if settings is not None else _tables(in_file.get("conventions"))
    known_conventions = conventions | set(defined)
    for name, table in defined.items():
        if name in conventions:
            problems.append(f"conventions.{name}: this name is taken by a convention that comes built in")
        elif convention_faults is not None:
            problems += [f"{file or PREFIX + 'CONVENTIONS'}: {fault}" for fault in convention_faults(name, table)]
    problems += [
        f"root {root.get('path')}: unknown convention {root['convention']!r} (known: {', '.join(sorted(known_conventions))})"
        for root in _items(given.get("roots", configured))
        if isinstance(root, dict)
        and isinstance(root.get("convention"), str)
        and root["convention"] not in known_conventions
    ]
    problems += _contradictions(_well_formed_roots(configured))
    if problems or settings is None:
        raise ConfigurationError(problems, hint="mend these and start again; nothing was done")
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + name for name in OUTSIDE_SETTINGS}
    notes = tuple(
        f"{name} is set but is no setting{_suggestion(name, known)}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    )
    return Loaded(settings, file, notes)


def find_file(environ: Mapping[str, str]) -> str | None:
    """The configuration file that counts without ``--config``, or ``None``: the first that exists."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "/", ".config")
    directories = [environ.get("CONFIGURATION_DIRECTORY", "").split(":")[0], "/etc/wandb-outbox",
                   os.path.join(home, "wandb-outbox")]  # fmt: skip
    candidates = [os.path.join(directory, CONFIG_NAME) for directory in directories if directory]
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), None)


def find_api_key(environ: Mapping[str, str], base_url: str) -> str | None:
    """The W&B API key: ``WANDB_API_KEY``, the service manager's credential, or the netrc entry of the server's host.

    Only the uploader process calls this; the daemon never holds the key.
    """
    key = environ.get("WANDB_API_KEY", "").strip()
    if key:
        return key
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if credentials:
        try:
            with open(os.path.join(credentials, "wandb_api_key"), encoding="utf-8") as stream:
                return stream.read().strip() or None
        except (OSError, UnicodeDecodeError):
            pass
    path = environ.get("NETRC") or os.path.join(environ.get("HOME") or "/", ".netrc")
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(base_url).hostname or "")
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return None
    return (entry[2] or None) if entry else None


def _merge_roots(given: tuple[str, ...], configured: object) -> list[object]:
    known = _well_formed_roots(configured)
    paths = [os.path.realpath(os.path.expanduser(path)) for path in given]
    paths += [root.path for root in known if any(_is_below(root.path, path) for path in paths)]
    merged: list[object] = []
    for path in dict.fromkeys(paths):
        above = _innermost(path, known)
        merged.append({**(above.model_dump(exclude_unset=True) if above else {}), "path": path})
    return merged


def _well_formed_roots(value: object) -> tuple[RootSettings, ...]:
    """The roots that can be read although others cannot, so that all faults are reported at once."""
    if isinstance(value, str):
        value = value.split(os.pathsep)
    roots = []
    for item in _items(value):
        try:
            roots.append(RootSettings.model_validate({"path": item} if isinstance(item, str) else item))
        except ValidationError:
            continue
    return tuple(roots)


def _contradictions(roots: Sequence[RootSettings]) -> list[str]:
    """What is wrong with a directory that is several roots: nobody could say whose rules count for what is below it."""
    rules: dict[str, RootSettings] = {}
    return [
        f"root {root.path} is given more than once, with different rules: keep one of them"
        for root in roots
        if rules.setdefault(root.path, root) != root
    ]


def _tables(value: object) -> dict[str, dict[str, Any]]:
    return {name: table for name, table in value.items() if isinstance(table, dict)} if isinstance(value, dict) else {}


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()


def _fault(
    location: tuple[int | str, ...], message: str, value: object, environ: Mapping[str, str], file: str | None
) -> str:
    """One fault in a sentence: where it stands, what it is, what was given."""
    name = ".".join(str(part) for part in location)
    first = str(location[0]) if location else ""
    variables = (PREFIX + first.upper(), first, f"WANDB_{first.upper()}")
    source = next((variable for variable in variables if environ.get(variable)), file or "ROOT argument")
    if message == "Extra inputs are not permitted":
        fields = RootSettings.model_fields if len(location) > 1 else Settings.model_fields
        return f"{source}: {name} is no setting{_suggestion(str(location[-1]), set(fields))}"
    shown = "" if isinstance(value, (dict, list, tuple)) else f" (given: {value!r})"
    message = message.removeprefix("Value error, ").replace("a valid tuple", "a list")
    if location == ("roots",) and isinstance(value, dict):
        message += ": write [[roots]], with two brackets"
    return f"{source}: {name}: {message[0].lower()}{message[1:]}{shown}"


def _suggestion(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
