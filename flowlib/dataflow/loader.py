"""The current kernel: what apps that are not bound to a kernel use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from flowlib.errors import ConfigurationError, NoDataFlowKernelError

if TYPE_CHECKING:
    from flowlib.config import Config
    from flowlib.dataflow.kernel import DataFlowKernel

current: DataFlowKernel | None = None
"""The loaded kernel. Apps read it at each call."""

_lock = threading.Lock()
_loading = False


def load(config: Config | str | None = None, **choices: Any) -> DataFlowKernel:
    """Start a run and make it the current one.

    Args:
        config: A ``Config``, or the name of one that ``flowlib.configs`` knows. None for this machine: a
            high-throughput executor with one worker per core; or, where the environment has ``FLOWLIB_SITE``, as
            ``flowlib run`` sets it, the machine of that name with the choices in ``FLOWLIB_CHOICES``.
        choices: With a name, what the machine asks for and what is wanted of it: ``account="abc123"``, ``nodes=4``,
            ``walltime="2h"``, ``partition="debug"`` ...; see ``flowlib.configs.build``.

    Returns:
        The kernel; a context manager that ends the run as the configuration's ``exit_mode`` says.

    Raises:
        ConfigurationError: A run is loaded already, or the configuration cannot work.
        TypeError: ``config`` is something else.

    Example:
        >>> import tempfile
        >>> from flowlib.config import Config
        >>> from flowlib.executors import InlineExecutor
        >>> with load(Config(executors=[InlineExecutor()], run_dir=tempfile.mkdtemp())) as kernel:
        ...     kernel is dfk()
        True
    """
    global current, _loading
    with _lock:
        if current is not None or _loading:
            where = "" if current is None else f" (its run is in {current.run_dir})"
            raise ConfigurationError(
                f"Config has already been loaded{where}: end it by dfk().cleanup() or leaving its with block, or "
                "forget it by flowlib.clear()"
            )
        _loading = True
    try:
        from flowlib.dataflow.kernel import DataFlowKernel

        kernel = DataFlowKernel(_config(config, choices))
        current = kernel
        return kernel
    finally:
        _loading = False


def clear() -> None:
    """Forget the current run; its tasks go on. A run that is to end is ended by ``dfk().cleanup()``."""
    global current
    current = None


def dfk() -> DataFlowKernel:
    """The current kernel.

    Raises:
        NoDataFlowKernelError: Nothing is loaded.
    """
    kernel = current
    if kernel is None:
        raise NoDataFlowKernelError("Must first load config: call flowlib.load(), or use `with flowlib.load(...):`")
    return kernel


def wait_for_current_tasks() -> None:
    """Wait until every task that was submitted so far to the current run is done.

    Raises:
        NoDataFlowKernelError: Nothing is loaded.
    """
    dfk().wait_for_current_tasks()


def cancel_all(running: bool = False, grace: float = 5.0) -> int:
    """Cancel every task of the current run that is not done.

    Args:
        running: Whether to end those that run, on executors that have processes.
        grace: Seconds that these have between SIGTERM and SIGKILL.

    Returns:
        How many are cancelled or will be, those not counted that fail because they depend on one.

    Raises:
        NoDataFlowKernelError: Nothing is loaded.
    """
    return dfk().cancel_all(running, grace)


def forget(kernel: DataFlowKernel) -> None:
    """Forget ``kernel`` if it is the current one: its run is over."""
    global current
    if current is kernel:
        current = None


class _Current(type):
    """Lets scripts look at the loader's kernel without the error that ``dfk()`` raises when there is none."""

    @property
    def _dfk(cls) -> DataFlowKernel | None:
        return current


class DataFlowKernelLoader(metaclass=_Current):
    """The same as the functions of this module, under the name that the field's scripts use."""

    load = staticmethod(load)
    clear = staticmethod(clear)
    dfk = staticmethod(dfk)
    wait_for_current_tasks = staticmethod(wait_for_current_tasks)


def _config(given: object, choices: dict[str, Any]) -> Config:
    from flowlib.config import Config

    if isinstance(given, str):
        from flowlib.configs import build

        return build(given, **choices)
    if choices:
        raise TypeError(
            f"load({next(iter(choices))}=...) goes with the name of a machine, flowlib.load('frontier', ...); "
            "give everything else to Config(...)"
        )
    if given is None:
        from flowlib.sites.environment import from_environment

        return from_environment() or _this_machine()
    if isinstance(given, Config):
        return given
    raise TypeError(f"load takes a Config or the name of a configuration, not {given!r} of {type(given)}")


def _this_machine() -> Config:
    from flowlib.config import Config
    from flowlib.executors import HighThroughputExecutor
    from flowlib.providers import LocalProvider

    provider = LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1)
    return Config(executors=[HighThroughputExecutor(label="htex_local", address="127.0.0.1", provider=provider)])
