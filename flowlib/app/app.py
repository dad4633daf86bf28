"""Apps: functions whose calls become tasks.

A decorator checks all it is given at once and makes an ``App``.  A call of an app looks whether the arguments can fit,
picks the options, and hands both to the kernel; everything else happens there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from flowlib.app.signature import SPECIAL, check_call, extra_keywords, signature_of
from flowlib.app.streams import STREAMS, Stream, check_stream
from flowlib.dataflow import loader
from flowlib.errors import NoDataFlowKernelError
from flowlib.options import JOIN_NAMES, NAMES, TaskOptions, block, both_priorities, check, combine
from flowlib.suggest import nearest
from flowlib.units import parse_time

if TYPE_CHECKING:
    from concurrent.futures import Future

    from typing_extensions import Unpack

    from flowlib.app.mapping import MapResults
    from flowlib.dataflow.futures import AppFuture
    from flowlib.dataflow.kernel import DataFlowKernel
    from flowlib.options import OptionValues

    Lazy = Future[Any] | Sequence[Future[Any]] | Mapping[str, Future[Any]]
    """What may stand where a value is declared: a future, or a list or dict of futures."""

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_SPECIFICATION = "flowlib_resource_specification"


class App(Generic[P, R]):
    """A function whose calls become tasks. Made by ``python_app``, ``bash_app`` or ``join_app``.

    Has the function's name, docstring and signature. On a class it binds to instances as a method does.

    Attributes:
        func: The function itself, to be called here and now.
        name: Its name, as messages and the monitor show it.
        kind: "python", "bash" or "join".
        target: What executors run.
        defaults: Defaults of special keyword arguments in the function's signature.

    Example:
        >>> import flowlib
        >>> @flowlib.python_app(retries=2)
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double.name, double.func(21)
        ('double', 42)
    """

    def __init__(
        self,
        func: Callable[P, Any],
        kind: Literal["python", "bash", "join"],
        target: Callable[..., Any],
        given: dict[str, Any],
        kernel: DataFlowKernel | None = None,
    ) -> None:
        functools.update_wrapper(self, func)
        self.func = func
        self.name = name_of(func)
        self.kind = kind
        self.target = target
        self._signature = signature_of(func)
        self.defaults: dict[str, Any] = dict(self._signature.defaults)
        self._extra = extra_keywords(kind)
        self._kernel = kernel
        self._called: dict[str, Any] = {}
        self._take_defaults(given)
        self._given = given
        self._options = combine(given)
        # (defaults block, options under it): a call inside a long block combines nothing.
        self._blocked: tuple[Mapping[str, Any], TaskOptions] | None = None

    @property
    def executors(self) -> str | list[str]:
        """Labels of the executors that may run it, or "all"."""
        labels = self._options.executors
        return labels if isinstance(labels, str) else list(labels)

    # ------------------------------------------------------------------------------------------------------ calling

    # Plain values are checked against the function's parameters. A future may stand for any of the first four, and a
    # call with a special keyword is not checked further: a ParamSpec cannot be widened.
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AppFuture[R]: ...
    @overload
    def __call__(self, a: Lazy, /, *args: Any, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, a: Any, b: Lazy, /, *args: Any, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, a: Any, b: Any, c: Lazy, /, *args: Any, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, a: Any, b: Any, c: Any, d: Lazy, /, *args: Any, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, inputs: Sequence[Any], **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, outputs: Sequence[Any], **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, stdout: Stream, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, stderr: Stream, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, walltime: float | str, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, label: str, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, flowlib_resource_specification: dict[str, Any], **kwargs: Any) -> AppFuture[R]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> AppFuture[Any]:
        """Make a task of this call.

        Args:
            *args: As for the function; futures where it takes values.
            **kwargs: Likewise, and the special ones: ``inputs``, ``outputs``, ``stdout``, ``stderr``, ``walltime``,
                ``label`` and ``flowlib_resource_specification``.

        Returns:
            The future of what the function returns; 0 for a bash app.

        Raises:
            NoDataFlowKernelError: Nothing is loaded.
            TypeError: The arguments do not fit the function.
            ValueError: An executor is named that does not exist, or a walltime that is none.
            BadStdStreamFile: A ``stdout`` or ``stderr`` that makes no sense.
        """
        return self.submit(args, kwargs)

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AppFuture[R]:
        """A call with its arguments as a tuple and a dict; the dict becomes the task's own.

        Raises:
            TypeError: As for a call, and so for the other errors.
        """
        options = self._options
        around = block.get()
        if around is not None:
            options = self._under(around)
        if kwargs:
            self._check_keywords(args, kwargs, options)
        elif not self._signature.low <= len(args) <= self._signature.high:
            check_call(self.name, self.func, self._signature, args, kwargs, self._extra)
        if options.walltime is not None and self.kind == "bash" and kwargs.get("walltime") is None:
            # The command is stopped by the one that started it, which sees arguments only.
            kwargs["walltime"] = options.walltime
        kernel = self._kernel
        if kernel is None:
            kernel = loader.current or self._loaded()
        return kernel.submit_app(self, options, args, kwargs)

    def map(
        self, iterable: Iterable[Any], /, *more: Iterable[Any], chunksize: int | Literal["auto"] = "auto"
    ) -> MapResults[R]:
        """Call the app for every item, many items per task; values come in order, as they are there.

        Items are taken from the iterable as they are needed: only so many are under way as keep the workers busy.

        Args:
            iterable: One argument per call.
            *more: Further arguments; the shortest iterable ends it, as with the built-in ``map``.
            chunksize: Items per task; "auto" measures how long they take.

        Returns:
            An iterator. An item that failed raises its exception when its turn comes, and iteration may go on.

        Raises:
            NoDataFlowKernelError: Nothing is loaded.
            TypeError: An argument is not iterable, or ``chunksize`` is neither a number nor "auto".
            ValueError: ``chunksize`` is less than 1.
        """
        from flowlib.app.mapping import MapResults

        return MapResults(self, (iterable, *more), chunksize)

    def options(self, **options: Unpack[OptionValues]) -> App[P, R]:
        """The same app with other options; this one stays as it is.

        Args:
            **options: As for the decorator. They win over a ``with flowlib.defaults(...)`` block.

        Raises:
            TypeError: An option that does not exist, or a value of the wrong type.
            ValueError: A value that makes no sense.
        """
        checked = self._check(f"{self.name}.options", options)
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._called = {**self._called, **checked}
        other._options = combine(self._given, other._called)
        other._blocked = None
        return other

    # ------------------------------------------------------------------------------------------------ as a method

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> App[P, R]: ...
    @overload
    def __get__(self: App[Concatenate[T, Q], R], instance: T, owner: type | None = None) -> BoundApp[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # What is stored on a class is a method only if the function itself would be one there.
        if instance is None or not hasattr(type(self.func), "__get__"):
            return self
        return BoundApp(self, instance)

    # ------------------------------------------------------------------------------------------------------ inside

    def resolved(self) -> tuple[DataFlowKernel, TaskOptions]:
        """The kernel and the options that a call would have now.

        Raises:
            NoDataFlowKernelError: Nothing is loaded.
        """
        around = block.get()
        return self._kernel or self._loaded(), self._options if around is None else self._under(around)

    def _loaded(self) -> DataFlowKernel:
        """The loaded kernel; inside a task on a worker there is none, and the reason is another."""
        from flowlib.context import find_current

        task = find_current()
        if task is not None and loader.current is None:
            raise NoDataFlowKernelError(
                f"app {self.name} was called inside {task!r}, in a process where nothing is loaded: call the plain "
                f"function, {self.name}.func(...), or make the calling app a join_app"
            )
        return loader.dfk()

    def _under(self, around: Mapping[str, Any]) -> TaskOptions:
        """The options inside a ``defaults`` block."""
        known = self._blocked
        if known is not None and known[0] is around:
            return known[1]
        layer = {k: v for k, v in around.items() if k in JOIN_NAMES} if self.kind == "join" else around
        options = combine(self._given, layer, self._called)
        self._blocked = (around, options)
        return options

    def _check_keywords(self, args: tuple[Any, ...], kwargs: dict[str, Any], options: TaskOptions) -> None:
        if not self._signature.fits(args, kwargs, self._extra):
            check_call(self.name, self.func, self._signature, args, kwargs, self._extra)
        if self.kind == "bash":
            for name in STREAMS:
                if name in kwargs:
                    check_stream(kwargs[name], f"app {self.name}: {name}")
        if _SPECIFICATION in kwargs and options.priority is not None and "priority" in (kwargs[_SPECIFICATION] or ()):
            raise TypeError(both_priorities(f"app {self.name}"))

    def _take_defaults(self, given: dict[str, Any]) -> None:
        """Check the defaults of special parameters, and make options of those that are options."""
        for name in STREAMS:
            if name in self.defaults and self.kind == "bash":
                check_stream(self.defaults[name], f"app {self.name}: default of {name}")
        walltime = self.defaults.pop("walltime", None)
        if walltime is not None and "walltime" not in given:
            given["walltime"] = parse_time(walltime, f"app {self.name}: default of walltime")
        specification = self.defaults.get(_SPECIFICATION)
        if specification and given.get("priority") is not None and "priority" in specification:
            raise TypeError(both_priorities(f"app {self.name}"))
        self._check_ignored(f"{self.kind}_app", given)

    def _check(self, where: str, options: Mapping[str, Any]) -> dict[str, Any]:
        checked = check(where, options, JOIN_NAMES if self.kind == "join" else NAMES)
        self._check_ignored(where, checked)
        return checked

    def _check_ignored(self, where: str, checked: Mapping[str, Any]) -> None:
        names = self._signature.names
        for name in checked.get("ignore_for_cache", ()):
            if names is not None and name not in names and name not in self._signature.positional:
                if name in SPECIAL:
                    continue
                raise ValueError(
                    f"{where}: ignore_for_cache holds {name!r}, which is no argument of "
                    f"{self.name}{nearest(name, names)}"
                )

    def __getstate__(self) -> dict[str, Any]:
        # In another process there is another kernel, or none.
        state = {**self.__dict__, "_kernel": None, "_blocked": None}
        state.pop("_batches", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"<{self.kind} app {self.name}>"


class BoundApp(Generic[P, R]):
    """An app as a method of an object; made by looking it up on the object.

    Args:
        app: The app on the class.
        instance: The object, which is the first argument of every call.
    """

    def __init__(self, app: App[Any, R], instance: Any) -> None:
        functools.update_wrapper(self, app.func)
        self.app = app
        self.instance = instance

    @property
    def name(self) -> str:
        """The app's name."""
        return self.app.name

    @property
    def func(self) -> Callable[P, Any]:
        """The method itself, to be called here and now."""
        method: Callable[P, Any] = self.app.func.__get__(self.instance)
        return method

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AppFuture[R]: ...
    @overload
    def __call__(self, a: Lazy, /, *args: Any, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, a: Any, b: Lazy, /, *args: Any, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, a: Any, b: Any, c: Lazy, /, *args: Any, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, inputs: Sequence[Any], **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, outputs: Sequence[Any], **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, stdout: Stream, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, stderr: Stream, **kwargs: Any) -> AppFuture[R]: ...
    @overload
    def __call__(self, *args: Any, walltime: float | str, **kwargs: Any) -> AppFuture[R]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> AppFuture[Any]:
        """Make a task of this call; see ``App``."""
        return self.app.submit((self.instance, *args), kwargs)

    def options(self, **options: Unpack[OptionValues]) -> BoundApp[P, R]:
        """The same app with other options; see ``App``."""
        return BoundApp(self.app.options(**options), self.instance)

    def map(
        self, iterable: Iterable[Any], /, *more: Iterable[Any], chunksize: int | Literal["auto"] = "auto"
    ) -> MapResults[R]:
        """Call the app for every item; see ``App``."""
        from itertools import repeat

        return self.app.map(repeat(self.instance), iterable, *more, chunksize=chunksize)

    def __repr__(self) -> str:
        return f"<{self.app.kind} app {self.app.name} of {self.instance!r}>"


