"""The protocol without the SDK: keys, unknown operations, storage, pages, persistence, and the process."""

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sandbox_sdk import Sdk, call, graphql
from wandb.apis import _generated as api_documents
from wandb.sdk.artifacts._generated import operations as artifact_documents

from wandb_outbox.sandbox import Fault, Sandbox, SandboxClient
from wandb_outbox.sandbox.graph import Graph, load_schema
from wandb_outbox.sandbox.operations import VIEWS, type_name

UPSERT = """mutation UpsertBucket($name: String, $project: String, $config: JSONString, $tags: [String!]) {
    upsertBucket(input: {name: $name, modelName: $project, config: $config, tags: $tags}) {
        inserted bucket { id displayName } } }"""

NOT_MODELLED = re.compile(
    "REGISTR|PORTFOLIO|LINK_ARTIFACT|SWEEP|AGENT|TEAM|INVITE|SERVICE_ACCOUNT|USER|API_KEY|ORGANIZATION|ORG_INFO"
    "|SEQUENCE_TYPE"
)


def _upsert(sandbox: Sandbox, name: str = "r", project: str = "p", **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = graphql(sandbox, UPSERT, {"name": name, "project": project, **more}).json()
    return answer


def _stream(sandbox: Sandbox, body: dict[str, Any], run: str = "r", project: str = "p") -> int:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {sandbox.api_key}"}
    url = f"{sandbox.url}/files/sandbox/{project}/{run}/file_stream"
    return call(url, "POST", json.dumps(body).encode(), headers).status


def _file_url(sandbox: Sandbox, name: str, project: str = "p") -> str:
    answer = graphql(
        sandbox,
        "mutation CreateRunFiles($p: String!, $f: [String!]!) { createRunFiles("
        'input: {entityName: "sandbox", projectName: $p, runName: "r", files: $f}) { files { uploadUrl } } }',
        {"f": [name], "p": project},
    )
    url: str = answer.json()["data"]["createRunFiles"]["files"][0]["uploadUrl"]
    return url


def test_the_sdks_own_documents_are_modelled() -> None:
    """Every GraphQL document of the SDK is valid here, but for what the sandbox leaves out on purpose."""
    graph = Graph(load_schema(VIEWS, type_name))
    refused = {
        name
        for module in (artifact_documents, api_documents)
        for name in dir(module)
        if name.endswith("_GQL") and graph.prepare(getattr(module, name)).errors
    }
    assert {name for name in refused if not NOT_MODELLED.search(name)} == set()


def test_an_unknown_operation_is_an_error_and_is_noted() -> None:
    """A field or an input that is not modelled is 400 with errors, and stands in `unknown`."""
    with Sandbox() as sandbox:
        answer = graphql(sandbox, "query Novel { viewer { shoeSize } }")
        assert answer.status == 400
        assert "shoeSize" in answer.json()["errors"][0]["message"]
        wrong = graphql(
            sandbox,
            "mutation Delete($input: DeleteRunInput!) { deleteRun(input: $input) { clientMutationId } }",
            {"input": {"id": "x", "colour": 1}},
        )
        assert wrong.status == 400
        assert call(f"{sandbox.url}/no/such/place/here").status == 404
        assert [each.operation for each in sandbox.unknown] == ["Novel", "Delete", "GET"]


@pytest.mark.parametrize(("key", "status", "viewer"), [(None, 200, True), ("", 200, False), ("x" * 40, 401, None)])
def test_keys_are_checked(sandbox: Sandbox, key: str | None, status: int, *, viewer: bool | None) -> None:
    """The right key has a viewer, no key has none, a wrong one is 401."""
    answer = graphql(sandbox, "query Viewer { viewer { entity } }", key=key)
    assert answer.status == status
    if viewer is not None:
        assert (answer.json()["data"]["viewer"] is not None) == viewer


def test_without_a_key_nothing_else_is_told(sandbox: Sandbox) -> None:
    """Anything but the viewer and the server's facts needs the key."""
    assert graphql(sandbox, "query Models { models { edges { node { name } } } }", key="").status == 401
    assert call(f"{sandbox.url}/files/sandbox/p/r/file_stream", "POST", b"{}").status == 401


def test_basic_authentication_works(sandbox: Sandbox) -> None:
    """The SDK sends the key as the password of any user."""
    header = "Basic " + b64encode(f"api:{sandbox.api_key}".encode()).decode()
    body = json.dumps({"query": "{ viewer { entity } }"}).encode()
    answer = call(f"{sandbox.url}/graphql", "POST", body, {"Authorization": header, "Content-Type": "application/json"})
    assert answer.json() == {"data": {"viewer": {"entity": "sandbox"}}}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a:b"}, {"name": ""}, {"project": "a/b"}, {"project": "p" * 129}, {"tags": [""]},
        {"tags": ["t" * 65]}, {"config": "[1]"}, {"config": "{"},
    ],
    ids=str,
)  # fmt: skip
def test_malformed_runs_are_refused(sandbox: Sandbox, change: dict[str, Any]) -> None:
    """Names, tags and config have the limits of the real server."""
    answer = graphql(sandbox, UPSERT, {"name": "r", "project": "p", **change})
    assert answer.status == 400
    assert answer.json()["errors"]


