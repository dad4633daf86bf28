"""flowlib: parallel workflows in plain Python.

Functions become apps by a decorator; calling one returns a future; futures passed to other apps make the graph; a
``Config`` says where it all runs.

Example:
    >>> import flowlib
    >>> @flowlib.python_app
    ... def square(x: int) -> int:
    ...     return x * x
    >>> square.func(3)
    9
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flowlib import _aliases
from flowlib.version import VERSION

if TYPE_CHECKING:
    from flowlib.app.app import App as App
    from flowlib.app.app import bash_app as bash_app
    from flowlib.app.app import join_app as join_app
    from flowlib.app.app import python_app as python_app
    from flowlib.app.streams import AUTO_LOGNAME as AUTO_LOGNAME
    from flowlib.config import Config as Config
    from flowlib.context import TaskContext as TaskContext
    from flowlib.context import current as current
    from flowlib.data_provider.files import File as File
    from flowlib.dataflow.futures import AppFuture as AppFuture
    from flowlib.dataflow.futures import DataFuture as DataFuture
    from flowlib.dataflow.kernel import DataFlowKernel as DataFlowKernel
    from flowlib.dataflow.loader import cancel_all as cancel_all
    from flowlib.dataflow.loader import clear as clear
    from flowlib.dataflow.loader import dfk as dfk
    from flowlib.dataflow.loader import load as load
    from flowlib.dataflow.loader import wait_for_current_tasks as wait_for_current_tasks
    from flowlib.dataflow.retry import Retry as Retry
    from flowlib.display import progress as progress
    from flowlib.errors import FlowlibError as FlowlibError
    from flowlib.executors.high_throughput.executor import HighThroughputExecutor as HighThroughputExecutor
    from flowlib.executors.inline import InlineExecutor as InlineExecutor
    from flowlib.executors.threads import ThreadPoolExecutor as ThreadPoolExecutor
    from flowlib.logs import set_file_logger as set_file_logger
    from flowlib.logs import set_stream_logger as set_stream_logger
    from flowlib.options import defaults as defaults
    from flowlib.store.refs import ObjectRef as ObjectRef
    from flowlib.store.refs import put as put

__version__ = VERSION

__all__ = [
    "App",
    "AppFuture",
    "AUTO_LOGNAME",
    "bash_app",
    "cancel_all",
    "clear",
    "Config",
    "current",
    "DataFlowKernel",
    "DataFuture",
    "defaults",
    "dfk",
    "File",
    "FlowlibError",
    "HighThroughputExecutor",
    "InlineExecutor",
    "join_app",
    "load",
    "ObjectRef",
    "progress",
    "put",
    "python_app",
    "Retry",
    "set_file_logger",
    "set_stream_logger",
    "TaskContext",
    "ThreadPoolExecutor",
    "wait_for_current_tasks",
    "__version__",
]

# Each is imported when it is first used: `import flowlib` takes milliseconds, and a worker never loads most of it.
_HOMES = {
    "App": "flowlib.app.app",
    "AppFuture": "flowlib.dataflow.futures",
    "AUTO_LOGNAME": "flowlib.app.streams",
    "bash_app": "flowlib.app.app",
    "cancel_all": "flowlib.dataflow.loader",
    "clear": "flowlib.dataflow.loader",
    "Config": "flowlib.config",
    "current": "flowlib.context",
    "DataFlowKernel": "flowlib.dataflow.kernel",
    "DataFuture": "flowlib.dataflow.futures",
    "defaults": "flowlib.options",
    "dfk": "flowlib.dataflow.loader",
    "File": "flowlib.data_provider.files",
    "FlowlibError": "flowlib.errors",
    "HighThroughputExecutor": "flowlib.executors.high_throughput.executor",
    "InlineExecutor": "flowlib.executors.inline",
    "join_app": "flowlib.app.app",
    "load": "flowlib.dataflow.loader",
    "ObjectRef": "flowlib.store.refs",
    "put": "flowlib.store.refs",
    "progress": "flowlib.display",
    "python_app": "flowlib.app.app",
    "Retry": "flowlib.dataflow.retry",
    "set_file_logger": "flowlib.logs",
    "set_stream_logger": "flowlib.logs",
    "TaskContext": "flowlib.context",
    "ThreadPoolExecutor": "flowlib.executors.threads",
    "wait_for_current_tasks": "flowlib.dataflow.loader",
}


_submodule = _aliases.submodules("flowlib")


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value
    if not name.startswith("_"):
        _aliases.refuse_unoffered(name)
        try:
            # `import flowlib` is enough for flowlib.errors.AppTimeout and alike.
            return _submodule(name)
        except AttributeError:
            from flowlib.suggest import closest

            meant = closest(name, __all__)
            hint = f"; did you mean {meant!r}?" if meant is not None else ""
            raise AttributeError(f"module 'flowlib' has no attribute {name!r}{hint}", name=name) from None
    raise AttributeError(f"module 'flowlib' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_aliases.install()
