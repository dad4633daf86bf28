"""The keyword arguments that every app understands, put right before a task is made.

``inputs outputs stdout stderr walltime label flowlib_resource_specification``: most calls have none of them, so the
kernel comes here only when there are keyword arguments or defaults.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowlib.dataflow.futures import AppFuture, DataFuture
from flowlib.units import specification_in_bytes

if TYPE_CHECKING:
    from flowlib.dataflow.lanes import Lane
    from flowlib.dataflow.record import TaskRecord

SPECIFICATION = "flowlib_resource_specification"
_OPTIONAL = ("walltime", SPECIFICATION, "label", "stdout", "stderr")
_STREAMS = ("stdout", "stderr")
_NAMES = frozenset({*_OPTIONAL, "outputs"})


def with_defaults(app: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A call's keyword arguments, with the defaults of special ones that the app's signature has."""
    defaults = app.defaults
    if not defaults:
        return kwargs
    code = getattr(app.func, "__code__", None)
    by_position = () if code is None else code.co_varnames[: min(len(args), code.co_argcount)]
    merged = {name: value for name, value in defaults.items() if name not in by_position}
    merged.update(kwargs)
    return merged


def prepare(record: TaskRecord, future: AppFuture[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Read the special arguments into the record and its future.

    Args:
        record: The task, with its id.
        future: Its future.
        kwargs: Keyword arguments of the call.

    Returns:
        The keyword arguments that the function gets: files and stream names in place, and without special ones that
        a Python function does not take.

    Raises:
        TypeError: Something has the wrong type.
        ValueError: A walltime that is none.
    """
    if _NAMES.isdisjoint(kwargs):
        return kwargs
    kwargs = dict(kwargs)
    walltime = kwargs.get("walltime")
    if walltime is not None:
        record.walltime = kwargs["walltime"] = _seconds(walltime)
    specification = kwargs.get(SPECIFICATION)
    if specification:
        if not isinstance(specification, dict):
            raise TypeError(f"{SPECIFICATION} is {specification!r}, it must be a dict")
        record.resource_specification = specification_in_bytes(specification)
    if kwargs.get("label") is not None:
        record.more().label = str(kwargs["label"])
    for name in _STREAMS:
        if kwargs.get(name) is not None:
            kwargs[name] = _stream(record, future, name, kwargs[name])
    if kwargs.get("outputs"):
        kwargs["outputs"] = _outputs(record, future, kwargs["outputs"])
    if record.app.kind != "bash":
        takes = _acceptor(record.app.func)
        for name in _OPTIONAL:
            if name in kwargs and not takes(name):
                del kwargs[name]
    return kwargs


def check_files(lanes: tuple[Lane, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse files that are not on a file system that all share.

    Args:
        lanes: Executors that may run the task.
        args: Positional arguments.
        kwargs: Keyword arguments; also the items of ``inputs`` and ``outputs`` are looked at.

    Raises:
        ValueError: There is one.
    """
    from flowlib.data_provider.files import File

    values = [*args, *kwargs.values()]
    for name in ("inputs", "outputs"):
        if isinstance(kwargs.get(name), (list, tuple)):
            values += kwargs[name]
    for value in values:
        if isinstance(value, DataFuture):
            value = value.file_obj
        if isinstance(value, File) and value.scheme != "file":
            raise ValueError(
                f"executor {lanes[0].label!r} cannot stage file {value.url!r}: only files on a file system that the "
                "workers share can be used (scheme 'file' or none); copy it there first"
            )


def log_path(run_dir: str, task: int, name: str, label: str | None, stream: str) -> str:
    """Where ``AUTO_LOGNAME`` puts a stream.

    Example:
        >>> log_path("runinfo/000", 12, "count", None, "stdout")
        'runinfo/000/task_logs/0000/task_0012_count.stdout'
    """
    suffix = "" if label is None else f"_{label}"
    return os.path.join(run_dir, "task_logs", f"{task // 10000:04}", f"task_{task:04}_{name}{suffix}.{stream}")


def _seconds(walltime: Any) -> float:
    if isinstance(walltime, (int, float)) and not isinstance(walltime, bool):
        if walltime <= 0:
            raise ValueError(f"walltime is {walltime}, it must be a positive number of seconds")
        return walltime
    from flowlib.units import parse_time

    return parse_time(walltime)


def _stream(record: TaskRecord, future: AppFuture[Any], name: str, given: Any) -> Any:
    """What the function gets as ``name``; the record keeps what the future shows."""
    from flowlib.app.streams import AUTO_LOGNAME
    from flowlib.data_provider.files import File

    if given is AUTO_LOGNAME:
        record.more().automatic += (name,)
        autopath = record.kernel.config.std_autopath
        if autopath is None:
            label = None if record.rare is None else record.rare.label
            given = log_path(record.kernel.run_dir, record.id, record.app.name, label, name)
        else:
            given = autopath(record, name)
    shown = DataFuture(future, given, record.id) if isinstance(given, File) else given
    setattr(record.more(), name, shown)
    return given


def _outputs(record: TaskRecord, future: AppFuture[Any], given: Any) -> list[Any]:
    from flowlib.data_provider.files import File

    if not isinstance(given, (list, tuple)):
        hint = f": write outputs=[File({str(given)!r})]" if isinstance(given, (str, os.PathLike)) else ""
        hint = ": write outputs=[file]" if isinstance(given, File) else hint
        raise TypeError(f"outputs is {given!r}, it must be a list of File{hint}")
    for item in given:
        if not isinstance(item, File):
            if isinstance(item, (str, os.PathLike)):
                # Shown as text: a Path's own form would need an import, and means the same file.
                hint = f"write outputs=[File({os.fspath(item)!r})]"
            elif isinstance(item, DataFuture):
                hint = (
                    f"that file is made by another task: give it in inputs, or write outputs=[File({item.filepath!r})]"
                )
            else:
                hint = "give File(path) for each file that the app makes"
            raise TypeError(f"outputs holds {item!r}, which is no File: {hint}")
    record.more().outputs = [DataFuture(future, item, record.id) for item in given]
    return list(given)


def _acceptor(func: Callable[..., Any]) -> Callable[[str], bool]:
    """Tells whether ``func`` takes a keyword argument of a name."""
    code = getattr(func, "__code__", None)
    if code is not None and not hasattr(func, "__wrapped__"):
        if code.co_flags & inspect.CO_VARKEYWORDS:
            return lambda name: True
        names = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        return names.__contains__
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):
        # A builtin without a signature takes no names of ours.
        return lambda name: False
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return lambda name: True
    return parameters.__contains__
