"""Deliver: claim what is due, hand it to the uploader, record what became of it.

One :meth:`Deliverer.step` is a whole turn; nothing in it waits. A row leaves ``uploading`` only by a guarded statement
that names this executor's claim, so whatever happens to us, the next executor puts the row back and goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wandb_outbox.deliver.gate import Gate, after_answer, after_delivery, after_error
from wandb_outbox.deliver.probe import Answer, ServerState
from wandb_outbox.deliver.protocol import Job, error_from_json, receipt_from_json
from wandb_outbox.deliver.sink import Sink
from wandb_outbox.errors import (
    DiskFull,
    Elsewhere,
    FolderChanged,
    Held,
    Offline,
    OutboxError,
    Rejected,
    RunDeleted,
    Throttled,
    Unauthorized,
    UploaderCrashed,
)
from wandb_outbox.model import Run, run_id
from wandb_outbox.outbox.retry import ATTEMPT_CAP, backoff
from wandb_outbox.outbox.store import Store
from wandb_outbox.steps import step

SMALL = 8_000_000
"""Bytes below which a delivery shares the uploader with up to :data:`SMALL_AT_A_TIME` others."""
SMALL_AT_A_TIME = 8
STALL = 180.0
"""Seconds without any sign of progress after which an uploader counts as hung. Longer than the SDK's own patience."""
PROBE_STALL = 30.0
IDLE = 60.0
"""Seconds after which an uploader with nothing to do is ended; starting it again costs about a second."""
FIRST_RETRY = 10.0
FIRST_LOOK = 2.0
"""Seconds until it is asked again whether another executor still has the folder; doubled up to :data:`LOOK_CAP`."""
LOOK_CAP = 120.0


