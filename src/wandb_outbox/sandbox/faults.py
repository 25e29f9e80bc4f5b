"""Ways in which the sandbox can fail on demand."""

import fnmatch
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Action = Literal["refuse", "reset", "hang", "slow", "status", "html", "lost-reply", "cut"]

_WORDS: Mapping[int, str] = {
    400: "bad request",
    401: "user is not logged in",
    403: "permission denied",
    404: "not found",
    409: "run was previously created and deleted; try a new run name",
    429: "rate limit exceeded",
    500: "internal server error",
    502: "bad gateway",
    503: "service unavailable",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure that is waiting for requests.

    Attributes:
        operation: Which requests it hits: the name of a GraphQL operation, or `graphql`, `file_stream`, `put` and
            `get` (signed storage), `page`, `any`, or an fnmatch pattern over these names. The sandbox's own
            `/sandbox/` interface is never hit.
        action: What happens:
            `refuse`: the whole server stops listening, whatever the operation; the port stays its own.
            `reset`: the connection is reset (RST) before anything is done.
            `hang`: no answer until the fault ends or the client leaves.
            `slow`: `delay` seconds before anything is done, and `bytes_per_second` for the body of the request and
            of the answer.
            `status`: an answer with this `status`, in the form of the real server's errors.
            `html`: an HTML page with this `status`, as a proxy in between would answer.
            `lost-reply`: the request is carried out, then the connection is reset without an answer.
            `cut`: a put is reset after `after_bytes` of its body, anything else after as many of the answer's body.
        times: How many requests it hits; None for any number.
        seconds: How long it lasts; None for until it is cleared.
        rate: The share of matching requests that it hits, 0 to 1.
        status: HTTP status of `status` and `html`.
        retry_after: Seconds in a `Retry-After` header of `status` and `html`.
        message: Words for the body of `status` instead of the usual ones.
        delay: Seconds, for `slow`.
        bytes_per_second: For `slow`.
        after_bytes: For `cut`.
    """

    operation: str = "any"
    action: Action = "reset"
    times: int | None = None
    seconds: float | None = None
    rate: float = 1.0
    status: int = 500
    retry_after: int | None = None
    message: str | None = None
    delay: float = 0.0
    bytes_per_second: int | None = None
    after_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuse an action that does not exist.

        Raises:
            ValueError: The action or the rate is not one.
        """
        if self.action not in get_args(Action):
            raise ValueError(f"unknown action {self.action!r}, known: {', '.join(get_args(Action))}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be between 0 and 1, got {self.rate}")

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Fault":
        """Return the fault in a JSON object.

        Raises:
            ValueError: It has a field or an action that does not exist.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(record) - known)
        if unknown:
            raise ValueError(f"unknown fields: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return cls(**record)

    def to_json(self) -> dict[str, Any]:
        """Return the fault as a JSON object."""
        return asdict(self)

    def words(self) -> str:
        """Return the message of a `status` answer."""
        return self.message or _WORDS.get(self.status, "error")


class ActiveFault:
    """A fault at work."""

    def __init__(self, fault: Fault, until: float | None) -> None:
        """Begin a fault that ends at an instant of the clock, or None for never."""
        self.fault = fault
        self.left = fault.times
        self._until = until
        self._ended = threading.Event()

    def end(self) -> None:
        """End it; who hangs on it wakes."""
        self._ended.set()

    def over(self, now: float) -> bool:
        """Return whether it can hit no more requests."""
        return self._ended.is_set() or self.left == 0 or (self._until is not None and now >= self._until)

    def wait(self, seconds: float) -> bool:
        """Wait, and return whether the fault was ended meanwhile."""
        return self._ended.wait(seconds)

    def released(self, now: float) -> bool:
        """Return whether a request that hangs on it should give up."""
        return self._ended.is_set() or (self._until is not None and now >= self._until)


class FaultBox:
    """The faults that are at work."""

    def __init__(self, seed: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without faults; `seed` decides what a `rate` below 1 hits."""
        self._random = random.Random(seed)  # noqa: S311
        self._clock = clock
        self._lock = threading.Lock()
        self._active: list[ActiveFault] = []
        self._all: list[ActiveFault] = []

    def inject(self, fault: Fault) -> None:
        """Let a fault begin."""
        active = ActiveFault(fault, None if fault.seconds is None else self._clock() + fault.seconds)
        with self._lock:
            self._active.append(active)
            self._all.append(active)

    def clear(self) -> None:
        """End all faults; requests that hang on one are let go."""
        with self._lock:
            for active in self._all:
                active.end()
            self._active.clear()
            self._all.clear()

    def list(self) -> list[Fault]:
        """Return the faults that can still hit a request."""
        now = self._clock()
        with self._lock:
            return [active.fault for active in self._active if not active.over(now)]

    def match(self, operation: str, family: str) -> ActiveFault | None:
        """Return the first fault that hits a request, and count the hit."""
        if not self._active:
            return None
        now = self._clock()
        with self._lock:
            self._active = [active for active in self._active if not active.over(now)]
            for active in self._active:
                fault = active.fault
                if not _hits(fault.operation, operation, family):
                    continue
                if fault.rate < 1 and self._random.random() >= fault.rate:
                    continue
                if active.left is not None:
                    active.left -= 1
                return active
        return None

    def released(self, active: ActiveFault) -> bool:
        """Return whether a request that hangs on a fault should give up."""
        return active.released(self._clock())


def _hits(pattern: str, operation: str, family: str) -> bool:
    return pattern in {"any", operation, family} or fnmatch.fnmatchcase(operation, pattern)
