"""What the page says beside the figures: how each benchmark measures, and what was tried and not kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HOW: Mapping[str, str] = {
    "backlog": (
        "Finished folders of the evaluation script (nine files, about 20 kB), a fresh loopback server for each delivery, in "
        "a process of its own that is not counted. The baseline is `for folder in ...; do python reference_upload.py; "
        "done`, which sends two files of each and verifies nothing; `flush` sends all nine and reads them back. The loop is "
        "run in slices in turn with the flushes; a loop costs what its slices cost together. Processor time is that of all "
        "processes, also of those that leave session and parent: a child subreaper waits for every one of them."
    ),
    "first_byte": (
        "A process writes a small folder, holds its log open and exits; the daemon watches. The end is the moment at which "
        "the server has answered the commit of the folder's artifact. Cold is the first delivery of a daemon, warm are the "
        "next two."
    ),
    "artifacts": (
        "`upload` of one folder whose files lie in memory, as the server's bytes do, so that no disk is measured but that "
        "of the state directory. The baseline is a minimal client in a process of its own: it sends the same files to URLs "
        "that the same kind of server signed for it, in large blocks, and hashes nothing. From log_artifact to the commit "
        "is what the server saw, from `CreateArtifact` coming in to `CommitArtifact` answered; the hashing before it is "
        "part of the whole command, as are start-up, the run, and reading it back. Memory (RssAnon of all processes) and "
        "the directories in which the SDK stages and caches are sampled every 50 ms; the manifest (the list of files), "
        "which the SDK writes there, is not counted. Written is what the kernel charged all processes with."
    ),
    "detection": (
        "Real processes write run folders of the evaluation script and end in four ways; the daemon watches, with nobody to "
        "deliver to. The time is that from the exit of the last writer to the moment at which the folder is queued. The "
        "folders of each way begin at different moments, so that no rhythm of the daemon is met always or never."
    ),
    "crowd": (
        "A tree in memory: finished folders of ten files that the outbox knows as uploaded, and ten that are being "
        "written. Each way to watch it runs alone, once, one after the other: until everything is watched, then idle for half a "
        "minute (ours meanwhile also compares all of the folders anew, in slices), then a storm in one active folder. The "
        "others receive events and forget them; watchdog is asked for few kinds of them, for with all it drowns in the "
        "openings of its own walk. Memory is at the end."
    ),
    "neighbour": (
        "An experiment with fixed pieces of work, in turn with and without a daemon beside it, which is started anew for "
        "each turn and finds and delivers a small folder every two seconds. The same folders arrive elsewhere in the turns "
        "without. The server, which stands for another machine, runs at the lowest priority, but on the same cores; the "
        "daemon runs at the priority of the systemd unit, without its other limits."
    ),
    "startup": (
        "Trees in memory, as on a disk whose directories are cached: run folders of three files that the outbox knows as "
        "uploaded, and one that is being written. The daemon first compares all it knows, then looks at what is new, so "
        "the row of that one shows the moment. Processor time is the daemon's, less that of a start over an empty tree, "
        "divided by the folders."
    ),
    "outbox": (
        "SQLite with WAL and `synchronous=FULL` on the disk of temporary files; every call is one durable transaction. Two "
        "outboxes, in turn, a hundred lives of a folder at a time: `add` (first seen), `claim` (oldest due), `complete` "
        "(receipt recorded); rates are calls a second."
    ),
    "planning": (
        "One plan in a fresh process: reading, counting, the table of the samples, the names, the files. A small folder of the "
        "same kind is planned before, so that imports and first uses do not count. Memory is what the most resident memory "
        "(VmHWM) grew by. Formulas and token alternatives are the worst case for a reader that looks for quotes and brackets. "
        "`json.load` in a process of its own only parses the file; its memory is anonymous memory, sampled."
    ),
    "commands": (
        "Each command as a process of its own, from its start to its end, in turn with `python -c 'import typer'` in a "
        "virtual environment that holds it; output goes into a pipe. No daemon runs. `wandb status` is shown for scale."
    ),
}

TRIED: Sequence[str] = (
    (
        "A question of our own for all that a delivery compares (run, files and artifacts in one GraphQL document, with a small "
        "HTTP client), instead of the SDK's public interface: 42 requests a folder instead of 45, and a sixth less processor "
        "time of our processes; not kept so far, as it would have to speak for runs that the folder is attached to as well."
    ),
    (
        "In the uploader: 12 or 16 small deliveries at a time instead of 8, a shorter switch interval of the interpreter, all "
        "that the SDK loads frozen out of its garbage collection, a lazier collector of the SDK's process (`GOGC=400`): each "
        "within the noise of the measurement. Five at a time were a tenth slower."
    ),
    (
        "`GOMAXPROCS` of 4 to 32 for the SDK's process, whose HTTP client keeps idle connections by that number: 5,000 small "
        "files were no faster on two cores. What did help is a sandbox that takes up a connection with a thread that it has."
    ),
    (
        "Why the whole `upload` of 2 GB cannot reach 0.6 of plain PUTs on two cores: W&B wants the MD5 of all files before the "
        "first byte may go, which is 2.6 s of one core (1.3 s on both; a quarter of that on eight), and Python and the SDK take "
        "0.9 s to start. Files are hashed several at a time beside the opening of the run."
    ),
    (
        "Why 5,000 small files reach 0.7: the SDK's process sends them over many more connections than the eight of the plain "
        "client, and asks for their addresses in 43 questions: the same server takes 3.3 s of a core for it instead of 2.1 s. "
        "The SDK has no setting for that."
    ),
    (
        "Rows of history handed to the SDK's process one by one, each waited for: 20,000 of them took 4.0 s; two hundred, then "
        "one that is waited for: 2.7 s. Kept: two hundred at once: 2.0 s."
    ),
    (
        "Of the eight seconds for 100 folders, 1.3 s pass before the first delivery: a folder must be free of writers twice, a "
        "second apart. The uploader loads the SDK meanwhile."
    ),
    (
        "The pages of `list` put together by SQLite in two threads with a connection each: no faster than one thread, which "
        "takes 0.1 s for 100,000 rows; to ask of all text whether it is printable takes 0.04 s. Read by one thread and printed "
        "by another: a tenth faster, not kept for two connections and a queue."
    ),
    (
        "The lines of `list` made in Python from four columns: 0.12 s of a core for 100,000 rows in pages of 2,000, 0.10 s in "
        "pages of 500; put together by SQLite for all rows at once: 0.10 s. Kept: put together by SQLite for 500 rows at a time, "
        "0.08 s."
    ),
    (
        "`list --json` made of a dict of the needed columns instead of a whole row: 0.9 s of a core for 100,000 rows instead of "
        "2.2 s. Kept: objects that SQLite writes, 0.4 s. Their times come from Python, for SQLite cuts them to 15 digits."
    ),
    (
        "Events read from the kernel as they come: a writer that closes thousands of files a second was 6 % slower beside an "
        "idle daemon, because each event wakes the reader on the writer's time; with a pause of 50 ms between reads, 1 %."
    ),
    (
        "`sendfile(2)` in the minimal client of the artifacts: 2 GB in 2.4 s instead of 2.8 s; not kept, for over TLS no client "
        "could use it."
    ),
    (
        "watchdog with all of its events on 50,000 folders as a baseline: its own walk overflows the kernel's queue, after which "
        "it walks again without end, at 100 % of a core; measured with the fewest events instead."
    ),
    (
        "Shares of a core follow the machine's mood: a version of the daemon that took 0.36 % idle and 0.96 % in a storm in the "
        "morning took 0.9 % and 2.0 % in the afternoon, in turn with the version of these figures, which took 0.6 to 1.7 % and "
        "2.0 %; watchfiles took 0.16 % and then 0.26 to 0.33 % idle. Its wake-ups, two or three a second, were the same."
    ),
    (
        "An experiment that opens and closes 5,500 files a second as the neighbour: it measures the kernel's bookkeeping of "
        "events (1.3 % of its time for a watch that is read seldom), and was 2 % slower beside a busy daemon; replaced by one "
        "that moves bytes."
    ),
)
