"""Lives on a stage with the live daemon watching, and the oracle that holds its decisions beside what really happened.

The daemon is a process of its own with real file events and real probes. What it decided, and when, is read from its
log and from the outbox; what happened, and when, from the actors' journals. Both use the same clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import replay_actor
from replay_script import GONE, Ending, Life

from wandb_outbox.folder import snapshot
from wandb_outbox.model import Run, State
from wandb_outbox.outbox.location import StateDir
from wandb_outbox.outbox.store import Store

POLL = 0.05
RACE = 0.15
"""Seconds between the daemon's look and the time that it writes down: what happens within them nobody could know."""
TICK = 0.03
"""Seconds by which a file's time may lie before the operation that set it: the kernel's clock of files is a coarse one."""
LEFT = frozenset({State.QUEUED, State.UPLOADING, State.UPLOADED})
"""The states of a folder that was taken for finished."""
NOWHERE = "http://127.0.0.1:9"
"""Nobody listens there: what is finished stays ``queued``."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The daemon's settings in a theatre; seconds."""

    settle: float = 1.5
    grace: float = 2.5
    rescan: float = 60.0
    """Longer than any test, unless a rescan is what it is about: so a lost event is a failed test."""
    seen: float = 2.0
    """In so long a silence the daemon has certainly looked, and seen who holds a file; without events it may not have."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the daemon logged when it took a folder for finished."""

    at: float
    path: str
    state: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What a folder's row was from ``at`` on."""

    at: float
    state: State
    verdict: str
    reason: str
    revision: int
    url: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """An interval in which certainly somebody had this file open for writing."""

    path: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Touch:
    """Something was written, made, renamed or removed at this time, or later by no more than the operation took."""

    path: str
    at: float


@dataclass(frozen=True, slots=True)
class Journal:
    """What certainly happened in one life, or to one folder of it. Paths are relative to the stage's top."""

    held: tuple[Held, ...] = ()
    touches: tuple[Touch, ...] = ()
    ends: tuple[tuple[float, str], ...] = ()
    cues: tuple[str, ...] = ()
    curtain: float | None = None
    problem: str | None = None

    def about(self, folder: str, *, alone: bool) -> Journal:
        """What concerns this folder: what lies in it, and, if it is ``alone``, what has other names outside.

        Its own parents are no part of it: that one of them is made or renamed changes nothing in it.
        """

        def concerns(path: str) -> bool:
            return f"{path}/".startswith(folder + "/") or (alone and not folder.startswith(path + "/"))

        return replace(
            self,
            held=tuple(each for each in self.held if concerns(each.path)),
            touches=tuple(each for each in self.touches if concerns(each.path)),
        )

    @property
    def began(self) -> float:
        """When something happened for the first time."""
        return min((touch.at for touch in self.touches), default=0.0)

    @property
    def ended(self) -> float:
        """When the last process of the life ended, or the last touch without one."""
        return max((*(at for at, _ in self.ends), *(touch.at for touch in self.touches)), default=0.0)


