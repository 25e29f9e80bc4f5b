"""Two sites with the same paths, whose folders, states and runs get lost in every way; and a model of what must hold.

The model knows experiments (what was computed), lineages (one folder's life, through changes and moves; a copy and a
remake begin a new one) and which content each lineage had whenever its site delivered. From these follow the bounds:
a content has no more runs than lineages, a folder that is there has a run of its own with what is in it, and no run
ever holds two experiments.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crash_check import complaints_about_run, runs_of_site, versions_of
from crash_folders import change_folder, make_folder

from wandb_outbox.folder import Selection, snapshot
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.sandbox import RunView, Sandbox
from wandb_outbox.service.executor import Executor
from wandb_outbox.service.once import flush
from wandb_outbox.settings import RootSettings, Settings

SITES = ("alpha", "beta")


@dataclass(slots=True)
class Folder:
    """A folder that is there now."""

    name: str
    experiment: str
    lineage: int
    changes: int = 0
    run_deleted: bool = False
    """Its run was deleted, and nothing has happened since by which we could know."""


@dataclass(slots=True)
class Site:
    """One pod: its own file tree, mounted where the others have theirs, and its own state directory."""

    name: str
    tree: Path
    state: Path
    folders: list[Folder] = field(default_factory=list)
    executor: Executor | None = None
    delivered: dict[str, set[int]] = field(default_factory=dict)
    """Fingerprint → the lineages that had it when the site delivered."""


def fingerprint_of(folder: Path) -> str:
    """The fingerprint of what would be uploaded."""
    return snapshot(str(folder), Selection().selector()).fingerprint


class World:
    """The sites, the server, and everything that can happen to them."""

    def __init__(self, top: Path, server: Sandbox, project: str) -> None:
        self.top = top
        self.server = server
        self.project = project
        self.outputs = top / "outputs"
        self.sites = {name: Site(name, top / "trees" / name, top / "state" / name) for name in SITES}
        self._made = 0
        for site in self.sites.values():
            (site.tree / "2025-12-03").mkdir(parents=True)

    def close(self) -> None:
        """End the executors."""
        for site in self.sites.values():
            self._leave(site)

    # -- what happens --------------------------------------------------------------------------------------------------

    def make(self, site: Site) -> None:
        """A new experiment ends."""
        self._made += 1
        folder = Folder(f"run-{self._made}", f"{self.project}-{site.name}-{self._made}", self._made)
        make_folder(self._at(site, folder), folder.experiment, project=self.project)
        site.folders.append(folder)

    def change(self, site: Site, index: int) -> None:
        """A finished experiment is evaluated anew."""
        folder = site.folders[index]
        folder.changes += 1
        folder.run_deleted = False
        change_folder(self._at(site, folder), folder.changes)

    def move(self, site: Site, index: int) -> None:
        """A folder is renamed."""
        folder = site.folders[index]
        self._made += 1
        there = self._at(site, folder)
        folder.name = f"moved-{self._made}"
        there.rename(self._at(site, folder))

    def copy(self, site: Site, index: int) -> None:
        """A folder is copied with all its times, as ``cp -p`` does."""
        folder = site.folders[index]
        self._made += 1
        copy = Folder(f"copy-{self._made}", folder.experiment, self._made, folder.changes)
        shutil.copytree(self._at(site, folder), self._at(site, copy))
        site.folders.append(copy)

    def remake(self, site: Site, index: int) -> None:
        """A folder is deleted, and another experiment writes one of the same name."""
        folder = site.folders[index]
        self._made += 1
        shutil.rmtree(self._at(site, folder))
        site.folders[index] = made = Folder(folder.name, f"{self.project}-{site.name}-{self._made}", self._made)
        make_folder(self._at(site, made), made.experiment, project=self.project)

    def remove(self, site: Site, index: int) -> None:
        """A folder is deleted for good."""
        shutil.rmtree(self._at(site, site.folders.pop(index)))

    def lose_state(self, site: Site) -> None:
        """The state directory is gone."""
        self._leave(site)
        shutil.rmtree(site.state, ignore_errors=True)
        for folder in site.folders:
            folder.run_deleted = False

    def restart(self, site: Site) -> None:
        """The executor ends, and another takes over."""
        self._leave(site)

    def delete_run(self, site: Site, index: int) -> None:
        """A person deletes a folder's run on the server."""
        folder = site.folders[index]
        run = self._run_of(site, folder)
        if run is not None:
            self.server.delete_run(run.entity, run.project, run.id)
            folder.run_deleted = True

    def flush(self, site: Site) -> None:
        """The site delivers what is finished."""
        site.tree.rename(self.outputs)
        try:
            executor = site.executor or self._enter(site)
            flush(executor, timeout=90, show=lambda *_: None, stopped=lambda: False)
            left = [
                (run.path, run.state, run.reason)
                for run in executor.store.list()
                if run.state != "uploaded" and not run.gone
            ]
            assert not left, left
        finally:
            self.outputs.rename(site.tree)
        for folder in site.folders:
            site.delivered.setdefault(fingerprint_of(self._at(site, folder)), set()).add(folder.lineage)

    # -- what must hold ------------------------------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        """Everything that is wrong after all sites have delivered."""
        said: list[str] = []
        everything = [run for run in self.server.runs() if run.project.endswith(self.project)]
        artifacts = [each for each in self.server.artifacts() if each.project.endswith(self.project)]
        for site in self.sites.values():
            runs = runs_of_site(everything, site.name)
            counted = Counter(str(run.summary.get("outbox/delivered", {}).get("fingerprint")) for run in runs)
            for print_, number in counted.items():
                if number > len(site.delivered.get(print_, ())):
                    had = [
                        run.id for run in runs if run.summary.get("outbox/delivered", {}).get("fingerprint") == print_
                    ]
                    said.append(f"{site.name}: one content has {number} runs: {had}")
            ids: dict[str, str] = {}
            for folder in site.folders:
                path = self._at(site, folder)
                run = self._run_of(site, folder)
                if run is None:
                    if not folder.run_deleted:
                        said.append(f"{site.name}: {folder.name} has no run")
                    continue
                if run.id in ids:
                    said.append(f"{site.name}: {folder.name} and {ids[run.id]} have one run")
                ids[run.id] = folder.name
                mine = complaints_about_run(run, path, folder.name, artifacts)
                said += [f"{site.name}: {each}" for each in mine]
            for run in runs:
                experiments = set()
                for version in versions_of(run, artifacts):
                    file = version.files["metrics.json"].path
                    if file is not None:
                        experiments.add(json.loads(file.read_bytes())["name"])
                if len(experiments) > 1:
                    said.append(
                        f"{site.name}: run {run.id} holds {len(experiments)} experiments: {sorted(experiments)}"
                    )
                if any(site.name not in experiment for experiment in experiments):
                    said.append(f"run {run.id} of {site.name} holds another site's {experiments}")
        return said

    # -- plumbing ------------------------------------------------------------------------------------------------------

    def _at(self, site: Site, folder: Folder) -> Path:
        return site.tree / "2025-12-03" / folder.name

    def _run_of(self, site: Site, folder: Folder) -> RunView | None:
        """The run that the outbox says is this folder's."""
        if site.executor is None:
            return None
        row = site.executor.store.by_path(str(self.outputs / "2025-12-03" / folder.name))
        return next((run for run in self.server.runs() if row is not None and run.id == row.run_id), None)

    def _enter(self, site: Site) -> Executor:
        settings = Settings(
            roots=(RootSettings(path=str(self.outputs)),),
            settle=0.0,
            site=site.name,
            base_url=self.server.url,
            entity=None,
        )
        environ = {
            "PATH": os.environ["PATH"], "HOME": str(self.top), "WANDB_API_KEY": self.server.api_key
        }  # fmt: skip
        site.executor = Executor(
            StateDir(str(site.state)), settings, environ, command="flush", watch=False, backlog=False, scan=True,
            log=lambda *_, **__: None,
        )  # fmt: skip
        return site.executor.__enter__()

    def _leave(self, site: Site) -> None:
        if site.executor is not None:
            with contextlib.suppress(FileNotFoundError):
                site.executor.__exit__(None, None, None)
            site.executor = None


Event = tuple[str, str, int]
"""What happens, at which site, to which folder (counted round)."""
ON_A_FOLDER = ("change", "move", "copy", "remake", "remove", "delete_run")
ON_A_SITE = ("make", "flush", "lose_state", "restart")


def live(world: World, events: Sequence[Event]) -> list[str]:
    """Let these happen, then let both sites deliver; everything that is wrong then."""
    try:
        for what, name, number in events:
            site = world.sites[name]
            if what in ON_A_SITE:
                getattr(world, what)(site)
            elif site.folders:
                getattr(world, what)(site, number % len(site.folders))
        for site in world.sites.values():
            if site.folders or site.executor:
                world.flush(site)
        said = world.complaints()
        # Once more, with nothing known: what is there is recognised, and nothing comes twice.
        for site in world.sites.values():
            if site.folders:
                world.lose_state(site)
                world.flush(site)
        return said + [f"after losing the state once more: {each}" for each in world.complaints()]
    finally:
        world.close()
