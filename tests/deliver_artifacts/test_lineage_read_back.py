"""The chain of the guide, read back with the SDK's public API as a person would: from the last step to the first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import wandb
from test_lineage_sent import Steps, sandbox  # noqa: F401  the server and the place of these tests

from wandb_outbox.model import Receipt
from wandb_outbox.sandbox import Sandbox


@pytest.fixture
def steps(sandbox: Sandbox, tmp_path: Any) -> Iterator[Steps]:  # noqa: F811  a fixture is asked for by its name
    """A project for the whole chain, and a team's besides."""
    yield Steps(sandbox, tmp_path, "phishing-pipeline")
    sandbox.clear_faults()


def _step(steps: Steps, name: str, output: str, *inputs: str) -> Receipt:
    said = {"artifacts": [{"name": output, "type": "dataset", "files": "data"}], "inputs": list(inputs)}
    return steps.deliver(steps.folder(name, said))


def test_the_chain_is_read_back_as_a_graph(steps: Steps) -> None:
    """Two encodings of one cleaned set: each artifact knows who made it and who used it, each run what it used."""
    _step(steps, "ingest-texts", "raw-data")
    clean = _step(steps, "clean-texts", "cleaned-data", "raw-data:latest")
    standard = _step(steps, "encode-standard-texts", "encoded-standard", "cleaned-data:v0")
    full = f"sandbox/{steps.project}/cleaned-data:latest"
    head_tail = _step(steps, "encode-head-tail-texts", "encoded-head-tail", full, "raw-data")
    api = wandb.Api(overrides={"base_url": steps.sandbox.url}, api_key=steps.sandbox.api_key)

    def artifact(name: str) -> wandb.Artifact:
        found: wandb.Artifact = api.artifact(f"sandbox/{steps.project}/{name}")
        return found

    path: list[str] = []
    names = ["encoded-standard:v0"]
    while names:  # backwards, as one asks what a model was made of
        made_by = artifact(names[0]).logged_by()
        assert made_by is not None
        path += [names[0], made_by.job_type]
        names = [used.name for used in made_by.used_artifacts()]
    assert path == ["encoded-standard:v0", "encode", "cleaned-data:v0", "clean", "raw-data:v0", "ingest"]
    assert {run.id for run in artifact("cleaned-data:v0").used_by()} == {standard.run_id, head_tail.run_id}
    used = api.run(f"sandbox/{steps.project}/{head_tail.run_id}").used_artifacts()
    assert sorted(each.name for each in used) == ["cleaned-data:v0", "raw-data:v0"]
    logged = api.run(f"sandbox/{steps.project}/{clean.run_id}").logged_artifacts()
    assert {each.type for each in logged} == {"dataset", "run_outputs"}


def test_an_artifact_of_another_project_is_used_by_its_full_name(steps: Steps) -> None:
    """``entity/project/name:version`` and ``project/name`` reach where a bare name does not."""
    elsewhere = Steps(steps.sandbox, steps._root.parent / "other", "vocabularies")
    _step(elsewhere, "ingest-vocabulary", "vocabulary")
    receipt = _step(steps, "encode-x", "encoded-x", "sandbox/vocabularies/vocabulary:v0", "vocabulary:v0")
    (warning,) = [each for each in receipt.warnings if "missing-input" in each]
    assert warning.startswith("missing-input: vocabulary:v0 is not there")
    api = wandb.Api(overrides={"base_url": steps.sandbox.url}, api_key=steps.sandbox.api_key)
    run = api.run(f"sandbox/{steps.project}/{receipt.run_id}")
    assert [each.qualified_name for each in run.used_artifacts()] == ["sandbox/vocabularies/vocabulary:v0"]
    assert run.summary["outbox/missing_inputs"] == ["vocabulary:v0"]
