"""A site of one's own, loaded by name, runs tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowlib
from flowlib import python_app
from tests.providers.fakes.cluster import Cluster, wait

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
    cluster = Cluster("slurm", tmp_path)
    try:
        for name, value in {**cluster.environment, "FLOWLIB_SITES": str(sites)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        with flowlib.load("ours", account="p1", strategy_period=0.2):
            assert planted().result(50) == "by-the-site"
            assert len(cluster.jobs()) == 1
        wait(lambda: not cluster.alive())
    finally:
        cluster.close()
