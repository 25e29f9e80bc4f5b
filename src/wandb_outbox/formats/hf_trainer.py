"""An output folder of the Hugging Face Trainer. ``training_args.bin`` is a pickle and is never loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import ClassVar

from wandb_outbox.errors import Rejected
from wandb_outbox.folder import read_file
from wandb_outbox.formats.common import ended_at, run_files, started_at
from wandb_outbox.formats.content import Content, Warn
from wandb_outbox.formats.history import trainer_history, trainer_totals
from wandb_outbox.formats.jsonfile import decode_plainly, read_object
from wandb_outbox.formats.logfile import logged_traceback, top_level_logs
from wandb_outbox.model import FileStat, FormatEvidence, JsonValue, PlanWarning, Snapshot

STATE = "trainer_state.json"
MODEL_CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ARGUMENTS = "training_args.bin"
_RESULTS = ("all_results.json", "train_results.json")
_PARTS = ("train_results.json", "eval_results.json", "predict_results.json", "test_results.json")
_MAX_READ = 4 * 1024 * 1024
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_STATE_OF_CHECKPOINT = re.compile(r"checkpoint-(\d+)/trainer_state\.json")
_WEIGHTS = re.compile(
    r".*\.(?:safetensors|bin|pt|pth|ckpt|h5|msgpack|gguf|onnx)|(?:model|pytorch_model|adapter_model)[^/]*\.index\.json"
)
_SESSION = re.compile(r"optimizer\.(?:pt|bin)|scheduler\.pt|scaler\.pt|rng_state[^/]*\.pth|global_step\d+/.*")
"""What a checkpoint holds for going on with the training, and no model needs."""
_MODEL_FILES = re.compile(
    r"(?:adapter_|generation_|preprocessor_|processor_|tokenizer_)?config\.json|tokenizer[^/]*|vocab[^/]*|merges\.txt|"
    r"special_tokens_map\.json|added_tokens\.json|[^/]*\.model|chat_template[^/]*|README\.md"
)
_SETTINGS = (
    "num_train_epochs", "max_steps", "train_batch_size", "logging_steps", "eval_steps", "save_steps",
    "is_hyper_param_search", "best_model_checkpoint", "trial_name", "trial_params",
)  # fmt: skip


class HfTrainer:
    """Training with ``transformers.Trainer``. A ``checkpoint-N`` inside is a part of it, never a run."""

    name: ClassVar[str] = "hf-trainer"

    def recognises(self, path: str, names: Collection[str]) -> bool:  # noqa: ARG002  names say it all
        """By the Trainer's own files, or by the checkpoints of a training that goes on."""
        return (
            STATE in names
            or any(name in names for name in _RESULTS)
            or any(_CHECKPOINT.fullmatch(name) for name in names)
        )

    def evidence(self, path: str, snapshot: Snapshot, marker: str | None) -> FormatEvidence:
        """Done by the last step, or by results that are not older than the newest checkpoint.

        Failed by a traceback, or by a last checkpoint before the last step with nothing saved after it.
        """
        done = marker or _done_by_steps(path, snapshot) or _done_by_results(path, snapshot)
        failed = None if done else logged_traceback(path, snapshot) or _unfinished(path, snapshot)
        logs = set(top_level_logs(snapshot))
        return FormatEvidence(
            done=done, failed=failed, nothing_to_show=all(file.path in logs for file in snapshot.files)
        )

    def read(self, path: str, snapshot: Snapshot) -> Content:
        """Settings, final metrics, and the log history with its steps."""
        warnings: list[PlanWarning] = []
        state_file = state_of(snapshot.files)
        state = read_object(path, snapshot, state_file, warnings.append, "unreadable-trainer-state") or {}
        config: dict[str, JsonValue] = {key: state[key] for key in _SETTINGS if state.get(key) is not None}
        model_file = MODEL_CONFIG if snapshot.file(MODEL_CONFIG) else state_file.replace(STATE, MODEL_CONFIG)
        model = read_object(path, snapshot, model_file, warnings.append, "unreadable-config")
        if model is not None:
            config["model_config"] = model
        logs = top_level_logs(snapshot)
        return Content(
            config=config,
            config_file=state_file,
            metrics={**trainer_totals(state), **(_final_metrics(path, snapshot, warnings.append) or {})} or None,
            metrics_file=_RESULTS[0],
            history=trainer_history(state),
            started_at=started_at(path, snapshot, logs[0] if logs else None),
            ended_at=ended_at(snapshot),
            run_files=run_files(snapshot, (*_RESULTS, *_PARTS, state_file, MODEL_CONFIG)),
            warnings=tuple(warnings),
        )


