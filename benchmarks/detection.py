"""Measures detection: how fast, how dear, and what an experiment notices of it.

    python benchmarks/detection.py [latency] [lost] [crowd] [storm] [writer]

Everything is measured on the daemon as it is started by hand, with nobody to deliver to, in a directory of its own that
is deleted afterwards. Without a name all of them are measured, one after the other; ``--help`` says what can be chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.result import Row, at_most  # isort: skip
from benchmarks.world import cpu_seconds, inotify_watches, resident_bytes  # isort: skip

from replay_script import Ending, Life, Session, files_of_a_run, whole_session
from replay_theatre import Theatre, Timing

from wandb_outbox.folder import snapshot
from wandb_outbox.model import Judgement, Kind, Receipt, State, Verdict
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
from wandb_outbox.outbox.store import Store

SETTLE, GRACE = 2.0, 5.0
DAY = 86_400.0
RESCAN = 10.0
WAYS = {
    "well": (f"ended well, wrote until its exit (settle {SETTLE:g} s)", SETTLE + 0.3),
    "quiet": ("ended well, the last change longer ago than settle", SETTLE + 0.3),
    "killed": (f"killed while it wrote (crash_grace {GRACE:g} s)", GRACE + 1),
    "silent": ("killed after a silence longer than settle and grace", GRACE + 1),
}
"""Ways to end, in words, each with the seconds within which the median is noticed."""
WITHOUT_EVENTS = {
    "well": (f"ended well, without any event (rescan {RESCAN:g} s)", RESCAN + SETTLE),
    "killed": (f"killed, without any event (rescan {RESCAN:g} s)", RESCAN + GRACE),
}


def say(what: str, value: str, wanted: str = "") -> None:
    """One line of the report."""
    print(f"{what:<62} {value:>24}   {wanted}", flush=True)


@contextmanager
def directory(top: str | None) -> Iterator[Path]:
    """A directory that is deleted afterwards."""
    path = Path(tempfile.mkdtemp(prefix="outbox-bench-", dir=top))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def spread(values: Sequence[float]) -> str:
    """Median, 95th percentile and maximum."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):.2f} / {ordered[int(len(ordered) * 0.95)]:.2f} / {ordered[-1]:.2f} s"


# -- latency -------------------------------------------------------------------------------------------------------------


def _latency_lives(count: int) -> dict[str, Life]:
    lives = {}
    for number in range(count):
        wait = ["pause", number * 0.37]
        well, quiet = f"outputs/well-{number:02}", f"outputs/quiet-{number:02}"
        killed, silent = f"outputs/killed-{number:02}", f"outputs/silent-{number:02}"
        crashed = ("crashed",)
        lives[f"well {number}"] = Life([wait, whole_session(well).act()], (Ending(well),))
        lives[f"quiet {number}"] = Life(
            [wait, Session(quiet).begin().chunk(4).evaluate().end_well(linger=SETTLE + 1).act()], (Ending(quiet),)
        )
        lives[f"killed {number}"] = Life(
            [wait, Session(killed).begin().chunk(1).pause(0.5).kill().act()],
            (Ending(killed, verdict="crashed", outcomes=crashed),),
        )
        lives[f"silent {number}"] = Life(
            [wait, Session(silent).begin().chunk(1).pause(GRACE + SETTLE).kill().act()],
            (Ending(silent, verdict="crashed", outcomes=crashed),),
        )
    return lives


def _play(theatre: Theatre, lives: dict[str, Life]) -> None:
    theatre.start_daemon()
    theatre.play(lives)
    theatre.wait_for_end(seconds=240)
    faults = theatre.faults()
    if faults:
        raise SystemExit("\n".join(["something is wrong, and so are the figures:", *faults]))


def latencies(top: str | None, count: int) -> dict[str, list[float]]:
    """Seconds from the exit of the last writer to ``queued``, of so many folders of each way to end."""
    with directory(top) as path, Theatre(path, Timing(SETTLE, GRACE, rescan=60.0)) as theatre:
        lives = _latency_lives(count)
        _play(theatre, lives)
        return {
            name: theatre.latencies(
                crashed=name in ("killed", "silent"), names=[each for each in lives if each.startswith(name)]
            )
            for name in WAYS
        }


