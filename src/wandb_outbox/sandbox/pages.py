"""Plain HTML pages, so that the addresses that W&B prints lead somewhere. No script, everything escaped."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from wandb_outbox.sandbox.store import Store
from wandb_outbox.sandbox.views import ArtifactView, RunView, artifact_views, run_view

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.2em 1em .2em 0;vertical-align:top;"
    "border-bottom:1px solid #ddd}pre{background:#f6f6f6;padding:1em;overflow:auto}"
    "h1{font-size:1.4em}h2{font-size:1.1em}"
)

_LOG_LINES = 200


def _page(title: str, *parts: str) -> str:
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<p><a href='/'>wandb-outbox sandbox</a></p><h1>{escape(title)}</h1>{''.join(parts)}"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return "<p>nothing yet</p>"
    return "<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + f"</tr>{body}</table>"


def _link(text: str, *path: str) -> str:
    return f"<a href='/{'/'.join(quote(part, safe='') for part in path)}'>{escape(text)}</a>"


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _run_rows(runs: Iterable[RunView]) -> Iterable[Sequence[str]]:
    for run in runs:
        yield (
            _link(run.display_name, run.entity, run.project, "runs", run.id),
            escape(run.state),
            escape(", ".join(run.tags)),
            str(len(run.history)),
            str(len(run.files)),
        )


def _artifact_rows(artifacts: Iterable[ArtifactView]) -> Iterable[Sequence[str]]:
    for each in artifacts:
        version = each.version or ""
        yield (
            _link(f"{each.name}:{version}", each.entity, each.project, "artifacts", each.type, each.name, version),
            escape(each.type),
            escape(each.state),
            escape(", ".join(each.aliases)),
            str(len(each.files)),
            str(each.size),
        )


def index(store: Store) -> str:
    """Return the page of all projects."""
    rows = (
        (_link(f"{each.entity}/{each.name}", each.entity, each.name), str(len(store.runs(each.entity, each.name))))
        for each in store.projects()
    )
    return _page("Projects", _table(["project", "runs"], rows))


def project(store: Store, entity: str, name: str) -> str | None:
    """Return the page of a project, or None if there is no such project."""
    if store.project(entity, name) is None:
        return None
    runs = [run_view(store, run) for run in store.runs(entity, name)]
    return _page(
        f"{entity}/{name}",
        "<h2>Runs</h2>",
        _table(["run", "state", "tags", "rows", "files"], _run_rows(runs)),
        "<h2>Artifacts</h2>",
        _table(
            ["artifact", "type", "state", "aliases", "files", "bytes"],
            _artifact_rows(artifact_views(store, entity, name)),
        ),
    )


def run(store: Store, entity: str, project_name: str, run_id: str) -> str | None:
    """Return the page of a run, or None if there is no such run."""
    found = store.run(entity, project_name, run_id)
    if found is None:
        return None
    view = run_view(store, found)
    facts = {
        "id": view.id, "project": f"{entity}/{project_name}", "state": view.state, "exit code": view.exit_code,
        "group": view.group, "job type": view.job_type, "tags": ", ".join(view.tags), "notes": view.notes,
        "history rows": len(view.history), "logged": ", ".join(view.logged_artifacts),
        "used": ", ".join(view.used_artifacts),
    }  # fmt: skip
    log = "\n".join(view.log[-_LOG_LINES:])
    return _page(
        view.display_name,
        _table(
            ["", ""], [(escape(key), escape(str(value))) for key, value in facts.items() if value not in (None, "")]
        ),
        "<h2>Summary</h2>",
        _json(view.summary),
        "<h2>Config</h2>",
        _json(view.config),
        "<h2>Files</h2>",
        _table(["file", "bytes"], [(escape(name), str(file.size)) for name, file in view.files.items()]),
        "<h2>Log</h2>",
        f"<pre>{escape(log)}</pre>",
    )


def artifact(store: Store, entity: str, project_name: str, name: str, version: str) -> str | None:
    """Return the page of an artifact version, or None if there is no such version."""
    for view in artifact_views(store, entity, project_name):
        if view.name == name and view.version == version:
            return _page(
                f"{name}:{version}",
                _table([], _artifact_rows([view])),
                "<h2>Metadata</h2>",
                _json(view.metadata),
                "<h2>Files</h2>",
                _table(["file", "bytes"], [(escape(path), str(file.size)) for path, file in view.files.items()]),
            )
    return None
