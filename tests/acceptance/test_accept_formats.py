"""The example of docs/formats.md, and readers that fail, in real processes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from acceptance_bench import Bench, alone_on_a_bench, assert_delivered_once, wait_for
from reader_packages import install
from run_folders import make

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"


def _documented(bench: Bench) -> dict[str, str | None]:
    """Install the package of the document; returns the environment that finds it."""
    text = DOCUMENT.read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (project,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    points = tomllib.loads(project)["project"]["entry-points"]["wandb_outbox.formats"]
    return {"PYTHONPATH": str(install(bench.top / "site", "curve_reader", source, points))}


def _curve(bench: Bench, end: str = "# end\n") -> Path:
    folder = bench.outputs / "a-curve"
    folder.mkdir()
    (folder / "curve.csv").write_text(f"step,loss\n0,1.0\n5,0.5\n9,0.25\n{end}")
    return folder


@alone_on_a_bench
def test_documented_reader_delivers_its_folders(bench: Bench) -> None:
    """Recognised, found finished by its own evidence, and delivered with its content; without it there is no run."""
    folder = _curve(bench)
    assert bench.run("flush", bench.outputs).code == 0
    assert bench.list() == []
    environ = _documented(bench)
    (plan,) = bench.run("plan", folder, "--json", environ=environ).json()["plans"]
    assert (plan["format"], plan["history_steps"]) == ("curve", 3)
    assert bench.run("flush", bench.outputs, environ=environ).code == 0
    run, _ = assert_delivered_once(bench.server, folder)
    assert [(row["_step"], row["loss"]) for row in run.history] == [(0, 1.0), (5, 0.5), (9, 0.25)]
    assert (run.summary["final_loss"], run.config["source"]) == (0.25, "curve.csv")
    row = bench.row(folder)
    assert row is not None
    assert (row["format"], row["state"]) == ("curve", "uploaded")


VALUES = """
import datetime, decimal, enum, math, pathlib
from wandb_outbox.formats import Content
from wandb_outbox.model import FormatEvidence
class Samples:
    name = "values.bin"
    def __init__(self, row): self.row = row
    def rows(self, warn): yield self.row
class Array:
    def __init__(self, *numbers): self.numbers = numbers
    def tolist(self): return [Array(*each) if isinstance(each, tuple) else each for each in self.numbers]
class Colour(enum.Enum):
    RED = "red"
class Odd:
    def recognises(self, path, names): return "values.bin" in names
    def evidence(self, path, snapshot, marker): return FormatEvidence(done="so")
    def read(self, path, snapshot):
        values = {
            "array": Array((1.5, math.nan), (2,)), "path": pathlib.Path("a/b"), "bytes": b"\\xff", "text": b"abc",
            "day": datetime.date(2025, 12, 3), "took": datetime.timedelta(minutes=1), "set": {2, 1}, 7: (1, 2),
            "colour": Colour.RED, "exact": decimal.Decimal("0.5"), "huge": 2**70, "infinite": -math.inf, "complex": 1j,
        }
        return Content(config=dict(values), metrics=dict(values), history=({"_step": 0, **values},), samples=Samples(values))
"""
ARRIVED = {
    "array": [[1.5, "NaN"], [2]], "path": "a/b", "bytes": "base64:/w==", "text": "abc", "day": "2025-12-03", "took": 60.0,
    "set": [1, 2], "7": [1, 2], "colour": "red", "exact": 0.5, "huge": str(2**70), "infinite": "-Infinity",
    "complex": "1j",
}  # fmt: skip


@alone_on_a_bench
def test_whatever_values_a_reader_hands_over_arrive(bench: Bench) -> None:
    """Arrays, paths, bytes, dates and the like, in configuration, summary, history and the artifact's metadata."""
    environ: dict[str, str | None] = {
        "PYTHONPATH": str(install(bench.top / "site", "values", VALUES, {"odd": "values:Odd"}))
    }
    folder = bench.outputs / "odd"
    folder.mkdir()
    (folder / "values.bin").write_bytes(b"1")
    assert bench.run("flush", bench.outputs, environ=environ).code == 0
    run, artifact = assert_delivered_once(bench.server, folder)
    for found in (run.config, run.summary, run.history[0], artifact.metadata["config"], artifact.metadata["summary"]):
        assert {key: found[key] for key in ARRIVED} == ARRIVED
    assert run.summary["samples"]["nrows"] == 1


FAULTY = """
from wandb_outbox.model import FormatEvidence
class Base:
    mark = "no such file"
    def recognises(self, path, names): return self.mark in names
    def evidence(self, path, snapshot, marker): return FormatEvidence(done="so")
    def read(self, path, snapshot): raise RuntimeError("cannot read this")
class Blind(Base):
    def recognises(self, path, names): raise KeyError("everywhere")
class Unsure(Base):
    mark = "unsure.txt"
    def evidence(self, path, snapshot, marker): raise RecursionError("too deep")
class Torn(Base):
    mark = "torn.txt"
"""


@alone_on_a_bench
def test_faulty_readers_touch_no_other_folder(bench: Bench) -> None:
    """The daemon goes on, says once what is wrong, and each of their folders says it in its reason."""
    points = {"blind": "faulty:Blind", "unsure": "faulty:Unsure", "torn": "faulty:Torn", "lost": "faulty:Nowhere"}
    environ: dict[str, str | None] = {"PYTHONPATH": str(install(bench.top / "site", "faulty", FAULTY, points))}
    for name in ("unsure", "torn"):
        (bench.outputs / name).mkdir()
        (bench.outputs / name / f"{name}.txt").write_text("x")
    good = make(bench.outputs / "good")
    daemon = bench.watch(environ=environ)
    bench.wait_state(good, "uploaded")
    row = bench.wait_state(bench.outputs / "torn", "failed")
    assert "the format torn (torn = faulty:Torn) failed: RuntimeError: cannot read this" in row["reason"]
    assert "mend the reader" in row["error"]["hint"]
    row = bench.wait_state(bench.outputs / "unsure", "writing")
    wait_for(lambda: "RecursionError: too deep" in (bench.row(bench.outputs / "unsure") or row)["reason"], "the reason")
    faults = [event["fault"] for event in daemon.events("format-faulty")]
    assert {fault.split(" = ")[0] for fault in faults} == {"blind", "lost"}
    assert len(faults) == 2
    assert daemon.process.poll() is None
    plan = bench.run("plan", good, environ=environ)
    assert plan.code == 0
    assert "lost = faulty:Nowhere: cannot be loaded: AttributeError" in plan.err
