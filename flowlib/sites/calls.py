"""A configuration as a tree of constructor calls: it can be made, and it can be written down as Python.

Choosing a site's settings ends in such a tree, so what ``flowlib.load("site")`` runs and what ``flowlib sites show
--python`` prints cannot differ.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Name:
    """Something that is looked up where the configuration is made, such as ``sys.executable``.

    Attributes:
        module: Where it is.
        name: Its name there.
    """

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A constructor and its arguments.

    Attributes:
        module: Where the class is imported from.
        name: The class.
        arguments: By name; values are plain, or calls and names themselves, also in lists.
    """

    module: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def make(value: Any) -> Any:
    """What the tree stands for.

    Args:
        value: A call, a name, a list of those, or a plain value.

    Example:
        >>> make(Call("fractions", "Fraction", {"numerator": 1, "denominator": 3}))
        Fraction(1, 3)
    """
    if isinstance(value, Call):
        made = getattr(importlib.import_module(value.module), value.name)
        return made(**{name: make(argument) for name, argument in value.arguments.items()})
    if isinstance(value, Name):
        return getattr(importlib.import_module(value.module), value.name)
    if isinstance(value, list):
        return [make(item) for item in value]
    return value


def python(call: Call, variable: str = "config") -> str:
    """Python that makes the same.

    Args:
        call: The tree.
        variable: What to assign it to.

    Example:
        >>> print(python(Call("fractions", "Fraction", {"numerator": 1}), "third"), end="")
        from fractions import Fraction
        <BLANKLINE>
        third = Fraction(
            numerator=1,
        )
    """
    classes: dict[str, set[str]] = {}
    modules: set[str] = set()
    for part in _parts(call):
        if isinstance(part, Call):
            classes.setdefault(part.module, set()).add(part.name)
        else:
            modules.add(part.module)
    lines = [f"import {module}" for module in sorted(modules)]
    lines += [""] if modules else []
    lines += [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(classes.items())]
    return "\n".join([*lines, "", f"{variable} = {_written(call, 0)}", ""])


def _parts(value: Any) -> Iterator[Call | Name]:
    if isinstance(value, Call):
        yield value
        for argument in value.arguments.values():
            yield from _parts(argument)
    elif isinstance(value, Name):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item)


def _written(value: Any, depth: int) -> str:
    inner, outer = "    " * (depth + 1), "    " * depth
    if isinstance(value, Name):
        return f"{value.module}.{value.name}"
    if isinstance(value, Call):
        if not value.arguments:
            return f"{value.name}()"
        rows = [f"{inner}{name}={_written(argument, depth + 1)},\n" for name, argument in value.arguments.items()]
        return f"{value.name}(\n{''.join(rows)}{outer})"
    if isinstance(value, list) and any(isinstance(item, (Call, Name)) for item in value):
        rows = [f"{inner}{_written(item, depth + 1)},\n" for item in value]
        return f"[\n{''.join(rows)}{outer}]"
    if isinstance(value, str) and "\n" in value.strip("\n"):
        rows = [f"{inner}{line!r}\n" for line in value.splitlines(keepends=True)]
        return f"(\n{''.join(rows)}{outer})"
    return repr(value)
