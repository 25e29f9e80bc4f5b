"""The experiment's log as the output of its run: in W&B's Logs tab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import wandb
from arrivals import Way
from opened_runs import remember_opened

from wandb_outbox.deliver import send
from wandb_outbox.deliver.outcome import Stage
from wandb_outbox.demo.writer import Experiment, write_run
from wandb_outbox.errors import OutboxError
from wandb_outbox.formats.logfile import CONSOLE_LINES, CONSOLE_WIDTH, console_lines
from wandb_outbox.sandbox import Fault, RunView, Sandbox

pytest_plugins = ("arrives_fixtures",)

LOG = "run_tts_eval.log"


def shown(run: RunView) -> list[str]:
    """The lines that the Logs tab has."""
    return [json.loads(line)["content"] for line in run.log]


def test_the_log_is_the_output_of_the_run(sandbox: Sandbox, tmp_path: Path) -> None:
    """Every line in its order, with its own times; no measurements of the machine that uploads."""
    way = Way(sandbox, tmp_path)
    write_run(str(way.path), Experiment(samples=6))
    way.put("stderr.log", "a warning\n" * 200)
    run = way.arrived(way.deliver())
    assert shown(run) == (way.path / LOG).read_text().splitlines()
    assert run.files.keys() >= {LOG, "stderr.log"}
    state = sandbox_events(sandbox, run)
    assert state == []


def sandbox_events(sandbox: Sandbox, run: RunView) -> list[Any]:
    """What the run has of system metrics, as the public API gives it."""
    api = wandb.Api(overrides={"base_url": sandbox.url}, api_key=sandbox.api_key)
    return list(api.run(f"{run.entity}/{run.project}/{run.id}").history(stream="system", pandas=False))


def test_sent_again_no_line_comes_twice(sandbox: Sandbox, tmp_path: Path) -> None:
    """A folder that changed, and a log that went on: only what is new is added."""
    way = Way(sandbox, tmp_path).put(LOG, "one\n\ntwo\n")
    way.deliver()
    assert shown(way.arrived(way.put("more", "1").deliver())) == ["one", "", "two"]
    run = way.arrived(way.put(LOG, "one\n\ntwo\nthree\n").deliver())
    assert shown(run) == ["one", "", "two", "three"]
    assert run.summary["outbox/delivered"]["log"]["lines"] == 4


def test_empty_lines_are_lines_where_something_follows(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a log W&B shows none; they come with what is written below them later."""
    monkeypatch.setattr(send, "READ_BACK_FOR", 0.5)
    monkeypatch.setattr(send, "LINES_AT_ONCE", 2)
    way = Way(sandbox, tmp_path)
    for text, lines in (
        ("\n\n\n", []),
        ("\n\n\none\n\n\ntwo\n \n\n", ["", "", "", "one", "", "", "two"]),
        ("\n\n\none\n\n\ntwo\n \n\nthree\n\n", ["", "", "", "one", "", "", "two", " ", "", "three"]),
    ):
        receipt = way.put(LOG, text).deliver()
        assert shown(way.arrived(receipt)) == lines
        assert not any(warning.startswith("log-frozen") for warning in receipt.warnings)


@pytest.mark.parametrize("text", ["one\n", "uno\ntwo\n", "uno\ntwo\nthree\n"])
def test_another_log_is_not_mixed_with_the_first(sandbox: Sandbox, tmp_path: Path, text: str) -> None:
    """The server only takes more lines: a log that was begun anew is in the files, and the receipt says so."""
    way = Way(sandbox, tmp_path).put(LOG, "one\ntwo\n")
    way.deliver()
    for _ in range(2):
        receipt = way.put(LOG, text).put("more", text + str(_)).deliver()
        assert shown(way.arrived(receipt)) == ["one", "two"]
        assert any(warning.startswith("log-frozen") for warning in receipt.warnings)


def test_a_delivery_that_broke_off_is_continued(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines went, and the artifact did not: the next attempt sends none of them again."""
    opened = remember_opened(monkeypatch)
    way = Way(sandbox, tmp_path).put(LOG, "".join(f"line {number}\n" for number in range(1234)))

    def break_off(stage: str) -> None:
        if stage == Stage.ARTIFACT.value:
            sandbox.inject(Fault("CreateArtifact", "status", status=400))

    with pytest.raises(OutboxError):
        way.deliver(break_off)
    # In life the uploader's process ends here, and the open run with it.
    sandbox.clear_faults()
    opened[-1].finish()
    assert shown(way.arrived(way.deliver())) == [f"line {number}" for number in range(1234)]


def test_what_holds_a_secret_is_not_shown(sandbox: Sandbox, tmp_path: Path) -> None:
    """A log with a key in it stays here, as a file and as output."""
    way = Way(sandbox, tmp_path).put(".hydra/config.yaml", "model: {api_key: sk-abcdefghijklmnopqrstuv}\n")
    run = way.arrived(way.put(LOG, "Command: model.api_key=sk-abcdefghijklmnopqrstuv\n").deliver())
    assert shown(run) == []
    assert LOG not in run.files


def test_odd_logs_are_lines(tmp_path: Path) -> None:
    """Progress bars, colours, control characters, bytes that are no text, and lines without an end."""
    text = (
        b" 1%\r 50%\r100%\nred \x1b[31mword\x1b[0m\tx\nbell\x07 \xff\xe2\x80\xa8.\r\n"
        + b"x" * 200_000
        + b"\n"
        + b"y" * 70_000
    )
    (tmp_path / "log").write_bytes(text + b"\r" + b"end")
    lines, left_out = console_lines(str(tmp_path), "log")
    assert lines[:3] == ["100%", "red \x1b[31mword\x1b[0m\tx", "bell  \ufffd ."]
    assert lines[3] == "x" * (CONSOLE_WIDTH - 1) + "…"
    assert lines[4:] == ["end"]
    assert left_out == 0


def test_a_long_log_loses_its_middle(sandbox: Sandbox, tmp_path: Path) -> None:
    """Beginning and end are shown, and how much is not."""
    way = Way(sandbox, tmp_path).put(LOG, "".join(f"{number}\n" for number in range(CONSOLE_LINES + 5)))
    receipt = way.deliver()
    lines = shown(way.arrived(receipt))
    half = CONSOLE_LINES // 2
    assert lines[:half] == [str(number) for number in range(half)]
    assert lines[half] == "[... 5 lines are left out here; the whole log is in the artifact]"
    assert lines[half + 1 :] == [str(number) for number in range(half + 5, CONSOLE_LINES + 5)]
    assert any(warning.startswith("log-cut: 5 lines") for warning in receipt.warnings)
