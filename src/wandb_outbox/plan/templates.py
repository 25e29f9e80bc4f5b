"""Templates of names: ``{value}``, ``{one|other}`` for fall-backs, ``[...]`` for what appears only with its values.

``{strategy}_{model}[_s{first}-{last}]``: what stands in brackets appears when every value in it does; a missing value
outside of brackets leaves the whole template without a text. Braces and
brackets always mean this: no name can hold one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(r"\{([^{}\[\]]*)\}|[{}\[\]]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")

Look = Callable[[str], str | None]
"""The text of a name, or ``None`` if it has none."""


@dataclass(frozen=True, slots=True)
class Value:
    """One place for a value: the first of the names that has a text."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was read: texts, values, and templates in brackets."""

    parts: tuple[str | Value | Template, ...]

    @property
    def names(self) -> Iterator[str]:
        """Every name that stands in it."""
        for part in self.parts:
            if not isinstance(part, str):
                yield from part.names

    def fill(self, look: Look) -> str | None:
        """The text with every value in its place; ``None`` when a value outside of brackets is missing."""
        filled = []
        for part in self.parts:
            if isinstance(part, Value):
                text = next((found for name in part.names if (found := look(name)) is not None), None)
                if text is None:
                    return None
                filled.append(text)
            elif isinstance(part, Template):
                filled.append(part.fill(look) or "")
            else:
                filled.append(part)
        return "".join(filled)


def read_template(text: str) -> Template:
    """Read a template. Raises ``ValueError`` that says what is wrong and where."""
    stack: list[list[str | Value | Template]] = [[]]
    position = 0
    for token in _TOKEN.finditer(text):
        stack[-1].append(text[position : token.start()])
        position = token.end()
        sign = token[0]
        if token[1] is not None:
            stack[-1].append(_value(token[1]))
        elif sign == "[":
            stack.append([])
        elif sign == "]" and len(stack) > 1:
            inner = _template(stack.pop())
            if not any(isinstance(part, Value) for part in inner.parts):
                raise ValueError(f"the brackets that end at character {position} hold no value")
            stack[-1].append(inner)
        else:
            raise ValueError(f"{sign} at character {position} has no counterpart")
    if len(stack) > 1:
        raise ValueError("a [ has no ]")
    stack[0].append(text[position:])
    return _template(stack[0])


def _template(parts: list[str | Value | Template]) -> Template:
    return Template(tuple(part for part in parts if part != ""))


def _value(text: str) -> Value:
    names = tuple(name.strip() for name in text.split("|"))
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{{{text}}}: {name!r} is no name (letters, digits, - and _, with dots for a config key)")
    return Value(names)
