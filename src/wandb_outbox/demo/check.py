"""What must be true when the demo is over: a pure comparison of folders, outbox, server and what came back from it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wandb_outbox.demo.writer import Kind
from wandb_outbox.sandbox import ArtifactView, RunView

ARTIFACT_TYPE = "evaluation_results"
_PART = 1 << 20

STATES: Mapping[Kind, str] = {Kind.NORMAL: "finished", Kind.INCOMPLETE: "finished", Kind.KILLED: "failed"}
"""What W&B should say of a run whose experiment ended so."""
TAGS: Mapping[Kind, str] = {Kind.INCOMPLETE: "incomplete", Kind.KILLED: "crashed"}
"""The tag by which a run is found whose experiment did not end well."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What betrays a touch: any write, rename or change of mode shows in the change time."""

    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Folder:
    """One run folder: as its experiment left it, as it is now, and what the outbox says of it.

    ``path`` is relative to the root. ``digests`` are those of the files as they are now; ``row`` is the folder's entry
    in ``list --json``.
    """

    path: str
    kind: Kind
    left: Mapping[str, Stamp]
    now: Mapping[str, Stamp]
    digests: Mapping[str, str]
    row: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was found: ``downloaded`` are the digests of the files of each artifact version that was fetched."""

    folders: Sequence[Folder]
    runs: Sequence[RunView]
    artifacts: Sequence[ArtifactView]
    downloaded: Mapping[str, Mapping[str, str]]
    leftover: Sequence[int]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it must be; ``folder`` is ``None`` when it is about no folder."""

    folder: str | None
    words: str

    def __str__(self) -> str:
        return self.words if self.folder is None else f"{self.folder}: {self.words}"


def problems(evidence: Evidence) -> list[Problem]:
    """Everything that is wrong; empty when every folder is in W&B once, whole, and untouched here."""
    found = [Problem(folder.path, words) for folder in evidence.folders for words in _of_folder(folder, evidence)]
    if len(evidence.runs) != len(evidence.folders):
        found.append(Problem(None, f"{len(evidence.runs)} runs on the server for {len(evidence.folders)} folders"))
    versions = folder_artifacts(evidence.artifacts)
    if len(versions) != len(evidence.folders):
        found.append(Problem(None, f"{len(versions)} artifact versions for {len(evidence.folders)} folders"))
    if evidence.leftover:
        pids = ", ".join(map(str, evidence.leftover))
        found.append(Problem(None, f"processes of the daemon are left over: {pids}"))
    return found


def runs_of(folder: str, runs: Sequence[RunView]) -> list[RunView]:
    """The runs on the server that were made from this folder."""
    return [run for run in runs if isinstance(own := run.config.get("outbox"), Mapping) and own.get("path") == folder]


def folder_artifacts(artifacts: Sequence[ArtifactView]) -> list[ArtifactView]:
    """The committed versions of artifacts that hold whole folders."""
    return [each for each in artifacts if is_of_folder(each) and each.state == "COMMITTED"]


def is_of_folder(artifact: ArtifactView) -> bool:
    """Whether it holds a whole folder; the SDK makes others, for tables."""
    return artifact.type == ARTIFACT_TYPE


def stamps_of(folder: str) -> dict[str, Stamp]:
    """Size and times of the folder and of everything in it, by relative path."""
    stamps = {}
    for path in (folder, *_below(folder)):
        info = os.lstat(path)
        # The size of a directory says nothing, and differs between file systems.
        size = 0 if os.path.isdir(path) else info.st_size
        stamps[os.path.relpath(path, folder)] = Stamp(size, info.st_mtime_ns, info.st_ctime_ns)
    return stamps


def digests_of(folder: str) -> dict[str, str]:
    """The SHA-256 of every file in the folder, by relative path."""
    return {os.path.relpath(path, folder): _digest(path) for path in _below(folder) if os.path.isfile(path)}


def _of_folder(folder: Folder, evidence: Evidence) -> Iterator[str]:
    touched = sorted(path for path in {*folder.left, *folder.now} if folder.left.get(path) != folder.now.get(path))
    if touched:
        yield f"touched after its experiment had ended: {', '.join(touched)}"
    row = folder.row
    if row is None:
        yield "the outbox does not know it"
        return
    if row["state"] != "uploaded":
        yield f"the outbox says {row['state']}: {row['reason']}"
        return
    runs = runs_of(folder.path, evidence.runs)
    if len(runs) != 1:
        yield f"{len(runs)} runs on the server instead of one"
    for run in runs:
        yield from _of_run(folder, run, str(row["id"]))
    yield from _of_artifact(folder, str(row["artifact"]), evidence)


def _of_run(folder: Folder, run: RunView, recorded: str) -> Iterator[str]:
    if run.id != recorded:
        yield f"its run is {run.id} on the server and {recorded} in the outbox"
    if run.state != STATES[folder.kind]:
        yield f"its run is {run.state} instead of {STATES[folder.kind]}"
    for kind, tag in TAGS.items():
        if (tag in run.tags) != (kind is folder.kind):
            yield f"its run has the tags {', '.join(run.tags)}: {tag} is {'wrong' if tag in run.tags else 'missing'}"


def _of_artifact(folder: Folder, artifact: str, evidence: Evidence) -> Iterator[str]:
    name = artifact.rpartition(":")[0]
    versions = [f"{each.name}:{each.version}" for each in folder_artifacts(evidence.artifacts) if each.name == name]
    if versions != [artifact]:
        yield f"its artifact is {artifact} in the outbox, and the server has {', '.join(versions) or 'none'}"
    files = evidence.downloaded.get(artifact)
    if files is None:
        yield f"its artifact {artifact} could not be fetched"
        return
    for path in sorted({*files, *folder.digests}):
        if path not in files:
            yield f"{path} is not in its artifact"
        elif path not in folder.digests:
            yield f"{path} is in its artifact and not in the folder"
        elif files[path] != folder.digests[path]:
            yield f"{path} differs between folder and artifact"


def _below(folder: str) -> Iterator[str]:
    for directory, names, files in os.walk(folder):
        yield from (os.path.join(directory, name) for name in (*names, *files))


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()
