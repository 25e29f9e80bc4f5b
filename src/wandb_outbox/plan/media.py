"""Files of the folder that are shown in W&B as pictures, sound, moving pictures, plots and tables, on request.

The values are those that the SDK itself makes of such files. Making them here takes neither Pillow nor plotly nor numpy,
which the SDK would ask for, and they are values of the summary: in the history each would take a step of its own.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import IO, Any

from wandb_outbox.errors import FolderChanged, OutboxError
from wandb_outbox.folder import open_file
from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.formats.csvfile import csv_cell
from wandb_outbox.formats.jsonfile import decode
from wandb_outbox.model import FileStat, JsonValue, PlannedMedia, PlannedTable, PlanWarning, Severity
from wandb_outbox.plan.globs import file_pattern
from wandb_outbox.plan.limits import fit_artifact
from wandb_outbox.plan.table import TableBuilder

MAX_FILES = 100
MAX_FILE = 50_000_000
MAX_ALL = 200_000_000
"""Bytes, of one file and of all of them."""
MAX_TABLES = 20
MAX_TABLE_FILE = 2_000_000_000
_MAX_LINE = 8_000_000
_HEAD = 64 * 1024
_PLOT = ".plotly.json"

_FOLDERS = {"image": "images", "audio": "audio", "video": "videos", "plotly": "plotly"}
_KINDS = {
    **dict.fromkeys(("png", "jpg", "jpeg", "gif", "bmp"), "image"),
    **dict.fromkeys(("wav", "mp3", "flac", "ogg"), "audio"),
    **dict.fromkeys(("mp4", "webm"), "video"),
    **dict.fromkeys(("csv", "tsv", "jsonl", "parquet"), "table"),
}
SUFFIXES = (*(f".{suffix}" for suffix in _KINDS), _PLOT)
"""The files that can be shown, by the ends of their names."""


def requested(
    folder: str, patterns: Sequence[str], files: Sequence[FileStat], taken: Mapping[str, Any], warn: Warn
) -> tuple[tuple[PlannedMedia, ...], tuple[PlannedTable, ...]]:
    """The media and tables that the patterns ask for, as far as they are sound and not too many.

    ``files`` are those that may leave this machine, ``taken`` the keys of the summary. What is left out is said, and is
    in the artifact all the same. Raises ``FolderChanged`` and ``FolderUnreadable``.
    """
    media: list[PlannedMedia] = []
    tables: dict[str, PlannedTable] = {}
    size = 0
    left_out: list[str] = []
    for file in _chosen(patterns, files, warn):
        kind = _kind(file.path)
        if kind is None:
            words = f"{file.path} is nothing that can be shown; that are {', '.join(SUFFIXES)}"
            warn(warning("media-unknown", words))
        elif kind == "table":
            if len(tables) >= MAX_TABLES or file.size > MAX_TABLE_FILE:
                left_out.append(file.path)
            else:
                name = _table_name(file.path, {*taken, *tables})
                table = _table(folder, file.path, name, warn)
                if table is not None:
                    tables[name] = table
        elif len(media) >= MAX_FILES or file.size > MAX_FILE or size + file.size > MAX_ALL:
            left_out.append(file.path)
        else:
            key = file.path if file.path not in taken else f"media/{file.path}"
            shown = _medium(folder, file, kind, key, warn)
            if shown is not None:
                media.append(shown)
                size += file.size
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        limits = f"{MAX_FILES} media of {MAX_FILE // 10**6} MB, {MAX_ALL // 10**6} MB in all, and {MAX_TABLES} tables"
        warn(warning("media-cut", f"not shown, for W&B is given at most {limits}: {', '.join(left_out[:5])}{more}"))
    return tuple(media), tuple(tables.values())


def _chosen(patterns: Sequence[str], files: Sequence[FileStat], warn: Warn) -> Iterator[FileStat]:
    compiled = [(pattern, file_pattern(pattern)) for pattern in patterns]
    for pattern, matching in compiled:
        if not any(matching.fullmatch(file.path) for file in files):
            # Not every run of a root has everything that the root asks for.
            words = f"no file of the folder is as {pattern}, which media asks for"
            warn(PlanWarning("media-missing", Severity.NOTE, words))
    yield from (file for file in files if any(matching.fullmatch(file.path) for _, matching in compiled))


def _kind(path: str) -> str | None:
    lower = path.lower()
    return "plotly" if lower.endswith(_PLOT) else _KINDS.get(lower.rpartition(".")[2])


# -- media ---------------------------------------------------------------------------------------------------------------


def _medium(folder: str, file: FileStat, kind: str, key: str, warn: Warn) -> PlannedMedia | None:
    with open_file(folder, file.path) as opened:
        head = opened.read(_HEAD)
        digest = hashlib.sha256(head)
        rest = b"" if kind != "plotly" else opened.read()
        digest.update(rest)
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    value: dict[str, JsonValue] = {"_type": f"{kind}-file", "size": file.size, "sha256": digest.hexdigest()}
    suffix = file.path.rpartition(".")[2].lower()
    if kind == "image":
        size = _image_size(head)
        sound = size is not None
        value["format"] = suffix
        if size is not None:
            value["width"], value["height"] = size
    elif kind == "plotly":
        sound = _is_plot(head + rest)
    else:
        sound = any(head[offset:].startswith(mark) for offset, mark in _MARKS[suffix])
    if not sound:
        warn(warning("media-broken", f"{file.path} is no {suffix} file; it is not shown"))
        return None
    name = f"media/{_FOLDERS[kind]}/{file.path}"
    return PlannedMedia(key, kind, file, name, {**value, "path": name})


_MARKS: Mapping[str, Sequence[tuple[int, bytes]]] = {
    "wav": [(0, b"RIFF")],
    "mp3": [(0, b"ID3"), *((0, bytes((0xFF, second))) for second in (0xFB, 0xF3, 0xF2, 0xFA))],
    "flac": [(0, b"fLaC")],
    "ogg": [(0, b"OggS")],
    "mp4": [(4, b"ftyp")],
    "webm": [(0, b"\x1aE\xdf\xa3")],
}


def _is_plot(data: bytes) -> bool:
    try:
        plot = decode(data)
    except ValueError:
        return False
    return isinstance(plot, dict) and isinstance(plot.get("data"), list)


def _image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height as the file's own header says; ``None`` for what is no picture of a known kind."""

    def number(position: int, length: int = 2, order: Any = "little") -> int:
        return int.from_bytes(head[position : position + length], order)

    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        return number(16, 4, "big"), number(20, 4, "big")
    if head.startswith((b"GIF87a", b"GIF89a")):
        return number(6), number(8)
    if head.startswith(b"BM") and len(head) >= 26:
        return number(18, 4), abs(int.from_bytes(head[22:26], "little", signed=True))
    if not head.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 9 < len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        # The frame headers of JPEG, of which C4, C8 and CC are none.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return number(position + 7, 2, "big"), number(position + 5, 2, "big")
        position += 2 + number(position + 2, 2, "big")
    return None


