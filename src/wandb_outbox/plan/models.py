"""The model that a training of Hugging Face's Trainer left: which files it is, and what it says of itself unopened.

Weights are no results: they are large, and most of them (checkpoints, the optimizer's state) nobody fetches again. So they
are not part of the folder's artifact; ``log_model`` of the root says which of them are sent, as an artifact of type ``model``.
No weights and no pickle are ever opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wandb_outbox import formats
from wandb_outbox.formats.content import Content, Warn, warning
from wandb_outbox.formats.hf_trainer import (
    ADAPTER_CONFIG,
    MODEL_CONFIG,
    is_checkpoint,
    is_model_file,
    is_weight,
    state_of,
)
from wandb_outbox.formats.jsonfile import read_object
from wandb_outbox.model import FileStat, JsonValue, PlannedArtifact, PlanRequest, PlanWarning, Severity, Snapshot
from wandb_outbox.plan import limits
from wandb_outbox.plan.jsonsafe import json_safe
from wandb_outbox.plan.params_meta import META, PARAMS

BEST, END, NONE = "best", "end", "none"
LEFT_OUT = f"weights or a checkpoint: see log_model ({NONE}, {BEST} or {END} for its root)"
_DATASET_KEYS = ("dataset", "dataset_name", "hf_dataset_path")


def model_artifact(
    request: PlanRequest,
    snapshot: Snapshot,
    content: Content,
    files: Sequence[FileStat],
    config: Mapping[str, JsonValue],
    inputs: Sequence[str],
    name: str,
    warn: Warn,
) -> PlannedArtifact | None:
    """The artifact of type ``model`` that ``log_model`` asks for, or ``None``; a plan says what is not sent, and how it is.

    ``name`` is that of the folder's artifact, ``config`` the run's, ``inputs`` the artifacts that it used.
    """
    wanted = request.rules.log_model
    weights = formats.weights_of(request.format, files)
    if not weights:
        return None
    if wanted == NONE:
        size = sum(file.size for file in files if file.path in weights)
        words = f"{len(weights)} files of weights and checkpoints ({size:,} bytes) are not sent"
        warn(PlanWarning("weights-left-out", Severity.NOTE, f'{words}; set log_model = "best" or "end" for the root'))
        return None
    state_file = state_of(files)
    state = read_object(request.path, snapshot, state_file, warn, "unreadable-trainer-state") or {}
    checkpoint = str(state.get("best_model_checkpoint") or "").rstrip("/").rpartition("/")[2]
    if wanted == BEST and not is_checkpoint(checkpoint):
        warn(
            warning(
                "model-not-found", f"log_model = {BEST}, but {state_file} names no best checkpoint; set it to {END}"
            )
        )
        return None
    top = f"{checkpoint}/" if wanted == BEST else ""
    chosen = tuple(file for file in files if file.path.startswith(top) and is_model_file(file.path.removeprefix(top)))
    if not any(is_weight(file.path.removeprefix(top)) for file in chosen):
        where = checkpoint if wanted == BEST else "the folder itself"
        warn(warning("model-not-found", f"log_model = {wanted}, but there are no weights in {where}; no model is sent"))
        return None
    model_config = read_object(request.path, snapshot, f"{top}{MODEL_CONFIG}", warn, "unreadable-config") or {}
    adapter = read_object(request.path, snapshot, f"{top}{ADAPTER_CONFIG}", warn, "unreadable-config") or {}
    if base := adapter.get("base_model_name_or_path"):
        # Of a LoRA and the like only the adapter is trained: what it was put onto is the base.
        model_config = {**model_config, "_name_or_path": base}
    return PlannedArtifact(
        name=limits.fit_artifact(f"model-{name.removeprefix('outputs-')}", warn),
        type="model",
        description=f"The {'best checkpoint' if wanted == BEST else 'model at the end'} of the training",
        metadata=limits.fit_metadata(
            json_safe(
                {
                    "config": dict(config),
                    **_metadata(request, model_config, state, content.metrics or {}, config, inputs),
                }
            ),
            "the model",
            warn,
        ),
        aliases=("latest", BEST, checkpoint) if wanted == BEST else ("latest", END),
        files=chosen,
        below=top,
    )


def _metadata(
    request: PlanRequest,
    model_config: Mapping[str, JsonValue],
    state: Mapping[str, JsonValue],
    metrics: Mapping[str, JsonValue],
    config: Mapping[str, JsonValue],
    inputs: Sequence[str],
) -> dict[str, JsonValue]:
    """What the guide asks of a model's metadata, as far as the folder says it."""
    labels = model_config.get("id2label")
    named = {
        "base_model": model_config.get("_name_or_path"),
        "dataset": inputs[0] if inputs else _dataset(config),
        "run_id": request.run_id,
        "num_labels": len(labels) if isinstance(labels, Mapping) else None,
        "id2label": labels,
        "label2id": model_config.get("label2id"),
        "best_metric": state.get("best_metric"),
        "best_model_checkpoint": state.get("best_model_checkpoint"),
        "model_type": model_config.get("model_type"),
        "architectures": model_config.get("architectures"),
        "framework": "transformers",
        "transformers_version": model_config.get("transformers_version"),
    }
    validation = {
        f"val_{key.removeprefix('eval_')}": value
        for key, value in metrics.items()
        if key.startswith("eval_") and isinstance(value, int | float)
    }
    return {**{key: value for key, value in named.items() if value not in (None, "", [], {})}, **validation}


def _dataset(config: Mapping[str, JsonValue]) -> JsonValue:
    for holder in (config, config.get(PARAMS), config.get(META)):
        for key in _DATASET_KEYS if isinstance(holder, Mapping) else ():
            if isinstance(holder, Mapping) and isinstance(holder.get(key), str):
                return holder[key]
    return None
