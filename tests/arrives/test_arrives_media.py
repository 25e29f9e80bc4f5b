"""Pictures, sound, plots and tables of the folder, shown on request."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import sys
import wave
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from arrivals import Way, table_rows

from wandb_outbox.model import RootRules
from wandb_outbox.plan import plan_to_json
from wandb_outbox.plan.media import MAX_FILES
from wandb_outbox.sandbox import Sandbox

pytest_plugins = ("arrives_fixtures",)


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\x80" * width for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


def sound() -> bytes:
    """A tenth of a second of silence."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 800)
    return made.getvalue()


JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x0b\x08\0\x07\0\x05\1\1\x11\0\xff\xd9"
GIF = b"GIF89a\x03\0\x02\0\x80\0\0" + b"\0" * 20
BMP = b"BM" + b"\0" * 16 + struct.pack("<ii", 9, -4) + b"\0" * 8
MEDIA: dict[str, tuple[bytes, str, dict[str, Any]]] = {
    "plots/loss.png": (png(4, 3), "images", {"_type": "image-file", "format": "png", "width": 4, "height": 3}),
    "plots/a b é.jpg": (JPEG, "images", {"_type": "image-file", "format": "jpg", "width": 5, "height": 7}),
    "plots/x.gif": (GIF, "images", {"_type": "image-file", "format": "gif", "width": 3, "height": 2}),
    "plots/x.bmp": (BMP, "images", {"_type": "image-file", "format": "bmp", "width": 9, "height": 4}),
    "speech.wav": (sound(), "audio", {"_type": "audio-file"}),
    "agent.mp4": (b"\0\0\0\x18ftypisom" + b"\0" * 40, "videos", {"_type": "video-file"}),
    "roc.plotly.json": (b'{"data": [{"y": [1, 2]}], "layout": {}}', "plotly", {"_type": "plotly-file"}),
}
PATTERNS = ("plots/*", "*.wav", "**.mp4", "*.plotly.json")


def with_media(sandbox: Sandbox, root: Path, *patterns: str) -> Way:
    """A folder of which the root asks for these."""
    return Way(sandbox, root, "plain").put("outbox.yaml", "").ask(rules=RootRules(media=patterns))


def test_media_arrive_as_the_sdk_would_send_them(sandbox: Sandbox, tmp_path: Path) -> None:
    """The file under its folder, byte for byte, and a value in the summary that W&B knows; again, and it is the same."""
    way = with_media(sandbox, tmp_path, *PATTERNS)
    for path, (content, _, _) in MEDIA.items():
        way.put(path, content)
    assert [each["kind"] for each in plan_to_json(way.plan())["media"]].count("image") == 4
    for _ in range(2):
        receipt = way.put("revision", str(_)).deliver()
        assert receipt.warnings == ()
        run = way.arrived(receipt)
        for path, (content, folder, value) in MEDIA.items():
            name = f"media/{folder}/{path}"
            about = {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            assert run.summary[path] == value | about
            file = run.files[name].path
            assert file is not None
            assert file.read_bytes() == content
        assert run.history == []
    (way.path / "speech.wav").unlink()
    assert "speech.wav" not in way.arrived(way.deliver()).summary


def test_tables_are_asked_for_by_pattern(sandbox: Sandbox, tmp_path: Path) -> None:
    """CSV, tab-separated and JSON lines, by the root and by the folder itself."""
    way = with_media(sandbox, tmp_path, "tables/*.csv", "tables/*.tsv")
    way.put("outbox.yaml", {"media": "tables/**.jsonl"})
    way.put("tables/x.csv", 'text,score,ok\n"a, ""b""",0.5,True\nc,,nan\n')
    way.put("tables/x.tsv", "a\tb\n1\tzwei\n").put("tables/deep/y.jsonl", '{"a": 1, "n": {"b": NaN}}\n{"late": [1]}\n')
    run = way.arrived(way.deliver())
    assert table_rows(run, "tables-x.csv") == (["text", "score", "ok"], [['a, "b"', 0.5, True], ["c", None, "NaN"]])
    assert table_rows(run, "tables-x.tsv") == (["a", "b"], [[1, "zwei"]])
    assert table_rows(run, "tables-deep-y.jsonl") == (["a", "n/b", "late"], [[1, "NaN", None], [None, None, "[1]"]])


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("x.png", b"no picture", "media-broken"),
        ("x.png", b"", "media-broken"),
        ("x.jpg", JPEG[:12], "media-broken"),
        ("x.wav", b"ID3", "media-broken"),
        ("x.plotly.json", b'{"layout": {}}', "media-broken"),
        ("x.plotly.json", b"{", "media-broken"),
        ("x.csv", b"", "media-empty"),
        ("x.csv", b"a,b\n1,2,3\n4,5\n", "media-broken"),
        ("x.csv", b"a\n" + b"x" * 200_000 + b"\n", "media-broken"),
        ("x.jsonl", b'{"a": 1}\nno\n[1]\n', "media-broken"),
        ("x.docx", b"PK", "media-unknown"),
        ("other", b"", "media-missing"),
    ],
)
def test_what_cannot_be_shown_is_said_and_costs_nothing(
    sandbox: Sandbox, tmp_path: Path, name: str, content: bytes, rule: str
) -> None:
    """The run arrives, with the file in its artifact."""
    way = with_media(sandbox, tmp_path, "x.*").put("metrics.json", {"acc": 0.5}).put(name, content)
    assert rule in {warning.rule for warning in way.plan().warnings}
    receipt = way.deliver()
    assert way.arrived(receipt).summary["acc"] == 0.5
    assert name in way.artifact(receipt).files


def test_media_are_few(sandbox: Sandbox, tmp_path: Path) -> None:
    """A folder of a thousand pictures does not make a thousand panels; how many are not shown is said."""
    way = with_media(sandbox, tmp_path, "**.png")
    for number in range(MAX_FILES + 7):
        way.put(f"{number:04}.png", png(1, 1))
    receipt = way.deliver()
    assert sum(name.startswith("media/") for name in way.arrived(receipt).files) == MAX_FILES
    (said,) = [warning for warning in receipt.warnings if warning.startswith("media-cut")]
    assert "0100.png, 0101.png, 0102.png, 0103.png, 0104.png and 2 more" in said


def test_a_key_that_is_taken_stays_what_it_is(sandbox: Sandbox, tmp_path: Path) -> None:
    """A metric goes before a picture of its name, and the samples before a table of theirs."""
    way = with_media(sandbox, tmp_path, "x.png", "samples").put("metrics.json", {"x.png": 1}).put("x.png", png(1, 1))
    summary = way.arrived(way.deliver()).summary
    assert summary["x.png"] == 1
    assert summary["media/x.png"]["path"] == "media/images/x.png"


def test_parquet_is_a_table_where_it_can_be_read(sandbox: Sandbox, tmp_path: Path) -> None:
    """With pyarrow beside us; without it that is said, and what to do."""
    way = with_media(sandbox, tmp_path, "*.parquet").put("x.parquet", b"PAR1")
    said = {warning.rule: warning.message for warning in way.plan().warnings}
    if find_spec("pyarrow") is None:
        assert "pyarrow must be installed" in said["media-no-parquet"]
        assert "pyarrow" not in sys.modules
    else:
        assert "x.parquet cannot be read as parquet" in said["media-broken"]
    assert json.dumps(plan_to_json(way.plan())["media"]) == "[]"