def latencies_without_events(top: str | None, count: int) -> dict[str, list[float]]:
    """The same where no event ever comes and only the rescan works: of those that ended well, and of those killed."""
    with directory(top) as path:
        settings = f'[[roots]]\npath = "{path}/outputs"\npolling = true\n'
        with Theatre(path, Timing(SETTLE, GRACE, RESCAN, seen=DAY), settings=settings) as theatre:
            _play(theatre, _latency_lives(count))
            return {"well": theatre.latencies(crashed=False), "killed": theatre.latencies(crashed=True)}


def measure_latency(top: str | None) -> None:
    """From the exit of the last writer to ``queued``; median, 95th percentile, maximum."""
    found = latencies(top, 40)
    for name, (what, limit) in WAYS.items():
        say(what, spread(found[name]), f"≤ {limit:g} s")


def measure_lost(top: str | None) -> None:
    """The same where no event ever comes: only the rescan works."""
    found = latencies_without_events(top, 20)
    for name, (what, limit) in WITHOUT_EVENTS.items():
        say(what, spread(found[name]), f"≤ {limit:g} s")


def run(*, quick: bool) -> list[Row]:
    """Of every way to end the time until it is noticed, with events and without. The others are in ``crowd``."""
    with_events = latencies(None, 3 if quick else 40)
    without = latencies_without_events(None, 3 if quick else 20)
    return [
        Row("detection", what, "s", found[name], target=at_most(limit, "value"))
        for ways, found in ((WAYS, with_events), (WITHOUT_EVENTS, without))
        for name, (what, limit) in ways.items()
    ]


# -- many finished folders -----------------------------------------------------------------------------------------------


def _crowd(root: Path, count: int) -> list[Path]:
    """So many finished folders of ten files, in the layout of the evaluation script."""
    texts = {**files_of_a_run(1, size=400), "eval_inconsistencies.json": "[]", ".hydra/hydra.yaml": "hydra: {}\n"}
    folders = []
    for number in range(count):
        day, place = divmod(number, 500)
        dataset, place = divmod(place, 100)
        model, seed = divmod(place, 10)
        folder = (
            root / f"2026-{day // 28 + 1:02}-{day % 28 + 1:02}/set{dataset}/model{model}/baseline/seed{seed}_00-00-00"
        )
        (folder / ".hydra").mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
        folders.append(folder)
    for directory, _, _ in os.walk(root, topdown=False):
        os.utime(directory, (time.time() - 30 * DAY,) * 2)  # finished long ago
    return folders


def _fill(state: StateDir, root: Path, folders: Sequence[Path]) -> None:
    """Bring them into the outbox as uploaded, as detection and delivery would."""
    prepare_state_dir(state)
    store = Store.open(state)
    judgement = Judgement(Verdict.COMPLETE, "done", None, "ok")
    for folder in folders:
        taken = snapshot(str(folder))
        now = time.time()
        run = store.add(
            path=str(folder),
            root=str(root),
            kind=Kind.FOLDER,
            format="llm-tts",
            birth=taken.birth,
            site="theatre",
            now=now,
        )
        store.enqueue(run.key, judgement, taken, now=now)
        store.claim("filled", now=now, suspects=False)
        receipt = Receipt(
            run_id=run.run_id, incarnation=0, entity="e", project="p", name="n", url="https://example.org",
            artifact="a:v0", digest="d", fingerprint=taken.fingerprint, files=len(taken.files), bytes=taken.bytes,
        )  # fmt: skip
        store.uploaded(run.key, "filled", receipt, now=now)
    store.close()


