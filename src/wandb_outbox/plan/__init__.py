"""Decide everything that will be sent, before anything is sent."""

from wandb_outbox.plan.as_json import plan_to_json
from wandb_outbox.plan.as_text import plan_to_text
from wandb_outbox.plan.conventions import CONVENTIONS
from wandb_outbox.plan.defined import definition_faults
from wandb_outbox.plan.plan import make_plan

__all__ = ["CONVENTIONS", "definition_faults", "make_plan", "plan_to_json", "plan_to_text"]
