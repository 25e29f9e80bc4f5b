"""Each fault does what it says, seen from a raw socket and through the real SDK."""

import http.client
import json
import socket
import threading
import time
import urllib.error
from collections.abc import Iterator

import pytest
import wandb
from sandbox_sdk import Sdk, call, graphql
from wandb.errors import CommError

from wandb_outbox.sandbox import Fault, Sandbox, SandboxClient

VIEWER = "query Viewer { viewer { entity } }"


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """Give a sandbox that a test may take down."""
    with Sandbox() as sandbox:
        yield sandbox


def _upload_url(sandbox: Sandbox, name: str = "f") -> str:
    make = 'mutation UpsertBucket { upsertBucket(input: {name: "r", modelName: "p"}) { bucket { id } } }'
    assert graphql(sandbox, make).status == 200
    answer = graphql(
        sandbox,
        "mutation CreateRunFiles($f: [String!]!) { createRunFiles("
        'input: {entityName: "sandbox", projectName: "p", runName: "r", files: $f}) { files { uploadUrl } } }',
        {"f": [name]},
    )
    url: str = answer.json()["data"]["createRunFiles"]["files"][0]["uploadUrl"]
    return url


def _ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/healthz")
    connection.getresponse()


def test_refuse_closes_the_port_and_gives_it_back(own: Sandbox) -> None:
    """Connections are refused, open ones are cut, and the same port answers again afterwards."""
    connection = http.client.HTTPConnection("127.0.0.1", own.port)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    own.inject(Fault(action="refuse"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", own.port), timeout=5)
    connection.auto_open = 0
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        _ask(connection)
    own.clear_faults()
    assert call(f"{own.url}/healthz").status == 200
    connection.close()


def test_refuse_ends_by_itself(own: Sandbox) -> None:
    """After its seconds the server listens again."""
    own.down(0.1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", own.port), timeout=5)
    SandboxClient(own.url).wait_ready(5)
    assert call(f"{own.url}/healthz").status == 200


def test_reset_hits_so_often_and_no_more(sandbox: Sandbox) -> None:
    """The connection is reset for the named operation, as many times as asked, and nothing is done."""
    sandbox.inject(Fault("Viewer", "reset", times=1))
    assert graphql(sandbox, "query Other { viewer { entity } }").status == 200
    with pytest.raises((ConnectionResetError, urllib.error.URLError)):
        graphql(sandbox, VIEWER)
    assert graphql(sandbox, VIEWER).status == 200
    # A connection is reset before its request is logged, so the two may be logged in either order, and late.
    deadline = time.monotonic() + 10
    while len(sandbox.requests.of("Viewer")) < 2:
        assert time.monotonic() < deadline, "the request that was reset is not in the log"
        time.sleep(0.01)
    assert sorted((each.status, each.fault) for each in sandbox.requests.of("Viewer")) == [(0, "reset"), (200, None)]


def test_hang_ends_when_it_is_cleared(sandbox: Sandbox) -> None:
    """A hanging request gets no answer; clearing the fault closes its connection."""
    sandbox.inject(Fault("healthz", "hang"))
    failures: list[Exception] = []

    def ask() -> None:
        try:
            call(f"{sandbox.url}/healthz")
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(timeout=0.3)
    assert thread.is_alive()
    sandbox.clear_faults()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert failures


def test_hang_ends_when_the_client_leaves(sandbox: Sandbox) -> None:
    """A client that gives up leaves no thread behind."""
    sandbox.inject(Fault("healthz", "hang"))
    with socket.create_connection(("127.0.0.1", sandbox.port)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    end = time.monotonic() + 5
    while not sandbox.requests.of("healthz") and time.monotonic() < end:
        time.sleep(0.01)
    assert [each.fault for each in sandbox.requests.of("healthz")] == ["hang"]


def test_slow_delays_and_throttles(sandbox: Sandbox) -> None:
    """A delay comes before the work; a rate stretches the body of a put."""
    url = _upload_url(sandbox)
    sandbox.inject(Fault("put", "slow", delay=0.2, bytes_per_second=200_000, times=1))
    began = time.monotonic()
    assert call(url, "PUT", b"x" * 40_000).status == 200
    assert 0.35 < time.monotonic() - began < 5


@pytest.mark.parametrize("status", [401, 403, 404, 409, 429, 500, 502])
def test_status_answers_in_the_servers_words(sandbox: Sandbox, status: int) -> None:
    """The body has the words where the SDK looks for them, and Retry-After is sent."""
    sandbox.inject(Fault("graphql", "status", status=status, retry_after=7))
    answer = graphql(sandbox, VIEWER)
    assert answer.status == status
    assert answer.json()["errors"][0]["message"] == answer.json()["error"]
    assert answer.headers["Retry-After"] == "7"


@pytest.mark.parametrize("status", [200, 502])
def test_html_answers_with_a_page(sandbox: Sandbox, status: int) -> None:
    """A proxy's page comes instead of JSON."""
    sandbox.inject(Fault("any", "html", status=status))
    answer = graphql(sandbox, VIEWER)
    assert answer.status == status
    assert answer.body.startswith(b"<!doctype html>")


def test_lost_reply_does_the_work(sandbox: Sandbox) -> None:
    """The request takes effect, the answer never comes."""
    url = _upload_url(sandbox, "lost")
    sandbox.inject(Fault("put", "lost-reply", times=1))
    with pytest.raises((OSError, http.client.HTTPException)):
        call(url, "PUT", b"bytes")
    run = sandbox.run("sandbox", "p", "r")
    assert run is not None
    assert run.files["lost"].size == 5


def test_cut_ends_a_put_after_some_bytes(sandbox: Sandbox) -> None:
    """A put that is cut leaves no file."""
    url = _upload_url(sandbox, "cut")
    sandbox.inject(Fault("put", "cut", after_bytes=1000, times=1))
    with pytest.raises((OSError, http.client.HTTPException)):
        call(url, "PUT", b"x" * 5_000_000)
    run = sandbox.run("sandbox", "p", "r")
    assert run is not None
    assert "cut" not in run.files


def test_cut_ends_an_answer_after_some_bytes(sandbox: Sandbox) -> None:
    """The client sees fewer bytes than were announced."""
    sandbox.inject(Fault("Viewer", "cut", after_bytes=10, times=1))
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        graphql(sandbox, VIEWER)


def test_a_rate_hits_its_share_and_a_seed_repeats_it() -> None:
    """With the same seed the same requests are hit."""

    def statuses() -> list[int]:
        with Sandbox(seed=3) as sandbox:
            sandbox.inject(Fault("healthz", "status", status=500, rate=0.5))
            return [call(f"{sandbox.url}/healthz").status for _ in range(40)]

    first = statuses()
    assert first == statuses()
    assert 8 < first.count(500) < 32


def test_a_fault_ends_after_its_seconds(sandbox: Sandbox) -> None:
    """A fault that lasts no time hits nothing."""
    sandbox.inject(Fault("any", "reset", seconds=0))
    assert graphql(sandbox, VIEWER).status == 200


def test_a_pattern_names_operations(sandbox: Sandbox) -> None:
    """An fnmatch pattern matches operation names."""
    sandbox.inject(Fault("View*", "status", status=500))
    assert graphql(sandbox, VIEWER).status == 500
    assert graphql(sandbox, "query Other { viewer { entity } }").status == 200


def test_the_sandboxs_own_interface_is_never_hit(sandbox: Sandbox) -> None:
    """Faults can be cleared over HTTP whatever they are."""
    sandbox.inject(Fault("any", "reset"))
    assert call(f"{sandbox.url}/sandbox/faults", "DELETE").status == 200
    assert graphql(sandbox, VIEWER).status == 200


def test_a_fault_that_does_not_exist_is_an_error() -> None:
    """A typing mistake is no silent peace."""
    with pytest.raises(ValueError, match="unknown action"):
        Fault(action="explode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown fields: statuss"):
        Fault.from_json({"statuss": 3})


# Through the SDK


@pytest.mark.parametrize(
    "fault",
    [
        Fault("UpsertBucket", "status", status=401),
        Fault("UpsertBucket", "status", status=403),
        Fault("graphql", "html", status=200),
    ],
    ids=["401", "403", "html"],
)
def test_a_refusal_at_init_is_told_at_once(sdk: Sdk, fault: Fault) -> None:
    """Refusals that no retry mends are raised at once: 401 and 403 as CommError, a page as the bare wandb.Error."""
    sdk.sandbox.inject(fault)
    with pytest.raises(wandb.Error) as caught:
        sdk.init()
    assert isinstance(caught.value, CommError) == (fault.action == "status")
    assert len(sdk.sandbox.requests.of("UpsertBucket")) <= 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("UpsertBucket", "status", status=500, times=1),
        Fault("UpsertBucket", "status", status=429, retry_after=1, times=1),
        Fault("UpsertBucket", "reset", times=1),
        Fault("UpsertBucket", "lost-reply", times=1),
        Fault("CreateArtifact", "lost-reply", times=1),
        Fault("CommitArtifact", "lost-reply", times=1),
        Fault("file_stream", "lost-reply", times=1),
        Fault("put", "cut", after_bytes=3, times=1),
    ],
    ids=lambda fault: f"{fault.operation}-{fault.action}-{fault.status}",
)
def test_one_failure_is_mended_and_nothing_is_doubled(sdk: Sdk, fault: Fault) -> None:
    """The SDK tries again; a request that was carried out without an answer has no second effect."""
    sdk.sandbox.inject(fault)
    with sdk.init(id=sdk.id) as run:
        run.log({"x": 1})
        run.log_artifact(sdk.artifact("outputs", {"f": b"some bytes"})).wait(timeout=20)
    (view,) = sdk.sandbox.runs("sandbox", sdk.project)
    assert (view.state, len(view.history)) == ("finished", 1)
    assert [each.state for each in sdk.sandbox.artifacts("sandbox", sdk.project)] == ["COMMITTED"]
    assert [each.fault for each in sdk.sandbox.requests].count(fault.action) == 1


def test_an_artifact_whose_storage_fails_stays_pending(sdk: Sdk) -> None:
    """Uploads that fail for good are told by the wait, and nothing is committed."""
    with sdk.init() as run:
        sdk.sandbox.inject(Fault("put", "status", status=403))
        logged = run.log_artifact(sdk.artifact("outputs", {"f": b"some bytes"}))
        with pytest.raises(ValueError, match=r"403|failed"):
            logged.wait(timeout=20)
        sdk.sandbox.clear_faults()
    assert [each.state for each in sdk.sandbox.artifacts("sandbox", sdk.project)] == ["PENDING"]


def test_an_outage_at_the_end_of_a_run_is_bounded_by_the_finish_timeout(own: Sandbox, sdk: Sdk) -> None:
    """With `finish_timeout_raises`, a server that is gone ends in an error in time, and the run stays unfinished."""
    away = Sdk(own, "p", sdk.folder)
    run = away.init(id=sdk.id, settings={"finish_timeout": 2, "x_file_stream_retry_max": 20})
    run.log({"x": 1})
    own.down()
    with pytest.raises((wandb.Error, TimeoutError)):
        run.finish()
    own.up()
    assert [each.state for each in own.runs()] == ["running"]


def test_json_of_a_fault_reads_back() -> None:
    """A fault survives its way over HTTP."""
    fault = Fault("put", "slow", times=3, delay=0.5)
    assert Fault.from_json(json.loads(json.dumps(fault.to_json()))) == fault