def measure_crowd(top: str | None, count: int, seconds: float) -> None:
    """Many finished folders that the outbox knows as uploaded, and ten active ones."""
    with directory(top) as path, directory("/dev/shm") as fast:
        root = path / "outputs"
        began = time.monotonic()
        folders = _crowd(root, count)
        _fill(StateDir(str(fast)), root, folders)
        shutil.copytree(fast, path / "state")
        say(
            f"(made {count:,} folders of {len(list(folders[0].rglob('*'))) - 1} files)",
            f"{time.monotonic() - began:.0f} s",
        )
        with Theatre(path, Timing(10.0, 60.0)) as theatre:
            theatre.play(
                {
                    f"{n}": Life([Session(f"outputs/2026-12-31/active-{n}").begin().chunk(1).pause(86_400).act()], ())
                    for n in range(10)
                }
            )
            theatre.wait(lambda: all(theatre.journal(f"{n}").touches for n in range(10)), "ten active runs")
            began = time.monotonic()
            theatre.start_daemon()
            say("start, warm: until it watches", f"{time.monotonic() - began:.1f} s")
            while _writing(theatre.state_dir) < 10:
                time.sleep(0.02)
            listed = time.monotonic() - began
            pid = theatre.daemon_pid
            say("start, warm: until all is listed and the active ones are watched", f"{listed:.1f} s", "≤ 5 s")
            say("CPU until then", f"{cpu_seconds(pid):.1f} s")
            _idle(pid, seconds, "during the first full pass")
            deadline = time.monotonic() + 1800
            while time.monotonic() < deadline and _full_pass(theatre) is None:
                time.sleep(5)
            say("the first full pass took", f"{_full_pass(theatre) or float('nan'):.0f} s")
            _idle(pid, seconds, "afterwards")
            say("RSS", f"{resident_bytes(pid) / 1e6:.0f} MB", "≤ 80 MB")
            say("inotify watches", f"{inotify_watches(pid)}", "the active, and above")


def _writing(state: StateDir) -> int:
    store = Store.read(state)
    if store is None:
        return 0
    try:
        return store.counts()[State.WRITING]
    finally:
        store.close()


def _full_pass(theatre: Theatre) -> float | None:
    store = Store.read(theatre.state_dir)
    assert store is not None
    try:
        told = store.fact("roots")
    finally:
        store.close()
    seconds = told[0]["full_pass_seconds"] if told else None
    return None if seconds is None else float(seconds)


def _idle(pid: int, seconds: float, when: str) -> None:
    used = cpu_seconds(pid)
    time.sleep(seconds)
    say(f"idle CPU over {seconds:.0f} s, {when}", f"{(cpu_seconds(pid) - used) / seconds:.2%} of a core", "≤ 0.5 %")


# -- a storm -------------------------------------------------------------------------------------------------------------

STORM = """
import os, sys, time
folder, seconds, lines, rewrites = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
os.makedirs(folder + "/.hydra")
open(folder + "/.hydra/config.yaml", "w").write("strategy:\\n  type: a\\ndataset:\\n  data_name: b\\n")
log = open(folder + "/run_tts_eval.log", "a", buffering=1)
data = b"[" + b" " * 5_000_000 + b"]"
began = time.monotonic()
logged = written = 0
while (now := time.monotonic() - began) < seconds:
    while logged < now * lines:
        log.write("[2026-11-21 19:04:48,792][__main__][INFO] - a line as any other\\n"); logged += 1
    if written < now * rewrites:
        with open(folder + "/results.json", "wb") as file:
            file.write(data)
        written += 1
    time.sleep(0.0005)
print(logged / seconds, written / seconds)
"""


