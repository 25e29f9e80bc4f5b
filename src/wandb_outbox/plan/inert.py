"""A configuration that the SDK sends as it is: in some it changes keys, and some texts it acts upon."""

from __future__ import annotations

from collections.abc import Mapping

from wandb_outbox.formats.content import Warn, warning
from wandb_outbox.model import JsonValue

_ARTIFACT = "wandb-artifact://"
_TYPE = "_type"
_VERSION = "artifactVersion"


def inert(config: Mapping[str, JsonValue], warn: Warn) -> dict[str, JsonValue]:
    """The configuration without dashes at the ends of its outermost keys, and without references to artifacts.

    The SDK drops such dashes without a word. A reference it would follow, to whatever server it names, and make an
    input of the run; run data chooses no server, and inputs are said in ``outbox.yaml``.
    """
    found: dict[str, JsonValue] = {}
    lost: list[str] = []
    # A key that is the same already goes before one that would become it.
    for key in sorted(config, key=lambda key: key != key.strip("-")):
        name = key.strip("-")
        if name in found:
            lost.append(key)
        else:
            found[name] = config[key]
    if lost:
        message = (
            f"the SDK drops dashes at the ends of a configuration's keys; left out, for the names are taken: {lost[:5]}"
        )
        warn(warning("config-key-taken", message))
    ordered = {name: found[name] for name in dict.fromkeys(key.strip("-") for key in config)}
    changed = {name: _without_references(value) for name, value in ordered.items()}
    for name, value in changed.items():
        if isinstance(value, dict) and value.get(_TYPE) == _VERSION:
            changed[name] = {"type" if key == _TYPE else key: each for key, each in value.items()}
    if changed != ordered:
        message = (
            "the configuration refers to artifacts of W&B, which the SDK would fetch; these are sent as plain texts"
        )
        warn(warning("config-artifact", f"{message}; say inputs in outbox.yaml to have them in the lineage"))
    return changed


def _without_references(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return value.replace(_ARTIFACT, "wandb-artifact: ", 1) if value.startswith(_ARTIFACT) else value
    if isinstance(value, dict):
        return {key: _without_references(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_references(each) for each in value]
    return value
