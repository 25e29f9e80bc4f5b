"""Runs a command, and says exactly what it and everything that it started cost.

    python -I -S reaper.py RESULT COMMAND...

As a *child subreaper* this process inherits every orphan of the command, so that waiting for all of them adds up the
processor time and the written bytes of every process, however deep, and in whatever session of its own: wandb-core
starts one, so that neither a process group nor the parent's own waiting finds it. RESULT is a JSON file. Imports
nothing of the project.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time

SET_CHILD_SUBREAPER = 36
LINGER = 30.0
"""Seconds that what the command left behind may go on; then it is ended, and counted up to there."""
SAMPLE = 0.05


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
                    children = [int(word) for word in file.read().split()]
            except OSError:
                continue
            found += children
            queue += children
    return found


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that is no file's page; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))
    except OSError:
        return 0


def is_manifest(path: str) -> bool:
    """Whether it is the list of an artifact's files, which the SDK writes down before it sends it."""
    with open(path, "rb") as file:
        return file.read(10) == b'{"version"'


def tree_bytes(paths: list[str]) -> int:
    """Bytes of the files below these directories now, but for manifests."""
    total = 0
    for top in paths:
        for directory, _, names in os.walk(top):
            for name in names:
                try:
                    path = os.path.join(directory, name)
                    total += 0 if is_manifest(path) else os.lstat(path).st_size
                except OSError:
                    continue
    return total


def main() -> None:
    """Run it."""
    result, command = sys.argv[1], sys.argv[2:]
    watched = [path for path in os.environ.pop("REAPER_DIRECTORIES", "").split(":") if path]
    if ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("the kernel refused to make this process a child subreaper")
    peaks = {"anonymous": 0, "directories": 0, "processes": 0}
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE):
            pids = descendants(os.getpid())
            peaks["processes"] = max(peaks["processes"], len(pids))
            peaks["anonymous"] = max(peaks["anonymous"], sum(map(anonymous_bytes, pids)))
            peaks["directories"] = max(peaks["directories"], tree_bytes(watched))

    if watched:
        threading.Thread(target=sample, daemon=True).start()
    began, began_at = time.monotonic(), time.time()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status = os.waitpid(child, 0)
    wall = time.monotonic() - began
    lingered = 0
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if not pid:
            if time.monotonic() - began - wall > LINGER:
                for orphan in descendants(os.getpid()):
                    lingered += 1
                    os.kill(orphan, signal.SIGKILL)
            time.sleep(0.01)
    ended.set()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open("/proc/self/io", encoding="ascii") as file:
        io = dict(line.split(": ") for line in file.read().splitlines())
    figures = {
        "code": os.waitstatus_to_exitcode(status), "wall": wall, "cpu": usage.ru_utime + usage.ru_stime,
        "began_at": began_at, "written": int(io["write_bytes"]), "lingered": lingered, "peaks": peaks,
    }  # fmt: skip
    with open(result, "w", encoding="ascii") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    main()
