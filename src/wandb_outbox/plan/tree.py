"""Files as a tree with sizes, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from wandb_outbox.model import FileStat

MANY = 20
"""Files that are shown of one directory, and directories in it."""


@dataclass(slots=True)
class _Directory:
    files: list[tuple[str, int]] = field(default_factory=list)
    directories: dict[str, _Directory] = field(default_factory=dict)
    count: int = 0
    size: int = 0


def file_tree(files: Sequence[FileStat]) -> Iterator[tuple[int | None, str]]:
    """Lines of (size in bytes, text), directories with the sum of what is in them before the files beside them.

    The size is ``None`` where a line only tells how many more there are.
    """
    top = _Directory()
    for file in files:
        *above, name = file.path.split("/")
        here = top
        for part in above:
            here = here.directories.setdefault(part, _Directory())
            here.count += 1
            here.size += file.size
        here.files.append((name, file.size))
    yield from _lines(top, "")


def _lines(directory: _Directory, indent: str) -> Iterator[tuple[int | None, str]]:
    inside = sorted(directory.directories.items())
    for name, each in inside[:MANY]:
        words = "1 file" if each.count == 1 else f"{each.count:,} files"
        yield each.size, f"{indent}{name}/  ({words})"
        yield from _lines(each, indent + "  ")
    if len(inside) > MANY:
        yield None, f"{indent}… and {len(inside) - MANY:,} more directories"
    for name, size in sorted(directory.files)[:MANY]:
        yield size, indent + name
    if len(directory.files) > MANY:
        yield None, f"{indent}… and {len(directory.files) - MANY:,} more files"
