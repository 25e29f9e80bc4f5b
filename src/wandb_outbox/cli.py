"""The command line. Reading commands import next to nothing; each heavy room is loaded by the command that needs it.

argparse, and not typer: ``--tags a b c`` takes several values (as the script does that ``upload`` takes the place of),
which click's options cannot, and it costs no start-up time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from wandb_outbox import __version__, report
from wandb_outbox.errors import ConfigurationError, ExecutorRunning, OutboxError, StateUnusable, UserError
from wandb_outbox.model import Overrides, Run, State
from wandb_outbox.outbox.location import StateDir, find_state_dir
from wandb_outbox.outbox.lock import running_executor
from wandb_outbox.outbox.store import Store
from wandb_outbox.report import Exit

if TYPE_CHECKING:
    from wandb_outbox.model import Plan
    from wandb_outbox.service.executor import Executor
    from wandb_outbox.settings import Loaded

# The rooms below cost up to half a second of start-up; `status` and its kin, which people type all day, skip them.
# tests/test_architecture.py holds this list of late imports to those that are measured.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Every error is told to a person in a line or two, on stderr."""
    arguments = _parse(list(sys.argv[1:] if argv is None else argv))
    try:
        return int(arguments.run(arguments))
    except ConfigurationError as error:
        for problem in error.problems:
            _complain(problem)
        _complain(error.hint)
        return Exit.CONFIG
    except StateUnusable as error:
        _complain(error.message, error.hint)
        return Exit.CONFIG
    except UserError as error:
        for problem in error.problems:
            _complain(problem)
        _complain(error.hint)
        return Exit.USAGE
    except ExecutorRunning as error:
        _complain(error.message, error.hint)
        return Exit.LEFT
    except OutboxError as error:
        _complain(error.message, error.hint)
        return Exit.LEFT
    except BrokenPipeError:
        # The reader of a pipe has seen enough; say nothing, and do not let the interpreter say it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


