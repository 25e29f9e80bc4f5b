"""A place where folders are delivered by a real sender into a sandbox, one delivery at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb_outbox.deliver.protocol import Job
from wandb_outbox.deliver.sdk import Server
from wandb_outbox.deliver.send import Sender
from wandb_outbox.folder import snapshot
from wandb_outbox.formats import evidence, recognise
from wandb_outbox.model import Overrides, PlanRequest, Receipt, RootRules, run_id
from wandb_outbox.sandbox import ArtifactView, RunView, Sandbox

SITE = "site"


@dataclass
class Memory:
    """What an outbox knows of one folder between two deliveries."""

    run_id: str | None = None
    incarnation: int = 0
    contacts: list[str] = field(default_factory=list)
    file: Path | None = None
    """Where it outlives the process."""

    def contact(self, run: str, incarnation: int) -> None:
        """Record what the server is about to hear of."""
        self.run_id, self.incarnation = run, incarnation
        self.contacts.append(run)
        if self.file is not None:
            self.file.write_text(json.dumps([self.run_id, self.incarnation, self.contacts]))

    def load(self) -> None:
        """Know what an earlier process recorded."""
        if self.file is not None and self.file.exists():
            self.run_id, self.incarnation, self.contacts = json.loads(self.file.read_text())


class Sending:
    """Run folders below a root, delivered as the uploader would."""

    def __init__(self, url: str, key: str, top: Path) -> None:
        self.top = top
        self.root = top / "outputs"
        self.root.mkdir(exist_ok=True)
        self.sender = Sender(Server(url, key), str(top))

    def deliver(
        self,
        folder: Path,
        memory: Memory | None = None,
        *,
        insisted: bool = False,
        entity: str | None = None,
        site: str = SITE,
        overrides: Overrides | None = None,
        log_model: str = "none",
        **more: Any,
    ) -> Receipt:
        """Deliver the folder as it is now. ``memory``: what the outbox knew and learns; none: its state was lost."""
        memory = Memory() if memory is None else memory
        taken = snapshot(str(folder))
        kind = recognise(str(folder), [each.name for each in folder.iterdir()]) or "plain"
        said = evidence(kind, str(folder), taken)
        request = PlanRequest(
            str(folder), str(self.root), kind, memory.run_id or run_id(site, str(folder), memory.incarnation), site,
            incarnation=memory.incarnation, outcome="crashed" if said.failed else "ok", reason=said.failed or "",
            fixed_id=bool(memory.contacts), rules=RootRules(entity=entity, tags=("by-the-root",), log_model=log_model),
            overrides=overrides or Overrides(), **more,
        )  # fmt: skip
        job = Job(1, request, taken.birth, taken.fingerprint, bool(memory.contacts), insisted)
        return self.sender.deliver(job, memory.contact, lambda _stage: None)


class Place(Sending):
    """The same with the server in hand."""

    def __init__(self, sandbox: Sandbox, top: Path) -> None:
        super().__init__(sandbox.url, sandbox.api_key, top)
        self.sandbox = sandbox

    def run(self, identifier: str) -> RunView:
        """The run with this id."""
        (found,) = [run for run in self.sandbox.runs() if run.id == identifier]
        return found


def llm_tts_folder(folder: Path, *, samples: int = 3, correct: int = 2) -> Path:
    """A finished folder of the evaluation script, with results and metrics."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(
        "strategy: {type: baseline}\nmodel: {type: vllm, model_path: Qwen/Qwen3-8B}\ndataset: {data_name: gsm8k}\n"
    )
    rows = [
        {"index": i, "question": f"q{i}", "completed": True, "is_correct": i < correct, "eval": {}, "steps": ["a"]}
        for i in range(samples)
    ]
    (folder / "results.json").write_text(json.dumps(rows))
    (folder / "metrics.json").write_text(json.dumps({"exact_match/accuracy": correct / samples}))
    return folder


def artifact_of(place: Place, receipt: Receipt) -> ArtifactView:
    """The folder's artifact that the receipt names."""
    (found,) = [each for each in place.sandbox.artifacts() if f"{each.name}:{each.version}" == receipt.artifact]
    return found


def bytes_on_server(artifact: ArtifactView) -> dict[str, bytes]:
    """What the server has of an artifact: the bytes on its disk, not what it was told."""
    found = {}
    for name, view in artifact.files.items():
        assert view.path is not None, name
        found[name] = view.path.read_bytes()
    return found


def bytes_on_disk(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but those below ``wandb/``."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if not name.startswith("wandb/")}


def stats_of(top: Path) -> dict[str, tuple[int, ...]]:
    """What a write below ``top`` would change."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (top, *sorted(top.rglob("*"))):
        info = path.lstat()
        found[str(path)] = (info.st_mode, info.st_size, info.st_ino, info.st_mtime_ns, info.st_ctime_ns)
    return found
