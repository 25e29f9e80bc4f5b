"""Recorded lives of runs: what really happens to folders, as operations, and how each must end.

``NORMAL`` is the timeline of an evaluation of 12 samples in chunks of 4, as it was recorded: seconds, operation, file,
bytes. The other lives follow what people and tools do to such folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from replay_script import (
    BATCHES,
    EVALUATED,
    EVALUATES,
    GENERATED,
    GENERATES,
    GONE,
    LOG,
    METRICS,
    RESULTS,
    SAMPLE_METRICS,
    STDERR,
    Ending,
    Life,
    Operation,
    Session,
    config,
    files_of_a_run,
    header,
    json_line,
    log_line,
    metrics,
    results,
    whole_session,
)

DEEP = "2026-11-21/gsm8k/gpt4o_mini/baseline/entropy"
NORMAL: tuple[tuple[float, str, str, int], ...] = (
    (0.000, "hold", LOG, 0),
    (0.001, "write", ".hydra/config.yaml", 1558),
    (0.005, "write", ".hydra/hydra.yaml", 3587),
    (0.013, "write", ".hydra/overrides.yaml", 54),
    (0.019, "log", header(12), 0),
    (0.026, "hold", STDERR, 0),
    (0.322, "log", log_line(GENERATES), 0),
    (2.059, "write", BATCHES, 3090),
    (2.063, "append", SAMPLE_METRICS, 326),
    (5.425, "append", SAMPLE_METRICS, 326),
    (5.445, "append", SAMPLE_METRICS, 326),
    (5.464, "append", SAMPLE_METRICS, 326),
    (5.475, "results 4", RESULTS, 17222),
    (7.183, "append", BATCHES, 3081),
    (7.188, "append", SAMPLE_METRICS, 326),
    (7.202, "append", SAMPLE_METRICS, 326),
    (7.211, "append", SAMPLE_METRICS, 326),
    (7.217, "append", SAMPLE_METRICS, 326),
    (7.222, "results 8", RESULTS, 34446),
    (8.712, "append", BATCHES, 2920),
    (8.716, "append", SAMPLE_METRICS, 326),
    (8.726, "append", SAMPLE_METRICS, 326),
    (8.738, "append", SAMPLE_METRICS, 327),
    (8.747, "append", SAMPLE_METRICS, 327),
    (8.755, "results 12", RESULTS, 50769),
    (8.760, "results 12", RESULTS, 50769),
    (8.765, "log", log_line(GENERATED), 0),
    (9.200, "log", log_line(EVALUATES), 0),
    (9.236, "metrics", METRICS, 755),
    (9.250, "log", log_line(EVALUATED), 0),
    (9.262, "close", STDERR, 0),
    (11.461, "exit", "", 0),
)
KILLED_AT = 7.2
"""In the timeline: in the second chunk, before its results are saved."""


def recorded(folder: str, *, scale: float, until: float = float("inf"), last: Sequence[Operation] = ()) -> Operation:
    """The recorded timeline as an act, ``scale`` times as long; after ``until`` come the ``last`` operations."""
    act: list[Operation] = [["mkdir", folder]]
    for at, operation, name, size in NORMAL:
        if at > until:
            break
        act.append(["at", at * scale])
        path = f"{folder}/{name}"
        match operation.split():
            case ["hold"]:
                act += [["open", name, path, "a" if name == LOG else "w"], ["mkdir", f"{folder}/.hydra"]]
            case ["write"] if name == ".hydra/config.yaml":
                act.append(["put", path, config(12, padding=size - len(config(12)))])
            case ["write"] if name.endswith(".yaml"):
                act.append(["put", path, "a: b\n" + "#" * (size - 5)])
            case ["write"]:
                act.append(["put", path, json_line(size)])
            case ["append"]:
                act.append(["put", path, json_line(size), "a"])
            case ["results", count]:
                act.append(["put", path, results(int(count), size=size)])
            case ["metrics"]:
                act.append(["put", path, metrics(12)])
            case ["log"]:
                act.append(["write", LOG, name])
            case ["close"]:
                act.append(["close", name])
            case _:
                act.append(["exit", 0])
    return ["act", [*act, *last]]


def normal(scale: float) -> Life:
    """As it was recorded, in a folder seven levels deep."""
    folder = f"outputs/{DEEP}/seed42_19-04-48"
    return Life([recorded(folder, scale=scale)], (Ending(folder),))


def killed(scale: float) -> Life:
    """The same, killed while it writes its results anew: 16,380 bytes of them are there."""
    folder = f"outputs/{DEEP}/seed43_19-06-31"
    torn = results(8, size=34446)[:16380]
    last: list[Operation] = [
        ["open", "results", f"{folder}/{RESULTS}", "w"],
        ["write", "results", torn],
        ["kill"],
    ]
    return Life(
        [recorded(folder, scale=scale, until=KILLED_AT, last=last)],
        (Ending(folder, verdict="crashed", outcomes=("crashed",)),),
    )


def killed_in_silence() -> Life:
    """Killed after it has thought for longer than settle and grace together, with its log open all the time."""
    folder = "outputs/killed_in_silence"
    act = Session(folder).begin().chunk(1).pause(6.0).kill().act()
    return Life([act], (Ending(folder, verdict="crashed", outcomes=("crashed",)),))


def raised() -> Life:
    """Ended by an exception."""
    folder = "outputs/raised"
    act = Session(folder).begin().pause(0.2).chunk(1).raise_().act()
    return Life([act], (Ending(folder, verdict="crashed", outcomes=("crashed",)),))


def killed_with_nothing() -> Life:
    """Killed before there was any result."""
    folder = "outputs/killed_with_nothing"
    act = Session(folder).begin().pause(0.3).kill().act()
    return Life([act], (Ending(folder, state="skipped", verdict="crashed", outcomes=("crashed",)),))


def resumed_in_grace() -> Life:
    """Killed, and resumed into the same folder before anybody would call it crashed."""
    folder = "outputs/resumed_in_grace"
    return Life(
        [
            Session(folder).begin().chunk(1).pause(0.2).kill().act(),
            ["pause", 1.8],
            whole_session(folder, pause=0.3).act(),
        ],
        (Ending(folder),),
    )


def resumed_after_verdict() -> Life:
    """Killed, found crashed and queued, and only then resumed; its new end counts."""
    folder = "outputs/resumed_after_verdict"
    return Life(
        [
            Session(folder).begin().chunk(1).pause(0.2).kill().act(),
            ["cue", "queued"],
            whole_session(folder, pause=0.3).act(),
        ],
        (Ending(folder),),
    )


def resumed_and_killed() -> Life:
    """Ended well, resumed, and killed: the metrics of the session before stand beside newer results."""
    folder = "outputs/resumed_and_killed"
    return Life(
        [
            whole_session(folder, pause=0.1).act(),
            ["pause", 0.3],
            Session(folder).begin().pause(0.3).chunk(2).pause(3.0).kill().act(),
        ],
        (Ending(folder, verdict="crashed", outcomes=("crashed",)),),
    )


def resumed_with_stale_metrics() -> Life:
    """Ended well and resumed: stale metrics stand beside results that grow, until it has ended again."""
    folder = "outputs/resumed_with_stale_metrics"
    return Life(
        [whole_session(folder, samples=2).act(), ["pause", 0.2], whole_session(folder, samples=4, pause=0.8).act()],
        (Ending(folder),),
    )


def guide_shaped() -> Life:
    """The shape that an older script leaves: nothing in it says how it ended, and nobody holds a log."""
    folder = "outputs/2026-11-20/guide_shaped"
    act: list[Operation] = [
        ["mkdir", f"{folder}/.hydra"],
        ["put", f"{folder}/.hydra/config.yaml", config(4)],
        ["put", f"{folder}/.hydra/overrides.yaml", "[]\n"],
    ]
    for count in range(1, 5):
        act += [["pause", 0.4], ["put", f"{folder}/{RESULTS}", results(count)]]
    return Life([["act", act]], (Ending(folder, outcomes=("unknown",)),))


def half_written() -> Life:
    """Results free between samples for longer than settle, and half written for longer than that."""
    folder = "outputs/half_written"
    act = Session(folder).begin()
    for count in (1, 2):
        act.pause(2.0).save_half(count).pause(2.0).save_rest(count)
    return Life([act.evaluate(0.1).end_well().act()], (Ending(folder),))


def half_written_without_log() -> Life:
    """The same by a script that holds no log: only the open results say that somebody is there."""
    folder = "outputs/half_written_without_log"
    text = results(4, size=40_000)
    act: list[Operation] = [
        ["mkdir", f"{folder}/.hydra"],
        ["put", f"{folder}/.hydra/config.yaml", config(4)],
        ["open", "results", f"{folder}/{RESULTS}", "w"],
        ["write", "results", text[:16380]],
        ["pause", 5.0],
        ["write", "results", text[16380:]],
        ["close", "results"],
    ]
    return Life([["act", act]], (Ending(folder, outcomes=("unknown",)),))


def lingers() -> Life:
    """All is written, metrics and last line, and the process stays for longer than any timer."""
    folder = "outputs/lingers"
    act = Session(folder).begin().chunk(4).evaluate().end_well(linger=7.0).act()
    return Life([act], (Ending(folder),))


def child_outlives() -> Life:
    """A forked child keeps the log for longer than any timer after its parent has ended well."""
    folder = "outputs/child_outlives"
    act = (
        Session(folder)
        .begin()
        .chunk(4)
        .add(["fork", 7.0, "log", log_line("the child has ended")])
        .evaluate()
        .end_well()
    )
    return Life([act.act()], (Ending(folder),))


def child_outlives_a_kill() -> Life:
    """The same after its parent was killed: crashed, but counted from the child's end."""
    folder = "outputs/child_outlives_a_kill"
    act = Session(folder).begin().chunk(1).add(["fork", 6.0]).pause(0.2).kill().act()
    return Life([act], (Ending(folder, verdict="crashed", outcomes=("crashed",)),))


