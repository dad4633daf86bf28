"""From choices to a configuration: what is asked for arrives, what cannot be is refused with what can."""

from __future__ import annotations

from typing import Any

import pytest

from flowlib.configs import build
from flowlib.errors import ConfigurationError
from flowlib.sites.choices import configuration
from flowlib.sites.site import read_site
from tests.sites.golden import site_of


def executor(name: str, **chosen: Any) -> Any:
    """The executor for a site."""
    return build(name, **chosen).executors[0]


def refusal(name: str, **chosen: Any) -> str:
    """What is said to choices that cannot be."""
    with pytest.raises(ConfigurationError) as caught:
        configuration(site_of(name), chosen)
    return str(caught.value)


def test_frontier() -> None:
    """Account, nodes and time reach the provider; managers pin one worker to each accelerator."""
    htex = executor("frontier", account="abc123", nodes=100, walltime="5h", blocks=2, worker_init="module load x")
    provider = htex.provider
    assert type(provider).__name__ == "SlurmProvider"
    assert (provider.partition, provider.account, provider.nodes_per_block) == ("batch", "abc123", 100)
    assert (provider.walltime, provider.max_blocks, provider.worker_init) == ("05:00:00", 2, "module load x")
    assert (htex.label, htex.max_workers_per_node, len(htex.available_accelerators)) == ("frontier", 8, 8)
    assert htex.cpu_affinity.startswith("list:49-55:")
    assert "-c 56" in provider.launcher.overrides


def test_anything_else_goes_where_it_belongs() -> None:
    """Parameters of the provider, the executor and Config are taken by their own names."""
    config = build("frontier", account="a", cmd_timeout=99, heartbeat_period=7, retries=3, min_blocks=1)
    htex: Any = config.executors[0]
    assert (config.retries, htex.heartbeat_period, htex.provider.cmd_timeout) == (3, 7, 99)
    assert htex.provider.min_blocks == 1


def test_partition_by_need() -> None:
    """Without a name the default is used, or the first that what is wanted fits."""
    assert executor("frontera").provider.partition == "small"
    assert executor("frontera", nodes=100).provider.partition == "normal"
    assert executor("frontera", gpu=True).provider.partition == "rtx"
    assert executor("perlmutter", account="m1", gpu=True).provider.constraint == "gpu"
    assert executor("perlmutter", account="m1").provider.constraint == "cpu"
    assert executor("aurora", account="a", nodes=300).provider.queue == "prod"
    assert executor("perlmutter", account="m1", gpu=True, walltime="20h").provider.qos == "regular"
    assert executor("kathleen").provider.nodes_per_block == 2


def test_nobody_is_sent_where_limits_are_not_known() -> None:
    """What the default refuses goes to another partition only if that is known to take it."""
    assert "nodes=9, but a job may have 8" in refusal("perlmutter", account="m1", nodes=9, partition="debug")
    facts = {
        "name": "X",
        "scheduler": "slurm",
        "verified": "2026-01-01",
        "partition": {"a": {"max_nodes": 2}, "b": {}, "c": {"max_nodes": 9}},
    }
    site, _ = read_site("x", facts)
    assert site is not None
    provider = configuration(site, {"nodes": 5}).arguments["executors"][0].arguments["provider"]
    assert provider.arguments["partition"] == "c"
    with pytest.raises(ConfigurationError, match="partition 'a': nodes=10"):
        configuration(site, {"nodes": 10})


def test_queue_is_partition() -> None:
    """A PBS user may say queue."""
    assert executor("polaris", account="a", queue="debug").provider.queue == "debug"
    assert "give one of them" in refusal("polaris", account="a", queue="debug", partition="debug")


def test_missing_account() -> None:
    """What is missing is named with its meaning and an example, as the call that would do."""
    said = refusal("frontier")
    assert "account (project that pays) is missing" in said
    assert "flowlib.load('frontier', account='abc123', ...)" in said


@pytest.mark.parametrize(
    ("chosen", "texts"),
    [
        ({"partition": "bacth"}, ["did you mean 'batch'", "extended"]),
        ({"partition": "batch", "walltime": "3h"}, ["walltime='3h'", "a job of 1 nodes may take 02:00:00"]),
        ({"partition": "extended", "nodes": 65}, ["nodes=65, but a job may have 64 at most", "Partitions:"]),
        ({"partition": "debug", "blocks": 2}, ["blocks=2", "1 jobs running"]),
        ({"nodes": 9473}, ["9472 at most"]),
        ({"gpus": 9}, ["gpus=9, but a node has 8"]),
        ({"gpu": False}, ["no partition has no GPUs"]),
        ({"nodes": 0}, ["nodes=0; give a whole number"]),
        ({"walltime": "soon"}, ["which is no time"]),
        ({"wallclock": "1h"}, ["there is no choice 'wallclock'"]),
        ({"acount": "x"}, ["did you mean 'account'"]),
    ],
)
def test_refusals(chosen: dict[str, Any], texts: list[str]) -> None:
    """A choice that cannot be is answered with what was given, what is allowed, and what there is."""
    said = refusal("frontier", **{"account": "abc", **chosen})
    for text in texts:
        assert text in said


