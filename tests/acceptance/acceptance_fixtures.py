"""Fixtures of the acceptance tests: a plugin, which each of their modules names, because conftest modules collide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from acceptance_bench import SideBySide, bodies_of


@pytest.fixture(scope="module")
def side_by_side(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SideBySide]:
    """Start all of the module's selected tests that are marked ``alone_on_a_bench``, a few at a time."""
    name = request.module.__name__
    selected = {item.name for item in request.session.items if getattr(item, "module", None) is request.module}
    bodies = [body for body in bodies_of(name) if body.__name__ in selected]
    with SideBySide(tmp_path_factory.mktemp(name), bodies) as running:
        yield running
