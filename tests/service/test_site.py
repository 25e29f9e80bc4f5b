"""Which machine this is: run ids are made from it, so it must neither change nor be shared."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wandb_outbox.errors import DiskFull
from wandb_outbox.model import run_id
from wandb_outbox.outbox.location import StateDir, prepare_state_dir
from wandb_outbox.service import site as room
from wandb_outbox.service.site import find_site, known_site

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of these tests is on one machine, which is no container unless its environment says so."""
    monkeypatch.setattr(room, "_machine_id", lambda: "0123456789abcdef0123456789abcdef")
    monkeypatch.setattr(room, "in_container", lambda environ: bool(environ.get("KUBERNETES_SERVICE_HOST")))


def state(top: Path, name: str) -> StateDir:
    """A state directory."""
    made = StateDir(str(top / name))
    prepare_state_dir(made)
    return made


def test_pods_with_one_machine_id_and_one_path_are_two_sites(tmp_path: Path) -> None:
    """Each keeps its own over restarts, so that a folder at the same path is a run of its own in each, for ever."""
    one, two = state(tmp_path, "one"), state(tmp_path, "two")
    sites = [find_site(where, POD, None) for where in (one, two)]
    assert sites[0] != sites[1]
    assert [find_site(where, POD, None) for where in (one, two)] == sites
    assert len({run_id(site, "/outputs/run", 0) for site in sites}) == 2


def test_a_host_is_one_site_also_when_its_state_is_lost(tmp_path: Path) -> None:
    """It comes from the machine id, which itself does not leave the machine."""
    sites = {find_site(state(tmp_path, name), {}, None) for name in ("one", "two")}
    assert len(sites) == 1
    assert "0123456789abcdef" not in sites.pop()


def test_what_was_kept_counts_wherever_the_state_is_moved(tmp_path: Path) -> None:
    """A state directory of a pod that is mounted on a host, and one whose machine id changed, stay who they were."""
    where = state(tmp_path, "state")
    site = find_site(where, POD, None)
    assert find_site(where, {}, None) == known_site(where, {}, None) == site


def test_a_configured_name_wins_and_is_kept_nowhere(tmp_path: Path) -> None:
    """Taken out of the configuration again, it is the machine that counts."""
    where = state(tmp_path, "state")
    assert find_site(where, POD, "gpu-box-3") == "gpu-box-3"
    assert not os.path.exists(where.site)
    assert known_site(where, POD, None) is None


@pytest.mark.parametrize("left", ["", "\n"])
def test_a_process_that_died_while_it_was_written_leaves_no_half(tmp_path: Path, left: str) -> None:
    """What it left is written anew, once: a random site that is not kept would be another at each start."""
    where = state(tmp_path, "state")
    Path(where.site + ".new").write_text("deadbe")
    Path(where.site).write_text(left)
    site = find_site(where, POD, None)
    assert len(site) == 16
    assert find_site(where, POD, None) == site


def test_a_bad_disk_makes_no_new_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another one everything would be sent again: it is told, and tried again."""
    where = state(tmp_path, "state")
    site = find_site(where, POD, None)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", fail)
        with pytest.raises(DiskFull, match="Input/output error"):
            find_site(where, POD, None)
    assert find_site(where, POD, None) == site
