"""The structure, pinned: rooms import forwards only, and the commands people type all day stay light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import wandb_outbox

PACKAGE = Path(wandb_outbox.__file__).parent

ROOMS = (
    # In the order of the data's way; each may import itself and the rooms above it.
    "row",
    "model",
    "errors",
    "steps",
    "folder",
    "settings",
    "formats",
    "detect",
    "outbox",
    "plan",
    "deliver",
    "service",
    "report",
    "progress",
    "sandbox",
    "demo",
    "cli",
)
LEAVES = {"sandbox": {"sandbox"}, "report": {"row", "model", "errors", "outbox", "report"}}
"""Rooms that are held to less than their place in the order allows."""

LATE_IMPORTS = {
    # module → what it imports inside functions, because it costs start-up time that most calls never need
    "cli.common": {"wandb_outbox.plan", "wandb_outbox.service.logs", "wandb_outbox.settings"},
    "cli.delivering": {"wandb_outbox.progress"},
    "cli.looking": {"wandb_outbox.detect.evidence"},
    "cli.trying": {"wandb_outbox", "wandb_outbox.demo.demo"},
    "folder": {"pathspec"},
    "formats.jsonfile": {"orjson"},
    "formats.yamlfile": {"yaml"},
    "deliver.uploader": {"wandb_outbox.deliver.sdk", "wandb_outbox.deliver.send"},
    "row": {"hashlib"},
    "plan.media": {"pyarrow"},  # if somebody installed it beside us
}


def _parsed() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


MODULES = tuple(_parsed())
"""Parsed when the tests are collected: Python 3.11's parser can stumble over a garbage collection of what they leave."""


def modules() -> Sequence[tuple[str, ast.Module]]:
    """Every module of the package by its dotted name below the package."""
    return MODULES


def _source(name: str) -> str:
    path = PACKAGE.joinpath(*name.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported anywhere below this node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module == "wandb_outbox":
                yield from (f"wandb_outbox.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    """The room that a dotted name of the package belongs to."""
    first = module.removeprefix("wandb_outbox").lstrip(".").split(".")[0]
    return first if first in ROOMS else None


def test_no_import_points_backwards() -> None:
    """A room imports itself and the rooms before it on the data's way, and nothing that comes after."""
    backwards = []
    for name, tree in modules():
        room = room_of(name)
        if room is None:
            continue
        allowed = LEAVES.get(room, set(ROOMS[: ROOMS.index(room) + 1]))
        backwards += [
            f"{name} imports {target}"
            for target in imports(tree)
            if target.startswith("wandb_outbox.") and (other := room_of(target)) is not None and other not in allowed
        ]
    assert not backwards


def test_every_module_belongs_to_a_room() -> None:
    """A new module is put into a room, and the room into the order."""
    homeless = [name for name, _ in modules() if room_of(name) is None and name not in ("", "__init__", "__main__")]
    assert not homeless


def test_late_imports_are_the_measured_ones() -> None:
    """An import hides in a function only where it saves start-up time that was measured."""
    found: dict[str, set[str]] = {}
    for name, tree in modules():
        if room_of(name) in ("sandbox", "demo"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                late = {target for target in imports(node) if target != "wandb_outbox.sandbox"}
                if late:
                    found.setdefault(name, set()).update(late)
    assert found == LATE_IMPORTS


@pytest.mark.parametrize(
    ("library", "importers"),
    [
        ("wandb", {"deliver.sdk", "deliver.existing", "deliver.send"}),
        ("watchdog", {"detect.watch"}),
        ("pydantic_settings", {"settings"}),
        ("structlog", {"service.logs"}),
    ],
)
def test_few_importers_a_library(library: str, importers: set[str]) -> None:
    """Each library of weight has one importer, so that it can be replaced there; the SDK has those of the uploader."""
    users = {
        name
        for name, tree in modules()
        for target in imports(tree)
        if target == library or target.startswith(library + ".")
    }
    assert users == importers


@pytest.mark.parametrize("command", ["status", "list", "show x", "why x", "version"])
def test_reading_commands_stay_light(command: str, tmp_path: Path) -> None:
    """The reading commands load neither wandb, watchdog, YAML, structlog nor pydantic, and of our words those of a row."""
    script = (
        "import sys; from wandb_outbox.cli import main; main(sys.argv[1:]); "
        "print(sorted({'wandb','watchdog','pydantic','pydantic_settings','structlog','yaml','wandb_outbox.model'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command.split(), "--state-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_sdk_does_the_talking() -> None:
    """But for two small questions, all that goes to a server is what the SDK sends: every server for it answers those."""
    speaking = re.compile(r"/graphql\b|\b(?:query|mutation) \w+ ?[({]")
    speakers = {name for name, _ in modules() if room_of(name) != "sandbox" and speaking.search(_source(name))}
    assert speakers == {"deliver.probe"}


def test_no_production_code_knows_about_tests() -> None:
    """No module asks whether it is under test, or leaves a note to do something later."""
    suspicious = re.compile(r"pytest|PYTEST|unittest|under_test|\bTODO\b|\bFIXME\b|\bXXX\b")
    found = [str(path) for path in PACKAGE.rglob("*.py") if suspicious.search(path.read_text())]
    assert not found
