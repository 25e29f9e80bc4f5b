"""A plan as ``wandb-outbox plan`` shows it to a person: names, content, file tree with sizes, and what is wrong."""

from __future__ import annotations

from wandb_outbox.model import Plan, Severity
from wandb_outbox.plan.jsonsafe import safe_text
from wandb_outbox.plan.tree import file_tree

_MARKS = {Severity.NOTE: "note   ", Severity.WARNING: "warning", Severity.ERROR: "ERROR  "}
_MANY = 40
_LINES = 200


def plan_to_text(plan: Plan) -> str:
    """Some lines of text without a newline at the end. Each named value says in brackets where it came from."""
    lines = [
        _shown(plan.path),
        f"  {plan.format} folder, convention {plan.convention}; {plan.verdict}: {_shown(plan.reason)}",
    ]
    fields = (
        ("entity", plan.entity or "the default of the API key"),
        ("project", plan.project),
        ("name", plan.name),
        ("group", plan.group),
        ("job_type", plan.job_type),
        ("tags", ", ".join(plan.tags)),
        ("notes", plan.notes),
    )
    for name, value in fields:
        if value:
            source = f"  [{plan.sources[name]}]" if name in plan.sources else ""
            lines.append(f"  {name:<9} {_shown(value)}{source}")
    lines.append(f"  run id    {plan.run_id}  [{plan.sources['id']}]")
    lines.append(
        f"  content   {len(plan.config)} config keys, {len(plan.summary)} summary keys, {len(plan.history)} history steps"
    )
    for axis in dict.fromkeys(plan.axes.values()):
        drawn = [metric for metric, over in plan.axes.items() if over == axis]
        more = f" and {len(drawn) - 5} more" if len(drawn) > 5 else ""
        lines.append(f"  history   over {_shown(axis)}: {_shown(', '.join(drawn[:5]))}{more}")
    lines += [
        f"  table     {table.name}: {len(table.rows)} of {table.total_rows} rows, {len(table.columns)} columns"
        for table in plan.tables
    ]
    lines += [f"  {shown.kind:<9} {_shown(shown.key)}: {shown.file.size:,} bytes" for shown in plan.media]
    if plan.log:
        lines.append(f"  log       {_shown(plan.log)}")
    lines += [f"  input     {_shown(name)}" for name in plan.inputs]
    for artifact in plan.artifacts:
        lines.append(
            f"  artifact  {artifact.name} ({artifact.type}): {len(artifact.files)} files, {artifact.bytes:,} bytes"
        )
        tree = list(file_tree(artifact.files))
        lines += [f"    {'' if size is None else f'{size:,}':>14}  {_shown(text)}" for size, text in tree[:_LINES]]
        if len(tree) > _LINES:
            lines.append(f"    {'':>14}  … and {len(tree) - _LINES:,} more lines")
    lines += [f"  left out  {_shown(excluded.path)}: {excluded.reason}" for excluded in plan.excluded[:_MANY]]
    lines += [f"  {_MARKS[warning.severity]} {warning.rule}: {_shown(warning.message)}" for warning in plan.warnings]
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Names come from anywhere: control characters must not reach the terminal, nor a newline make two lines of one."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in safe_text(text))
