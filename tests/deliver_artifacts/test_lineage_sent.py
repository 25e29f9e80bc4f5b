"""Inputs and further artifacts of ``outbox.yaml``, sent by the real SDK and read back from the sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opened_runs import remember_opened
from sdk_here import sandbox_for_the_sdk

from wandb_outbox.deliver.outcome import Stage
from wandb_outbox.deliver.protocol import Job
from wandb_outbox.deliver.sdk import Server
from wandb_outbox.deliver.send import Sender
from wandb_outbox.errors import Offline
from wandb_outbox.folder import snapshot
from wandb_outbox.model import PlanRequest, Receipt, RootRules, run_id
from wandb_outbox.sandbox import ArtifactView, Fault, RunView, Sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One server for all, with the SDK kept out of the home directory; each test has a project of its own."""
    with sandbox_for_the_sdk(tmp_path_factory, ("sandbox", "team")) as server:
        yield server


class Steps:
    """Run folders of one pipeline, delivered into a project of their own."""

    def __init__(self, sandbox: Sandbox, root: Path, project: str) -> None:
        self.sandbox = sandbox
        self.project = project
        self._root = root / "outputs"
        self._sender = Sender(Server(sandbox.url, sandbox.api_key), str(root))

    def folder(self, name: str, said: dict[str, Any], **files: str) -> Path:
        """A run folder that says something of itself."""
        path = self._root / name
        for file, content in {"data/x.txt": name, **files, "outbox.yaml": json.dumps(said)}.items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_text(content)
        return path

    def deliver(self, path: Path, *, contacted: bool = False, faults: tuple[Fault, ...] = ()) -> Receipt:
        """Send the folder as it is now; the faults begin when its artifacts' turn comes."""
        waiting = list(faults)

        def progress(stage: str) -> None:
            while stage == Stage.ARTIFACT.value and waiting:
                self.sandbox.inject(waiting.pop())

        taken = snapshot(str(path))
        rules = RootRules(convention="params-meta", project=self.project, tags=("t",))
        ours = run_id("site", str(path), 0)
        request = PlanRequest(str(path), str(self._root), "plain", ours, "site", rules=rules)
        job = Job(1, request, taken.birth, taken.fingerprint, contacted)
        return self._sender.deliver(job, lambda _id, _incarnation: None, progress)

    def run(self, receipt: Receipt) -> RunView:
        """The run as the server has it."""
        run = self.sandbox.run(receipt.entity, receipt.project, receipt.run_id)
        assert run is not None
        return run

    def artifact(self, name: str) -> ArtifactView:
        """The newest version of an artifact."""
        return [each for each in self.sandbox.artifacts("sandbox", self.project) if each.name == name][-1]


@pytest.fixture
def steps(sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Steps]:
    """An empty project named after the test."""
    yield Steps(sandbox, tmp_path, request.node.name.replace("_", "-")[:100])
    sandbox.clear_faults()


def _output(name: str, **more: Any) -> dict[str, Any]:
    return {"artifacts": [{"name": name, "type": "dataset", "files": "data", **more}]}


def test_ingest_clean_encode_is_a_lineage_graph(steps: Steps) -> None:
    """Each step uses what the one before made; the artifacts say so in both directions."""
    raw = steps.deliver(steps.folder("ingest-texts", _output("raw-data")))
    clean = steps.deliver(steps.folder("clean-texts", {**_output("cleaned-data"), "inputs": ["raw-data:latest"]}))
    full = f"sandbox/{steps.project}/cleaned-data:v0"
    encoded = steps.deliver(steps.folder("encode-texts", {**_output("encoded-data"), "inputs": [full, "raw-data"]}))
    assert [steps.run(each).job_type for each in (raw, clean, encoded)] == ["ingest", "clean", "encode"]
    assert steps.run(raw).used_artifacts == []
    assert [name.rpartition("/")[2] for name in steps.run(clean).used_artifacts] == ["raw-data:v0"]
    used = sorted(name.rpartition("/")[2] for name in steps.run(encoded).used_artifacts)
    assert used == ["cleaned-data:v0", "raw-data:v0"]
    assert steps.artifact("cleaned-data").logged_by == clean.run_id
    assert set(steps.artifact("raw-data").used_by) == {clean.run_id, encoded.run_id}
    assert not any("missing-input" in warning for each in (raw, clean, encoded) for warning in each.warnings)


