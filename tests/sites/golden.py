"""What every site's scripts ask of its scheduler, kept in ``golden.txt``.

The default partition's directives are kept in full, those of the others as a digest.  ``python -m tests.sites.golden``
writes the file anew; read the difference before it is committed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flowlib.configs
from flowlib import providers
from flowlib.errors import ConfigurationError
from flowlib.sites import catalogue
from flowlib.sites.calls import Call, make
from flowlib.sites.choices import configuration
from flowlib.sites.schedulers import SCHEDULERS
from flowlib.sites.site import Site

GOLDEN = Path(__file__).with_name("golden.txt")
FOLDER = Path(flowlib.configs.__file__).parent
IDS = sorted(path.stem for path in FOLDER.glob("*.toml"))

_DIRECTIVE = re.compile(
    r"#(?:SBATCH|PBS|BSUB|\$) |# flux: |(?:\+?\w+) = |(?:srun|mpiexec|mpirun|flux run|aprun|jsrun) "
)
_CHANGING = re.compile(r"job-name=|--output=|--error=|-[NJoe] |(?:executable|batch_name|output|error|log) = ")


def site_of(name: str) -> Site:
    """The site in the package, whatever directories this machine's user has."""
    return catalogue.open_site(FOLDER / f"{name}.toml")


def offered(site: Site) -> bool:
    """Whether flowlib has the provider that the site needs."""
    provider = SCHEDULERS[site.scheduler].provider
    return not site.retired and (not provider or provider in providers.__all__)


def jobs(site: Site) -> Iterator[tuple[str, Call]]:
    """For each partition its name and a configuration, with examples for what a user must give."""
    given: dict[str, Any] = {
        p.name: p.example for p in site.parameters.values() if p.default is None and not p.optional
    }
    for name in site.partitions or [""]:
        chosen = {**given, **({"partition": name} if name else {})}
        yield name, _with_what_is_asked_for(site, chosen)


def _with_what_is_asked_for(site: Site, chosen: dict[str, Any]) -> Call:
    """The configuration; what the site says it does not know, is 4."""
    try:
        return configuration(site, chosen)
    except ConfigurationError as e:
        asked = re.search(r"give (cores|gpus|memory)=\.\.\.", str(e))
        if asked is None or asked[1] in chosen:
            raise
        return _with_what_is_asked_for(site, {**chosen, asked[1]: 4})


def directives(call: Call) -> list[str]:
    """The lines of a job's script that the scheduler reads, and the one that starts managers, without names of files."""
    script = make(call).executors[0].provider.render_script("MANAGER", job_name="job")
    return [line for line in script.splitlines() if _DIRECTIVE.match(line) and not _CHANGING.search(line[:26])]


def golden(name: str) -> str:
    """A site's part of the file."""
    site = site_of(name)
    default = site.default or next(iter(site.partitions), "")
    lines = [f"## {name}"]
    for partition, call in jobs(site):
        found = directives(call)
        if partition == default:
            lines += found
        else:
            lines.append(f"{partition}: {hashlib.sha256(chr(10).join(found).encode()).hexdigest()[:12]}")
    return "\n".join(lines) + "\n"


def batch_sites() -> list[str]:
    """The sites that have scripts."""
    return [n for n in IDS if offered(site_of(n)) and site_of(n).scheduler not in ("local", "threads")]


if __name__ == "__main__":
    GOLDEN.write_text("".join(map(golden, batch_sites())))
