"""Secrets never leave the machine, and what only looks like one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from plan_makers import CONFIG, SAMPLE, Run, rules

from wandb_outbox.model import Overrides, Plan
from wandb_outbox.plan import plan_to_json
from wandb_outbox.plan.secrets import Secrets, find_secrets, is_secret_key, masked_config, masked_override

KEY = "Zq8-very/private+value=="


def _everything(plan: Plan) -> str:
    return json.dumps([plan_to_json(plan), plan.tables[0].rows if plan.tables else [], plan.history], default=str)


def _left_out(plan: Plan) -> list[str]:
    return [each.path for each in plan.excluded if each.reason.startswith("holds a secret")]


def test_a_key_given_as_an_override_never_leaves(tmp_path: Path) -> None:
    """It stands in three YAML files and in the log's command line; the rest of the folder is sent."""
    run = Run(tmp_path).put(".hydra/config.yaml", {**CONFIG, "model": {**CONFIG["model"], "api_key": KEY}})
    run.put(".hydra/overrides.yaml", [f"model.api_key={KEY}"])
    run.put(".hydra/hydra.yaml", {"hydra": {"overrides": {"task": [f"model.api_key={KEY}"]}}})
    run.put("run_tts_eval.log", f"[2025-12-03 10:00:00,1][__main__][INFO] - Command: run.py model.api_key={KEY}\n")
    run.put("results.json", [{**SAMPLE, "echo": f"I was told {KEY}"}]).put("stderr.log", "fine").put("metrics.json", {})
    plan = run.ask(overrides=Overrides(notes=f"with {KEY}")).plan()
    assert KEY not in _everything(plan)
    assert plan.config["model"]["api_key"] == "***"
    assert plan.artifacts[0].metadata["provenance"]["overrides"] == ["model.api_key=***"]
    holding = [".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "results.json", "run_tts_eval.log"]
    assert _left_out(plan) == holding
    assert [file.path for file in plan.artifacts[0].files] == ["metrics.json", "stderr.log"]
    assert plan.run_files == ("metrics.json", "stderr.log")
    assert "secret-left-out" in rules(plan)
    assert plan.name == "deepconf_qwen3-8b_vllm"


def test_a_key_that_only_the_launcher_knows_is_found(tmp_path: Path) -> None:
    """hydra.job.env_set can hold keys that the experiment's own configuration does not."""
    run = Run(tmp_path).put(".hydra/hydra.yaml", {"hydra": {"job": {"env_set": {"WANDB_API_KEY": "a1" * 20}}}})
    assert _left_out(run.plan()) == [".hydra/hydra.yaml"]


def test_a_key_among_the_metrics_never_leaves(tmp_path: Path) -> None:
    """A script that dumps its arguments beside its numbers; numbers under such a name are numbers."""
    run = Run(tmp_path).put("metrics.json", {"acc": 0.5, "api_key": KEY, "secret": 1234567}).put("stderr.log", "fine")
    plan = run.plan()
    assert KEY not in _everything(plan)
    assert (plan.summary["acc"], plan.summary["secret"]) == (0.5, 1234567)
    assert _left_out(plan) == ["metrics.json"]


def test_the_key_that_delivers_never_leaves(tmp_path: Path) -> None:
    """An experiment that prints its environment puts it into a log; nothing in its configuration tells."""
    own = "0123456789abcdef" * 2 + "01234567"
    run = Run(tmp_path).put("env.txt", f"WANDB_API_KEY={own}\n").put("results.json", [{**SAMPLE, "echo": own}])
    run.put("stderr.log", "fine")
    plan = run.plan(own_secrets=[own])
    assert own not in _everything(plan)
    assert _left_out(plan) == ["env.txt", "results.json"]
    assert rules(plan).count("secret-left-out") == 1
    for name in ("env.txt", "results.json"):
        (run.path / name).unlink()
    assert "secret-left-out" not in rules(run.plan(own_secrets=[own]))


def test_a_short_password_is_searched_behind_its_key(tmp_path: Path) -> None:
    """The word itself stands in innocent files, too."""
    run = Run(tmp_path).put(".hydra/config.yaml", {**CONFIG, "db": {"password": "test"}})
    run.put(".hydra/overrides.yaml", ["db.password=test"]).put("stderr.log", "a test")
    plan = run.plan()
    assert _left_out(plan) == [".hydra/config.yaml", ".hydra/overrides.yaml"]
    assert plan.config["db"]["password"] == "***"
    assert plan.artifacts[0].metadata["provenance"]["overrides"] == ["db.password=***"]


def test_a_key_across_the_pieces_of_a_large_file_is_found(tmp_path: Path) -> None:
    """Files are searched as a stream."""
    run = Run(tmp_path).put(".hydra/config.yaml", {**CONFIG, "api_key": KEY})
    run.put("big.jsonl", b"x" * (4 * 1024 * 1024 - 10) + KEY.encode() + b"y" * 10)
    assert "big.jsonl" in _left_out(run.plan())


def test_a_folder_without_secrets_is_sent_whole(tmp_path: Path) -> None:
    """Real configurations have api_key: null and a continuation token."""
    config = {**CONFIG, "model": {"api_key": None}, "strategy": {"type": "x", "continuation_token": "\nWait, "}}
    plan = Run(tmp_path).put(".hydra/config.yaml", config).put("results.json", [SAMPLE]).plan()
    assert _left_out(plan) == []
    assert plan.config["strategy"]["continuation_token"] == "\nWait, "
    assert len(plan.artifacts[0].files) == 2


@pytest.mark.parametrize(
    "key",
    ["api_key", "apikey", "apiKey", "OPENAI_API_KEY", "openai_api_key_2", "token", "hf_token", "authToken", "secret",
     "client_secret", "password", "passwd", "db_password", "credential", "credentials", "private_key", "access_key",
     "aws_secret_access_key", "authorization", "Authorization"],
)  # fmt: skip
def test_keys_that_name_secrets(key: str) -> None:
    """By their last words, however they are joined."""
    assert is_secret_key(key, "abcdefgh")


@pytest.mark.parametrize(
    "key",
    ["max_tokens", "token_count", "num_tokens", "stop_token_ids", "pad_token", "eos_token", "continuation_token",
     "tokens", "tokenizer", "key", "keyboard", "secretary", "api_key_env", "passwords_allowed",
     "model", "", "42", "author"],
)  # fmt: skip
def test_keys_that_only_look_like_it(key: str) -> None:
    """Counts and vocabulary are no secrets."""
    assert not is_secret_key(key, "abcdefgh")


@pytest.mark.parametrize("value", [4096, None, True, 0.5, "\nWait, now"])
def test_a_token_is_a_secret_only_as_a_word(value: object) -> None:
    """Numbers and sentences under the key token are none."""
    assert not find_secrets({"token": value})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "null",
        "None",
        "***",
        "EMPTY",
        "dummy",
        "${oc.env:API_KEY}",
        "<your key>",
        "OPENAI_API_KEY",
        "$HF_TOKEN",
        "xxx",
    ],
)
def test_placeholders_are_no_secrets(value: str) -> None:
    """Masking EMPTY would cost every vLLM run its configuration."""
    assert not find_secrets({"api_key": value})
    assert masked_override(f"model.api_key={value}") == f"model.api_key={value}"


