"""Small packages with formats of their own, installed as a wheel would leave them: a module and its ``dist-info``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, module: str, source: str, points: Mapping[str, str]) -> Path:
    """Put the package into the directory ``site``, which is then to be on the module path; returns it."""
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {place}\n" for name, place in points.items())
    (info / "entry_points.txt").write_text(f"[wandb_outbox.formats]\n{lines}")
    return site
