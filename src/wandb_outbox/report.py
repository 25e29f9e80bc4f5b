"""What the commands print: pure functions from the outbox to JSON, text and exit codes.

Imports neither wandb, watchdog nor pydantic-settings: people type ``status`` all day.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any

from wandb_outbox.outbox.lock import Executor
from wandb_outbox.outbox.store import Attempt, Object, Store
from wandb_outbox.row import LINGERS, Run, State, Verdict, is_at_or_below

SCHEMA = 1


class Exit(IntEnum):
    """Exit codes of every command; 75 and 78 are those of sysexits.h."""

    OK = 0
    LEFT = 1
    USAGE = 2
    DOWN = 3
    OFFLINE = 75
    CONFIG = 78


def run_json(run: Run) -> dict[str, Any]:
    """One run of ``list --json``; ``id`` is the W&B run id."""
    error = None
    if run.error_message is not None and run.state not in (State.UPLOADED, State.SKIPPED):
        error = {"class": run.error_class, "message": run.error_message, "hint": run.error_hint}
    return {
        "id": run.run_id, "path": run.path, "root": run.root, "format": run.format, "kind": run.kind.value,
        "state": run.state.value, "reason": run.reason, "verdict": run.verdict, "revision": run.revision,
        "incarnation": run.incarnation, "attempts": run.attempts, "next_attempt_at": run.next_attempt_at,
        "entity": run.entity, "project": run.project, "name": run.name, "url": run.url, "artifact": run.artifact,
        "digest": run.digest, "files": run.files, "bytes": run.bytes, "fingerprint": run.fingerprint, "error": error,
        "first_seen": run.first_seen, "completed_at": run.completed_at, "uploaded_at": run.uploaded_at,
    }  # fmt: skip


def list_json(pages: Iterable[Sequence[Object]]) -> Iterator[str]:
    """``list --json``, in pieces: one line for each run, so that many take little memory."""
    yield f'{{"schema": {SCHEMA}, "runs": ['
    between = "\n"
    for page in pages:
        if page:
            yield between + ",\n".join([_object(*row) for row in page])
            between = ",\n"
    yield "\n]}\n"


def _object(
    row: bytes, next_attempt_at: float | None, first_seen: float, completed_at: float | None, uploaded_at: float | None
) -> str:
    """The same as :func:`run_json`, as text: what SQLite wrote, with the times."""
    text = row.decode("utf-8", "surrogateescape")
    if not text.isascii():
        # With escapes, as `json` does it: so it can be printed anywhere, also a path that is not UTF-8.
        text = json.dumps(json.loads(text))
    return (
        f'{text[:-1]},"next_attempt_at":{_number(next_attempt_at)},"first_seen":{_number(first_seen)},'
        f'"completed_at":{_number(completed_at)},"uploaded_at":{_number(uploaded_at)}}}'
    )


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value)


def show_json(run: Run, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """``show --json``: the run, and the history of its attempts."""
    history = [
        {"started_at": a.started_at, "ended_at": a.ended_at, "outcome": a.outcome, "message": a.message}
        for a in attempts
    ]
    return {
        "schema": SCHEMA,
        "run": run_json(run) | {"outcome": run.outcome, "warnings": list(run.warnings), "attempt_history": history},
    }


def status_json(store: Store | None, executor: Executor | None, *, now: float) -> dict[str, Any]:
    """``status --json``."""
    counts: Mapping[State, int] = store.counts() if store else dict.fromkeys(State, 0)
    server: dict[str, Any] = (store.fact("server") if store else None) or {}
    oldest = store.oldest_waiting() if store else None
    waiting = store.next_attempt_at() if store else None
    last = store.last_uploaded() if store else None
    trouble = store.last_error() if store else None
    if waiting is not None:
        waiting = max(waiting, float(server.get("next_probe") or 0.0)) or now
    return {
        "schema": SCHEMA,
        "daemon": {
            "alive": executor is not None,
            "pid": executor.pid if executor else None,
            "since": executor.since if executor else None,
            "version": executor.version if executor else None,
        },
        "server": {
            "state": server.get("state", "unknown"), "since": server.get("since"), "detail": server.get("detail", ""),
        },
        "paused": bool(store.fact("paused")) if store else False,
        "counts": {state.value: counts[state] for state in State},
        "oldest_waiting_seconds": None if oldest is None else max(0.0, now - oldest),
        "next_attempt_at": waiting,
        "uploads": (store.fact("uploads") if store and executor else None) or [],
        "last_uploaded": None if last is None else {
            "id": last.run_id, "path": last.path, "url": last.url, "at": last.uploaded_at,
        },
        "last_error": None if trouble is None else {
            "id": trouble.run_id, "path": trouble.path, "class": trouble.error_class, "message": trouble.error_message,
            "hint": trouble.error_hint,
        },
        "writer_lingers": [
            {"id": run.run_id, "path": run.path, "reason": run.reason} for run in (store.lingering() if store else ())
        ],
        "roots": (store.fact("roots") if store else None) or [],
    }  # fmt: skip


def status_text(
    status: Mapping[str, Any], backlog: Iterable[tuple[str, int, int]], *, now: float, nowhere: str | None = None
) -> str:
    """``status`` for a person: what is where, and what to do.

    ``backlog`` is :meth:`Store.backlog`; ``nowhere``: the state directory in which there is no outbox.
    """
    daemon, server = status["daemon"], status["server"]
    lines = []
    if daemon["alive"]:
        since = f", for {duration(now - daemon['since'])}" if daemon["since"] else ""
        lines.append(f"daemon   running (pid {daemon['pid']}, version {daemon['version']}{since})")
    else:
        lines.append(
            "daemon   not running: start it with `wandb-outbox watch ROOT`, or deliver once with `wandb-outbox flush ROOT`"
        )
    if nowhere is not None:
        lines.append(f"outbox   none in {nowhere}: is it elsewhere? Say so with --state-dir or WANDB_OUTBOX_STATE_DIR")
    words = f"server   {server['state']}"
    if server["detail"]:
        words += f": {server['detail']}"
    if server["since"]:
        words += f" (for {duration(now - server['since'])})"
    lines.append(words)
    if status["paused"]:
        lines.append("paused   nothing new is uploaded until `wandb-outbox resume`")
    counts = ", ".join(f"{number} {state}" for state, number in status["counts"].items() if number)
    lines.append(f"runs     {counts or 'none yet'}")
    lines += [
        f"backlog  {number:,} older folder{'s' * (number != 1)}, {size(total)}, held: "
        f"`wandb-outbox release --root {shlex.quote(root)}`, or those since a day with `--since YYYY-MM-DD`"
        for root, number, total in backlog
    ]
    if status["oldest_waiting_seconds"] is not None:
        lines.append(f"waiting  the oldest for {duration(status['oldest_waiting_seconds'])}")
    if daemon["alive"] and status["next_attempt_at"] is not None and status["next_attempt_at"] > now:
        lines.append(f"next     in {duration(status['next_attempt_at'] - now)}")
    lines += [
        f"upload   {upload['path']}  {size(upload['bytes_sent'])} of {size(upload['bytes_total'])}"
        for upload in status["uploads"]
    ]
    lines += [f"lingers  {each['path']}: {each['reason'].removeprefix(LINGERS)}" for each in status["writer_lingers"]]
    for root in status["roots"]:
        period = f", full pass {root['full_pass_seconds']:.1f} s" if root.get("full_pass_seconds") is not None else ""
        problem = f"  PROBLEM: {root['problem']}" if root.get("problem") else ""
        lines.append(f"root     {root['path']}  {root['mode']}, {root['watched']} directories watched{period}{problem}")
    if status["last_uploaded"]:
        lines.append(f"last     {status['last_uploaded']['path']} → {status['last_uploaded']['url']}")
    if status["last_error"]:
        error = status["last_error"]
        lines.append(f"error    {error['path']}: {without_path(error['path'], error['message'])}")
        if error["hint"]:
            lines.append(f"         {error['hint']}")
    return "\n".join(lines)


def show_text(run: Run, attempts: Sequence[Attempt]) -> str:
    """``show`` for a person."""
    fields = [
        ("folder", run.path), ("root", run.root or "none: given by hand"), ("format", run.format),
        ("state", run.state.value), ("reason", run.reason), ("verdict", f"{run.verdict} ({run.outcome})"),
        ("judged", run.judged if run.judged not in run.reason else ""),
        ("run id", run.run_id), ("revision", f"{run.revision} (incarnation {run.incarnation})"),
        ("content", f"{run.files} files, {size(run.bytes)}, fingerprint {run.fingerprint or 'none yet'}"),
        ("run", f"{run.entity}/{run.project}: {run.name}" if run.project else "not sent yet"),
        ("url", run.url or ""), ("artifact", f"{run.artifact} (digest {run.digest})" if run.artifact else ""),
        ("seen", moment(run.first_seen)), ("complete", moment(run.completed_at)), ("uploaded", moment(run.uploaded_at)),
        ("attempts", str(run.attempts)), ("hold", "every later content waits until it is released" if run.hold else ""),
        ("error", f"{run.error_class}: {run.error_message}" if run.error_message else ""), ("hint", run.error_hint or ""),
    ]  # fmt: skip
    lines = [f"{name:<9} {value}" for name, value in fields if value]
    lines += [f"warning   {warning}" for warning in run.warnings]
    lines += [
        f"  try     {moment(a.started_at)}  {a.outcome or 'under way'}  {a.message or ''}".rstrip() for a in attempts
    ]
    return "\n".join(lines)


_NEXT: Mapping[State, tuple[str, str]] = {
    State.HELD: ("release", "sends it as it is now, `skip` leaves it alone"),
    State.SKIPPED: ("release", "sends it all the same"),
    State.FAILED: ("retry", "tries again; so does any change of the folder"),
}
"""By state, the command that moves a run on, and what it does."""


def without_path(path: str, message: str) -> str:
    """A message for a line that begins with the folder, which most messages of errors name themselves."""
    return message.removeprefix(f"{path}: ")


def hindrances(*, paused: bool, watched: bool) -> list[str]:
    """What keeps everything that is queued from being delivered, here and not at the server, and what ends it."""
    lines = ["Uploads are paused: nothing new is uploaded until `wandb-outbox resume`."] if paused else []
    if not watched:
        lines.append("No daemon runs: it is delivered by the next `wandb-outbox watch` or `wandb-outbox flush`.")
    return lines


def why_text(run: Run, *, now: float, watched: Collection[str] | None, server: Mapping[str, Any], paused: bool) -> str:
    """``why``: where it stands and why, in sentences.

    ``watched``: the roots of the daemon, ``None`` when none runs; ``server`` and ``paused``: its facts.
    """
    lines = [f"{run.path} is {run.state.value}: {without_path(run.path, run.reason)}."]
    if run.judged and run.state not in (State.WRITING, State.HELD) and run.judged not in run.reason:
        lines.append(f"It was found {run.verdict}: {run.judged}.")
    if run.state is State.WRITING:
        lines += _waiting_lines(run, now=now, watched=watched)
    if run.error_message and run.state in (State.QUEUED, State.FAILED, State.HELD):
        if run.error_message != run.reason:
            lines.append(f"Last error ({run.error_class}): {run.error_message}.")
        if run.error_hint:
            lines.append(f"What you can do: {run.error_hint}.")
    if run.state in _NEXT and not run.gone:
        lines.append(f"Next: `wandb-outbox {_NEXT[run.state][0]} {run.run_id[:8]}` {_NEXT[run.state][1]}.")
    if run.next_attempt_at is not None and run.state is State.HELD:
        lines.append(f"The server is asked again at {moment(run.next_attempt_at)}.")
    if run.state is State.QUEUED:
        lines += hindrances(paused=paused, watched=watched is not None)
        if server.get("state", "unknown") not in ("online", "unknown"):
            lines.append(f"Waited for: the server, which is {server['state']}: {server.get('detail', '')}.")
    elif run.hold and run.state is not State.HELD:
        lines.append("A person holds it: its next content waits for `wandb-outbox release`.")
    if run.next_attempt_at is not None and run.state is State.QUEUED:
        lines.append(f"It is tried again at {moment(run.next_attempt_at)}.")
    if run.url and run.state is not State.UPLOADED:
        lines.append(f"The last content that the server confirmed: {run.url} ({run.artifact}).")
    return "\n".join(lines)


def _waiting_lines(run: Run, *, now: float, watched: Collection[str] | None) -> Iterator[str]:
    """What a folder that is not finished waits for, since when, and when it is looked at again."""
    if run.verdict_since is not None:
        since = f"{moment(run.verdict_since)}, for {duration(now - run.verdict_since)}"
        yield f"That it is {run.verdict} has been so since {since}."
    if run.verdict == Verdict.SETTLING:
        yield "Waited for: time alone. If nothing changes and nobody opens a file of it, it is decided then."
    else:
        yield "Waited for: a sign of its end, which is that the last open file is closed, or that something in it says so."
    if watched is None:
        yield "No daemon runs: it is looked at again by the next `wandb-outbox watch` or `wandb-outbox flush`."
    elif run.root is not None and not any(is_at_or_below(run.path, root) for root in watched):
        yield (
            f"The daemon that runs does not watch {run.root}: start it with that root, too, or `flush` or `upload` it by hand."
        )
    elif run.look_at is not None and run.look_at > now:
        yield f"Looked at again, without an event, at {moment(run.look_at)}, in {duration(run.look_at - now)}."
    elif run.look_at is not None:
        yield "Looked at again with its next event, and twice a minute without one (in its own rhythm where a root is polled)."


def flush_text(uploaded: int, after: Mapping[State, int], server: str, detail: str) -> str:
    """What ``flush`` did, in a line."""
    parts = [f"{uploaded} uploaded"]
    parts += [
        f"{after[state]} {words}"
        for state, words in (
            (State.QUEUED, "still queued"), (State.UPLOADING, "still uploading"), (State.FAILED, "failed"),
            (State.HELD, "held"), (State.WRITING, "still being written"),
        )
        if after[state]
    ]  # fmt: skip
    line = ", ".join(parts)
    if after[State.QUEUED] and server != "online":
        line += f"; the server is {server}: {detail}"
    return line


def finished_exit(left: int, failed: int, server: str) -> Exit:
    """The exit code of ``flush`` and ``upload``: 75 when only the network is missing, 1 when something needs a look."""
    if failed:
        return Exit.LEFT
    if left:
        return Exit.OFFLINE if server in ("offline", "throttled") else Exit.LEFT
    return Exit.OK


def size(count: int) -> str:
    """Bytes in powers of ten, as storage vendors and W&B count."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds in the two largest units that say something."""
    seconds = max(0, round(seconds))
    for length, unit, smaller, smaller_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= length:
            rest = seconds % length // smaller
            return f"{seconds // length} {unit} {rest} {smaller_unit}" if rest else f"{seconds // length} {unit}"
    return f"{seconds} s"


def moment(at: float | None) -> str:
    """A time as people write it, UTC."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
