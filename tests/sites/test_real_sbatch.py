"""Every Slurm site's scripts are accepted by a real Slurm that is configured with that site's partitions.

The controller is real; its nodes are of the kind that would be started in a cloud when needed, so none has to run.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlib.sites.calls import Call, make
from flowlib.sites.choices import configuration
from flowlib.sites.site import Partition, Site
from flowlib.testing import wait_until as wait
from flowlib.units import parse_time
from tests.faults.sampling import sample
from tests.providers.real_slurm import _CONF, Slurm, end, free_ports, install, missing
from tests.sites.golden import batch_sites, jobs, site_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.leaks("processes", "files"),  # the controller, which is the module's
    pytest.mark.skipif(bool(missing()), reason=f"no real Slurm: {missing()}"),
    pytest.mark.timeout(600),  # the first test may have to install it
]
SITES = [name for name in batch_sites() if site_of(name).scheduler == "slurm"]
_MORE = """\
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=600
GresTypes=gpu
Licenses=lustre1,lustre2
EnforcePartLimits=ALL
"""


class Controller(Slurm):
    """A controller without nodes' daemons."""

    def start(self) -> None:
        """Start what all sites have in common."""
        self.directory.chmod(0o755)
        (self.directory / "state").mkdir()
        self.port = free_ports(1)[0]
        key, here = self.directory / "munge.key", self.directory
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={here}/munge.socket",
            f"--pid-file={here}/munged.pid", f"--log-file={here}/munged.log", f"--seed-file={here}/munged.seed",
        )  # fmt: skip
        wait(lambda: (here / "munge.socket").exists())

    def become(self, site: Site) -> None:
        """Be that machine from now on."""
        if self.controller is not None:
            end(self.controller)
        host = socket.gethostname().partition(".")[0]
        head = _CONF.partition("{nodes}")[0].format(host=host, port=self.port, dir=self.directory)
        (self.directory / "slurm.conf").write_text(head + _MORE + "\n".join(machine(site)) + "\n")
        self.controller = self._daemon("slurmctld", "-D", "-c")
        wait(lambda: self.command("sinfo", "-h") is not None)

    def accepts(self, script: Path) -> str:
        """What sbatch has against a script; empty if nothing."""
        done = subprocess.run(
            ["sbatch", "--test-only", script],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stderr if done.returncode else ""


def machine(site: Site) -> Iterator[str]:
    """The site's nodes and partitions, as slurm.conf has them."""
    members: dict[str, list[str]] = {}
    limits: dict[str, list[Partition]] = {}
    for number, partition in enumerate(site.partitions.values()):
        queue = partition.provider.get("partition", partition.name if partition.queue is None else partition.queue)
        nodes = f"p{number}n[1-{partition.most_nodes or partition.min_nodes}]"
        yield f"NodeName={nodes} NodeAddr=127.0.0.1 State=CLOUD {hardware(partition)}"
        members.setdefault(queue or "unnamed", []).append(nodes)
        limits.setdefault(queue or "unnamed", []).append(partition)
    for queue, nodes_of in members.items():
        times = [t for p in limits[queue] for t in (p.walltime, *(t for _, t in p.walltime_by_nodes)) if t]
        known = len(times) >= len(limits[queue])
        most = max(int(parse_time(t)) // 60 for t in times) if known else "INFINITE"
        yield (
            f"PartitionName={queue} Nodes={','.join(nodes_of)} MaxTime={most} State=UP"
            f"{' Default=YES' if queue == 'unnamed' else ''}"
        )


def hardware(partition: Partition) -> str:
    """What a node has, as slurm.conf has it; what is not known, is enough for 4 of each."""
    memory = round((partition.memory_gb or (partition.ask_memory_gb or 4) * 1.024) * 1000)
    parts = [f"CPUs={partition.job_cores or 4} RealMemory={memory}"]
    if partition.accelerated:
        named = re.fullmatch(r"gpu:([\w-]+):\{gpus\}", partition.provider.get("gres", ""))
        kind = "a100:" if "{gpu_type}" in partition.provider.get("gres", "") else f"{named[1]}:" if named else ""
        parts.append(f"Gres=gpu:{kind}{partition.gpus or 4}")
    if "constraint" in partition.provider:
        parts.append(f"Features={partition.provider['constraint'].replace('&', ',')}")
    return " ".join(parts)


def largest(site: Site, call: Call, partition: Partition) -> Call | None:
    """The largest job of the partition, where that is known."""
    nodes = partition.most_nodes
    if nodes is None:
        return None
    given: dict[str, Any] = {
        p.name: p.example for p in site.parameters.values() if p.default is None and not p.optional
    }
    arguments = call.arguments["executors"][0].arguments
    given |= {"cores": arguments["provider"].arguments.get("cores_per_node")}
    given |= {"gpus": 4 if partition.accelerated and not partition.gpus else None}
    longest = None if partition.node_hours else partition.longest(nodes)
    return configuration(site, {**given, "partition": partition.name, "nodes": nodes, "walltime": longest})


@pytest.fixture(scope="module")
def controller() -> Iterator[Controller]:
    """A Slurm that can be any machine."""
    install()
    found = Controller()
    try:
        found.start()
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("name", sample(SITES, 4))
def test_accepted(controller: Controller, name: str, tmp_path: Path) -> None:
    """The smallest and the largest job of each partition would start."""
    site = site_of(name)
    controller.become(site)
    wrong = []
    for partition, call in jobs(site):
        for each in (call, largest(site, call, site.partitions[partition])):
            if each is None:
                continue
            provider = make(each).executors[0].provider
            # Several clusters need a database, which is not started here.
            script = re.sub(r"#SBATCH --clusters=.*\n", "", provider.render_script("true"))
            file = tmp_path / "job.sh"
            file.write_text(script)
            said = controller.accepts(file)
            if said:
                wrong.append(f"{partition}: {said}{script.partition(chr(10) * 2)[0]}")
    assert not wrong, "\n".join(wrong)


def test_a_mistake_is_found(controller: Controller, tmp_path: Path) -> None:
    """That Slurm refuses a job that is longer, larger or elsewhere than the machine allows."""
    controller.become(site_of("frontera"))
    file = tmp_path / "job.sh"
    for wrong in ("--partition=small --time=49:00:00", "--partition=small --nodes=3", "--partition=smal"):
        file.write_text("#!/bin/bash\n" + "".join(f"#SBATCH {option}\n" for option in wrong.split()))
        assert controller.accepts(file), wrong