# -- the parser ------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Errors exit with our own code for usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    shared = _Parser(add_help=False)
    shared.add_argument("--state-dir", metavar="DIR", default=argparse.SUPPRESS, help="where the outbox is kept")
    shared.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="the configuration file")

    parser = _Parser(
        prog="wandb-outbox", parents=[shared],
        description="Delivers finished experiment folders to Weights & Biases: once, verified, offline-first.",
        epilog="RUN is a prefix of the run id, or a path. Exit codes: 0 fine, 1 something is left or failed, 2 usage, "
        "3 daemon down, 75 offline (try later), 78 bad configuration.",
    )  # fmt: skip
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, parents=[shared], help=words, description=words[0].upper() + words[1:] + "."
        )
        command.set_defaults(run=run, command=name)
        return command

    watch = add("watch", _watch, "watch the roots and deliver what is finished, in the foreground")
    watch.add_argument("roots", nargs="*", metavar="ROOT", help="directories to watch instead of the configured ones")

    watch.add_argument(
        "--sidecar", action="store_true", help="SIGTERM means that the main container has ended: nobody writes any more"
    )

    flush = add("flush", _flush, "one pass: find what is finished, deliver all of it, and exit")
    flush.add_argument("roots", nargs="*", metavar="ROOT", help="directories to look at instead of the configured ones")
    flush.add_argument("--timeout", type=_seconds, metavar="S", help="give up waiting after this many seconds")

    upload = add("upload", _upload, "deliver these folders now")
    upload.add_argument("dirs", nargs="*", metavar="DIR")
    _add_overrides(upload)

    plan = add("plan", _plan, "show what would be sent, and what breaks a convention; sends nothing")
    plan.add_argument("dirs", nargs="*", metavar="DIR")
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.add_argument("--strict", action="store_true", help="exit with 1 when a rule of severity error is broken")
    _add_overrides(plan)

    status = add("status", _status, "tell how daemon, server and runs are")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument("--watch", action="store_true", help="show it again every second, until Ctrl-C")

    listing = add("list", _list, "list the runs")
    listing.add_argument(
        "--state", action="extend", nargs="+", choices=[state.value for state in State], default=[], metavar="S",
        help="only runs in these states",
    )  # fmt: skip
    listing.add_argument("--json", action="store_true", help="print JSON")

    show = add("show", _show, "show all that is known of a run")
    show.add_argument("run_query", metavar="RUN")
    show.add_argument("--json", action="store_true", help="print JSON")

    why = add("why", _why, "explain where a run stands, why, and what is waited for")
    why.add_argument("run_query", metavar="RUN")

    retry = add("retry", _retry, "give failed runs fresh attempts")
    retry.add_argument("run_queries", nargs="*", metavar="RUN")
    retry.add_argument("--failed", action="store_true", help="all that have failed")

    hold = add("hold", _hold, "keep runs back until they are released, this content and every later one")
    release = add("release", _release, "send what is held or was skipped, as it is now")
    skip = add("skip", _skip, "leave runs alone, whatever happens to their folders")
    for command, what in ((hold, "queued or still being written"), (release, "held"), (skip, "held, queued or failed")):
        command.add_argument("run_queries", nargs="*", metavar="RUN")
        command.add_argument("--all", action="store_true", help=f"all that are {what}")
        command.add_argument("--root", metavar="DIR", help="of those, only what lies below this directory")
    release.add_argument(
        "--since", metavar="DATE", help="of those, only what changed on or after this day (YYYY-MM-DD)"
    )

    add("pause", _pause, "start no new upload until `resume`")
    add("resume", _resume, "go on after `pause`")

    wait = add("wait", _wait, "wait until runs are delivered, or cannot be")
    wait.add_argument("run_queries", nargs="*", metavar="RUN", help="default: everything that is queued or about to be")
    wait.add_argument("--timeout", type=_seconds, metavar="S", help="give up after this many seconds")

    sandbox = add("sandbox", _sandbox, "run a loopback W&B server, to try a setup without an account")
    sandbox.add_argument("--port", type=int, default=0, metavar="P", help="the port (default: a free one)")
    sandbox.add_argument(
        "--directory", metavar="DIR", help="keep what it receives here (default: a temporary directory)"
    )
    sandbox.add_argument("--port-file", metavar="FILE", help="write the port here once it listens")
    sandbox.add_argument(
        "--entity", action="append", default=[], metavar="E", help="an entity that exists (repeatable)"
    )

    demo = add("demo", _demo, "show the whole way on made-up experiments, against a loopback server")
    demo.add_argument("--keep", action="store_true", help="keep the folders and the state for looking at")

    add("version", _version, "print the version")
    return parser


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument("--entity", metavar="E")
    command.add_argument("--project", metavar="P")
    command.add_argument("--name", metavar="N")
    command.add_argument("--group", metavar="G")
    command.add_argument("--job-type", metavar="J")
    command.add_argument(
        "--tags", nargs="+", action="extend", metavar="T", help="as in `--tags a b c`; also repeated or with commas"
    )
    command.add_argument("--notes", metavar="TEXT")


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parse, and let DIR arguments stand after options, too, which argparse's subcommands do not."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    stray = [word for word in rest if word.startswith("-") and word != "-"]
    if stray or (rest and not hasattr(arguments, "dirs")):
        parser.error(f"unrecognized arguments: {' '.join(stray or rest)}")
    if hasattr(arguments, "dirs"):
        arguments.dirs += rest
        # A bare name can be meant as a tag although a folder is called so, too: only with no DIR left is that a mistake.
        swallowed = [
            tag for tag in arguments.tags or () if os.path.isdir(tag) and (os.sep in tag or not arguments.dirs)
        ]
        if swallowed:
            folders = " ".join([*arguments.dirs, *swallowed])
            parser.error(
                f"--tags took the folder {', '.join(swallowed)} for a tag: put the folders first, as in "
                f"`wandb-outbox {arguments.command} {folders} --tags ...`"
            )
        if not arguments.dirs:
            parser.error("the following arguments are required: DIR")
    return arguments


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds")
    return value


# -- commands that deliver -------------------------------------------------------------------------------------------


def _watch(arguments: argparse.Namespace) -> int:
    from wandb_outbox.service.daemon import watch

    loaded = _load(arguments, need_roots=True, missing_roots="wait")
    log = _configure_log(loaded)
    with _executor(arguments, loaded, log, watch=True, backlog=True) as executor:
        watch(executor, os.environ, stop_timeout=loaded.settings.stop_timeout, sidecar=arguments.sidecar, log=log)
    return Exit.OK