def state_of(files: Iterable[FileStat]) -> str:
    """The Trainer's state: of the folder itself, or, as long as it was not saved there, of the newest checkpoint.

    The Trainer writes it into every checkpoint, and at the top only when the script calls ``save_state``.
    """
    names = {file.path for file in files}
    of_checkpoints = [(int(found[1]), name) for name in names if (found := _STATE_OF_CHECKPOINT.fullmatch(name))]
    return STATE if STATE in names or not of_checkpoints else max(of_checkpoints)[1]


def holds_state(files: Iterable[FileStat]) -> bool:
    """Whether the Trainer left its state at the top or in a checkpoint there: so it does in folders of Hydra, too."""
    return any(file.path == STATE or _STATE_OF_CHECKPOINT.fullmatch(file.path) for file in files)


def is_checkpoint(name: str) -> bool:
    """Whether a directory of this name is one of the Trainer's checkpoints."""
    return _CHECKPOINT.fullmatch(name) is not None


def is_weight(path: str) -> bool:
    """Whether a file of a training's folder holds weights, by its name, or lies in a checkpoint."""
    if is_checkpoint(path.partition("/")[0]):
        return True
    return "/" not in path and path != ARGUMENTS and _WEIGHTS.fullmatch(path) is not None


def is_model_file(path: str) -> bool:
    """Whether a file, named as it is below the model's directory, belongs to a model that can be loaded."""
    if "/" in path or _SESSION.fullmatch(path):
        return False
    return (path != ARGUMENTS and _WEIGHTS.fullmatch(path) is not None) or _MODEL_FILES.fullmatch(path) is not None


def _small_object(path: str, snapshot: Snapshot, name: str) -> dict[str, JsonValue] | None:
    if snapshot.file(name) is None:
        return None
    try:
        value = decode_plainly(read_file(path, name, _MAX_READ))
    except (ValueError, Rejected):
        return None
    return value if isinstance(value, dict) else None


def _newest_state(snapshot: Snapshot) -> str:
    """The Trainer's state that was saved last: a training that is resumed leaves that of the session before at the top."""
    top = snapshot.file(STATE)
    saved = snapshot.file(state_of(file for file in snapshot.files if file.path != STATE))
    return STATE if saved is None or (top is not None and top.mtime_ns >= saved.mtime_ns) else saved.path


def _done_by_steps(path: str, snapshot: Snapshot) -> str | None:
    name = _newest_state(snapshot)
    state = _small_object(path, snapshot, name) or {}
    step, last = state.get("global_step"), state.get("max_steps")
    if isinstance(step, int) and isinstance(last, int) and 0 < last <= step:
        return f"{name} says step {step} of {last}"
    return None


def _unfinished(path: str, snapshot: Snapshot) -> str | None:
    """What the newest checkpoint says of a training that was killed, or ``None``.

    A training that stops early has it in its last checkpoint; a script that comes to its end saves model or state once more.
    """
    name = _newest_state(snapshot)
    if name == STATE:
        return None
    saved_ns = max(file.mtime_ns for file in snapshot.files if is_checkpoint(file.path.partition("/")[0]))
    if any(is_model_file(file.path) and file.mtime_ns > saved_ns for file in snapshot.files):
        return None
    state = _small_object(path, snapshot, name) or {}
    step, last = state.get("global_step"), state.get("max_steps")
    if not isinstance(step, int) or not isinstance(last, int) or step >= last or _stops(state):
        return None
    return f"{name} says step {step} of {last}, and nothing was saved after it"


def _stops(state: JsonValue) -> bool:
    for key in ("stateful_callbacks", "TrainerControl", "args", "should_training_stop"):
        state = state.get(key) if isinstance(state, dict) else None
    return state is True


def _done_by_results(path: str, snapshot: Snapshot) -> str | None:
    checkpoint = max(
        (file.mtime_ns for file in snapshot.files if _CHECKPOINT.fullmatch(file.path.partition("/")[0])), default=0
    )
    for name in _RESULTS:
        stat = snapshot.file(name)
        if stat is not None and stat.mtime_ns >= checkpoint and _small_object(path, snapshot, name) is not None:
            return f"{name} is there and not older than the newest checkpoint"
    return None


def _final_metrics(path: str, snapshot: Snapshot, warn: Warn) -> dict[str, JsonValue] | None:
    whole = read_object(path, snapshot, _RESULTS[0], warn, "unreadable-metrics")
    if whole is not None:
        return whole
    merged: dict[str, JsonValue] = {}
    for name in _PARTS:
        merged.update(read_object(path, snapshot, name, warn, "unreadable-metrics") or {})
    return merged or None
