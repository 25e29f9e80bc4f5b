"""Tiny run folders, whose bytes differ from one another, and what the server must have of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

ROWS = 2
"""Rows of history in each folder."""

_CONFIG = """\
model: {{type: vllm, model_path: Qwen/Qwen3-8B}}
strategy: {{type: deepconf}}
dataset: {{data_name: {dataset}}}
generation: {{temperature: 0.6}}
system: {{seed: 42, name: {name}}}
"""


def make_folder(folder: Path, name: str, *, project: str = "gsm8k", padding: int = 0) -> Path:
    """One finished experiment; ``name`` goes into every file, so that no two folders hold the same bytes."""
    results = [
        {
            "index": index,
            "question": f"{name} {index}?" + "x" * padding,
            "gold_answer": str(index),
            "generated_trajectory": f"That is {index}.",
            "extracted_answer": str(index),
            "steps": ["one"],
            "validity_scores": [0.5],
            "completed": True,
            "is_correct": True,
            "eval": {"exact_match": {"is_correct": True}},
        }
        for index in range(ROWS)
    ]
    metrics = [{"sample_index": index, "confidence": index / 8, "of": name} for index in range(ROWS)]
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(_CONFIG.format(dataset=project, name=name))
    (folder / "run_tts_eval.log").write_text(
        f"[2025-12-03 11:30:00,123][__main__][INFO] - {name}: Evaluation completed successfully\n"
    )
    (folder / "sample_metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    (folder / "results.json").write_text(json.dumps(results))
    # Last, and by its name all at once: before it the folder is not finished.
    (folder / "metrics.new").write_text(json.dumps({"exact_match/accuracy": 1.0, "name": name}))
    (folder / "metrics.new").rename(folder / "metrics.json")
    return folder


def change_folder(folder: Path, number: int) -> None:
    """The experiment evaluates again: a new content of the same folder, with the same history."""
    (folder / "results.again").write_text(
        json.dumps([{**each, "again": number} for each in json.loads((folder / "results.json").read_text())])
    )
    (folder / "results.again").rename(folder / "results.json")
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.new").write_text(json.dumps({**metrics, "again": number}))
    (folder / "metrics.new").rename(folder / "metrics.json")


def md5s_of(folder: Path) -> dict[str, str]:
    """The MD5 of every file of a folder, by its path in it."""
    return {
        str(file.relative_to(folder)): hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@dataclass(frozen=True, slots=True)
class Trees:
    """What everything below a directory looked like: a write of anybody's would change it."""

    seen: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, *tops: Path) -> Trees:
        """Kind, size, inode, times of everything below these."""
        found: dict[str, tuple[int, ...]] = {}
        for top in tops:
            for path in (top, *sorted(top.rglob("*"))):
                info = path.lstat()
                found[str(path)] = (info.st_mode, info.st_size, info.st_ino, info.st_mtime_ns, info.st_ctime_ns)
        return cls(found)

    def changes_in(self, later: Trees) -> list[str]:
        """What was changed, came or went since."""
        return [
            f"{path} was changed on disk"
            for path in sorted(self.seen.keys() | later.seen.keys())
            if self.seen.get(path) != later.seen.get(path)
        ]
