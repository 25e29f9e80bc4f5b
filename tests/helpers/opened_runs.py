"""The runs that the SDK opened in this process, for tests that break a delivery off in the middle of one.

In life the uploader's process ends then, and the open run with it; here the test ends it.
"""

from __future__ import annotations

from typing import Any

import pytest
import wandb


def remember_opened(patch: pytest.MonkeyPatch) -> list[wandb.Run]:
    """A list to which every run is added that is opened from now on, the newest last."""
    opened: list[wandb.Run] = []
    init = wandb.init

    def remembered(**settings: Any) -> wandb.Run:
        opened.append(init(**settings))
        return opened[-1]

    patch.setattr(wandb, "init", remembered)
    return opened
