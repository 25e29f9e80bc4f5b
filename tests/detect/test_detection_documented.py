"""The page on detection names tests: they are there, under those names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGE = (TOP / "docs" / "detection.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[^`]*?\.py)::(\w+)(?:\[([^\]]+)\])?`", PAGE)))


@pytest.mark.parametrize(("file", "name", "case"), NAMED)
def test_every_test_that_is_named_exists(file: str, name: str, case: str) -> None:
    """A test that is renamed or taken away takes its promise with it, or leaves the page as well."""
    tree = ast.parse((TOP / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if case:
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        helpers = "".join(path.read_text() for path in (TOP / file).parent.glob("replay_*.py"))
        assert case in words or f'"{case}"' in helpers


def test_every_promise_names_what_shows_it() -> None:
    """A row without a test, or a benchmark, is a wish."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    promises = [row for row in rows if "shown by" not in row]
    assert len(promises) > 40
    assert not [row for row in promises if "::test_" not in row]


def test_what_the_page_links_to_is_there() -> None:
    """Pages and their sections."""
    for page, section in re.findall(r"\]\(([\w.]+)#([\w-]+)\)", PAGE):
        headings = re.findall(r"^#+ (.*)$", (TOP / "docs" / page).read_text(), re.MULTILINE)
        assert section in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