def _flush(arguments: argparse.Namespace) -> int:
    from wandb_outbox.service import once

    loaded = _load(arguments, need_roots=True, missing_roots="refuse")
    state_dir = _state_dir(arguments)
    stopped = _on_interrupt()
    log = _configure_log(loaded, default="warning")
    try:
        with _executor(arguments, loaded, log, watch=False, backlog=False) as executor:
            before = executor.store.counts()
            once.flush(executor, timeout=arguments.timeout, show=_quietly, stopped=stopped)
            return _tell_flush(executor.store, before)
    except ExecutorRunning:
        store = Store.open(state_dir)
        before = store.counts()
        once.flush_beside(
            store,
            timeout=arguments.timeout,
            show=_quietly,
            stopped=stopped,
            alive=lambda: running_executor(state_dir) is not None,
        )
        return _tell_flush(store, before)


def _tell_flush(store: Store, before: Mapping[State, int]) -> int:
    after = store.counts()
    server = store.fact("server") or {}
    state, detail = server.get("state", "unknown"), server.get("detail", "")
    print(report.flush_text(before, after, state, detail))
    for run in store.list([State.FAILED]):
        _complain(f"failed: {run.path}: {run.error_message}", run.error_hint or "")
    return report.finished_exit(after[State.QUEUED] + after[State.UPLOADING], after[State.FAILED], state)


def _upload(arguments: argparse.Namespace) -> int:
    from wandb_outbox.service import once

    loaded = _load(arguments, need_roots=False, missing_roots="wait")
    state_dir = _state_dir(arguments)
    overrides = _overrides(arguments)
    # A path is the caller's, and a daemon that takes the request has another working directory.
    paths = [os.path.abspath(path) for path in arguments.dirs]
    stopped = _on_interrupt()
    log = _configure_log(loaded, default="error")
    with _progress() as show:
        try:
            with _executor(arguments, loaded, log, watch=False, backlog=False, scan=False) as executor:
                keys, problems = once.upload(executor, paths, overrides, show=show, stopped=stopped)
        except ExecutorRunning:
            beside = Store.open(state_dir)
            keys, problems = once.upload_beside(
                beside,
                paths,
                overrides,
                show=show,
                stopped=stopped,
                alive=lambda: running_executor(state_dir) is not None,
            )
            beside.close()
    store = Store.open(state_dir)
    return _tell_upload(store, keys, problems)


def _tell_upload(store: Store, keys: Sequence[int], problems: Sequence[str]) -> int:
    for problem in problems:
        _complain(problem)
    left = failed = 0
    for key in keys:
        run = store.get(key)
        if run is None:
            continue
        if run.state is State.UPLOADED:
            print(f"{run.path} → {run.url}  ({run.artifact}, {run.files} files, {report.size(run.bytes)})")
            for warning in run.warnings:
                _complain(f"{run.path}: {warning}")
        else:
            left += run.state in (State.QUEUED, State.UPLOADING, State.WRITING)
            failed += run.state not in (State.QUEUED, State.UPLOADING, State.WRITING)
            _complain(f"{run.path} is {run.state.value}: {run.reason}", run.error_hint or "")
    server = store.fact("server") or {}
    if left and server.get("state") != "online":
        _complain(f"the server is {server.get('state', 'unknown')}: {server.get('detail', '')}; what is queued is kept")
    code = report.finished_exit(left, failed, server.get("state", "unknown"))
    return Exit.USAGE if problems and not keys else code or (Exit.LEFT if problems else Exit.OK)


# -- commands that look ----------------------------------------------------------------------------------------------


def _plan(arguments: argparse.Namespace) -> int:
    from wandb_outbox.plan import plan_to_json, plan_to_text
    from wandb_outbox.service.preview import preview

    loaded = _load(arguments, need_roots=False, missing_roots="wait")
    plans: list[Plan] = []
    problems: list[str] = []
    for path in arguments.dirs:
        try:
            plans.append(preview(path, loaded.settings, _overrides(arguments), _state_dir(arguments), os.environ))
        except UserError as error:
            problems += error.problems
        except OutboxError as error:
            problems.append(error.message)
    if arguments.json:
        print(json.dumps({"schema": report.SCHEMA, "plans": [plan_to_json(plan) for plan in plans]}, indent=2))
    else:
        print("\n\n".join(plan_to_text(plan) for plan in plans))
    for problem in problems:
        _complain(problem)
    broken = any(warning.severity == "error" for plan in plans for warning in plan.warnings)
    if problems:
        return Exit.USAGE
    return Exit.LEFT if broken and arguments.strict else Exit.OK