def name_of(func: Any) -> str:
    """What a callable is called in messages and file names."""
    for part in (func, getattr(func, "func", None), type(func)):
        name = getattr(part, "__name__", None)
        if isinstance(name, str):
            return name
    return "app"


# --------------------------------------------------------------------------------------------------------- decorators


class PythonDecorator(Protocol):
    """What ``python_app`` with options returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> App[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> App[P, R]: ...


class BashDecorator(Protocol):
    """What ``bash_app`` with options returns."""

    def __call__(self, function: Callable[P, str | Coroutine[Any, Any, str]], /) -> App[P, int]:
        """Make the app."""
        ...


class JoinDecorator(Protocol):
    """What ``join_app`` with options returns."""

    @overload
    def __call__(self, function: Callable[P, Future[R]], /) -> App[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, list[AppFuture[R]]], /) -> App[P, list[R]]: ...
    @overload
    def __call__(self, function: Callable[P, Any], /) -> App[P, Any]: ...


@overload
def python_app(
    function: Callable[P, Coroutine[Any, Any, R]],
    data_flow_kernel: DataFlowKernel | None = None,
    **options: Unpack[OptionValues],
) -> App[P, R]: ...
@overload
def python_app(
    function: Callable[P, R], data_flow_kernel: DataFlowKernel | None = None, **options: Unpack[OptionValues]
) -> App[P, R]: ...
@overload
def python_app(
    function: None = None, data_flow_kernel: DataFlowKernel | None = None, **options: Unpack[OptionValues]
) -> PythonDecorator: ...
def python_app(function: Any = None, data_flow_kernel: DataFlowKernel | None = None, **options: Any) -> Any:
    """Make an app of a Python function: ``@python_app``, ``@python_app(retries=2)`` or ``python_app(function)``.

    Args:
        function: Any callable, also ``async def``; None to get a decorator.
        data_flow_kernel: The kernel that its tasks belong to; None for the one loaded when it is called.
        **options: ``executors`` (label, or list of labels; default "all"), ``cache`` (remember results; default
            False), ``ignore_for_cache`` (arguments that make no difference to that), ``resources`` (amounts by name,
            like ``{"cores": 4, "memory": "8GB"}``), ``priority`` (higher runs first), ``retries`` (a number
            or a ``flowlib.Retry``) and ``lost_retries`` (default: the Config's), ``walltime`` (of one attempt: 90,
            "90s", "2h30m", "1:30:00"; default: no limit), ``version`` (change it when remembered results are no longer
            right).

    Returns:
        An ``App``.

    Raises:
        TypeError: Not a callable, an option that does not exist, or a value of the wrong type.
        ValueError: A value that makes no sense.

    Example:
        >>> @python_app
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> add
        <python app add>
    """
    return _decorate("python", function, data_flow_kernel, options)


@overload
def bash_app(
    function: Callable[P, str | Coroutine[Any, Any, str]],
    data_flow_kernel: DataFlowKernel | None = None,
    *,
    workdir: Literal["block", "task"] = "block",
    **options: Unpack[OptionValues],
) -> App[P, int]: ...
@overload
def bash_app(
    function: None = None,
    data_flow_kernel: DataFlowKernel | None = None,
    *,
    workdir: Literal["block", "task"] = "block",
    **options: Unpack[OptionValues],
) -> BashDecorator: ...
def bash_app(
    function: Any = None,
    data_flow_kernel: DataFlowKernel | None = None,
    *,
    workdir: Literal["block", "task"] = "block",
    **options: Any,
) -> Any:
    """Make an app of a function that returns a command line, which bash then runs; its value is 0.

    The function runs where the command does. The keyword arguments ``stdout`` and ``stderr`` of a call say where the
    command's output goes, ``outputs`` which files it makes.

    Args:
        function: A callable that returns a string; None to get a decorator.
        data_flow_kernel: The kernel that its tasks belong to; None for the one loaded when it is called.
        workdir: Where commands run: "block", the working directory of the worker, or "task", a new directory below
            it for each attempt. Files given as ``File`` mean the same in both.
        **options: As for ``python_app``.

    Returns:
        An ``App``.

    Raises:
        TypeError: Not a callable, an option that does not exist, or a value of the wrong type.
        ValueError: A value that makes no sense.
        BadStdStreamFile: A default of ``stdout`` or ``stderr`` that makes no sense.

    Example:
        >>> @bash_app
        ... def count(inputs=(), outputs=()):
        ...     return f"wc -l {inputs[0]} > {outputs[0]}"
        >>> count.func(inputs=["a"], outputs=["b"])
        'wc -l a > b'
    """
    if workdir not in ("block", "task"):
        raise ValueError(f"bash_app: workdir is {workdir!r}; give 'block' or 'task'")
    return _decorate("bash", function, data_flow_kernel, options, workdir)


@overload
def join_app(
    function: Callable[P, Future[R]], data_flow_kernel: DataFlowKernel | None = None, **options: Unpack[OptionValues]
) -> App[P, R]: ...
@overload
def join_app(
    function: Callable[P, list[AppFuture[R]]],
    data_flow_kernel: DataFlowKernel | None = None,
    **options: Unpack[OptionValues],
) -> App[P, list[R]]: ...
@overload
def join_app(
    function: Callable[P, Any], data_flow_kernel: DataFlowKernel | None = None, **options: Unpack[OptionValues]
) -> App[P, Any]: ...
@overload
def join_app(
    function: None = None, data_flow_kernel: DataFlowKernel | None = None, **options: Unpack[OptionValues]
) -> JoinDecorator: ...
def join_app(function: Any = None, data_flow_kernel: DataFlowKernel | None = None, **options: Any) -> Any:
    """Make an app of a function that calls other apps and returns a future, or a list of futures, of theirs.

    The function runs in the script's own process when its arguments are there; the app's value is the value of what
    it returned. No worker waits meanwhile, so join apps may be recursive.

    Args:
        function: A callable that returns a future or a list of futures; None to get a decorator.
        data_flow_kernel: The kernel that its tasks belong to; None for the one loaded when it is called.
        **options: ``cache``, ``ignore_for_cache``, ``retries``, ``lost_retries`` and ``version`` as for
            ``python_app``.

    Returns:
        An ``App``.

    Raises:
        TypeError: Not a callable, an option that does not exist, or a value of the wrong type.
        ValueError: A value that makes no sense.

    Example:
        >>> @python_app
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> @join_app
        ... def triple(x: int):
        ...     return add(add(x, x), x)
        >>> triple
        <join app triple>
    """
    return _decorate("join", function, data_flow_kernel, options)


def _decorate(
    kind: Literal["python", "bash", "join"],
    function: Any,
    kernel: Any,
    options: dict[str, Any],
    workdir: str = "block",
) -> Any:
    where = f"{kind}_app"
    valid = JOIN_NAMES if kind == "join" else (*NAMES, "workdir") if kind == "bash" else NAMES
    given = check(where, options, valid)
    if kernel is not None and not hasattr(kernel, "submit_app"):
        raise TypeError(f"{where}: data_flow_kernel is {kernel!r}; give a DataFlowKernel, or None for the loaded one")

    def make(func: Any) -> App[Any, Any]:
        _check_callable(where, func)
        target = func
        if kind == "bash":
            from flowlib.app.bash import BashCall

            target = BashCall(func, name_of(func), workdir)
        return App(func, kind, target, dict(given), kernel)

    return make if function is None else make(function)


def _check_callable(where: str, func: Any) -> None:
    if isinstance(func, (App, BoundApp)):
        raise TypeError(f"{where}: {func!r} is an app already; use its options(...), or {where}({func.name}.func)")
    if isinstance(func, (classmethod, staticmethod)):
        kind = type(func).__name__
        raise TypeError(f"{where} was given a {kind}, which is not callable by itself: write @{kind} above @{where}")
    if not callable(func):
        hint = f"; labels are given as executors={func!r}" if isinstance(func, (str, list, tuple)) else ""
        raise TypeError(f"{where} needs a callable, not {func!r}{hint}")
