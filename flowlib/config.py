"""The settings of a run.

Plain and changeable until a run uses them; every value is checked when it is set, by a few lines here that cost
nothing at import, so that a mistake shows where it is made and with the name that was probably meant.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flowlib.errors import ConfigurationError

if TYPE_CHECKING:
    from flowlib.dataflow.dependencies import DependencyResolver
    from flowlib.dataflow.memoization import Memoizer
    from flowlib.dataflow.record import TaskRecord
    from flowlib.dataflow.retry import Retry
    from flowlib.executors.base import FlowlibExecutor
    from flowlib.logs import LogConfig

F = TypeVar("F", bound=Callable[..., None])
Check = Callable[[str, Any], Any]

EXIT_MODES = ("cleanup", "skip", "wait")
STRATEGIES = ("none", "simple", "htex_auto_scale")


def _known_options_only(init: F) -> F:
    """Make ``Config(retires=1)`` say that ``retries`` was probably meant."""

    @wraps(init)
    def checked(self: Config, *args: Any, **options: Any) -> None:
        unknown = next((name for name in options if name not in _CHECKS), None)
        if unknown is not None:
            raise TypeError(_unknown(unknown))
        init(self, *args, **options)

    return cast("F", checked)


class Config:
    """The settings of a run. It can be loaded, and after that run's end loaded again.

    Args:
        executors: What runs the tasks, each with its own label. None for one ``ThreadPoolExecutor``.
        memoizer: Remembers values of apps with ``cache=True``; None for a ``BasicMemoizer``.
        dependency_resolver: How futures are found in arguments; None to look into containers at any depth (join apps:
            arguments themselves only).
        exit_mode: What leaving the ``with`` block does: "cleanup" ends the run, "wait" waits for all tasks first (not
            after an exception), "skip" does nothing.
        garbage_collect: Forget finished tasks. If False, ``dfk.tasks`` keeps them all.
        internal_tasks_max_threads: Most threads for bodies of join apps.
        retries: What a task's failures may cost before it fails for good; each costs 1 unless there is a handler. Or a
            ``flowlib.Retry``, with a number for each cause of failure.
        retry_handler: Takes the exception and the task's record, returns the cost of the failure.
        lost_retries: How often a task that is lost with a machine or a part of flowlib is sent again; costs no retries.
        run_dir: Directory of the runs; each makes a numbered directory in it.
        std_autopath: Takes the task's record and "stdout" or "stderr", returns the file for ``AUTO_LOGNAME``.
        strategy: How blocks are added and removed: "none", "simple", "htex_auto_scale". None is "none".
        strategy_period: Seconds between looks at the load.
        max_idletime: Seconds after which idle blocks may be removed.
        monitoring: None; every run records its events (see ``events``).
        usage_tracking: Accepted for compatibility; nothing is ever sent.
        project_name: Accepted for compatibility.
        initialize_logging: Keep ``flowlib.log`` in the run directory; or a ``LogConfig``.
        events: Record the run's events in its directory.
        progress: Show progress on standard error while the run lasts. None is False.

    Raises:
        TypeError: An option is unknown or has the wrong type.
        ConfigurationError: A value cannot work: equal labels, an unknown strategy ...

    Example:
        >>> from flowlib.executors import ThreadPoolExecutor
        >>> config = Config(executors=[ThreadPoolExecutor(max_threads=4)], retries=2)
        >>> config.retries = 3
    """

    @_known_options_only
    def __init__(
        self,
        executors: Iterable[FlowlibExecutor] | None = None,
        *,
        memoizer: Memoizer | None = None,
        dependency_resolver: DependencyResolver | None = None,
        exit_mode: str = "cleanup",
        garbage_collect: bool = True,
        internal_tasks_max_threads: int = 10,
        retries: int | Retry = 0,
        retry_handler: Callable[[BaseException, TaskRecord], float] | None = None,
        lost_retries: int = 2,
        run_dir: str | os.PathLike[str] = "runinfo",
        std_autopath: Callable[[TaskRecord, str], Any] | None = None,
        strategy: str | None = "simple",
        strategy_period: float = 5,
        max_idletime: float = 120.0,
        monitoring: None = None,
        usage_tracking: int = 0,
        project_name: str | None = None,
        initialize_logging: bool | LogConfig = True,
        events: bool = True,
        progress: bool | None = None,
    ) -> None:
        self._users = 0
        if executors is None:
            from flowlib.executors.threads import ThreadPoolExecutor

            executors = (ThreadPoolExecutor(),)
        self.executors: Sequence[FlowlibExecutor] = cast("Sequence[FlowlibExecutor]", executors)
        self.memoizer = memoizer
        self.dependency_resolver = dependency_resolver
        self.exit_mode = exit_mode
        self.garbage_collect = garbage_collect
        self.internal_tasks_max_threads = internal_tasks_max_threads
        self.retries = retries
        self.retry_handler = retry_handler
        self.lost_retries = lost_retries
        self.run_dir: str = cast("str", run_dir)
        self.std_autopath = std_autopath
        self.strategy: str = cast("str", strategy)
        self.strategy_period = strategy_period
        self.max_idletime = max_idletime
        self.monitoring = monitoring
        self.usage_tracking = usage_tracking
        self.project_name = project_name
        self.initialize_logging = initialize_logging
        self.events = events
        self.progress = progress

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_users":
            object.__setattr__(self, name, value)
            return
        if name not in _CHECKS:
            raise TypeError(_unknown(name))
        if self._users:
            raise ConfigurationError(
                f"{name} cannot be set: a run uses this Config; change it before flowlib.load() or after the run's end"
            )
        object.__setattr__(self, name, _CHECKS[name](name, value))

    def acquire(self) -> None:
        """A run begins to use this: no more changes.

        Raises:
            ConfigurationError: Labels of executors, which may have been changed, are equal.
        """
        _labels(self.executors)
        with _lock:
            self._users += 1

    def release(self) -> None:
        """A run has ended."""
        with _lock:
            self._users -= 1

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in _CHECKS if name in vars(self))
        return f"Config({settings})"


_lock = threading.Lock()


# ------------------------------------------------------------------------------------------------------ the checks


def _unknown(name: str) -> str:
    from flowlib.suggest import nearest

    return f"Config has no option {name!r}{nearest(name, _CHECKS)}"


def _bad(name: str, value: Any, allowed: str) -> TypeError:
    return TypeError(f"Config: {name} is {value!r} of type {type(value).__name__}, it must be {allowed}")


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(name, value, "True or False")
    return value


def _maybe_flag(name: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise _bad(name, value, "True, False or None")
    return value


def _number(low: float, whole: bool) -> Check:
    kinds = int if whole else (int, float)
    what = f"a {'whole ' if whole else ''}number, {low} or more"

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise _bad(name, value, what)
        if not value >= low:
            raise ConfigurationError(f"Config: {name} is {value!r}, it must be {what}")
        return value

    return check


def _retries(name: str, value: Any) -> Any:
    from flowlib.dataflow.retry import check_retries

    try:
        return check_retries(f"Config: {name}", value)
    except ValueError as e:
        raise ConfigurationError(str(e)) from None


def _choice(values: tuple[str, ...], none: str | None = None) -> Check:
    def check(name: str, value: Any) -> Any:
        if value is None and none is not None:
            return none
        if value not in values:
            from flowlib.suggest import nearest

            raise ConfigurationError(f"Config: there is no {name} {value!r}{nearest(str(value), values)}")
        return value

    return check


def _maybe_callable(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise _bad(name, value, "a function or None")
    return value


def _maybe_text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _bad(name, value, "a string or None")
    return value


def _path(name: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or isinstance(value, bytes):
        raise _bad(name, value, "a path")
    return str(os.fspath(value))


def _usage(name: str, value: Any) -> int:
    if not isinstance(value, int):
        raise _bad(name, value, "0 to 3; nothing is ever sent")
    if not 0 <= value <= 3:
        raise ConfigurationError(f"Config: {name} is {value!r}, it must be 0 to 3; nothing is ever sent")
    return value


def _logging(name: str, value: Any) -> Any:
    if not isinstance(value, bool) and not hasattr(value, "initialize_logging"):
        raise _bad(name, value, "True, False or a LogConfig")
    return value


def _monitoring(name: str, value: Any) -> None:
    if value is not None:
        raise ConfigurationError(
            f"Config: {name} is {value!r}; there is no monitoring hub to configure: every run records its events "
            "(events=True), leave monitoring out"
        )


def _methods(what: str, *names: str) -> Check:
    def check(name: str, value: Any) -> Any:
        if value is not None and not all(callable(getattr(value, method, None)) for method in names):
            raise _bad(name, value, f"a {what} or None")
        return value

    return check


def _executors(name: str, value: Any) -> tuple[Any, ...]:
    from flowlib.executors.base import FlowlibExecutor

    if isinstance(value, (str, FlowlibExecutor)) or not isinstance(value, Iterable):
        given = value if isinstance(value, str) or not isinstance(value, FlowlibExecutor) else type(value)
        raise _bad(name, given, "a list of executors")
    executors = tuple(value)
    for executor in executors:
        if not isinstance(executor, FlowlibExecutor):
            raise _bad(name, executor, "a list of executors")
    if not executors:
        raise ConfigurationError(f"Config: {name} is empty, give at least one executor")
    _labels(executors)
    return executors


def _labels(executors: Sequence[Any]) -> None:
    labels: list[str] = []
    for executor in executors:
        if executor.label in labels:
            raise ConfigurationError(
                f"Config: two executors have the label {executor.label!r}: give each its own, "
                f"{type(executor).__name__}(label=...)"
            )
        labels.append(executor.label)


_CHECKS: dict[str, Check] = {
    "executors": _executors,
    "memoizer": _methods("Memoizer", "check_memo", "update_memo_result"),
    "dependency_resolver": _methods("DependencyResolver", "traverse_to_unwrap", "traverse_to_gather"),
    "exit_mode": _choice(EXIT_MODES),
    "garbage_collect": _flag,
    "internal_tasks_max_threads": _number(1, whole=True),
    "retries": _retries,
    "retry_handler": _maybe_callable,
    "lost_retries": _number(0, whole=True),
    "run_dir": _path,
    "std_autopath": _maybe_callable,
    "strategy": _choice(STRATEGIES, none="none"),
    "strategy_period": _number(0.001, whole=False),
    "max_idletime": _number(0, whole=False),
    "monitoring": _monitoring,
    "usage_tracking": _usage,
    "project_name": _maybe_text,
    "initialize_logging": _logging,
    "events": _flag,
    "progress": _maybe_flag,
}
