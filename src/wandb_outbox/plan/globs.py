"""Patterns for the files of a run folder."""

from __future__ import annotations

import re

_GLOB = re.compile(r"\*\*/|\*\*|\*|\?")
_MEANINGS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def file_pattern(glob: str) -> re.Pattern[str]:
    """``*`` and ``?`` stay within a directory, ``**`` does not; the name of a directory means all that is in it."""
    glob = glob.removeprefix("./").rstrip("/")
    parts, position = [], 0
    for found in _GLOB.finditer(glob):
        parts += [re.escape(glob[position : found.start()]), _MEANINGS[found[0]]]
        position = found.end()
    return re.compile("".join(parts) + re.escape(glob[position:]) + "(?:/.*)?", re.DOTALL)
