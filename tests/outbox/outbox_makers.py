"""Rows, snapshots and receipts for tests of the outbox."""

from __future__ import annotations

from pathlib import Path

from wandb_outbox.model import FileStat, Judgement, Kind, Receipt, Run, Snapshot, State, Verdict
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
from wandb_outbox.outbox.store import Store

COMPLETE = Judgement(Verdict.COMPLETE, "metrics.json is there; nobody writes to it", None, "ok")
WRITING = Judgement(Verdict.WRITING, "run.log is open for writing")
CRASHED = Judgement(Verdict.CRASHED, "stderr.log ends with a traceback", None, "crashed")
NOW = 1_764_756_000.0
SITE = "site"
MINE, OLD = "boot:2", "boot:1"


def state_dir(path: Path) -> StateDir:
    """A state directory as the executor makes it."""
    made = StateDir(str(path / "state"))
    prepare_state_dir(made)
    return made


def content(version: int = 1, *, size: int = 100) -> Snapshot:
    """A folder's content; the version decides its fingerprint."""
    file = FileStat("results.json", size, version, version, 7)
    return Snapshot((file,), (), "1:1", version, mtime_ns=version)


def receipt(run: Run, snapshot: Snapshot | None = None) -> Receipt:
    """What the server confirms of a delivery."""
    return Receipt(
        run_id=run.run_id,
        entity="team",
        project="llm-tts-eval-aime2025",
        name="deepconf_qwen3-8b_vllm",
        url=f"https://wandb.test/team/p/runs/{run.run_id}",
        artifact="outputs-2025-12-03-run:v0",
        digest="d1",
        files=1,
        bytes=100,
        fingerprint=(snapshot or content()).fingerprint,
        incarnation=run.incarnation,
        warnings=("table-cut: 10,000 rows",),
    )


def add(store: Store, path: str = "/outputs/a", birth: str = "1:1") -> Run:
    """A folder that was just seen."""
    return store.add(path=path, root="/outputs", kind=Kind.FOLDER, format="plain", birth=birth, site=SITE, now=NOW)


def queue(store: Store, path: str = "/outputs/a", *, now: float = NOW, version: int = 1, size: int = 100) -> Run:
    """A finished folder."""
    run = add(store, path, birth=path)
    assert store.enqueue(run.key, COMPLETE, content(version, size=size), now=now)
    return again(store, run)


def claim(store: Store, *, now: float = NOW, claim: str = MINE) -> Run:
    """The oldest finished folder, claimed."""
    run = store.claim(claim, now=now, suspects=False)
    assert run is not None
    return run


def deliver(store: Store, path: str = "/outputs/a", *, version: int = 1) -> Run:
    """A folder that the server has."""
    run = queue(store, path, version=version)
    taken = store.claim(MINE, now=NOW, suspects=False, only=[run.key])
    assert taken is not None
    assert store.contact(run.key, MINE, run_id=run.run_id, incarnation=run.incarnation)
    assert store.uploaded(run.key, MINE, receipt(run, content(version)), now=NOW + 5)
    return again(store, run)


def again(store: Store, run: Run) -> Run:
    """The row as it is now."""
    found = store.get(run.key)
    assert found is not None
    return found


def state_of(store: Store, run: Run) -> State:
    """Where the row stands now."""
    return again(store, run).state