def test_a_further_artifact_arrives_as_declared(steps: Steps) -> None:
    """Type, description, metadata with the run's config, aliases, and its files only."""
    said = _output("encoded", description="d", metadata={"n": 3}, aliases=["best"])
    receipt = steps.deliver(steps.folder("encode-x", {**said, "params": {"seed": 42}}))
    there = steps.artifact("encoded")
    assert (there.type, there.description, set(there.aliases)) == ("dataset", "d", {"latest", "best"})
    assert (there.metadata["n"], there.metadata["config"]["params"]) == (3, {"seed": 42})
    assert set(there.files) == {"data/x.txt"}
    assert receipt.files == 2
    assert set(steps.artifact(receipt.artifact.partition(":")[0]).files) == {"data/x.txt", "outbox.yaml"}


def test_the_same_content_gets_its_new_description_and_aliases(steps: Steps) -> None:
    """A changed outbox.yaml is a new revision of the folder, and no new version of an artifact that did not change."""
    folder = steps.folder("encode-x", _output("encoded", aliases=["first"]))
    steps.deliver(folder)
    steps.folder("encode-x", _output("encoded", description="later", metadata={"n": 2}, aliases=["second"]))
    steps.deliver(folder, contacted=True)
    there = steps.artifact("encoded")
    assert (there.version, there.description, there.metadata["n"]) == ("v0", "later", 2)
    assert set(there.aliases) == {"latest", "first", "second"}


def test_a_missing_input_costs_no_upload(steps: Steps) -> None:
    """It is a warning in the receipt and on the run, until it is there."""
    folder = steps.folder("clean-x", {"inputs": ["gone:v7", "other-project/gone", "nobody/nothing/gone:latest"]})
    receipt = steps.deliver(folder)
    assert [warning.partition(" is not")[0] for warning in receipt.warnings if "missing-input" in warning] == [
        "missing-input: gone:v7", "missing-input: other-project/gone", "missing-input: nobody/nothing/gone:latest"
    ]  # fmt: skip
    run = steps.run(receipt)
    assert run.state == "finished"
    assert run.summary["outbox/missing_inputs"] == ["gone:v7", "other-project/gone", "nobody/nothing/gone:latest"]
    steps.deliver(steps.folder("ingest-x", _output("gone")))
    steps.folder("clean-x", {"inputs": ["gone:v0"]})
    again = steps.deliver(folder, contacted=True)
    assert not any("missing-input" in warning for warning in again.warnings)
    assert "outbox/missing_inputs" not in steps.run(again).summary


def test_an_input_that_came_later_is_used_when_the_folder_is_sent_again(steps: Steps) -> None:
    """The same content: as long as it is missing that is told again, and then the lineage is whole."""
    folder = steps.folder("clean-x", {"inputs": ["late:v0"], "group": "g", "params": {"a": 1}})
    first = steps.deliver(folder)
    assert steps.deliver(folder, contacted=True).warnings == first.warnings != ()
    steps.deliver(steps.folder("ingest-x", _output("late")))
    again = steps.deliver(folder, contacted=True)
    assert again.warnings == ()
    run = steps.run(again)
    assert [name.rpartition("/")[2] for name in run.used_artifacts] == ["late:v0"]
    assert "outbox/missing_inputs" not in run.summary
    assert steps.deliver(folder, contacted=True) == again


REFUSED = Fault("ArtifactMembershipByName", "status", times=1, status=403)


def test_an_input_that_may_not_be_read_is_missing(steps: Steps) -> None:
    """The server works, and says no."""
    receipt = steps.deliver(steps.folder("clean-x", {"inputs": ["secret:v1"]}), faults=(REFUSED,))
    assert any("missing-input: secret:v1" in warning for warning in receipt.warnings)


def test_an_outage_is_no_missing_input(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server is away nobody knows what it has: the delivery waits, and the lineage is not lost."""
    steps.deliver(steps.folder("ingest-x", _output("raw")))
    folder = steps.folder("clean-x", {"inputs": ["raw"]})
    opened = remember_opened(monkeypatch)
    with pytest.raises(Offline):
        steps.deliver(folder, faults=(REFUSED, Fault("Viewer", "status", status=503)))
    # In life the uploader's process ends here, and the open run with it.
    steps.sandbox.clear_faults()
    opened[-1].finish()


def test_notes_of_the_plan_are_no_warnings_of_the_receipt(steps: Steps) -> None:
    """What is only worth knowing does not stand beside what is worth mending."""
    receipt = steps.deliver(steps.folder("encode-x", {"group": "g", "summary": {"odd name": 1}, "params": {"a": 1}}))
    assert receipt.warnings == ()