def measure_storm(top: str | None, seconds: float) -> None:
    """What the daemon uses while one experiment logs 1,000 lines and rewrites 5 MB ten times a second."""
    with directory(top) as path, Theatre(path, Timing(10.0, 60.0)) as theatre:
        theatre.start_daemon()
        time.sleep(1)
        folder = path / "outputs" / "storm"
        writer = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", STORM, str(folder), str(seconds + 2), "1000", "10"],
            stdout=subprocess.PIPE,
        )
        theatre.wait(theatre.rows, "the storm to be seen")
        used, began = cpu_seconds(theatre.daemon_pid), time.monotonic()
        time.sleep(seconds)
        share = (cpu_seconds(theatre.daemon_pid) - used) / (time.monotonic() - began)
        out, _ = writer.communicate(timeout=60)
        lines, rewrites = map(float, out.split())
        say(f"storm: CPU at {lines:.0f} lines/s and {rewrites:.1f} rewrites/s", f"{share:.2%} of a core", "≤ 1 %")


# -- a writer ------------------------------------------------------------------------------------------------------------


def _write_like_an_experiment(folder: Path, samples: int) -> tuple[float, float]:
    """What an evaluation writes, without its thinking, as fast as it goes; seconds by the wall, and of a core."""
    kept: list[dict[str, object]] = []
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/config.yaml").write_text("strategy:\n  type: a\ndataset:\n  data_name: b\n")
    wall, used = time.perf_counter(), _own_cpu()
    with (folder / "run_tts_eval.log").open("a", buffering=1) as log:
        for count in range(1, samples + 1):
            for number in range(20):
                log.write(f"[2026-11-21 19:04:48,792][__main__][INFO] - sample {count}, line {number}\n")
            kept.append({"index": count, "steps": ["a step of it"] * 5, "logprobs": [-0.25] * 50})
            with (folder / "sample_metrics.jsonl").open("a") as file:
                file.write(json.dumps({"sample_index": count, "text": "x" * 300}) + "\n")
            if count % 4 == 0:
                with (folder / "results.json").open("w") as file:
                    json.dump(kept, file, indent=2)
    return time.perf_counter() - wall, _own_cpu() - used


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure_writer(top: str | None, pairs: int) -> None:
    """A writer in a watched root against the same writer elsewhere, in turn, so that the machine's moods cancel out."""
    with directory(top) as path, Theatre(path, Timing(10.0, 60.0)) as theatre:
        theatre.start_daemon()
        walls, cores = [], []
        for pair in range(pairs):
            figures = {}
            for name in ("outputs", "elsewhere") if pair % 2 else ("elsewhere", "outputs"):
                folder = path / name / f"run-{pair}"
                figures[name] = _write_like_an_experiment(folder, 60)
                shutil.rmtree(folder)
            walls.append(figures["outputs"][0] / figures["elsewhere"][0])
            cores.append(figures["outputs"][1] / figures["elsewhere"][1])
        for what, ratios in (("wall time", walls), ("CPU time", cores)):
            quarters = statistics.quantiles(ratios, n=4)
            # Of a median, from the spread of the middle half: the machine's other work makes wild outliers.
            error = 1.25 * (quarters[2] - quarters[0]) / 1.35 / len(ratios) ** 0.5
            say(
                f"a writer with the daemon beside it, {what}, {pairs} pairs",
                f"{statistics.median(ratios) - 1:+.2%} ± {error:.2%}",
                "≤ 1 %",
            )


def main() -> None:
    """Measure what was asked for."""
    measures: dict[str, Callable[[argparse.Namespace], None]] = {
        "latency": lambda said: measure_latency(said.top),
        "lost": lambda said: measure_lost(said.top),
        "crowd": lambda said: measure_crowd(said.top, said.folders, said.idle),
        "storm": lambda said: measure_storm(said.top, said.storm),
        "writer": lambda said: measure_writer(said.top, said.pairs),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*measures, []], default=[], help="what to measure; all if nothing")
    parser.add_argument("--top", help="where to make the directory (default: the usual place for temporary files)")
    parser.add_argument("--folders", type=int, default=50_000, help="finished folders of the crowd")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds over which idle CPU is measured")
    parser.add_argument("--storm", type=float, default=20.0, help="seconds of storm")
    parser.add_argument("--pairs", type=int, default=300, help="pairs of writers")
    said = parser.parse_args()
    for name in said.what or measures:
        measures[name](said)


if __name__ == "__main__":
    main()
