"""Decorators: what becomes an app, what is refused, and what a call hands to the kernel."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import flowlib
from flowlib import bash_app, join_app, python_app
from flowlib.app.app import App
from flowlib.app.bash import BashCall
from flowlib.context import TaskContext, enter
from flowlib.context import exit as leave
from flowlib.errors import BadStdStreamFile, NoDataFlowKernelError
from tests.apps.fakes import FakeKernel, loaded


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    """A kernel that takes notes."""
    with loaded(FakeKernel()) as fake:
        yield fake


def double(x: int, times: int = 2) -> int:
    """Twice."""
    return x * times


class Scale:
    """A class with apps as methods."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @python_app
    def scale(self, x: int) -> int:
        """Scaled."""
        return x * self.factor

    @classmethod
    @python_app
    def make(cls, x: int) -> int:
        """Of the class."""
        return x

    @staticmethod
    @python_app
    def plain(x: int) -> int:
        """Of nobody."""
        return x

    def __call__(self, x: int) -> int:
        return x * self.factor


@python_app
def module_level(x: int) -> int:
    """An app that can be imported."""
    return x


# ---------------------------------------------------------------------------------------------------- becoming an app


@pytest.mark.parametrize("decorator", [python_app, bash_app, join_app], ids=lambda d: d.__name__)
def test_every_form(decorator: Any) -> None:
    """Bare, with parentheses, with options and as a call give the same app."""
    for app in (decorator(double), decorator()(double), decorator(cache=True)(double), decorator(double, retries=1)):
        assert isinstance(app, App)
        assert (app.name, app.__name__, app.__doc__, app.__module__) == ("double", "double", "Twice.", __name__)
        assert inspect.signature(app) == inspect.signature(double)
        assert app.func is double
        assert app.kind == decorator.__name__.removesuffix("_app")
    assert app.func(4) == 8


def test_targets() -> None:
    """Executors run the function itself; for a bash app, what makes and runs its command."""
    assert python_app(double).target is double
    assert join_app(double).target is double
    target = bash_app(double).target
    assert isinstance(target, BashCall)
    assert (target.func, target.name) == (double, "double")


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x, "<lambda>"),
        (functools.partial(double, 1), "double"),
        (functools.partial(functools.partial(double, 1)), "double"),
        (Scale(2), "Scale"),
        (Scale(2).__call__, "__call__"),
        (len, "len"),
        (int, "int"),
    ],
)
def test_any_callable(function: Any, name: str) -> None:
    """Lambdas, partials, callable objects, methods, builtins and classes become apps with a name."""
    assert python_app(function).name == name


def test_function_attributes_do_no_harm() -> None:
    """Attributes of the function are kept unless they are the app's own."""

    def odd() -> None: ...

    odd.kind = "mine"  # type: ignore[attr-defined]
    odd.other = 5  # type: ignore[attr-defined]
    app: Any = python_app(odd)
    assert (app.kind, app.other) == ("python", 5)


@pytest.mark.parametrize("value", [5, "label", ["label"], 1j], ids=repr)
def test_not_callable(value: Any) -> None:
    """What cannot be called is refused, and a label in its place gets the right spelling."""
    hint = "executors=" if isinstance(value, (str, list)) else "callable"
    with pytest.raises(TypeError, match=hint):
        python_app(value)


def test_app_of_an_app() -> None:
    """An app is no function: its options are changed by options()."""
    with pytest.raises(TypeError, match="options"):
        python_app(module_level)
    with pytest.raises(TypeError, match="options"):
        python_app(Scale(1).scale)