def _status(arguments: argparse.Namespace) -> int:
    state_dir = _state_dir(arguments)
    while True:
        executor = running_executor(state_dir)
        store = Store.read(state_dir)
        status = report.status_json(store, executor, now=time.time())
        if store is not None:
            store.close()
        if arguments.json:
            print(json.dumps(status, indent=None if arguments.watch else 2), flush=True)
        else:
            clear = "\x1b[H\x1b[2J" if arguments.watch and sys.stdout.isatty() else ""
            print(clear + report.status_text(status, now=time.time()), flush=True)
        if not arguments.watch:
            return Exit.OK if executor is not None else Exit.DOWN
        try:
            time.sleep(1.0)
        except KeyboardInterrupt:
            return Exit.OK


def _list(arguments: argparse.Namespace) -> int:
    store = Store.read(_state_dir(arguments))
    runs = store.list([State(value) for value in arguments.state]) if store else []
    if arguments.json:
        print(json.dumps(report.list_json(runs), indent=2))
    else:
        for state, short, path, words in report.list_rows(runs):
            print(f"{state:<9}  {short}  {_printable(path)}  {_printable(words)}".rstrip())
    return Exit.OK


def _show(arguments: argparse.Namespace) -> int:
    store, run = _one(arguments)
    attempts = store.attempts(run.key)
    if arguments.json:
        print(json.dumps(report.show_json(run, attempts), indent=2))
    else:
        print(_printable(report.show_text(run, attempts), keep_lines=True))
    return Exit.OK


def _why(arguments: argparse.Namespace) -> int:
    from wandb_outbox.detect.evidence import evidence_text

    _, run = _one(arguments)
    print(_printable(report.why_text(run), keep_lines=True))
    if run.state in (State.WRITING, State.HELD, State.QUEUED):
        print(_printable(evidence_text(run), keep_lines=True))
    return Exit.OK


def _retry(arguments: argparse.Namespace) -> int:
    with _changing(arguments) as store:
        chosen = list(store.list([State.FAILED])) if arguments.failed else []
        chosen += _named(store, arguments)
        if not chosen:
            raise UserError(["no failed run to retry" if arguments.failed else "say which RUN to retry, or --failed"])
        code = _change_each(store, chosen, store.retry, "queued with fresh attempts")
        # A running daemon asks the server again now, whatever its backoff says.
        store.ask("recheck", {}, now=time.time())
        return code


def _hold(arguments: argparse.Namespace) -> int:
    with _changing(arguments) as store:
        chosen = _chosen(store, arguments, [State.QUEUED, State.WRITING])
        return _change_each(store, chosen, store.hold, "held until it is released")


def _release(arguments: argparse.Namespace) -> int:
    with _changing(arguments) as store:
        chosen = _chosen(store, arguments, [State.HELD])
        prints = {run.key: run.fingerprint for run in chosen}
        return _change_each(store, chosen, lambda key: store.release(key, prints[key]), "queued")


def _skip(arguments: argparse.Namespace) -> int:
    with _changing(arguments) as store:
        chosen = _chosen(store, arguments, [State.HELD, State.QUEUED, State.FAILED])
        return _change_each(store, chosen, store.skip_by_person, "skipped")


def _pause(arguments: argparse.Namespace) -> int:
    with _changing(arguments) as store:
        store.set_fact("paused", True)
    print("paused: nothing new is uploaded until `wandb-outbox resume`")
    return Exit.OK


def _resume(arguments: argparse.Namespace) -> int:
    with _changing(arguments) as store:
        store.set_fact("paused", False)
    print("resumed")
    return Exit.OK


