"""What the experiments' own upload script counts over ``results.json``, in our own words: shares of all samples, and means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

Results = Sequence[Mapping[str, Any]]


def numbers(results: Results) -> dict[str, float]:
    """As the script of today does."""
    steps = [each["reasoning_steps"] for each in results if "reasoning_steps" in each]
    known = [[score for score in each.get("validity_scores") or () if score is not None] for each in results]
    return _numbers(results, lambda said: bool(said.get("is_correct")), steps, [fmean(each) for each in known if each])


def numbers_before(results: Results) -> dict[str, float]:
    """As it did when the guide was written: ``label``, and what stood in ``metadata``."""
    about = [each.get("metadata", {}) for each in results]
    steps = [each["steps"] for each in about if "steps" in each]
    validity = [each["avg_validity_score"] for each in about if "avg_validity_score" in each]
    return _numbers(results, lambda said: said.get("label") in (1, "Correct"), steps, validity)


def _numbers(results: Results, is_right: Any, steps: list[float], validity: list[float]) -> dict[str, float]:
    total = len(results)
    errors = sum("error" in each for each in results)
    found: dict[str, float] = {"total_samples": total, "completed": total - errors, "errors": errors}
    for name in {name for each in results for name in each.get("eval", ())}:
        said = [each["eval"][name] for each in results if name in each.get("eval", ())]
        found[f"{name}/correct"] = sum(map(is_right, said))
        found[f"{name}/incorrect"] = len(said) - found[f"{name}/correct"]
        found[f"{name}/accuracy"] = found[f"{name}/correct"] / total
    for key in [key for key in found if key.rpartition("/")[2] in ("completed", "errors", "correct", "incorrect")]:
        found[f"{key}_pct"] = found[key] / total if total else 0.0
    if steps:
        found["avg_steps_per_trajectory"] = fmean(steps)
    if validity:
        found["avg_validity_score"] = fmean(validity)
    return found
