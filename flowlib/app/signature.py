"""What a function takes, known at decoration, so that a call that cannot work is refused where it is written.

``inspect.signature`` costs milliseconds to import and microseconds to ask.  Plain functions tell the same by their code
object; ``inspect`` is asked about the rest, and to word a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NoReturn

from flowlib.options import NAMES as OPTIONS
from flowlib.suggest import closest

SPECIAL = ("inputs", "outputs", "stdout", "stderr", "walltime", "label", "flowlib_resource_specification")
"""Keyword arguments that mean something to flowlib."""

_OPTIONAL = frozenset(SPECIAL) - {"inputs", "outputs"}

_VARARGS, _VARKEYWORDS = 4, 8
_ANY = 1 << 30


class Signature:
    """The parameters of a function, as far as a call can be checked against them quickly.

    Attributes:
        low: Fewest positional arguments of a call without keywords.
        least: Fewest positional arguments of any call.
        high: Most positional arguments.
        names: Names that may be given by keyword; None for any.
        positional: Names of parameters that may be given by position.
        required: Those that have no default, in order; keyword-only ones at the end.
        special: As ``names``; of the innermost function, if this one wraps others.
        defaults: Default values of special parameters, except empty ones; likewise.
    """

    __slots__ = ("defaults", "high", "least", "low", "names", "positional", "required", "special")

    def __init__(
        self,
        positional: tuple[str, ...] = (),
        only_positional: int = 0,
        keyword_only: tuple[str, ...] = (),
        values: Mapping[str, Any] | None = None,
        more_positional: bool = True,
        more_keywords: bool = True,
    ) -> None:
        values = values or {}
        needed = tuple(name for name in keyword_only if name not in values)
        self.positional = positional
        self.required = (*(name for name in positional if name not in values), *needed)
        self.low = len(self.required) if not needed else _ANY
        self.least = sum(name not in values for name in positional[:only_positional])
        self.high = _ANY if more_positional else len(positional)
        self.names = None if more_keywords else frozenset((*positional[only_positional:], *keyword_only))
        self.special = self.names
        self.defaults = {name: values[name] for name in SPECIAL if not _empty(values.get(name))}

    def takes(self, name: str) -> bool:
        """Whether a special argument may be given by keyword."""
        return self.special is None or name in self.special

    def fits(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], extra: frozenset[str]) -> bool:
        """Whether a call with keywords can work.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            extra: Keywords that flowlib takes off if the function does not know them.
        """
        count, names = len(args), self.names
        if not self.least <= count <= self.high:
            return False
        if names is not None and not names.issuperset(kwargs) and not extra.issuperset(kwargs.keys() - names):
            return False
        given = self.positional[:count]
        if not kwargs.keys().isdisjoint(given):
            # Unless those are positional-only and the function takes any keyword, one is given twice.
            return False
        return all(name in kwargs or name in given for name in self.required)


def _empty(value: Any) -> bool:
    """Whether a default says no more than its absence."""
    return value is None or (type(value) in (list, tuple, dict) and not value)


def signature_of(func: Callable[..., Any]) -> Signature:
    """The signature of any callable; one that takes everything if it cannot be known."""
    signature = _outer(func)
    if hasattr(func, "__wrapped__"):
        # Calls must fit the wrapper. What the function inside says of special arguments is meant for us all the same.
        inner = _ask_inspect(func, follow=True)
        signature.special, signature.defaults = inner.names, inner.defaults
    return signature


def _outer(func: Callable[..., Any]) -> Signature:
    if type(func) is FunctionType:
        code = func.__code__
        count, flags = code.co_argcount, code.co_flags
        names = code.co_varnames
        positional, keyword_only = names[:count], names[count : count + code.co_kwonlyargcount]
        defaults = func.__defaults__ or ()
        values = dict(zip(positional[count - len(defaults) :], defaults, strict=True))
        values.update(func.__kwdefaults__ or {})
        return Signature(
            positional,
            code.co_posonlyargcount,
            keyword_only,
            values,
            more_positional=bool(flags & _VARARGS),
            more_keywords=bool(flags & _VARKEYWORDS),
        )
    return _ask_inspect(func, follow=False)


def _ask_inspect(func: Callable[..., Any], *, follow: bool) -> Signature:
    import inspect

    try:
        parameters = inspect.signature(func, follow_wrapped=follow).parameters.values()
    except (TypeError, ValueError):
        # Many built-in callables do not tell.
        return Signature()
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return Signature(
        tuple(p.name for p in by_position),
        sum(p.kind is p.POSITIONAL_ONLY for p in by_position),
        tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY),
        {p.name: p.default for p in parameters if p.default is not p.empty},
        more_positional=any(p.kind is p.VAR_POSITIONAL for p in parameters),
        more_keywords=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def extra_keywords(kind: str) -> frozenset[str]:
    """Special keywords that a function of this kind of app need not have as parameters."""
    return frozenset(SPECIAL) if kind == "bash" else _OPTIONAL


def refuse(
    name: str, func: Callable[..., Any], kwargs: Mapping[str, Any], signature: Signature, why: str = ""
) -> NoReturn:
    """Say why a call does not fit.

    Args:
        name: The app.
        func: Its function.
        kwargs: Keyword arguments of the call.
        signature: The function's.
        why: The reason.

    Raises:
        TypeError: Always.
    """
    import inspect

    hint = ""
    if signature.names is not None:
        valid = {*signature.names, *_OPTIONAL}
        for given in kwargs:
            if given not in valid:
                meant = closest(given, valid)
                if given in SPECIAL:
                    hint = f" (to use {given}=, add it to the parameters, like {given}=())"
                elif meant is not None:
                    hint = f" (did you mean {meant!r}?)"
                else:
                    option = closest(given, OPTIONS)
                    hint = f" (options are given by {name}.options({option}=...))" if option is not None else ""
                break
    try:
        shown = str(inspect.signature(func, follow_wrapped=False))
    except (TypeError, ValueError):
        shown = "(...)"
    raise TypeError(f"call of app {name}: {why}{hint}; it is {name}{shown}")


def check_call(
    name: str,
    func: Callable[..., Any],
    signature: Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    extra: frozenset[str],
) -> None:
    """Refuse a call that the quick look found wrong; ``inspect`` has the last word.

    Raises:
        TypeError: The call does not fit.
    """
    import inspect

    if signature.names is not None:
        kwargs = {k: v for k, v in kwargs.items() if k in signature.names or k not in extra}
    try:
        inspect.signature(func, follow_wrapped=False).bind(*args, **kwargs)
    except TypeError as e:
        why = str(e)
    except ValueError:
        # No signature: nothing to check against.
        return
    else:
        return
    refuse(name, func, kwargs, signature, why)