def _wait(arguments: argparse.Namespace) -> int:
    store = Store.read(_state_dir(arguments))
    if store is None:
        return Exit.OK
    keys = {run.key for run in _named(store, arguments)} if arguments.run_queries else None
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    while True:
        runs = [run for run in store.list() if keys is None or run.key in keys]
        waiting = [
            run
            for run in runs
            if run.state in (State.QUEUED, State.UPLOADING)
            or (run.state is State.WRITING and (keys is not None or run.verdict == "settling"))
        ]
        if not waiting:
            left = [run for run in runs if keys is not None and run.state is not State.UPLOADED]
            for run in left:
                _complain(f"{run.path} is {run.state.value}: {run.reason}")
            return Exit.LEFT if left else Exit.OK
        if deadline is not None and time.monotonic() >= deadline:
            for run in waiting[:10]:
                _complain(f"{run.path} is still {run.state.value}: {run.reason}")
            return Exit.LEFT
        time.sleep(0.2)


def _chosen(store: Store, arguments: argparse.Namespace, states: Sequence[State]) -> list[Run]:
    """The runs a command is about: those named, or with --all (or --root) those in ``states``; then the filters."""
    everything = arguments.all or (arguments.root is not None and not arguments.run_queries)
    chosen = list(store.list(states)) if everything else []
    chosen += _named(store, arguments)
    if arguments.root is not None:
        top = os.path.realpath(arguments.root)
        chosen = [run for run in chosen if run.path == top or run.path.startswith(top.rstrip("/") + "/")]
    since = getattr(arguments, "since", None)
    if since is not None:
        try:
            first = time.mktime(time.strptime(since, "%Y-%m-%d"))
        except ValueError as error:
            raise UserError([f"--since {since!r} is no day such as 2026-01-31"]) from error
        chosen = [run for run in chosen if _changed_at(run.path) >= first]
    if not chosen:
        raise UserError(
            [f"there is no such run to {arguments.command}"], hint="say which RUN, or --all; see `wandb-outbox list`"
        )
    return chosen


def _changed_at(path: str) -> float:
    """When a file directly in the folder was changed last."""
    try:
        with os.scandir(path) as entries:
            return max((entry.stat(follow_symlinks=False).st_mtime for entry in entries), default=0.0)
    except OSError:
        return 0.0


def _named(store: Store, arguments: argparse.Namespace) -> list[Run]:
    found: dict[int, Run] = {}
    for query in arguments.run_queries:
        runs = _find(store, query)
        if not runs:
            raise UserError([f"no run is known by {query!r}"], hint="`wandb-outbox list` shows all")
        found.update((run.key, run) for run in runs)
    return list(found.values())


def _change_each(store: Store, chosen: Sequence[Run], change: Callable[[int], bool], words: str) -> int:
    left = 0
    for run in chosen:
        if change(run.key):
            print(f"{_printable(run.path)}: {words}")
        else:
            left += 1
            after = store.get(run.key) or run
            _complain(f"{run.path}: left as it is: {after.state.value}, {after.reason}")
    return Exit.LEFT if left else Exit.OK


@contextlib.contextmanager
def _changing(arguments: argparse.Namespace) -> Iterator[Store]:
    """The outbox for changing. Every change is a guarded statement, so it may be made beside a running daemon."""
    state_dir = _state_dir(arguments)
    if not os.path.exists(state_dir.database):
        raise UserError(["there is no outbox yet"], hint="it is made by the first `watch`, `flush` or `upload`")
    store = _writable(state_dir)
    try:
        yield store
    finally:
        store.close()


def _sandbox(arguments: argparse.Namespace) -> int:
    from wandb_outbox import sandbox

    words = ["--port", str(arguments.port)]
    words += ["--directory", arguments.directory] if arguments.directory else []
    words += ["--port-file", arguments.port_file] if arguments.port_file else []
    for entity in arguments.entity:
        words += ["--entity", entity]
    return sandbox.main(words)


def _demo(arguments: argparse.Namespace) -> int:
    from wandb_outbox.demo.demo import run_demo

    return run_demo(keep=arguments.keep)


def _version(_arguments: argparse.Namespace) -> int:
    print(f"wandb-outbox {__version__}")
    return Exit.OK


# -- helpers ---------------------------------------------------------------------------------------------------------


def _state_dir(arguments: argparse.Namespace) -> StateDir:
    return find_state_dir(os.environ, getattr(arguments, "state_dir", None))


