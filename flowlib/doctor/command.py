"""Shows what the doctor found: a line for each finding, with what to do below those that are problems."""

from __future__ import annotations

import dataclasses
import os
import runpy
import sys
from typing import TYPE_CHECKING, Any

from flowlib.doctor import collect, findings
from flowlib.doctor.findings import FAILURE, OK, WARNING, Finding
from flowlib.errors import ConfigurationError
from flowlib.sites.command import choices, print_json

if TYPE_CHECKING:
    import argparse

    from flowlib.config import Config

_MARKS = {OK: ("ok", "green"), WARNING: ("warning", "yellow"), FAILURE: ("failure", "bold red")}


def run(options: argparse.Namespace) -> int:
    """Carry the command out.

    Args:
        options: As parsed by ``flowlib.cli``.

    Returns:
        Exit code: 1 if there is a failure among the findings.

    Raises:
        ConfigurationError: There is no such site or file, or it cannot be configured like this.
    """
    config = _config(options.site, choices(options.choices))
    here = collect.machine()
    found = findings.of_machine(here)
    found += _of_executors(config)
    if options.job and not any(f.level == FAILURE for f in found):
        from flowlib.doctor.block import examine

        found += findings.of_block(examine(config or _here(), options.wait), here)
    elif options.job:
        found.append(Finding("block", WARNING, "not tried, because of the failures above", "mend these first"))
    if options.json:
        print_json([dataclasses.asdict(finding) for finding in found])
    else:
        _tell(found)
    return 1 if any(f.level == FAILURE for f in found) else 0


def _of_executors(config: Config | None) -> list[Finding]:
    from flowlib.providers.batch import BatchProvider

    found: list[Finding] = []
    for executor in config.executors if config is not None else ():
        provider = getattr(executor, "provider", None)
        if isinstance(provider, BatchProvider):
            found += findings.of_scheduler(collect.scheduler(provider))
    return found


def _here() -> Config:
    from flowlib.config import Config
    from flowlib.executors import HighThroughputExecutor
    from flowlib.providers import LocalProvider

    executor = HighThroughputExecutor(
        label="doctor", address="127.0.0.1", max_workers_per_node=1, provider=LocalProvider(max_blocks=1)
    )
    return Config(executors=[executor])


def _config(given: str | None, chosen: dict[str, Any]) -> Config | None:
    """The configuration of a site or of a file; None for no argument."""
    from flowlib.config import Config
    from flowlib.configs import build

    if given is None:
        return None
    if not given.endswith(".py"):
        return build(given, **chosen)
    if not os.path.isfile(given):
        raise ConfigurationError(f"there is no file {given!r} in {os.getcwd()}")
    if chosen:
        raise ConfigurationError(f"choices such as {next(iter(chosen))}=... go with a site's name, not with {given!r}")
    try:
        made = runpy.run_path(given, run_name="flowlib_doctor").get("config")
        made = made() if callable(made) else made
    except Exception as e:
        raise ConfigurationError(f"{given} raises {type(e).__name__}: {e}") from e
    if not isinstance(made, Config):
        raise ConfigurationError(
            f"{given} has no configuration: let it assign a Config to `config`, or a function that returns one "
            f"(it is {type(made).__name__})"
        )
    return made


def _tell(found: list[Finding]) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        console = Console(highlight=False)
        for finding in found:
            word, style = _MARKS[finding.level]
            console.print(Text.assemble((f"{word:8}", style), (f"{finding.check}: ", "bold"), finding.text))
            if finding.remedy:
                console.print(Text(f"{'':8}→ {finding.remedy}"))
    else:
        for finding in found:
            sys.stdout.write(f"{finding.level:8}{finding.check}: {finding.text}\n")
            if finding.remedy:
                sys.stdout.write(f"{'':8}-> {finding.remedy}\n")
    failures, warnings = (sum(f.level == level for f in found) for level in (FAILURE, WARNING))
    if failures or warnings:
        sys.stdout.write(f"{failures} failure{'s' * (failures != 1)}, {warnings} warning{'s' * (warnings != 1)}\n")
    else:
        sys.stdout.write("everything is fine\n")
