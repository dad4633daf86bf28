"""One way to show objects that are made of their constructor's arguments: as the call that makes them."""

from __future__ import annotations

import inspect


class RepresentationMixin:
    """Gives a class the ``repr`` ``Name(argument=value, ...)``.

    Each argument is looked up as an attribute of the same name; those that the class does not keep are left out.
    Plug-ins written for the field's usual interface inherit it from ``flowlib.utils``.

    Attributes:
        _validate_repr: Raise AttributeError for an argument that is not kept; for tests of such classes.

    Example:
        >>> class Point(RepresentationMixin):
        ...     def __init__(self, x, y=2):
        ...         self.x, self.y = x, y
        >>> Point(1)
        Point(x=1, y=2)
    """

    _validate_repr = False

    def __repr__(self) -> str:
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        names = [name for name, p in inspect.signature(type(self)).parameters.items() if p.kind not in kinds]
        if not self._validate_repr:
            names = [name for name in names if hasattr(self, name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"