def test_stream_chunks_replace_what_stands_at_their_offset(sandbox: Sandbox) -> None:
    """A chunk that is sent twice changes nothing; one that begins after the end is refused."""
    _upsert(sandbox, project="stream")
    chunk = {"files": {"wandb-history.jsonl": {"offset": 0, "content": ['{"_step":0,"x":NaN}', '{"_step":1}']}}}
    assert _stream(sandbox, chunk, project="stream") == 200
    assert _stream(sandbox, chunk, project="stream") == 200
    gap = {"files": {"wandb-history.jsonl": {"offset": 5, "content": ["{}"]}}}
    assert _stream(sandbox, gap, project="stream") == 400
    run = sandbox.run("sandbox", "stream", "r")
    assert run is not None
    assert list(run.history) == [{"_step": 0, "x": "NaN"}, {"_step": 1}]
    assert _stream(sandbox, {}, run="nobody") == 404


def test_a_put_is_checked(sandbox: Sandbox) -> None:
    """A wrong MD5 is 400, a signature that was changed is 403, the right bytes are 200 and listed."""
    _upsert(sandbox, project="puts")
    url = _file_url(sandbox, "dir/f.bin", "puts")
    body = os.urandom(3_000_000)
    md5 = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    assert call(url, "PUT", body[:-1] + b"?", {"Content-MD5": md5}).status == 400
    assert call(url.replace("/put/", "/put/a"), "PUT", body).status == 403
    assert sandbox.runs("sandbox", "puts")[0].files == {}
    assert call(url, "PUT", body, {"Content-MD5": md5}).status == 200
    file = sandbox.runs("sandbox", "puts")[0].files["dir/f.bin"]
    assert (file.size, file.md5) == (len(body), hashlib.md5(body, usedforsecurity=False).hexdigest())


def test_a_put_that_is_refused_is_read_to_its_end(sandbox: Sandbox) -> None:
    """A client that still sends when it is refused gets its answer, and its next request over the same connection too."""
    _upsert(sandbox, project="refused")
    url = urlsplit(_file_url(sandbox, "f.bin", "refused"))
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    for _ in range(3):
        connection.request("PUT", url.path.replace("/put/", "/put/a"), bytes(20_000_000))
        answer = connection.getresponse()
        assert answer.status == 403
        assert answer.read()
    connection.request("PUT", url.path, b"here")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_file_name_cannot_leave_the_run(sandbox: Sandbox) -> None:
    """Dots in a name are refused."""
    _upsert(sandbox, project="names")
    answer = graphql(
        sandbox,
        'mutation CreateRunFiles { createRunFiles(input: {entityName: "sandbox", projectName: "names", runName: "r",'
        ' files: ["../x"]}) { runID } }',
    )
    assert answer.status == 400


def test_ranges_are_served(sandbox: Sandbox) -> None:
    """Downloads can begin in the middle, and a GET of part of a file is 206."""
    _upsert(sandbox, project="ranges")
    call(_file_url(sandbox, "f", "ranges"), "PUT", b"0123456789")
    answer = graphql(
        sandbox,
        '{ project(name: "ranges", entityName: "sandbox") {'
        '  run(name: "r") { files { edges { node { directUrl } } } } } }',
    )
    url = answer.json()["data"]["project"]["run"]["files"]["edges"][0]["node"]["directUrl"]
    assert call(url).body == b"0123456789"
    assert call(url, "HEAD").body == b""
    for header, status, body in [("2-4", 206, b"234"), ("7-", 206, b"789"), ("-2", 206, b"89"), ("99-", 416, b"")]:
        part = call(url, headers={"Range": f"bytes={header}"})
        assert (part.status, part.body) == (status, body)