@pytest.mark.parametrize(
    "value",
    [
        "sk-" + "aB3" * 10,
        "hf_" + "aB3" * 10,
        "AKIA" + "ABCD" * 4,
        "ghp_" + "aB3" * 12,
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "https://me:pa55word@host/v1",
        "WANDB_API_KEY=" + "0a" * 20,
    ],
)
def test_well_known_shapes_are_secrets_under_any_key(value: str) -> None:
    """A key that somebody put under an innocent name is masked all the same."""
    secrets = find_secrets({"x": {"y": [value]}})
    assert secrets
    assert secrets.found[0][1] not in str(masked_config({"x": {"y": [value]}}, secrets))


def test_headers_and_nested_secrets_are_masked() -> None:
    """The part behind Bearer is the key; everything below a key named secret is one."""
    config: dict[str, Any] = {
        "headers": {"Authorization": "Bearer abcdef123456"},
        "secrets": {"a": ["first-one", 1], "pin": 12345678},
        "url": "http://x?k=abcdef123456",
    }
    masked = masked_config(config, find_secrets(config))
    assert masked == {
        "headers": {"Authorization": "***"},
        "secrets": {"a": ["***", 1], "pin": "***"},
        "url": "http://x?k=***",
    }


def test_secrets_do_not_show_themselves() -> None:
    """A log line or a traceback that prints them shows how many, never what."""
    assert KEY not in repr(Secrets((("api_key", KEY),)))
    assert KEY not in str(Secrets((("api_key", KEY),)))
