"""The parts of docs/conventions.md that are made from the code. Run as a script, it writes them anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hydra_shapes import CONFIGS

from wandb_outbox.plan.checklist import RULES
from wandb_outbox.plan.conventions import decide
from wandb_outbox.plan.facts import Facts

PAGE = Path(__file__).parents[2] / "docs" / "conventions.md"


def facts_of(config: dict[str, object]) -> Facts:
    """A run of this configuration, in a folder of the guide's own name."""
    return Facts(config=config, below_root=("2025-12-03", "run_name"), format="llm-tts", root="/outputs")


def names_table() -> str:
    """What the configurations become."""
    lines = ["| what is special | config | project | name | tags |", "| --- | --- | --- | --- | --- |"]
    for title, config in CONFIGS.items():
        names = decide(facts_of(config))
        # The outer braces say nothing, and a bar would end the cell.
        shown = re.sub(r'"(\w+)":', r"\1:", json.dumps(config)[1:-1])
        tags = " ".join(f"`{tag}`" for tag in names.tags)
        lines.append(f"| {title} | `{shown}` | `{names.project}` | `{names.name}` | {tags} |")
    return "\n".join(lines)


def rules_table() -> str:
    """The rules of the checklist."""
    lines = ["| rule | severity | asks that | in |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {rule.severity.value} | {rule.meaning} | {rule.conventions} |" for name, rule in RULES.items()
    ]
    return "\n".join(lines)


def rendered(page: str) -> str:
    """The page with its tables as they are now."""
    for name, table in (("names", names_table()), ("rules", rules_table())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def blocks(language: str) -> list[str]:
    """The code blocks of the page in this language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