@dataclass(slots=True)
class Flight:
    """One delivery under way. ``progressed`` and ``started`` are ticks; ``base`` is where the byte count stood.

    ``allowance`` is how many bytes count as a sign of life: its own, twice, for a part may be sent again, and those
    of the others in the same process. Beyond that it is the SDK's chatter, which goes on when an upload hangs.
    """

    run: Run
    started: float
    progressed: float
    large: bool
    alone: bool
    stage: str = ""
    stage_since: float = 0.0
    base: int | None = None
    sent: int = 0
    allowance: int = 0
    counted: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration says of deliveries."""

    concurrency: int
    max_attempts: int


class Deliverer:
    """Owns the uploader and the claims of one executor. Not thread-safe: one loop owns it."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        limits: Limits,
        *,
        claim: str,
        site: str,
        job_of: Callable[[Run], Job],
        skips_deleted: Callable[[str], bool],
        writer_of: Callable[[str], str | None],
        now: Callable[[], float],
        tick: Callable[[], float],
        chance: Callable[[], float],
        log: Callable[..., None],
        on_changed: Callable[[str], None],
        on_rest: Callable[[str], None],
    ) -> None:
        """``writer_of`` says who writes to a folder by now, in words, or ``None``."""
        self._store = store
        self._sink = sink
        self._limits = limits
        self._claim = claim
        self._site = site
        self._job_of = job_of
        self._skips_deleted = skips_deleted
        self._writer_of = writer_of
        self._now = now
        self._tick = tick
        self._chance = chance
        self._log = log
        self._on_changed = on_changed
        self._on_rest = on_rest
        self._flights: dict[int, Flight] = {}
        self._probe_sent: float | None = None
        self._verified_started = float("-inf")
        self._offline_at = float("-inf")
        self._busy_at = tick()
        self._messages: list[dict[str, Any]] = []
        self._spent: set[int] = set()
        """Deliveries that failed in today's uploader, whose SDK may hold their run ids for as "in use"."""
        self._accused: dict[int, OutboxError] = {}
        """Deliveries whose uploader was ended for them, until the server says whether it was there."""
        self._met: dict[int, int] = {}
        """How often each was found in the hands of another executor."""
        self._told_uploads: object = None
        self._told_at = float("-inf")
        self._ask_again_at: float | None = 0.0
        """When the next row that was held back for a while is due (wall clock); ``None``: there is none."""
        self.gate = Gate(since=tick())
        self.only: Sequence[int] | None = None
        """The keys to deliver, when not all: what a person named in ``upload``."""
        self.paused = False
        """A person asked for a pause: what is under way ends, nothing new starts."""
        self.accepting = True
        """``False``: finish what is under way, start nothing (shutting down)."""

    # -- the step ----------------------------------------------------------------------------------------------------

    def step(self) -> float:
        """One turn; returns in how many seconds the next is due if nothing happens before."""
        self._messages += self._sink.poll()
        while self._messages:
            # Taken off only when it is recorded: a full disk must not lose a receipt.
            self._handle(self._messages[0])
            del self._messages[0]
        self._end_hung()
        if self.accepting and not self.paused:
            self._ask_again()
            self._probe_if_due()
            if self.gate.open:
                self._claim_due()
        self._end_idle()
        self._tell_uploads()
        return self._next_due()

    @property
    def under_way(self) -> int:
        """How many deliveries are under way."""
        return len(self._flights)

    @property
    def closed(self) -> bool:
        """Whether the server was asked, and the answer was not yes."""
        if self._probe_sent is not None or self.gate.open:
            return False
        return self.gate.state is not ServerState.UNKNOWN or self.gate.next_probe > self._tick()

    def recheck(self) -> None:
        """Ask the server again now, whatever the backoff says."""
        if not self.gate.open:
            self._set_gate(replace(self.gate, state=ServerState.UNKNOWN, next_probe=0.0))

    def expect(self) -> None:
        """A delivery is about to come: an uploader is made ready for it, unless the server is known to be away."""
        if not self.accepting or self.paused or self._spent or not (self.gate.open or self.gate.next_probe == 0.0):
            return
        self._busy_at = self._tick()
        with contextlib.suppress(DiskFull):  # told when the delivery comes
            self._sink.warm()

    def put_all_back(self) -> None:
        """Shutting down: end the uploader, and leave what it carried queued, with no attempt used."""
        self._sink.kill()
        self._accused.clear()
        for flight in list(self._flights.values()):
            self._put_back(flight, Offline("interrupted by the shutdown; it is taken up again"), used=False)

    # -- messages ----------------------------------------------------------------------------------------------------

    def _handle(self, message: dict[str, Any]) -> None:
        self._busy_at = self._tick()
        if message["is"] == "answer":
            self._answered(message)
            return
        if message["is"] == "died":
            self._died()
            return
        key = message.get("key")
        if message["is"] == "progress" and key is None:
            self._bytes_moved(int(message["bytes"]))
            return
        flight = self._flights.get(key) if isinstance(key, int) else None
        if flight is None:
            return
        flight.progressed = self._tick()
        match message["is"]:
            case "contact":
                recorded = self._store.contact(
                    flight.run.key, self._claim, run_id=message["run_id"], incarnation=message["incarnation"]
                )
                step("deliver.contact-recorded")
                self._sink.allow(flight.run.key, recorded=recorded)
            case "progress":
                if flight.stage != message["stage"]:
                    flight.stage, flight.stage_since = message["stage"], self._tick()
            case "receipt":
                receipt = receipt_from_json(message)
                step("deliver.receipt-arrived")
                self._store.uploaded(flight.run.key, self._claim, receipt, now=self._now())
                step("deliver.uploaded")
                del self._flights[flight.run.key]
                self._met.pop(flight.run.key, None)
                self._verified_started = max(self._verified_started, flight.started)
                self._set_gate(after_delivery(self.gate))
                self._log(
                    "uploaded", path=flight.run.path, run=receipt.run_id, url=receipt.url, artifact=receipt.artifact,
                    files=receipt.files, bytes=receipt.bytes, warnings=list(receipt.warnings),
                )  # fmt: skip
                self._on_rest(flight.run.path)
            case "error":
                if message.get("spent"):
                    self._spent.add(flight.run.key)
                self._failed(flight, error_from_json(message))

    def _failed(self, flight: Flight, error: OutboxError) -> None:
        """What follows from a failed delivery (the table in docs/reference.md)."""
        run = flight.run
        match error:
            case FolderChanged():
                self._store.changed(run.key, self._claim, error, now=self._now())
                del self._flights[run.key]
                self._log("changed-while-uploading", path=run.path, reason=error.message)
                self._on_changed(run.path)
            case Offline() if self._failed_alone(flight):
                self._use_up(flight, error)
            case Offline() | Throttled() | Unauthorized() | DiskFull():
                # A little later than the others: the next trial after an outage should be another folder.
                later = self._now() + FIRST_RETRY * self._chance()
                self._put_back(flight, error, used=False, next_attempt_at=later)
                self._offline_at = self._tick()
                self._set_gate(after_error(self.gate, error, now=self._tick(), chance=self._chance()))
            case Elsewhere():
                self._met[run.key] = self._met.get(run.key, 0) + 1
                wait = backoff(self._met[run.key], first=FIRST_LOOK, cap=LOOK_CAP, chance=self._chance())
                self._put_back(flight, error, used=False, next_attempt_at=self._now() + wait)
            case RunDeleted() if not run.forced and self._skips_deleted(run.path):
                self._store.forsake(
                    run.key, self._claim, error, now=self._now(),
                    reason=f"its run {run.run_id} was deleted on the server, and on_deleted = skip: `release` it to send it "
                    "under a new one",
                )  # fmt: skip
                del self._flights[run.key]
                self._log("run-deleted", path=run.path, reason=error.message, action="skipped")
                self._on_rest(run.path)
            case RunDeleted() if run.attempts + 1 < self._limits.max_attempts:
                again = backoff(run.attempts, first=FIRST_RETRY, cap=ATTEMPT_CAP, chance=self._chance())
                wait = again if run.attempts else 0.0  # the first time at once
                incarnation = run.incarnation + 1
                self._store.renew(
                    run.key, self._claim, error, run_id=run_id(self._site, run.path, incarnation),
                    incarnation=incarnation, now=self._now(), next_attempt_at=self._now() + wait,
                )  # fmt: skip
                del self._flights[run.key]
                self._log("run-deleted", path=run.path, reason=error.message, action="sent under a new run")
            case Held():
                self._store.hold_back(run.key, self._claim, error, now=self._now())
                self._ask_again_at = self._store.next_asking()
                del self._flights[run.key]
                self._log(
                    "held", path=run.path, run=run.run_id, reason=error.message, look_again_in=error.look_again_in
                )
                self._on_rest(run.path)
            case Rejected():
                self._give_up(flight, error)
            case _:
                self._use_up(flight, error)

    def _ask_again(self) -> None:
        """Queue what was held back for a while and is due."""
        due = self._ask_again_at
        # Further away than any wait of ours means that the clock was set back since.
        if due is None or self._now() < due < self._now() + 7200:
            return
        self._store.ask_again(now=self._now())
        self._ask_again_at = self._store.next_asking()

    def _failed_alone(self, flight: Flight) -> bool:
        """Whether server and storage were there while this one got nowhere, so that it has a trouble of its own.

        That is when a delivery that began after this one's last step was confirmed, and no other has failed since.
        """
        return self._verified_started > flight.stage_since > self._offline_at

    def _use_up(self, flight: Flight, error: OutboxError) -> None:
        attempts = flight.run.attempts + 1
        if attempts >= self._limits.max_attempts:
            self._give_up(flight, error)
            return
        wait = backoff(attempts, first=FIRST_RETRY, cap=ATTEMPT_CAP, chance=self._chance())
        self._put_back(flight, error, used=True, next_attempt_at=self._now() + wait)

    def _give_up(self, flight: Flight, error: OutboxError) -> None:
        self._store.fail(flight.run.key, self._claim, error, now=self._now())
        del self._flights[flight.run.key]
        self._log(
            "failed", path=flight.run.path, run=flight.run.run_id, error=type(error).__name__, reason=error.message,
            hint=error.hint,
        )  # fmt: skip

    def _put_back(
        self,
        flight: Flight,
        error: OutboxError,
        *,
        used: bool,
        next_attempt_at: float | None = None,
        suspect: bool = False,
    ) -> None:
        self._store.put_back(
            flight.run.key,
            self._claim,
            error,
            now=self._now(),
            next_attempt_at=next_attempt_at,
            used=used,
            suspect=suspect,
        )
        step("deliver.put-back")
        del self._flights[flight.run.key]
        self._log(
            "put-back", path=flight.run.path, run=flight.run.run_id, error=type(error).__name__, reason=error.message,
            attempt_used=used, next_attempt_at=next_attempt_at,
        )  # fmt: skip

    # -- the uploader's life -----------------------------------------------------------------------------------------

    def _died(self) -> None:
        """The uploader died by itself. One in flight is to blame; of several, each is tried again alone."""
        self._spent.clear()
        if self._probe_sent is not None:
            self._probe_sent = None
            mute = Offline(f"the uploader died when it was to ask the server: {self._sink.last_words()}")
            self._set_gate(after_error(self.gate, mute, now=self._tick(), chance=self._chance()))
        flights = [flight for key, flight in self._flights.items() if key not in self._accused]
        error = UploaderCrashed(
            f"the uploader process died: {self._sink.last_words() or 'it said nothing'}",
            hint="it is tried again; if it goes on, look at uploader/uploader.log in the state directory",
        )
        for flight in flights:
            if len(flights) == 1:
                self._use_up(flight, error)
            else:
                self._put_back(flight, error, used=False, suspect=True)

    def _end_hung(self) -> None:
        """Kill an uploader of which one delivery shows no progress; the others it carried are not blamed."""
        if self._probe_sent is not None and self._tick() - self._probe_sent > PROBE_STALL:
            self._probe_sent = None
            self._interrupt(UploaderCrashed("the probe of the server hung"), blamed=set())
        if self._accused:
            return
        hung = {key for key, flight in self._flights.items() if self._tick() - flight.progressed > STALL}
        if hung:
            stages = ", ".join(sorted({self._flights[key].stage or "starting" for key in hung}))
            self._interrupt(
                UploaderCrashed(f"no progress for {STALL:.0f} s while {stages}; the uploader was ended"), hung
            )

    def _interrupt(self, error: OutboxError, blamed: set[int]) -> None:
        self._sink.kill()
        self._spent.clear()
        for key, flight in list(self._flights.items()):
            if key in blamed:
                self._accused[key] = error
            elif key not in self._accused:
                self._put_back(flight, Offline("interrupted, because another upload hung"), used=False)
        self._set_gate(replace(self.gate, state=ServerState.UNKNOWN, next_probe=0.0))

    def _sentence(self, answer: Answer) -> None:
        """Deliveries that hung are to blame only if the server was there all the time."""
        accused, self._accused = self._accused, {}
        for key, error in accused.items():
            if answer.state is ServerState.ONLINE:
                self._use_up(self._flights[key], error)
            else:
                self._put_back(self._flights[key], Offline(f"{answer.detail} ({error.message})"), used=False)

    def _end_idle(self) -> None:
        if not self._flights and self._probe_sent is None and self._tick() - self._busy_at > IDLE:
            self._sink.stop()
            self._busy_at = self._tick()

    def _bytes_moved(self, total: int) -> None:
        """The SDK's process has written more bytes, to disk or network: everything under way shares the sign of life."""
        for flight in self._flights.values():
            flight.base = total if flight.base is None else flight.base
            moved = total - flight.base
            flight.sent = max(flight.sent, min(moved, flight.run.bytes))
            if min(moved, flight.allowance) > flight.counted:
                flight.counted = min(moved, flight.allowance)
                flight.progressed = self._tick()

    # -- the server --------------------------------------------------------------------------------------------------

    def _probe_if_due(self) -> None:
        if self.gate.open or self._probe_sent is not None or self.gate.next_probe > self._tick():
            return
        if len(self._flights) > len(self._accused):
            return  # what is under way will tell
        if not self._accused and self._store.next_attempt_at() is None:
            return  # nothing waits: a month with nothing to send costs no request
        self._probe_sent = self._busy_at = self._tick()
        unasked = self.gate.next_probe == 0.0
        try:
            self._sink.probe()
            if unasked:
                self._sink.warm()  # beside the question: most servers are there
        except DiskFull as error:
            self._probe_sent = None
            self._set_gate(after_error(self.gate, error, now=self._tick(), chance=self._chance()))

    def _answered(self, message: dict[str, Any]) -> None:
        self._probe_sent = None
        answer = Answer(
            ServerState(message["state"]), message["detail"], message.get("entity"), message.get("retry_after")
        )
        self._sentence(answer)
        self._set_gate(after_answer(self.gate, answer, now=self._tick(), chance=self._chance()))

    def _set_gate(self, gate: Gate) -> None:
        if gate.state is not self.gate.state:
            self._log("server", state=gate.state.value, detail=gate.detail, next_probe=self._wall(gate.next_probe))
        self.gate = gate
        self._store.set_fact(
            "server",
            {
                "state": gate.state.value,
                "since": self._wall(gate.since),
                "detail": gate.detail,
                "next_probe": self._wall(gate.next_probe),
            },
        )

    def _wall(self, tick: float) -> float | None:
        """The gate's ticks as a time for people; to the second, so that telling it again changes nothing."""
        return round(self._now() + tick - self._tick()) if tick else None

    # -- claiming ----------------------------------------------------------------------------------------------------

    def _claim_due(self) -> None:
        if self._spent and not self._flights:
            # The next try of what failed gets a new process; as long as others are in this one, they go on in it.
            self._sink.stop()
            self._spent.clear()
        if any(flight.alone for flight in self._flights.values()):
            return
        if self._store.has_suspect(self._now()):
            if not self._flights:
                run = self._store.claim(self._claim, now=self._now(), suspects=True, only=self.only)
                self._launch(run, alone=True)
            return
        if self.gate.failures:
            # After an outage one trial goes first; the rest follows when it is confirmed.
            if not self._flights:
                quick = self._store.claim(
                    self._claim, now=self._now(), suspects=False, max_bytes=SMALL - 1, only=self.only
                )
                trial = quick or self._store.claim(self._claim, now=self._now(), suspects=False, only=self.only)
                self._launch(trial, alone=False)
            return
        while self.gate.open:  # a launch that fails closes it
            large = sum(flight.large for flight in self._flights.values())
            small = len(self._flights) - large
            if large >= self._limits.concurrency and small >= SMALL_AT_A_TIME:
                return
            run = self._store.claim(
                self._claim,
                now=self._now(),
                suspects=False,
                max_bytes=SMALL - 1 if large >= self._limits.concurrency else None,
                min_bytes=SMALL if small >= SMALL_AT_A_TIME else None,
                only=self.only,
                without=self._spent,
            )
            if run is None:
                return
            self._launch(run, alone=False)

    def _launch(self, run: Run | None, *, alone: bool) -> None:
        if run is None:
            return
        step("deliver.claimed")
        # It may have waited for days, and who opens a file makes no event and changes nothing until he writes.
        writer = None if run.forced else self._writer_of(run.path)
        if writer is not None:
            self._give_up_to(run, writer)
            return
        tick = self._tick()
        others = sum(flight.run.bytes for flight in self._flights.values())
        for flight in self._flights.values():
            flight.allowance += run.bytes
        self._flights[run.key] = Flight(
            run, tick, tick, run.bytes >= SMALL, alone, allowance=2 * run.bytes + others, stage_since=tick
        )
        self._busy_at = tick
        self._log(
            "uploading", path=run.path, run=run.run_id, files=run.files, bytes=run.bytes, attempt=run.attempts + 1
        )
        try:
            self._sink.send(self._job_of(run))
        except DiskFull as error:
            self._failed(self._flights[run.key], error)
            return
        step("deliver.handed-over")

    def _give_up_to(self, run: Run, writer: str) -> None:
        error = FolderChanged(f"taken up again while it waited for its upload: {writer}")
        self._store.changed(run.key, self._claim, error, now=self._now())
        self._log("taken-up-again", path=run.path, run=run.run_id, reason=writer)
        self._on_changed(run.path)

    # -- telling -----------------------------------------------------------------------------------------------------

    def _tell_uploads(self) -> None:
        """Keep the list of current uploads for ``status``, at most once a second."""
        uploads = [
            {
                "id": flight.run.run_id,
                "path": flight.run.path,
                "bytes_sent": flight.sent,
                "bytes_total": flight.run.bytes,
            }
            for flight in self._flights.values()
        ]
        if uploads != self._told_uploads and (not uploads or self._tick() - self._told_at >= 1.0):
            self._store.set_fact("uploads", uploads)
            self._told_uploads, self._told_at = uploads, self._tick()

    def _next_due(self) -> float:
        if self._flights or self._probe_sent is not None:
            return 1.0
        if not self.accepting:
            return 60.0
        due = self._store.next_attempt_at()
        if due is None:
            again = self._ask_again_at
            return 60.0 if again is None else min(max(again - self._now(), 0.0), 60.0)
        probe = 0.0 if self.gate.open else self.gate.next_probe - self._tick()
        return min(max(due - self._now(), probe, 0.0), 60.0)
