"""A plan as a person reads it."""

from __future__ import annotations

from pathlib import Path

from plan_makers import SAMPLE, Run

from wandb_outbox.model import FileStat, RootRules
from wandb_outbox.plan import plan_to_text
from wandb_outbox.plan.tree import MANY, file_tree


def _stat(path: str, size: int) -> FileStat:
    return FileStat(path, size, 0, 0, 0)


def test_files_are_a_tree_with_sizes() -> None:
    """Directories with what is in them, then the files beside them, by name."""
    files = [_stat("b.txt", 5), _stat("a/x", 1), _stat("a/deep/y", 2000), _stat("a.txt", 7)]
    assert list(file_tree(files)) == [
        (2001, "a/  (2 files)"),
        (2000, "  deep/  (1 file)"),
        (2000, "    y"),
        (1, "  x"),
        (7, "a.txt"),
        (5, "b.txt"),
    ]


def test_of_many_files_the_first_are_shown_and_all_are_counted() -> None:
    """A directory of a thousand checkpoints does not push everything else off the screen."""
    files = [_stat(f"all/{number:04}", 1) for number in range(1000)]
    files += [_stat(f"dir{number:03}/x", 1) for number in range(30)]
    lines = list(file_tree(files))
    assert lines[0] == (1000, "all/  (1,000 files)")
    assert lines[MANY + 1] == (None, f"  … and {1000 - MANY} more files")
    assert lines[-1] == (None, f"… and {31 - MANY} more directories")


def test_a_plan_tells_a_person_all_that_will_be_sent(tmp_path: Path) -> None:
    """Names with their sources, content, the tree, what is left out, and each broken rule with its severity and the fix."""
    run = (
        Run(tmp_path, "2025-12-03/x").put("results.json", [SAMPLE]).put(".env", "A=1").put("run_tts_eval.log", "one\n")
    )
    run.put("sample_metrics.jsonl", '{"sample_index": 0, "seconds": 2}\n').put("plots/x\n.gif", b"GIF89a\1\0\1\0")
    run.put("outbox.yaml", {"name": "Odd name", "tags": 3, "inputs": ["raw-data:v1"]})
    text = plan_to_text(run.ask(rules=RootRules(media=("plots/*",))).plan())
    for line in (
        "  project   llm-tts-eval-aime2025  [",
        "  name      Odd name  [outbox.yaml]",
        "  history   over sample_index: seconds",
        "  table     samples: 1 of 1 rows, ",
        "  image     plots/x\\n.gif: 10 bytes",
        "  log       run_tts_eval.log",
        "  input     raw-data:v1",
        "                10  plots/  (1 file)",
        "                10    x\\n.gif",
        "  left out  .env: could hold credentials",
        "  ERROR   outbox-yaml: outbox.yaml line 1: tags: expected a list or a text",
        "  warning name-pattern: found the name 'Odd name', which is not {strategy}_{model}_{backend}[_suffix]; ",
    ):
        assert any(each.startswith(line) for each in text.splitlines()), (line, text)
