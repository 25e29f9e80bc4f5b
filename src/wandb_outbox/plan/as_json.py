"""A plan as ``wandb-outbox plan --json`` shows it."""

from __future__ import annotations

from wandb_outbox.model import JsonValue, Plan
from wandb_outbox.plan.jsonsafe import json_safe, safe_text


def plan_to_json(plan: Plan) -> dict[str, JsonValue]:
    """One entry of ``plans`` in the output of ``plan --json``, ready for ``json.dumps``."""
    return {
        "path": safe_text(plan.path),
        "format": plan.format,
        "kind": plan.kind.value,
        "verdict": plan.verdict,
        "reason": safe_text(plan.reason),
        "entity": plan.entity,
        "project": plan.project,
        "name": plan.name,
        "group": plan.group,
        "job_type": plan.job_type,
        "tags": list(plan.tags),
        "notes": plan.notes,
        "id": plan.run_id,
        "config": json_safe(plan.config),
        "summary": json_safe(plan.summary),
        "history_steps": len(plan.history),
        "tables": [
            {"name": table.name, "rows": len(table.rows), "columns": list(table.columns)} for table in plan.tables
        ],
        "media": [{"key": shown.key, "kind": shown.kind, "bytes": shown.file.size} for shown in plan.media],
        "artifacts": [
            {
                "name": artifact.name,
                "type": artifact.type,
                "metadata": json_safe(artifact.metadata),
                "files": len(artifact.files),
                "bytes": artifact.bytes,
            }
            for artifact in plan.artifacts
        ],
        "inputs": list(plan.inputs),
        "run_files": list(plan.run_files),
        "excluded": [{"path": safe_text(excluded.path), "reason": excluded.reason} for excluded in plan.excluded],
        "sources": dict(plan.sources),
        "warnings": [
            {"rule": warning.rule, "severity": warning.severity.value, "message": safe_text(warning.message)}
            for warning in plan.warnings
        ],
    }
