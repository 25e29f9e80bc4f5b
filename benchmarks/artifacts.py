"""Big artifacts: the way of their bytes to the server beside plain concurrent PUTs of the same bytes to the same server."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.result import Row, at_least, at_most, compare
from benchmarks.world import HERE, KEY, Cost, Server, measure, outbox, outbox_environment, scratch, server

CONNECTIONS = 8
BLOCK = 1 << 20
COPIES = ("data", "cache/artifacts", "artifacts")
"""Where the SDK would stage or cache files, below the uploader's directory."""


@dataclass(frozen=True, slots=True)
class Shape:
    """So many files of so many bytes."""

    words: str
    files: int
    size: int


def make_folder(folder: Path, shape: Shape) -> Path:
    """A finished folder of any kind: a declaration, and files whose contents all differ."""
    folder.mkdir(parents=True)
    (folder / "outbox.yaml").write_text("project: benchmark\n")
    block = os.urandom(min(BLOCK, shape.size))
    for number in range(shape.files):
        parent = folder / f"part-{number // 500:02}"
        parent.mkdir(exist_ok=True)
        with (parent / f"file-{number:05}.bin").open("wb") as file:
            left = shape.size
            while left:
                piece = (number.to_bytes(8, "big") + left.to_bytes(8, "big") + block)[: min(len(block), left)]
                left -= file.write(piece)
    return folder


def graphql(there: Server, query: str, variables: dict[str, Any]) -> Any:
    """The data of one request."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"{there.url}/graphql", body, headers)  # noqa: S310  our own server
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)["data"]


def upload_urls(there: Server, names: Sequence[str]) -> list[str]:
    """Signed URLs that the server gives for files of a run of its own."""
    run = {"entity": "sandbox", "project": "plain", "name": "plain"}
    graphql(
        there,
        "mutation B($entity: String!, $project: String!, $name: String!) { upsertBucket(input: {entityName: $entity, "
        "modelName: $project, name: $name}) { inserted } }",
        run,
    )
    answer = graphql(
        there,
        "mutation F($entity: String!, $project: String!, $name: String!, $files: [String!]!) { createRunFiles(input: "
        "{entityName: $entity, projectName: $project, runName: $name, files: $files}) { files { name uploadUrl } } }",
        {**run, "files": list(names)},
    )
    urls = {file["name"]: file["uploadUrl"] for file in answer["createRunFiles"]["files"]}
    return [urls[name] for name in names]


def plain(folder: Path) -> float:
    """Seconds of the minimal client."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with scratch() as home, server() as there:
        urls = upload_urls(there, [str(path.relative_to(folder)) for path in files])
        listed = home / "files.json"
        listed.write_text(json.dumps([[str(path), url] for path, url in zip(files, urls, strict=True)]))
        command = [sys.executable, "-I", "-S", str(HERE / "plain_put.py"), str(listed), str(CONNECTIONS)]
        return float(measure(command, {"PATH": os.environ["PATH"]}, home).out)


def ours(folder: Path, shape: Shape) -> tuple[float, Cost]:
    """Seconds from log_artifact to the commit, as the server saw them, and what the whole command cost."""
    with scratch() as home, server() as there:
        state = home / "state"
        copies = [str(state / "uploader" / name) for name in COPIES]
        cost = measure(
            outbox("upload", folder, "--state-dir", state),
            outbox_environment(home, site="bench") | there.environment(),
            home,
            watched=copies,
        )
        whole = [
            artifact
            for artifact in there.client.artifacts()
            if artifact.state == "COMMITTED" and len(artifact.files) == shape.files + 1
        ]
        if not whole:
            raise SystemExit(f"the artifact of {shape.words} is not there:\n{cost.out}")
        began = min(came for came, _ in there.served("CreateArtifact"))
        return max(answered for _, answered in there.served("CommitArtifact")) - began, cost


def measured(shape: Shape, rounds: int) -> list[Row]:
    """The rows of one shape."""
    pairs, commands, costs = [], [], []
    with scratch("/dev/shm") as top:
        folder = make_folder(top / "outputs" / "run", shape)
        for _ in range(rounds):
            base = plain(folder)
            way, cost = ours(folder, shape)
            pairs.append((way, base))
            commands.append((cost.wall, base))
            costs.append(cost)
    words = f"plain PUTs of the same bytes, {CONNECTIONS} at a time"
    return [
        compare("artifacts", f"{shape.words}: log_artifact → committed", "s", pairs, words, faster=True,
                target=at_least(0.85)),
        compare("artifacts", f"{shape.words}: the whole command", "s", commands, words, faster=True, target=at_least(0.6)),
        Row("artifacts", f"{shape.words}: of its bytes staged or cached, at most", "MB",
            [cost.directories / 1e6 for cost in costs], target=at_most(0, "value")),
        Row("artifacts", f"{shape.words}: written to disk by all processes", "MB", [cost.written / 1e6 for cost in costs]),
        Row("artifacts", f"{shape.words}: anonymous memory of all processes, at most", "MB",
            [cost.anonymous / 1e6 for cost in costs], target=at_most(250, "value")),
    ]  # fmt: skip


def run(*, quick: bool) -> list[Row]:
    """A few large files, and many small ones."""
    if quick:
        shapes, rounds = [Shape("40 MB in 4 files", 4, 10_000_000), Shape("100 files of 20 kB", 100, 20_000)], 1
    else:
        shapes, rounds = [Shape("2 GB in 4 files", 4, 500_000_000), Shape("5,000 files of 20 kB", 5000, 20_000)], 3
    return [row for shape in shapes for row in measured(shape, rounds)]