class JournalReader:
    """Follows the journal of one life."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._open: dict[tuple[int, str], tuple[str, float]] = {}
        self._held: list[Held] = []
        self._touches: list[Touch] = []
        self._ends: list[tuple[float, str]] = []
        self._cues: list[str] = []
        self._curtain: float | None = None
        self._problem: str | None = None

    def journal(self) -> Journal:
        """What is known by now."""
        if self._curtain is None and self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                self._take(json.loads(line))
        held = (*self._held, *(Held(path, since, float("inf")) for path, since in self._open.values()))
        return Journal(held, tuple(self._touches), tuple(self._ends), tuple(self._cues), self._curtain, self._problem)

    def _take(self, line: dict[str, Any]) -> None:
        at, done, pid = float(line["t"]), float(line["u"]), int(line["pid"])
        match line["op"]:
            case "open":
                self._open[pid, line["handle"]] = (line["path"], done)
                self._touches.append(Touch(line["path"], at))
            case "inherited":
                for handle, path in line["handles"].items():
                    self._open[pid, handle] = (path, done)
            case "touch":
                self._touches.append(Touch(line["path"], at))
            case "close":
                self._release((pid, line["handle"]), at)
            case "end":
                for key in [key for key in self._open if key[0] == pid]:
                    self._release(key, at)
                self._ends.append((at, line["how"]))
            case "cue":
                self._cues.append(line["word"])
            case "curtain":
                self._curtain = done
            case "failed":
                self._problem = line["error"]

    def _release(self, key: tuple[int, str], at: float) -> None:
        path, since = self._open.pop(key)
        self._held.append(Held(path, since, at))


class Theatre:
    """A stage below ``top`` and a daemon that watches ``top/outputs``, or the given roots.

    ``server`` is the environment that points to a server; without one nobody listens, and what is finished stays queued.
    ``settings`` is the text of the configuration file, ``environ`` more of the environment, ``options`` more of the
    command line; ``launch`` turns the words after ``wandb-outbox`` into the command that starts the daemon.
    """

    def __init__(
        self,
        top: Path,
        timing: Timing | None = None,
        *,
        server: Mapping[str, str] | None = None,
        roots: Sequence[str] = ("outputs",),
        settings: str = "",
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        launch: Callable[[Sequence[str]], list[str]] | None = None,
    ) -> None:
        self.top = top
        self.timing = timing or Timing()
        self.lives: dict[str, Life] = {}
        self.scenes: dict[str, list[Scene]] = {}
        self._stages: list[subprocess.Popen[bytes]] = []
        self._daemon: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._cued: set[str] = set()
        self._readers: dict[str, JournalReader] = {}
        for name in ("journals", "cues", "home", *roots):
            (top / name).mkdir(parents=True, exist_ok=True)
        self._roots = [top / root for root in roots]
        config = top / "outbox.toml"
        config.write_text(settings)
        self.state_dir = StateDir(os.path.realpath(top / "state"))
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(top / "home"),
            "LANG": "C.UTF-8",
            "WANDB_API_KEY": "0" * 40,
            "WANDB_BASE_URL": NOWHERE,
            **(server or {}),
            "WANDB_OUTBOX_SETTLE": str(self.timing.settle),
            "WANDB_OUTBOX_CRASH_GRACE": str(self.timing.grace),
            "WANDB_OUTBOX_RESCAN": str(self.timing.rescan),
            "WANDB_OUTBOX_STOP_TIMEOUT": "5",
            "WANDB_OUTBOX_SITE": "theatre",
            **(environ or {}),
        }
        self._options = ["--config", str(config), "--state-dir", self.state_dir.path]
        self._words = ["watch", *self._options, *options, *map(str, self._roots)]
        self._launch = launch or (lambda words: [sys.executable, "-m", "wandb_outbox", *words])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stage in self._stages:
            # Its own session, so that nobody on the stage is left.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(stage.pid, signal.SIGKILL)
            stage.wait(timeout=20)
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait(timeout=20)

    # -- the daemon ------------------------------------------------------------------------------------------------

    @property
    def daemon_pid(self) -> int:
        """The daemon's process id: that of the innermost process where something else had to start it."""
        assert self._daemon is not None
        pid = self._daemon.pid
        while _command(pid) == "unshare":
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
                (pid,) = map(int, children.read().split())
        return pid

    def start_daemon(self) -> None:
        """Start the daemon, and wait until it watches."""
        self._starts += 1
        with self._log_file(self._starts).open("wb") as log:
            self._daemon = subprocess.Popen(
                self._launch(self._words),
                env=self._environ, cwd=self.top, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60.0
        while b'"started"' not in self._log_file(self._starts).read_bytes():
            assert self._daemon.poll() is None, f"the daemon ended:\n{self.log()[-4000:]}"
            assert time.monotonic() < deadline, "waited 60 s for the daemon to start"
            time.sleep(POLL)

    def stop_daemon(self, number: int = signal.SIGTERM) -> int:
        """End the daemon; its return code."""
        assert self._daemon is not None
        os.kill(self.daemon_pid, number)
        code = self._daemon.wait(timeout=30)
        self._daemon = None
        return code

    def command(self, *words: str) -> str:
        """What a command says that reads the same outbox; it must be content."""
        done = subprocess.run(
            [sys.executable, "-m", "wandb_outbox", *words, "--state-dir", self.state_dir.path],
            env=self._environ, cwd=self.top, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()

    def log(self) -> str:
        """All that every daemon of this theatre has written."""
        return "".join(self._log_file(number + 1).read_text(errors="replace") for number in range(self._starts))

    def decisions(self, path: str | None = None) -> list[Decision]:
        """What the daemon decided, about all folders or one, oldest first."""
        found = []
        for text in self.log().splitlines():
            if text.startswith("{") and '"decided"' in text:
                line = json.loads(text)
                at = datetime.fromisoformat(line["timestamp"]).timestamp()
                found.append(Decision(at, line["path"], line["state"], line["verdict"], line["reason"]))
        return [each for each in found if path is None or each.path == path]

    def _log_file(self, number: int) -> Path:
        return self.top / f"daemon-{number}.log"

    # -- the outbox ------------------------------------------------------------------------------------------------

    def rows(self) -> list[Run]:
        """Every row of the outbox."""
        store = Store.read(self.state_dir)
        if store is None:
            return []
        try:
            return list(store.list())
        finally:
            store.close()

    def row(self, path: str) -> Run:
        """The row of one folder, by its path below the top."""
        (found,) = [row for row in self.rows() if row.path == self.path(path)]
        return found

    def path(self, relative: str) -> str:
        """The real path of something below the top."""
        return os.path.join(os.path.realpath(self.top), relative)

    # -- playing ---------------------------------------------------------------------------------------------------

    def play(self, lives: Mapping[str, Life]) -> None:
        """Begin these lives, all at once."""
        assert not self.lives.keys() & lives.keys(), "a life has been played before"
        self.lives.update(lives)
        plan = {
            "top": str(self.top),
            "journals": str(self.top / "journals"),
            "cues": str(self.top / "cues"),
            "lives": {name: list(life.operations) for name, life in lives.items()},
        }
        stage = subprocess.Popen(
            [sys.executable, "-I", "-S", replay_actor.__file__], stdin=subprocess.PIPE, cwd="/", start_new_session=True
        )
        self._stages.append(stage)
        assert stage.stdin is not None
        stage.stdin.write(json.dumps(plan).encode())
        stage.stdin.close()

    def journal(self, name: str) -> Journal:
        """The journal of one life."""
        reader = self._readers.setdefault(name, JournalReader(self.top / "journals" / name))
        return reader.journal()

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        """Wait until it is so, giving cues and looking at the outbox meanwhile."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
            assert self._daemon is None or self._daemon.poll() is None, f"the daemon ended:\n{self.log()[-4000:]}"
            self._attend()
            time.sleep(POLL)

    def wait_for_end(self, names: Sequence[str] = (), seconds: float = 60.0) -> None:
        """Wait until these lives (all of them, if none are named) are over and are in the outbox as they must be."""
        chosen = list(names or self.lives)
        with contextlib.suppress(AssertionError):
            self.wait(lambda: all(self.journal(name).curtain for name in chosen), "the curtain", seconds)
            self.wait(lambda: not self._missing(chosen), "the outbox", seconds)
        self._attend()

    def give_cue(self, word: str) -> None:
        """Give a cue to every life that waits for it, now or later."""
        for name in self.lives:
            (self.top / "cues" / f"{name}.{word}").touch()

    def _attend(self) -> None:
        rows = {row.path: row for row in self.rows()}
        now = time.time()
        for row in rows.values():
            scene = Scene(now, row.state, row.verdict, row.reason, row.revision, row.url)
            seen = self.scenes.setdefault(row.path, [])
            if not seen or (seen[-1].state, seen[-1].verdict, seen[-1].revision, seen[-1].url) != (
                scene.state, scene.verdict, scene.revision, scene.url,
            ):  # fmt: skip
                seen.append(scene)
        for name, life in self.lives.items():
            journal = self.journal(name)
            assert journal.problem is None, f"{name}: {journal.problem}"
            for word in journal.cues:
                if f"{name}.{word}" not in self._cued and self._is_cue(word, life, rows):
                    self._cued.add(f"{name}.{word}")
                    (self.top / "cues" / f"{name}.{word}").touch()

    def _is_cue(self, word: str, life: Life, rows: Mapping[str, Run]) -> bool:
        """A cue is a state, or ``seen``: that of the first folder of the life; ``queued 2`` comes after ``queued``."""
        row = rows.get(self.path(life.endings[0].path))
        wanted = word.split(maxsplit=1)[0]
        return row is not None and (wanted in ("seen", row.state.value))

    def _missing(self, names: Sequence[str]) -> list[str]:
        """What the outbox does not have as it must be."""
        rows = {row.path: row for row in self.rows()}
        found = []
        for name in names:
            for ending in self.lives[name].endings:
                row = rows.get(self.path(ending.path))
                problem = _difference(ending, row, self.path(ending.path))
                if problem:
                    found.append(f"{name}: {ending.path}: {problem}")
        return found

    # -- the oracle ------------------------------------------------------------------------------------------------

    def faults(self, *names: str) -> list[str]:
        """Everything that is wrong about these lives (about all of them, if none are named): early, missed, doubled."""
        chosen = list(names or self.lives)
        found = self._missing(chosen)
        decisions: dict[str, list[Decision]] = {}
        for decision in self.decisions():
            decisions.setdefault(decision.path, []).append(decision)
        for name in chosen:
            life, journal = self.lives[name], self.journal(name)
            if journal.curtain is None:
                found.append(f"{name}: its life is not over")
            for ending in life.folders:
                about = journal.about(ending.path, alone=len(life.folders) == 1)
                for decision in decisions.get(self.path(ending.path), []):
                    found += [f"{name}: {ending.path}: {fault}" for fault in early(decision, about, self.timing)]
        if not names:
            found += self._doubled()
        return found

    def _doubled(self) -> Iterator[str]:
        rows = self.rows()
        expected = [self.path(ending.path) for life in self.lives.values() for ending in life.endings]
        yield from (f"DOUBLED: {row.path} is a row of its own" for row in rows if row.path not in expected)
        ids = [row.run_id for row in rows]
        yield from (f"DOUBLED: the run {run_id}" for run_id in set(ids) if ids.count(run_id) > 1)

    def describe(self, name: str) -> str:
        """A life, what happened, and what the daemon made of it: for a person who looks for the fault."""
        life, journal = self.lives[name], self.journal(name)
        began = journal.began
        lines = [f"life {name}, times from its first touch ({began:.3f})"]
        lines += [f"  {_short(operation)}" for operation in life.operations]
        lines += [
            f"  open {held.since - began:8.3f} … {held.until - began:.3f} {held.path}"
            for held in journal.held
            if held.until - held.since > RACE
        ]
        lines += [f"  end  {at - began:8.3f} {how}" for at, how in journal.ends]
        lines += [f"  last touch {max((touch.at for touch in journal.touches), default=0.0) - began:.3f}"]
        paths = [self.path(ending.path) for ending in life.endings][:3]
        for path in paths:
            lines += [
                f"  row  {scene.at - began:8.3f} {scene.state} {scene.verdict} revision {scene.revision}: {scene.reason}"
                for scene in self.scenes.get(path, [])
            ]
        lines += [
            f"  said {decision.at - began:8.3f} {decision.state} {decision.verdict}: {decision.reason}"
            for decision in self.decisions()
            if decision.path in paths
        ]
        return "\n".join(lines)

    def report(self, *names: str) -> str:
        """The faults with the lives that they are about; empty when there are none."""
        faults = self.faults(*names)
        about = sorted({fault.partition(":")[0] for fault in faults} & self.lives.keys())
        return "\n".join([*faults[:20], *(self.describe(name) for name in about[:5])]) if faults else ""

    def latencies(self, *, crashed: bool, names: Sequence[str] = ()) -> list[float]:
        """Seconds from the end of each life's last process to its last decision."""
        rows = {row.path: row for row in self.rows()}
        found = []
        for name in names or self.lives:
            for ending in self.lives[name].folders:
                row = rows.get(self.path(ending.path))
                if row is not None and row.completed_at and (ending.verdict == "crashed") is crashed:
                    found.append(row.completed_at - self.journal(name).ended)
        return found


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
        return file.read().strip()


def early(decision: Decision, journal: Journal, timing: Timing) -> Iterator[str]:
    """Whether a folder was taken for finished while it was written, or too soon after; each fault in a sentence."""
    at = decision.at
    for held in journal.held:
        if held.since + RACE < at < held.until:
            yield (
                f"EARLY: {decision.state} at {at:.3f}, but {held.path} was open from {held.since:.3f} "
                f"to {held.until:.3f}"
            )
    touched = max((touch.at for touch in journal.touches if touch.at < at - RACE), default=0.0)
    if at - touched < timing.settle - TICK:
        yield f"EARLY: {decision.state} at {at:.3f}, {at - touched:.3f} s after the last change"
    if decision.verdict == "crashed":
        ended = max((held.until for held in journal.held if held.until < at - RACE), default=0.0)
        # Of a writer that came and went unseen only the last change is known.
        since = ended if ended - touched > timing.seen else touched
        if at - since < timing.grace - TICK:
            yield f"EARLY: crashed at {at:.3f}, {at - since:.3f} s after its end"


def _difference(ending: Ending, row: Run | None, path: str) -> str | None:
    if ending.state == GONE:
        return None if row is None else f"DOUBLED: {row.state} {row.verdict} ({row.reason}), and not gone"
    if row is None:
        return "MISSED: no row"
    if row.state.value != ending.state or row.verdict != ending.verdict or row.outcome not in ending.outcomes:
        return (
            f"MISSED: {row.state} {row.verdict} {row.outcome} ({row.reason}), and not {ending.state} {ending.verdict} "
            f"{' or '.join(ending.outcomes)}"
        )
    if row.state in LEFT and row.fingerprint != snapshot(path).fingerprint:
        return "MISSED: its content is not the last one"
    if row.incarnation != ending.incarnation:
        return f"DOUBLED: incarnation {row.incarnation}, and not {ending.incarnation}"
    if ending.revision is not None and row.revision != ending.revision:
        return f"DOUBLED: revision {row.revision}, and not {ending.revision}"
    return None


def _short(operation: Sequence[Any]) -> str:
    text = json.dumps(operation)
    return text if len(text) < 4000 else text[:4000] + "…"
