"""Every file in configs/: it loads, its configuration can be made and written down, its script is what it was."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from flowlib import launchers, providers
from flowlib.errors import ConfigurationError
from flowlib.sites.calls import make, python
from flowlib.sites.choices import configuration
from flowlib.sites.schedulers import LAUNCHERS, SCHEDULERS
from tests.sites.golden import FOLDER, GOLDEN, IDS, batch_sites, golden, jobs, offered, site_of

SERVING = [name for name in IDS if not site_of(name).retired]
RETIRED = [name for name in IDS if name not in SERVING]


def test_enough_machines() -> None:
    """There are sixty machines in service and more, over all schedulers, and those that people still look for."""
    machines = [site_of(name) for name in SERVING if site_of(name).centre]
    assert len(machines) >= 60
    assert {site.scheduler for site in machines} == {"slurm", "pbspro", "lsf", "gridengine", "condor", "flux"}
    assert {"blue-waters", "aspire1", "stampede2", "theta", "cori", "summit"} <= set(RETIRED)
    assert {"frontera", "aws", "kubernetes", "laptop"} <= set(SERVING)


def shown(config: Any) -> str:
    """Every argument in a configuration, without addresses of objects that do not show theirs."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(config.executors))


@pytest.mark.parametrize("name", SERVING)
def test_python_is_the_same(name: str) -> None:
    """For each partition, the Python that is printed compiles and makes the configuration that loading makes."""
    site = site_of(name)
    for partition, call in jobs(site):
        program = compile(python(call), f"{name}-{partition}", "exec")
        if not offered(site):
            continue
        made: dict[str, Any] = {}
        exec(program, made)
        config = made["config"]
        assert shown(config) == shown(make(call))


@pytest.mark.parametrize("name", batch_sites())
def test_scripts_are_as_they_were(name: str) -> None:
    """What each partition's script asks for is what golden.txt says; `python -m tests.sites.golden` writes that."""
    kept = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", GOLDEN.read_text(), flags=re.MULTILINE) if part}
    assert golden(name) == f"## {kept.get(name)}"


def test_golden_holds_nothing_else() -> None:
    """No site that is gone is left in golden.txt."""
    assert re.findall(r"^## (.*)", GOLDEN.read_text(), flags=re.MULTILINE) == batch_sites()


@pytest.mark.parametrize("name", RETIRED)
def test_retired(name: str) -> None:
    """Loading a machine of the past is refused with when it ended and a machine in service that took its place."""
    site = site_of(name)
    with pytest.raises(ConfigurationError) as caught:
        configuration(site, {"account": "x"})
    assert re.search(rf"was retired (on|in|by) \d{{4}}.*; use '{site.successor}' instead", str(caught.value))
    assert site.successor in SERVING


@pytest.mark.parametrize("name", [n for n in SERVING if site_of(n).centre])
def test_what_people_need(name: str) -> None:
    """A machine in service says who runs it, where, as of when, and has limits only where they are known."""
    site = site_of(name)
    assert len(site.country) == 2
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", site.verified)
    assert site.partitions
    assert all(p.help and (p.example or p.default) for p in site.parameters.values())
    assert (FOLDER / f"{name}.toml").stat().st_size < 5000, "one file, facts only"


@pytest.mark.parametrize("kind", sorted(k for k, s in SCHEDULERS.items() if s.provider in providers.__all__))
def test_parameters_of_providers(kind: str) -> None:
    """The table of parameters is that of the class."""
    scheduler = SCHEDULERS[kind]
    real = set(inspect.signature(getattr(providers, scheduler.provider)).parameters)
    assert scheduler.parameters == real
    assert {scheduler.queue, scheduler.account, scheduler.cores, scheduler.memory} - {""} <= real


@pytest.mark.parametrize("kind", sorted(LAUNCHERS))
def test_parameters_of_launchers(kind: str) -> None:
    """The table of launchers is that of the classes."""
    name, parameters = LAUNCHERS[kind]
    assert parameters | {"debug"} == set(inspect.signature(getattr(launchers, name)).parameters)


def test_facts() -> None:
    """Samples of facts are those in the centres' documentation."""
    frontier = site_of("frontier").partitions["batch"]
    assert [frontier.longest(n) for n in (91, 92, 184)] == ["02:00:00", "06:00:00", "12:00:00"]
    assert (frontier.job_cores, frontier.gpus, frontier.most_nodes) == (56, 8, 9472)
    normal = site_of("frontera").partitions["normal"]
    assert (normal.min_nodes, normal.max_nodes, normal.cores) == (3, 512, 56)
    prod = site_of("aurora").partitions["prod"]
    assert (prod.min_nodes, prod.longest(2000), prod.gpu_ids[3]) == (256, "24:00:00", "1.1")
    assert site_of("clariden").partitions["debug"].node_hours == 1.5
    assert site_of("perlmutter").partitions["gpu"].provider["constraint"] == "gpu"
    assert site_of("summit").retired == "2024-11-15"