def burst(count: int) -> Life:
    """``mkdir -p`` and all the files at once, for many folders several levels deep, as fast as it goes."""
    folders = [f"outputs/burst/{number % 20:02}/sub-{number:03}/run" for number in range(count)]
    act: list[Operation] = []
    for folder in folders:
        act.append(["mkdir", f"{folder}/.hydra"])
        act += [["put", f"{folder}/{name}", text] for name, text in files_of_a_run(1).items()]
    return Life([["act", act]], tuple(Ending(folder) for folder in folders))


def moved_in() -> Life:
    """Written somewhere else on the same disk, and moved below the root as a whole."""
    act: list[Operation] = [["mkdir", "outside/run/.hydra"]]
    act += [["put", f"outside/run/{name}", text] for name, text in files_of_a_run().items()]
    act += [["mkdir", "outputs/moved/in"], ["pause", 0.5], ["rename", "outside/run", "outputs/moved/in/run"]]
    return Life(act, (Ending("outputs/moved/in/run"),))


def moved_in_with_parents() -> Life:
    """The same with the directories above it, so that only one event tells of all of them."""
    act: list[Operation] = [["mkdir", "outside/tree/a/b/run/.hydra"]]
    act += [["put", f"outside/tree/a/b/run/{name}", text] for name, text in files_of_a_run().items()]
    act += [["pause", 0.5], ["rename", "outside/tree", "outputs/moved-tree"]]
    return Life(act, (Ending("outputs/moved-tree/a/b/run"),))


