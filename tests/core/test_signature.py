"""What functions take, and which calls fit: the quick answer agrees with ``inspect``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlib.app.signature import check_call, extra_keywords, signature_of

NONE: frozenset[str] = frozenset()


def one(a: Any) -> None:
    """Used by name below."""


def default(a: Any, b: Any = 1) -> None:
    """Used by name below."""


class Thing:
    def method(self, a: Any, b: Any = 1) -> None: ...
    def __call__(self, a: Any) -> None: ...


FUNCTIONS: list[Callable[..., Any]] = [
    one,
    default,
    lambda: None,
    lambda a, b=1, /, c=2: None,
    lambda a, *, b, c=1: None,
    lambda *args: None,
    lambda *args, **kwargs: None,
    lambda a, /, **kwargs: None,
    Thing().method,
    Thing(),
    Thing.method,
    functools.partial(default, 1),
    functools.partial(default, b=5),
]


def fits(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """The quick answer, as an app asks it."""
    signature = signature_of(func)
    return signature.fits(args, kwargs, NONE) if kwargs else signature.low <= len(args) <= signature.high


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.integers(), max_size=4).map(tuple),
    st.dictionaries(st.sampled_from("abcd"), st.integers(), max_size=3),
)
def test_agrees_with_inspect(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A call that the quick look passes can be bound; one that it does not pass is looked at again, and then decided right."""
    try:
        inspect.signature(func).bind(*args, **kwargs)
        bound = True
    except TypeError:
        bound = False
    if fits(func, args, kwargs):
        assert bound
    elif bound:
        check_call("app", func, signature_of(func), args, kwargs, NONE)
    else:
        with pytest.raises(TypeError, match="app"):
            check_call("app", func, signature_of(func), args, kwargs, NONE)


@pytest.mark.parametrize(("args", "kwargs"), [((1,), {"b": 2}), ((), {"a": 1}), ((1,), {}), ((1, 2), {})], ids=repr)
def test_common_calls_are_quick(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Usual calls of usual functions never need the slow look."""
    assert fits(default, args, kwargs)


def test_defaults_of_special_parameters() -> None:
    """Defaults that mean something to flowlib are found, except those that say nothing."""

    def body(x: Any, inputs: Any = (), stdout: Any = "o", *, walltime: Any = 3, label: Any = None) -> None: ...

    assert signature_of(body).defaults == {"stdout": "o", "walltime": 3}
    assert signature_of(functools.partial(body, stdout="p")).defaults == {"stdout": "p", "walltime": 3}


def test_wrappers() -> None:
    """Calls must fit the wrapper; special arguments are those of the function inside."""

    @functools.wraps(default)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    def special(a: Any, stdout: Any = "o") -> None: ...

    signature = signature_of(wrapper)
    assert signature.fits((1, 2, 3), {"z": 1}, NONE)
    assert not signature.takes("stdout")
    assert signature_of(functools.wraps(special)(lambda *a, **k: None)).defaults == {"stdout": "o"}


def test_builtins_without_signature() -> None:
    """A callable that does not tell what it takes is not checked."""
    assert fits(dict, (), {"x": 1})
    assert signature_of(max).high > 100


@pytest.mark.parametrize(
    ("kwargs", "hint"),
    [
        ({"retires": 1}, r"one\.options\(retries="),
        ({"inputs": []}, "add it to the parameters"),
        ({"stdot": 1}, "did you mean 'stdout'"),
        ({}, r"it is one\(a"),
    ],
    ids=repr,
)
def test_refusals_help(kwargs: dict[str, Any], hint: str) -> None:
    """A refusal says what is wrong, what the function takes, and what was probably meant."""
    with pytest.raises(TypeError, match=hint):
        check_call("one", one, signature_of(one), (), kwargs, extra_keywords("python"))


def test_extra_keywords() -> None:
    """Special keywords need not be parameters; files must be for Python apps, whose body has to see them."""
    check_call("one", one, signature_of(one), (1,), {"walltime": 3, "label": "x"}, extra_keywords("python"))
    check_call("one", one, signature_of(one), (1,), {"outputs": [], "inputs": []}, extra_keywords("bash"))
    with pytest.raises(TypeError, match="outputs"):
        check_call("one", one, signature_of(one), (1,), {"outputs": []}, extra_keywords("python"))
