"""Checks of the high-throughput executor's parameters: every mistake is told where it is made.

By hand and in the order of the constructor, because a type checker at run time costs more time than all else that a
constructor does, and says less.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from flowlib.executors.high_throughput.capacity import AMOUNTS
from flowlib.suggest import nearest

F = TypeVar("F", bound=Callable[..., None])

AFFINITIES = ("none", "block", "block-reverse", "alternating")


def known_options_only(init: F) -> F:
    """Make a constructor name the option that was probably meant."""
    code = init.__code__
    valid = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    @wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        unknown = next((name for name in options if name not in valid), None)
        if unknown is not None:
            raise TypeError(f"{type(self).__name__} has no option {unknown!r}{nearest(unknown, valid)}")
        init(self, *args, **options)

    return cast("F", checked)


def parameter_names(owner: type) -> tuple[str, ...]:
    """The names of a class's options, in their order, if ``known_options_only`` stands before its constructor."""
    init: Any = owner.__init__  # type: ignore[misc]
    code = getattr(init, "__wrapped__", init).__code__
    names: tuple[str, ...] = code.co_varnames[1 : code.co_argcount]
    return names


class Checks:
    """Collects the checks of one constructor.

    Args:
        owner: The class, for messages.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def _wrong_type(self, name: str, value: Any, wanted: str) -> TypeError:
        return TypeError(f"{self._owner}({name}={value!r}): give {wanted}, not a {type(value).__name__}")

    def _wrong(self, name: str, value: Any, wanted: str) -> ValueError:
        return ValueError(f"{self._owner}({name}={value!r}): give {wanted}")

    def number(
        self, name: str, value: Any, *, least: float = 0, above: bool = False, whole: bool = False, none: bool = False
    ) -> None:
        """A number of at least (or above) ``least``."""
        wanted = f"{'a whole number' if whole else 'a number'} {'above' if above else 'of at least'} {least:g}"
        wanted += " or None" if none else ""
        if none and value is None:
            return
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            if whole and isinstance(value, float) and value == float("inf") and none:
                return
            raise self._wrong_type(name, value, wanted)
        if not (value > least if above else value >= least):
            raise self._wrong(name, value, wanted)

    def text(self, name: str, value: Any, *, none: bool = False) -> None:
        """A string that is not empty."""
        if none and value is None:
            return
        wanted = "a string" + (" or None" if none else "")
        if not isinstance(value, str):
            raise self._wrong_type(name, value, wanted)
        if not value:
            raise self._wrong(name, value, f"{wanted} that is not empty")

    def flag(self, name: str, value: Any) -> None:
        """True or False."""
        if not isinstance(value, bool):
            raise self._wrong_type(name, value, "True or False")

    def ports(self, name: str, value: Any) -> tuple[int, int]:
        """A range of TCP ports, lowest and highest; ``(0, 0)`` for any."""
        wanted = "two port numbers (lowest, highest) from 1 to 65535, or (0, 0) for any"
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise self._wrong_type(name, value, wanted)
        low, high = value
        for port in (low, high):
            self.number(name, port, whole=True)
        if (low, high) != (0, 0) and not 1 <= low <= high <= 65535:
            raise self._wrong(name, value, wanted)
        return low, high

    def affinity(self, value: Any) -> None:
        """A ``cpu_affinity``."""
        self.text("cpu_affinity", value)
        if value in AFFINITIES:
            return
        if value.startswith("list:"):
            sets = value.removeprefix("list:").split(":")
            if all(_is_cpu_set(cpus) for cpus in sets):
                return
            raise self._wrong("cpu_affinity", value, "CPUs of each worker as in 'list:0-3,8:4-7,9'")
        raise ValueError(
            f"{self._owner}(cpu_affinity={value!r}): no such value{nearest(value, (*AFFINITIES, 'list:'))}"
        )

    def accelerators(self, value: Any) -> list[str]:
        """A number of accelerators, or their names."""
        if isinstance(value, int) and not isinstance(value, bool):
            self.number("available_accelerators", value, whole=True)
            return [str(i) for i in range(value)]
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self._wrong_type("available_accelerators", value, "how many there are, or a list of their names")
        names = list(value)
        if len(set(names)) != len(names) or not all(isinstance(n, str) and n for n in names):
            raise self._wrong("available_accelerators", value, "each accelerator's name once")
        return names

    def labels(self, value: Any) -> dict[str, float]:
        """Amounts by name, of what is no resource with a meaning of its own."""
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
            raise self._wrong_type("labels", value, "a dict of amounts by name, such as {'licence': 2}")
        known = [name for name in value if name in (*AMOUNTS, "priority")]
        if known:
            raise self._wrong("labels", value, f"names of your own, not {', '.join(known)}")
        for name, amount in value.items():
            self.number(f"labels[{name!r}]", amount)
        return dict(value)

    def unused(self, name: str, value: Any, default: Any, instead: str) -> None:
        """Warn of a parameter that is accepted and has no effect."""
        if value != default:
            warnings.warn(f"{self._owner}({name}={value!r}) has no effect: {instead}", UserWarning, stacklevel=4)


def _is_cpu_set(text: str) -> bool:
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or (dash and int(low) > int(high)):
            return False
    return True
