"""Outboxes with many finished runs, made quickly: a thousand through the store itself, the rest as copies of those."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.world import scratch
from wandb_outbox.folder import snapshot
from wandb_outbox.model import FileStat, Judgement, Kind, Receipt, Run, Snapshot, Verdict, run_id
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
from wandb_outbox.outbox.store import Store

DONE = Judgement(Verdict.COMPLETE, "metrics.json is there, and nobody has a file of it open", None, "ok")
SEED = 1000
DAY = 86_400.0


def path_of(number: int) -> str:
    """A folder in the layout of the evaluation script."""
    return f"/outputs/2026-01-{number % 28 + 1:02}/gsm8k/qwen3-8b/baseline/entropy/seed{number:06}_10-00-00"


def snapshot_of(number: int) -> Snapshot:
    """A folder of two files."""
    files = tuple(FileStat(name, 1000, number, number, number) for name in ("metrics.json", "results.json"))
    return Snapshot(files, (), birth=f"{number}:0", newest_ctime_ns=number)


def receipt_of(run: Run) -> Receipt:
    """What the server confirms of it."""
    return Receipt(
        run_id=run.run_id, incarnation=0, entity="team", project="llm-tts-eval-gsm8k", name="baseline_qwen3-8b_vllm",
        url=f"https://wandb.ai/team/llm-tts-eval-gsm8k/runs/{run.run_id}", artifact=f"outputs-2026-01-01-{run.key}:v0",
        digest="d" * 32, fingerprint=run.fingerprint, files=2, bytes=2000,
    )  # fmt: skip


def add(store: Store, number: int) -> Run:
    """A folder that was just seen."""
    return store.add(
        path=path_of(number), root="/outputs", kind=Kind.FOLDER, format="llm-tts", birth=f"{number}:0", site="bench",
        now=float(number),
    )  # fmt: skip


def finished_outbox(directory: Path, count: int) -> StateDir:
    """A state directory whose outbox holds so many uploaded runs. It is filled in memory and then copied."""
    with scratch("/dev/shm" if os.path.isdir("/dev/shm") else None) as fast:
        state = StateDir(str(fast))
        prepare_state_dir(state)
        store = Store.open(state)
        for number in range(min(count, SEED)):
            run = add(store, number)
            store.enqueue(run.key, DONE, snapshot_of(number), now=float(number))
            store.claim("filled", now=1e9, suspects=False)
            filled = store.get(run.key)
            assert filled is not None
            store.uploaded(run.key, "filled", receipt_of(filled), now=1e9 + number)
        store.close()
        _multiply(state.database, count)
        shutil.copytree(fast, directory, dirs_exist_ok=True)
    return StateDir(str(directory))


def make_finished_folders(root: Path, count: int, texts: Mapping[str, str]) -> list[str]:
    """So many run folders that ended long ago, in the layout of the evaluation script; real paths."""
    folders = []
    for number in range(count):
        day, place = divmod(number, 500)
        dataset, place = divmod(place, 100)
        model, seed = divmod(place, 10)
        folder = (
            root / f"20{day // 336:02}-{day // 28 % 12 + 1:02}-{day % 28 + 1:02}/set{dataset}/model{model}/baseline"
            f"/seed{seed}_00-00-00"
        )
        for name in {os.path.dirname(name) for name in texts}:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with open(folder / name, "w", encoding="utf-8") as file:
                file.write(text)
        folders.append(os.path.realpath(folder))
    ago = time.time() - 30 * DAY
    for directory, _, _ in os.walk(root, topdown=False):
        os.utime(directory, (ago, ago))
    return folders


def known_outbox(directory: Path, root: Path, folders: Sequence[str]) -> StateDir:
    """A state directory whose outbox knows these folders as uploaded, as they are."""
    with scratch("/dev/shm" if os.path.isdir("/dev/shm") else None) as fast:
        state = StateDir(str(fast))
        prepare_state_dir(state)
        store = Store.open(state)
        taken = snapshot(folders[0])
        run = store.add(path=folders[0], root=os.path.realpath(root), kind=Kind.FOLDER, format="llm-tts",
                        birth=taken.birth, site="bench", now=1e9)  # fmt: skip
        store.enqueue(run.key, DONE, taken, now=1e9)
        queued = store.claim("filled", now=2e9, suspects=False)
        assert queued is not None
        store.uploaded(run.key, "filled", receipt_of(queued), now=1e9)
        store.close()
        connection = sqlite3.connect(state.database)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        changed = {
            "key": "?1", "path": "?2", "birth": "?3", "run_id": "?4", "fingerprint": "?5", "delivered_fingerprint": "?5",
            "files": "?6", "bytes": "?7", "mtime_ns": "?8",
        }  # fmt: skip
        chosen = ", ".join(changed.get(name, name) for name in columns)
        connection.executemany(
            f"INSERT INTO runs ({', '.join(columns)}) SELECT {chosen} FROM runs WHERE key = 1", _facts(folders[1:])
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        shutil.copytree(fast, directory, dirs_exist_ok=True)
    return StateDir(str(directory))


def _facts(folders: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for key, path in enumerate(folders, start=2):
        taken = snapshot(path)
        yield (
            key, os.fsencode(path), taken.birth, run_id("bench", path, 0), taken.fingerprint, len(taken.files),
            taken.bytes, taken.mtime_ns,
        )  # fmt: skip


def _multiply(database: str, count: int) -> None:
    """Copies of the rows that are there, under other names, until there are so many."""
    connection = sqlite3.connect(database)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
    changed = {
        "key": f"key + ?1 * {SEED}",
        "path": "CAST(replace(CAST(path AS TEXT), '/outputs/', '/outputs/copy' || ?1 || '/') AS BLOB)",
        "run_id": "run_id || ?1",
        "birth": "birth || ':' || ?1",
        "uploaded_at": "uploaded_at + ?1",
    }
    chosen = ", ".join(changed.get(name, name) for name in columns)
    copy = f"INSERT INTO runs ({', '.join(columns)}) SELECT {chosen} FROM runs WHERE key <= {SEED}"
    tries = (
        "INSERT INTO attempts (run, started_at, ended_at, outcome, message) "
        f"SELECT run + ?1 * {SEED}, started_at, ended_at, outcome, message FROM attempts WHERE run <= {SEED}"
    )
    for number in range(1, count // SEED):
        connection.execute(copy, (number,))
        connection.execute(tries, (number,))
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