def _artifact(sandbox: Sandbox, project: str) -> str:
    _upsert(sandbox, project=project)
    answer = graphql(
        sandbox,
        "mutation CreateArtifact($i: CreateArtifactInput!) { createArtifact(input: $i) { artifact { id } } }",
        {"i": {
            "entityName": "sandbox", "projectName": project, "artifactTypeName": "t", "artifactCollectionName": "a",
            "digest": "0" * 32, "runName": "r",
        }},
    )  # fmt: skip
    artifact_id: str = answer.json()["data"]["createArtifact"]["artifact"]["id"]
    return artifact_id


def test_an_upload_in_parts_is_joined(sandbox: Sandbox) -> None:
    """Parts go to URLs of their own, are checked one by one and as a whole, and become one file."""
    artifact_id = _artifact(sandbox, "parts")
    parts = [os.urandom(700_000), os.urandom(700_000), b"end"]
    whole = b"".join(parts)
    digests = [hashlib.md5(part, usedforsecurity=False).hexdigest() for part in parts]
    md5 = b64encode(hashlib.md5(whole, usedforsecurity=False).digest()).decode()
    spec = {
        "artifactID": artifact_id, "name": "big", "md5": md5,
        "uploadPartsInput": [{"partNumber": n + 1, "hexMD5": digest} for n, digest in enumerate(digests)],
    }  # fmt: skip
    create = """mutation CreateArtifactFiles($i: CreateArtifactFilesInput!) { createArtifactFiles(input: $i) { files {
        edges { node { storagePath uploadUrl uploadMultipartUrls {
            uploadID uploadUrlParts { partNumber uploadUrl } } } } } } }"""
    answer = graphql(sandbox, create, {"i": {"artifactFiles": [spec]}}).json()
    node = answer["data"]["createArtifactFiles"]["files"]["edges"][0]["node"]
    urls = [part["uploadUrl"] for part in node["uploadMultipartUrls"]["uploadUrlParts"]]
    complete = """mutation Complete($id: ID!, $path: String!, $upload: String!, $parts: [UploadPartsInput!]!) {
        completeMultipartUploadArtifact(input: {completeMultipartAction: Complete, completedParts: $parts,
            artifactID: $id, storagePath: $path, uploadID: $upload}) { digest } }"""
    variables = {
        "id": artifact_id, "path": node["storagePath"], "upload": node["uploadMultipartUrls"]["uploadID"],
        "parts": [{"partNumber": n + 1, "hexMD5": f'"{digest}"'} for n, digest in enumerate(digests)],
    }  # fmt: skip
    assert graphql(sandbox, complete, variables).status == 400
    for url, part in zip(urls, parts, strict=True):
        header = b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode()
        assert call(url, "PUT", part, {"Content-MD5": header}).headers["ETag"].strip('"') in digests
    assert graphql(sandbox, complete, variables).json() == {
        "data": {"completeMultipartUploadArtifact": {"digest": md5}}
    }
    again = graphql(sandbox, create, {"i": {"artifactFiles": [spec]}}).json()
    assert again["data"]["createArtifactFiles"]["files"]["edges"][0]["node"]["uploadUrl"] is None


def test_pages_are_escaped(sandbox: Sandbox) -> None:
    """Whatever a run holds, its page shows it as text."""
    evil = "<script>alert(1)</script>"
    _upsert(sandbox, project="pages", config=json.dumps({evil: {"value": evil}}), tags=[evil])
    _stream(sandbox, {"files": {"output.log": {"offset": 0, "content": [evil]}}}, project="pages")
    for path in ("/", "/sandbox/pages", "/sandbox/pages/runs/r"):
        page = call(sandbox.url + path)
        assert page.status == 200
        assert b"<script" not in page.body
    assert b"&lt;script&gt;" in call(f"{sandbox.url}/sandbox/pages/runs/r").body