def _load(arguments: argparse.Namespace, *, need_roots: bool, missing_roots: str) -> Loaded:
    from wandb_outbox.plan import CONVENTIONS
    from wandb_outbox.settings import load

    roots = tuple(getattr(arguments, "roots", ()))
    loaded = load(
        os.environ, config=getattr(arguments, "config", None), roots=roots, conventions=frozenset(CONVENTIONS)
    )
    problems = []
    if need_roots:
        if not loaded.settings.roots:
            problems.append("there is no root to watch")
        for root in loaded.settings.roots:
            if not os.path.lexists(root.path):
                if missing_roots == "refuse":
                    problems.append(f"root {root.path} is not there")
            elif not os.path.isdir(root.path):
                problems.append(f"root {root.path} is not a directory")
            elif not os.access(root.path, os.R_OK | os.X_OK):
                problems.append(f"root {root.path} may not be read by this user")
    if problems:
        raise ConfigurationError(
            problems,
            hint="name the roots as arguments, in WANDB_OUTBOX_ROOTS, or as [[roots]] in the configuration file",
        )
    return loaded


def _executor(
    arguments: argparse.Namespace, loaded: Loaded, log: Any, *, watch: bool, backlog: bool, scan: bool = True
) -> Executor:
    from wandb_outbox.service.executor import Executor

    return Executor(
        _state_dir(arguments), loaded.settings, os.environ,
        command=arguments.command, watch=watch, backlog=backlog, scan=scan, log=log,
    )  # fmt: skip


def _configure_log(loaded: Loaded, default: str | None = None) -> Any:
    """The log function; one-pass commands speak up only when something is wrong, unless a level was asked for."""
    from wandb_outbox.service.logs import configure

    asked = "log_level" in loaded.settings.model_fields_set
    log = configure(loaded.settings.log_level if asked or default is None else default, os.environ)
    for note in loaded.notes:
        log("setting-unknown", note=note)
    return log


def _overrides(arguments: argparse.Namespace) -> Overrides:
    tags = None
    if arguments.tags is not None:
        tags = tuple(tag for word in arguments.tags for tag in word.split(",") if tag)
    return Overrides(
        entity=arguments.entity, project=arguments.project, name=arguments.name, group=arguments.group,
        job_type=arguments.job_type, tags=tags, notes=arguments.notes,
    )  # fmt: skip


def _on_interrupt() -> Callable[[], bool]:
    """Whether Ctrl-C or SIGTERM came: what is under way is put back in order; a second Ctrl-C ends at once."""
    seen: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # see detect/writers.py: a broken lease would end us
    return lambda: bool(seen)


def _one(arguments: argparse.Namespace) -> tuple[Store, Run]:
    store = Store.read(_state_dir(arguments))
    runs = _find(store, arguments.run_query) if store else []
    if store is None or not runs:
        raise UserError(
            [f"no run is known by {arguments.run_query!r}"],
            hint="`wandb-outbox list` shows all; a folder that was never seen is sent with `wandb-outbox upload DIR`",
        )
    if len(runs) > 1:
        raise UserError(
            [
                f"{arguments.run_query!r} could be {len(runs)} runs",
                *(f"  {run.run_id}  {run.path}" for run in runs[:10]),
            ]
        )
    return store, runs[0]


def _find(store: Store, query: str) -> list[Run]:
    runs = list(store.find(query))
    exact = [run for run in runs if run.path == os.path.realpath(query) or run.run_id == query]
    return exact or runs


def _writable(state_dir: StateDir) -> Store:
    if not os.access(state_dir.path, os.W_OK) or not os.access(state_dir.database, os.W_OK):
        owner = os.stat(state_dir.path).st_uid
        raise UserError(
            [f"the outbox in {state_dir.path} may not be changed by this user"],
            hint=f"type: sudo -u '#{owner}' {' '.join(['wandb-outbox', *sys.argv[1:]])} --state-dir {state_dir.path}",
        )
    return Store.open(state_dir)


def _progress() -> Any:
    """A progress bar on a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        from wandb_outbox.progress import Bars

        return Bars()
    return contextlib.nullcontext(_quietly)


def _quietly(_store: Store, _runs: Sequence[Run]) -> None:
    return


def _printable(text: str, *, keep_lines: bool = False) -> str:
    """Names of folders come from anywhere: control characters must not reach the terminal, nor lone surrogates stop us."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() or (keep_lines and c == "\n") else repr(c)[1:-1] for c in text)


def _complain(*words: str) -> None:
    for line in words:
        if line:
            print(f"wandb-outbox: {_printable(line)}", file=sys.stderr)
