"""Artifacts, logged by the real SDK and read back through its public API."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb
from sandbox_sdk import Sdk, graphql
from wandb.errors import CommError

FILES = {"a.txt": b"hello", "empty": b"", "sub/b.bin": bytes(range(256)) * 400}


def test_an_artifact_comes_back_byte_for_byte(sdk: Sdk) -> None:
    """What was logged is what is downloaded, with metadata, description, size and digest."""
    logged = sdk.log("outputs", FILES, metadata={"k": {"deep": [1, 2]}}, description="words")
    read = sdk.api().artifact(sdk.path("outputs:latest"))
    assert (read.digest, read.state, read.version) == (logged.digest, "COMMITTED", "v0")
    assert (read.metadata, read.description) == ({"k": {"deep": [1, 2]}}, "words")
    assert (read.size, read.file_count) == (sum(map(len, FILES.values())), 3)
    folder = Path(read.download(root=str(sdk.folder / "down")))
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert {file.name: file.size for file in read.files()} == {name: len(data) for name, data in FILES.items()}


def test_the_same_content_makes_no_version_and_keeps_its_first_metadata(sdk: Sdk) -> None:
    """An identical digest returns the existing version and sends nothing; the later run counts as a logger too."""
    sdk.log("outputs", FILES, metadata={"n": 1})
    sdk.sandbox.requests.clear()
    again = sdk.log("outputs", FILES, metadata={"n": 2})
    assert again.version == "v0"
    assert sdk.api().artifact(sdk.path("outputs:v0")).metadata == {"n": 1}
    assert sdk.sandbox.requests.of("CreateArtifactFiles") == []
    assert [len(run.logged_artifacts) for run in sdk.sandbox.runs("sandbox", sdk.project)] == [1, 1]


def test_latest_follows_the_content(sdk: Sdk) -> None:
    """Contents A, B, A give v0, v1, and `latest` back at v0; an unchanged file is not sent twice."""
    sdk.log("outputs", {"same": b"same", "x": b"A"})
    sdk.sandbox.requests.clear()
    sdk.log("outputs", {"same": b"same", "x": b"B"})
    assert min(each.request_bytes for each in sdk.sandbox.requests.of("put")) == 1
    api = sdk.api()
    assert api.artifact(sdk.path("outputs:latest")).version == "v1"
    sdk.log("outputs", {"same": b"same", "x": b"A"})
    assert sdk.api().artifact(sdk.path("outputs:latest")).version == "v0"
    assert [(each.version, list(each.aliases)) for each in sdk.sandbox.artifacts("sandbox", sdk.project)] == [
        ("v0", ["latest"]),
        ("v1", []),
    ]


def test_copied_files_arrive_too(sdk: Sdk) -> None:
    """The SDK's default policy, which copies files before it sends them, works as well."""
    file = sdk.folder / "f"
    file.write_bytes(b"copied")
    artifact = wandb.Artifact("outputs", type="dataset")
    artifact.add_file(str(file))
    with artifact.new_file("made.txt") as made:
        made.write("made")
    with sdk.init() as run:
        run.log_artifact(artifact).wait(timeout=20)
    (view,) = sdk.sandbox.artifacts("sandbox", sdk.project)
    assert {name: each.path.read_bytes() for name, each in view.files.items() if each.path} == {
        "f": b"copied",
        "made.txt": b"made",
    }


def test_aliases_tags_metadata_and_description_change_later(sdk: Sdk) -> None:
    """`artifact.save()` changes what may change; an alias moves with its new version."""
    with sdk.init() as run:
        run.log_artifact(sdk.artifact("outputs", FILES), aliases=["best", "old"]).wait(timeout=20)
    read = sdk.api().artifact(sdk.path("outputs:best"))
    read.metadata = {"new": True}
    read.description = "later"
    read.tags = ["tagged"]
    read.aliases.remove("old")
    read.aliases.append("new")
    read.save()
    again = sdk.api().artifact(sdk.path("outputs:new"))
    assert (again.metadata, again.description, again.tags) == ({"new": True}, "later", ["tagged"])
    assert set(again.aliases) == {"best", "new", "latest"}
    with sdk.init() as run:
        run.log_artifact(sdk.artifact("outputs", {"x": b"other"}), aliases=["best"]).wait(timeout=20)
    assert sdk.api().artifact(sdk.path("outputs:best")).version == "v1"


def test_lineage_is_kept(sdk: Sdk) -> None:
    """Who logged and who used an artifact can be asked from both ends."""
    logged = sdk.log("outputs", FILES)
    with sdk.init(id=sdk.id) as run:
        run.use_artifact(sdk.path("outputs:v0"))
        run.use_artifact(f"{logged.name}")
    read = sdk.api().artifact(sdk.path("outputs:latest"))
    assert [each.id for each in read.used_by()] == [sdk.id]
    logger = read.logged_by()
    assert logger is not None
    assert [each.name for each in logger.logged_artifacts()] == ["outputs:v0"]
    assert [each.name for each in sdk.api().run(sdk.path(sdk.id)).used_artifacts()] == ["outputs:v0"]