def test_the_link_that_the_sdk_prints_leads_somewhere(sdk: Sdk) -> None:
    """Run and artifact pages answer at the addresses that the SDK shows."""
    logged = sdk.log("outputs", {"f": b"1"})
    run = sdk.sandbox.runs("sandbox", sdk.project)[0]
    assert call(f"{sdk.sandbox.url}/sandbox/{sdk.project}/runs/{run.id}").status == 200
    assert logged.url is not None
    assert call(logged.url).status == 200


def test_a_restart_on_the_same_directory_remembers(tmp_path: Path) -> None:
    """Runs, rows, files, artifacts, deletions and signed URLs outlive the server."""
    with Sandbox(tmp_path / "state") as sandbox:
        sdk = Sdk(sandbox, "p", tmp_path)
        with sdk.init(id=sdk.id, config={"a": 1}) as run:
            run.log({"x": 1})
            run.log_artifact(sdk.artifact("outputs", {"f": b"bytes"}), aliases=["best"]).wait(timeout=20)
        _upsert(sandbox, "r")
        _upsert(sandbox, "doomed")
        sandbox.delete_run("sandbox", "p", "doomed")
        url = _file_url(sandbox, "late")
        runs, artifacts = sandbox.runs(), sandbox.artifacts()
    with Sandbox(tmp_path / "state") as sandbox:
        assert sandbox.runs() == runs
        assert sandbox.artifacts() == artifacts
        sdk = Sdk(sandbox, "p", tmp_path)
        read = sdk.api().artifact("sandbox/p/outputs:best")
        assert Path(read.download(root=str(tmp_path / "down")), "f").read_bytes() == b"bytes"
        assert graphql(sandbox, UPSERT, {"name": "doomed", "project": "p"}).status == 409
        assert (
            call(sandbox.url + url.partition("/storage")[1] + url.partition("/storage")[2], "PUT", b"x").status == 200
        )
        fresh = _upsert(sandbox, "fresh")
        assert fresh["data"]["upsertBucket"]["inserted"]
        assert len({each.id for each in sandbox.runs()}) == 3


@contextmanager
def _process(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port_file = folder / "port"
    command = [sys.executable, "-m", "wandb_outbox.sandbox", "--port", "0", "--port-file", str(port_file), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ctrl-C" in line:
                    break
            yield process, f"http://127.0.0.1:{int(port_file.read_text())}"
        finally:
            process.kill()


def test_the_command_serves_until_a_signal(tmp_path: Path) -> None:
    """The process writes its port, answers a client in another process, and ends with 0 on SIGTERM."""
    with _process(tmp_path, "--entity", "team", "--directory", str(tmp_path / "state")) as (process, url):
        client = SandboxClient(url)
        client.wait_ready()
        assert client.state()["runs"] == []
        client.inject(Fault("healthz", "status", status=500))
        assert call(f"{url}/healthz").status == 500
        client.clear_faults()
        assert call(f"{url}/healthz").status == 200
        assert {each["operation"] for each in client.requests()} >= {"healthz"}
        with pytest.raises(ValueError, match="refuse needs seconds"):
            client.inject(Fault(action="refuse"))
        client.down(0.2)
        client.wait_ready()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_the_client_sees_what_the_object_sees(sdk: Sdk) -> None:
    """The views over HTTP are the views."""
    sdk.log("outputs", {"f": b"1"})
    client = SandboxClient(sdk.sandbox.url)
    assert client.runs(sdk.path()) == sdk.sandbox.runs("sandbox", sdk.project)
    assert client.artifacts(sdk.path()) == sdk.sandbox.artifacts("sandbox", sdk.project)


def test_a_large_upload_takes_little_memory(tmp_path: Path) -> None:
    """64 MB go through a server whose memory grows by less than 16 MB."""
    block = os.urandom(1 << 20)
    with _process(tmp_path) as (process, url):
        sandbox = _Remote(url)
        _upsert(sandbox, "r")  # type: ignore[arg-type]
        target = _file_url(sandbox, "big")  # type: ignore[arg-type]
        assert call(target, "PUT", block).status == 200
        before = _peak(process.pid)
        body = b"".join([block] * 64)
        assert call(target, "PUT", body).status == 200
        assert _peak(process.pid) - before < 16 << 10
        (run,) = SandboxClient(url).runs()
        assert run.files["big"].md5 == hashlib.md5(body, usedforsecurity=False).hexdigest()


class _Remote:
    """As much of a sandbox in another process as the helpers need."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.api_key = "sandbox0" * 5


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
