"""Arguments of a Kubernetes provider that need more than a glance to be checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowlib.errors import ConfigurationError
from flowlib.units import parse_size


def cpus(value: object) -> float:
    """A number of CPUs, also in thousandths: "500m".

    Raises:
        TypeError: It is none.
        ValueError: It is none, or not above 0.
    """
    number = float(value[:-1]) / 1000 if isinstance(value, str) and value.endswith("m") else float(value)  # type: ignore[arg-type]
    if not 0 < number < 1e6:
        raise ValueError(value)
    return number


def memory(value: object) -> int:
    """Bytes of what Kubernetes calls "500Mi".

    Raises:
        TypeError: It is none.
        ValueError: It is none.
    """
    return parse_size(value, "memory")


def check_room(what: str, least: object, most: object, read: Callable[[object], float]) -> None:
    """Refuse what is no amount, and a reservation above its limit.

    Args:
        what: "cpu" or "mem".
        least: What is reserved.
        most: The limit.
        read: Makes a number of either.

    Raises:
        ConfigurationError: Names the parameter.
    """
    for name, value in ((f"init_{what}", least), (f"max_{what}", most)):
        try:
            read(value)
        except (TypeError, ValueError):
            kind = "a number of CPUs, more than 0" if what == "cpu" else "an amount of memory, such as '500Mi'"
            raise ConfigurationError(f"KubernetesProvider({name}={value!r}): give {kind}") from None
    if read(least) > read(most):
        raise ConfigurationError(
            f"KubernetesProvider(init_{what}={least!r}, max_{what}={most!r}): what is reserved must not be more than "
            "what may be used"
        )


def pairs(volumes: object) -> list[tuple[str, str]]:
    """The volumes that were given, as pairs of a claim and a directory.

    Raises:
        ConfigurationError: They are something else.
    """
    problem = ConfigurationError(
        f"KubernetesProvider(persistent_volumes={volumes!r}): give pairs of a claim's name and a directory, such as "
        "[('data', '/data')]"
    )
    if isinstance(volumes, str) or not isinstance(volumes, Sequence):
        raise problem
    found = []
    for volume in volumes:
        if isinstance(volume, str) or not isinstance(volume, Sequence) or len(volume) != 2:
            raise problem
        found.append((str(volume[0]), str(volume[1])))
    return found


def check_seconds(**given: object) -> None:
    """Refuse what is no number of seconds above 0.

    Raises:
        ConfigurationError: Names the parameter.
    """
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ConfigurationError(f"KubernetesProvider({name}={value!r}): give a number of seconds above 0")
