"""Decide everything that will be sent, before anything is sent."""

from wandb_outbox.plan.as_json import plan_to_json
from wandb_outbox.plan.plan import make_plan

__all__ = ["make_plan", "plan_to_json"]