def renamed(state: str) -> Life:
    """Renamed within the root: while it is written (``seen``), or when it is ``queued``."""
    before, after = f"outputs/renamed-{state}/before", f"outputs/renamed-{state}/after"
    first = Session(before).begin().chunk(1).pause(1.0)
    if state == "seen":
        first.add(["cue", "seen"], ["rename", before, after])
        moved = Session(after, operations=first.operations)
        return Life([moved.chunk(2).evaluate(0.2).end_well().act()], (Ending(before, state=GONE), Ending(after)))
    return Life(
        [whole_session(before).act(), ["cue", state], ["rename", before, after]],
        (Ending(before, state=GONE), Ending(after)),
    )


def copied_by_rsync() -> Life:
    """Each file under a temporary name, then renamed over; the times are those of the source."""
    folder = "outputs/copied_by_rsync"
    act: list[Operation] = [["mkdir", f"{folder}/.hydra"]]
    for age, (name, text) in enumerate(files_of_a_run().items()):
        directory, _, base = name.rpartition("/")
        temporary = f"{folder}/{directory + '/' if directory else ''}.{base}.Ab12Cd"
        half = len(text) // 2
        act += [
            ["open", "temporary", temporary, "x"],
            ["write", "temporary", text[:half]],
            ["pause", 2.0 if name == RESULTS else 0.05],
            ["write", "temporary", text[half:]],
            ["close", "temporary"],
            ["utime", temporary, 1_790_000_000 + age],
            ["rename", temporary, f"{folder}/{name}"],
        ]
    return Life([["act", act]], (Ending(folder),))


