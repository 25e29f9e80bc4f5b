"""Formats of other packages: what is told of faulty ones, and that no fault goes further than its own folders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reader_packages import install

from wandb_outbox import formats
from wandb_outbox.errors import FolderChanged, Rejected
from wandb_outbox.folder import snapshot
from wandb_outbox.formats import registry

Installed = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """Install a package with these entry points, as if the process had just started."""

    def put(source: str, **points: str) -> None:
        module = f"reader_{len(list(tmp_path.iterdir()))}"
        install(tmp_path / module, module, source, {name: f"{module}:{place}" for name, place in points.items()})
        monkeypatch.syspath_prepend(str(tmp_path / module))
        registry._known.cache_clear()
        registry._FAULTS.clear()

    yield put
    registry._known.cache_clear()
    registry._FAULTS.clear()
    for name in [name for name in sys.modules if name.startswith("reader_") and name != "reader_packages"]:
        del sys.modules[name]


GOOD = """
from wandb_outbox.formats import Content
from wandb_outbox.model import FormatEvidence
class Good:
    def recognises(self, path, names): return "mine.txt" in names
    def evidence(self, path, snapshot, marker): return FormatEvidence(done="so")
    def read(self, path, snapshot): return Content(config={"a": 1})
good = Good()
class Half:
    def recognises(self, path, names): return True
"""


def folder(tmp_path: Path) -> str:
    """A folder that the readers are for, and Hydra's, too."""
    path = tmp_path / "run"
    (path / ".hydra").mkdir(parents=True)
    (path / "mine.txt").write_text("x")
    return str(path)


@pytest.mark.parametrize("place", ["Good", "good"])
def test_a_reader_is_asked_before_those_built_in(installed: Installed, tmp_path: Path, place: str) -> None:
    """As a class or as an object, under the name of its entry point; what it does not know stays ours."""
    path = folder(tmp_path)
    installed(GOOD, mine=place)
    assert formats.recognise(path, ["mine.txt", ".hydra"]) == "mine"
    assert formats.recognise(path, [".hydra"]) == "hydra"
    assert formats.evidence("mine", path, snapshot(path)).done == "so"
    assert formats.read("mine", path, snapshot(path)).config == {"a": 1}
    assert formats.faults() == ()


@pytest.mark.parametrize(
    ("source", "point", "words"),
    [
        ("import no_such_library", {"mine": "Good"}, "cannot be loaded: ModuleNotFoundError"),
        ("raise SystemExit(3)", {"mine": "Good"}, "cannot be loaded: SystemExit"),
        ("x = 1", {"mine": "Good"}, "cannot be loaded: AttributeError"),
        (GOOD, {"mine": "Half"}, "has no evidence, read"),
        (GOOD, {"hydra": "Good"}, "there is a format of this name already"),
        (GOOD, {"offline-run": "Good"}, "there is a format of this name already"),
        (GOOD, {"My Format": "Good"}, "is of small letters"),
        ("class Good:\n    def __init__(self, x): pass", {"mine": "Good"}, "cannot be loaded: TypeError"),
    ],
)
def test_a_reader_that_cannot_be_used_is_told_and_left(
    installed: Installed, tmp_path: Path, source: str, point: dict[str, str], words: str
) -> None:
    """The folder is then what it is without it."""
    path = folder(tmp_path)
    installed(source, **point)
    assert formats.recognise(path, ["mine.txt", ".hydra"]) == "hydra"
    (fault,) = formats.faults()
    assert fault.startswith(f"{next(iter(point))} = ")
    assert words in fault


def test_a_reader_that_loads_slowly_is_used_and_told(installed: Installed, tmp_path: Path) -> None:
    """What is heavy belongs into ``read``."""
    installed("import time\ntime.sleep(0.3)\n" + GOOD, mine="Good")
    assert formats.recognise(folder(tmp_path), ["mine.txt"]) == "mine"
    assert "import what is heavy inside `read`" in formats.faults()[0]


RAISING = """
class Raising:
    def recognises(self, path, names):
        if "bad" in names: raise ValueError("no idea")
        return "mine.txt" in names
    def evidence(self, path, snapshot, marker): {evidence}
    def read(self, path, snapshot): {read}
"""


def test_a_reader_that_raises_is_named_in_the_error(installed: Installed, tmp_path: Path) -> None:
    """Recognising nothing is told once; evidence and content are refused, with the way on."""
    path = folder(tmp_path)
    installed(RAISING.format(evidence="1/0", read="raise RuntimeError('torn')"), mine="Raising")
    assert formats.recognise(path, ["bad", ".hydra"]) == "hydra"
    assert formats.recognise(path, ["bad"]) is None
    (fault,) = formats.faults()
    assert "recognises failed: ValueError: no idea; it recognises nothing" in fault
    for ask in (formats.evidence, formats.read):
        with pytest.raises(Rejected, match=r"the format mine \(mine = reader_\d+:Raising\) failed: ") as told:
            ask("mine", path, snapshot(path))
        assert "uninstall its package" in told.value.hint


def test_a_reader_that_gives_something_else_is_named_in_the_error(installed: Installed, tmp_path: Path) -> None:
    """A dictionary is no content."""
    path = folder(tmp_path)
    installed(RAISING.format(evidence="return True", read="return {}"), mine="Raising")
    with pytest.raises(Rejected, match="gave a bool, not a FormatEvidence"):
        formats.evidence("mine", path, snapshot(path))
    with pytest.raises(Rejected, match="gave a dict, not a Content"):
        formats.read("mine", path, snapshot(path))


def test_a_folder_that_changes_underneath_is_no_fault_of_the_reader(installed: Installed, tmp_path: Path) -> None:
    """Our own errors pass through it."""
    path = folder(tmp_path)
    code = "from wandb_outbox.folder import read_file; read_file(path, 'gone', 9)"
    installed(RAISING.format(evidence=code, read="pass"), mine="Raising")
    with pytest.raises(FolderChanged):
        formats.evidence("mine", path, snapshot(path))
