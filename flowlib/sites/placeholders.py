"""``{account}`` and alike in a site's texts. ``${HOME}`` and ``%j`` are for shells and schedulers, and stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ALWAYS = frozenset(
    {"nodes", "cores", "total_cores", "gpus", "total_gpus", "memory", "memory_per_core", "walltime", "partition"}
)
"""What every job has a value for, as far as its partition's facts or the user say; memory in GB."""

_PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_]\w*)\}")


def placeholders(text: str) -> list[str]:
    """Names in braces.

    Example:
        >>> placeholders("-A {account} -o ${HOME}/x")
        ['account']
    """
    return _PLACEHOLDER.findall(text)


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """``value`` with names in braces replaced; a text that is nothing but one name becomes that value itself.

    Args:
        value: Text; anything else is returned as it is.
        values: By name.

    Raises:
        KeyError: A name has no value.

    Example:
        >>> filled("gpu:{gpus}", {"gpus": 4}), filled("{gpus}", {"gpus": 4})
        ('gpu:4', 4)
    """
    if not isinstance(value, str):
        return value
    alone = _PLACEHOLDER.fullmatch(value)
    if alone:
        return values[alone[1]]
    return _PLACEHOLDER.sub(lambda match: str(values[match[1]]), value)