def unpacked() -> Life:
    """Extracted from an archive: the times of the files are years old, and their folder's, too."""
    folder = "outputs/unpacked/run"
    act: list[Operation] = [["mkdir", f"{folder}/.hydra"]]
    for age, (name, text) in enumerate(files_of_a_run().items()):
        act += [["put", f"{folder}/{name}", text], ["pause", 0.2], ["utime", f"{folder}/{name}", 1_600_000_000 + age]]
    act += [["utime", f"{folder}/.hydra", 1_600_000_000], ["utime", folder, 1_600_000_000]]
    return Life([["act", act]], (Ending(folder),))


def hard_linked() -> Life:
    """Hard links to files that are still written under their names outside the root; the last is made at the end.

    The kernel tells of a file's end only where it was opened: without that last link nobody would be woken by it, and
    the folder would be looked at again only in its turn.
    """
    folder = "outputs/hard_linked/run"
    files = files_of_a_run()
    act: list[Operation] = [["mkdir", "outside/linked/.hydra"], ["mkdir", f"{folder}/.hydra"]]
    act.append(["open", "log", f"outside/linked/{LOG}", "a"])
    act += [["put", f"outside/linked/{name}", text] for name, text in files.items() if name != LOG]
    act += [["link", f"outside/linked/{name}", f"{folder}/{name}"] for name in files if name != METRICS]
    act += [["pause", 5.0], ["write", "log", files[LOG]], ["close", "log"]]
    act.append(["link", f"outside/linked/{METRICS}", f"{folder}/{METRICS}"])
    return Life([["act", act]], (Ending(folder),))


def eight_levels() -> Life:
    """A run folder eight levels below its root, each level made when it is needed."""
    folder = f"outputs/{DEEP}/window_5/mean/seed1_00-00-00"
    act: list[Operation] = []
    for depth in range(2, folder.count("/") + 1):
        act += [["mkdir", "/".join(folder.split("/")[:depth])], ["pause", 0.05]]
    return Life([*act, whole_session(folder).act()], (Ending(folder),))


def late_hydra() -> Life:
    """What makes it a run folder comes last, and nothing after it: an empty ``.hydra`` with a configuration."""
    folder = "outputs/late_hydra/run"
    act: list[Operation] = [["mkdir", folder]]
    for name, text in files_of_a_run().items():
        if not name.startswith(".hydra") and name not in (METRICS, LOG):
            act += [["put", f"{folder}/{name}", text]]
    act += [["pause", 1.0], ["mkdir", f"{folder}/.hydra"], ["pause", 0.3]]
    act += [["put", f"{folder}/.hydra/config.yaml", config(4)]]
    return Life([["act", act]], (Ending(folder, outcomes=("unknown",)),))


def changed_while_queued() -> Life:
    """Queued, and then re-evaluated by a script that holds no log."""
    folder = "outputs/changed_while_queued"
    return Life(
        [whole_session(folder).act(), ["cue", "queued"], reevaluation(folder)],
        (Ending(folder),),
    )


def reevaluation(folder: str, *, pause: float = 0.4, finish: bool = True) -> Operation:
    """A later script that rewrites the results sample by sample, then the metrics, and holds no log."""
    act: list[Operation] = []
    for size in (21_000, 22_000, 23_000):
        act += [["put", f"{folder}/{RESULTS}", results(4, size=size)], ["pause", pause]]
    if finish:
        act.append(["put", f"{folder}/{METRICS}", metrics(4)])
    return ["act", act]


def nested() -> Mapping[str, Life]:
    """Two runs, one below a root within the root: the inner root owns what is in it."""
    return {
        "outer": Life([whole_session("outputs/nested_outer").act()], (Ending("outputs/nested_outer"),)),
        "inner": Life([whole_session("outputs/inner/nested").act()], (Ending("outputs/inner/nested"),)),
    }


def remade() -> Life:
    """Queued, deleted, and made anew with another end, before anything was sent."""
    folder = "outputs/remade"
    return Life(
        [
            whole_session(folder).act(),
            ["cue", "queued"],
            ["remove", folder],
            ["pause", 0.3],
            whole_session(folder, samples=2).act(),
        ],
        (Ending(folder),),
    )


def deleted() -> Life:
    """Deleted while it is written: nothing is left to send."""
    folder = "outputs/deleted"
    return Life(
        [Session(folder).begin().chunk(1).add(["cue", "seen"]).kill().act(), ["remove", folder]],
        (Ending(folder, state="skipped", verdict="writing", outcomes=("unknown",)),),
    )
