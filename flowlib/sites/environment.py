"""A site that is chosen outside of the script: what ``flowlib.load()`` without arguments finds in the environment.

``flowlib run`` sets these variables, and so may anybody::

    FLOWLIB_SITE=perlmutter FLOWLIB_CHOICES="account=m1234 nodes=4 walltime=2h" python script.py

They are taken out of the environment when they are read, and remembered: they are meant for this process, and a task
that calls ``flowlib.load()`` in a worker must not submit jobs.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowlib.errors import ConfigurationError

if TYPE_CHECKING:
    from flowlib.config import Config

SITE = "FLOWLIB_SITE"
"""The name of a site."""
CHOICES = "FLOWLIB_CHOICES"
"""Choices for it, ``name=value``, with spaces between them, quoted as in a shell."""
IN_JOB = "FLOWLIB_DRIVER_IN_JOB"
"""Set to 1 where the script itself runs in a job: its blocks then are the nodes of that job."""

_taken: dict[str, str] = {}


def variables(site: str, choices: Mapping[str, Any], *, in_job: bool = False) -> dict[str, str]:
    """The variables for a site with choices.

    Args:
        site: Its name.
        choices: As for ``flowlib.load``.
        in_job: Whether the script will run inside of a job.

    Example:
        >>> variables("frontier", {"account": "abc 123", "nodes": 4})
        {'FLOWLIB_SITE': 'frontier', 'FLOWLIB_CHOICES': "'account=abc 123' nodes=4"}
    """
    found = {SITE: site, CHOICES: shlex.join(f"{name}={value}" for name, value in choices.items())}
    return {**found, IN_JOB: "1"} if in_job else found


def from_environment() -> Config | None:
    """The configuration that the environment asks for, None if it asks for none.

    Raises:
        ConfigurationError: There is no such site, or it does not allow these choices.
    """
    for name in (SITE, CHOICES, IN_JOB):
        value = os.environ.pop(name, None)
        if value is not None:
            _taken[name] = value
    site = _taken.get(SITE)
    if not site:
        if _taken.get(CHOICES):
            raise ConfigurationError(f"{CHOICES}={_taken[CHOICES]!r} is set, but no {SITE}: set that to a site's name")
        return None
    from flowlib.configs import build
    from flowlib.sites.command import choices

    try:
        words = shlex.split(_taken.get(CHOICES, ""))
    except ValueError as e:
        raise ConfigurationError(
            f"{CHOICES}={_taken[CHOICES]!r} cannot be read ({e}): write name=value, quoted as in a shell"
        ) from e
    config = build(site, **choices(words))
    if _taken.get(IN_JOB):
        use_own_job(config)
    return config


def use_own_job(config: Config) -> None:
    """Let a configuration use the nodes of the job in which this process runs, instead of submitting jobs.

    Args:
        config: Of a batch site; its executors' providers are replaced.
    """
    from flowlib.providers import LocalProvider

    for executor in config.executors:
        provider: Any = getattr(executor, "provider", None)
        if provider is None:
            continue
        own = LocalProvider(
            nodes_per_block=provider.nodes_per_block,
            launcher=provider.launcher,
            init_blocks=1,
            min_blocks=1,
            max_blocks=1,
            worker_init=getattr(provider, "worker_init", ""),
        )
        vars(executor)["provider"] = own