# -- tables --------------------------------------------------------------------------------------------------------------


def _table_name(path: str, taken: set[str]) -> str:
    # The table's artifact is named after it, behind the run's id.
    name = plain = fit_artifact(path.replace("/", "-"), lambda _: None)[:80]
    number = 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    return name


def _table(folder: str, path: str, name: str, warn: Warn) -> PlannedTable | None:
    builder = TableBuilder(name, path)
    suffix = path.rpartition(".")[2].lower()
    broken = 0
    try:
        with open_file(folder, path) as file:
            for row in _ROWS[suffix](file):
                if row is None:
                    broken += 1
                else:
                    builder.add(row)
    except FolderChanged:
        raise
    except _NoParquetError:
        warn(warning("media-no-parquet", f"{path} is not shown: to read Parquet, pyarrow must be installed beside us"))
        return None
    except OutboxError:
        raise
    except Exception as error:  # noqa: BLE001  what a parser makes of a broken file is its own affair
        reason = " ".join(str(error).split())[:120]
        warn(warning("media-broken", f"{path} cannot be read as {suffix} ({reason}); what came before that is shown"))
    if broken:
        warn(warning("media-broken", f"{path} holds {broken} rows that cannot be read; they are left out"))
    table = builder.build(warn)
    if table is None:
        warn(warning("media-empty", f"{path} holds no rows; there is no table of it"))
    return table


class _NoParquetError(Exception):
    """Nothing is installed that reads Parquet."""


def _csv_rows(file: IO[bytes], delimiter: str = ",") -> Iterator[dict[str, JsonValue] | None]:
    lines = csv.reader((line.decode("utf-8-sig", "replace") for line in iter(lambda: file.readline(_MAX_LINE), b"")),
                       delimiter=delimiter)  # fmt: skip
    header = next(lines, [])
    for cells in lines:
        if len(cells) > len(header):
            yield None
        elif cells:
            yield {column: csv_cell(cell) if cell else None for column, cell in zip(header, cells, strict=False)}


def _jsonl_rows(file: IO[bytes]) -> Iterator[dict[str, JsonValue] | None]:
    for line in iter(lambda: file.readline(_MAX_LINE), b""):
        if line.strip():
            try:
                row = decode(line)
            except ValueError:
                row = None
            yield row if isinstance(row, dict) else None


def _parquet_rows(file: IO[bytes]) -> Iterator[dict[str, JsonValue] | None]:
    if find_spec("pyarrow") is None:
        raise _NoParquetError
    # Only who asks for it pays for it; it is no dependency of ours.
    from pyarrow import parquet  # type: ignore[import-not-found]

    for batch in parquet.ParquetFile(file).iter_batches(batch_size=1000):
        yield from batch.to_pylist()


_ROWS: Mapping[str, Callable[[IO[bytes]], Iterator[dict[str, JsonValue] | None]]] = {
    "csv": _csv_rows,
    "tsv": lambda file: _csv_rows(file, "\t"),
    "jsonl": _jsonl_rows,
    "parquet": _parquet_rows,
}