@pytest.mark.parametrize("wrapper", [classmethod, staticmethod])
def test_wrong_order_of_decorators(wrapper: Any) -> None:
    """@classmethod below an app decorator is refused with the right order."""
    with pytest.raises(TypeError, match=f"@{wrapper.__name__} above @python_app"):
        python_app(wrapper(double))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: python_app(cach=True), TypeError, ["cach", "'cache'", "walltime"]),
        (lambda: bash_app(workdirr="task"), TypeError, ["'workdir'"]),
        (lambda: bash_app(workdir="mine"), ValueError, ["'task'"]),
        (lambda: join_app(executors=["a"]), TypeError, ["script's own process"]),
        (lambda: python_app(double, walltime="soon"), ValueError, ["walltime", "soon", "2h30m"]),
        (lambda: python_app(double, ignore_for_cache=["tmes"]), ValueError, ["tmes", "'times'", "double"]),
        (lambda: python_app(double, data_flow_kernel=3), TypeError, ["data_flow_kernel"]),
        (lambda: bash_app(lambda stdout=("a",): ""), TypeError, ["pair", "stdout"]),
        (lambda: bash_app(lambda stdout=("a", "r"): ""), BadStdStreamFile, ["mode", "stdout"]),
        (lambda: bash_app(lambda stderr=5: ""), TypeError, ["stderr"]),
        (lambda: python_app(lambda walltime="soon": 1), ValueError, ["walltime"]),
        (
            lambda: python_app(lambda flowlib_resource_specification={"priority": 1}: 1, priority=1),
            TypeError,
            ["twice"],
        ),
    ],
)
def test_refused_at_decoration(make: Any, error: type[Exception], words: list[str]) -> None:
    """Whatever is wrong with a decoration is said there, with what was given and what is meant."""
    with pytest.raises(error) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)


# -------------------------------------------------------------------------------------------------------------- calls


def test_call(kernel: FakeKernel) -> None:
    """A call hands over the app, its options and the arguments as they are."""
    app = python_app(double, retries=2)
    app(1, times=3)
    assert kernel.last == (app, app._options, (1,), {"times": 3})
    assert kernel.last.options.retries == 2


def test_nothing_loaded() -> None:
    """Without a kernel a call says what to do first."""
    with loaded(None), pytest.raises(NoDataFlowKernelError, match="Must first load config"):
        module_level(1)


def test_call_inside_a_worker() -> None:
    """Inside a task where nothing is loaded the error says how apps call each other."""
    context = TaskContext(3, 0, "outer")
    token = enter(context)
    try:
        with (
            loaded(None),
            pytest.raises(NoDataFlowKernelError, match=r"task 3 \(outer\).*module_level\.func.*join_app"),
        ):
            module_level(1)
    finally:
        leave(context, token)


def test_kernel_is_found_at_the_call(kernel: FakeKernel) -> None:
    """An app uses the kernel that is loaded when it is called, unless it is bound to one."""
    app = python_app(double)
    other, mine = FakeKernel(), FakeKernel()
    bound = python_app(double, data_flow_kernel=mine)  # type: ignore[call-overload]
    app(1)
    with loaded(other):
        app(2)
        bound(3)
    assert [len(k.calls) for k in (kernel, other, mine)] == [1, 1, 1]


@pytest.mark.parametrize("call", ["app()", "app(1, 2, 3)", "app(1, x=1)", "app(1, tims=2)", "app(1, inputs=[])"])
def test_calls_that_cannot_work(kernel: FakeKernel, call: str) -> None:
    """Arguments that do not fit are refused at the call; no task is made."""
    app = python_app(double)
    with pytest.raises(TypeError, match="double"):
        eval(call)
    assert app is not None
    assert kernel.calls == []


def test_options_of_a_call(kernel: FakeKernel) -> None:
    """options() gives another app; the first is as it was."""
    app = python_app(double, retries=1, walltime=60)
    other = app.options(retries=5).options(priority=3)
    other(1)
    assert (kernel.last.options.retries, kernel.last.options.priority, kernel.last.options.walltime) == (5, 3, 60)
    app(1)
    assert (kernel.last.options.retries, kernel.last.options.priority) == (1, None)
    assert other.target is app.target
    assert other.func is double
    with pytest.raises(TypeError, match=r"double\.options"):
        app.options(retires=1)  # type: ignore[call-arg]


def test_order_of_precedence(kernel: FakeKernel) -> None:
    """A call says more than the block around it, and the block more than the decorator."""
    app = python_app(double, retries=1, cache=True, version=1)
    called = app.options(retries=3)
    with flowlib.defaults(retries=2, version=2):
        app(1)
        assert (kernel.last.options.retries, kernel.last.options.version, kernel.last.options.cache) == (2, 2, True)
        called(1)
        assert (kernel.last.options.retries, kernel.last.options.version) == (3, 2)
        with flowlib.defaults(version=3):
            app(1)
            assert (kernel.last.options.retries, kernel.last.options.version) == (2, 3)
        app(1)
        assert kernel.last.options.version == 2
    app(1)
    assert (kernel.last.options.retries, kernel.last.options.version) == (1, 1)


