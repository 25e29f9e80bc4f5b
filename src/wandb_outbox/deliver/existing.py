"""What the server has now, asked through the SDK's public interface."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import wandb
from wandb.apis import public

from wandb_outbox.deliver.attach import There
from wandb_outbox.deliver.edits import Shown
from wandb_outbox.deliver.readback import DELIVERED

RemoteRun: TypeAlias = public.Run
LOOK_AGAIN = (0.5, 1.0, 2.0)
"""Seconds between questions while the server has "not found" (HTTP 404) for the question itself."""
Answered = TypeVar("Answered")


class Existing:
    """The server's runs and artifacts; no answer comes from a cache."""

    def __init__(self, api: wandb.Api, still: Callable[[], None]) -> None:
        """``still`` is called while an answer is waited for."""
        self._api = api
        self._still = still

    def _fresh(self) -> wandb.Api:
        """The public interface with an empty cache of runs, for one look-up.

        The SDK gives whoever asks for the same page the same object: threads that look for copies of one content would
        take each other's runs out of it, and each would miss its own.
        """
        api = copy.copy(self._api)
        api.flush()  # type: ignore[no-untyped-call]
        return api

    def run(self, entity: str, project: str, candidate: str) -> RemoteRun | None:
        """The run as the server has it now, or ``None`` when it has none (nor perhaps the project)."""

        def look() -> RemoteRun | None:
            try:
                remote = self._fresh().run(f"{entity}/{project}/{candidate}")
            except (ValueError, wandb.errors.CommError) as error:
                if is_absent(error):
                    return None
                raise
            return remote

        return self.until_found(look)

    def until_found(self, ask: Callable[[], Answered]) -> Answered:
        """What the server answers, asked again for a while where it has "not found" for the question itself."""
        for wait in LOOK_AGAIN:
            try:
                return ask()
            except Exception as error:
                if not says_not_found(error):
                    raise
            self._still()
            time.sleep(wait)
        return ask()

    def runs(self, entity: str, project: str, wanted: dict[str, Any]) -> Iterator[RemoteRun]:
        """The runs of a project that fit this filter, the newest first; none when there is no such project."""
        try:
            yield from self._fresh().runs(
                f"{entity}/{project}", filters=wanted, order="-created_at", per_page=20, lazy=False
            )
        except (ValueError, wandb.errors.CommError) as error:
            if not is_absent(error):
                raise

    def artifact(self, entity: str, project: str, version: str) -> wandb.Artifact | None:
        """The artifact ``name:version``, or ``None`` when it is not there, or not whole."""
        try:
            artifact = self._api.artifact(f"{entity}/{project}/{version}")
        except (ValueError, wandb.errors.CommError) as error:
            if is_absent(error):
                return None
            raise
        return artifact if artifact.state == "COMMITTED" else None


def there_of(remote: RemoteRun) -> There:
    """What decides whether a folder may be attached to this run."""
    files = {file.name: int(file.size) for file in remote.files(per_page=200)}
    return There(remote.id, remote.state, plain(remote.config), plain(remote.summary_metrics), files)


def plain(value: Any) -> Any:
    """A value as plain dicts and lists: what the SDK gives back has classes of its own."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def is_absent(error: Exception) -> bool:
    """Whether the server said that it has no such thing: the SDK's own words for an answer without it.

    An answer "not found" to the question itself (HTTP 404: a proxy, a server that is being repaired) has a cause, and is
    no word about the thing: who took it for one would send everything once more.
    """
    if error.__cause__ is not None or not isinstance(error, (ValueError, wandb.errors.CommError)):
        return False
    text = str(error)
    return text.startswith(("Could not find run", "Could not find project")) or " not found " in text


def says_not_found(error: Exception) -> bool:
    """Whether these are the words for something that is not there, of whatever kind."""
    text = str(error).lower()
    return "not found" in text or "404" in text


def noted_by(remote: RemoteRun) -> Mapping[str, Any]:
    """What an earlier delivery noted of itself in the run; empty when there was none."""
    noted = plain(remote.summary_metrics.get(DELIVERED))
    return noted if isinstance(noted, dict) else {}


def shown_by(remote: RemoteRun) -> Shown:
    """What people may have changed about a run, as the server has it now."""
    return Shown(remote.display_name, remote.group, remote.job_type, remote.notes, tuple(remote.tags))
