"""A site of one's own, loaded by name, runs tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowlib
from flowlib import python_app
from flowlib.testing import fake_scheduler, wait_until

FILE = """\
name = "Ours"
scheduler = "slurm"
verified = 2026-01-31
setup = ["export PLANTED=by-the-site"]
launcher = "simple"
poll_seconds = 0.2

[executor]
address = "127.0.0.1"

[parameters.account]
help = "project that pays"
example = "p1"

[partition.short]
max_nodes = 4
walltime = "01:00:00"
workers = 1
"""


@python_app
def planted() -> str | None:
    """What the site's own lines put into the environment."""
    import os

    return os.environ.get("PLANTED")


def test_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in a job of the site's scheduler, after the site's lines, with the script's own Python."""
    sites = tmp_path / "sites"
    sites.mkdir()
    (sites / "ours.toml").write_text(FILE)
    monkeypatch.setenv("FLOWLIB_SITES", str(sites))
    monkeypatch.chdir(tmp_path)
    with fake_scheduler("slurm", tmp_path / "cluster", queues=["short"], accounts=["p1"]) as cluster:
        with flowlib.load("ours", account="p1", strategy_period=0.2):
            assert planted().result(50) == "by-the-site"
            assert len(cluster.jobs()) == 1
        wait_until(lambda: not cluster.alive())
