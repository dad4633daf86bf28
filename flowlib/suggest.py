"""The nearest valid name, for every message that refuses one: a typing error is answered with what was meant."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 12


def closest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that ``name`` probably means; None if it resembles none.

    Example:
        >>> closest("retires", ["cache", "retries"])
        'retries'
    """
    import difflib

    names = list(names)
    folded = {n.casefold().replace("-", "_"): n for n in names}
    wanted = name.casefold().replace("-", "_")
    if wanted in folded:
        return folded[wanted]
    found = difflib.get_close_matches(wanted, list(folded), n=1, cutoff=0.6)
    if found:
        return folded[found[0]]
    # "max_workers" for "max_workers_per_node", "exec" for "executors".
    parts = [n for key, n in folded.items() if len(wanted) > 2 and (key.startswith(wanted) or wanted.startswith(key))]
    return parts[0] if len(parts) == 1 else None


def nearest(name: str, names: Iterable[str]) -> str:
    """What to put behind a refused name in a message: the name that was meant, and what there is.

    Args:
        name: What was given.
        names: What is valid.

    Example:
        >>> f"no option 'retires'{nearest('retires', ['cache', 'retries'])}"
        "no option 'retires'; did you mean 'retries'? Valid: cache, retries"
        >>> nearest("x", [])
        '; there are none'
    """
    names = list(names)
    if not names:
        return "; there are none"
    meant = closest(name, names)
    shown = sorted(names)
    if len(shown) > _SHOWN and meant is not None:
        listed = f"({len(shown)} are valid)"
    elif len(shown) > 2 * _SHOWN:
        listed = f"Valid: {', '.join(shown[: 2 * _SHOWN])} and {len(shown) - 2 * _SHOWN} more"
    else:
        listed = f"Valid: {', '.join(shown)}"
    return f"; {listed[0].lower()}{listed[1:]}" if meant is None else f"; did you mean {meant!r}? {listed}"