def test_blocks_leave_joins_alone(kernel: FakeKernel) -> None:
    """A block's executors and walltime are for what runs on executors; the rest reaches join apps too."""
    app = join_app(lambda: None)
    with flowlib.defaults(executors=["far"], walltime=3, retries=2):
        app()
    assert kernel.last.options.executors == "all"
    assert kernel.last.options.walltime is None
    assert kernel.last.options.retries == 2


def test_walltime_in_the_signature(kernel: FakeKernel) -> None:
    """A default of walltime is an option like any other; the decorator's wins."""

    def slow(x: int, walltime: Any = "1m") -> int:
        return x

    for app, seconds in ((python_app(slow), 60), (python_app(slow, walltime=5), 5)):
        app(1)
        assert kernel.last.options.walltime == seconds
        assert "walltime" not in app.defaults


def test_walltime_of_a_command(kernel: FakeKernel) -> None:
    """A bash app's walltime travels as an argument, for the one that stops the command; a call's own wins."""
    app = bash_app(lambda x: x, walltime="1m")
    app("a")
    assert kernel.last.kwargs == {"walltime": 60}
    app("a", walltime=5)
    assert kernel.last.kwargs == {"walltime": 5}
    with flowlib.defaults(walltime=7):
        app("a")
    assert kernel.last.kwargs == {"walltime": 7}


def test_streams_are_looked_at(kernel: FakeKernel) -> None:
    """A bash app's nonsensical stream is refused at the call; a Python app ignores streams."""
    with pytest.raises(BadStdStreamFile, match="stdout"):
        bash_app(lambda: "")(stdout=("a", "r"))
    with pytest.raises(TypeError, match="stderr"):
        bash_app(lambda: "")(stderr=5)
    python_app(lambda: 1)(stdout=("a", "b", "c"))
    assert len(kernel.calls) == 1


def test_two_priorities_in_a_call(kernel: FakeKernel) -> None:
    """A priority in the specification contradicts the option, and is fine without it."""
    app = python_app(double)
    app(1, flowlib_resource_specification={"priority": 1})
    with pytest.raises(TypeError, match="twice"):
        app.options(priority=1)(1, flowlib_resource_specification={"priority": 1})
    assert len(kernel.calls) == 1


# ------------------------------------------------------------------------------------------------------------ methods


def test_method(kernel: FakeKernel) -> None:
    """An app on a class binds to its instances as a method does, and so do its options and map."""
    scale = Scale(3)
    scale.scale(5)
    assert kernel.last.args == (scale, 5)
    assert kernel.last.app is Scale.scale
    scale.scale.options(retries=1)(x=5)
    assert (kernel.last.args, kernel.last.kwargs, kernel.last.options.retries) == ((scale,), {"x": 5}, 1)
    assert scale.scale.func(5) == 15
    assert scale.scale.__name__ == "scale"
    Scale.scale(scale, 7)
    assert kernel.last.args == (scale, 7)
    with pytest.raises(TypeError, match="missing"):
        scale.scale()  # type: ignore[call-overload]


def test_other_methods(kernel: FakeKernel) -> None:
    """Apps under @classmethod and @staticmethod, and apps of what is no function, bind as those do."""
    made: Any = Scale(1).make
    made(5)
    assert kernel.last.args == (Scale, 5)
    Scale(1).plain(6)
    assert kernel.last.args == (6,)

    class Holder:
        size = python_app(len)

    Holder().size("abc")
    assert kernel.last.args == ("abc",)


# ------------------------------------------------------------------------------------------------------------ pickles


def test_app_in_another_process() -> None:
    """A pickled app comes back with its options, unbound from its kernel."""
    app = python_app(double, data_flow_kernel=FakeKernel(), retries=3)  # type: ignore[call-overload]
    again = pickle.loads(pickle.dumps(app))
    assert (again.name, again.func, again._options.retries, again._kernel) == ("double", double, 3, None)