def test_limits_of_other_kinds() -> None:
    """Fewest nodes, shortest time, nodes times hours, and time by number of nodes."""
    assert "must have 256 at least" in refusal("aurora", account="a", partition="prod", nodes=100)
    assert "must take 24:00:00 at least" in refusal("dardel", account="a", partition="long", walltime="2h")
    assert "1.5 at most" in refusal("clariden", account="a", partition="debug", nodes=4, walltime="30m")
    assert executor("clariden", account="a", partition="debug", nodes=3).provider.walltime == "00:30:00"
    assert "may take 12:00:00" in refusal("kathleen", nodes=13, walltime="24h")


def test_refused_options() -> None:
    """Options that the machine's scheduler refuses are not sent."""
    assert "jobs with --mem are refused" in refusal("frontera", memory=100)
    assert "jobs with --mem are refused" in refusal("frontera", scheduler_options="#SBATCH --mem=100G")
    assert "jobs with --gres are refused" in refusal("stampede3", gres="gpu:1")


def test_unknown_is_asked_for() -> None:
    """A fact that is not known and needed is asked for, not guessed."""
    assert "give cores=..." in refusal("cannon")
    assert "give gpus=..." in refusal("hortense", account="a", gpu=True)
    assert "give memory=..." in refusal("wynton", cores=4)
    script = executor("wynton", cores=4, memory=10).provider.render_script("M")
    assert "#$ -pe smp 4" in script
    assert "#$ -l mem_free=2.5G" in script


def test_part_of_a_node() -> None:
    """Fewer GPUs than a node has: as many workers, and no pinning, since it is not known which they are."""
    htex = executor("perlmutter", account="m", gpu=True, gpus=1)
    assert (htex.max_workers_per_node, len(htex.available_accelerators), htex.cpu_affinity) == (1, 1, "none")
    assert htex.provider.gpus_per_node == 1


def test_options_of_parameters() -> None:
    """A parameter's line for the scheduler is there if the parameter is given."""
    with_it = executor("derecho", account="U1", job_priority="economy").provider
    assert "#PBS -l job_priority=economy" in with_it.render_script("M")
    assert "job_priority" not in executor("derecho", account="U1").provider.render_script("M")
    assert "filesystems=home\n" in executor("aurora", account="a", filesystems="home").provider.render_script("M")


def test_the_scripts_own_python() -> None:
    """Lines that a site needs do not make workers use another Python; those of the user may."""
    import sys

    assert executor("aurora", account="a").worker_python == sys.executable
    with_own = executor("aurora", account="a", worker_init="conda activate x")
    assert with_own.worker_python is None
    assert with_own.provider.worker_init == "export TMPDIR=/tmp\nconda activate x"
    assert executor("frontier", account="a").worker_python is None


def test_local_sites() -> None:
    """This machine: no partition, no account."""
    assert executor("laptop", workers=3).max_workers_per_node == 3
    assert executor("local_threads", workers=2).max_threads == 2
    assert "has no partitions" in refusal("laptop", partition="x")


def test_default_of_an_hour() -> None:
    """Time is always said: an hour, or what comes nearest to it."""
    assert executor("frontier", account="a").provider.walltime == "01:00:00"
    assert executor("perlmutter", account="a", partition="debug").provider.walltime == "00:30:00"
    assert executor("dardel", account="a", partition="long").provider.walltime == "24:00:00"


def test_contradictions() -> None:
    """A site's own provider argument wins over what follows from facts."""
    facts = {
        "name": "X",
        "scheduler": "slurm",
        "verified": "2026-01-01",
        "partition": {"p": {"cores": 8, "shared": True, "provider": {"cores_per_node": 4}}},
    }
    site, problems = read_site("x", facts)
    assert site is not None, problems
    provider = configuration(site, {}).arguments["executors"][0].arguments["provider"]
    assert provider.arguments["cores_per_node"] == 4
    assert provider.arguments["exclusive"] is False
