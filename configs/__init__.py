"""Ready-made configurations, one TOML file for each machine.

``build("frontier", account="abc123")`` makes a fresh ``Config`` from a site's facts, and for those that need no choices
so does the field's usual spelling ``from flowlib.configs.local_threads import config``: a finder in this module answers
for every site.  The guide's page "Sites" says what can be chosen, "Add your site" what a file may hold.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.config import Config


def names() -> list[str]:
    """The names that ``build`` and ``flowlib.load`` know."""
    from flowlib.sites import catalogue

    return catalogue.names()


def build(name: str, **choices: Any) -> Config:
    """A fresh configuration.

    Args:
        name: One of ``names()``.
        choices: What the site asks for, such as ``account``; ``partition`` (or ``queue``), ``gpu``, ``nodes``,
            ``walltime``, ``cores``, ``gpus`` and ``memory`` (GB) of a node, ``blocks`` (jobs at a time), ``workers``
            (on a node), ``worker_init``; and any parameter of the site's provider, its executor, or ``Config``.

    Raises:
        ConfigurationError: There is no such name, something is missing, or the machine does not allow it; the text says
            what there is.

    Example:
        >>> build("local_threads").executors[0].label
        'local_threads'
    """
    from flowlib.sites import catalogue
    from flowlib.sites.calls import make
    from flowlib.sites.choices import configuration

    config: Config = make(configuration(catalogue.get(name), choices))
    return config


class _SiteModule(ModuleType):
    """``flowlib.configs.NAME``: its ``config`` is a new one each time it is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "config":
            return build(self.__name__.rpartition(".")[2])
        raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}; it has config")


class _SiteFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of ``flowlib.configs.NAME`` where there is a site of that name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        # Python's own finders come first, so a module of this package is never asked for here.
        if package != __name__:
            return None
        from flowlib.sites import catalogue

        return None if catalogue.find(name) is None else importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _SiteModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        from flowlib.sites import catalogue

        site = catalogue.get(module.__name__.rpartition(".")[2])
        module.__doc__ = site.description or site.name


sys.meta_path.append(_SiteFinder())
