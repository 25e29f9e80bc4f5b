"""What the configuration says of a look at one folder; as JSON, too, for commands that do not read the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from wandb_outbox.folder import Selection


@dataclass(frozen=True, slots=True)
class LookRules:
    """``detect`` and ``done_when`` of its root, what is left out, and whether leases may be asked for."""

    selection: Selection = field(default_factory=Selection)
    detect: tuple[str, ...] = ()
    done_when: tuple[str, ...] = ()
    leases: bool = True

    def as_json(self) -> dict[str, Any]:
        """The same for the outbox; see :meth:`from_json`."""
        return {
            "exclude": list(self.selection.exclude),
            "include": list(self.selection.include),
            "detect": list(self.detect),
            "done_when": list(self.done_when),
            "leases": self.leases,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """What :meth:`as_json` made."""
        return cls(
            Selection(tuple(kept["exclude"]), tuple(kept["include"])),
            tuple(kept["detect"]),
            tuple(kept["done_when"]),
            kept["leases"],
        )