def test_collections_types_and_versions_are_listed(sdk: Sdk) -> None:
    """The public API's listings see every committed version."""
    for content in (b"1", b"2", b"3"):
        sdk.log("outputs", {"x": content})
    api = sdk.api()
    assert [each.name for each in api.artifacts("dataset", sdk.path("outputs"))] == [
        "outputs:v2", "outputs:v1", "outputs:v0",
    ]  # fmt: skip
    assert [each.name for each in api.artifact_types(sdk.path())] == ["dataset"]
    assert [each.name for each in api.artifact_type("dataset", sdk.path()).collections()] == ["outputs"]
    collection = api.artifact_collection("dataset", sdk.path("outputs"))
    assert sorted(collection.aliases) == ["latest", "v0", "v1", "v2"]
    assert api.artifact_exists(sdk.path("outputs:v1"))
    assert not api.artifact_exists(sdk.path("outputs:v7"))
    assert api.artifact_collection_exists(sdk.path("outputs"), "dataset")


def test_a_deleted_version_is_gone_and_its_number_is_not_reused(sdk: Sdk) -> None:
    """Deletion takes the aliases along when asked to; the next content gets the next number."""
    sdk.log("outputs", {"x": b"1"})
    doomed = sdk.api().artifact(sdk.path("outputs:v0"))
    with pytest.raises((CommError, ValueError), match="aliases"):
        doomed.delete()
    doomed.delete(delete_aliases=True)
    assert not sdk.api().artifact_exists(sdk.path("outputs:v0"))
    assert sdk.log("outputs", {"x": b"1"}).version == "v1"


def test_a_file_that_changes_before_it_is_sent_is_refused(sdk: Sdk) -> None:
    """The bytes must be those that were hashed: else the wait raises and the version stays pending."""
    artifact = sdk.artifact("outputs", {"x": b"before"})
    (sdk.folder / "contents" / "outputs" / "x").write_bytes(b"after!")
    with sdk.init() as run:
        logged = run.log_artifact(artifact)
        with pytest.raises(ValueError, match=r"failed|400"):
            logged.wait(timeout=20)
    assert 400 in {each.status for each in sdk.sandbox.requests.of("put")}
    assert [each.state for each in sdk.sandbox.artifacts("sandbox", sdk.project)] == ["PENDING"]
    assert not sdk.api().artifact_exists(sdk.path("outputs:latest"))


def test_a_commit_without_all_bytes_is_refused(sdk: Sdk) -> None:
    """The server looks for every file that the manifest names."""
    sdk.log("outputs", {"x": b"1"})
    create = """mutation CreateArtifact($input: CreateArtifactInput!) {
        createArtifact(input: $input) { artifact { id } } }"""
    answer = graphql(sdk.sandbox, create, {"input": {
        "entityName": "sandbox", "projectName": sdk.project, "artifactTypeName": "dataset",
        "artifactCollectionName": "outputs", "digest": "d" * 32,
    }})  # fmt: skip
    artifact_id = answer.json()["data"]["createArtifact"]["artifact"]["id"]
    commit = "mutation CommitArtifact($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id } } }"
    refused = graphql(sdk.sandbox, commit, {"id": artifact_id})
    assert refused.status == 400
    assert "manifest was not uploaded" in refused.json()["errors"][0]["message"]


def test_names_are_checked(sdk: Sdk) -> None:
    """A type that differs from the first one of a name is refused."""
    sdk.log("outputs", {"x": b"1"})
    other = wandb.Artifact("outputs", type="model")
    with sdk.init() as run, pytest.raises(ValueError, match="already exists with type"):
        run.log_artifact(other).wait(timeout=20)


def test_a_reference_needs_no_bytes(sdk: Sdk) -> None:
    """A reference is kept as the manifest has it."""
    artifact = wandb.Artifact("refs", type="dataset")
    artifact.add_reference("https://example.invalid/data.bin", name="data", checksum=False)
    with sdk.init() as run:
        run.log_artifact(artifact).wait(timeout=20)
    (view,) = sdk.sandbox.artifacts("sandbox", sdk.project)
    assert view.files["data"].path is None
    assert sdk.api().artifact(sdk.path("refs:v0")).manifest.entries["data"].ref == "https://example.invalid/data.bin"


_OFFLINE = """
import sys, wandb
run = wandb.init(project=sys.argv[1], id=sys.argv[2], mode="offline", dir=sys.argv[3], config={"a": 1},
                 settings=wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True))
for step in range(3):
    run.log({"x": step})
artifact = wandb.Artifact("offline", type="dataset")
with artifact.new_file("f") as file:
    file.write("bytes")
run.log_artifact(artifact)
run.finish()
"""


def test_an_offline_run_is_synced(sdk: Sdk) -> None:
    """`wandb sync` replays an offline run with its rows and artifacts; a second time doubles the rows."""
    environment = os.environ | {"WANDB_BASE_URL": sdk.sandbox.url, "WANDB_API_KEY": sdk.sandbox.api_key}
    subprocess.run([sys.executable, "-c", _OFFLINE, sdk.project, sdk.id, str(sdk.folder)], check=True, env=environment)
    (offline,) = (sdk.folder / "wandb").glob("offline-run-*")
    sync = [sys.executable, "-m", "wandb", "sync", "--include-synced", str(offline)]
    subprocess.run(sync, check=True, env=environment, capture_output=True)
    view = sdk.sandbox.run("sandbox", sdk.project, sdk.id)
    assert view is not None
    assert (view.state, [row["x"] for row in view.history], view.config) == ("finished", [0, 1, 2], {"a": 1})
    assert view.logged_artifacts == ["offline:v0"]
    subprocess.run(sync, check=True, env=environment, capture_output=True)
    view = sdk.sandbox.run("sandbox", sdk.project, sdk.id)
    assert view is not None
    assert [row["x"] for row in view.history] == [0, 1, 2, 0, 1, 2]
