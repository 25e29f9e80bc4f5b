"""Detection: from the exit of a run's last writer to ``queued``, for every way to end, with events and without."""

from __future__ import annotations

from replay_script import Ending, Life, Session, whole_session
from replay_theatre import Theatre, Timing

from benchmarks.result import Row, at_most
from benchmarks.world import scratch

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


def latencies(count: int) -> dict[str, list[float]]:
    """Seconds from the exit of the last writer to ``queued``, of so many folders of each way to end."""
    with scratch() as path, Theatre(path, Timing(SETTLE, GRACE, rescan=60.0)) as theatre:
        lives = _latency_lives(count)
        _play(theatre, lives)
        return {
            name: theatre.latencies(
                crashed=name in ("killed", "silent"), names=[each for each in lives if each.startswith(name)]
            )
            for name in WAYS
        }


def latencies_without_events(count: int) -> dict[str, list[float]]:
    """The same where no event ever comes and only the rescan works: of those that ended well, and of those killed."""
    with scratch() as path:
        settings = f'[[roots]]\npath = "{path}/outputs"\npolling = true\n'
        with Theatre(path, Timing(SETTLE, GRACE, RESCAN, seen=DAY), settings=settings) as theatre:
            _play(theatre, _latency_lives(count))
            return {"well": theatre.latencies(crashed=False), "killed": theatre.latencies(crashed=True)}


def run(*, quick: bool) -> list[Row]:
    """Of every way to end the time until it is noticed, with events and without."""
    with_events = latencies(3 if quick else 40)
    without = latencies_without_events(3 if quick else 20)
    return [
        Row("detection", what, "s", found[name], target=at_most(limit, "value"))
        for ways, found in ((WAYS, with_events), (WITHOUT_EVENTS, without))
        for name, (what, limit) in ways.items()
    ]
