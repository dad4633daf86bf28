"""Ready-made configurations, one TOML file each.

``build("local_threads")`` makes a fresh ``Config`` from a file of this folder, and so does the field's usual spelling
``from flowlib.configs.local_threads import config``: a finder in this module answers for every file here.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.config import Config

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names that ``build`` and ``flowlib.load`` know."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def build(name: str) -> Config:
    """A fresh configuration.

    Args:
        name: One of ``names()``.

    Raises:
        ConfigurationError: There is no such name; the text gives the nearest.

    Example:
        >>> build("local_threads").executors[0].label
        'local_threads'
    """
    from flowlib.config import Config
    from flowlib.errors import ConfigurationError
    from flowlib.suggest import nearest

    path = _FOLDER / f"{name}.toml"
    if name not in names():
        raise ConfigurationError(f"no configuration named {name!r}{nearest(name, names())}")
    facts = _read(path)
    return Config(executors=[_executor(facts["executor"])])


def _read(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    with path.open("rb") as file:
        facts: dict[str, Any] = tomllib.load(file)
    return facts


def _executor(facts: dict[str, Any]) -> Any:
    from flowlib.executors import HighThroughputExecutor, ThreadPoolExecutor
    from flowlib.providers import LocalProvider

    options = dict(facts)
    kind = options.pop("kind")
    if kind == "threads":
        return ThreadPoolExecutor(**options)
    provider = LocalProvider(**options.pop("provider", {}))
    return HighThroughputExecutor(provider=provider, **options)


class _SiteModule(ModuleType):
    """``flowlib.configs.NAME``: its ``config`` is a new one each time it is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "config":
            return build(self.__name__.rpartition(".")[2])
        raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}; it has config")


class _SiteFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of ``flowlib.configs.NAME`` where NAME.toml is in this folder."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != __name__ or not (_FOLDER / f"{name}.toml").exists():
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _SiteModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = _read(_FOLDER / f"{module.__name__.rpartition('.')[2]}.toml").get("description")


sys.meta_path.append(_SiteFinder())
