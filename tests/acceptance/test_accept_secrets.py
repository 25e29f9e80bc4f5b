"""Nothing leaves the machine that should not."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from pathlib import Path

import pytest
import run_folders
from acceptance_bench import Bench, alone_on_a_bench, artifact_of
from run_folders import Recipe

pytest_plugins = ("acceptance_fixtures",)
pytestmark = pytest.mark.usefixtures("side_by_side")

SECRET = "fe0c7b1d93aa4bd2b1c5"
OTHER = "hf_" + "Qx7" * 8


def _bytes_on_server(directory: Path) -> dict[str, bytes]:
    """Everything that the server keeps, unpacked."""
    found = {}
    for file in directory.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            with contextlib.suppress(OSError, EOFError, zlib.error):
                data += gzip.decompress(data)
            found[str(file)] = data
    return found


@alone_on_a_bench
def test_secrets_of_an_experiment_stay_here(bench: Bench) -> None:
    """A key in Hydra's config, overrides and log reaches no blob, no run and no word; what held it is left out, said so."""
    recipe = Recipe(
        model={"type": "openai_api", "model_path": "gpt-4o", "api_key": SECRET},
        more={"hub": {"token": OTHER}, "database": "postgres://me:pa55wordpa55@db/x"},
        overrides=(f"model.api_key={SECRET}", "dataset.subset=4"),
    )
    folder = run_folders.make(bench.outputs / "2025-12-03/run", recipe)
    (folder / ".env").write_text(f"OPENAI_API_KEY={SECRET}")
    (folder / "id_rsa").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    outside = bench.top / "private.txt"
    outside.write_text("do-not-send-this")
    (folder / "link.txt").symlink_to(outside)
    (folder / "up").symlink_to(bench.top)
    done = bench.run("flush", bench.outputs)
    assert (done.code, done.out) == (0, "1 uploaded\n"), done
    (run,) = bench.server.runs()
    artifact = artifact_of(bench.server, run)
    left_out = {".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml", run_folders.LOG}
    assert set(artifact.files) == set(run_folders.FILES) - left_out
    assert left_out & set(run.files) == set()
    assert run.config["model"] == {**recipe.config["model"], "api_key": "***"}
    assert run.config["hub"] == {"token": "***"}
    shown = bench.run("show", run.id).out
    assert "secret-left-out" in shown
    planned = bench.run("plan", folder, "--json").out
    said = "\n".join((str(bench.server.runs()), str(bench.server.artifacts()), shown, planned, done.err))
    kept = _bytes_on_server(bench.server.directory)
    assert len(kept) > len(artifact.files)
    for secret in (SECRET, OTHER, "pa55wordpa55", "BEGIN OPENSSH", "do-not-send-this"):
        assert secret not in said
        assert [file for file, data in kept.items() if secret.encode() in data] == []


@alone_on_a_bench
def test_our_own_key_stays_here(bench: Bench) -> None:
    """A config that asks for the environment gets no answer: our own key is in nothing that is sent or kept."""
    wanted = {"wandb": "${oc.env:WANDB_API_KEY}", "home": "${oc.env:HOME}"}
    run_folders.make(bench.outputs / "2025-12-03/run", Recipe(more={"asks": wanted}))
    key = bench.server.api_key.encode()
    done = bench.run("flush", bench.outputs, environ={"WANDB_OUTBOX_LOG_LEVEL": "debug"})
    assert done.code == 0, done
    (run,) = bench.server.runs()
    assert run.config["asks"] == wanted
    kept = _bytes_on_server(bench.server.directory) | _bytes_on_server(bench.state)
    assert any(file.endswith("outbox.db") for file in kept)
    assert [file for file, data in kept.items() if key in data] == []
    assert key.decode() not in done.out + done.err
