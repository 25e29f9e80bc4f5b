"""Find secrets in a configuration, and keep them on this machine.

``model.api_key=`` given as an override stands in ``config.yaml``, ``overrides.yaml``, ``hydra.yaml`` and in the log's
``Command:`` line. Its value is masked in everything that is planned, and files that hold it are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO
from urllib.parse import quote

from wandb_outbox.folder import open_file
from wandb_outbox.model import FileStat, JsonValue

MASK = "***"
OWN_KEY = "the API key that delivers"
"""What our own secret is called: an experiment that prints its environment leaves it in a file."""
MAX_OTHER_FILE = 50 * 1024 * 1024
"""Bytes. Files of the kinds below are searched whole, all others only up to this size."""

_SEARCHED = (".log", ".yaml", ".yml", ".json", ".jsonl", ".txt", ".out", ".err", ".sh", ".toml", ".cfg", ".ini")
_CHUNK = 4 * 1024 * 1024
_VERBATIM_FROM = 8
"""Shorter values stand in innocent text, too: they are searched only behind their key."""

_SHORTEST_NUMBER = 100_000

_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SECRET_WORDS = frozenset(
    {
        "apikey",
        "secret",
        "secrets",
        "password",
        "passwords",
        "passwd",
        "credential",
        "credentials",
        "authorization",
        "bearer",
    }
)
_SECRET_PAIRS = frozenset((first, last) for first in ("api", "private", "access", "secret") for last in ("key", "keys"))
# Tokens of a vocabulary, which share their word with tokens of access.
_VOCABULARY = frozenset(
    {"pad", "eos", "bos", "unk", "sep", "cls", "mask", "stop", "start", "end", "begin", "continuation", "special",
     "image", "step", "think", "thinking", "new", "first", "last", "next", "per", "delimiter", "newline", "prefix",
     "suffix"}
)  # fmt: skip
_PLACEHOLDERS = frozenset(
    {"", "null", "none", "nil", "empty", "dummy", "fake", "placeholder", "changeme", "not-needed", "no-key",
     "no-key-required", "na", "n/a", "todo", "true", "false", "specify", "token-abc123", "your-api-key", "your_api_key",
     "???"}
)  # fmt: skip
_MASKED = re.compile(r"[*xX.]{3,}|<[^<>]*>|\[[^\[\]]*\]")
_NAME_OF_VARIABLE = re.compile(r"\$?[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_SCHEME = re.compile(r"(?:Bearer|Basic|Token)\s+(\S+)", re.IGNORECASE)
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bsk-[A-Za-z0-9_-]{16,}"
    r"|\bhf_[A-Za-z0-9]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|\bgithub_pat_[A-Za-z0-9_]{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bAIza[0-9A-Za-z_-]{35}"
    r"|(?<=WANDB_API_KEY=)[0-9a-f]{40}"
    r"|://[^/\s:@]+:[^/\s:@]+@",
    re.DOTALL,
)
_OVERRIDE = re.compile(r"[+~]{0,2}([\w./@-]+)=(.*)", re.DOTALL)
_ARGUMENT = re.compile(r"(?:^|\s)[+~-]{0,2}([\w./@-]+)=('[^']*'|\"[^\"]*\"|\S+)")


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secret values that were found, each with the key that it was found under. Never printed."""

    found: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.found)

    def __repr__(self) -> str:
        return f"Secrets({len(self.found)} found)"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, without their values."""
        return tuple(dict.fromkeys(key for key, _ in self.found))

    def redact(self, text: str) -> str:
        """``text`` with every secret of some length masked."""
        for _, value in self.found:
            if len(value) >= _VERBATIM_FROM:
                text = text.replace(value, MASK)
        return text

    def redact_all(self, value: JsonValue) -> JsonValue:
        """:meth:`redact` for every string in a JSON value, keys too."""
        if not self.found:
            return value
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, Mapping):
            return {self.redact(key): self.redact_all(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.redact_all(each) for each in value]
        return value

    def files_with(self, path: str, files: Iterable[FileStat]) -> tuple[str, ...]:
        """The files of the folder that hold one of the secrets. Raises as :func:`wandb_outbox.folder.open_file`."""
        if not self.found:
            return ()
        needles = _needles(self.found)
        return tuple(
            file.path
            for file in files
            if (file.path.endswith(_SEARCHED) or file.size <= MAX_OTHER_FILE) and _holds(path, file.path, needles)
        )


def find_secrets(
    config: JsonValue, overrides: Iterable[str] = (), commands: Iterable[str] = (), own: Iterable[str] = ()
) -> Secrets:
    """Every secret value in a configuration, in Hydra overrides and in command lines; and our ``own``, wherever they are."""
    found: dict[tuple[str, str], None] = {(OWN_KEY, key): None for key in own if len(key) >= _VERBATIM_FROM}
    for key, named, text in _leaves(config, "", False):
        found.update(dict.fromkeys(_secrets_of(key, text, named)))
    assigned = [argument for line in commands for argument in _ARGUMENT.finditer(line)]
    assigned += [override for line in overrides if (override := _OVERRIDE.fullmatch(line))]
    for each in assigned:
        key, text = each[1], each[2].strip("'\"")
        found.update(dict.fromkeys(_secrets_of(key, text, is_secret_key(key.rpartition(".")[2], text))))
    for line in (*overrides, *commands):
        found.update(dict.fromkeys(("the command line", shape[0]) for shape in _SHAPES.finditer(line)))
    # The longest first, so that masking one does not leave half of another that begins alike.
    return Secrets(tuple(sorted(found, key=lambda each: (-len(each[1]), each))))


def masked_config(config: JsonValue, secrets: Secrets) -> JsonValue:
    """The configuration with every secret value masked, also a short one, and also where it is part of a text."""
    return secrets.redact_all(_masked(config, False)) if secrets else config


def masked_override(override: str) -> str:
    """A Hydra override (``key=value``) with its value masked if its key names a secret."""
    found = _OVERRIDE.fullmatch(override)
    if found is not None:
        value = found[2].strip("'\"")
        if is_secret_key(found[1].rpartition(".")[2], value) and _is_real(value):
            return override[: found.start(2)] + MASK
    return _SHAPES.sub(MASK, override)


def is_secret_key(key: str, value: JsonValue) -> bool:
    """Whether a key names a secret by its last words: ``api_key``, ``hfToken``; not ``max_tokens``, ``pad_token``."""
    words = [word.lower() for word in _WORDS.findall(key)]
    while words and words[-1].isdigit():
        words.pop()
    if not words:
        return False
    last = words[-1]
    if last in _SECRET_WORDS or tuple(words[-2:]) in _SECRET_PAIRS:
        return True
    if last != "token" or not isinstance(value, str):
        return False
    return not (len(words) > 1 and words[-2] in _VOCABULARY) and not any(letter.isspace() for letter in value.strip())


def _secrets_of(key: str, value: str, named: bool) -> Iterator[tuple[str, str]]:
    if named and _is_real(value):
        scheme = _SCHEME.fullmatch(value.strip())
        yield key, scheme[1] if scheme else value.strip()
    for shape in _SHAPES.finditer(value):
        yield key, shape[0]


def _is_real(value: str) -> bool:
    text = value.strip()
    return not (
        text.lower() in _PLACEHOLDERS or "${" in text or _MASKED.fullmatch(text) or _NAME_OF_VARIABLE.fullmatch(text)
    )


def _leaves(value: JsonValue, key: str, named: bool) -> Iterator[tuple[str, bool, str]]:
    """The dotted key of every leaf, whether it, or what holds it, is named as a secret, and its text."""
    text = _secret_text(value)
    if text is not None:
        yield key, named, text
    elif isinstance(value, Mapping):
        for name, each in value.items():
            inner = f"{key}.{name}" if key else str(name)
            yield from _leaves(each, inner, named or is_secret_key(str(name), each))
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, key, named)


def _secret_text(value: JsonValue) -> str | None:
    """The text of what could be a secret: a string, or a password of digits, which YAML takes for a number."""
    if isinstance(value, str):
        return value
    is_long_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _SHORTEST_NUMBER
    return str(value) if is_long_number else None


def _masked(value: JsonValue, named: bool) -> JsonValue:
    if named and not isinstance(value, str) and _secret_text(value) is not None:
        return MASK
    if isinstance(value, str):
        return MASK if named and _is_real(value) else _SHAPES.sub(MASK, value)
    if isinstance(value, Mapping):
        return {name: _masked(each, named or is_secret_key(str(name), each)) for name, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, named) for each in value]
    return value


def _needles(found: Iterable[tuple[str, str]]) -> re.Pattern[bytes]:
    """One pattern for all secrets, in the forms that YAML, JSON and URLs give them."""
    parts: set[bytes] = set()
    for key, value in found:
        if len(value) >= _VERBATIM_FROM:
            # A key of several lines is folded and indented as the writer likes: its long lines are enough.
            lines = [line for line in value.splitlines() if len(line) >= _VERBATIM_FROM] or [value]
            for line in lines:
                forms = (line, json.dumps(line)[1:-1], json.dumps(line, ensure_ascii=False)[1:-1], quote(line, safe=""))
                parts.update(re.escape(form.encode("utf-8", "surrogatepass")) for form in forms)
        else:
            name = re.escape(key.rpartition(".")[2].encode("utf-8", "replace"))
            parts.add(name + rb"[\"']?\s{0,4}[:=]\s{0,4}[\"']?" + re.escape(value.encode("utf-8", "replace")))
    return re.compile(b"|".join(sorted(parts)))


def _holds(path: str, name: str, needles: re.Pattern[bytes]) -> bool:
    overlap = 4096
    with open_file(path, name) as file:
        before = b""
        for chunk in _chunks(file):
            if needles.search(before + chunk):
                return True
            before = chunk[-overlap:]
    return False


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
